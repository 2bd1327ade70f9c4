//! One way to speak to all of them.

use std::fs;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use futures::executor::block_on;
use stratafs::chunk::{ChunkPool, ContentBuilder};
use stratafs::host::{File, OpenOptions};
use stratafs::image::Image;
use stratafs::layer::{Layer, LayerBuilder};
use stratafs::meta::Meta;
use stratafs::name::LayerPath;
use stratafs::vfs::Fs;
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};
use virtual_fs::FileSystem as _;

/// All of them, ours first.
pub const WHO: &[&str] = &["stratafs", "virtual-fs", "vfs", "std on tmpfs"];

/// A file system.
pub trait Files {
    fn create_dir_all(&self, path: &str);
    fn write(&self, path: &str, bytes: &[u8]);
    fn create(&self, path: &str) -> Box<dyn Handle + '_>;
    fn open(&self, path: &str) -> Box<dyn Handle + '_>;
    fn open_to_read(&self, path: &str) -> Box<dyn Handle + '_>;
    fn open_to_append(&self, path: &str) -> Box<dyn Handle + '_>;
    fn len(&self, path: &str) -> Option<u64>;
    fn remove(&self, path: &str);
    fn remove_dir(&self, path: &str);
    fn rename(&self, from: &str, to: &str);
    fn list(&self, path: &str) -> usize;
}

/// An open file.
pub trait Handle {
    fn append(&mut self, bytes: &[u8]);
    fn write_at(&mut self, at: u64, bytes: &[u8]);
    fn read_at(&mut self, at: u64, bytes: &mut [u8]);
}

/// Makes one with a file `/base` of so many bytes.
pub fn make(who: &str, base: usize) -> Box<dyn Files> {
    let noise = |at: usize| (at.wrapping_mul(0x9e37_79b9) >> 24) as u8;
    let bytes: Vec<u8> = (0..base).map(noise).collect();
    if who == "stratafs" {
        let layer = layer_of(&ChunkPool::new(), std::iter::once(("base", &bytes)));
        return Box::new(Ours(Fs::new(&Image::new(&[layer]).unwrap())));
    }
    let fs: Box<dyn Files> = match who {
        "virtual-fs" => Box::new(Wasmer(virtual_fs::mem_fs::FileSystem::default())),
        "vfs" => Box::new(Crate(vfs::MemoryFS::new().into())),
        _ => {
            let dir = tempfile::tempdir_in("/dev/shm").unwrap();
            Box::new(Std(dir))
        }
    };
    fs.write("/base", &bytes);
    fs
}

/// The directory of a file at depth 8.
pub const DEEP: &str = "usr/lib/python3.11/site-packages/pkgname/sub/deep";

/// Makes one whose base has so many layers: each has a file of its own in [`DEEP`], the lowest one
/// also `module.py` of 4 KiB. None for whom that takes root.
pub fn make_layered(who: &str, layers: usize) -> Option<Box<dyn Files>> {
    let module = vec![0xa5; 4096];
    let files = |layer: usize| {
        let own = (format!("{DEEP}/own{layer}"), vec![7; 100]);
        let module = (layer == 0).then(|| (format!("{DEEP}/module.py"), module.clone()));
        std::iter::once(own).chain(module)
    };
    let fill = |fs: &dyn Files, layer: usize| {
        fs.create_dir_all(&format!("/{DEEP}"));
        files(layer).for_each(|(path, bytes)| fs.write(&format!("/{path}"), &bytes));
    };
    Some(match who {
        "stratafs" => {
            let pool = ChunkPool::new();
            let all: Vec<_> = (0..layers)
                .map(|layer| layer_of(&pool, files(layer)))
                .collect();
            Box::new(Ours(Fs::new(&Image::new(&all).unwrap())))
        }
        "virtual-fs" => {
            let made = (0..layers).rev().map(|layer| {
                let made = Wasmer(virtual_fs::mem_fs::FileSystem::default());
                fill(&made, layer);
                made.0
            });
            let primary = virtual_fs::mem_fs::FileSystem::default();
            let all: Vec<_> = made.collect();
            Box::new(Wasmer(virtual_fs::OverlayFileSystem::new(primary, all)))
        }
        "vfs" => {
            let made = (0..layers).rev().map(|layer| {
                let made = Crate(vfs::MemoryFS::new().into());
                fill(&made, layer);
                made.0
            });
            let writes = std::iter::once(vfs::MemoryFS::new().into());
            let all: Vec<vfs::VfsPath> = writes.chain(made).collect();
            Box::new(Crate(vfs::OverlayFS::new(&all).into()))
        }
        _ => return None,
    })
}

