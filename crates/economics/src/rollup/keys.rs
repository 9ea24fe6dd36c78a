//! The keys of tallies: made, read, and ranges of them walked through.

use ledger::{StoreError, Tally};

use super::Tallies;

pub(super) const USAGE: u8 = b'u';
pub(super) const DAYS: u8 = b'd';
pub(super) const INVOICE: u8 = b'i';
pub(super) const ACTS: u8 = b'a';
/// The credit notes of a window, each by its entry.
pub(super) const CREDITS: u8 = b'c';
/// The alerts that were raised, each by its entry.
pub(super) const ALERTS: u8 = b'w';
/// What requests cost, by hour and by day.
pub(super) const COSTS: u8 = b'k';
pub(super) const COST_DAYS: u8 = b'K';
/// What the plant cost, by hour.
pub(super) const PLANT: u8 = b'p';
/// By which plant sheets costs accrued, by day.
pub(super) const SHEETS: u8 = b's';
/// Requests with stated objectives, and those that met them, by day.
pub(super) const GOODPUT: u8 = b'g';
/// Tokens and value, by day, what TFP is told apart by, and group of clusters.
pub(super) const VALUE: u8 = b'v';
/// The same by project and task alone: fewer, for reports of all.
pub(super) const TOTALS: u8 = b't';
/// The same by end user.
pub(super) const USER_VALUE: u8 = b'U';
/// In which weeks projects and their end users asked.
pub(super) const WEEKS: u8 = b'W';
/// Outcomes by kind, by day and what TFP is told apart by.
pub(super) const KINDS: u8 = b'V';
/// The requests of an episode, in the order in which they ended.
pub(super) const EPISODES: u8 = b'e';
/// How many outcomes a request has.
pub(super) const OUTCOMES_OF: u8 = b'r';
/// The outcomes, each by its entry, and those kept aside.
pub(super) const OUTCOMES: u8 = b'o';
pub(super) const ASIDES: u8 = b'O';
/// How many are kept aside.
pub(super) const ASIDE_COUNTS: u8 = b'n';
/// In which time outcomes of a kind come, by project and task.
pub(super) const MATURITY: u8 = b'm';

/// What units of experiments used and were worth, by arm and weights.
pub(super) const EXPERIMENTS: u8 = b'x';

/// A key whose byte order is the order of its parts.
pub(super) struct Key(pub(super) Vec<u8>);

impl Key {
    pub(super) fn new(kind: u8) -> Self {
        Self(vec![kind])
    }

    pub(super) fn number(mut self, number: i64) -> Self {
        self.0.extend((number ^ i64::MIN).to_be_bytes());
        self
    }

    /// Text has no zero byte, so the zero behind it keeps shorter ones first and tells parts apart.
    pub(super) fn text(mut self, text: &str) -> Self {
        text.split('\0').for_each(|part| self.0.extend_from_slice(part.as_bytes()));
        self.0.push(0);
        self
    }

    /// From where to where the keys lie that begin with it: no text has a byte of `0xff`, no number that is in use begins so.
    pub(super) fn range(self) -> (Vec<u8>, Vec<u8>) {
        let end = [self.0.as_slice(), &[0xff]].concat();
        (self.0, end)
    }
}

pub(super) struct Parts<'a>(pub(super) &'a [u8]);

impl Parts<'_> {
    pub(super) fn number(&mut self) -> Option<i64> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(i64::from_be_bytes(*bytes) ^ i64::MIN)
    }

    pub(super) fn text(&mut self) -> Option<String> {
        let mut text = String::new();
        self.text_into(&mut text)?;
        Some(text)
    }

    /// As [`Parts::text`], in place of what `text` was.
    pub(super) fn text_into(&mut self, text: &mut String) -> Option<()> {
        let end = self.0.iter().position(|byte| *byte == 0)?;
        let (found, rest) = self.0.split_at(end);
        self.0 = rest.get(1..)?;
        text.clear();
        text.push_str(str::from_utf8(found).ok()?);
        Some(())
    }
}

/// Reads a range of tallies.
pub(super) fn collect<T>(
    ledger: &dyn Tallies,
    from: &[u8],
    to: &[u8],
    read: impl Fn(&Tally) -> Option<T>,
) -> Result<Vec<T>, StoreError> {
    let mut rows = Vec::new();
    visit(ledger, from, to, |tally| {
        rows.push(read(tally)?);
        Some(true)
    })?;
    Ok(rows)
}

/// Shows `each` a range of tallies, until it gives `false`; `None`: the tally cannot be read.
pub(super) fn visit(
    ledger: &dyn Tallies,
    from: &[u8],
    to: &[u8],
    mut each: impl FnMut(&Tally) -> Option<bool>,
) -> Result<(), StoreError> {
    let mut read = true;
    ledger.visit(from, to, &mut |tally| {
        each(tally).unwrap_or_else(|| {
            read = false;
            false
        })
    })?;
    if read { Ok(()) } else { Err(StoreError::Damaged("a tally cannot be read".to_owned())) }
}
