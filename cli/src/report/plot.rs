//! Plots as SVG text: lines over two axes, each linear or logarithmic, every
//! line named at its end.

use std::fmt::Write;

use super::{bytes, count, nanos};

/// What the numbers of an axis are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Counts.
    Count,
    /// Bytes.
    Bytes,
    /// Nanoseconds.
    Nanos,
    /// Parts of a hundred.
    Percent,
}

/// How an axis runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scale {
    /// In even steps, from zero.
    Linear,
    /// In powers of ten, of sixteen for bytes. What is not above zero does not show.
    Log,
}

/// One axis.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Axis {
    /// What it shows.
    pub(crate) name: &'static str,
    /// In what.
    pub(crate) unit: Unit,
    /// How it runs.
    pub(crate) scale: Scale,
}

/// One line: a name, a colour by number, and points from left to right.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    /// Shown at its end.
    pub(crate) name: String,
    /// Which of the page's colours `--line-0` to `--line-5`.
    pub(crate) colour: usize,
    /// Where it goes.
    pub(crate) points: Vec<(f64, f64)>,
}

/// A drawing of lines.
#[derive(Clone, Debug)]
pub(crate) struct Plot {
    /// What it shows, for those who cannot see it.
    pub(crate) title: String,
    /// From left to right.
    pub(crate) x: Axis,
    /// From the bottom up.
    pub(crate) y: Axis,
    /// The lines.
    pub(crate) lines: Vec<Line>,
}

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 360.0;
const LEFT: f64 = 76.0;
const RIGHT: f64 = 176.0;
const TOP: f64 = 16.0;
const BOTTOM: f64 = 48.0;

/// Pixels between two names.
const NAME_STEP: f64 = 15.0;

impl Plot {
    /// Draws it. Text for a page that has the colours; O(points).
    #[must_use]
    pub(crate) fn svg(&self) -> String {
        let x = Range::over(self.x, self.points().map(|point| point.0));
        let y = Range::over(self.y, self.points().map(|point| point.1));
        let at = |(px, py): (f64, f64)| {
            (
                LEFT + x.part(px) * (WIDTH - LEFT - RIGHT),
                HEIGHT - BOTTOM - y.part(py) * (HEIGHT - TOP - BOTTOM),
            )
        };
        let mut out = format!(
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">\n",
            escape(&self.title)
        );
        self.grid(&mut out, &x, &y);
        let mut ends = Vec::new();
        for line in &self.lines {
            let shown: Vec<_> = self.shown(line).map(at).collect();
            draw(&mut out, line.colour, &shown);
            ends.extend(shown.last().map(|end| (end.1, line)));
        }
        names(&mut out, ends);
        out.push_str("</svg>\n");
        out
    }

    /// A line's points that the scales have a place for.
    fn shown<'a>(&'a self, line: &'a Line) -> impl Iterator<Item = (f64, f64)> + 'a {
        let fits = |scale, value: f64| scale == Scale::Linear || value > 0.0;
        let points = line.points.iter().copied();
        points.filter(move |(x, y)| fits(self.x.scale, *x) && fits(self.y.scale, *y))
    }

    fn points(&self) -> impl Iterator<Item = (f64, f64)> + '_ {
        self.lines.iter().flat_map(|line| self.shown(line))
    }

    fn grid(&self, out: &mut String, x: &Range, y: &Range) {
        let (right, base) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        for tick in y.ticks() {
            let at = base - y.part(tick) * (base - TOP);
            let text = self.y.unit.show(tick);
            put(
                out,
                format_args!(
                    "<path class=\"grid\" d=\"M{LEFT} {at:.1}H{right}\"/><text class=\"tick\" x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{text}</text>\n",
                    LEFT - 8.0,
                    at + 4.0
                ),
            );
        }
        for tick in x.ticks() {
            let at = LEFT + x.part(tick) * (right - LEFT);
            let text = self.x.unit.show(tick);
            put(
                out,
                format_args!(
                    "<path class=\"grid\" d=\"M{at:.1} {TOP}V{base}\"/><text class=\"tick\" x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{text}</text>\n",
                    base + 18.0
                ),
            );
        }
        put(
            out,
            format_args!(
                "<text class=\"axis\" x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n",
                f64::midpoint(LEFT, right),
                HEIGHT - 8.0,
                escape(self.x.name)
            ),
        );
        put(
            out,
            format_args!(
                "<text class=\"axis\" transform=\"translate(14 {})rotate(-90)\" text-anchor=\"middle\">{}</text>\n",
                f64::midpoint(TOP, base),
                escape(self.y.name)
            ),
        );
    }
}