/// Makes one with so many files, whose bytes are given: what a host does with a base that it has in memory.
pub fn load(who: &str, files: &[(String, Vec<u8>)]) -> Box<dyn Files> {
    if who == "stratafs" {
        let pool = ChunkPool::new();
        let borrowed = files.iter().map(|(path, bytes)| (path, bytes));
        return Box::new(Ours(Fs::new(
            &Image::new(&[layer_of(&pool, borrowed)]).unwrap(),
        )));
    }
    let fs = make(who, 0);
    for (path, bytes) in files {
        fs.write(&format!("/{path}"), bytes);
    }
    fs
}

fn layer_of(
    pool: &ChunkPool,
    files: impl Iterator<Item = (impl AsRef<str>, impl AsRef<[u8]>)>,
) -> Layer {
    let mut layer = LayerBuilder::new();
    for (path, bytes) in files {
        let path = LayerPath::parse(path.as_ref().as_bytes()).unwrap();
        let content = ContentBuilder::of(pool, bytes.as_ref());
        layer.file(&path, Meta::with_mode(0o644), content).unwrap();
    }
    layer.finish().unwrap()
}

struct Ours(Fs);

impl Files for Ours {
    fn create_dir_all(&self, path: &str) {
        self.0.create_dir_all(path).unwrap();
    }
    fn write(&self, path: &str, bytes: &[u8]) {
        self.0.write(path, bytes).unwrap();
    }
    fn create(&self, path: &str) -> Box<dyn Handle + '_> {
        Box::new(self.0.create(path).unwrap())
    }
    fn open(&self, path: &str) -> Box<dyn Handle + '_> {
        let options = OpenOptions::new().read(true).write(true);
        Box::new(options.open(&self.0, path).unwrap())
    }
    fn open_to_read(&self, path: &str) -> Box<dyn Handle + '_> {
        Box::new(self.0.open(path).unwrap())
    }
    fn open_to_append(&self, path: &str) -> Box<dyn Handle + '_> {
        Box::new(OpenOptions::new().append(true).open(&self.0, path).unwrap())
    }
    fn len(&self, path: &str) -> Option<u64> {
        self.0.metadata(path).ok().map(|stat| stat.size)
    }
    fn remove(&self, path: &str) {
        self.0.remove_file(path).unwrap();
    }
    fn remove_dir(&self, path: &str) {
        self.0.remove_dir(path).unwrap();
    }
    fn rename(&self, from: &str, to: &str) {
        self.0.rename(from, to).unwrap();
    }
    fn list(&self, path: &str) -> usize {
        self.0.read_dir(path).unwrap().len()
    }
}

impl Handle for File {
    fn append(&mut self, bytes: &[u8]) {
        self.write_all(bytes).unwrap();
    }
    fn write_at(&mut self, at: u64, bytes: &[u8]) {
        assert_eq!(File::write_at(self, bytes, at).unwrap(), bytes.len());
    }
    fn read_at(&mut self, at: u64, bytes: &mut [u8]) {
        assert_eq!(File::read_at(self, bytes, at).unwrap(), bytes.len());
    }
}

struct Wasmer<F>(F);

struct WasmerFile(Box<dyn virtual_fs::VirtualFile + Send + Sync>);

