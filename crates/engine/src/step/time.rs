//! What a step took: columns and time, for each request and for the plant.

use std::collections::{BTreeMap, BTreeSet};

use inference::{MachineTime, StepClass, StepWork};

use super::{Core, Rows, count, load};
use crate::calibration::{StepSample, class};
use crate::cost::{Load, Prices};
use crate::output::Output;
use crate::sequence::Sequence;
use crate::stats;
use crate::work::split;

/// What a step did for one request.
#[derive(Default)]
pub(super) struct Part {
    prefill: usize,
    decode: usize,
    guessed: usize,
    /// By what each adds to a step's time: prompt columns, columns computed again, columns of tokens, those of guesses.
    weights: [f64; 4],
    /// Its guesses that had come before the step.
    accepted: u64,
}

impl Part {
    fn add(&mut self, rows: &Rows, sequence: &Sequence, prices: &Prices) {
        let work = rows.work;
        let end = work.start + work.columns - work.guessed;
        let decode = usize::from(end > sequence.peak.max(sequence.prompt_len));
        let first = end - decode;
        let again = sequence.peak.clamp(work.start, first);
        self.prefill += first - work.start;
        self.decode += decode + work.guessed;
        self.guessed += work.guessed;
        let part = |start, end, rows| Load::default().with(start, end - start, rows);
        let prompt_rows = rows.scored + if decode == 0 { rows.samples } else { 0 };
        let loads = [
            part(again, first, prompt_rows),
            part(work.start, again, 0),
            part(first, end, decode),
            part(end, end + work.guessed, work.guessed),
        ];
        // The sequence's keys and values are read once for all of its columns.
        let each_reach = (end + work.guessed) as f64 / work.columns.max(1) as f64;
        for (weight, load) in self.weights.iter_mut().zip(&loads) {
            *weight += prices.of(load, each_reach * load.columns as f64);
        }
    }

    /// In the order of [`inference::Purpose`]; guesses that came are tokens made.
    fn by_purpose(&self, accepted: u64) -> [f64; 4] {
        let [prefill, again, decode, guesses] = self.weights;
        let came = if self.guessed == 0 { 0.0 } else { (accepted - self.accepted) as f64 / self.guessed as f64 };
        [prefill, decode + guesses * came, guesses * (1.0 - came), again]
    }
}

impl Core {
    /// Adds the step's columns to the requests and the plant's counters, and the time until its forward pass was done to
    /// what requests waited for it. Gives what it did for each request, and what kind of work it was.
    pub(super) fn measure(&mut self, rows: &[Rows], start: u64, step_ns: u64) -> (BTreeMap<u64, Part>, StepClass) {
        let requests = &mut self.requests;
        let load = load(rows);
        let prices = self.cost.prices(&load);
        let mut parts: BTreeMap<u64, Part> = BTreeMap::new();
        for rows in rows {
            let Some(sequence) = self.scheduler.running().get(&rows.work.rank) else { continue };
            parts.entry(rows.work.rank.arrival).or_default().add(rows, sequence, &prices);
        }
        let (mut prefill_columns, mut decode_columns, mut guessed_columns) = (0, 0, 0);
        for (arrival, part) in &mut parts {
            let [prefill, decode, guessed] = [part.prefill, part.decode, part.guessed].map(count);
            prefill_columns += prefill;
            decode_columns += decode;
            guessed_columns += guessed;
            if let Some(output) = requests.get_mut(arrival) {
                part.accepted = output.accepted();
                output.count_columns((prefill, decode), start, step_ns);
                output.count_guessed(guessed);
                self.turns.charge(output.client, decode);
            }
        }
        let named: BTreeSet<u64> = requests.values().filter_map(|output| output.client).collect();
        let unnamed = requests.values().filter(|output| output.client.is_none()).count();
        self.turns.advance(prefill_columns + decode_columns, count(named.len() + unnamed));
        let end = start + step_ns;
        let held_ns = end.saturating_sub(self.charged_ns);
        self.charged_ns = end;
        let block_ns = self.scheduler.charge_blocks(held_ns, |rank, ns| {
            if let Some(output) = requests.get_mut(&rank.arrival) {
                output.count_block_ns(ns);
            }
        });
        stats::add(&self.shared.stats.kv_block_ns, block_ns);
        if prefill_columns + decode_columns > 0 {
            stats::add(&self.shared.stats.steps, 1);
            stats::add(&self.shared.stats.prefill_columns, prefill_columns);
            stats::add(&self.shared.stats.decode_columns, decode_columns);
            stats::add(&self.shared.stats.guessed_columns, guessed_columns);
        }
        (parts, class(&load, usize::try_from(prefill_columns).unwrap_or(usize::MAX), guessed_columns))
    }

    /// Compares the time of a step, what a draft model took left out, with what was predicted of it, and learns from it.
    pub(super) fn learn(&mut self, rows: &[Rows], class: StepClass, ns: u64) {
        let load = load(rows);
        if load.columns == 0 {
            return;
        }
        if self.cost.is_measured() {
            self.shared.stats.predicted(class, self.cost.model_ns(&load), ns);
        }
        if let Some(log) = &self.step_log {
            log.push(StepSample::new(class, &load, ns));
        }
        self.cost.observe(&load, ns);
        self.shared.stats.set_terms(self.cost.terms());
    }

    /// Shares the whole time of a step over the requests it worked for, by what their columns add to a step as measured.
    /// Of a request that ended in it too: its last event has not left yet.
    pub(super) fn share(&mut self, parts: BTreeMap<u64, Part>, start_ns: u64, step_ns: u64) {
        let mut weights = Vec::with_capacity(parts.len());
        for (arrival, part) in &parts {
            let accepted = self.output(*arrival).map_or(part.accepted, |output| output.accepted());
            weights.extend(part.by_purpose(accepted));
        }
        let mut shares = Vec::with_capacity(parts.len());
        for (arrival, ns) in parts.keys().zip(split(step_ns, &weights).as_chunks().0) {
            let time = MachineTime(*ns);
            if let Some(output) = self.output(*arrival) {
                output.count_machine_time(&time);
                shares.push((output.id(), time));
            }
        }
        if !parts.is_empty() {
            self.shared.work.end(StepWork { start_ns, end_ns: start_ns + step_ns, shares });
        }
    }

    /// A request that the engine has, or that ended in this step.
    fn output(&mut self, arrival: u64) -> Option<&mut Output> {
        let mut ended = self.ended.iter_mut().map(|(output, _)| output);
        self.requests.get_mut(&arrival).or_else(|| ended.find(|output| output.arrival == arrival))
    }
}
