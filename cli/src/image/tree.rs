//! `image tree`.

use std::collections::HashSet;

use serde_json::{Value, json};
use stratafs::chunk::ChunkPool;
use stratafs::image::Image;
use stratafs::layer::{EntryBody, Layer, LayerEntry};
use stratafs::meta::{Kind, Meta};
use stratafs::name::{LayerPath, show};
use stratafs::store::Store;
use stratafs::vfs::Fs;

use super::args::TreeArgs;
use super::text::{answer, date, kind, mode, put_bytes, rooted, rooted_bytes};
use crate::failure::Failure;

/// The merged tree from `path` down, as one layer.
pub(super) fn tree_of(image: &Image, path: &[u8]) -> Result<Layer, Failure> {
    Ok(Fs::new(image).tree(path, &ChunkPool::new())?)
}

pub(super) fn tree(store: &Store, args: TreeArgs) -> Result<(), Failure> {
    let image = store.image(args.image.reference.as_str())?;
    let from = LayerPath::parse(args.path.as_bytes())
        .map_err(|error| Failure::usage(format_args!("{}: {error}", show(args.path.as_bytes()))))?;
    let mut shown = TreeLine::collect(&image, &from)?;
    if args.sizes {
        sum_dirs(&mut shown);
    }
    if let Some(depth) = args.depth {
        let deepest = from.names().len().saturating_add(depth);
        shown.retain(|entry| entry.path.names().len() <= deepest);
    }
    let json = || {
        let entries: Vec<Value> = shown.iter().map(TreeLine::json).collect();
        json!({"entries": entries})
    };
    answer(args.form, json, || {
        let lines: Vec<String> = shown.iter().map(TreeLine::line).collect();
        lines.join("\n")
    })
}

/// One line of `tree`.
pub(super) struct TreeLine {
    pub(super) path: LayerPath,
    pub(super) kind: Kind,
    meta: Meta,
    pub(super) size: u64,
    target: Option<Vec<u8>>,
    pub(super) layer: Option<usize>,
    /// Whether an entry before it is the same file by another name.
    pub(super) is_further_name: bool,
    /// Files below a directory, and their bytes, if that was asked for.
    total: Option<(u64, u64)>,
}

/// Sets each directory's size to the sum of the files below it; a file with several names counts
/// by its first.
fn sum_dirs(shown: &mut [TreeLine]) {
    let mut open: Vec<usize> = Vec::new();
    for at in 0..shown.len() {
        let Some(entry) = shown.get(at) else { break };
        let depth = entry.path.names().len();
        let (is_dir, size) = (entry.kind == Kind::Dir, entry.size);
        let counts = entry.kind == Kind::File && !entry.is_further_name;
        let is_above = |dir: &usize| {
            shown
                .get(*dir)
                .is_some_and(|dir| dir.path.names().len() < depth)
        };
        while open.last().is_some_and(|dir| !is_above(dir)) {
            open.pop();
        }
        for dir in open.iter().filter(|_| counts) {
            if let Some((files, bytes)) = shown.get_mut(*dir).and_then(|dir| dir.total.as_mut()) {
                *files += 1;
                *bytes = bytes.saturating_add(size);
            }
        }
        if is_dir {
            open.push(at);
            if let Some(dir) = shown.get_mut(at) {
                dir.total = Some((0, 0));
            }
        }
    }
}

impl TreeLine {
    /// Takes what is at `from` and below: one entry if that is no directory.
    pub(super) fn collect(image: &Image, from: &LayerPath) -> Result<Vec<Self>, Failure> {
        let located = image.locate(from);
        let one = located
            .as_ref()
            .is_some_and(|found| found.stat.kind != Kind::Dir);
        let (above, dir) = match from.split_last() {
            Some((above, _)) if one => {
                let above = LayerPath::from(above.to_vec());
                let dir = rooted_bytes(&above);
                (above, dir)
            }
            _ => (from.clone(), rooted_bytes(from)),
        };
        let tree = tree_of(image, &dir)?;
        let entries = tree
            .entries()
            .map(|entry| (full(&above, &entry.path), entry));
        let wanted = entries.filter(|(path, _)| !one || path == from);
        let mut seen = HashSet::new();
        Ok(wanted
            .filter_map(|(path, entry)| {
                let mut shown = Self::of(image, &path, &entry)?;
                if let EntryBody::File { object, .. } = entry.body {
                    shown.is_further_name = !seen.insert(object);
                }
                Some(shown)
            })
            .collect())
    }

    fn of(image: &Image, path: &LayerPath, entry: &LayerEntry<'_>) -> Option<Self> {
        let (kind, meta, size, target) = match &entry.body {
            EntryBody::Dir { meta, .. } => (Kind::Dir, (*meta)?, 0, None),
            EntryBody::File { meta, content, .. } => (Kind::File, *meta, content.size(), None),
            EntryBody::Symlink { meta, target, .. } => (
                Kind::Symlink,
                *meta,
                target.len() as u64,
                Some(target.to_vec()),
            ),
            EntryBody::Whiteout | EntryBody::LowerLink { .. } => return None,
        };
        Some(Self {
            path: path.clone(),
            kind,
            meta: meta.clone(),
            size,
            target,
            layer: image.locate(path).and_then(|located| located.layer),
            is_further_name: false,
            total: None,
        })
    }

    fn line(&self) -> String {
        let Meta {
            uid, gid, mtime, ..
        } = self.meta;
        let target = self.target.as_deref();
        let target = target.map(|target| format!(" -> {}", show(target)));
        format!(
            "{} {:>10} {:>12}  {}  {}{}",
            mode(self.kind, self.meta.mode),
            format!("{uid}:{gid}"),
            self.total.map_or(self.size, |(_, bytes)| bytes),
            date(mtime),
            rooted(&self.path),
            target.unwrap_or_default()
        )
    }

    fn json(&self) -> Value {
        let mut document = json!({
            "kind": kind(self.kind),
            "mode": self.meta.mode,
            "uid": self.meta.uid,
            "gid": self.meta.gid,
            "mtime_ns": self.meta.mtime.as_nanos_clamped(),
            "size_bytes": self.size,
            "target": null,
            "layer": self.layer,
        });
        put_bytes(&mut document, "path", &rooted_bytes(&self.path));
        if let (Some((files, bytes)), Some(document)) = (self.total, document.as_object_mut()) {
            document.insert("total_files".into(), json!(files));
            document.insert("total_bytes".into(), json!(bytes));
        }
        if let Some(target) = &self.target {
            put_bytes(&mut document, "target", target);
        }
        document
    }
}

fn full(above: &LayerPath, below: &LayerPath) -> LayerPath {
    let names = above.names().iter().chain(below.names());
    names.cloned().collect::<Vec<_>>().into()
}
