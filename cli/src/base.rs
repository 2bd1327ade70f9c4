//! The demo's base: layers of real size from what the machine has.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use stratafs::chunk::{ChunkPool, Content, ContentBuilder};
use stratafs::layer::{Layer, LayerBuilder};
use stratafs::meta::{Meta, Time};
use stratafs::name::{LayerPath, Name};

use super::failure::Failure;

/// As many files and bytes as the demo takes at most.
const MOST_FILES: usize = 10_000;
const MOST_BYTES: u64 = 128 << 20;

/// A tree with less does not show much.
const LEAST_FILES: usize = 2_000;
const LEAST_BYTES: u64 = 16 << 20;

/// Files of the tree that is made up where nothing is found: 40 MB.
const MADE_UP_FILES: usize = 5_000;
const MADE_UP_BYTES: usize = 8 << 10;

/// Layers, and what they were made from.
pub(super) struct Base {
    pub(super) layers: Vec<Layer>,
    pub(super) source: String,
}

/// Takes files from the first place that has enough of them, or makes some.
pub(super) fn make(pool: &ChunkPool) -> Result<Base, Failure> {
    for place in places() {
        let found = FoundFiles::below(&place);
        if found.files.len() >= LEAST_FILES && found.bytes >= LEAST_BYTES {
            return Ok(Base {
                layers: found.layers(pool)?,
                source: place.display().to_string(),
            });
        }
    }
    Ok(Base {
        layers: vec![made_up(pool)?],
        source: "made up".to_owned(),
    })
}

/// What a machine with Rust has: documentation, the library's source, and the
/// crates that were fetched to build this program.
fn places() -> Vec<PathBuf> {
    let mut places = Vec::new();
    let asked = Command::new("rustc").args(["--print", "sysroot"]).output();
    if let Ok(output) = asked {
        let sysroot = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
        places.push(sysroot.join("share/doc/rust/html"));
        places.push(sysroot.join("lib/rustlib/src/rust"));
    }
    let cargo = env::var_os("CARGO_HOME").map(PathBuf::from);
    if let Some(cargo) = cargo.or_else(|| Some(env::home_dir()?.join(".cargo"))) {
        let registries = fs::read_dir(cargo.join("registry/src"))
            .into_iter()
            .flatten();
        places.extend(registries.filter_map(|entry| Some(entry.ok()?.path())));
    }
    places
}

/// Files found, by top directory and then by path.
#[derive(Default)]
struct FoundFiles {
    files: Vec<(LayerPath, PathBuf)>,
    bytes: u64,
}

impl FoundFiles {
    /// Walks a tree in the order of names until there is enough. What cannot
    /// be read, links, and names that WASI cannot spell are left out.
    fn below(root: &Path) -> Self {
        let mut found = Self::default();
        let mut waiting = vec![(LayerPath::root(), root.to_owned())];
        while let Some((inside, dir)) = waiting.pop() {
            let Ok(entries) = fs::read_dir(&dir) else {
                continue;
            };
            let mut entries: Vec<_> = entries.filter_map(Result::ok).collect();
            entries.sort_by_key(fs::DirEntry::file_name);
            // The last one waits on top: the first name comes next.
            for entry in entries.iter().rev() {
                let (Ok(kind), Some(path)) = (entry.file_type(), spelled(&inside, entry)) else {
                    continue;
                };
                if kind.is_dir() {
                    waiting.push((path, entry.path()));
                } else if kind.is_file() {
                    found.bytes += entry.metadata().map_or(0, |meta| meta.len());
                    found.files.push((path, entry.path()));
                }
            }
            if found.files.len() >= MOST_FILES || found.bytes >= MOST_BYTES {
                break;
            }
        }
        found
    }

    /// Makes a layer of each top directory, so that there is a stack to merge.
    fn layers(self, pool: &ChunkPool) -> Result<Vec<Layer>, Failure> {
        let mut layers: BTreeMap<Vec<u8>, LayerBuilder> = BTreeMap::new();
        for (path, file) in self.files {
            let top = match path.names() {
                [top, _, ..] => top.as_bytes().to_owned(),
                _ => Vec::new(),
            };
            let Ok(content) = content_of(pool, &file) else {
                continue;
            };
            layers
                .entry(top)
                .or_default()
                .file(&path, meta(), content)?;
        }
        let layers = layers.into_values().map(LayerBuilder::finish);
        Ok(layers.collect::<Result<_, _>>()?)
    }
}

fn spelled(inside: &LayerPath, entry: &fs::DirEntry) -> Option<LayerPath> {
    let name = entry.file_name();
    Some(inside.join(Name::new(name.to_str()?.as_bytes()).ok()?))
}

fn content_of(pool: &ChunkPool, path: &Path) -> std::io::Result<Content> {
    let mut file = fs::File::open(path)?;
    let mut builder = ContentBuilder::new(pool);
    let mut buffer = vec![0; 64 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(builder.finish()),
            len => builder.write(buffer.get(..len).unwrap_or_default()),
        }
    }
}

/// The same on every machine, whatever the files' own are.
fn meta() -> Meta {
    Meta::with_mode(0o644).at(Time::new(1_700_000_000, 0))
}

/// Makes up files that no two of are equal.
fn made_up(pool: &ChunkPool) -> Result<Layer, Failure> {
    let mut builder = LayerBuilder::new();
    for number in 0..MADE_UP_FILES {
        let path = format!("dir-{:03}/file-{number:04}.txt", number / 100);
        let line = format!("file {number} of the demo's base\n");
        let bytes: Vec<u8> = line.bytes().cycle().take(MADE_UP_BYTES).collect();
        let content = ContentBuilder::of(pool, &bytes);
        builder.file(&LayerPath::parse(path.as_bytes())?, meta(), content)?;
    }
    Ok(builder.finish()?)
}
