import{as as s,at as c}from"./index-BhQwMXYX.js";const t=Symbol("NaN");function N(r,e,n){var o=new c(r);s(()=>{var a=e();a!==a&&(a=t),o.ensure(a,n)})}export{N as k};
