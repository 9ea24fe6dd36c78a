//! What is read of the plant at one moment, and what two such moments say.

use std::time::{Duration, Instant};

use ::history::{Metered, Rollup};
use economics::Nano;
use metering::{Objectives, Sums};
use service::{LineStatus, Reading};

use super::document::{
    ContextStation, DecodeStation, DeliverStation, Goodput, LineSnapshot, ObjectivesDocument, Percentiles,
    PlantFigures, RecentRates, SampleStation, Snapshot, TokenizeStation,
};
use crate::app::{App, new_id, unix_ms};
use crate::routes::figures::{seconds, share};

const HOUR_NS: i128 = 3_600_000_000_000;
/// For amounts by the million tokens.
pub(crate) const MILLION: i128 = 1_000_000;

/// All counters and gauges at one moment.
pub(super) struct Sample {
    pub(super) at: Instant,
    pub(super) time_ms: i64,
    open_requests: u64,
    max_requests: u64,
    lines: Vec<(String, LineStatus)>,
    objectives: Objectives,
    sums: Sums,
    reading: Option<Reading>,
    pub(super) sold: Option<Nano>,
    currency: Option<String>,
}

/// What a snapshot is told since.
pub(super) struct Since<'a> {
    /// Rates.
    pub(super) recent: &'a Sample,
    /// Percentiles and costs.
    pub(super) earlier: &'a Sample,
    /// Revenue: the earliest that knows what was sold.
    pub(super) sold: &'a Sample,
}

impl Sample {
    /// Reads them. May wait for the books, where another machine has them.
    pub(super) fn take(app: &App) -> Self {
        Self::take_unsold(app).with_sold(sold(app))
    }

    /// The same with what was sold.
    pub(super) fn with_sold(self, sold: Option<Nano>) -> Self {
        Self { sold, ..self }
    }

    /// Reads them without what was sold: never waits.
    pub(super) fn take_unsold(app: &App) -> Self {
        Self {
            at: Instant::now(),
            time_ms: unix_ms(),
            open_requests: wide(app.under_way()),
            max_requests: u64::from(app.limits.max_requests),
            lines: app.pool.lines().iter().map(|line| (line.card().id.clone(), line.status())).collect(),
            objectives: app.meter.objectives(),
            sums: app.meter.sums(),
            reading: app.charging.as_ref().and_then(|charging| charging.reading()),
            sold: None,
            currency: app.books.as_ref().map(|books| books.currency().code.clone()),
        }
    }

    /// Of a plant in which nothing has happened.
    #[cfg(test)]
    pub(super) fn at(began: Instant, after: Duration) -> Self {
        Self {
            at: began + after,
            time_ms: i64::try_from(after.as_millis()).unwrap(),
            open_requests: 0,
            max_requests: 0,
            lines: Vec::new(),
            objectives: Objectives::default(),
            sums: metering::Meter::new().sums(),
            reading: None,
            sold: None,
            currency: None,
        }
    }

    /// How much later it is than another.
    pub(super) fn since(&self, earlier: &Self) -> Duration {
        self.at.saturating_duration_since(earlier.at)
    }

    /// Rates since another one; `None`: both are the same moment.
    pub(super) fn rates(&self, from: &Self) -> Option<RecentRates> {
        let span = Span::new(from, self);
        Some(RecentRates {
            time_ms: self.time_ms,
            output_tokens_per_second: span.per_second(span.sampled())?,
            input_tokens_per_second: span.per_second(span.counted(input_tokens))?,
            power_watts: span.power_watts(),
            utilisation: span.utilisation()?,
        })
    }

