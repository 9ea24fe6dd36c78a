//! The planner over the plant's sheet: what tokens cost and bring at a load, a mix and a price. One implementation for the
//! route `POST /admin/v1/plan` and the command `plan`.

mod cost;

use analysis::plan::{LineProfile, Load, Plan, SECONDS_PER_MONTH, Scenario, rent_per_hour};
use economics::income::ModelIncome;
use economics::plant::PlantSheet;
use economics::{Invalid, Rate};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::routes::figures::{seconds, share};

pub use cost::{Corrections, PlantCost};

/// Share of the plant that is used where nothing is said.
pub const UTILISATION: f64 = 0.5;

/// What is to be planned.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PlanRequest {
    /// Machines of the plant, each as the sheet has it; 1 when not given.
    #[serde(default = "one")]
    pub machines: u32,
    /// What one machine can do at full load; as the books measured it in the last 30 days when nothing is given.
    #[serde(default)]
    pub line: LineProfile,
    /// What is asked of the plant; half of what it can do when not given.
    #[serde(default = "half")]
    pub load: Load,
    /// Share of input among the tokens; 0.75 when not given.
    #[serde(default = "mostly_input")]
    pub input_share: f64,
    /// What tokens bring.
    pub price: PlanPrice,
    /// What is not as the plant's sheet says.
    #[serde(default)]
    pub plant: Corrections,
}

/// What tokens bring.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PlanPrice {
    /// Of prompt tokens.
    pub input: Rate,
    /// Of answer tokens.
    pub output: Rate,
}

/// A plan: figures of a month of 730 hours, money in units of `currency`.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct PlanAnswer {
    /// The book currency.
    pub currency: String,
    /// What the plant costs; `example` where figures that were not given are those of an example.
    pub plant: PlantCost,
    /// The sheet that figures rest on.
    pub sheet: PlanSheet,
    /// Whether the speed of the line is the one that the books measured.
    pub measured: bool,
    /// What was planned.
    pub scenario: Scenario,
    /// What it comes to.
    #[serde(flatten)]
    pub plan: Plan,
    /// What the price pays for, at full load.
    pub implied_rent: ImpliedRent,
}

/// The plant sheet that a plan rests on.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub struct PlanSheet {
    /// Its version in the books; none of a sheet that no server has taken.
    pub version: Option<u64>,
    /// Whether it is the example, whose figures are nobody's.
    pub example: bool,
}

/// Rent of a machine, an hour, that all of its revenue at full load would pay.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub struct ImpliedRent {
    /// At the speed that was given, believed or not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub as_claimed: Option<f64>,
    /// At the speed of the plan.
    pub as_planned: f64,
}

/// What a plan starts from beside what is asked.
#[derive(Clone, Debug)]
pub struct Basis {
    /// The book currency.
    pub currency: String,
    /// The plant's sheet.
    pub sheet: PlantSheet,
    /// Its version in the books.
    pub version: Option<u64>,
    /// Tokens per second of machine time that the books measured, see [`measured_speed`].
    pub measured: Option<f64>,
    /// The time, in milliseconds since the epoch: tariffs are those of the week that begins here.
    pub now_ms: i64,
}

fn one() -> u32 {
    1
}

fn half() -> Load {
    Load::Utilisation(UTILISATION)
}

fn mostly_input() -> f64 {
    0.75
}

/// Tokens per second of machine time, of the requests whose cost is known: what the plant does at full load with their mix.
#[must_use]
pub fn measured_speed(models: &[ModelIncome]) -> Option<f64> {
    let tokens: u64 = models.iter().map(|model| model.costed_tokens).sum();
    let machine_ns: u64 = models.iter().map(|model| model.machine_ns).sum();
    share(tokens as f64, seconds(machine_ns)).filter(|speed| *speed > 0.0)
}

impl PlanRequest {
    /// Whether it takes the speed that the books measured.
    #[must_use]
    pub fn takes_measured_speed(&self) -> bool {
        self.line.tokens_per_second.is_none() && self.line.gflop_per_token.is_none() && self.line.peak_tflops.is_none()
    }

    /// Computes the plan.
    ///
    /// # Errors
    /// Names the field that is missing or cannot be, as the request has it (`plant.rent_per_hour`).
    pub fn answer(&self, basis: Basis) -> Result<PlanAnswer, Invalid> {
        let Basis { currency, sheet, version, measured: known, now_ms } = basis;
        let plant = PlantCost::of(sheet, &self.plant, now_ms)?;
        let measured = self.takes_measured_speed();
        let mut line = self.line;
        if measured {
            line.tokens_per_second = Some(known.ok_or_else(unmeasured)?);
        }
        let scenario = self.scenario(line, &plant);
        let plan = scenario.plan().map_err(named)?;
        let rent = |speed: f64| rent_per_hour(plan.price_per_million / 1e6, speed).map_err(named);
        let implied_rent = ImpliedRent {
            as_claimed: line.tokens_per_second.map(rent).transpose()?,
            as_planned: rent(plan.tokens_per_second)?,
        };
        let sheet = PlanSheet { version, example: plant.example };
        Ok(PlanAnswer { currency, plant, sheet, measured, scenario, plan, implied_rent })
    }

    fn scenario(&self, line: LineProfile, plant: &PlantCost) -> Scenario {
        // A pico-unit a token is a micro-unit for 1M tokens.
        let per_million = |rate: Rate| rate.pico() as f64 / 1e6;
        Scenario {
            machines: self.machines,
            line,
            fixed_cost_per_month: plant.fixed_per_second * SECONDS_PER_MONTH + plant.fixed_per_month,
            machine_cost_per_month: plant.machine_per_second * SECONDS_PER_MONTH,
            cost_per_busy_second: plant.per_busy_second,
            cost_per_million: plant.per_million,
            input_share: self.input_share,
            input_price_per_million: per_million(self.price.input),
            output_price_per_million: per_million(self.price.output),
            load: self.load,
        }
    }
}

fn unmeasured() -> Invalid {
    Invalid::new(
        "line.tokens_per_second",
        "no speed is given, and these books have none measured in the last 30 days",
        "give it, or line.gflop_per_token and line.peak_tflops",
    )
}

/// A field of the scenario as the request has it.
fn named(error: analysis::Invalid) -> Invalid {
    let field = match error.field.as_str() {
        "cost_per_million" => "plant.bytes_per_token",
        "fixed_cost_per_month" => "plant.fixed_per_month",
        "input_price_per_million" => "price.input",
        "output_price_per_million" => "price.output",
        field => field,
    };
    Invalid::new(field, error.problem, error.fix)
}
