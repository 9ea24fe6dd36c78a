//! What the plant cost since the start, as metrics: summed up from what the ledger has taken.

use std::collections::BTreeMap;

use economics::Nano;
use economics::books::cost_detail::{CostLine, PlantInterval, RequestCost};
use economics::books::costs::ENERGY_SOURCE_WORDS;
use economics::plant::Source;
use ledger::{Batch, Command};
use metering::energy::Energy;
use metering::{Family, Sample, totals_of};

/// Billionths in a millionth.
const MICRO: i128 = 1_000;
/// Billionths in a thousandth.
const MILLI: i128 = 1_000_000;
const WHOLE: i128 = 1_000_000_000;

/// What is said of a plant beside its sums.
#[derive(Clone, Debug)]
pub(crate) struct PlantFacts {
    pub(crate) currency: String,
    /// The figures of its sheet are examples.
    pub(crate) is_example: bool,
    pub(crate) cap_mw: Option<u64>,
}

/// Sums since the start.
pub(crate) struct PlantMeter {
    facts: PlantFacts,
    sources: [Nano; Source::ALL.len()],
    idle: CostLine,
    energy_uj: [u64; ENERGY_SOURCE_WORDS.len()],
    co2_ug: u64,
    models: BTreeMap<String, Attributed>,
    /// Of the last interval: its power and how much of it was busy.
    power_mw: u64,
    busy: (u64, u64),
}

#[derive(Clone, Copy, Default)]
struct Attributed {
    nano: Nano,
    energy_uj: u64,
    co2_ug: u64,
}

impl PlantMeter {
    pub(crate) fn new(facts: PlantFacts) -> Self {
        Self {
            facts,
            sources: Default::default(),
            idle: CostLine::default(),
            energy_uj: Default::default(),
            co2_ug: 0,
            models: BTreeMap::new(),
            power_mw: 0,
            busy: (0, 0),
        }
    }

    /// An interval has been measured.
    pub(crate) fn measured(&mut self, energy: &Energy) {
        let ns = u128::from(energy.interval_ns);
        // Microjoules by nanoseconds are kilowatts.
        let mw = (u128::from(energy.total_uj) * 1_000_000).checked_div(ns).unwrap_or(0);
        self.power_mw = u64::try_from(mw).unwrap_or(u64::MAX);
        self.busy = (energy.busy_ns, energy.interval_ns);
    }

    /// The ledger has taken a batch.
    pub(crate) fn posted(&mut self, batch: &Batch) {
        for command in &batch.commands {
            let Command::Post { kind, detail, .. } = command else { continue };
            if let Some(interval) = PlantInterval::read_detail(*kind, detail) {
                self.interval(&interval);
            } else if let Some(cost) = RequestCost::read_detail(*kind, detail) {
                self.request(&cost);
            }
        }
    }

    fn interval(&mut self, interval: &PlantInterval) {
        for (sum, nano) in self.sources.iter_mut().zip(interval.sources) {
            *sum = sum.saturating_add(nano);
        }
        self.idle.add(&interval.idle);
        self.idle.add(&interval.lost);
        let all = interval.idle.energy_uj.saturating_add(interval.used.energy_uj);
        if let Some(sum) = self.energy_uj.get_mut(usize::from(interval.energy_source)) {
            *sum = sum.saturating_add(all);
        }
        self.co2_ug = self.co2_ug.saturating_add(interval.idle.co2_ug).saturating_add(interval.used.co2_ug);
    }

    fn request(&mut self, cost: &RequestCost) {
        for (source, sum) in Source::ALL.into_iter().zip(&mut self.sources) {
            *sum = sum.saturating_add(match source {
                Source::Fixed => cost.costs.per_token,
                Source::Network => cost.costs.network,
                _ => Nano::ZERO,
            });
        }
        let sums = totals_of(&mut self.models, &cost.context.model);
        let line = cost.costs.sum();
        sums.nano = sums.nano.saturating_add(cost.costs.attributed());
        sums.energy_uj = sums.energy_uj.saturating_add(line.energy_uj);
        sums.co2_ug = sums.co2_ug.saturating_add(line.co2_ug);
    }

