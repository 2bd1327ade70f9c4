//! The notation of fixtures: a tree as text, one line an entry.
//!
//! ```text
//! etc/                        a directory
//! etc/passwd = root           a file with this text
//! big * 70000                 a file of 70,000 patterned bytes
//! sparse ~ 1000000            a file of 1,000,000 zeros nobody stored
//! bin -> usr/bin              a symbolic link
//! b == a                      a hard link to `a`, of this layer or a lower one
//! - gone                      a whiteout
//! ! etc                       `etc` hides what lower layers have in it
//! etc/ [0700 12.000000005]    mode and mtime, after any of the first four
//! ```

use std::collections::HashMap;

use stratafs::chunk::{ChunkPool, Content, ContentBuilder};
use stratafs::image::Image;
use stratafs::layer::{Layer, LayerBuilder, LayerError};
use stratafs::meta::{FileId, Kind, Meta, Time};
use stratafs::name::{LayerPath, show};
use stratafs::vfs::{Access, Descriptor, Follow, Fs, OpenFlags};

/// One line.
#[derive(Clone)]
pub struct Entry {
    pub path: Vec<u8>,
    pub what: What,
    pub mode: u32,
    pub mtime: Time,
}

/// What a line makes.
#[derive(Clone)]
pub enum What {
    Dir,
    Text(Vec<u8>),
    Pattern(u64),
    Hole(u64),
    Symlink(Vec<u8>),
    Hard(Vec<u8>),
    Whiteout,
    Opaque,
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let path = show(&self.path);
        match &self.what {
            What::Dir => write!(f, "{path}/"),
            What::Text(text) => write!(f, "{path} = {}", show(text)),
            What::Pattern(len) => write!(f, "{path} * {len}"),
            What::Hole(len) => write!(f, "{path} ~ {len}"),
            What::Symlink(target) => write!(f, "{path} -> {}", show(target)),
            What::Hard(target) => write!(f, "{path} == {}", show(target)),
            What::Whiteout => return write!(f, "- {path}"),
            What::Opaque => return write!(f, "! {path}"),
        }?;
        write!(
            f,
            " [{:o} {}.{:09}]",
            self.mode,
            self.mtime.secs(),
            self.mtime.nanos()
        )
    }
}

impl Entry {
    pub fn new(path: &[u8], what: What) -> Self {
        let mode = match what {
            What::Dir => 0o755,
            What::Symlink(_) => 0o777,
            _ => 0o644,
        };
        Self {
            path: path.to_vec(),
            what,
            mode,
            mtime: Time::EPOCH,
        }
    }

    fn meta(&self) -> Meta {
        Meta::with_mode(self.mode).at(self.mtime)
    }
}

/// The byte at `offset` of patterned content: no block or chunk equals another.
pub fn pattern_byte(offset: u64) -> u8 {
    let mixed = offset.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 40) as u8 ^ (offset as u8) | 1
}

/// `len` bytes of the pattern from `offset` on.
pub fn pattern(offset: u64, len: usize) -> Vec<u8> {
    (offset..).take(len).map(pattern_byte).collect()
}

/// Reads the notation; leading white space and empty lines do not count.
pub fn parse(text: &str) -> Vec<Entry> {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(parse_line)
        .collect()
}

fn parse_line(line: &str) -> Entry {
    let (line, meta) = match line
        .strip_suffix(']')
        .and_then(|line| line.rsplit_once(" ["))
    {
        Some((line, meta)) => (line, Some(meta)),
        None => (line, None),
    };
    let new = |path: &str, what| Entry::new(path.as_bytes(), what);
    let mut entry = if let Some(path) = line.strip_prefix("- ") {
        new(path, What::Whiteout)
    } else if let Some(path) = line.strip_prefix("! ") {
        new(path, What::Opaque)
    } else if let Some((path, target)) = line.split_once(" -> ") {
        new(path, What::Symlink(target.into()))
    } else if let Some((path, target)) = line.split_once(" == ") {
        new(path, What::Hard(target.into()))
    } else if let Some((path, len)) = line.split_once(" * ") {
        new(path, What::Pattern(len.parse().expect(line)))
    } else if let Some((path, len)) = line.split_once(" ~ ") {
        new(path, What::Hole(len.parse().expect(line)))
    } else if let Some((path, text)) = line.split_once(" =") {
        new(
            path,
            What::Text(text.strip_prefix(' ').unwrap_or(text).into()),
        )
    } else {
        new(
            line.strip_suffix('/')
                .unwrap_or_else(|| panic!("what is {line:?}?")),
            What::Dir,
        )
    };
    if let Some((mode, time)) = meta.map(|meta| meta.split_once(' ').expect(line)) {
        let (secs, nanos) = time.split_once('.').expect(line);
        entry.mode = u32::from_str_radix(mode, 8).expect(line);
        entry.mtime = Time::new(secs.parse().expect(line), nanos.parse().expect(line));
    }
    entry
}