impl<F: virtual_fs::FileSystem> Wasmer<F> {
    fn opened(&self, path: &str, append: bool, create: bool) -> Box<dyn Handle + '_> {
        let mut options = self.0.new_open_options();
        options
            .read(!append)
            .write(true)
            .append(append)
            .create(create)
            .truncate(create);
        Box::new(WasmerFile(options.open(path).unwrap()))
    }
}

impl<F: virtual_fs::FileSystem> Files for Wasmer<F> {
    fn create_dir_all(&self, path: &str) {
        let mut at = PathBuf::new();
        for part in std::path::Path::new(path) {
            at.push(part);
            if self.0.metadata(&at).is_err() {
                self.0.create_dir(&at).unwrap();
            }
        }
    }
    fn write(&self, path: &str, bytes: &[u8]) {
        self.create(path).append(bytes);
    }
    fn create(&self, path: &str) -> Box<dyn Handle + '_> {
        self.opened(path, false, true)
    }
    fn open(&self, path: &str) -> Box<dyn Handle + '_> {
        self.opened(path, false, false)
    }
    fn open_to_read(&self, path: &str) -> Box<dyn Handle + '_> {
        let mut options = self.0.new_open_options();
        Box::new(WasmerFile(options.read(true).open(path).unwrap()))
    }
    fn open_to_append(&self, path: &str) -> Box<dyn Handle + '_> {
        self.opened(path, true, false)
    }
    fn len(&self, path: &str) -> Option<u64> {
        self.0.metadata(path.as_ref()).ok().map(|stat| stat.len())
    }
    fn remove(&self, path: &str) {
        self.0.remove_file(path.as_ref()).unwrap();
    }
    fn remove_dir(&self, path: &str) {
        self.0.remove_dir(path.as_ref()).unwrap();
    }
    fn rename(&self, from: &str, to: &str) {
        block_on(self.0.rename(from.as_ref(), to.as_ref())).unwrap();
    }
    fn list(&self, path: &str) -> usize {
        self.0.read_dir(path.as_ref()).unwrap().count()
    }
}

impl Handle for WasmerFile {
    fn append(&mut self, bytes: &[u8]) {
        block_on(self.0.write_all(bytes)).unwrap();
    }
    fn write_at(&mut self, at: u64, bytes: &[u8]) {
        block_on(async {
            self.0.seek(SeekFrom::Start(at)).await.unwrap();
            self.0.write_all(bytes).await.unwrap();
        });
    }
    fn read_at(&mut self, at: u64, bytes: &mut [u8]) {
        block_on(async {
            self.0.seek(SeekFrom::Start(at)).await.unwrap();
            self.0.read_exact(bytes).await.unwrap();
        });
    }
}

struct Crate(vfs::VfsPath);

/// The crate opens a file for reading or for writing.
enum CrateFile {
    Write(Box<dyn vfs::SeekAndWrite + Send>),
    Both(
        vfs::VfsPath,
        Option<Box<dyn vfs::SeekAndRead + Send>>,
        Option<Box<dyn vfs::SeekAndWrite + Send>>,
    ),
}

