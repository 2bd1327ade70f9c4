//! A page with the table and a plot of how many guests have started when.

use std::fmt::Write as _;

use crate::table::{Row, cells, heads};

/// Size of the plot, and what is left for its axes.
const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 360.0;
const LEFT: f64 = 44.0;
const RIGHT: f64 = 26.0;
const BELOW: f64 = 34.0;
/// The shortest wait that is told apart, in seconds.
const LEAST: f64 = 0.001;
const COLOURS: [&str; 10] = [
    "#9e2a2b", "#d17b0f", "#7a6c00", "#3f7d20", "#0f7173", "#1d5fa8", "#5a3fc0", "#8a2f8f",
    "#b3446c", "#555555",
];

/// Returns the page. `title` says what was simulated.
pub(crate) fn page(title: &str, rows: &[Row]) -> String {
    let mut html = String::from(concat!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">",
        "<title>A fleet, simulated</title><style>",
        ":root{color-scheme:light dark}body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:70rem;padding:0 1rem}",
        "div{overflow-x:auto}table{border-collapse:collapse}td,th{padding:.25rem .6rem;text-align:right;border-bottom:1px solid #8886}",
        "td:first-child,th:first-child{text-align:left}svg{max-width:100%;height:auto}text{fill:currentColor;font-size:12px}",
        "</style>"
    ));
    let _ = write!(html, "<h1>A fleet, simulated</h1><p>{}</p>", escape(title));
    html.push_str("<h2>Guests that have started, by seconds since they were asked for</h2><div>");
    html.push_str(&plot(rows));
    html.push_str("</div><h2>Figures</h2><div><table><tr>");
    for head in heads() {
        let _ = write!(html, "<th>{}</th>", escape(head));
    }
    html.push_str("</tr>");
    for row in rows {
        html.push_str("<tr>");
        for cell in cells(row) {
            let _ = write!(html, "<td>{}</td>", escape(&cell));
        }
        html.push_str("</tr>");
    }
    html.push_str("</table></div></html>\n");
    html
}

fn plot(rows: &[Row]) -> String {
    let longest = rows.iter().flat_map(|row| row.start_seconds.last());
    let most = longest.copied().fold(1.0, f64::max).log10().ceil();
    let least = LEAST.log10();
    let x = |seconds: f64| {
        let part = (seconds.max(LEAST).log10() - least) / (most - least);
        LEFT + part * (WIDTH - LEFT - RIGHT)
    };
    let y = |part: f64| 10.0 + (1.0 - part) * (HEIGHT - BELOW - 10.0);
    let full = HEIGHT + 18.0 * rows.len() as f64;
    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH} {full}\" role=\"img\" aria-label=\"Share of guests that have started by time\">"
    );
    for power in (least as i32)..=(most as i32) {
        let at = x(10_f64.powi(power));
        let label = 10_f64.powi(power);
        let _ = write!(
            svg,
            "<path d=\"M{at:.1} 10V{:.1}\" stroke=\"#8884\"/><text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{label} s</text>",
            y(0.0),
            y(0.0) + 18.0
        );
    }
    for part in [0.0, 0.5, 1.0] {
        let at = y(part);
        let _ = write!(
            svg,
            "<path d=\"M{LEFT} {at:.1}H{WIDTH}\" stroke=\"#8884\"/><text x=\"2\" y=\"{:.1}\">{:.0} %</text>",
            at + 4.0,
            part * 100.0
        );
    }
    for (number, (row, colour)) in rows.iter().zip(COLOURS.iter().cycle()).enumerate() {
        let mut path = String::new();
        for (at, seconds) in row.start_seconds.iter().enumerate() {
            let part = at as f64 / (row.start_seconds.len() - 1).max(1) as f64;
            let _ = write!(
                path,
                "{}{:.1} {:.1}",
                if at == 0 { 'M' } else { 'L' },
                x(*seconds),
                y(part)
            );
        }
        let line = HEIGHT + 18.0 * number as f64 + 8.0;
        let _ = write!(
            svg,
            "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/><path d=\"M{LEFT} {:.1}h24\" stroke=\"{colour}\" stroke-width=\"3\"/><text x=\"{}\" y=\"{line:.1}\">{}</text>",
            line - 4.0,
            LEFT + 32.0,
            escape(row.way)
        );
    }
    svg.push_str("</svg>");
    svg
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
