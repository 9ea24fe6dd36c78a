//! Line plots as SVG, drawn by hand: axes, a few ticks, one line with dots for each series.

use std::fmt::Write as _;

use super::results::{Plot, Series};

const WIDTH: f64 = 680.0;
const HEIGHT: f64 = 400.0;
const LEFT: f64 = 72.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 44.0;
const BOTTOM: f64 = 56.0;
/// One colour a side, told apart by people who see few colours, too.
const COLOURS: [&str; 3] = ["#0072b2", "#d55e00", "#009e73"];

impl Plot {
    /// The plot as one SVG file; `None` when there is nothing to draw.
    pub(super) fn svg(&self) -> Option<String> {
        let points = || self.series.iter().flat_map(|series| series.points.iter());
        let along = |x: f64| if self.logarithmic { x.max(1.0).log2() } else { x };
        let first = points().map(|p| along(p.0)).reduce(f64::min)?;
        let last = points().map(|p| along(p.0)).reduce(f64::max)?.max(first + 1e-9);
        let top = nice(points().map(|p| p.1).fold(1e-9, f64::max));
        let at_x = |x: f64| LEFT + (along(x) - first) / (last - first) * (WIDTH - LEFT - RIGHT);
        let at_y = |y: f64| HEIGHT - BOTTOM - y / top * (HEIGHT - TOP - BOTTOM);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
             font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n"
        );
        text(&mut svg, (WIDTH / 2.0, 18.0), "middle", &self.title);
        text(&mut svg, (WIDTH / 2.0, HEIGHT - 10.0), "middle", self.x);
        text(&mut svg, (LEFT - 8.0, TOP - 10.0), "end", self.y);
        for step in 0..=4 {
            let value = top * f64::from(step) / 4.0;
            let y = at_y(value);
            let _ = writeln!(
                svg,
                "<line x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{:.1}\" y2=\"{y:.1}\" stroke=\"#ddd\"/>",
                WIDTH - RIGHT
            );
            text(&mut svg, (LEFT - 8.0, y + 4.0), "end", &short(value));
        }
        for x in ticks(points().map(|p| p.0)) {
            text(&mut svg, (at_x(x), HEIGHT - BOTTOM + 18.0), "middle", &short(x));
        }
        for (index, series) in self.series.iter().enumerate() {
            draw(&mut svg, series, index, &|x, y| (at_x(x), at_y(y)));
        }
        svg.push_str("</svg>\n");
        Some(svg)
    }
}

fn draw(svg: &mut String, series: &Series, index: usize, at: &dyn Fn(f64, f64) -> (f64, f64)) {
    let colour = COLOURS[index % COLOURS.len()];
    let places: Vec<(f64, f64)> = series.points.iter().map(|(x, y)| at(*x, *y)).collect();
    let path: Vec<String> = places.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    let _ =
        writeln!(svg, "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>", path.join(" "));
    for (x, y) in places {
        let _ = writeln!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>");
    }
    #[expect(clippy::cast_precision_loss, reason = "a handful of series")]
    let x = LEFT + 12.0 + index as f64 * 130.0;
    let _ = writeln!(svg, "<rect x=\"{x:.1}\" y=\"{:.1}\" width=\"10\" height=\"10\" fill=\"{colour}\"/>", TOP - 19.0);
    text(svg, (x + 15.0, TOP - 10.0), "start", series.side.name());
}

fn text(svg: &mut String, (x, y): (f64, f64), anchor: &str, what: &str) {
    let escaped = what.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{escaped}</text>");
}

/// The different positions, in order.
fn ticks(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut all: Vec<f64> = values.collect();
    all.sort_by(f64::total_cmp);
    all.dedup();
    all
}

/// The next of 1, 2, 4, 5 or 8 times a power of ten.
fn nice(value: f64) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    let steps = [1.0, 2.0, 4.0, 5.0, 8.0];
    steps.into_iter().map(|step| step * power).find(|nice| *nice >= value).unwrap_or(10.0 * power)
}

fn short(value: f64) -> String {
    if value >= 10.0 || value == 0.0 || value.fract() == 0.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::rows::Row;
    use crate::compare::session::Side;

    #[test]
    fn a_plot_is_drawn_to_its_edges() {
        let series = |side, points: &[(f64, f64)]| Series { side, points: points.to_vec(), failure: None };
        let mut plot = Plot {
            row: Row::CurveContext,
            title: "decode < context".to_owned(),
            x: "tokens",
            y: "tok/s",
            logarithmic: true,
            series: vec![
                series(Side::Tokenworks, &[(128.0, 160.0), (8192.0, 80.0)]),
                series(Side::LlamaCpp, &[(128.0, 100.0)]),
            ],
        };
        let svg = plot.svg().unwrap();
        assert!(svg.contains("decode &lt; context") && svg.contains("llama.cpp"), "{svg}");
        // 200 is the top of the scale: 160 stands at four fifths of 300 pixels above the axis at 344.
        assert!(svg.contains("points=\"72.0,104.0 656.0,224.0\""), "{svg}");
        assert_eq!(svg.matches("<circle").count(), 3);
        plot.series.clear();
        assert_eq!(plot.svg(), None);
    }

    #[test]
    fn scales_end_at_round_numbers() {
        assert_eq!([0.7, 1.0, 130.0, 410.0, 900.0].map(nice), [0.8, 1.0, 200.0, 500.0, 1000.0]);
    }
}
