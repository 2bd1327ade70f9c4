//! An analysis as one page: nothing fetched, and no text of an image that acts.
//!
//! What is text between tags is escaped; the tree is JSON in which `<`, `>` and `&` have
//! escapes, and the script puts names on the page as text only. The page allows the one
//! script and the one style sheet that carry its own mark, so that nothing else could run.

use std::fmt::Write;

use serde_json::Value;
use stratafs::digest::Digest;
use stratafs::name::show;

use super::treedata::TreeData;
use super::{Analyzed, figures, short_step, unread_line};
use crate::failure::cut;
use crate::limits::MAX_PAGE_BYTES;
use crate::report::{bytes, count, escape};

use super::super::text::rooted;

const FRAME: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// Bytes of a path or step in a cell of the page.
const CELL_BYTES: usize = 300;

/// Hidden files that are listed at most.
const HIDDEN_SHOWN: usize = 200;

/// Makes the page: at most [`MAX_PAGE_BYTES`].
pub(super) fn page(analyzed: &Analyzed<'_>) -> String {
    let layers = layers(analyzed);
    let hidden = hidden(analyzed);
    let cards = cards(analyzed);
    let fixed = FRAME.len() + STYLE.len() + SCRIPT.len() + layers.len() + hidden.len();
    let room = MAX_PAGE_BYTES.saturating_sub(fixed + cards.len() + 16 * CELL_BYTES);
    let tree = TreeData::new(&analyzed.analysis.entries, analyzed.touched.as_ref(), room);
    let note = match tree.left_out {
        0 => String::new(),
        more => format!(
            "{} small entries have no room on this page: they stand as one in each directory and are not searched.",
            count(more)
        ),
    };
    let data = in_script(&tree.json());
    let mark = Digest::of(data.as_bytes()).to_string().replace(':', "-");
    let unread = analyzed.summed.unread.as_ref();
    let parts = [
        ("mark", mark),
        ("style", STYLE.to_owned()),
        ("title", text(&analyzed.name)),
        ("id", escape(&analyzed.info.id.to_string())),
        (
            "trace",
            unread.map_or(String::new(), |unread| escape(&unread_line(unread))),
        ),
        ("cards", cards),
        ("note", escape(&note)),
        ("layers", layers),
        ("hidden", hidden),
        ("data", data),
        ("script", SCRIPT.to_owned()),
    ];
    filled(FRAME, &parts)
}

/// Puts each part in the place of its `{{name}}`, once: what a part holds is not looked at.
fn filled(frame: &str, parts: &[(&str, String)]) -> String {
    let size = parts.iter().map(|(_, part)| part.len()).sum::<usize>();
    let mut out = String::with_capacity(frame.len() + size);
    let mut rest = frame;
    while let Some((before, after)) = rest.split_once("{{") {
        let (name, after) = after.split_once("}}").unwrap_or((after, ""));
        let part = parts.iter().find(|(known, _)| *known == name);
        out.push_str(before);
        out.push_str(part.map_or("", |(_, part)| part));
        rest = after;
    }
    out.push_str(rest);
    out
}

/// JSON that is safe in a `script` element, whatever strings are in it.
fn in_script(data: &Value) -> String {
    let json = data.to_string();
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '<' => out.push_str("\\u003c"),
            '>' => out.push_str("\\u003e"),
            '&' => out.push_str("\\u0026"),
            c => out.push(c),
        }
    }
    out
}

/// Text of an image between tags.
fn text(of_image: &str) -> String {
    escape(&cut(&show(of_image.as_bytes()), CELL_BYTES))
}

fn cards(analyzed: &Analyzed<'_>) -> String {
    let summed = &analyzed.summed;
    let mut out = String::new();
    let mut card = |figure: String, words: String| {
        put(
            &mut out,
            format_args!(
                "<div class=\"card\"><b>{}</b><span>{}</span></div>",
                escape(&figure),
                escape(&words)
            ),
        );
    };
    card(
        bytes(summed.bytes),
        format!(
            "in {} files and {} directories",
            count(summed.files),
            count(summed.dirs)
        ),
    );
    card(
        analyzed.analysis.layers.len().to_string(),
        "layers".to_owned(),
    );
    card(
        bytes(summed.wasted_bytes),
        format!(
            "wasted in {} files that upper layers hide",
            count(summed.wasted_files)
        ),
    );
    card(
        bytes(summed.duplicate_bytes),
        format!(
            "in {} files that equal others",
            count(summed.duplicate_files)
        ),
    );
    if let Some(unread) = &summed.unread {
        card(
            bytes(unread.bytes),
            format!("in {} files that were never opened", count(unread.files)),
        );
    }
    out
}

fn layers(analyzed: &Analyzed<'_>) -> String {
    let mut out = String::new();
    let all = analyzed.analysis.layers.iter().enumerate();
    for (number, layer) in all {
        let step = analyzed.steps.get(number).map_or("", String::as_str);
        let digest = layer
            .digest
            .map_or(String::new(), |digest| digest.to_string());
        put(
            &mut out,
            format_args!(
                "<tr><th scope=\"row\"><i class=\"key\" data-layer=\"{number}\"></i>{number}</th><td class=\"step\" title=\"{}\">{}</td>",
                escape(&digest),
                text(&short_step(step))
            ),
        );
        for cell in figures(number, layer).iter().skip(1) {
            put(&mut out, format_args!("<td>{}</td>", escape(cell)));
        }
        let compressed = analyzed.compressed.get(number).copied().unwrap_or_default();
        let about = if compressed.is_whole() { "" } else { "~" };
        put(
            &mut out,
            format_args!(
                "<td>{about}{}</td><td>{about}{}</td></tr>\n",
                bytes(compressed.gzip()),
                bytes(compressed.zstd())
            ),
        );
    }
    out
}

fn hidden(analyzed: &Analyzed<'_>) -> String {
    let mut out = String::new();
    for file in analyzed.summed.largest_wasted.iter().take(HIDDEN_SHOWN) {
        let verb = if file.is_overwritten {
            "overwritten"
        } else {
            "removed"
        };
        put(
            &mut out,
            format_args!(
                "<tr><td class=\"step\">{}</td><td>{}</td><td>{}</td><td>{verb} by {}</td></tr>\n",
                text(&rooted(&file.path)),
                bytes(file.size),
                file.layer,
                file.by
            ),
        );
    }
    match out.is_empty() {
        true => "<tr><td colspan=\"4\">none</td></tr>".to_owned(),
        false => out,
    }
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    // A String takes everything.
    let _: std::fmt::Result = out.write_fmt(text);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn parts_are_not_looked_at_for_places() {
        let parts = [("a", "{{b}}".to_owned()), ("b", "x".to_owned())];
        assert_eq!(filled("1{{a}}2{{b}}3{{none}}4", &parts), "1{{b}}2x34");
    }

    #[test]
    fn data_cannot_end_its_element() {
        let bad = "</script><!--&";
        let text = in_script(&json!([bad]));
        assert!(!text.contains(['<', '>', '&']), "{text}");
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), json!([bad]));
    }

    #[test]
    fn every_place_of_the_frame_has_its_part() {
        let places = FRAME.split("{{").skip(1);
        let names: Vec<&str> = places
            .filter_map(|rest| Some(rest.split_once("}}")?.0))
            .collect();
        for name in [
            "mark", "style", "title", "id", "trace", "cards", "note", "layers", "hidden", "data",
            "script",
        ] {
            assert!(names.contains(&name), "{name}");
        }
        assert!(!SCRIPT.contains("innerHTML") && !SCRIPT.contains("</script"));
    }
}
