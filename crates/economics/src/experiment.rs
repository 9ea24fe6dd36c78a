//! Experiments: which arms there are, how units come to them, and what is compared. How an arm is drawn and what the results
//! say is the concern of whoever knows statistics; here stands what is written down.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::Invalid;
use crate::books::METADATA_BYTES;
use crate::directory::record::check_text;
use crate::outcome::WHOLE_PERMILLE;
use crate::window::DAY_MS;

/// Most arms.
pub const MAX_ARMS: usize = 32;
/// Most units of one experiment: all of them are read for its results. Those that come later are not counted.
pub const MAX_UNITS: i64 = 1_000_000;
/// Longest name of a unit, in bytes.
pub const UNIT_BYTES: usize = 256;
/// Most versions of one experiment, so that a change of weights each hour goes on for more than a year.
pub const MAX_VERSIONS: u64 = 10_000;

/// Longest name of an arm and longest salt, in bytes.
const NAME_BYTES: usize = 64;
/// Fewer planned units than two arms need before anything is said.
const PLANNED_MIN: u64 = 200;
const PLANNED_MAX: u64 = 1_000_000_000;
const ALPHA_MAX_PERMILLE: u16 = 500;
const WINDOW_MAX_DAYS: u16 = 365;

/// What comes to an arm as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = ExperimentUnit)]
pub enum Unit {
    /// An end user: the `user` of requests.
    User,
    /// A piece of work of several requests: their `metadata.episode`.
    Episode,
}

impl Unit {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Episode => "episode",
        }
    }

    /// Where a request names it.
    #[must_use]
    pub fn field(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Episode => "metadata.episode",
        }
    }
}

/// What arms are compared by; more is better.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = ExperimentMetric)]
pub enum Metric {
    /// Value without proxies per token (input and output).
    #[default]
    Tfp,
    /// Value without proxies per unit.
    ValuePerUnit,
    /// Accepted outcomes per outcome, feedback not counted.
    AcceptedShare,
}

/// How weights come about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = ExperimentAllocation)]
pub enum Allocation {
    /// As they are written.
    #[default]
    Fixed,
    /// Once an hour each arm gets the next units as often as it is likely to be the best.
    Thompson,
}

/// Whether units come to arms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = ExperimentState)]
pub enum State {
    /// They do.
    #[default]
    Running,
    /// No more, for good: all get the winner, else the control, and are not counted.
    Stopped,
}

/// One way to serve units.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ExperimentArm)]
pub struct Arm {
    /// Its name, unique in the experiment.
    pub name: String,
    /// Permille of the units that come to it; of all arms together 1000.
    pub weight: u16,
    /// Its requests go to this model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub model: Option<String>,
    /// Its requests carry this `metadata.prompt_version`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub prompt_version: Option<String>,
    /// Fields of its requests that are set, whatever they say.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub settings: Map<String, Value>,
    /// Its units get no answers of the plant.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub held_out: bool,
}

/// One experiment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Experiment {
    /// Its id.
    pub id: String,
    /// Whose requests may join.
    pub organisation: String,
    /// Only those of this project.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub project: Option<String>,
    /// What comes to an arm as a whole.
    pub unit: Unit,
    /// Another one draws all units anew.
    #[serde(default)]
    #[schema(required = true)]
    pub salt: String,
    /// The control first.
    pub arms: Vec<Arm>,
    /// What arms are compared by.
    #[serde(default)]
    #[schema(required = true)]
    pub metric: Metric,
    /// Highest chance, in permille, that arms without any difference are ever told apart.
    #[serde(default = "alpha")]
    #[schema(required = true)]
    pub alpha_permille: u16,
    /// Units of two arms at which their comparison shall be sharpest.
    #[serde(default = "planned")]
    #[schema(required = true)]
    pub planned_units: u64,
    /// What a unit uses and is worth counts for so many days from its assignment, and arms are compared by units whose days are
    /// over; 0: without an end, by all units as they are.
    #[serde(default = "window")]
    #[schema(required = true)]
    pub window_days: u16,
    /// How weights come about.
    #[serde(default)]
    #[schema(required = true)]
    pub allocation: Allocation,
    /// Least weight of an arm whose weight is allocated.
    #[serde(default = "floor")]
    #[schema(required = true)]
    pub floor_permille: u16,
    /// Whether units come to arms.
    #[serde(default)]
    #[schema(required = true)]
    pub state: State,
    /// The arm that all get once it is stopped; the control, if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub winner: Option<String>,
    /// When it began; set by the books.
    #[serde(default, with = "crate::window::rfc3339_option", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, nullable = false)]
    pub started: Option<i64>,
    /// When it was stopped; set by the books.
    #[serde(default, with = "crate::window::rfc3339_option", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, nullable = false)]
    pub stopped: Option<i64>,
    /// Since when its weights are what they are; set by the books.
    #[serde(default, with = "crate::window::rfc3339_option", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, nullable = false)]
    pub weights_from: Option<i64>,
}

