//! The same random operations on an instance and, through cap-std, on a real
//! directory: the same answers, and in the end the same tree.
//!
//! Paths are of plain names and stay inside; odd paths are compared call by
//! call in `p1` and `p2`, against wasmtime-wasi on a host directory.

use std::collections::BTreeMap;
use std::io;

use cap_std::ambient_authority;
use cap_std::fs::{Dir, FileExt, MetadataExt, OpenOptions as HostOptions};
use stratafs::Error;
use stratafs::host::OpenOptions;
use stratafs::image::Image;
use stratafs::meta::Kind;
use stratafs::vfs::Fs;

use crate::support::rng::Rng;

const NAMES: [&str; 4] = ["a", "b", "c", "d"];

/// The errors the two sides may give, by the names that both have.
fn host_code(error: &io::Error) -> String {
    use io::ErrorKind as E;
    match error.raw_os_error() {
        Some(40) => "Loop".into(),
        Some(_) | None => match error.kind() {
            E::NotFound => "NoEntry".into(),
            E::AlreadyExists => "Exist".into(),
            E::NotADirectory => "NotDirectory".into(),
            E::IsADirectory => "IsDirectory".into(),
            E::DirectoryNotEmpty => "NotEmpty".into(),
            E::InvalidInput => "Invalid".into(),
            E::PermissionDenied => "NotPermitted".into(),
            E::ResourceBusy => "Busy".into(),
            other => format!("{other:?}"),
        },
    }
}

fn code(error: &Error) -> String {
    format!("{:?}", error.errno())
}

struct Pair {
    fs: Fs,
    dir: Dir,
    rng: Rng,
}

impl Pair {
    fn path(&mut self) -> String {
        let depth = 1 + self.rng.below(3);
        let names: Vec<&str> = (0..depth).map(|_| *self.rng.pick(&NAMES)).collect();
        names.join("/")
    }

    /// Runs one operation on both sides. Gives what it was and both answers.
    fn step(&mut self) -> (String, String, String) {
        let (path, other) = (self.path(), self.path());
        let target = *self.rng.pick(&NAMES);
        let choice = self.rng.below(11);
        let (fs, dir) = (&self.fs, &self.dir);
        let ours = |result: Result<String, Error>| result.unwrap_or_else(|error| code(&error));
        let theirs = |result: io::Result<String>| result.unwrap_or_else(|error| host_code(&error));
        match choice {
            0 => (
                format!("mkdir {path}"),
                ours(fs.create_dir(&path).map(|()| "ok".into())),
                theirs(dir.create_dir(&path).map(|()| "ok".into())),
            ),
            1 => (
                format!("rmdir {path}"),
                ours(fs.remove_dir(&path).map(|()| "ok".into())),
                theirs(dir.remove_dir(&path).map(|()| "ok".into())),
            ),
            2 => (
                format!("unlink {path}"),
                ours(fs.remove_file(&path).map(|()| "ok".into())),
                theirs(dir.remove_file(&path).map(|()| "ok".into())),
            ),
            3 | 4 => (
                format!("rename {path} {other}"),
                ours(fs.rename(&path, &other).map(|()| "ok".into())),
                theirs(dir.rename(&path, dir, &other).map(|()| "ok".into())),
            ),
            5 => (
                format!("link {path} {other}"),
                ours(fs.hard_link(&path, &other).map(|()| "ok".into())),
                theirs(dir.hard_link(&path, dir, &other).map(|()| "ok".into())),
            ),
            6 => (
                format!("symlink {target} {path}"),
                ours(fs.symlink(target, &path).map(|()| "ok".into())),
                theirs(dir.symlink(target, &path).map(|()| "ok".into())),
            ),
            7 => (
                format!("stat {path}"),
                ours(
                    fs.metadata(&path)
                        .map(|stat| shape(stat.kind, stat.size, stat.nlink.into())),
                ),
                theirs(dir.metadata(&path).map(|stat| {
                    let kind = if stat.is_dir() { Kind::Dir } else { Kind::File };
                    shape(kind, stat.len(), stat.nlink())
                })),
            ),
            8 => (
                format!("readlink {path}"),
                ours(
                    fs.read_link(&path)
                        .map(|target| String::from_utf8(target).unwrap()),
                ),
                theirs(
                    dir.read_link_contents(&path)
                        .map(|target| target.display().to_string()),
                ),
            ),
            _ => self.write(&path),
        }
    }

