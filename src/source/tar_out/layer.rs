//! A whole layer into an archive.

use std::collections::HashMap;
use std::io::Write;

#[cfg(all(feature = "oci", feature = "store"))]
use super::SpanSink;
use super::{ExportError, TarWriter};
use crate::layer::{EntryBody, Layer, LayerEntry};
use crate::name::LayerPath;
#[cfg(all(feature = "oci", feature = "store"))]
use crate::source::StartSet;

/// Writes a layer as an OCI layer tar and returns `out`. Importing it
/// gives a layer of the same digest.
///
/// The same layer gives the same bytes. O(entries + bytes outside holes), with
/// O(depth) an entry for its path; holes are written as [`TarWriter::file`]
/// does.
///
/// # Errors
///
/// An [`ExportError`] that names the entry, such as one whose own name would
/// be taken for a whiteout. What has been written by then is no archive.
pub fn write_layer<W: Write>(layer: &Layer, out: W) -> Result<W, ExportError> {
    let mut writer = TarWriter::new(out);
    let mut first_names = HashMap::new();
    for entry in layer.entries() {
        write_entry(&mut writer, &entry, &mut first_names)?;
    }
    writer.finish().map_err(|error| ExportError::Write {
        path: LayerPath::root(),
        error,
    })
}

/// Writes a layer as [`write_layer`] does, and reports to `spans` where the bytes of files are. With
/// a start set the order is another: directories; the files of the set that are read whole, in
/// its order; those that are read in part; the rest.
#[cfg(all(feature = "oci", feature = "store"))]
pub(crate) fn write_layer_with<W: Write>(
    layer: &Layer,
    out: W,
    spans: std::sync::Arc<dyn SpanSink>,
    start: &StartSet,
) -> Result<W, ExportError> {
    let mut writer = TarWriter::new(out).with_spans(std::sync::Arc::clone(&spans));
    let mut first_names = HashMap::new();
    if start.is_empty() {
        for entry in layer.entries() {
            write_entry(&mut writer, &entry, &mut first_names)?;
        }
    } else {
        let (dirs, others): (Vec<_>, Vec<_>) = layer
            .entries()
            .partition(|entry| matches!(entry.body, EntryBody::Dir { .. }));
        let mut ordered: Vec<_> = others
            .into_iter()
            .map(|entry| (order_of(&entry, start), entry))
            .collect();
        // Within a group they stay in the order of the layer.
        ordered.sort_by_key(|(order, _)| *order);
        for entry in &dirs {
            write_entry(&mut writer, entry, &mut first_names)?;
        }
        let first_part = ordered.partition_point(|(order, _)| order.0 == 0);
        for (number, (_, entry)) in ordered.iter().enumerate() {
            if number == first_part && number > 0 {
                spans.start_ends();
            }
            write_entry(&mut writer, entry, &mut first_names)?;
        }
        if first_part == ordered.len() && first_part > 0 {
            spans.start_ends();
        }
    }
    writer.finish().map_err(|error| ExportError::Write {
        path: LayerPath::root(),
        error,
    })
}

/// The group that an entry belongs to, and its place in that.
#[cfg(all(feature = "oci", feature = "store"))]
fn order_of(entry: &LayerEntry<'_>, start: &StartSet) -> (u8, usize) {
    let is_file = matches!(entry.body, EntryBody::File { .. });
    match start.place(&entry.path).filter(|_| is_file) {
        Some((place, true)) => (0, place),
        Some((place, false)) => (1, place),
        None => (2, 0),
    }
}

fn write_entry<W: Write>(
    writer: &mut TarWriter<W>,
    entry: &LayerEntry<'_>,
    first_names: &mut HashMap<u32, LayerPath>,
) -> Result<(), ExportError> {
    let path = &entry.path;
    if let EntryBody::File {
        object,
        links,
        meta,
        ..
    }
    | EntryBody::Symlink {
        object,
        links,
        meta,
        ..
    } = &entry.body
        && *links > 1
    {
        if let Some(first) = first_names.get(object) {
            return writer.further_name(path, first, meta);
        }
        first_names.insert(*object, path.clone());
    }
    match &entry.body {
        EntryBody::Dir { meta, opaque } => {
            if let Some(meta) = meta {
                writer.dir(path, meta)?;
            }
            if *opaque { writer.opaque(path) } else { Ok(()) }
        }
        EntryBody::File { meta, content, .. } => writer.file(path, meta, content),
        EntryBody::Symlink { meta, target, .. } => writer.symlink(path, meta, target),
        EntryBody::Whiteout => writer.whiteout(path),
        EntryBody::LowerLink { target } => writer.hard_link(path, target),
    }
}
