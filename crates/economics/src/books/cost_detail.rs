//! What the entries of costs say beside their amounts, packed.

use ledger::Entry;
use metering::intervals::PURPOSES;
use serde::Serialize;
use utoipa::ToSchema;

use super::detail::{Context, FORM, entry_kind, is_plain_or_told};
use crate::pack::{Pack, Unpack};
use crate::plant::Source;
use crate::{Nano, Quantities};

/// What a request took of the plant for one purpose, and what that cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct CostLine {
    /// Machine time in nanoseconds.
    pub machine_ns: u64,
    /// Energy in microjoules, measured at the device: what was used above idle power, and its share of idle power.
    pub energy_uj: u64,
    /// Emissions in micrograms CO2e.
    pub co2_ug: u64,
    /// What the plant would not have spent without it: energy above idle power.
    pub marginal: Nano,
    /// Its share, by busy time, of what the plant costs all the time.
    pub standing: Nano,
}

impl CostLine {
    /// Marginal and standing cost: what is attributed.
    #[must_use]
    pub fn attributed(&self) -> Nano {
        self.marginal.saturating_add(self.standing)
    }

    /// Adds `more` to it.
    pub fn add(&mut self, more: &Self) {
        self.machine_ns = self.machine_ns.saturating_add(more.machine_ns);
        self.energy_uj = self.energy_uj.saturating_add(more.energy_uj);
        self.co2_ug = self.co2_ug.saturating_add(more.co2_ug);
        self.marginal = self.marginal.saturating_add(more.marginal);
        self.standing = self.standing.saturating_add(more.standing);
    }

    fn pack(&self, pack: &mut Pack) {
        pack.u64(self.machine_ns).u64(self.energy_uj).u64(self.co2_ug).i64(self.marginal.0).i64(self.standing.0);
    }

    fn unpack(from: &mut Unpack<'_>) -> Option<Self> {
        let (machine_ns, energy_uj, co2_ug) = (from.u64()?, from.u64()?, from.u64()?);
        Some(Self { machine_ns, energy_uj, co2_ug, marginal: Nano(from.i64()?), standing: Nano(from.i64()?) })
    }
}

/// What machine time was spent for; in the order of the engine's.
pub const PURPOSE_WORDS: [&str; PURPOSES] = ["prefill", "decode", "rejected", "recomputed"];

/// Bytes of HTTP bodies: of a request, and of its answer as it left. Heads, TLS and retransmissions are not in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Traffic {
    /// Of the request.
    pub received: u64,
    /// Of the answer.
    pub sent: u64,
}

impl Traffic {
    /// Both together.
    #[must_use]
    pub fn total(self) -> u64 {
        self.received.saturating_add(self.sent)
    }

    /// Adds `more` to it.
    pub fn add(&mut self, more: Self) {
        self.received = self.received.saturating_add(more.received);
        self.sent = self.sent.saturating_add(more.sent);
    }
}

/// What a request cost, or several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Costs {
    /// By purpose, as [`PURPOSE_WORDS`].
    pub lines: [CostLine; PURPOSES],
    /// Fixed cost that is spread over tokens.
    pub per_token: Nano,
    /// Traffic at the sheet's `per_gb`: marginal cost of the source network.
    pub network: Nano,
}

impl Costs {
    /// The lines together.
    #[must_use]
    pub fn sum(&self) -> CostLine {
        self.lines.iter().fold(CostLine::default(), |mut sum, line| {
            sum.add(line);
            sum
        })
    }

    /// All that is attributed.
    #[must_use]
    pub fn attributed(&self) -> Nano {
        self.sum().attributed().saturating_add(self.per_token).saturating_add(self.network)
    }

    /// What the plant would not have spent without it: energy above idle power, and traffic.
    #[must_use]
    pub fn marginal(&self) -> Nano {
        self.sum().marginal.saturating_add(self.network)
    }

    /// What was spent on guesses that were not made and on what was computed again: never paid by the customer.
    #[must_use]
    pub fn wasted(&self) -> Nano {
        let [_, _, rejected, recomputed] = &self.lines;
        rejected.attributed().saturating_add(recomputed.attributed())
    }

    /// Adds `more` to it.
    pub fn add(&mut self, more: &Self) {
        for (line, more) in self.lines.iter_mut().zip(&more.lines) {
            line.add(more);
        }
        self.per_token = self.per_token.saturating_add(more.per_token);
        self.network = self.network.saturating_add(more.network);
    }
}

/// Added to the form of a cost that says what traffic it is for.
const TRAFFIC_FORMS: u8 = 16;

/// Detail of what a request cost.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestCost {
    /// Who asked for what.
    pub context: Context,
    /// The id of the request.
    pub request: [u8; 16],
    /// All its tokens.
    pub quantities: Quantities,
    /// What went over the network for it.
    pub traffic: Traffic,
    /// What it cost.
    pub costs: Costs,
}

