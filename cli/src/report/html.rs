//! A comparison as one page: no script, nothing fetched.

use std::fmt::Write;

use super::plot::escape;
use super::{
    Axis, Comparison, Files, Line, Plot, Scale, Series, Summary, Unit, WayFigures, bytes, count,
    nanos,
};

const STYLE: &str = include_str!("page.css");

/// The way whose figures stand at the top.
const OURS: &str = "stratafs";

/// Makes the page: self-contained HTML that follows the reader's choice of
/// light or dark. O(samples).
#[must_use]
pub(crate) fn page(figures: &Comparison) -> String {
    let mut out = String::new();
    head(&mut out, figures);
    cards(&mut out, figures);
    plots(&mut out, figures);
    growing(&mut out, &figures.growth);
    table(&mut out, figures);
    method(&mut out, figures);
    facts(&mut out, figures);
    out.push_str("</main></body></html>\n");
    out
}

fn head(out: &mut String, figures: &Comparison) {
    let base = &figures.base;
    put(
        out,
        format_args!(
            "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <title>A file system for each guest: what it costs</title><style>{STYLE}</style></head><body><main>\n\
         <h1>A file system for each guest: what it costs</h1>\n\
         <p class=\"lead\">{} instances of {} over a base of {} files, {}. Each way makes an instance its files, \
         starts it, runs it, and keeps its files; all ways take turns in one run.</p>\n",
            count(figures.instances),
            escape(&figures.guest),
            count(base.files),
            bytes(base.logical_bytes)
        ),
    );
}

/// What a reader takes home: ours, and how the other private ways compare.
fn cards(out: &mut String, figures: &Comparison) {
    let Some(ours) = figures.ways.iter().find(|way| way.name == OURS) else {
        return;
    };
    out.push_str("<div class=\"cards\">");
    let mut card = |figure: String, words: String| {
        put(
            out,
            format_args!(
                "<div class=\"card\"><b>{}</b><span>{}</span></div>",
                escape(&figure),
                escape(&words)
            ),
        );
    };
    card(
        nanos(ours.start_ns.median),
        "from nothing to a guest's first instruction with stratafs".to_owned(),
    );
    card(
        bytes(ours.held_each()),
        "held for each instance once it has run".to_owned(),
    );
    for way in figures
        .ways
        .iter()
        .filter(|way| way.files == Files::Private && way.name != OURS)
    {
        let times = ratio(way.start_ns.median, ours.start_ns.median);
        card(times, format!("as long to start with a {}", way.name));
    }
    out.push_str("</div>\n");
}

#[expect(clippy::cast_precision_loss, reason = "a ratio for people")]
fn ratio(theirs: u64, ours: u64) -> String {
    match theirs as f64 / (ours as f64).max(1.0) {
        few if few < 9.95 => format!("{few:.1}x"),
        many => format!("{}x", count_of(many)),
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a ratio is positive and shown whole"
)]
fn count_of(number: f64) -> String {
    count(number.round() as u64)
}

fn plots(out: &mut String, figures: &Comparison) {
    let instances = Axis {
        name: "instances alive",
        unit: Unit::Count,
        scale: Scale::Linear,
    };
    let time = |name| Axis {
        name,
        unit: Unit::Nanos,
        scale: Scale::Log,
    };
    section(
        out,
        "Starting a guest, as more are alive",
        "The median of each turn: its files made, the guest instantiated, up to its first instruction. The time runs in powers of ten.",
        &Plot {
            title: "Time to start a guest over the number of instances".to_owned(),
            x: instances,
            y: time("start of one guest"),
            lines: lines(figures, |way| growth(way, |point| point.start_ns)),
        },
    );
    section(
        out,
        "What the instances hold",
        "By how much this process grew and what files were made outside it, for all instances that have run; in powers of sixteen.",
        &Plot {
            title: "Bytes held over the number of instances".to_owned(),
            x: instances,
            y: Axis {
                name: "held by all",
                unit: Unit::Bytes,
                scale: Scale::Log,
            },
            lines: lines(figures, |way| growth(way, super::Growth::held_bytes)),
        },
    );
    section(
        out,
        "How the starts are spread",
        "For each time, the part of all starts that took no longer.",
        &Plot {
            title: "Distribution of start times".to_owned(),
            x: time("start of one guest"),
            y: Axis {
                name: "of all starts",
                unit: Unit::Percent,
                scale: Scale::Linear,
            },
            lines: lines(figures, spread),
        },
    );
}

