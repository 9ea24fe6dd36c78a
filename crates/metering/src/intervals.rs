//! Who used the plant in an interval: machine time of the engines' steps, cut at the interval's ends.
//!
//! An engine says of a step only once it has ended who it worked for. The part of a step that lies before an interval's end
//! is that of the step under way, and belongs to those the step turns out to work for.

use std::collections::HashMap;

/// Number of purposes that machine time is told apart by (the engine's own).
pub const PURPOSES: usize = 4;

/// Nanoseconds by purpose.
pub type Purposes = [u64; PURPOSES];

/// A request: the number of its line in the plant, and the one under which the line's engine knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Holder {
    /// The line.
    pub line: u64,
    /// The request.
    pub request: u64,
}

/// One step that has ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// When it began, in nanoseconds of the engine's clock.
    pub start_ns: u64,
    /// When it ended.
    pub end_ns: u64,
    /// The number of each request and its share; they add up to the step's length.
    pub shares: Vec<(u64, Purposes)>,
}

/// What a line's engine did since it was last asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LineWork {
    /// The line.
    pub line: u64,
    /// The engine's clock, in nanoseconds.
    pub now_ns: u64,
    /// When the step that is under way began.
    pub step_since_ns: Option<u64>,
    /// The first step that ended.
    pub first: Option<Step>,
    /// The shares of those after it, together.
    pub others: Vec<(u64, Purposes)>,
}

/// Who took a share of an interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Taker {
    /// A request, for a purpose.
    Request(Holder, usize),
    /// The step of a line that was under way at the interval's end.
    UnderWay(u64),
}

/// What became of a step that was under way at the end of an earlier interval.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The line.
    pub line: u64,
    /// Who it worked for, and for how long; empty: for nobody.
    pub takers: Vec<(Holder, usize, u64)>,
}

/// How an interval was used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Who was busy in it, and for how many nanoseconds.
    pub busy: Vec<(Taker, u64)>,
    /// Steps of earlier intervals that have ended in this one.
    pub ended: Vec<Ended>,
}

impl Usage {
    /// All busy time.
    #[must_use]
    pub fn busy_ns(&self) -> u64 {
        self.busy.iter().fold(0, |sum, (_, ns)| sum.saturating_add(*ns))
    }
}

/// Cuts the work of lines into intervals.
#[derive(Debug, Default)]
pub struct Intervals {
    lines: HashMap<u64, Line>,
}

/// Where a line stood at the end of the last interval.
#[derive(Clone, Copy, Debug, Default)]
struct Line {
    asked_ns: u64,
    /// A step was under way then.
    under_way: bool,
}

impl Intervals {
    /// Closes an interval: all that the lines did since the one before. A line that is not among them was at rest; the first
    /// time it is asked, what it did before is not told.
    #[must_use]
    pub fn close(&mut self, lines: Vec<LineWork>) -> Usage {
        let mut usage = Usage::default();
        for work in lines {
            let line = work.line;
            let before = self.lines.insert(line, Line { asked_ns: work.now_ns, under_way: false }).unwrap_or_default();
            let under_way = take(&mut usage, before, work);
            if let Some(line) = self.lines.get_mut(&line) {
                line.under_way = under_way;
            }
        }
        usage
    }

    /// Forgets a line whose last work is closed. A step that was under way worked for nobody then.
    #[must_use]
    pub fn forget(&mut self, line: u64) -> Option<Ended> {
        let gone = self.lines.remove(&line)?;
        gone.under_way.then(|| Ended { line, takers: Vec::new() })
    }
}

