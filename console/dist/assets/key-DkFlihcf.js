import{al as s,am as c}from"./index-DTKptlrP.js";const k=Symbol("NaN");function t(r,e,n){var o=new c(r);s(()=>{var a=e();a!==a&&(a=k),o.ensure(a,n)})}export{t as k};