impl Files for Crate {
    fn create_dir_all(&self, path: &str) {
        self.0.join(path).unwrap().create_dir_all().unwrap();
    }
    fn write(&self, path: &str, bytes: &[u8]) {
        self.create(path).append(bytes);
    }
    fn create(&self, path: &str) -> Box<dyn Handle + '_> {
        Box::new(CrateFile::Write(
            self.0.join(path).unwrap().create_file().unwrap(),
        ))
    }
    fn open(&self, path: &str) -> Box<dyn Handle + '_> {
        let path = self.0.join(path).unwrap();
        let file = path.open_file().unwrap();
        Box::new(CrateFile::Both(path, Some(file), None))
    }
    fn open_to_read(&self, path: &str) -> Box<dyn Handle + '_> {
        self.open(path)
    }
    fn open_to_append(&self, path: &str) -> Box<dyn Handle + '_> {
        Box::new(CrateFile::Write(
            self.0.join(path).unwrap().append_file().unwrap(),
        ))
    }
    fn len(&self, path: &str) -> Option<u64> {
        self.0
            .join(path)
            .unwrap()
            .metadata()
            .ok()
            .map(|stat| stat.len)
    }
    fn remove(&self, path: &str) {
        self.0.join(path).unwrap().remove_file().unwrap();
    }
    fn remove_dir(&self, path: &str) {
        self.0.join(path).unwrap().remove_dir().unwrap();
    }
    fn rename(&self, from: &str, to: &str) {
        let (from, to) = (self.0.join(from).unwrap(), self.0.join(to).unwrap());
        from.move_file(&to).unwrap();
    }
    fn list(&self, path: &str) -> usize {
        self.0.join(path).unwrap().read_dir().unwrap().count()
    }
}

impl Handle for CrateFile {
    fn append(&mut self, bytes: &[u8]) {
        match self {
            Self::Write(file) => file.write_all(bytes).unwrap(),
            Self::Both(..) => unreachable!("opened to read"),
        }
    }
    fn write_at(&mut self, at: u64, bytes: &[u8]) {
        if let Self::Both(path, _, writer) = self {
            let file = writer.get_or_insert_with(|| path.append_file().unwrap());
            file.seek(SeekFrom::Start(at)).unwrap();
            file.write_all(bytes).unwrap();
        }
    }
    fn read_at(&mut self, at: u64, bytes: &mut [u8]) {
        if let Self::Both(_, Some(file), _) = self {
            file.seek(SeekFrom::Start(at)).unwrap();
            file.read_exact(bytes).unwrap();
        }
    }
}

struct Std(tempfile::TempDir);

impl Std {
    fn at(&self, path: &str) -> PathBuf {
        self.0.path().join(path.trim_start_matches('/'))
    }
}

impl Files for Std {
    fn create_dir_all(&self, path: &str) {
        fs::create_dir_all(self.at(path)).unwrap();
    }
    fn write(&self, path: &str, bytes: &[u8]) {
        fs::write(self.at(path), bytes).unwrap();
    }
    fn create(&self, path: &str) -> Box<dyn Handle + '_> {
        Box::new(fs::File::create(self.at(path)).unwrap())
    }
    fn open(&self, path: &str) -> Box<dyn Handle + '_> {
        let mut options = fs::OpenOptions::new();
        Box::new(options.read(true).write(true).open(self.at(path)).unwrap())
    }
    fn open_to_read(&self, path: &str) -> Box<dyn Handle + '_> {
        Box::new(fs::File::open(self.at(path)).unwrap())
    }
    fn open_to_append(&self, path: &str) -> Box<dyn Handle + '_> {
        Box::new(
            fs::OpenOptions::new()
                .append(true)
                .open(self.at(path))
                .unwrap(),
        )
    }
    fn len(&self, path: &str) -> Option<u64> {
        fs::metadata(self.at(path)).ok().map(|stat| stat.len())
    }
    fn remove(&self, path: &str) {
        fs::remove_file(self.at(path)).unwrap();
    }
    fn remove_dir(&self, path: &str) {
        fs::remove_dir(self.at(path)).unwrap();
    }
    fn rename(&self, from: &str, to: &str) {
        fs::rename(self.at(from), self.at(to)).unwrap();
    }
    fn list(&self, path: &str) -> usize {
        fs::read_dir(self.at(path)).unwrap().count()
    }
}

impl Handle for fs::File {
    fn append(&mut self, bytes: &[u8]) {
        self.write_all(bytes).unwrap();
    }
    fn write_at(&mut self, at: u64, bytes: &[u8]) {
        FileExt::write_all_at(self, bytes, at).unwrap();
    }
    fn read_at(&mut self, at: u64, bytes: &mut [u8]) {
        FileExt::read_exact_at(self, bytes, at).unwrap();
    }
}