/// Adds what one line did; gives whether its step under way began before the interval's end.
fn take(usage: &mut Usage, before: Line, work: LineWork) -> bool {
    let line = work.line;
    let holder = |request| Holder { line, request };
    let mut still_under_way = false;
    if let Some(step) = work.first {
        let carried = before.asked_ns.clamp(step.start_ns, step.end_ns) - step.start_ns;
        let length = step.end_ns - step.start_ns;
        let parts = step.shares.iter().flat_map(|(request, purposes)| {
            purposes.iter().enumerate().filter(|(_, ns)| **ns > 0).map(|(purpose, ns)| (holder(*request), purpose, *ns))
        });
        let mut takers: Vec<(Holder, usize, u64)> = parts.collect();
        if before.under_way {
            let ended = Ended { line, takers: if carried > 0 { takers.clone() } else { Vec::new() } };
            usage.ended.push(ended);
        }
        // What lies in this interval; the borders between the parts are rounded down, so that they add up.
        let (mut sum, mut passed) = (0_u64, 0_u64);
        for (_, _, ns) in &mut takers {
            sum += *ns;
            let border = scaled(sum, length - carried, length);
            *ns = border - std::mem::replace(&mut passed, border);
        }
        usage.busy.extend(takers.into_iter().map(|(holder, purpose, ns)| (Taker::Request(holder, purpose), ns)));
    } else if before.under_way {
        // The very step, still under way, or one that came to nothing.
        still_under_way = work.step_since_ns.is_some_and(|since| since < before.asked_ns);
        if !still_under_way {
            usage.ended.push(Ended { line, takers: Vec::new() });
        }
    }
    for (request, purposes) in work.others {
        let busy = purposes.iter().enumerate().filter(|(_, ns)| **ns > 0);
        usage.busy.extend(busy.map(|(purpose, ns)| (Taker::Request(holder(request), purpose), *ns)));
    }
    let open = work.step_since_ns.map(|since| work.now_ns.saturating_sub(since.max(before.asked_ns))).unwrap_or(0);
    if open > 0 {
        usage.busy.push((Taker::UnderWay(line), open));
    }
    still_under_way || open > 0
}