impl RequestCost {
    /// The bytes of it.
    #[must_use]
    pub fn pack(&self) -> Vec<u8> {
        let mut pack = Pack::default();
        // Without traffic it is as it was before traffic was known.
        let plain = self.traffic == Traffic::default() && self.costs.network == Nano::ZERO;
        let form = self.context.form(FORM);
        pack.byte(if plain { form } else { form.saturating_add(TRAFFIC_FORMS) });
        self.context.pack(&mut pack);
        pack.0.extend_from_slice(&self.request);
        pack.quantities(&self.quantities).i64(self.costs.per_token.0);
        for line in &self.costs.lines {
            line.pack(&mut pack);
        }
        if !plain {
            pack.u64(self.traffic.received).u64(self.traffic.sent).i64(self.costs.network.0);
        }
        pack.0
    }

    /// From the detail of an entry; `None` when it is no cost of a request of a known form.
    #[must_use]
    pub fn read(entry: &Entry) -> Option<Self> {
        Self::read_detail(entry.kind, &entry.detail)
    }

    /// The same of an entry that is not posted yet.
    #[must_use]
    pub fn read_detail(kind: u16, detail: &[u8]) -> Option<Self> {
        let mut from = Unpack(detail);
        if kind != entry_kind::COSTED {
            return None;
        }
        let (form, plain) = match from.byte()? {
            form if is_plain_or_told(&form) => (form, true),
            form => (form.checked_sub(TRAFFIC_FORMS).filter(is_plain_or_told)?, false),
        };
        let context = Context::unpack(&mut from, form)?;
        let (request, quantities, per_token) = (from.id()?, from.quantities()?, Nano(from.i64()?));
        let mut lines = [CostLine::default(); PURPOSES];
        for line in &mut lines {
            *line = CostLine::unpack(&mut from)?;
        }
        let (mut traffic, mut network) = (Traffic::default(), Nano::ZERO);
        if !plain {
            traffic = Traffic { received: from.u64()?, sent: from.u64()? };
            network = Nano(from.i64()?);
        }
        from.end(Self { context, request, quantities, traffic, costs: Costs { lines, per_token, network } })
    }
}

/// The code of energy that was estimated.
pub(crate) const ESTIMATED: u8 = 0;

/// Intervals whose cost is that of the example sheet.
const EXAMPLE_FORM: u8 = 2;

/// Detail of what the plant cost in an interval.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PlantInterval {
    /// When it began, in milliseconds since the epoch.
    pub from_ms: i64,
    /// When it ended.
    pub to_ms: i64,
    /// Its length by a clock that never jumps, in nanoseconds.
    pub length_ns: u64,
    /// Machine time used in it.
    pub busy_ns: u64,
    /// The version of the plant sheet.
    pub sheet: u64,
    /// Whether that is the example, whose figures are nobody's costs.
    pub example: bool,
    /// Where the joules come from, a code of the meter's.
    pub energy_source: u8,
    /// Cost by source, in the order of [`Source::ALL`].
    pub sources: [Nano; Source::ALL.len()],
    /// What nobody used.
    pub idle: CostLine,
    /// What requests used.
    pub used: CostLine,
    /// What was held for steps of earlier intervals that came to nothing; it is idle too.
    pub lost: CostLine,
}

impl PlantInterval {
    /// All of its cost.
    #[must_use]
    pub fn total(&self) -> Nano {
        self.sources.iter().fold(Nano::ZERO, |sum, nano| sum.saturating_add(*nano))
    }

    /// The bytes of it.
    #[must_use]
    pub fn pack(&self) -> Vec<u8> {
        let mut pack = Pack::default();
        pack.byte(if self.example { EXAMPLE_FORM } else { FORM })
            .i64(self.from_ms)
            .i64(self.to_ms)
            .u64(self.length_ns)
            .u64(self.busy_ns);
        pack.u64(self.sheet).byte(self.energy_source);
        for nano in self.sources {
            pack.i64(nano.0);
        }
        for line in [&self.idle, &self.used, &self.lost] {
            line.pack(&mut pack);
        }
        pack.0
    }

    /// From the detail of an entry; `None` when it is no interval of a known form.
    #[must_use]
    pub fn read(entry: &Entry) -> Option<Self> {
        Self::read_detail(entry.kind, &entry.detail)
    }

    /// The same of an entry that is not posted yet.
    #[must_use]
    pub fn read_detail(kind: u16, detail: &[u8]) -> Option<Self> {
        let mut from = Unpack(detail);
        if kind != entry_kind::ACCRUED {
            return None;
        }
        let form = from.byte().filter(|form| matches!(*form, FORM | EXAMPLE_FORM))?;
        let mut interval = Self {
            from_ms: from.i64()?,
            to_ms: from.i64()?,
            length_ns: from.u64()?,
            busy_ns: from.u64()?,
            sheet: from.u64()?,
            example: form == EXAMPLE_FORM,
            energy_source: from.byte()?,
            ..Self::default()
        };
        for nano in &mut interval.sources {
            *nano = Nano(from.i64()?);
        }
        for line in [&mut interval.idle, &mut interval.used, &mut interval.lost] {
            *line = CostLine::unpack(&mut from)?;
        }
        from.end(interval)
    }
}
