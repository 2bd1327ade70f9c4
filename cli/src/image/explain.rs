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
use super::tree::TreeLine;
use crate::failure::Failure;
use crate::report::{bytes, count};

/// Lines of chunks and of sharers that are shown to a person.
const SHOWN: usize = 20;

pub(super) fn explain(store: &Store, args: ExplainArgs) -> Result<(), Failure> {
    let path = LayerPath::parse(args.path.as_bytes())
        .map_err(|error| Failure::usage(format_args!("{}: {error}", show(args.path.as_bytes()))))?;
    let explained = transfer::explain(store, &args.image.reference, &path)?;
    let sizes = match args.sizes {
        true => Some(sizes(&store.image(args.image.reference.as_str())?, &path)?),
        false => None,
    };
    let json = || {
        let mut document = document(&explained);
        if let (Some(sizes), Some(document)) = (&sizes, document.as_object_mut()) {
            let sizes = sizes.iter().map(|(layer, (files, bytes))| {
                json!({"layer": layer, "files": files, "size_bytes": bytes})
            });
            document.insert("sizes".into(), sizes.collect());
        }
        document
    };
    let text = || {
        let mut text = lines(&explained);
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
    for entry in TreeLine::collect(image, path)? {
        if let (Kind::File, Some(layer), false) = (entry.kind, entry.layer, entry.is_further_name) {
            let (files, bytes) = sizes.entry(layer).or_default();
            *files += 1;
            *bytes = bytes.saturating_add(entry.size);
        }
    }
    Ok(sizes)
}

fn document(explained: &Explanation) -> Value {
    let below: Vec<Value> = explained.below.iter().map(below_json).collect();
    let chunks: Vec<Value> = explained
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
    let sharers: Vec<Value> = explained
        .sharers
        .iter()
        .map(|sharer| {
            let mut explained = json!({
                "images": sharer.images,
                "layer": sharer.layer.to_string(),
                "shared_bytes": sharer.shared_bytes,
            });
            put_bytes(&mut explained, "path", &rooted_bytes(&sharer.path));
            explained
        })
        .collect();
    let layer = explained
        .layer
        .map(|(number, digest)| json!({"number": number, "digest": digest.to_string()}));
    let mut document = json!({
        "kind": kind(explained.stat.kind),
        "mode": explained.stat.mode,
        "uid": explained.stat.uid,
        "gid": explained.stat.gid,
        "size_bytes": explained.stat.size,
        "mtime_ns": explained.stat.mtime.as_nanos_clamped(),
        "layer": layer,
        "hides": below,
        "chunks": chunks,
        "shared_with": sharers,
    });
    put_bytes(&mut document, "path", &rooted_bytes(&explained.path));
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

fn lines(explained: &Explanation) -> String {
    let stat = &explained.stat;
    let mut out = format!(
        "{} {}:{} {} {} {}\n",
        mode(stat.kind, stat.mode),
        stat.uid,
        stat.gid,
        stat.size,
        date(stat.mtime),
        rooted(&explained.path)
    );
    let mut line = |text: String| {
        out.push_str(&text);
        out.push('\n');
    };
    line(match explained.layer {
        Some((number, digest)) => format!("from layer {number} ({digest})"),
        None => "the root, which every layer has".to_owned(),
    });
    for below in &explained.below {
        let size = size(below.what).map_or(String::new(), |size| format!(" of {}", bytes(size)));
        let verb = if below.merged { "merged with" } else { "hides" };
        line(format!(
            "{verb} a {}{size} of layer {} ({})",
            below.what, below.layer, below.digest
        ));
    }
    for chunk in explained.chunks.iter().take(SHOWN) {
        line(format!(
            "chunk at {:>10}, {:>6} bytes  {}",
            chunk.offset, chunk.bytes, chunk.digest
        ));
    }
    rest(explained.chunks.len(), "chunks")
        .into_iter()
        .for_each(&mut line);
    for sharer in explained.sharers.iter().take(SHOWN) {
        line(shared(sharer));
    }
    rest(explained.sharers.len(), "files that share chunks")
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
