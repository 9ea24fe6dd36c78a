//! Sums of settlements and credit notes, kept by the ledger with each entry: by hour for usage, by day for reports, by
//! window and line for invoices.

mod acts;
mod costs;
mod excerpt;
mod experiments;
mod goodput;
mod keys;
mod margins;
mod outcomes;
mod row;
mod statement;
mod tfp;
mod usage;
mod users;
mod value;

use ledger::{Add, Entry, Summary, Tally};
use serde::Serialize;
use utoipa::ToSchema;

use crate::books::ALERT_KIND;
use crate::books::cost_detail::{PlantInterval, RequestCost};
use crate::books::detail::{Assigned, Context, CreditNote, Settlement};
use crate::books::outcome_detail::{Aside, Valued};
use crate::window::DAY_MS;
use crate::{Meter, Nano, Quantities};

use acts::{act_subject, alert_key};
use keys::{CREDITS, DAYS, INVOICE, Key, USAGE};

pub(crate) use acts::{ActSubject, acts_of, last_alerts};
pub use costs::{CostRow, CostSums, PlantSums, Sheets, cost_days, cost_hours, plant_hours, sheets};
pub use excerpt::{Excerpt, MAX_EXCERPT_ENTRIES, Tallies};
pub(crate) use excerpt::{SLACK_MS, first_since};
pub use experiments::{UnitRow, UnitSums, experiment_units};
pub use goodput::{Goodput, goodput};
pub use margins::{CostAsk, CostGroups, MarginRow, full_cost, grouped_costs};
pub use outcomes::outcomes;
pub(crate) use outcomes::{asides, episode, last_asides, outcomes_of};
pub use row::Row;
pub(crate) use row::days_within;
pub use statement::{Credit, InvoiceLine, InvoiceModel, Statement, credits, statement, windows};
pub use tfp::{MAX_TFP_ROWS, TfpAsk, TfpBy, TfpError, TfpGroup, TfpPeriod, TfpRow, TfpTable, Weigh, tfp};
pub use usage::{GroupBy, MAX_REPORT_DAYS, MAX_REPORT_ROWS, UsageRow, grouped_report, report, usage};
pub use users::{Activity, MAX_ACTIVITY, MAX_END_USER_ROWS, Unit, activity, week_of};
pub use value::{BUCKETS, KindSums, ValueSums, kind_rows, maturity_days};
pub(crate) use value::{bucket, day_of};

const HOUR_MS: i64 = 3_600_000;

/// The summary given to the ledger.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rollup;

/// Sums over requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = SoldSums)]
pub struct Sums {
    /// Charged requests.
    pub requests: i64,
    /// All tokens.
    pub quantities: Quantities,
    /// Tokens that pools paid.
    pub pooled_tokens: i64,
    /// Pool units taken.
    pub pool_units: i64,
    /// At list price.
    pub list: Nano,
    /// Taken off.
    pub discount: Nano,
    /// Given back by credit notes.
    pub credited: Nano,
}

impl Sums {
    /// What is to be paid.
    #[must_use]
    pub fn total(&self) -> Nano {
        self.list.saturating_sub(self.discount).saturating_sub(self.credited)
    }

    fn columns(&self) -> [i64; 10] {
        let tokens = |meter| i64::try_from(self.quantities.get(meter)).unwrap_or(i64::MAX);
        let [uncached, cached, visible, reasoning] = Meter::ALL.map(tokens);
        let (list, discount, credited) = (self.list.0, self.discount.0, self.credited.0);
        [
            self.requests,
            uncached,
            cached,
            visible,
            reasoning,
            self.pooled_tokens,
            self.pool_units,
            list,
            discount,
            credited,
        ]
    }

    fn read(tally: &Tally) -> Self {
        Self::from_columns(|index| column(tally, index))
    }

    fn from_columns(column: impl Fn(usize) -> i64) -> Self {
        let tokens = |index| u64::try_from(column(index)).unwrap_or(0);
        Self {
            requests: column(0),
            quantities: Quantities {
                in_uncached: tokens(1),
                in_cached: tokens(2),
                out_visible: tokens(3),
                out_reasoning: tokens(4),
            },
            pooled_tokens: column(5),
            pool_units: column(6),
            list: Nano(column(7)),
            discount: Nano(column(8)),
            credited: Nano(column(9)),
        }
    }