    /// Opens in a random way, writes a few bytes somewhere, and cuts at times.
    fn write(&mut self, path: &str) -> (String, String, String) {
        let [create, fresh, cut] =
            [self.rng.below(2), self.rng.below(6), self.rng.below(8)].map(|drawn| drawn == 0);
        let at = *self.rng.pick(&[0, 1, 4090, 4096, 65_530, 70_000]);
        let size = *self.rng.pick(&[None, Some(0), Some(5000)]);
        let bytes = vec![b'a' + self.rng.below(26) as u8; 1 + self.rng.below(20)];
        let mut options = HostOptions::new();
        options
            .read(true)
            .write(true)
            .create(create)
            .create_new(fresh)
            .truncate(cut);
        let theirs = self.dir.open_with(path, &options).and_then(|file| {
            file.write_all_at(&bytes, at)?;
            size.map_or(Ok(()), |size| file.set_len(size))?;
            Ok(file.metadata()?.len().to_string())
        });
        let mut options = OpenOptions::new().read(true).write(true).truncate(cut);
        options = if fresh {
            options.create_new(true)
        } else {
            options.create(create)
        };
        let ours = options.open(&self.fs, path).map(|file| {
            assert_eq!(file.write_at(&bytes, at).unwrap(), bytes.len());
            if let Some(size) = size {
                file.set_len(size).unwrap();
            }
            file.metadata().unwrap().size.to_string()
        });
        (
            format!("write {path} create {create} new {fresh} cut {cut} at {at} size {size:?}"),
            ours.unwrap_or_else(|error| code(&error)),
            theirs.unwrap_or_else(|error| host_code(&error)),
        )
    }

    fn our_tree(&self) -> BTreeMap<String, String> {
        let walk = self.fs.walk("/").unwrap().map(Result::unwrap);
        walk.map(|entry| {
            let path = entry.to_string();
            let told = match entry.kind() {
                Kind::Dir => "dir".to_owned(),
                Kind::File => {
                    let nlink = self.fs.metadata(&path).unwrap().nlink;
                    format!("{nlink} {:?}", self.fs.read(&path).unwrap())
                }
                Kind::Symlink => format!("-> {:?}", self.fs.read_link(&path).unwrap()),
            };
            (path, told)
        })
        .collect()
    }

    fn host_tree(&self) -> BTreeMap<String, String> {
        let mut tree = BTreeMap::new();
        let mut todo = vec![String::new()];
        while let Some(top) = todo.pop() {
            let at = if top.is_empty() {
                "."
            } else {
                top.trim_start_matches('/')
            };
            for entry in self.dir.read_dir(at).unwrap().map(Result::unwrap) {
                let path = format!("{top}/{}", entry.file_name().into_string().unwrap());
                let below = &path[1..];
                let meta = self.dir.symlink_metadata(below).unwrap();
                let told = if meta.is_dir() {
                    todo.push(path.clone());
                    "dir".to_owned()
                } else if meta.is_symlink() {
                    let target = self.dir.read_link_contents(below).unwrap();
                    format!("-> {:?}", target.display().to_string().into_bytes())
                } else {
                    format!("{} {:?}", meta.nlink(), self.dir.read(below).unwrap())
                };
                tree.insert(path, told);
            }
        }
        tree
    }
}

/// What both sides tell of an object; a directory's size and link count are
/// each file system's own.
fn shape(kind: Kind, size: u64, nlink: u64) -> String {
    match kind {
        Kind::Dir => "dir".to_owned(),
        Kind::File | Kind::Symlink => format!("file {size} {nlink}"),
    }
}

fn run(seed: u64, steps: usize) {
    let temp = tempfile::tempdir().unwrap();
    let mut pair = Pair {
        fs: Fs::new(&Image::empty()),
        dir: Dir::open_ambient_dir(temp.path(), ambient_authority()).unwrap(),
        rng: Rng::new(seed),
    };
    let mut log = Vec::new();
    for _ in 0..steps {
        let (operation, ours, theirs) = pair.step();
        log.push(format!("{operation}: {ours}"));
        let from = log.len().saturating_sub(40);
        assert!(
            ours == theirs,
            "seed {seed}: here {ours}, on the directory {theirs}, after\n{}",
            log[from..].join("\n")
        );
    }
    assert_eq!(pair.our_tree(), pair.host_tree(), "seed {seed}");
    assert_eq!(pair.fs.check(), Ok(()));
}

#[test]
fn an_instance_answers_as_a_directory_does() {
    for seed in 0..60 {
        run(seed, 1_000);
    }
}
