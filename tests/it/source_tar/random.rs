//! Random legal archives, as odd as readers agree on, under GNU tar, bsdtar,
//! Python's tarfile and busybox, where they are installed: what each of them
//! unpacks is what we read.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use stratafs::chunk::ChunkPool;
use stratafs::layer::{EntryBody, Layer};
use stratafs::source::{LeftOut, SourceOptions, dir_ambient, tar};
use tempfile::TempDir;

use crate::support::archive::{Archive, Head};
use crate::support::rng::Rng;

const ARCHIVES: u64 = 48;

/// Readers, and how each unpacks `$0` into the directory that it is run in.
const READERS: [(&str, &[&str]); 4] = [
    ("tar", &["-p", "--numeric-owner", "-xf"]),
    ("bsdtar", &["-p", "-xf"]),
    ("python3", &["-c", PYTHON]),
    ("busybox", &["tar", "-p", "-x", "-f"]),
];

const PYTHON: &str = "import sys, tarfile
t = tarfile.open(sys.argv[1])
t.extractall('.', **({'filter': 'fully_trusted'} if hasattr(tarfile, 'fully_trusted_filter') else {}))";

/// An archive that grows at random.
struct Growing {
    rng: Rng,
    archive: Archive,
    /// Paths of directories, of files, and of symbolic links and FIFOs.
    dirs: Vec<String>,
    files: Vec<String>,
    others: Vec<String>,
    /// It has what only GNU tar and bsdtar read alike.
    exotic: bool,
}

impl Growing {
    fn new(seed: u64) -> Self {
        Self {
            rng: Rng::new(seed),
            archive: Archive::new(),
            dirs: vec![String::new()],
            files: Vec::new(),
            others: Vec::new(),
            exotic: seed.is_multiple_of(3),
        }
    }

    /// A path in some directory that nothing has yet.
    fn new_path(&mut self) -> String {
        let dir = self.rng.pick(&self.dirs).clone();
        let count = self.dirs.len() + self.files.len() + self.others.len();
        let long = match self.rng.below(8) {
            0 => "n".repeat(self.rng.below(200)),
            1 => "\u{e9}\u{4e2d} \\".to_owned(),
            _ => String::new(),
        };
        format!("{dir}{long}{count}")
    }

    /// A number in one of the ways to write it into a field.
    fn number(&mut self, len: usize, number: u64) -> Vec<u8> {
        let text = match self.rng.below(5) {
            0 => format!("{number:0width$o} ", width = len - 1),
            1 => format!("{number:>width$o}\0", width = len - 1),
            2 => format!("{number:0len$o}"),
            3 => format!("{number:o}"),
            _ => format!("{number:0width$o}\0", width = len - 1),
        };
        let mut field = text.into_bytes();
        if len == 12 && self.rng.one_in(5) {
            field = [&[0x80, 0, 0, 0], &number.to_be_bytes()[..]].concat();
        }
        field.resize(len, 0);
        field
    }

    /// Writes an entry, its name in one of the ways to write it.
    fn entry(&mut self, kind: u8, name: &str, link: &str, data: &[u8], size: u64) {
        let mode = [0o644, 0o755, 0o600, 0o4711][self.rng.below(4)];
        let mtime = self.rng.next() % (1 << 32);
        let fields = [(100, 8, mode), (124, 12, size), (136, 12, mtime)];
        let mut head = Head::new(kind, "");
        let short = name.len() <= 100 && link.len() <= 100;
        if !short || self.rng.one_in(4) {
            let archive = std::mem::take(&mut self.archive);
            self.archive = match self.rng.one_in(2) {
                true => archive.pax(
                    &[
                        ("path", name.as_bytes()),
                        ("linkpath", link.as_bytes()),
                        ("comment", b"left alone"),
                    ][..if link.is_empty() { 1 } else { 3 }],
                ),
                false => {
                    head = head.gnu();
                    let named = archive.long(b'L', name.as_bytes());
                    match link.is_empty() {
                        true => named,
                        false => named.long(b'K', link.as_bytes()),
                    }
                }
            };
            head = head.field(0, b"another");
            if !link.is_empty() {
                head = head.link("another");
            }
        } else {
            head = head.field(0, name.as_bytes()).link(link);
        }
        for (at, len, number) in fields {
            let field = self.number(len, number);
            head = head.field(at, &field);
        }
        self.archive = std::mem::take(&mut self.archive).head(head).data(data);
    }

    /// A size that means nothing.
    fn any_size(&mut self) -> u64 {
        match self.rng.one_in(2) {
            true => 0,
            false => 1 + self.rng.next() % 100_000,
        }
    }

