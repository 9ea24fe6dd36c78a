//! The planner: what tokens cost and bring at a load, mix, price and utilisation; where the plant breaks even; what size does.
//!
//! Figures are in one currency, per month of 730 hours where time is meant. The speed of the line is measured, or calculated from
//! arithmetic per token and the peak of the machine; a speed beyond the peak is said and not believed.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::invalid::{self, Invalid};

/// Seconds of a month: 730 hours, a twelfth of 365 days.
pub const SECONDS_PER_MONTH: f64 = 730.0 * 3600.0;
/// Volumes of the table of scale, as multiples of the load.
const SCALES: [f64; 7] = [0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 10.0];
/// Steps of the curve from no load to full load.
const CURVE_STEPS: u32 = 20;
/// Most machines of a plan.
pub const MAX_MACHINES: u32 = 1_000_000;

/// What one machine can do at full load with the planned mix of input and output. Give a measured speed, or the three figures
/// of the calculation, or both: then the speed is checked against the peak.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LineProfile {
    /// Measured or claimed tokens per second, input and output together.
    pub tokens_per_second: Option<f64>,
    /// Arithmetic per token, in GFLOP.
    pub gflop_per_token: Option<f64>,
    /// Peak of the machine, in TFLOP/s.
    pub peak_tflops: Option<f64>,
    /// Share of the peak that the line reaches; all of it where not given.
    pub peak_share: Option<f64>,
}

/// How much is asked of the plant.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = PlannedLoad)]
pub enum Load {
    /// Mean tokens per second.
    TokensPerSecond(f64),
    /// Tokens per month.
    TokensPerMonth(f64),
    /// Share of what the plant can do.
    Utilisation(f64),
}

/// What is planned.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, ToSchema)]
pub struct Scenario {
    /// Machines, at least 1.
    pub machines: u32,
    /// What one machine can do.
    pub line: LineProfile,
    /// Cost per month that does not depend on machines: training, R&D, site.
    pub fixed_cost_per_month: f64,
    /// Cost per month of each machine: depreciation or rent, operations, idle power.
    pub machine_cost_per_month: f64,
    /// Cost of each second at full load beyond idle: power above idle x tariff x PUE.
    pub cost_per_busy_second: f64,
    /// Other cost per 1M tokens, e.g. network.
    pub cost_per_million: f64,
    /// Share of input among the tokens.
    pub input_share: f64,
    /// Price per 1M input tokens.
    pub input_price_per_million: f64,
    /// Price per 1M output tokens.
    pub output_price_per_million: f64,
    /// What is asked of the plant.
    pub load: Load,
}

/// Something that cannot be as given, and what the plan does about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = PlanWarning)]
pub struct Warning {
    /// The field.
    pub field: &'static str,
    /// What is wrong, and what is done.
    pub text: String,
}

/// A month at one volume.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = PlannedMonth)]
pub struct Month {
    /// Machines.
    pub machines: u32,
    /// Tokens produced.
    pub tokens: f64,
    /// Share of what the machines can do.
    pub utilisation: f64,
    /// Fixed and machine cost.
    pub fixed_cost: f64,
    /// Cost that grows with tokens.
    pub variable_cost: f64,
    /// What the tokens bring.
    pub revenue: f64,
    /// Revenue - all cost.
    pub margin: f64,
    /// All cost per 1M tokens; none without tokens.
    pub full_cost_per_million: Option<f64>,
}

/// Where revenue meets cost.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, ToSchema)]
pub struct BreakEven {
    /// Tokens per month.
    pub tokens: f64,
    /// Share of what the planned machines can do; above 1 they never get there.
    pub utilisation: f64,
}

/// What a scenario comes to.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = PlanFigures)]
pub struct Plan {
    /// Tokens per second of one machine, as believed.
    pub tokens_per_second: f64,
    /// Tokens per month of all machines at full load.
    pub capacity: f64,
    /// The planned month.
    pub month: Month,
    /// Price per 1M tokens of the mix.
    pub price_per_million: f64,
    /// Cost of 1M tokens more.
    pub marginal_cost_per_million: f64,
    /// Where it breaks even; none where a token costs more than it brings.
    pub break_even: Option<BreakEven>,
    /// Economies of scale: the fixed cost spread over volumes from a tenth to ten times the planned, each with as many
    /// machines as it needs.
    pub scale: Vec<Month>,
    /// The planned machines from no load to full load, in steps of a twentieth: revenue and cost meet at the break-even.
    pub curve: Vec<Month>,
    /// The same demand with one more machine.
    pub one_more_machine: Month,
    /// What could not be as given.
    pub warnings: Vec<Warning>,
}

