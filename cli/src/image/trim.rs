//! `store gc --max-size`, `--older-than`: a store that is a cache.

use serde_json::{Value, json};
use stratafs::meta::Time;
use stratafs::store::{DroppedImage, Store, TrimOptions};

use super::args::GcArgs;
use super::text::{answer, date};
use super::whole::{collected, say_collected};
use crate::cached;
use crate::failure::Failure;
use crate::report::{bytes, count};

pub(super) fn trim(store: &Store, args: &GcArgs) -> Result<(), Failure> {
    let forgotten = cached::trim(store, args.keep_cache, args.dry_run)?;
    let report = store.trim(&TrimOptions {
        max_bytes: args.max_size,
        unused_for: args.older_than,
        dry_run: args.dry_run,
    })?;
    let within = args.max_size.is_none_or(|most| report.bytes <= most);
    let json = || {
        let mut document = collected(&report.collected, forgotten);
        if let Some(document) = document.as_object_mut() {
            let dropped: Vec<Value> = report.dropped.iter().map(dropped).collect();
            document.insert("dropped".into(), json!(dropped));
            document.insert("in_use".into(), json!(report.in_use));
            document.insert("total_bytes".into(), json!(report.bytes));
            document.insert("within".into(), json!(within));
            document.insert("dry_run".into(), json!(args.dry_run));
        }
        document
    };
    answer(args.form, json, || {
        let what = match args.dry_run {
            true => "would be dropped",
            false => "dropped",
        };
        let mut lines: Vec<String> = Vec::new();
        for image in &report.dropped {
            let used = date(Time::from(image.last_used));
            let tags = image.tags.join(", ");
            lines.push(format!("{tags} {what}, last used {used}"));
        }
        if report.in_use > 0 {
            let in_use = count(report.in_use);
            lines.push(format!("{in_use} images stay because they are in use"));
        }
        match args.dry_run {
            true => lines.push(format!(
                "{} would be freed, or more",
                bytes(report.collected.freed_bytes)
            )),
            false => lines.push(say_collected(&report.collected)),
        }
        let left = bytes(report.bytes);
        lines.push(match within {
            true => format!("the store takes {left}"),
            false => format!(
                "the store takes {left}, more than --max-size: what is left has a name that was \
                 given here, or is in use"
            ),
        });
        lines.join("\n")
    })
}

fn dropped(image: &DroppedImage) -> Value {
    json!({
        "id": image.id.to_string(),
        "tags": image.tags,
        "last_used_ns": Time::from(image.last_used).as_nanos_clamped(),
    })
}