/// The content that a line of a file names.
pub fn content(pool: &ChunkPool, what: &What) -> Content {
    let mut builder = ContentBuilder::new(pool);
    match what {
        What::Text(text) => builder.write(text),
        What::Pattern(len) => builder.write(&pattern(0, *len as usize)),
        What::Hole(len) => builder.hole(*len),
        What::Dir | What::Symlink(_) | What::Hard(_) | What::Whiteout | What::Opaque => {}
    }
    builder.finish()
}

/// Builds a layer of entries.
pub fn layer_of(pool: &ChunkPool, entries: &[Entry]) -> Result<Layer, LayerError> {
    let mut builder = LayerBuilder::new();
    for entry in entries {
        let path = LayerPath::parse(&entry.path).unwrap();
        match &entry.what {
            What::Dir => builder.dir(&path, entry.meta()),
            What::Symlink(target) => builder.symlink(&path, entry.meta(), target),
            What::Hard(target) => builder.hard_link(&path, &LayerPath::parse(target).unwrap()),
            What::Whiteout => builder.whiteout(&path),
            What::Opaque => builder.opaque(&path),
            file => builder.file(&path, entry.meta(), content(pool, file)),
        }?;
    }
    builder.finish()
}

/// An image of layers in the notation, bottom first.
pub fn image(layers: &[&str]) -> Image {
    let pool = ChunkPool::new();
    let layers: Vec<Layer> = layers
        .iter()
        .map(|text| layer_of(&pool, &parse(text)).unwrap())
        .collect();
    Image::new(&layers).unwrap()
}

/// An instance over layers in the notation, bottom first.
pub fn fs(layers: &[&str]) -> Fs {
    Fs::new(&image(layers))
}

/// The names in a directory, in the order they are listed.
pub fn names(dir: &Descriptor) -> Vec<String> {
    let entries = dir.read_dir(0, usize::MAX).unwrap();
    entries.iter().map(|entry| show(&entry.name)).collect()
}

/// All bytes of an open file.
pub fn bytes(file: &Descriptor) -> Vec<u8> {
    let mut bytes = vec![0xaa; file.stat().unwrap().size as usize];
    let mut at = 0;
    while at < bytes.len() {
        let read = file.read_at(&mut bytes[at..], at as u64).unwrap();
        assert!(read > 0, "the file ends before its size");
        at += read;
    }
    bytes
}

/// An object of a tree, as [`walk`] shows it.
pub struct Object {
    pub path: Vec<u8>,
    pub stat: stratafs::meta::Stat,
    pub body: Seen,
}

/// What an object holds.
#[derive(Debug, PartialEq, Eq)]
pub enum Seen {
    Dir,
    Bytes(Vec<u8>),
    Target(Vec<u8>),
}