    /// The plant now.
    pub(super) fn snapshot(&self, since: &Since<'_>) -> Snapshot {
        let Since { recent, earlier, .. } = *since;
        let (rates, window) = (Span::new(recent, self), Span::new(earlier, self));
        let lines: Vec<LineSnapshot> = self.lines.iter().map(|line| rates.line(line)).collect();
        let sum = |of: fn(&LineSnapshot) -> u64| lines.iter().map(of).sum();
        Snapshot {
            id: new_id("snap-"),
            time_ms: self.time_ms,
            rate_seconds: rates.seconds(),
            window_seconds: window.seconds(),
            tokenize: TokenizeStation {
                open_requests: self.open_requests,
                max_requests: self.max_requests,
                requests_per_second: rates.per_second(rates.counted(|line| line.counters.requests)),
                rejected_per_second: rates.per_second(self.sums.rejected.saturating_sub(recent.sums.rejected)),
            },
            context: ContextStation {
                waiting: sum(|line| line.waiting),
                input_tokens_per_second: rates.per_second(rates.counted(input_tokens)),
                cached_tokens_per_second: rates.per_second(rates.counted(|line| line.counters.prefix_hits_tokens)),
                kv_blocks_used: sum(|line| line.kv_blocks_used),
                kv_blocks_cached: sum(|line| line.kv_blocks_cached),
                kv_blocks_total: sum(|line| line.kv_blocks_total),
            },
            decode: DecodeStation {
                running: sum(|line| line.running),
                steps_per_second: rates.per_second(rates.counted(|line| line.counters.steps)),
                batch_columns: share(rates.counted(columns) as f64, rates.counted(|line| line.counters.steps) as f64),
                preemptions_per_second: rates.per_second(rates.counted(|line| line.counters.preemptions)),
            },
            sample: SampleStation {
                output_tokens_per_second: rates.per_second(rates.sampled()),
                guesses_right: share(
                    window.counted(|line| line.counters.draft_accepted_tokens) as f64,
                    window.counted(guesses) as f64,
                ),
            },
            deliver: window.deliver(&rates),
            ttft: percentiles(&self.sums.ttft.since(&earlier.sums.ttft)),
            itl: percentiles(&self.sums.gaps.since(&earlier.sums.gaps)),
            e2e: percentiles(&self.sums.e2e.since(&earlier.sums.e2e)),
            objectives: stated(&self.objectives),
            goodput: goodput(
                (self.sums.stated.saturating_sub(earlier.sums.stated), self.sums.met.saturating_sub(earlier.sums.met)),
                window.seconds(),
            ),
            plant: self.plant(&rates, &window, &Span::new(since.sold, self)),
            lines,
        }
    }

    fn plant(&self, rates: &Span<'_>, window: &Span<'_>, selling: &Span<'_>) -> PlantFigures {
        // Both by the clock of the readings, which go by whole seconds.
        let cost = window.readings().map(|(from, to)| {
            let length = i128::from(to.length_ns.saturating_sub(from.length_ns));
            (i128::from(to.cost.saturating_sub(from.cost).0), length)
        });
        let sold = selling.from.sold.zip(selling.to.sold).map(|(from, to)| i128::from(to.saturating_sub(from).0));
        let cost_per_hour = cost.and_then(|(nano, length)| scaled(nano, HOUR_NS, length));
        let revenue_per_hour = sold.and_then(|nano| scaled(nano, HOUR_NS, selling.length_ns()));
        let margin = cost_per_hour.zip(revenue_per_hour).map(|(cost, revenue)| revenue.saturating_sub(cost));
        let tokens = i128::from(window.counted(input_tokens)).saturating_add(i128::from(window.sampled()));
        let per_million = cost.and_then(|(nano, _)| scaled(nano, MILLION, tokens));
        let text = |amount: Option<Nano>| amount.map(|amount| amount.to_string());
        PlantFigures {
            utilisation: rates.utilisation(),
            power_watts: rates.power_watts(),
            currency: self.currency.clone(),
            cost_per_hour: text(cost_per_hour),
            revenue_per_hour: text(revenue_per_hour),
            margin_per_hour: text(margin),
            cost_per_million_tokens: text(per_million),
        }
    }
}

