//! A whole layer into an archive.

use std::collections::HashMap;
use std::io::Write;

use super::{ExportError, TarWriter};
use crate::layer::{EntryBody, Layer, LayerEntry};
use crate::name::LayerPath;

/// Writes a layer as an OCI layer tar and gives `out` back. Importing it
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
