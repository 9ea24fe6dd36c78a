//! What the plant costs: the operator's sheet, its rates at an instant, what accrues in an interval, and who bears it.
//!
//! [`PlantSheet`] is what is written down, [`Plant`] the same checked and ready for use, [`Rates`] what it says at an
//! instant, [`Accrual`] what an interval cost by [`Source`], [`Sharing`] which part of that each holder bears. Integers
//! only: what does not make a whole nano-unit or microjoule is carried to the next interval or goes to the largest
//! remainder, so that sums stay exact.
//!
//! # Cost of a request
//!
//! | cost | what it is |
//! |---|---|
//! | marginal | its energy above idle power × PUE × tariff, and its traffic ([`Rates::network`]) |
//! | attributed | marginal, its tokens' part of cost spread over a volume of tokens ([`Rates::fixed`]), and its share, by busy time, of each interval's standing cost for the part of the interval that was busy |
//! | full | attributed, and its share of the period's idle cost; known when the period closes |
//!
//! *Standing cost* accrues whether or not there is work: depreciation, rent, operations, network per month, fixed cost
//! over years, and the power that the plant draws when idle. Standing cost × (1 − busy) is *idle cost*, an account of
//! its own. Attributed cost of all requests + idle cost = cost of the plant, exactly, for any run of whole intervals;
//! so it is with microjoules.
//!
//! A month is 365.25 / 12 days, a year 365.25 days, a GB 10⁹ bytes.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

mod accrual;
mod milli;
mod rates;
mod share;
mod sharing;
mod sheet;
mod tariff;

pub use accrual::{Accrual, Amounts, Footprint, Interval};
pub use milli::Milli;
pub use rates::{Plant, Rates};
pub use share::largest_remainder;
pub use sharing::{HolderShare, IdleShare, Sharing};
pub use sheet::{Equipment, FixedCost, Network, Operations, PlantSheet};
pub use tariff::{Days, Hours, TariffRate};

/// Seconds in an hour.
const HOUR_S: u64 = 3_600;
/// Seconds in a month of 365.25 / 12 days.
const MONTH_S: u64 = 2_629_800;
/// Seconds in a year of 365.25 days.
const YEAR_S: u64 = 31_557_600;

/// Where cost comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = CostSource)]
pub enum Source {
    /// Energy, at the meter of the site.
    Power,
    /// Bought equipment losing its value over its life, in a straight line.
    Depreciation,
    /// Rented equipment.
    Rent,
    /// Traffic and connection.
    Network,
    /// Staff that keeps the plant running.
    Operations,
    /// Training, research, site: spread over years or over a volume of tokens.
    Fixed,
}

impl Source {
    /// All of them, in the order in which they are declared.
    pub const ALL: [Self; 6] =
        [Self::Power, Self::Depreciation, Self::Rent, Self::Network, Self::Operations, Self::Fixed];

    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Power => "power",
            Self::Depreciation => "depreciation",
            Self::Rent => "rent",
            Self::Network => "network",
            Self::Operations => "operations",
            Self::Fixed => "fixed",
        }
    }
}

/// One `T` for each source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct BySource<T>([T; Source::ALL.len()]);

impl<T: Copy> BySource<T> {
    fn get(&self, source: Source) -> T {
        self.0[source as usize]
    }

    fn get_mut(&mut self, source: Source) -> &mut T {
        &mut self.0[source as usize]
    }
}