impl LineProfile {
    /// The most tokens per second: peak x share / arithmetic per token; none where these are not given.
    ///
    /// # Errors
    /// Names a figure that cannot be, or that is missing.
    pub fn peak_tokens_per_second(&self) -> Result<Option<f64>, Invalid> {
        let (gflop, peak) = match (self.gflop_per_token, self.peak_tflops) {
            (None, None) => return Ok(None),
            (Some(gflop), Some(peak)) => (gflop, peak),
            (None, Some(_)) => {
                return Err(missing("line.gflop_per_token", "GFLOP for one token, with line.peak_tflops"));
            }
            (Some(_), None) => {
                return Err(missing("line.peak_tflops", "the machine's TFLOP/s, with line.gflop_per_token"));
            }
        };
        let share = invalid::positive("line.peak_share", self.peak_share.unwrap_or(1.0))?;
        if share > 1.0 {
            return Err(Invalid::new(
                "line.peak_share",
                format!("{share} is more than all"),
                "give a share of at most 1",
            ));
        }
        let gflop = invalid::positive("line.gflop_per_token", gflop)?;
        Ok(Some(1e3 * invalid::positive("line.peak_tflops", peak)? * share / gflop))
    }

    /// Tokens per second to plan with.
    fn speed(&self, warnings: &mut Vec<Warning>) -> Result<f64, Invalid> {
        let peak = self.peak_tokens_per_second()?;
        let Some(given) = self.tokens_per_second else {
            return peak.ok_or_else(|| missing("line.tokens_per_second", "it, or gflop_per_token and peak_tflops"));
        };
        let given = invalid::positive("line.tokens_per_second", given)?;
        let Some(peak) = peak.filter(|peak| given > *peak) else { return Ok(given) };
        let [gflop, tflops] = [self.gflop_per_token, self.peak_tflops].map(Option::unwrap_or_default);
        let share = self.peak_share.filter(|share| *share < 1.0);
        let share = share.map_or_else(String::new, |share| format!("{} % of ", share * 100.0));
        let text = format!(
            "{given} tokens/s exceeds the peak: {gflop} GFLOP per token at {share}{tflops} TFLOP/s allow {peak:.0} tokens/s at \
             most; the plan uses the peak"
        );
        warnings.push(Warning { field: "line.tokens_per_second", text });
        Ok(peak)
    }
}

fn missing(field: &str, fix: &str) -> Invalid {
    Invalid::new(field, "it is missing", format!("give {fix}"))
}

impl Scenario {
    /// Computes the plan.
    ///
    /// # Errors
    /// Names the field that is missing or cannot be.
    pub fn plan(&self) -> Result<Plan, Invalid> {
        self.check()?;
        let mut warnings = Vec::new();
        let speed = self.line.speed(&mut warnings)?;
        let per_machine = speed * SECONDS_PER_MONTH;
        let capacity = per_machine * f64::from(self.machines);
        let demand = match self.load {
            Load::TokensPerSecond(rate) => invalid::not_negative("load.tokens_per_second", rate)? * SECONDS_PER_MONTH,
            Load::TokensPerMonth(tokens) => invalid::not_negative("load.tokens_per_month", tokens)?,
            Load::Utilisation(share) => invalid::not_negative("load.utilisation", share)? * capacity,
        };
        if demand > capacity * (1.0 + 1e-12) {
            let text = format!(
                "{demand:.4e} tokens per month exceed the {capacity:.4e} that {} machines can do; the plan stops there",
                self.machines
            );
            warnings.push(Warning { field: "load", text });
        }
        let price = self.price_per_million();
        let marginal = self.marginal_cost_per_million(speed);
        let gain = price - marginal;
        let standing = self.standing_cost(self.machines);
        let break_even = (gain > 0.0).then(|| {
            let tokens = standing / gain * 1e6;
            BreakEven { tokens, utilisation: tokens / capacity }
        });
        let scale = SCALES.map(|scale| self.month(scale * demand, machines_for(scale * demand, per_machine), speed));
        Ok(Plan {
            tokens_per_second: speed,
            capacity,
            month: self.month(demand, self.machines, speed),
            price_per_million: price,
            marginal_cost_per_million: marginal,
            break_even,
            scale: scale.to_vec(),
            curve: (0..=CURVE_STEPS)
                .map(|step| self.month(capacity * f64::from(step) / f64::from(CURVE_STEPS), self.machines, speed))
                .collect(),
            one_more_machine: self.month(demand, self.machines + 1, speed),
            warnings,
        })
    }

