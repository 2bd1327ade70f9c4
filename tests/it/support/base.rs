//! The tree that the guests work on, as a host directory.

use std::fs::{self, File, FileTimes};
use std::os::unix::fs::{FileExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Bytes of `/data/big.bin`: no multiple of a chunk or block.
pub const BIG: usize = (3 << 20) + 777;

/// A host directory with the base, removed at the end.
pub struct Base(tempfile::TempDir);

impl Base {
    /// Makes the base: always the same bytes and times.
    pub fn new() -> Self {
        let base = Self(tempfile::tempdir().unwrap());
        base.text(
            "etc/motd",
            "Welcome to the base that all instances share.\n",
        );
        base.text("etc/hosts", "127.0.0.1 localhost\n");
        base.docs();
        base.data();
        base.links();
        for number in 0..300 {
            base.text(&format!("many/{number:03}"), &format!("{number}\n"));
        }
        age(base.path());
        base
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    fn file(&self, path: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    fn text(&self, path: &str, text: &str) {
        self.file(path, text.as_bytes());
    }

    fn docs(&self) {
        self.text(
            "docs/guide/intro.txt",
            "A base is shared.\nWhat changes is private.\n",
        );
        self.text(
            "docs/guide/usage.txt",
            "Read it, write it, remove it: nobody else sees.\n",
        );
        for chapter in ["alpha", "beta", "gamma"] {
            for page in 1..=4 {
                let text = format!("{chapter} page {page}\n").repeat(page * 40);
                self.text(&format!("docs/{chapter}/part/{page}.txt"), &text);
            }
        }
        self.text("docs/empty.txt", "");
    }

    fn data(&self) {
        let big: Vec<u8> = (0..BIG)
            .map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8)
            .collect();
        self.file("data/big.bin", &big);
        self.text("data/log.txt", &"a line of the base\n".repeat(500));
        let holes = File::create(self.path().join("data/holes.bin")).unwrap();
        holes.write_all_at(b"start", 0).unwrap();
        holes.write_all_at(b"end", (4 << 20) - 3).unwrap();
    }

    fn links(&self) {
        self.text("links/one", "one file with two names\n");
        let links = self.path().join("links");
        fs::hard_link(links.join("one"), links.join("two")).unwrap();
        symlink("one", links.join("sym-rel")).unwrap();
        symlink("../etc", links.join("sym-dir")).unwrap();
        symlink("nowhere", links.join("dangling")).unwrap();
    }
}

/// Gives everything one old time, what is inside before its directory.
fn age(dir: &Path) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let kind = fs::symlink_metadata(&path).unwrap();
        if kind.is_dir() {
            age(&path);
        } else if kind.is_file() {
            set_old(&path);
        }
    }
    set_old(dir);
}

fn set_old(path: &Path) {
    let old = SystemTime::UNIX_EPOCH + Duration::new(1_600_000_000, 123_456_789);
    let times = FileTimes::new().set_accessed(old).set_modified(old);
    File::open(path).unwrap().set_times(times).unwrap();
}