fn draw(out: &mut String, colour: usize, points: &[(f64, f64)]) {
    let mut path = String::new();
    for (x, y) in points {
        let step = if path.is_empty() { 'M' } else { 'L' };
        put(&mut path, format_args!("{step}{x:.1} {y:.1}"));
    }
    put(
        out,
        format_args!("<path class=\"line\" style=\"stroke:var(--line-{colour})\" d=\"{path}\"/>\n"),
    );
    // Dots where there are few points, or a single one would not show.
    if points.len() <= 24 {
        for (x, y) in points {
            put(
                out,
                format_args!(
                    "<circle class=\"dot\" style=\"fill:var(--line-{colour})\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\"/>\n"
                ),
            );
        }
    }
}

/// Names the lines at their ends, pushed apart where they would overlap.
fn names(out: &mut String, mut ends: Vec<(f64, &Line)>) {
    ends.sort_by(|one, two| one.0.total_cmp(&two.0));
    let below = ends.len() as f64 * NAME_STEP;
    let mut free = TOP;
    for (at, (wanted, line)) in ends.iter().enumerate() {
        // Those to come need room down to the axis.
        let last = HEIGHT - BOTTOM - below + at as f64 * NAME_STEP;
        let y = wanted.min(last).max(free);
        free = y + NAME_STEP;
        put(
            out,
            format_args!(
                "<text class=\"name\" style=\"fill:var(--line-{})\" x=\"{}\" y=\"{:.1}\">{}</text>\n",
                line.colour,
                WIDTH - RIGHT + 10.0,
                y + 4.0,
                escape(&line.name)
            ),
        );
    }
}

/// The part of an axis that is shown.
struct Range {
    scale: Scale,
    /// Of a logarithmic axis: a step.
    base: f64,
    low: f64,
    high: f64,
}

impl Range {
    fn over(axis: Axis, values: impl Iterator<Item = f64>) -> Self {
        let scale = axis.scale;
        let base = axis.unit.step();
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values {
            (low, high) = (low.min(value), high.max(value));
        }
        if low > high {
            (low, high) = (1.0, 10.0);
        }
        match scale {
            Scale::Linear => Self {
                scale,
                base,
                low: 0.0,
                high: if high > 0.0 { high } else { 1.0 },
            },
            Scale::Log => {
                let low = low.log(base).floor();
                Self {
                    scale,
                    base,
                    low,
                    high: high.log(base).ceil().max(low + 1.0),
                }
            }
        }
    }

    /// Where a value lies, from 0 to 1.
    fn part(&self, value: f64) -> f64 {
        let value = match self.scale {
            Scale::Linear => value,
            Scale::Log => value.log(self.base),
        };
        (value - self.low) / (self.high - self.low)
    }

    fn ticks(&self) -> Vec<f64> {
        match self.scale {
            Scale::Log => {
                // At most about ten of them.
                let step = ((self.high - self.low) / 8.0).ceil().max(1.0);
                steps(self.low, self.high, step)
                    .map(|power| self.base.powf(power))
                    .collect()
            }
            Scale::Linear => steps(0.0, self.high, round_step(self.high / 5.0)).collect(),
        }
    }
}

fn steps(low: f64, high: f64, step: f64) -> impl Iterator<Item = f64> {
    std::iter::successors(Some(low), move |at| Some(at + step))
        .take_while(move |at| *at <= high + step * 1e-9)
}