/// What was sold so far; may wait for the books.
pub(super) fn sold(app: &App) -> Option<Nano> {
    let sold = app.books.as_ref()?.sold();
    // While the books are recomputed they say nothing.
    sold.inspect_err(|error| tracing::debug!(%error, "the books say nothing of what was sold")).ok()
}

/// Two moments.
pub(super) struct Span<'a> {
    from: &'a Sample,
    to: &'a Sample,
    length: Duration,
}

impl<'a> Span<'a> {
    pub(super) fn new(from: &'a Sample, to: &'a Sample) -> Self {
        Self { from, to, length: to.at.saturating_duration_since(from.at) }
    }

    /// What happened between them, but for what was sold.
    pub(super) fn rollup(&self) -> Rollup {
        let (from, to) = (&self.from.sums, &self.to.sums);
        let micros = u64::try_from(self.length.as_micros()).unwrap_or(u64::MAX);
        // Of two moments that are near each other the later one stands for the time between.
        let over_time = |gauge: fn(&LineStatus) -> usize| {
            let sum = self.to.lines.iter().map(|(_, status)| wide(gauge(status))).fold(0_u64, u64::saturating_add);
            sum.saturating_mul(micros)
        };
        Rollup {
            length_ns: u64::try_from(self.length.as_nanos()).unwrap_or(u64::MAX),
            requests: self.ended(),
            rejected: to.rejected.saturating_sub(from.rejected),
            stated: to.stated.saturating_sub(from.stated),
            met: to.met.saturating_sub(from.met),
            input_tokens: self.counted(input_tokens),
            cached_tokens: self.counted(|line| line.counters.prefix_hits_tokens),
            output_tokens: self.sampled(),
            busy_ns: self.counted(|line| line.counters.busy_ns),
            running_us: over_time(|line| line.gauges.running),
            waiting_us: over_time(|line| line.gauges.waiting),
            kv_used_us: over_time(|line| line.gauges.kv_blocks_used),
            kv_total_us: over_time(|line| line.limits.kv_blocks),
            metered: self.readings().map(|(from, to)| Metered {
                length_ns: to.length_ns.saturating_sub(from.length_ns),
                energy_uj: to.energy_uj.saturating_sub(from.energy_uj),
                cost_nano: to.cost.saturating_sub(from.cost).0,
            }),
            ttft: to.ttft.since(&from.ttft),
            gaps: to.gaps.since(&from.gaps),
            e2e: to.e2e.since(&from.e2e),
            ..Rollup::new(self.from.time_ms)
        }
    }

    /// Requests that ended, in the order of their outcomes.
    fn ended(&self) -> [u64; metering::Outcome::ALL.len()] {
        let mut ended = self.to.sums.requests;
        for (count, before) in ended.iter_mut().zip(self.from.sums.requests) {
            *count = count.saturating_sub(before);
        }
        ended
    }

    fn seconds(&self) -> f64 {
        self.length.as_secs_f64()
    }

    fn length_ns(&self) -> i128 {
        i128::try_from(self.length.as_nanos()).unwrap_or(i128::MAX)
    }

    /// What a counter of one line grew by. A line that came meanwhile began at 0; one that came back counts from there again.
    fn grown(&self, (model, now): &(String, LineStatus), counter: impl Fn(&LineStatus) -> u64) -> u64 {
        let before = self.from.lines.iter().find(|(known, _)| known == model).map_or(0, |(_, before)| counter(before));
        let now = counter(now);
        if now < before { now } else { now - before }
    }

    /// What a counter grew by, all lines together.
    fn counted(&self, counter: impl Fn(&LineStatus) -> u64) -> u64 {
        self.to.lines.iter().fold(0, |sum, line| sum.saturating_add(self.grown(line, &counter)))
    }

    fn sampled(&self) -> u64 {
        self.to.sums.sampled_tokens.saturating_sub(self.from.sums.sampled_tokens)
    }

    /// `None`: both are the same moment.
    fn per_second(&self, count: u64) -> Option<f64> {
        (!self.length.is_zero()).then(|| count as f64 / self.seconds())
    }