    fn step(&mut self) {
        match self.rng.below(12) {
            0..=4 => {
                let path = self.new_path();
                let len = [0, 1, 5, 511, 512, 513, 3000][self.rng.below(7)];
                let data: Vec<u8> = (0..len).map(|_| self.rng.next() as u8).collect();
                let kind = *self.rng.pick(b"0\x007");
                self.entry(kind, &path, "", &data, len);
                self.files.push(path);
            }
            5..=6 => {
                let path = format!("{}/", self.new_path());
                // GNU's incremental archives say what a directory held.
                let dumped = self.exotic && self.rng.one_in(3);
                match dumped {
                    true => self.entry(b'D', &path, "", b"Yone\0Ntwo\0\0", 11),
                    false => {
                        let size = match self.exotic {
                            true => 0,
                            false => self.any_size(),
                        };
                        self.entry(b'5', &path, "", b"", size);
                    }
                }
                self.dirs.push(path);
            }
            7..=8 => {
                let path = self.new_path();
                let size = self.any_size();
                self.entry(b'2', &path, "some/where", b"", size);
                self.others.push(path);
            }
            9..=10 if !self.files.is_empty() => {
                let target = self.rng.pick(&self.files).clone();
                let path = match self.exotic && self.rng.one_in(3) {
                    true => target.clone(),
                    false => self.new_path(),
                };
                self.entry(b'1', &path, &target, b"", 0);
                if path != target {
                    self.files.push(path);
                }
            }
            _ => {
                let path = self.new_path();
                self.entry(b'6', &path, "", b"", 0);
                self.others.push(path);
            }
        }
    }

    fn end(mut self) -> Vec<u8> {
        for _ in 0..3 + self.rng.below(30) {
            self.step();
        }
        let blocks = [2, 2, 3, 20][self.rng.below(4)];
        self.archive.bytes(&vec![0; blocks * 512]).0
    }
}

/// What of a layer all readers tell alike: what is where, which files are one,
/// modes and times.
fn told(layer: &Layer) -> Vec<String> {
    let mut same: BTreeMap<u64, String> = BTreeMap::new();
    let entries = layer.entries().filter(|entry| !entry.path.is_root());
    entries
        .map(|entry| {
            let path = entry.path.to_string();
            match entry.body {
                EntryBody::Dir { .. } => format!("{path} d"),
                EntryBody::Symlink { target, .. } => {
                    format!("{path} l {}", String::from_utf8_lossy(target))
                }
                EntryBody::File {
                    meta,
                    content,
                    links,
                    ..
                } => {
                    let mut bytes = vec![0; content.size() as usize];
                    assert_eq!(content.read_at(&mut bytes, 0).unwrap(), bytes.len());
                    let sum = bytes.iter().fold(7_u64, |sum, byte| {
                        sum.wrapping_mul(31).wrapping_add(u64::from(*byte))
                    });
                    // Readers disagree on whose mode and time the names of one file have.
                    let (mode, secs) = match links {
                        1 => (meta.mode, meta.mtime.secs()),
                        _ => (0, 0),
                    };
                    let first = same.entry(sum).or_insert_with(|| path.clone());
                    let first = if links > 1 { first.as_str() } else { "" };
                    format!(
                        "{path} f {} {sum} {:o} {secs} {links} {first}",
                        bytes.len(),
                        mode
                    )
                }
                other => panic!("{path}: {other:?}"),
            }
        })
        .collect()
}

fn skipping() -> SourceOptions {
    SourceOptions {
        skip_special: Some(LeftOut::new()),
        ..SourceOptions::default()
    }
}

/// What a reader unpacks; `None` where it is not installed.
fn unpacked(
    (program, args): (&str, &[&str]),
    archive: &Path,
) -> Option<Result<Vec<String>, String>> {
    let dir = TempDir::new().unwrap();
    let done = Command::new(program)
        .args(args)
        .arg(archive)
        .current_dir(dir.path())
        .output();
    let done = done.ok()?;
    // Some versions of bsdtar leave out a link to itself, and say that they did.
    let said = String::from_utf8_lossy(&done.stderr);
    let is_itself = said
        .lines()
        .all(|line| line.contains("hardlink pointing to itself") || line.contains("Error exit"));
    if !done.status.success() && !is_itself {
        return Some(Err(String::from_utf8_lossy(&done.stderr).into_owned()));
    }
    let layer = dir_ambient(&ChunkPool::new(), dir.path(), &skipping()).unwrap();
    Some(Ok(told(&layer)))
}

#[test]
fn random_archives_are_to_us_what_they_are_to_others() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("x.tar");
    let mut held: BTreeMap<&str, u64> = BTreeMap::new();
    for seed in 0..ARCHIVES {
        let growing = Growing::new(seed);
        let exotic = growing.exotic;
        let bytes = growing.end();
        fs::write(&path, &bytes).unwrap();
        let layer = tar(&ChunkPool::new(), &bytes[..], &skipping());
        let ours = told(&layer.unwrap_or_else(|error| panic!("seed {seed}: {error}")));
        for reader in READERS {
            if exotic && !matches!(reader.0, "tar" | "bsdtar") {
                continue;
            }
            match unpacked(reader, &path) {
                Some(Ok(theirs)) => {
                    assert_eq!(theirs, ours, "seed {seed}: {}", reader.0);
                    *held.entry(reader.0).or_default() += 1;
                }
                Some(Err(why)) => panic!("seed {seed}: {}: {why}", reader.0),
                None => {}
            }
        }
    }
    for (program, _) in READERS {
        match held.get(program) {
            Some(count) => assert!(*count >= ARCHIVES / 2, "{program}: {count}"),
            None => eprintln!("skipped: {program} is not here"),
        }
    }
}