fn alpha() -> u16 {
    50
}

fn planned() -> u64 {
    10_000
}

fn window() -> u16 {
    7
}

fn floor() -> u16 {
    50
}

impl Experiment {
    /// Permille of each arm.
    #[must_use]
    pub fn weights(&self) -> Vec<u16> {
        self.arms.iter().map(|arm| arm.weight).collect()
    }

    /// Whether requests of a project of an organisation may join.
    #[must_use]
    pub fn takes(&self, organisation: &str, project: &str) -> bool {
        self.organisation == organisation && self.project.as_ref().is_none_or(|own| own == project)
    }

    /// The place of the arm that all get once it is stopped.
    #[must_use]
    pub fn last_arm(&self) -> usize {
        let won = |winner: &String| self.arms.iter().position(|arm| arm.name == *winner);
        self.winner.as_ref().and_then(won).unwrap_or(0)
    }

    /// Until when a unit counts that is assigned at `now_ms`.
    pub(crate) fn until_ms(&self, now_ms: i64) -> i64 {
        match self.window_days {
            0 => i64::MAX,
            days => now_ms.saturating_add(i64::from(days).saturating_mul(DAY_MS)),
        }
    }

    /// The same as it is to be written at `now_ms` in place of `old`: with the times that the books set.
    pub(crate) fn stamped(self, old: Option<&Self>, now_ms: i64) -> Self {
        let started = old.and_then(|old| old.started).or(Some(now_ms));
        let stopped = (self.state == State::Stopped).then(|| old.and_then(|old| old.stopped).unwrap_or(now_ms));
        let same = old.filter(|old| old.weights() == self.weights());
        let weights_from = same.and_then(|old| old.weights_from).or(Some(now_ms));
        Self { started, stopped, weights_from, ..self }
    }

    /// What is wrong with it by itself.
    pub(crate) fn check(&self) -> Result<(), Invalid> {
        self.check_arms()?;
        let range = |field: &str, value: u64, (least, most): (u64, u64)| {
            if (least..=most).contains(&value) {
                return Ok(());
            }
            Err(Invalid::new(field, format!("{value} is out of range"), format!("give {least} to {most}")))
        };
        range("alpha_permille", self.alpha_permille.into(), (1, ALPHA_MAX_PERMILLE.into()))?;
        range("planned_units", self.planned_units, (PLANNED_MIN, PLANNED_MAX))?;
        range("window_days", self.window_days.into(), (0, WINDOW_MAX_DAYS.into()))?;
        if !self.salt.is_empty() {
            check_text("salt", &self.salt, NAME_BYTES)?;
        }
        if let Some(winner) = &self.winner {
            let won = self.arms.iter().find(|arm| arm.name == *winner);
            let problem = match won {
                None => Some(format!("there is no arm `{winner}`")),
                Some(arm) if arm.held_out => Some(format!("the arm `{winner}` is held out")),
                Some(_) if self.state == State::Running => Some("the experiment is running".to_owned()),
                Some(_) => None,
            };
            if let Some(problem) = problem {
                return Err(Invalid::new("winner", problem, "name an arm with answers when you stop the experiment"));
            }
        }
        self.check_allocation()
    }

    fn check_arms(&self) -> Result<(), Invalid> {
        if !(2..=MAX_ARMS).contains(&self.arms.len()) {
            let problem = format!("{} arms", self.arms.len());
            return Err(Invalid::new("arms", problem, format!("give 2 to {MAX_ARMS}, the control first")));
        }
        for (place, arm) in self.arms.iter().enumerate() {
            let at = |field: &str| format!("arms[{place}].{field}");
            check_text(&at("name"), &arm.name, NAME_BYTES)?;
            if self.arms.iter().take(place).any(|other| other.name == arm.name) {
                return Err(Invalid::new(at("name"), format!("`{}` is there twice", arm.name), "name arms apart"));
            }
            if let Some(label) = &arm.prompt_version {
                check_text(&at("prompt_version"), label, METADATA_BYTES)?;
            }
            check_settings(&arm.settings).map_err(|error| error.within(&at("settings")))?;
            if arm.held_out {
                let has_settings = arm.model.is_some() || arm.prompt_version.is_some() || !arm.settings.is_empty();
                if has_settings {
                    let fix = "leave out its model, prompt_version and settings";
                    return Err(Invalid::new(at("held_out"), "an arm without answers has settings", fix));
                }
                if place == 0 {
                    let fix = "put an arm with answers first: it is the control";
                    return Err(Invalid::new(at("held_out"), "the control gets no answers", fix));
                }
                if self.arms.iter().take(place).any(|other| other.held_out) {
                    return Err(Invalid::new(at("held_out"), "two arms are held out", "hold out one at most"));
                }
            }
        }
        let sum: u64 = self.arms.iter().map(|arm| u64::from(arm.weight)).sum();
        if sum != u64::from(WHOLE_PERMILLE) {
            let problem = format!("the weights add up to {sum}");
            return Err(Invalid::new("arms", problem, "give weights in permille that add up to 1000"));
        }
        Ok(())
    }

