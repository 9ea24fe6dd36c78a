//! The report as Markdown: tables, plots, and everything that is needed to repeat it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::results::{Line, Plot, median};
use super::rows::{Goal, Row};
use super::session::Side;

/// What the report says besides figures.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    pub(super) machine: Vec<String>,
    pub(super) versions: Vec<String>,
    pub(super) models: Vec<String>,
    /// Settings the peers were run with.
    pub(super) tunings: Vec<String>,
    pub(super) commands: BTreeMap<(Row, String, Side), String>,
    pub(super) buffers: Vec<String>,
    pub(super) rounds: u32,
    pub(super) rounds_done: u32,
    pub(super) threads: u32,
}

/// The whole report. `with_ik` adds the columns of ik_llama.cpp.
pub(super) fn markdown(facts: &Facts, lines: &[Line], plots: &[Plot], with_ik: bool) -> String {
    let mut text = String::from("# Side by side\n\n");
    let _ = writeln!(
        text,
        "{} of {} rounds, {} compute threads, KV F16; in each round every row is measured once on each side, in turn. \
         Figures are medians; a ratio is tokenworks over the peer.\n",
        facts.rounds_done, facts.rounds, facts.threads
    );
    table(&mut text, lines, with_ik);
    failures(&mut text, lines, plots);
    if !plots.is_empty() {
        text.push_str("\n## Growth\n");
        for plot in plots {
            curve(&mut text, plot);
        }
    }
    list(&mut text, "Machine", &facts.machine);
    list(&mut text, "Versions", &facts.versions);
    list(&mut text, "Models", &facts.models);
    list(&mut text, "Peers' best settings, found before the first round", &facts.tunings);
    list(&mut text, "Where llama.cpp put the weights", &facts.buffers);
    text.push_str("\n## Commands\n\n");
    for ((row, model, side), command) in &facts.commands {
        let _ = writeln!(text, "- {row:?}, {model}, {}: `{command}`", side.name());
    }
    text
}

fn table(text: &mut String, lines: &[Line], with_ik: bool) {
    let ik = if with_ik { " ik_llama.cpp | ratio |" } else { "" };
    let _ = writeln!(
        text,
        "| model | work | unit | tokenworks | llama.cpp | ratio |{ik} target | met | stretch | met | share of limit |"
    );
    let _ = writeln!(text, "|---|---|---|---|---|---|{}---|---|---|---|---|", if with_ik { "---|---|" } else { "" });
    for line in lines {
        let ratio = |side| line.ratio(side).map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"));
        let _ = write!(
            text,
            "| {} | {} | {} | {} | {} | {} |",
            line.model,
            line.metric.name,
            line.metric.unit.name(),
            cell(line, Side::Tokenworks),
            cell(line, Side::LlamaCpp),
            ratio(Side::LlamaCpp)
        );
        if with_ik {
            let _ = write!(text, " {} | {} |", cell(line, Side::IkLlamaCpp), ratio(Side::IkLlamaCpp));
        }
        let share = median(&line.shares).map_or_else(String::new, |share| format!("{:.0} %", 100.0 * share));
        let (target, stretch) = (line.metric.target, line.metric.stretch);
        let _ = writeln!(
            text,
            " {} | {} | {} | {} | {share} |",
            goal(line, target),
            met(line, target),
            goal(line, stretch),
            met(line, stretch)
        );
    }
}

/// Median and range of a side.
fn cell(line: &Line, side: Side) -> String {
    let values = &line.values[side.index()];
    let Some(middle) = median(values) else {
        return if line.failures[side.index()].is_some() { "failed".to_owned() } else { "-".to_owned() };
    };
    let show = |value: f64| if value < 10.0 { format!("{value:.2}") } else { format!("{value:.0}") };
    let lowest = values.iter().copied().fold(f64::INFINITY, f64::min);
    let highest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if values.len() > 1 { format!("{} ({} to {})", show(middle), show(lowest), show(highest)) } else { show(middle) }
}

fn goal(line: &Line, goal: Option<Goal>) -> String {
    let unit = line.metric.unit;
    match goal {
        None => String::new(),
        Some(Goal::Ratio(ratio)) if unit.more_is_better() => format!("≥ {ratio:.1}x"),
        Some(Goal::Ratio(ratio)) => format!("≤ {ratio:.2}x"),
        Some(Goal::AtMost(most)) => format!("≤ {most} {}", unit.name()),
    }
}

