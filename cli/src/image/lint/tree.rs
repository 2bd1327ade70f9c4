//! Rules about the files of an image.

use std::collections::HashMap;

use stratafs::layer::{EntryBody, Layer};
use stratafs::meta::{Kind, Meta};
use stratafs::name::{LayerPath, Name};
use stratafs::transfer::{Analysis, AnalyzedEntry};

use super::super::text::rooted;
use super::findings::Findings;
use super::rules::{
    DUPLICATE, HIDDEN_BYTES, LEFTOVER, MANY_LAYERS, NATIVE_PROGRAM, SECRET, SETUID, WORLD_WRITABLE,
};
use super::secrets::{self, Scanner};
use crate::failure::Failure;
use crate::report::bytes;

/// Hidden files with less are not worth a word.
const HIDDEN_FROM: u64 = 4 << 10;

/// Equal files with less are not worth a word.
const DUPLICATE_FROM: u64 = 64 << 10;

/// Layers from which on an image has many.
pub(super) const MANY: usize = 32;

/// Bytes of a file that are looked at to tell what it is.
const MAGIC_BYTES: usize = 20;

/// Looks at what layers do to each other, and at the merged tree.
pub(super) fn merged(analysis: &Analysis, findings: &mut Findings) {
    let mut wasted = 0_u64;
    for file in &analysis.hidden {
        wasted = wasted.saturating_add(file.size);
        if file.size >= HIDDEN_FROM {
            let verb = if file.is_overwritten {
                "overwrites"
            } else {
                "removes"
            };
            let reason = format!("{} that layer {} {verb}", bytes(file.size), file.by);
            findings.at(&HIDDEN_BYTES, &file.path, file.layer, reason);
        }
    }
    let all = analysis.layers.iter().map(|layer| layer.added.bytes);
    let all = all.fold(0, u64::saturating_add);
    let count = analysis.layers.len();
    if count > MANY {
        findings.of_image(&MANY_LAYERS, format!("{count} layers"));
    } else if wasted >= HIDDEN_FROM && wasted >= all / 4 {
        let (wasted, all) = (bytes(wasted), bytes(all));
        findings.of_image(&MANY_LAYERS, format!("{wasted} of {all} are hidden"));
    }
    let mut first: HashMap<_, &AnalyzedEntry> = HashMap::new();
    for entry in &analysis.entries {
        if is_leftover(&entry.path, entry.kind) {
            findings.at(&LEFTOVER, &entry.path, entry.layer, "left over");
        }
        let is_large = entry.size >= DUPLICATE_FROM && !entry.is_further_name;
        if let (Some(digest), true) = (entry.content, is_large) {
            let one = first.entry(digest).or_insert(entry);
            if one.path != entry.path {
                let reason = format!("{} as in {}", bytes(entry.size), rooted(&one.path));
                findings.at(&DUPLICATE, &entry.path, entry.layer, reason);
            }
        }
    }
}

/// Returns whether a file is one that nobody meant to ship.
fn is_leftover(path: &LayerPath, kind: Kind) -> bool {
    let names: Vec<&[u8]> = path.names().iter().map(Name::as_bytes).collect();
    let Some((last, dirs)) = names.split_last() else {
        return false;
    };
    if kind == Kind::Dir {
        return matches!(*last, b".git" | b".hg" | b".svn");
    }
    let is_below = |above: &[&[u8]]| dirs.starts_with(above);
    let of_system = [
        &[&b"tmp"[..]][..],
        &[b"var", b"tmp"],
        &[b"var", b"cache"],
        &[b"var", b"lib", b"apt", b"lists"],
        &[b"root", b".cache"],
    ];
    of_system.into_iter().any(is_below)
        || matches!(*last, b".DS_Store" | b"Thumbs.db")
        || last.ends_with(b"~")
        || last.ends_with(b".swp")
        || last.ends_with(b".orig")
}

/// Looks at the files of each layer, hidden or not.
pub(super) fn layers(layers: &[Layer], findings: &mut Findings) -> Result<(), Failure> {
    let mut scanner = Scanner::new();
    for (number, layer) in layers.iter().enumerate() {
        for entry in layer.entries() {
            match &entry.body {
                EntryBody::Dir {
                    meta: Some(meta), ..
                } => modes(&entry.path, Kind::Dir, meta, number, findings),
                EntryBody::File { meta, content, .. } => {
                    modes(&entry.path, Kind::File, meta, number, findings);
                    let mut magic = [0; MAGIC_BYTES];
                    let at = |error| Failure::new(format_args!("{}: {error}", rooted(&entry.path)));
                    let len = content.read_at(&mut magic, 0).map_err(at)?;
                    if let Some(what) = native(magic.get(..len).unwrap_or_default()) {
                        findings.at(&NATIVE_PROGRAM, &entry.path, number, what);
                    }
                    if findings.wants(&SECRET)
                        && let Some(what) = scanner.scan(&entry.path, content).map_err(at)?
                    {
                        findings.at(&SECRET, &entry.path, number, what);
                    }
                }
                _ => {}
            }
        }
    }
    if scanner.is_over() {
        findings.of_image(&SECRET, secrets::OVER);
    }
    Ok(())
}

fn modes(path: &LayerPath, kind: Kind, meta: &Meta, layer: usize, findings: &mut Findings) {
    let mode = meta.mode;
    if kind == Kind::File && mode & 0o6000 != 0 {
        findings.at(&SETUID, path, layer, format!("mode {mode:04o}"));
    }
    let is_sticky_dir = kind == Kind::Dir && mode & 0o1000 != 0;
    if mode & 0o002 != 0 && !is_sticky_dir {
        findings.at(&WORLD_WRITABLE, path, layer, format!("mode {mode:04o}"));
    }
}

/// Returns what a program for a processor is by its first bytes.
fn native(magic: &[u8]) -> Option<&'static str> {
    match magic {
        [0x7f, b'E', b'L', b'F', ..] => Some("an ELF program or library"),
        [0xcf | 0xce, 0xfa, 0xed, 0xfe, ..] => Some("a Mach-O program or library"),
        // Text may begin with these letters; a header has zeros.
        [b'M', b'Z', rest @ ..] if rest.len() > 8 && rest.contains(&0) => {
            Some("a program or library for Windows")
        }
        _ => None,
    }
}