    /// Adds `other` to it.
    pub fn add(&mut self, other: &Self) {
        let (mine, theirs) = (self.columns(), other.columns());
        *self = Self::from_columns(|place| mine[place].saturating_add(theirs[place]));
    }
}

/// A sum of a key, or the nearest end of the range.
fn column(tally: &Tally, index: usize) -> i64 {
    sum_at(&tally.sums, index)
}

fn sum_at(sums: &[i128], index: usize) -> i64 {
    let sum = sums.get(index).copied().unwrap_or(0);
    i64::try_from(sum).unwrap_or(if sum < 0 { i64::MIN } else { i64::MAX })
}

impl Summary for Rollup {
    fn version(&self) -> u32 {
        9
    }

    fn tally(&self, entry: &Entry, add: &mut Add<'_>) {
        if let Some(settled) = Settlement::read(entry) {
            let sums = Sums {
                requests: 1,
                quantities: settled.quantities,
                pooled_tokens: i64::try_from(settled.pooled.total()).unwrap_or(i64::MAX),
                pool_units: settled.pool_units,
                list: settled.list(),
                discount: settled.discount,
                credited: Nano::ZERO,
            };
            tally(&settled.context, entry.at_ms, &sums, add);
            value::tally_request(&settled, entry, add);
            goodput::tally(&settled, entry.at_ms, add);
            for line in &settled.lines {
                let tokens = i64::try_from(line.tokens).unwrap_or(i64::MAX);
                add(&invoice_key(&settled.context, Some((line.meter, line.tier))), 0, &[tokens, line.nano.0]);
            }
        } else if let Some(note) = CreditNote::read(entry) {
            let sums = Sums { credited: note.amount, ..Sums::default() };
            let context = note.billed();
            tally(&context, entry.at_ms, &sums, add);
            let Context { organisation, window_ms, .. } = &context;
            let key = Key::new(CREDITS).text(organisation).number(*window_ms).number(entry.seq.cast_signed());
            add(&key.0, 0, &[note.amount.0]);
            value::tally_credit(&note, entry.at_ms, add);
        } else if let Some(cost) = RequestCost::read(entry) {
            costs::tally_request(&cost, entry.at_ms, add);
            value::tally_cost(&cost, entry.at_ms, add);
        } else if let Some(interval) = PlantInterval::read(entry) {
            costs::tally_interval(&interval, add);
        } else if let Some(valued) = Valued::read(entry) {
            value::tally_outcome(&valued, entry.seq, add);
        } else if let Some(aside) = Aside::read(entry) {
            outcomes::tally_aside(&aside, entry.seq, add);
        } else if let Some(assigned) = Assigned::read(entry) {
            experiments::tally_assigned(&assigned, add);
        }
        if let Some(own) = act_subject(entry) {
            add(&ActSubject::All.key(entry.seq), 0, &[1]);
            if own != ActSubject::All {
                add(&own.key(entry.seq), 0, &[1]);
            }
        } else if entry.document().is_some_and(|document| document.kind == ALERT_KIND && document.version == 1) {
            add(&alert_key(entry.seq.cast_signed()), 0, &[1]);
        }
    }
}

fn tally(context: &Context, at_ms: i64, sums: &Sums, add: &mut Add<'_>) {
    let Context { organisation, project, key, model, tag, .. } = context;
    let columns = sums.columns();
    let usage = Key::new(USAGE).text(organisation).number(at_ms.div_euclid(HOUR_MS));
    add(&usage.text(project).text(key).text(model).text(tag).0, 0, &columns);
    add(&Key::new(DAYS).number(at_ms.div_euclid(DAY_MS)).text(organisation).text(model).text(tag).0, 0, &columns);
    add(&invoice_key(context, None), 0, &columns);
}

/// Without a line: the sums of the model in the window.
fn invoice_key(context: &Context, line: Option<(Meter, u8)>) -> Vec<u8> {
    let Context { organisation, window_ms, list, model, price_version, .. } = context;
    let mut key = Key::new(INVOICE).text(organisation).number(*window_ms).text(list).text(model);
    key = key.number((*price_version).into());
    if let Some((meter, tier)) = line {
        key.0.push(Meter::ALL.iter().zip(0..).find(|(known, _)| **known == meter).map_or(0, |(_, code)| code));
        key.0.push(tier);
    }
    key.0
}