    /// Refuses what cannot be.
    fn check(&self) -> Result<(), Invalid> {
        if !(1..=MAX_MACHINES).contains(&self.machines) {
            let problem = format!("{} cannot be planned", self.machines);
            return Err(Invalid::new("machines", problem, format!("give 1 to {MAX_MACHINES}")));
        }
        if !(0.0..=1.0).contains(&self.input_share) {
            let problem = format!("{} is not a share", self.input_share);
            return Err(Invalid::new("input_share", problem, "give a number from 0 to 1"));
        }
        for (field, amount) in [
            ("fixed_cost_per_month", self.fixed_cost_per_month),
            ("machine_cost_per_month", self.machine_cost_per_month),
            ("cost_per_busy_second", self.cost_per_busy_second),
            ("cost_per_million", self.cost_per_million),
            ("input_price_per_million", self.input_price_per_million),
            ("output_price_per_million", self.output_price_per_million),
        ] {
            invalid::not_negative(field, amount)?;
        }
        Ok(())
    }

    /// What 1M tokens of the mix bring.
    fn price_per_million(&self) -> f64 {
        self.input_share * self.input_price_per_million + (1.0 - self.input_share) * self.output_price_per_million
    }

    /// What 1M tokens more cost.
    fn marginal_cost_per_million(&self, speed: f64) -> f64 {
        self.cost_per_million + 1e6 * self.cost_per_busy_second / speed
    }

    /// What does not depend on tokens.
    fn standing_cost(&self, machines: u32) -> f64 {
        self.fixed_cost_per_month + f64::from(machines) * self.machine_cost_per_month
    }

    /// The month in which `demand` tokens are asked of `machines`.
    fn month(&self, demand: f64, machines: u32, speed: f64) -> Month {
        let capacity = f64::from(machines) * speed * SECONDS_PER_MONTH;
        let tokens = demand.min(capacity);
        let (fixed_cost, millions) = (self.standing_cost(machines), tokens / 1e6);
        let variable_cost = millions * self.marginal_cost_per_million(speed);
        let revenue = millions * self.price_per_million();
        Month {
            machines,
            tokens,
            utilisation: tokens / capacity,
            fixed_cost,
            variable_cost,
            revenue,
            margin: revenue - fixed_cost - variable_cost,
            full_cost_per_million: (tokens > 0.0).then(|| (fixed_cost + variable_cost) / millions),
        }
    }
}

/// Machines that `demand` needs, at least 1.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to what u32 holds")]
fn machines_for(demand: f64, per_machine: f64) -> u32 {
    (demand / per_machine - 1e-9).ceil().clamp(1.0, f64::from(u32::MAX)) as u32
}

/// The rent per hour that a price pays for: price per token x tokens per second x 3,600.
///
/// # Errors
/// Names a price that is negative or a speed that is not positive.
pub fn rent_per_hour(price_per_token: f64, tokens_per_second: f64) -> Result<f64, Invalid> {
    let price = invalid::not_negative("price_per_token", price_per_token)?;
    Ok(price * invalid::positive("tokens_per_second", tokens_per_second)? * 3600.0)
}

/// Value per dollar of price, from a year's value and a month's price.
///
/// # Errors
/// Names a price that is not positive or a value that is negative.
pub fn return_per_dollar(value_per_year: f64, price_per_month: f64) -> Result<f64, Invalid> {
    let price = invalid::positive("price_per_month", price_per_month)?;
    Ok(invalid::not_negative("value_per_year", value_per_year)? / 12.0 / price)
}

/// Value per 1M tokens, from a year's value and a month's tokens.
///
/// # Errors
/// Names tokens that are not positive or a value that is negative.
pub fn value_per_million(value_per_year: f64, tokens_per_month: f64) -> Result<f64, Invalid> {
    let tokens = invalid::positive("tokens_per_month", tokens_per_month)?;
    Ok(invalid::not_negative("value_per_year", value_per_year)? / 12.0 / tokens * 1e6)
}

#[cfg(test)]
mod tests;
