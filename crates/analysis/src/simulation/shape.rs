//! Shapes of clusters: how tokens and value are spread and hang together.

use crate::random::Random;
use crate::ratio::Cluster;

/// How the clusters of a simulated data set are drawn. Mean tokens are 1; amounts are relative to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Tokens log-normal (sigma 1); half of the clusters have value, of log-normal amount (sigma 0.5).
    Adopted,
    /// Tokens log-normal (0.8); 60 % have value, which grows with tokens, times a log-normal amount (0.4).
    GrowsWithTokens,
    /// Tokens log-normal (0.5); 70 % have value, of Pareto amount with index 3.5: no fourth moment.
    ParetoTail,
    /// Tokens log-normal (0.3); 80 % have value, always the same: a fixed rate per solved case.
    FixedRate,
    /// Tokens log-normal (0.5); value like the root of tokens times a log-normal amount (0.3).
    SavedMinutes,
    /// Tokens log-normal (0.5); 70 % have value, of log-normal amount with sigma 1. Not held at few clusters.
    WideAmounts,
    /// Tokens log-normal (0.5); 2 % have value, of log-normal amount with sigma 1.5. Not held.
    RareAndLarge,
}

impl Shape {
    /// The shapes at which intervals must hold, from 10 clusters on.
    pub const HELD: [Self; 5] =
        [Self::Adopted, Self::GrowsWithTokens, Self::ParetoTail, Self::FixedRate, Self::SavedMinutes];
    /// The shapes at which they are known not to.
    pub const NOT_HELD: [Self; 2] = [Self::WideAmounts, Self::RareAndLarge];

    /// What the tables call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Adopted => "half adopted, log-normal amounts",
            Self::GrowsWithTokens => "60 % adopted, value grows with tokens",
            Self::ParetoTail => "70 % adopted, Pareto amounts (index 3.5)",
            Self::FixedRate => "80 % adopted, one amount",
            Self::SavedMinutes => "all adopted, value as the root of tokens",
            Self::WideAmounts => "70 % adopted, log-normal amounts (sigma 1)",
            Self::RareAndLarge => "2 % adopted, log-normal amounts (sigma 1.5)",
        }
    }

    /// One cluster.
    pub(super) fn draw(self, random: &mut Random) -> Cluster {
        let (spread, adopted) = match self {
            Self::Adopted => (1.0, 0.5),
            Self::GrowsWithTokens => (0.8, 0.6),
            Self::ParetoTail | Self::WideAmounts => (0.5, 0.7),
            Self::FixedRate => (0.3, 0.8),
            Self::SavedMinutes => (0.5, 1.0),
            Self::RareAndLarge => (0.5, 0.02),
        };
        let denominator = random.log_normal(spread);
        if !random.happens(adopted) {
            return Cluster { numerator: 0.0, denominator };
        }
        let numerator = match self {
            Self::Adopted => random.log_normal(0.5),
            Self::GrowsWithTokens => denominator * random.log_normal(0.4),
            // 1 - uniform is never 0; the mean of a Pareto amount from 1 on is 3.5 / 2.5.
            Self::ParetoTail => (1.0 - random.uniform()).powf(-1.0 / 3.5) * 2.5 / 3.5,
            Self::FixedRate => 1.0,
            Self::SavedMinutes => denominator.sqrt() * random.log_normal(0.3),
            Self::WideAmounts => random.log_normal(1.0),
            Self::RareAndLarge => random.log_normal(1.5),
        };
        Cluster { numerator, denominator }
    }

    /// The true ratio: mean value / mean tokens.
    #[must_use]
    pub fn truth(self) -> f64 {
        match self {
            Self::Adopted => 0.5,
            Self::GrowsWithTokens => 0.6,
            Self::ParetoTail | Self::WideAmounts => 0.7,
            Self::FixedRate => 0.8,
            // The mean of the root of a log-normal of mean 1 is exp(-sigma^2 / 8).
            Self::SavedMinutes => (-0.5_f64 * 0.5 / 8.0).exp(),
            Self::RareAndLarge => 0.02,
        }
    }
}