/// One plot for each thing that there is more and more of.
#[expect(clippy::cast_precision_loss, reason = "places on a sheet")]
fn growing(out: &mut String, all: &[Series]) {
    for same in all.chunk_by(|one, other| one.of == other.of) {
        let Some(first) = same.first() else {
            continue;
        };
        let line = |(colour, series): (usize, &Series)| Line {
            name: series.what.to_owned(),
            colour,
            points: series
                .points
                .iter()
                .map(|point| (point.n as f64, point.ns.median as f64))
                .collect(),
        };
        let x = Axis {
            name: first.of,
            unit: Unit::Count,
            scale: Scale::Log,
        };
        let plot = Plot {
            title: format!("Costs over {}", first.of),
            x,
            y: Axis {
                name: "median of one",
                unit: Unit::Nanos,
                scale: Scale::Log,
            },
            lines: same.iter().enumerate().map(line).collect(),
        };
        let title = format!("As it grows: {}", first.of);
        section(
            out,
            &title,
            "A flat line costs the same whatever the size; both axes in powers of ten.",
            &plot,
        );
    }
}

fn section(out: &mut String, title: &str, words: &str, plot: &Plot) {
    put(
        out,
        format_args!(
            "<h2>{}</h2><p class=\"note\">{}</p><div class=\"sheet\">{}</div>\n",
            escape(title),
            escape(words),
            plot.svg()
        ),
    );
}

fn lines(figures: &Comparison, points: impl Fn(&WayFigures) -> Vec<(f64, f64)>) -> Vec<Line> {
    let ways = figures.ways.iter().enumerate();
    ways.map(|(colour, way)| Line {
        name: way.name.to_owned(),
        colour,
        points: points(way),
    })
    .collect()
}

#[expect(clippy::cast_precision_loss, reason = "places on a sheet")]
fn growth(way: &WayFigures, value: fn(&super::Growth) -> u64) -> Vec<(f64, f64)> {
    let points = way.growth.iter();
    points
        .map(|point| (point.instances as f64, value(point) as f64))
        .collect()
}

/// The share of starts up to each, at most a few hundred of them.
#[expect(clippy::cast_precision_loss, reason = "places on a sheet")]
fn spread(way: &WayFigures) -> Vec<(f64, f64)> {
    let mut sorted = way.start_samples_ns.clone();
    sorted.sort_unstable();
    let every = (sorted.len() / 200).max(1);
    let last = sorted.len().saturating_sub(1);
    let of_all = sorted.len() as f64;
    let points = sorted.iter().enumerate();
    points
        .filter(|(at, _)| at % every == 0 || *at == last)
        .map(|(at, ns)| (*ns as f64, (at + 1) as f64 / of_all * 100.0))
        .collect()
}

fn table(out: &mut String, figures: &Comparison) {
    out.push_str(
        "<h2>All figures</h2><p class=\"note\">Median for one instance, and below it the least and the 99th percentile.</p>\
         <div class=\"sheet\"><table><thead><tr><th>way</th><th>files</th><th>made in</th><th>start</th><th>run</th>\
         <th>drop</th><th>held each</th><th>ran</th><th>failed</th></tr></thead><tbody>\n",
    );
    for (colour, way) in figures.ways.iter().enumerate() {
        put(
            out,
            format_args!(
                "<tr><td><i class=\"key\" style=\"background:var(--line-{colour})\"></i>{}<small>{}</small></td><td>{}</td>",
                escape(way.name),
                escape(way.what),
                way.files.word()
            ),
        );
        let ran = way.instances > way.failed;
        for (summary, known) in [
            (way.prepare_ns, true),
            (way.start_ns, true),
            (way.run_ns, ran),
            (way.drop_ns, true),
        ] {
            time_cell(out, summary, known);
        }
        put(
            out,
            format_args!(
                "<td>{}</td><td>{}</td><td>{}</td></tr>\n",
                bytes(way.held_each()),
                count(way.instances),
                count(way.failed)
            ),
        );
    }
    out.push_str("</tbody></table></div>\n");
    for note in figures.notes() {
        put(
            out,
            format_args!("<p class=\"note\">{}</p>\n", escape(&note)),
        );
    }
}