    /// All of it.
    pub(crate) fn families(&self) -> Vec<Family> {
        let sheet = if self.facts.is_example { "example" } else { "own" };
        let money = |labels: &[(&'static str, &str)], nano: Nano| {
            let own = [("currency", self.facts.currency.as_str()), ("sheet", sheet)];
            sample(&[labels, &own].concat(), i128::from(nano.0))
        };
        let by_model = |value: &dyn Fn(&str, &Attributed) -> Sample| -> Vec<Sample> {
            self.models.iter().map(|(model, sums)| value(model, sums)).collect()
        };
        let sources = Source::ALL.into_iter().zip(self.sources);
        let energy = ENERGY_SOURCE_WORDS.into_iter().zip(self.energy_uj);
        let (busy_ns, interval_ns) = self.busy;
        let utilisation = (i128::from(busy_ns) * WHOLE).checked_div(interval_ns.into()).unwrap_or(0);
        let cap = self.facts.cap_mw.map(|mw| sample(&[], i128::from(mw) * MILLI));
        vec![
            counter(
                "tokenworks_plant_cost_total",
                "What the plant cost since the start, by source; sheet=\"example\": by figures that are nobody's plant.",
                sources.map(|(source, nano)| money(&[("source", source.as_str())], nano)).collect(),
            ),
            counter(
                "tokenworks_cost_idle_total",
                "The part of it that nobody used.",
                vec![money(&[], self.idle.attributed())],
            ),
            counter(
                "tokenworks_cost_attributed_total",
                "The part of it that is attributed to requests that have ended.",
                by_model(&|model, sums| money(&[("model", model)], sums.nano)),
            ),
            counter(
                "tokenworks_plant_joules_total",
                "Energy at the site's meter, by where its figures come from.",
                energy.map(|(source, uj)| sample(&[("source", source)], i128::from(uj) * MICRO)).collect(),
            ),
            counter(
                "tokenworks_attributed_joules_total",
                "The part of it that is attributed to requests that have ended.",
                by_model(&|model, sums| sample(&[("model", model)], i128::from(sums.energy_uj) * MICRO)),
            ),
            counter(
                "tokenworks_plant_co2e_grams_total",
                "Emissions of that energy, CO2 equivalent.",
                vec![sample(&[], i128::from(self.co2_ug) * MICRO)],
            ),
            counter(
                "tokenworks_attributed_co2e_grams_total",
                "The part of them that is attributed to requests that have ended.",
                by_model(&|model, sums| sample(&[("model", model)], i128::from(sums.co2_ug) * MICRO)),
            ),
            gauge(
                "tokenworks_plant_power_watts",
                "Power of the equipment in the last second, losses of the site left out.",
                vec![sample(&[], i128::from(self.power_mw) * MILLI)],
            ),
            gauge(
                "tokenworks_plant_power_cap_watts",
                "The power that it is held below, if there is a cap.",
                cap.into_iter().collect(),
            ),
            gauge(
                "tokenworks_plant_utilisation_ratio",
                "For how much of the last second the plant computed; 1 is all.",
                vec![sample(&[], utilisation)],
            ),
        ]
    }
}

fn sample(labels: &[(&'static str, &str)], billionths: i128) -> Sample {
    Sample { labels: labels.iter().map(|(label, text)| (*label, (*text).to_owned())).collect(), billionths }
}

fn counter(name: &'static str, help: &'static str, samples: Vec<Sample>) -> Family {
    Family { name, kind: "counter", help, samples }
}

fn gauge(name: &'static str, help: &'static str, samples: Vec<Sample>) -> Family {
    Family { name, kind: "gauge", help, samples }
}

#[cfg(test)]
mod tests {
    use economics::books::cost_detail::{Costs, Traffic};
    use economics::books::detail::{Context, entry_kind};
    use ledger::EntryId;

    use super::*;

    fn line(energy_uj: u64, marginal: i64, standing: i64) -> CostLine {
        CostLine { machine_ns: 1, energy_uj, co2_ug: energy_uj / 2, marginal: Nano(marginal), standing: Nano(standing) }
    }

    #[test]
    fn metrics_say_what_the_ledger_has_taken() {
        let facts = PlantFacts { currency: "USD".to_owned(), is_example: true, cap_mw: Some(150_500) };
        let mut meter = PlantMeter::new(facts);
        let interval = PlantInterval {
            energy_source: 1,
            sources: [Nano(20), Nano(10), Nano(0), Nano(0), Nano(0), Nano(5)],
            idle: line(4_000_000, 0, 15),
            used: line(6_000_000, 8, 12),
            ..PlantInterval::default()
        };
        let cost = RequestCost {
            context: Context { model: "m".to_owned(), ..Context::default() },
            traffic: Traffic { received: 1, sent: 2 },
            costs: Costs {
                lines: [line(6_000_000, 8, 12), CostLine::default(), CostLine::default(), CostLine::default()],
                per_token: Nano(3),
                network: Nano(7),
            },
            ..RequestCost::default()
        };
        let post = |kind, detail| Command::Post { id: EntryId([0; 16]), kind, legs: Vec::new(), detail };
        let commands = vec![post(entry_kind::ACCRUED, interval.pack()), post(entry_kind::COSTED, cost.pack())];
        meter.posted(&Batch { at_ms: 0, commands });
        let energy = Energy {
            total_uj: 10_000_000,
            idle_uj: 4_000_000,
            active_uj: 6_000_000,
            interval_ns: 500_000_000,
            busy_ns: 125_000_000,
            source: metering::energy::EnergySource::Estimated,
        };
        meter.measured(&energy);
        let text = metering::render_families(&meter.families());
        for line in [
            "tokenworks_plant_cost_total{source=\"power\",currency=\"USD\",sheet=\"example\"} 0.00000002",
            "tokenworks_plant_cost_total{source=\"network\",currency=\"USD\",sheet=\"example\"} 0.000000007",
            "tokenworks_plant_cost_total{source=\"fixed\",currency=\"USD\",sheet=\"example\"} 0.000000008",
            "tokenworks_cost_idle_total{currency=\"USD\",sheet=\"example\"} 0.000000015",
            "tokenworks_cost_attributed_total{model=\"m\",currency=\"USD\",sheet=\"example\"} 0.00000003",
            "tokenworks_plant_joules_total{source=\"counter\"} 10",
            "tokenworks_plant_joules_total{source=\"estimated\"} 0",
            "tokenworks_attributed_joules_total{model=\"m\"} 6",
            "tokenworks_plant_co2e_grams_total 5",
            "tokenworks_attributed_co2e_grams_total{model=\"m\"} 3",
            "tokenworks_plant_power_watts 20",
            "tokenworks_plant_power_cap_watts 150.5",
            "tokenworks_plant_utilisation_ratio 0.25",
        ] {
            assert!(text.lines().any(|shown| shown == line), "{line}\n{text}");
        }
    }
}
