//! `image analyze`.

mod compress;
mod page;
mod summary;
mod treedata;

use std::collections::VecDeque;

use serde_json::{Value, json};
use stratafs::store::{ImageInfo, Store};
use stratafs::transfer::{self, Analysis, AnalyzedEntry, HiddenFile, LayerAnalysis};

use compress::Compressed;
use summary::{DirSum, Summed, Unopened};

use super::look_args::AnalyzeArgs;
use super::text::{answer, put_bytes, rooted, rooted_bytes};
use super::trace::Touched;
use crate::failure::Failure;
use crate::outfile::{self, OutFile};
use crate::report::{Align, Table, bytes, count};

/// All that is known of an image.
struct Analyzed<'a> {
    name: String,
    info: &'a ImageInfo,
    analysis: &'a Analysis,
    /// What each layer's files compress to.
    compressed: Vec<Compressed>,
    /// The step of the history that made each layer.
    steps: Vec<String>,
    summed: Summed<'a>,
    touched: Option<Touched>,
}

pub(super) fn analyze(store: &Store, args: AnalyzeArgs) -> Result<(), Failure> {
    let page = args.html.as_deref().map(OutFile::create).transpose()?;
    let touched = match args.traces.is_empty() {
        true => None,
        false => Some(Touched::read(&args.traces)?),
    };
    let reference = &args.image.reference;
    let info = store.info(reference.as_str())?;
    let analysis = transfer::analyze(store, reference)?;
    let layers = store.layers(reference.as_str())?;
    let all = analysis.layers.iter().map(|layer| layer.added.bytes);
    let all = all.fold(0, u64::saturating_add);
    let compressed = layers.iter().map(|layer| Compressed::measure(layer, all));
    let analyzed = Analyzed {
        name: reference.to_string(),
        info: &info,
        compressed: compressed.collect::<Result<_, _>>()?,
        steps: steps(&info),
        summed: Summed::of(&analysis, touched.as_ref(), args.top),
        analysis: &analysis,
        touched,
    };
    if let Some(page) = page {
        let text = page::page(&analyzed);
        page.write(|out| Ok(out.write_all(text.as_bytes())?))?;
        if args.html.as_deref().is_some_and(outfile::is_stdout) {
            return Ok(());
        }
    }
    answer(args.form, || analyzed.json(), || analyzed.text())
}

/// What the history says of each layer; nothing of those that it does not tell of.
fn steps(info: &ImageInfo) -> Vec<String> {
    let named = info.config.history.iter().filter(|step| !step.empty_layer);
    let mut named: VecDeque<String> = named
        .map(|step| step.created_by.clone().unwrap_or_default())
        .collect();
    let layers = info.layers.iter();
    layers
        .map(|_| named.pop_front().unwrap_or_default())
        .collect()
}

impl Analyzed<'_> {
    fn json(&self) -> Value {
        let summed = &self.summed;
        let layers: Vec<Value> = (0..self.analysis.layers.len())
            .filter_map(|number| self.layer_json(number))
            .collect();
        let files = |files: &[&AnalyzedEntry]| files.iter().map(|file| file_json(file)).collect();
        let largest_files: Vec<Value> = files(&summed.largest_files);
        let largest_dirs: Vec<Value> = summed.largest_dirs.iter().map(dir_json).collect();
        let wasted: Vec<Value> = summed
            .largest_wasted
            .iter()
            .map(|file| hidden_json(file))
            .collect();
        json!({
            "image": self.name,
            "id": self.info.id.to_string(),
            "files": summed.files,
            "dirs": summed.dirs,
            "symlinks": summed.symlinks,
            "logical_bytes": summed.bytes,
            "wasted_files": summed.wasted_files,
            "wasted_bytes": summed.wasted_bytes,
            "duplicate_files": summed.duplicate_files,
            "duplicate_bytes": summed.duplicate_bytes,
            "layers": layers,
            "largest_files": largest_files,
            "largest_dirs": largest_dirs,
            "largest_wasted": wasted,
            "trace": summed.unread.as_ref().map(|unread| json!({
                "opened_files": unread.opened_files,
                "read_bytes": unread.read_bytes,
                "unread_files": unread.files,
                "unread_bytes": unread.bytes,
                "unknown_paths": unread.unknown_paths,
                "largest_unread": files(&unread.largest),
            })),
        })
    }

    fn layer_json(&self, number: usize) -> Option<Value> {
        let layer = self.analysis.layers.get(number)?;
        let origin = self.info.layers.get(number).map(|layer| &layer.origin);
        let blob_bytes = origin.and_then(|origin| origin.blob.map(|_| origin.blob_bytes));
        let added = &layer.added;
        Some(json!({
            "number": number,
            "digest": layer.digest.map(|digest| digest.to_string()),
            "created_by": self.steps.get(number).filter(|step| !step.is_empty()),
            "blob_bytes": blob_bytes,
            "added_files": added.files,
            "added_bytes": added.bytes,
            "dirs": added.dirs,
            "symlinks": added.symlinks,
            "whiteouts": added.whiteouts,
            "opaque_dirs": added.opaque_dirs,
            "overwritten_files": layer.overwritten.files,
            "overwritten_bytes": layer.overwritten.bytes,
            "repeated_files": layer.repeated.files,
            "repeated_bytes": layer.repeated.bytes,
            "removed_files": layer.removed.files,
            "removed_bytes": layer.removed.bytes,
            "wasted_files": layer.wasted.files,
            "wasted_bytes": layer.wasted.bytes,
            "chunk_bytes": layer.chunk_bytes,
            "new_chunk_bytes": layer.new_chunk_bytes,
            "shared_chunk_bytes": layer.shared_chunk_bytes,
            "shared_with": layer.shared_with,
            "compression": self.compressed.get(number).map(Compressed::json),
        }))
    }

    fn text(&self) -> String {
        let summed = &self.summed;
        let mut out = format!(
            "{}: {} files and {} directories, {} in {} layers\n",
            self.name,
            count(summed.files),
            count(summed.dirs),
            bytes(summed.bytes),
            self.analysis.layers.len()
        );
        let mut line = |text: String| {
            out.push_str(&text);
            out.push('\n');
        };
        line(format!(
            "wasted: {} of {} files that upper layers hide; equal files: {} more than needed, {}",
            bytes(summed.wasted_bytes),
            count(summed.wasted_files),
            count(summed.duplicate_files),
            bytes(summed.duplicate_bytes)
        ));
        if let Some(unread) = &summed.unread {
            line(unread_line(unread));
        }
        line(String::new());
        line(self.table().to_string());
        let files = |files: &[&AnalyzedEntry]| {
            let lines = files
                .iter()
                .map(|file| sized(file.size, &rooted(&file.path)));
            lines.collect()
        };
        list(&mut line, "largest files", files(&summed.largest_files));
        let dirs = summed.largest_dirs.iter().map(dir_line).collect();
        list(&mut line, "largest directories", dirs);
        let wasted = summed
            .largest_wasted
            .iter()
            .map(|file| wasted_line(file))
            .collect();
        list(&mut line, "largest that are hidden", wasted);
        if let Some(unread) = &summed.unread {
            list(
                &mut line,
                "largest that were never opened",
                files(&unread.largest),
            );
        }
        out
    }

    fn table(&self) -> Table {
        let right = |name| (name, Align::Right);
        let mut table = Table::new(&[
            right("layer"),
            right("files"),
            right("adds"),
            right("overwrites"),
            right("removes"),
            right("wasted"),
            right("shared"),
            right("gzip"),
            right("zstd"),
            ("made by", Align::Left),
        ]);
        for (number, layer) in self.analysis.layers.iter().enumerate() {
            let mut cells = figures(number, layer);
            let compressed = self.compressed.get(number).copied().unwrap_or_default();
            let about = if compressed.is_whole() { "" } else { "~" };
            cells.push(format!("{about}{}", bytes(compressed.gzip())));
            cells.push(format!("{about}{}", bytes(compressed.zstd())));
            let step = self.steps.get(number).map_or("", String::as_str);
            cells.push(short_step(step));
            table.row(cells);
        }
        table
    }
}