fn met(line: &Line, goal: Option<Goal>) -> &'static str {
    match (goal, line.meets(goal)) {
        (None, _) => "",
        (_, None) => "?",
        (_, Some(true)) => "yes",
        (_, Some(false)) => "no",
    }
}

fn failures(text: &mut String, lines: &[Line], plots: &[Plot]) {
    let mut told = Vec::new();
    let of_lines = lines.iter().flat_map(|line| {
        let sides = super::session::SIDES.iter().zip(&line.failures);
        sides.filter_map(|(side, failure)| Some((format!("{:?}, {}", line.row, line.model), *side, failure.as_ref()?)))
    });
    let of_plots = plots.iter().flat_map(|plot| {
        plot.series.iter().filter_map(|one| Some((format!("{:?}", plot.row), one.side, one.failure.as_ref()?)))
    });
    for (what, side, failure) in of_lines.chain(of_plots) {
        let line = format!("{what}, {}: {failure}", side.name());
        if !told.contains(&line) {
            told.push(line);
        }
    }
    list(text, "What could not be measured", &told);
}

fn curve(text: &mut String, plot: &Plot) {
    let _ = writeln!(text, "\n![{}]({})\n", plot.title, file_name(plot.row));
    let sides: Vec<&str> = plot.series.iter().map(|series| series.side.name()).collect();
    let _ = writeln!(text, "| {} | {} |", plot.x, sides.join(" | "));
    let _ = writeln!(text, "|---|{}", "---|".repeat(sides.len()));
    let mut positions: Vec<f64> = plot.series.iter().flat_map(|s| s.points.iter().map(|p| p.0)).collect();
    positions.sort_by(f64::total_cmp);
    positions.dedup();
    for position in positions {
        let cells: Vec<String> = plot
            .series
            .iter()
            .map(|series| {
                let point = series.points.iter().find(|point| point.0.total_cmp(&position).is_eq());
                point.map_or_else(|| "-".to_owned(), |point| format!("{:.1}", point.1))
            })
            .collect();
        let _ = writeln!(text, "| {position} | {} |", cells.join(" | "));
    }
}

/// Name of a curve's file.
pub(super) fn file_name(row: Row) -> &'static str {
    match row {
        Row::CurvePrefill => "prefill.svg",
        Row::CurveContext => "context.svg",
        Row::CurveSequences => "sequences.svg",
        _ => "prefix.svg",
    }
}

fn list(text: &mut String, title: &str, items: &[String]) {
    if items.is_empty() {
        return;
    }
    let _ = writeln!(text, "\n## {title}\n");
    for item in items {
        let _ = writeln!(text, "- {item}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::results::Series;

    #[test]
    fn the_report_says_ratio_target_and_what_failed() {
        let mut fast = Line::new(Row::Prefill, "Q4_1", Row::Prefill.metrics("Q4_1")[0]);
        fast.values = [vec![290.0, 310.0, 300.0], vec![100.0], vec![]];
        fast.shares = vec![0.123];
        let mut gap = Line::new(Row::Gap, "Q4_1", Row::Gap.metrics("Q4_1")[0]);
        gap.values[0] = vec![200.0];
        gap.failures[1] = Some("llama-server: signal: 11".to_owned());
        let series = Series { side: Side::Tokenworks, points: vec![(128.0, 5.0)], failure: None };
        let plot = Plot {
            row: Row::CurveContext,
            title: "t".to_owned(),
            x: "tokens",
            y: "tok/s",
            logarithmic: true,
            series: vec![series],
        };
        let facts = Facts { rounds: 5, rounds_done: 5, threads: 2, ..Facts::default() };
        let text = markdown(&facts, &[fast, gap], &[plot], false);
        for part in [
            "| Q4_1 | prefill of 512 | tok/s | 300 (290 to 310) | 100 | 3.00 | ≥ 2.8x | yes | ≥ 3.4x | no | 12 % |",
            "| ms | 200 | failed | - | ≤ 150 ms | no | ≤ 80 ms | no |  |",
            "- Gap, Q4_1, llama.cpp: llama-server: signal: 11",
            "![t](context.svg)",
            "| 128 | 5.0 |",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
    }
}