    fn check_allocation(&self) -> Result<(), Invalid> {
        if self.allocation == Allocation::Fixed {
            return Ok(());
        }
        let free: Vec<u64> = self.arms.iter().filter(|arm| !arm.held_out).map(|arm| arm.weight.into()).collect();
        let (count, sum) = (free.len() as u64, free.iter().sum::<u64>());
        if count < 2 {
            let fix = "give two arms with answers, or the allocation `fixed`";
            return Err(Invalid::new("allocation", "there is one arm to allocate to", fix));
        }
        if self.floor_permille == 0 || u64::from(self.floor_permille).saturating_mul(count) > sum {
            let problem = format!("{} for each of {count} arms", self.floor_permille);
            return Err(Invalid::new("floor_permille", problem, format!("give 1 to {}", sum / count)));
        }
        if self.arms.iter().any(|arm| !arm.held_out && arm.weight < self.floor_permille) {
            let problem = "an arm has less weight than `floor_permille`";
            return Err(Invalid::new("arms", problem, "begin with weights of at least that, e.g. all alike"));
        }
        Ok(())
    }

    /// Whether it may take the place of `old`: of one that runs weights and allocation may change, and it may be stopped; what
    /// was seen would mean something else after any other change.
    pub(crate) fn check_change(&self, old: &Self) -> Result<(), Invalid> {
        if old.state == State::Stopped {
            let fix = "make another experiment; units come to its arms anew";
            return Err(Invalid::new("state", "the experiment is stopped, which is for good", fix));
        }
        let fix = "only weights, allocation and state change while it runs; stop it and make another one";
        let changed = |field: &str| Err(Invalid::new(field, "it changes in a running experiment", fix));
        let plain = |arm: &Arm| Arm { weight: 0, ..arm.clone() };
        if self.arms.iter().map(plain).ne(old.arms.iter().map(plain)) {
            return changed("arms");
        }
        let same = [
            ("organisation", self.organisation == old.organisation),
            ("project", self.project == old.project),
            ("unit", self.unit == old.unit),
            ("salt", self.salt == old.salt),
            ("metric", self.metric == old.metric),
            ("alpha_permille", self.alpha_permille == old.alpha_permille),
            ("planned_units", self.planned_units == old.planned_units),
            ("window_days", self.window_days == old.window_days),
        ];
        if let Some((field, _)) = same.iter().find(|(_, same)| !same) {
            return changed(field);
        }
        for (place, (arm, old)) in self.arms.iter().zip(&old.arms).enumerate() {
            if arm.held_out && arm.weight != old.weight {
                let fix = "leave it: those with and without answers are compared over the same time";
                let problem = "the weight of the arm that is held out changes";
                return Err(Invalid::new(format!("arms[{place}].weight"), problem, fix));
            }
        }
        Ok(())
    }
}

/// Fields of requests that an arm may set: whether a whole number is needed, and the range.
const SETTINGS: [(&str, bool, f64, f64); 8] = [
    ("temperature", false, 0.0, 2.0),
    ("top_p", false, f64::MIN_POSITIVE, 1.0),
    ("top_k", true, -1.0, 1e9),
    ("min_p", false, 0.0, 1.0),
    ("frequency_penalty", false, -2.0, 2.0),
    ("presence_penalty", false, -2.0, 2.0),
    ("repetition_penalty", false, f64::MIN_POSITIVE, 100.0),
    ("max_tokens", true, 1.0, 4e9),
];

fn check_settings(settings: &Map<String, Value>) -> Result<(), Invalid> {
    for (name, value) in settings {
        let Some((_, whole, least, most)) = SETTINGS.iter().find(|(known, ..)| known == name) else {
            let known: Vec<&str> = SETTINGS.iter().map(|(name, ..)| *name).collect();
            let name: String = name.chars().take(NAME_BYTES).collect();
            return Err(Invalid::new(name, "is no setting of an arm", format!("use {}", known.join(", "))));
        };
        let within = value.as_f64().is_some_and(|number| (*least..=*most).contains(&number));
        if !within || (*whole && value.as_i64().is_none()) {
            let kind = if *whole { "a whole number" } else { "a number" };
            let least = if *least == f64::MIN_POSITIVE { "above 0".to_owned() } else { format!("from {least}") };
            return Err(Invalid::new(
                name.as_str(),
                format!("{value} cannot be"),
                format!("give {kind} {least} to {most}"),
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