/// The smallest of 1, 2, 5, 10, 20, ... that is not below `least`.
fn round_step(least: f64) -> f64 {
    let power = 10_f64.powf(least.max(1e-9).log10().floor());
    let factors = [1.0, 2.0, 5.0, 10.0];
    let fits = factors
        .iter()
        .find(|factor| **factor * power >= least * 0.999);
    fits.copied().unwrap_or(10.0) * power
}

impl Unit {
    /// The step of a logarithmic axis, so that its labels are short.
    fn step(self) -> f64 {
        match self {
            Self::Bytes => 16.0,
            Self::Count | Self::Nanos | Self::Percent => 10.0,
        }
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a label shows three digits of a number that is not negative"
    )]
    fn show(self, value: f64) -> String {
        let whole = value.round() as u64;
        match self {
            Self::Count => count(whole),
            Self::Bytes => short(&bytes(whole)),
            Self::Nanos => short(&nanos(whole)),
            Self::Percent => format!("{whole} %"),
        }
    }
}

/// Leaves away the zeros of a round number: `1.00 us` is `1 us`.
fn short(text: &str) -> String {
    match text.split_once(' ') {
        Some((number, unit)) if number.contains('.') => {
            let number = number.trim_end_matches('0').trim_end_matches('.');
            format!("{number} {unit}")
        }
        _ => text.to_owned(),
    }
}

/// Makes text safe between tags and in attributes.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c => out.push(c),
        }
    }
    out
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    // A String takes everything.
    let _: std::fmt::Result = out.write_fmt(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(scale: Scale, points: Vec<(f64, f64)>) -> Plot {
        let axis = Axis {
            name: "a < b",
            unit: Unit::Nanos,
            scale,
        };
        Plot {
            title: "\"t\" & u".to_owned(),
            x: axis,
            y: axis,
            lines: vec![Line {
                name: "<way>".to_owned(),
                colour: 2,
                points,
            }],
        }
    }

    #[test]
    fn every_number_has_a_place_on_the_sheet() {
        for scale in [Scale::Linear, Scale::Log] {
            for points in [
                vec![],
                vec![(5.0, 5.0)],
                vec![(0.0, 0.0), (1e12, 3.0)],
                vec![(1.0, 1.0), (2.0, 1e15), (3.0, 0.5)],
            ] {
                let svg = plot(scale, points).svg();
                assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
                assert!(svg.contains("&quot;t&quot; &amp; u"), "{svg}");
                assert!(!svg.contains("<way>"), "{svg}");
            }
        }
    }

    #[test]
    fn ticks_are_round() {
        let ticks = |scale, values: &[f64]| {
            let axis = Axis {
                name: "",
                unit: Unit::Count,
                scale,
            };
            Range::over(axis, values.iter().copied()).ticks()
        };
        assert_eq!(
            ticks(Scale::Linear, &[3.0, 100.0]),
            [0.0, 20.0, 40.0, 60.0, 80.0, 100.0]
        );
        assert_eq!(ticks(Scale::Log, &[30.0, 900.0]), [10.0, 100.0, 1000.0]);
        assert_eq!(Unit::Nanos.show(1e6), "1 ms");
        assert_eq!(Unit::Bytes.show(1536.0), "1.5 KiB");
    }

    #[test]
    fn names_keep_apart() {
        let mut many = plot(Scale::Linear, vec![(1.0, 0.0)]);
        many.lines = (0..6)
            .map(|n| Line {
                name: format!("way {n}"),
                colour: n,
                points: vec![(1.0, 0.0)],
            })
            .collect();
        let svg = many.svg();
        let mut places: Vec<f64> = svg
            .lines()
            .filter(|line| line.contains("class=\"name\""))
            .filter_map(|line| line.split(" y=\"").nth(1)?.split('"').next()?.parse().ok())
            .collect();
        places.sort_by(f64::total_cmp);
        assert_eq!(places.len(), 6);
        assert!(
            places.windows(2).all(|two| two[1] - two[0] > 10.0),
            "{places:?}"
        );
        assert!(places.iter().all(|y| *y < HEIGHT), "{places:?}");
    }
}