/// `value * part / whole`, rounded down.
fn scaled(value: u64, part: u64, whole: u64) -> u64 {
    if whole == 0 {
        return 0;
    }
    u64::try_from(u128::from(value) * u128::from(part) / u128::from(whole)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(start_ns: u64, end_ns: u64, shares: &[(u64, Purposes)]) -> Option<Step> {
        Some(Step { start_ns, end_ns, shares: shares.to_vec() })
    }

    fn request(request: u64, purpose: usize) -> Taker {
        Taker::Request(Holder { line: 1, request }, purpose)
    }

    #[test]
    fn a_step_over_the_border_belongs_to_both_intervals() {
        let mut intervals = Intervals::default();
        let at = |now_ns| LineWork { line: 1, now_ns, ..LineWork::default() };
        assert_eq!(intervals.close(vec![at(100)]), Usage::default());
        let usage = intervals.close(vec![LineWork {
            step_since_ns: Some(170),
            first: step(110, 130, &[(7, [20, 0, 0, 0])]),
            others: vec![(7, [0, 30, 0, 0])],
            ..at(200)
        }]);
        let expected = [(request(7, 0), 20), (request(7, 1), 30), (Taker::UnderWay(1), 30)];
        assert_eq!((usage.busy.as_slice(), usage.ended.len()), (expected.as_slice(), 0));
        // A whole interval within the step.
        let usage = intervals.close(vec![LineWork { step_since_ns: Some(170), ..at(300) }]);
        assert_eq!((usage.busy.as_slice(), usage.ended.len()), ([(Taker::UnderWay(1), 100)].as_slice(), 0));
        let shares = [(7, [0, 100, 0, 0]), (8, [50, 0, 10, 0])];
        let usage = intervals.close(vec![LineWork { first: step(170, 330, &shares), ..at(400) }]);
        assert_eq!(usage.busy, [(request(7, 1), 18), (request(8, 0), 10), (request(8, 2), 2)]);
        assert_eq!(usage.busy_ns(), 30);
        let holder = |request| Holder { line: 1, request };
        assert_eq!(
            usage.ended,
            [Ended { line: 1, takers: vec![(holder(7), 1, 100), (holder(8), 0, 50), (holder(8), 2, 10),] }]
        );
    }

    #[test]
    fn a_step_that_comes_to_nothing_worked_for_nobody() {
        let mut intervals = Intervals::default();
        let at = |now_ns| LineWork { line: 1, now_ns, ..LineWork::default() };
        let nobody = [Ended { line: 1, takers: Vec::new() }];
        let _ = intervals.close(vec![LineWork { step_since_ns: Some(50), ..at(100) }]);
        assert_eq!(intervals.close(vec![at(200)]).ended, nobody);
        assert_eq!(intervals.close(vec![at(300)]), Usage::default());
        let _ = intervals.close(vec![LineWork { step_since_ns: Some(350), ..at(400) }]);
        let usage = intervals.close(vec![LineWork { first: step(450, 460, &[(1, [10, 0, 0, 0])]), ..at(500) }]);
        assert_eq!((usage.ended.as_slice(), usage.busy_ns()), (nobody.as_slice(), 10));
        let _ = intervals.close(vec![LineWork { step_since_ns: Some(550), ..at(600) }]);
        assert_eq!(intervals.forget(1), Some(nobody[0].clone()));
        assert_eq!(intervals.forget(1), None);
    }

    /// Steps at random: each interval's busy time is what lies in it, and all of a request's shares come to it.
    #[test]
    fn nothing_is_lost_at_borders() {
        let mut state = 9_u64;
        let mut random = move |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        // Steps one after another with rests, told in intervals of 100.
        let (mut steps, mut at) = (Vec::new(), 0);
        while at < 10_000 {
            let (start, length) = (at + random(30), 1 + random(350));
            let cut = random(length + 1);
            steps.push(Step {
                start_ns: start,
                end_ns: start + length,
                shares: vec![(random(3), [cut, 0, 0, 0]), (3, [0, length - cut, 0, 0])],
            });
            at = start + length;
        }
        let mut intervals = Intervals::default();
        let (mut told, mut by_request, mut under_way) = (0, HashMap::<u64, u64>::new(), 0);
        for now_ns in (100..at + 200).step_by(100) {
            let ended = |step: &&Step| step.end_ns <= now_ns;
            let mut new = steps.iter().skip(told).take_while(ended).cloned();
            let first = new.next();
            let others: Vec<_> = new.flat_map(|step| step.shares).collect();
            told = steps.iter().take_while(ended).count();
            let open = steps.get(told).filter(|step| step.start_ns < now_ns).map(|step| step.start_ns);
            let usage = intervals.close(vec![LineWork { line: 1, now_ns, step_since_ns: open, first, others }]);
            let within = |step: &Step| step.end_ns.min(now_ns).saturating_sub(step.start_ns.max(now_ns - 100));
            assert_eq!(usage.busy_ns(), steps.iter().map(within).sum::<u64>(), "until {now_ns}");
            for ended in usage.ended {
                let whole: u64 = ended.takers.iter().map(|(_, _, ns)| ns).sum();
                let carried = std::mem::take(&mut under_way);
                for (holder, _, ns) in ended.takers {
                    *by_request.entry(holder.request).or_default() += scaled(ns, carried, whole);
                }
            }
            for (taker, ns) in usage.busy {
                match taker {
                    Taker::Request(holder, _) => *by_request.entry(holder.request).or_default() += ns,
                    Taker::UnderWay(_) => under_way += ns,
                }
            }
        }
        for request in 0..4 {
            let whole = |step: &Step| {
                step.shares.iter().filter(|(own, _)| *own == request).map(|(_, ns)| ns.iter().sum::<u64>()).sum::<u64>()
            };
            let expected: u64 = steps.iter().map(whole).sum();
            let got = by_request.get(&request).copied().unwrap_or(0);
            assert!(got.abs_diff(expected) <= 2 * steps.len() as u64 && expected > 0, "{request}: {got} of {expected}");
        }
    }
}
