//! `image explain`.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use stratafs::image::Image;
use stratafs::meta::Kind;
use stratafs::name::{LayerPath, show};
use stratafs::store::Store;
use stratafs::transfer::{self, EntryKind, Explanation, LowerEntry, Sharer};

use super::args::ExplainArgs;
use super::text::{answer, date, kind, mode, put_bytes, rooted, rooted_bytes};
use super::tree::Shown;
use crate::failure::Failure;
use crate::report::{bytes, count};

/// Lines of chunks and of sharers that are shown to a person.
const SHOWN: usize = 20;

pub(super) fn explain(store: &Store, args: ExplainArgs) -> Result<(), Failure> {
    let path = LayerPath::parse(args.path.as_bytes())
        .map_err(|error| Failure::usage(format_args!("{}: {error}", show(args.path.as_bytes()))))?;
    let told = transfer::explain(store, &args.image.reference, &path)?;
    let sizes = match args.sizes {
        true => Some(sizes(&store.image(args.image.reference.as_str())?, &path)?),
        false => None,
    };
    let json = || {
        let mut document = document(&told);
        if let (Some(sizes), Some(document)) = (&sizes, document.as_object_mut()) {
            let sizes = sizes.iter().map(|(layer, (files, bytes))| {
                json!({"layer": layer, "files": files, "size_bytes": bytes})
            });
            document.insert("sizes".into(), sizes.collect());
        }
        document
    };
    let text = || {
        let mut text = lines(&told);
        for (layer, (files, size)) in sizes.iter().flatten() {
            let (files, size) = (count(*files), bytes(*size));
            text.push_str(&format!("{size} in {files} files of layer {layer}\n"));
        }
        text
    };
    answer(args.form, json, text)
}

/// The files at and below a path, and their bytes, by layer; a file with several names
/// counts by its first.
fn sizes(image: &Image, path: &LayerPath) -> Result<BTreeMap<usize, (u64, u64)>, Failure> {
    let mut sizes: BTreeMap<usize, (u64, u64)> = BTreeMap::new();
    for entry in Shown::collect(image, path)? {
        if let (Kind::File, Some(layer), false) = (entry.kind, entry.layer, entry.is_further_name) {
            let (files, bytes) = sizes.entry(layer).or_default();
            *files += 1;
            *bytes = bytes.saturating_add(entry.size);
        }
    }
    Ok(sizes)
}

fn document(told: &Explanation) -> Value {
    let below: Vec<Value> = told.below.iter().map(below_json).collect();
    let chunks: Vec<Value> = told
        .chunks
        .iter()
        .map(|chunk| {
            json!({
                "offset_bytes": chunk.offset,
                "size_bytes": chunk.bytes,
                "digest": chunk.digest.to_string(),
            })
        })
        .collect();
    let sharers: Vec<Value> = told
        .sharers
        .iter()
        .map(|sharer| {
            let mut told = json!({
                "images": sharer.images,
                "layer": sharer.layer.to_string(),
                "shared_bytes": sharer.shared_bytes,
            });
            put_bytes(&mut told, "path", &rooted_bytes(&sharer.path));
            told
        })
        .collect();
    let layer = told
        .layer
        .map(|(number, digest)| json!({"number": number, "digest": digest.to_string()}));
    let mut document = json!({
        "kind": kind(told.stat.kind),
        "mode": told.stat.mode,
        "uid": told.stat.uid,
        "gid": told.stat.gid,
        "size_bytes": told.stat.size,
        "mtime_ns": told.stat.mtime.as_nanos_clamped(),
        "layer": layer,
        "hides": below,
        "chunks": chunks,
        "shared_with": sharers,
    });
    put_bytes(&mut document, "path", &rooted_bytes(&told.path));
    document
}

fn below_json(below: &LowerEntry) -> Value {
    json!({
        "layer": {"number": below.layer, "digest": below.digest.to_string()},
        "kind": below.what.to_string(),
        "size_bytes": size(below.what),
        "merged": below.merged,
    })
}

fn size(what: EntryKind) -> Option<u64> {
    match what {
        EntryKind::File(size) => Some(size),
        _ => None,
    }
}

fn lines(told: &Explanation) -> String {
    let stat = &told.stat;
    let mut out = format!(
        "{} {}:{} {} {} {}\n",
        mode(stat.kind, stat.mode),
        stat.uid,
        stat.gid,
        stat.size,
        date(stat.mtime),
        rooted(&told.path)
    );
    let mut line = |text: String| {
        out.push_str(&text);
        out.push('\n');
    };
    line(match told.layer {
        Some((number, digest)) => format!("from layer {number} ({digest})"),
        None => "the root, which every layer has".to_owned(),
    });
    for below in &told.below {
        let size = size(below.what).map_or(String::new(), |size| format!(" of {}", bytes(size)));
        let verb = if below.merged { "merged with" } else { "hides" };
        line(format!(
            "{verb} a {}{size} of layer {} ({})",
            below.what, below.layer, below.digest
        ));
    }
    for chunk in told.chunks.iter().take(SHOWN) {
        line(format!(
            "chunk at {:>10}, {:>6} bytes  {}",
            chunk.offset, chunk.bytes, chunk.digest
        ));
    }
    rest(told.chunks.len(), "chunks")
        .into_iter()
        .for_each(&mut line);
    for sharer in told.sharers.iter().take(SHOWN) {
        line(shared(sharer));
    }
    rest(told.sharers.len(), "files that share chunks")
        .into_iter()
        .for_each(&mut line);
    out
}

fn shared(sharer: &Sharer) -> String {
    format!(
        "{} shared with {} of {} ({})",
        bytes(sharer.shared_bytes),
        rooted(&sharer.path),
        sharer.images.join(", "),
        sharer.layer
    )
}

fn rest(count: usize, what: &str) -> Option<String> {
    let more = count.saturating_sub(SHOWN);
    (more > 0).then(|| format!("... and {more} more {what}; --json lists all"))
}
