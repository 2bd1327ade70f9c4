//! `store stat`, `store verify`, `store gc`, `store init`, `store repair`.

use std::path::Path;

use serde_json::{Value, json};
use stratafs::object::ObjectHome;
use stratafs::store::{GcReport, Store, StoreError};

use super::args::{Form, GcArgs};
use super::text::answer;
use crate::cached;
use crate::failure::Failure;
use crate::report::{bytes, count};
use crate::store_dir;

/// Damage that is named in the one line about it.
const NAMED: usize = 3;

pub(super) fn stat(store: &Store, form: Form) -> Result<(), Failure> {
    let (stat, id) = (store.stat()?, store.id()?);
    let json = || {
        json!({
            "id": id,
            "tags": stat.tags,
            "images": stat.images,
            "layers": stat.layers,
            "packs": stat.packs,
            "blobs": stat.blobs,
            "logical_bytes": stat.logical_bytes,
            "blob_bytes": stat.blob_bytes,
            "chunk_bytes": stat.chunk_bytes,
            "pack_bytes": stat.pack_bytes,
            "index_bytes": stat.index_bytes,
            "layer_bytes": stat.layer_bytes,
            "catalog_bytes": stat.catalog_bytes,
            "unfinished_bytes": stat.unfinished_bytes,
            "absent_chunks": stat.absent_chunks,
            "absent_bytes": stat.absent_bytes,
            "absent_blobs": stat.absent_blobs,
            "unchecked_images": stat.unchecked_images,
            "total_bytes": stat.total_bytes(),
        })
    };
    answer(form, json, || {
        let lines = [
            ("images", count(stat.images)),
            ("tags", count(stat.tags)),
            ("layers", count(stat.layers)),
            (
                "blobs",
                format!("{} ({})", count(stat.blobs), bytes(stat.blob_bytes)),
            ),
            (
                "packs",
                format!("{} ({})", count(stat.packs), bytes(stat.pack_bytes)),
            ),
            ("files", bytes(stat.logical_bytes)),
            ("chunks", bytes(stat.chunk_bytes)),
            ("indexes", bytes(stat.index_bytes)),
            ("layer entries", bytes(stat.layer_bytes)),
            ("catalog", bytes(stat.catalog_bytes)),
            ("unfinished", bytes(stat.unfinished_bytes)),
            (
                "not here",
                format!(
                    "{} chunks ({}), {} blobs",
                    count(stat.absent_chunks),
                    bytes(stat.absent_bytes),
                    count(stat.absent_blobs)
                ),
            ),
            ("total", bytes(stat.total_bytes())),
            (
                "identity",
                id.clone().unwrap_or_else(|| "none: version 1".into()),
            ),
        ];
        let lines = lines
            .iter()
            .map(|(name, value)| format!("{name:<14}{value}"));
        lines.collect::<Vec<_>>().join("\n")
    })
}

pub(super) fn verify(store: &Store, form: Form) -> Result<(), Failure> {
    let report = store.verify()?;
    let text_of =
        |errors: &[StoreError]| -> Vec<String> { errors.iter().map(ToString::to_string).collect() };
    let (errors, unread) = (text_of(&report.errors), text_of(&report.unread));
    let json = || {
        json!({
            "sound": report.is_sound(),
            "images": report.images,
            "layers": report.layers,
            "blobs": report.blobs,
            "packs": report.packs,
            "chunks": report.chunks,
            "read_bytes": report.bytes,
            "absent_chunks": report.absent_chunks,
            "absent_bytes": report.absent_bytes,
            "errors": errors,
            "unread": unread,
        })
    };
    let text = || {
        format!(
            "{} images, {} layers, {} blobs, {} chunks in {} packs: {} read",
            count(report.images),
            count(report.layers),
            count(report.blobs),
            count(report.chunks),
            count(report.packs),
            bytes(report.bytes)
        ) + &match report.absent_chunks {
            0 => String::new(),
            absent => format!(
                ", {} chunks ({}) are not here",
                count(absent),
                bytes(report.absent_bytes)
            ),
        }
    };
    answer(form, json, text)?;
    if report.is_sound() {
        return Ok(());
    }
    if errors.is_empty() {
        let named = first_of(&unread);
        return Err(Failure::new(format_args!(
            "a part of the store could not be read, whether it is damaged is not known: {named}"
        )));
    }
    let named = first_of(&errors);
    Err(Failure::new(format_args!(
        "the store is damaged: {named}; import the images again"
    )))
}

/// Names the first of many, and says how many there are.
fn first_of(errors: &[String]) -> String {
    let named = errors.iter().take(NAMED).cloned().collect::<Vec<_>>();
    let more = match errors.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(", and {more} more"),
    };
    format!("{}{more}", named.join("; "))
}

