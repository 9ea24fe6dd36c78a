//! The server over real sockets, with a scripted line behind it.
#![forbid(unsafe_code)]

mod access;
mod client;
mod life;
mod plant;
mod refusals;
mod replies;
mod streams;
