//! What quantities cost and who may use them: prices, plans, windows, limits, customers, and the books that admit and
//! charge requests over the ledger.
//!
//! No clock, no randomness, no HTTP: times are arguments in milliseconds since the epoch, amounts are integers
//! ([`Nano`]), rates are integers ([`Rate`]).
#![forbid(unsafe_code)]
#![warn(missing_docs)]
#![deny(clippy::float_arithmetic)]

pub mod books;
pub mod directory;
pub mod experiment;
pub mod focus;
pub mod income;
pub mod invalid;
pub mod invoice;
pub mod limits;
pub mod meters;
pub mod money;
pub mod outcome;
mod pack;
pub mod plan;
pub mod plant;
pub mod price;
pub mod products;
pub mod rollup;
pub mod standard;
pub mod terms;
pub mod window;

pub use books::Books;
pub use directory::Directory;
pub use invalid::Invalid;
pub use invoice::Invoice;
pub use meters::{Meter, Quantities};
pub use money::{Currency, Nano, Rate};
pub use plan::Plan;
pub use price::{FrozenPrice, PriceBook};
pub use terms::{Charge, ChargeLine, Terms};
pub use window::Window;