pub(super) fn gc(store: &Store, args: &GcArgs) -> Result<(), Failure> {
    let forgotten = cached::trim(store, args.keep_cache, false)?;
    let report = store.gc()?;
    let json = || collected(&report, forgotten);
    answer(args.form, json, || say_collected(&report))
}

/// What a collection removed, for programs.
pub(super) fn collected(report: &GcReport, cache_entries: u64) -> Value {
    json!({
        "cache_entries": cache_entries,
        "images": report.images,
        "layers": report.layers,
        "blobs": report.blobs,
        "packs": report.packs,
        "repacked": report.repacked,
        "postponed": report.postponed,
        "damaged": report.damaged,
        "freed_bytes": report.freed_bytes,
    })
}

/// The same for people.
pub(super) fn say_collected(report: &GcReport) -> String {
    let postponed = match report.postponed {
        true => {
            "\nthe disk is full: packs of which little is in use stay as they are until the next collection"
        }
        false => "",
    };
    let damaged = match report.damaged {
        0 => String::new(),
        1 => "\n1 damaged part is left as it is: `stratafs store verify` names it".to_owned(),
        damaged => format!(
            "\n{} damaged parts are left as they are: `stratafs store verify` names them",
            count(damaged)
        ),
    };
    format!(
        "{} images, {} layers, {} blobs and {} packs removed, {} packs written anew: {} freed{postponed}{damaged}",
        count(report.images),
        count(report.layers),
        count(report.blobs),
        count(report.packs),
        count(report.repacked),
        bytes(report.freed_bytes)
    )
}

/// Collects in a place of an object store. No store is needed.
pub(super) fn collect(home: &ObjectHome, args: &GcArgs) -> Result<(), Failure> {
    let bucket = args.reach.bucket(home)?;
    let found = bucket.collect(args.grace, args.dry_run)?;
    let json = || {
        json!({
            "bucket": home.to_string(),
            "dry_run": args.dry_run,
            "tags": found.tags,
            "used_blobs": found.used_blobs,
            "removed_blobs": found.removed_blobs,
            "young_blobs": found.young_blobs,
            "freed_bytes": found.freed_bytes,
        })
    };
    answer(args.form, json, || {
        let removed = if args.dry_run {
            "would be removed"
        } else {
            "removed"
        };
        format!(
            "{home}: {} blobs {removed} ({}), {} too young; {} tags lead to {}",
            count(found.removed_blobs),
            bytes(found.freed_bytes),
            count(found.young_blobs),
            count(found.tags),
            count(found.used_blobs)
        )
    })
}

pub(super) fn init(place: Option<&Path>, form: Form) -> Result<(), Failure> {
    let (place, store, is_new) = store_dir::init(place)?;
    let id = store.id()?;
    let json = || json!({"store": place.display().to_string(), "id": id, "new": is_new});
    answer(form, json, || {
        let what = if is_new { "made" } else { "there already" };
        format!("{} {what}", place.display())
    })
}

pub(super) fn repair(place: Option<&Path>, form: Form) -> Result<(), Failure> {
    let (place, report) = store_dir::repair(place)?;
    let json = || {
        json!({
            "store": place.display().to_string(),
            "found": report.found,
            "from": report.from,
            "tags": report.tags,
            "images": report.images,
            "layers": report.layers,
            "packs": report.packs,
            "blobs": report.blobs,
            "lost_bytes": report.lost_bytes,
            "moved": report.moved,
            "missing": report.missing,
        })
    };
    answer(form, json, || {
        let mut lines: Vec<String> = report
            .found
            .iter()
            .map(|what| format!("found: {what}"))
            .collect();
        lines.push(match report.found.is_empty() {
            true => "nothing to repair".to_owned(),
            false => format!("rebuilt from {}", report.from),
        });
        lines.push(format!(
            "{} tags, {} images, {} layers, {} blobs, {} packs",
            count(report.tags),
            count(report.images),
            count(report.layers),
            count(report.blobs),
            count(report.packs)
        ));
        lines.join("\n")
    })?;
    if report.lost_bytes > 0 {
        return Err(Failure::new(format_args!(
            "the last {} bytes of changes could not be read back; {} files that nothing names any more are in {}: import again what is not there",
            report.lost_bytes,
            report.moved,
            place.join("lost").display()
        )));
    }
    if !report.missing.is_empty() {
        return Err(Failure::new(format_args!(
            "{} files are missing: {}; import the images again",
            report.missing.len(),
            first_of(&report.missing)
        )));
    }
    Ok(())
}