/// Reads everything below the root, parents before children, names sorted.
pub fn walk(fs: &Fs) -> Vec<Object> {
    let mut found = Vec::new();
    let root = fs.root().unwrap();
    found.push(Object {
        path: Vec::new(),
        stat: root.stat().unwrap(),
        body: Seen::Dir,
    });
    let mut dirs = vec![b".".to_vec()];
    while let Some(at) = dirs.pop() {
        let none = OpenFlags::empty();
        let dir = root.open_at(Follow::No, &at, none, Access::READ).unwrap();
        let listed = dir.read_dir(0, usize::MAX).unwrap().into_iter();
        let mut entries: Vec<(Vec<u8>, FileId, Kind)> = listed
            .map(|entry| (entry.name.into(), entry.id, entry.kind))
            .collect();
        entries.sort();
        for (name, id, kind) in entries {
            let stat = dir.stat_at(Follow::No, &name).unwrap();
            assert_eq!(
                (stat.id, stat.kind),
                (id, kind),
                "listing and stat of {}",
                show(&name)
            );
            let path = match &at[..] {
                b"." => name.clone(),
                at => [at, b"/", &name].concat(),
            };
            let body = match kind {
                Kind::Dir => {
                    dirs.push(path.clone());
                    Seen::Dir
                }
                Kind::Symlink => Seen::Target(dir.readlink_at(&name).unwrap().to_vec()),
                Kind::File => {
                    let file = dir.open_at(Follow::No, &name, none, Access::READ).unwrap();
                    Seen::Bytes(bytes(&file))
                }
            };
            found.push(Object { path, stat, body });
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

/// Shows a whole tree in the notation, without metadata. Bytes that are
/// neither short text nor pattern nor zeros come out as `# LEN DIGEST`.
pub fn tree(fs: &Fs) -> String {
    let mut first: HashMap<FileId, Vec<u8>> = HashMap::new();
    let mut out = String::new();
    for object in walk(fs).iter().skip(1) {
        let path = show(&object.path);
        let line = match (&object.body, first.get(&object.stat.id)) {
            (Seen::Dir, _) => format!("{path}/"),
            (_, Some(other)) => format!("{path} == {}", show(other)),
            (Seen::Target(target), None) => format!("{path} -> {}", show(target)),
            (Seen::Bytes(bytes), None) => format!("{path} {}", show_bytes(bytes)),
        };
        first
            .entry(object.stat.id)
            .or_insert_with(|| object.path.clone());
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

fn show_bytes(bytes: &[u8]) -> String {
    let len = bytes.len();
    if len < 60 && bytes.iter().all(|byte| (b' '..=b'~').contains(byte)) {
        format!("= {}", show(bytes))
    } else if bytes.iter().all(|byte| *byte == 0) {
        format!("~ {len}")
    } else if bytes
        .iter()
        .zip(0..)
        .all(|(byte, at)| *byte == pattern_byte(at))
    {
        format!("* {len}")
    } else {
        format!("# {len} {}", stratafs::digest::Digest::of(bytes))
    }
}

/// The notation without its indentation and empty lines, sorted by path: what
/// [`tree`] gives for the same tree.
pub fn text(notation: &str) -> String {
    let mut lines: Vec<&str> = notation
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    lines.sort_by_key(|line| {
        let end = line.find([' ']).unwrap_or(line.len());
        line[..end].trim_end_matches('/').to_owned()
    });
    lines.iter().flat_map(|line| [line, "\n"]).collect()
}

/// Opens `path` for reading and writing.
pub fn edit(dir: &Descriptor, path: &str) -> Descriptor {
    open(dir, path, OpenFlags::empty(), Access::READ | Access::WRITE)
}

/// Opens `path` for reading.
pub fn view(dir: &Descriptor, path: &str) -> Descriptor {
    open(dir, path, OpenFlags::empty(), Access::READ)
}

/// Makes a file that is not there yet, with these bytes.
pub fn make(dir: &Descriptor, path: &str, text: &str) -> Descriptor {
    let flags = OpenFlags::CREATE | OpenFlags::EXCLUSIVE;
    let file = open(dir, path, flags, Access::READ | Access::WRITE);
    assert_eq!(file.write_at(text.as_bytes(), 0), Ok(text.len()));
    file
}

#[track_caller]
fn open(dir: &Descriptor, path: &str, flags: OpenFlags, access: Access) -> Descriptor {
    dir.open_at(Follow::Yes, path.as_bytes(), flags, access)
        .unwrap_or_else(|errno| panic!("open {path}: {errno}"))
}

/// What `stat` tells of `path`, a link not followed.
#[track_caller]
pub fn stat(dir: &Descriptor, path: &str) -> stratafs::meta::Stat {
    dir.stat_at(Follow::No, path.as_bytes())
        .unwrap_or_else(|errno| panic!("stat {path}: {errno}"))
}

/// Whether `path` leads to nothing.
pub fn is_gone(dir: &Descriptor, path: &str) -> bool {
    dir.stat_at(Follow::No, path.as_bytes()) == Err(stratafs::errno::Errno::NoEntry)
}

/// The bytes of the file at `path`, as text.
#[track_caller]
pub fn text_of(dir: &Descriptor, path: &str) -> String {
    String::from_utf8(bytes(&view(dir, path))).unwrap()
}

/// Removes everything below a directory and the directory.
pub fn remove_tree(dir: &Descriptor, path: &str) {
    let below = view(dir, path);
    for name in names(&below) {
        match stat(&below, &name).kind {
            Kind::Dir => remove_tree(&below, &name),
            Kind::File | Kind::Symlink => below.unlink_at(name.as_bytes()).unwrap(),
        }
    }
    dir.remove_dir_at(path.as_bytes()).unwrap();
}