    fn readings(&self) -> Option<(Reading, Reading)> {
        self.from.reading.zip(self.to.reading)
    }

    fn power_watts(&self) -> Option<f64> {
        let (from, to) = self.readings()?;
        let length_ns = to.length_ns.saturating_sub(from.length_ns);
        // Joules over nanoseconds: a microjoule in a nanosecond is a kilowatt.
        share(to.energy_uj.saturating_sub(from.energy_uj) as f64, length_ns as f64).map(|kilowatts| kilowatts * 1000.0)
    }

    fn utilisation(&self) -> Option<f64> {
        self.per_nanosecond(self.counted(|line| line.counters.busy_ns)).map(|share| share.min(1.0))
    }

    fn per_nanosecond(&self, count: u64) -> Option<f64> {
        self.per_second(count).map(|rate| rate / 1e9)
    }

    fn line(&self, line: &(String, LineStatus)) -> LineSnapshot {
        let (model, status) = line;
        let gauges = &status.gauges;
        LineSnapshot {
            model: model.clone(),
            ready: status.ready,
            running: wide(gauges.running),
            waiting: wide(gauges.waiting),
            kv_blocks_used: wide(gauges.kv_blocks_used),
            kv_blocks_cached: wide(gauges.kv_blocks_cached),
            kv_blocks_total: wide(status.limits.kv_blocks),
            input_tokens_per_second: self.per_second(self.grown(line, input_tokens)),
            decode_columns_per_second: self.per_second(self.grown(line, |line| line.counters.decode_columns)),
            utilisation: self
                .per_nanosecond(self.grown(line, |line| line.counters.busy_ns))
                .map(|share| share.min(1.0)),
        }
    }

    fn deliver(&self, rates: &Self) -> DeliverStation {
        let ended = self.ended();
        let of = |outcome: metering::Outcome| ended.get(outcome as usize).copied().unwrap_or(0);
        DeliverStation {
            finished_per_second: rates.per_second(rates.ended().iter().sum()),
            ok: of(metering::Outcome::Ok),
            cancelled: of(metering::Outcome::Cancelled),
            failed: of(metering::Outcome::Failed),
        }
    }
}

fn input_tokens(line: &LineStatus) -> u64 {
    line.counters.prefill_columns.saturating_add(line.counters.prefix_hits_tokens)
}

fn columns(line: &LineStatus) -> u64 {
    line.counters.prefill_columns.saturating_add(line.counters.decode_columns)
}

fn guesses(line: &LineStatus) -> u64 {
    line.counters.draft_accepted_tokens.saturating_add(line.counters.draft_rejected_tokens)
}

fn wide(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

/// `nano * factor / whole`.
pub(crate) fn scaled(nano: i128, factor: i128, whole: i128) -> Option<Nano> {
    let amount = nano.checked_mul(factor)?.checked_div(whole)?;
    i64::try_from(amount).ok().map(Nano)
}

/// The objectives as they are shown; `None`: none are stated.
pub(crate) fn stated(objectives: &Objectives) -> Option<ObjectivesDocument> {
    let Objectives { ttft_ns, tpot_ns, e2e_ns } = *objectives;
    (*objectives != Objectives::default()).then(|| ObjectivesDocument {
        ttft_seconds: ttft_ns.map(seconds),
        tpot_seconds: tpot_ns.map(seconds),
        e2e_seconds: e2e_ns.map(seconds),
    })
}

/// `met` of `stated` requests in a time.
pub(crate) fn goodput((stated, met): (u64, u64), seconds: f64) -> Goodput {
    let (part, all) = (met as f64, stated as f64);
    Goodput { stated, met, share: share(part, all), requests_per_second: share(part, seconds).filter(|_| stated > 0) }
}

pub(crate) fn percentiles(histogram: &metering::Histogram) -> Percentiles {
    let at = |permille| histogram.quantile(permille).map(seconds);
    Percentiles { count: histogram.count(), p50_seconds: at(500), p95_seconds: at(950), p99_seconds: at(990) }
}