fn time_cell(out: &mut String, summary: Summary, known: bool) {
    if !known {
        out.push_str("<td>-</td>");
        return;
    }
    put(
        out,
        format_args!(
            "<td>{}<small>{} to {}</small></td>",
            nanos(summary.median),
            nanos(summary.min),
            nanos(summary.p99)
        ),
    );
}

fn method(out: &mut String, figures: &Comparison) {
    put(
        out,
        format_args!(
            "<h2>How it was measured</h2>\
         <p>{} turns. In each, every way adds its share of the instances, one after another on one thread, \
         and the order of the ways moves on by one. An instance runs to its end; its files stay until all ways are done. \
         All ways run the same compiled guest on one engine; those with host directories are served by wasmtime-wasi.</p>\
         <p>Memory is the growth of this process around a way's part of a turn; what the allocator keeps from earlier \
         work can make it smaller, never larger. Files are what copies and overlays take in {}.</p>\n",
            count(figures.turns),
            escape(&figures.work_dir)
        ),
    );
}

fn facts(out: &mut String, figures: &Comparison) {
    let machine = &figures.machine;
    let memory = machine
        .memory_bytes
        .map_or_else(|| "not known".to_owned(), bytes);
    let rows = [
        (
            "processor",
            format!("{}, {} usable", machine.processor, machine.cores),
        ),
        ("memory", memory),
        ("system", format!("{} {}", machine.system, machine.kernel)),
        ("load before", machine.load.clone()),
        ("stratafs", figures.versions.stratafs.to_owned()),
        ("wasmtime", figures.versions.wasmtime.to_owned()),
        (
            "base",
            format!("{} ({} layers)", figures.base_source, figures.base.layers),
        ),
        (
            "began",
            format!("{} s after 1970-01-01 UTC", figures.began_unix_s),
        ),
        ("command", figures.command.join(" ")),
    ];
    out.push_str("<h2>The machine</h2><dl>");
    for (name, value) in rows {
        put(
            out,
            format_args!("<dt>{name}</dt><dd>{}</dd>", escape(&value)),
        );
    }
    out.push_str("</dl>\n");
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    // A String takes everything.
    let _: std::fmt::Result = out.write_fmt(text);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Absent, Growth};

    fn way(name: &'static str, files: Files, ns: u64) -> WayFigures {
        WayFigures {
            name,
            what: "does <it>",
            files,
            instances: 3,
            failed: 0,
            complaint: String::new(),
            stopped: Some("then enough".to_owned()),
            set_up_ns: 1,
            prepare_ns: Summary::of([ns]),
            start_ns: Summary::of([ns]),
            run_ns: Summary::of([ns]),
            drop_ns: Summary::of([ns]),
            growth: vec![
                Growth::new(1, ns, Some(1 << 10), 0),
                Growth::new(3, ns, None, 1 << 20),
            ],
            start_samples_ns: vec![ns, ns + 1, ns + 2],
        }
    }

    #[test]
    fn a_page_holds_everything_and_fetches_nothing() {
        let figures = Comparison {
            guest: "<guest> & co".to_owned(),
            instances: 3,
            ways: vec![
                way(OURS, Files::Private, 10_000),
                way("other", Files::Private, 50_000),
                way("none", Files::None, 5_000),
            ],
            absent: vec![Absent::new("mount", "no \"right\" to it".to_owned())],
            ..Comparison::here()
        };
        let page = page(&figures);
        for wanted in [
            "&lt;guest&gt; &amp; co",
            "does &lt;it&gt;",
            "5.0x",
            "other: 3 of 3 instances, then enough",
            "mount: not measured: no &quot;right&quot; to it",
        ] {
            assert!(page.contains(wanted), "{wanted} is missing:\n{page}");
        }
        assert_eq!(page.matches("<svg").count(), 3);
        // A floor is nothing to compare with as a way.
        assert!(!page.contains("start with a none"), "{page}");
        for forbidden in ["http:", "https:", "<script", "src=", "NaN"] {
            assert!(!page.contains(forbidden), "{forbidden} is there:\n{page}");
        }
    }

    #[test]
    fn ratios_have_few_digits() {
        assert_eq!(ratio(50, 10), "5.0x");
        assert_eq!(ratio(1_234_567, 100), "12,346x");
        assert_eq!(ratio(5, 0), "5.0x");
    }
}
