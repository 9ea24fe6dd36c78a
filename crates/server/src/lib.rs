//! HTTP: authentication, routes and streaming over the trait Line.
#![forbid(unsafe_code)]
