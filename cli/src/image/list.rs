//! `image ls`, `image tree`, `image diff`.

use serde_json::{Value, json};
use stratafs::chunk::ChunkPool;
use stratafs::image::{Image, Reference};
use stratafs::layer::{EntryBody, Layer, LayerEntry, compare};
use stratafs::meta::{Kind, Meta, Time};
use stratafs::name::{LayerPath, show};
use stratafs::store::{ImageInfo, Store};
use stratafs::vfs::Fs;

use super::args::{DiffArgs, LsArgs, TreeArgs};
use super::text::{answer, cell, date, kind, mode, put_bytes, rooted, rooted_bytes};
use crate::failure::Failure;
use crate::report::{Align, Table, bytes, count};

pub(super) fn ls(store: &Store, args: LsArgs) -> Result<(), Failure> {
    let images = store.list()?;
    let json = || {
        let all: Vec<Value> = images.iter().map(summary).collect();
        json!({"images": all})
    };
    answer(args.form, json, || {
        let mut table = Table::new(&[
            ("image", Align::Left),
            ("digest", Align::Left),
            ("layers", Align::Right),
            ("entries", Align::Right),
            ("size", Align::Right),
            ("added", Align::Left),
        ]);
        for image in &images {
            let names = match image.tags.is_empty() {
                true => "-".to_owned(),
                false => image.tags.join(", "),
            };
            table.row(vec![
                cell(&names),
                short(image),
                image.layers.len().to_string(),
                count(image.entries),
                bytes(image.logical_bytes),
                date(Time::new(image.added, 0)),
            ]);
        }
        table.to_string()
    })
}

/// What `ls` and the commands that make an image say of it.
pub(super) fn summary(image: &ImageInfo) -> Value {
    json!({
        "id": image.id.to_string(),
        "tags": image.tags,
        "layers": image.layers.len(),
        "entries": image.entries,
        "logical_bytes": image.logical_bytes,
        "added_ns": Time::new(image.added, 0).as_nanos_clamped(),
    })
}

/// The beginning of a digest, which is enough to name the image.
pub(super) fn short(image: &ImageInfo) -> String {
    image
        .id
        .to_string()
        .chars()
        .take("blake3:".len() + 12)
        .collect()
}

/// The merged tree from `path` down, as one layer.
fn tree_of(image: &Image, path: &[u8]) -> Result<Layer, Failure> {
    Ok(Fs::new(image).tree(path, &ChunkPool::new())?)
}

pub(super) fn tree(store: &Store, args: TreeArgs) -> Result<(), Failure> {
    let image = store.image(args.image.reference.as_str())?;
    let from = LayerPath::parse(args.path.as_bytes())
        .map_err(|error| Failure::usage(format_args!("{}: {error}", show(args.path.as_bytes()))))?;
    let shown = Shown::collect(&image, &from)?;
    let json = || {
        let entries: Vec<Value> = shown.iter().map(Shown::json).collect();
        json!({"entries": entries})
    };
    answer(args.form, json, || {
        let lines: Vec<String> = shown.iter().map(Shown::line).collect();
        lines.join("\n")
    })
}

/// One line of `tree`.
struct Shown {
    path: LayerPath,
    kind: Kind,
    meta: Meta,
    size: u64,
    target: Option<Vec<u8>>,
    layer: Option<usize>,
}

impl Shown {
    /// Takes what is at `from` and below: one entry if that is no directory.
    fn collect(image: &Image, from: &LayerPath) -> Result<Vec<Self>, Failure> {
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
        Ok(wanted
            .filter_map(|(path, entry)| Self::of(image, &path, &entry))
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
            self.size,
            date(mtime),
            rooted(&self.path),
            target.unwrap_or_default()
        )
    }

    fn json(&self) -> Value {
        let mut told = json!({
            "kind": kind(self.kind),
            "mode": self.meta.mode,
            "uid": self.meta.uid,
            "gid": self.meta.gid,
            "mtime_ns": self.meta.mtime.as_nanos_clamped(),
            "size_bytes": self.size,
            "target": null,
            "layer": self.layer,
        });
        put_bytes(&mut told, "path", &rooted_bytes(&self.path));
        if let Some(target) = &self.target {
            put_bytes(&mut told, "target", target);
        }
        told
    }
}

fn full(above: &LayerPath, below: &LayerPath) -> LayerPath {
    let names = above.names().iter().chain(below.names());
    names.cloned().collect::<Vec<_>>().into()
}

pub(super) fn diff(store: &Store, args: DiffArgs) -> Result<(), Failure> {
    let whole = |reference: &Reference| tree_of(&store.image(reference.as_str())?, b"/");
    let changes = compare(&whole(&args.from)?, &whole(&args.to)?);
    let json = || {
        let all = changes.iter().map(|(change, path)| {
            let mut told = json!({"change": change.letter().to_string()});
            put_bytes(&mut told, "path", &rooted_bytes(path));
            told
        });
        let all: Vec<Value> = all.collect();
        json!({"changes": all})
    };
    answer(args.form, json, || {
        let lines: Vec<String> = changes
            .iter()
            .map(|(change, path)| format!("{} {}", change.letter(), rooted(path)))
            .collect();
        lines.join("\n")
    })
}
