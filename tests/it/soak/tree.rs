//! The tree that both hosts start from.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use stratafs::chunk::ChunkPool;
use stratafs::image::Image;
use stratafs::source::{self, SourceOptions};
use stratafs::vfs::Fs;
use tempfile::TempDir;

const LINKS: [(&str, &str); 7] = [
    ("lf", "f"),
    ("ld", "d"),
    ("gone", "nope"),
    ("loop", "loop"),
    ("up", "../x"),
    ("dot", "."),
    ("ls", "d/"),
];

/// Fills a directory of the host.
pub fn fill(root: &Path) {
    for dir in ["d", "d/e", "e", "n"] {
        fs::create_dir(root.join(dir)).unwrap();
    }
    let bytes: Vec<u8> = (0..50_000_u32)
        .flat_map(|n| (n.wrapping_mul(2_654_435_761) >> 8).to_le_bytes())
        .collect();
    fs::write(root.join("f"), "hello world").unwrap();
    fs::write(root.join("g"), &bytes[..10_000]).unwrap();
    fs::write(root.join("big"), &bytes).unwrap();
    fs::write(root.join("d/g"), "inside").unwrap();
    fs::hard_link(root.join("f"), root.join("h")).unwrap();
    for (name, target) in LINKS {
        symlink(target, root.join(name)).unwrap();
    }
}

/// A fresh directory, in memory where there is one.
pub fn fresh() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        tempfile::tempdir_in(memory).unwrap()
    } else {
        tempfile::tempdir().unwrap()
    }
}

/// An instance in which `up` was made, as it was in the directory: one of a layer
/// would end at the root.
pub fn instance(image: &Image) -> Fs {
    let fs = Fs::new(image);
    let root = fs.root().unwrap();
    root.unlink_at(b"up").unwrap();
    root.symlink_at(b"../x", b"up").unwrap();
    fs
}

/// The same tree as an image.
pub fn image() -> Image {
    let dir = fresh();
    fill(dir.path());
    let layer = source::dir_ambient(&ChunkPool::new(), dir.path(), &SourceOptions::default());
    Image::new(&[layer.unwrap()]).unwrap()
}