/// The figures of a layer as people read them, in the order of both tables.
fn figures(number: usize, layer: &LayerAnalysis) -> Vec<String> {
    vec![
        number.to_string(),
        count(layer.added.files),
        bytes(layer.added.bytes),
        bytes(layer.overwritten.bytes),
        bytes(layer.removed.bytes),
        bytes(layer.wasted.bytes),
        bytes(layer.shared_chunk_bytes),
    ]
}

/// A step of the history on one line, its end left out where it is long.
fn short_step(step: &str) -> String {
    const SHOWN: usize = 60;
    let step = step.replace(['\n', '\t'], " ");
    let step = stratafs::name::show(step.as_bytes());
    match step.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}...", step.get(..end).unwrap_or_default()),
        None => step,
    }
}

fn unread_line(unread: &Unopened<'_>) -> String {
    let unknown = match unread.unknown_paths {
        0 => String::new(),
        more => format!("; {} paths of the traces are not files of it", count(more)),
    };
    format!(
        "traces: {} files opened, {} read; {} files never opened, {}{unknown}",
        count(unread.opened_files),
        bytes(unread.read_bytes),
        count(unread.files),
        bytes(unread.bytes)
    )
}

fn list(line: &mut impl FnMut(String), title: &str, lines: Vec<String>) {
    if lines.is_empty() {
        return;
    }
    line(format!("{title}:"));
    lines.into_iter().for_each(line);
}

fn sized(size: u64, what: &str) -> String {
    format!("{:>10}  {what}", bytes(size))
}

fn dir_line(dir: &DirSum) -> String {
    let files = count(dir.files);
    sized(dir.bytes, &format!("{} ({files} files)", rooted(&dir.path)))
}

fn wasted_line(file: &HiddenFile) -> String {
    let verb = if file.is_overwritten {
        "overwritten"
    } else {
        "removed"
    };
    let path = rooted(&file.path);
    sized(
        file.size,
        &format!(
            "{path} of layer {}, {verb} by layer {}",
            file.layer, file.by
        ),
    )
}

fn file_json(file: &AnalyzedEntry) -> Value {
    let mut value = json!({"size_bytes": file.size, "layer": file.layer});
    put_bytes(&mut value, "path", &rooted_bytes(&file.path));
    value
}

fn dir_json(dir: &DirSum) -> Value {
    let mut value = json!({"size_bytes": dir.bytes, "files": dir.files});
    put_bytes(&mut value, "path", &rooted_bytes(&dir.path));
    value
}

fn hidden_json(file: &HiddenFile) -> Value {
    let mut value = json!({
        "size_bytes": file.size,
        "layer": file.layer,
        "hidden_by": file.by,
        "overwritten": file.is_overwritten,
    });
    put_bytes(&mut value, "path", &rooted_bytes(&file.path));
    value
}
