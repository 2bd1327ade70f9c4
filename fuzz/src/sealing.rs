//! Instances of one scope that write few different blocks, so that many are
//! equal, and seal them: each file beside a plain vector of its bytes.

use stratafs::chunk::Scope;
use stratafs::errno::Errno;
use stratafs::vfs::{Access, Descriptor, Follow, Fs, OpenFlags, Sealing, Snapshot};

use super::feed::Feed;
use super::instance::BASE;

/// Steps of one run.
const STEPS: usize = 150;

/// Instances at one time.
const INSTANCES: usize = 3;

/// Snapshots kept at one time.
const SNAPSHOTS: usize = 3;

/// The files that are written; the first is one of the base.
const NAMES: [&str; 3] = ["f", "x", "y"];

/// The size of the first.
const BASE_BYTES: usize = 10_000;

/// The bytes of the files that there are.
type Files = [Option<Vec<u8>>; NAMES.len()];

/// An instance, and what its files have to hold.
struct Instance {
    fs: Fs,
    files: Files,
    open: [Option<Descriptor>; NAMES.len()],
    /// Files without a name that are open.
    unlinked: Vec<(Descriptor, Vec<u8>)>,
}

/// Writes, cuts, closes, seals, removes, forks, drops and restores as the bytes
/// say.
///
/// # Panics
///
/// If a file does not read as what was written into it, a check of an instance
/// fails, sealing changes what counts, or a block is left in the scope when all
/// who held it are gone.
pub fn run(data: &[u8]) {
    let mut feed = Feed::new(data);
    let scope = Scope::new();
    let sealing = feed.pick(&[Sealing::AtClose, Sealing::AtClose, Sealing::OnDemand]);
    let max_bytes = feed.pick(&[1 << 20, 1 << 20, 30_000]);
    let make = || {
        let fs = Fs::builder(&BASE).share(&scope).sealing(sealing);
        Instance::new(fs.max_bytes(max_bytes).build())
    };
    let mut all = vec![make(), make()];
    let mut taken: Vec<(Snapshot, Files)> = Vec::new();
    for _ in 0..STEPS {
        if feed.is_empty() {
            break;
        }
        let at = feed.below(all.len());
        match feed.below(20) {
            16 if all.len() < INSTANCES => {
                let fork = all[at].fork();
                all.push(fork);
            }
            16 => drop(all.swap_remove(at)),
            17 if taken.len() < SNAPSHOTS => {
                taken.push((all[at].fs.snapshot(), all[at].files.clone()));
            }
            17 => drop(taken.swap_remove(feed.below(SNAPSHOTS))),
            18 | 19 if !taken.is_empty() => {
                let (state, files) = &taken[feed.below(taken.len())];
                all[at].restore(state, files);
            }
            choice => all[at].change(choice, &mut feed),
        }
        all.iter().for_each(Instance::judge);
    }
    drop((all, taken));
    assert_eq!((scope.len(), scope.held_bytes()), (0, 0));
}

/// Bytes of one of a few kinds, at an offset.
fn content(kind: usize, offset: usize, len: usize) -> Vec<u8> {
    match kind {
        0 => vec![0; len],
        1 => vec![b'a'; len],
        2 => vec![b'b'; len],
        // As in the file of the base.
        _ => (offset..offset + len).map(|n| (n % 251) as u8).collect(),
    }
}

impl Instance {
    fn new(fs: Fs) -> Self {
        Self {
            fs,
            files: [Some(content(3, 0, BASE_BYTES)), None, None],
            open: [None, None, None],
            unlinked: Vec::new(),
        }
    }

    /// The file as it is open, or is opened now, and what it has to hold.
    fn file(&mut self, at: usize) -> (&Descriptor, &mut Vec<u8>) {
        let open = self.open[at].get_or_insert_with(|| {
            let top = self.fs.root().expect("the root");
            let (flags, access) = (OpenFlags::CREATE, Access::READ | Access::WRITE);
            let file = top.open_at(Follow::No, NAMES[at].as_bytes(), flags, access);
            file.expect("room for few files")
        });
        (open, self.files[at].get_or_insert_default())
    }

    fn change(&mut self, choice: usize, feed: &mut Feed<'_>) {
        let at = feed.below(NAMES.len());
        match choice {
            0..7 => {
                let offset = 4_096 * feed.below(8) + feed.pick(&[0, 0, 0, 0, 1, 100, 4_095]);
                let len = feed.pick(&[4_096, 4_096, 4_096, 8_192, 12_288, 1, 100, 5_000]);
                self.write(at, offset, &content(feed.below(4), offset, len));
            }
            // A file as large as that of the base, and equal to it perhaps.
            7 | 8 => {
                self.set_size(at, 0);
                self.write(at, 0, &content(feed.below(4), 0, BASE_BYTES));
            }
            9 | 10 => {
                let size = 4_096 * feed.below(9) + feed.pick(&[0, 0, 1, 4_000]);
                self.set_size(at, size);
            }
            11 | 12 => self.open[at] = None,
            13 | 14 => {
                let before = self.fs.usage().logical_bytes;
                self.fs.seal();
                assert_eq!(self.fs.usage().logical_bytes, before);
            }
            _ => self.remove(at),
        }
    }

    /// Writes as much as there is room for.
    fn write(&mut self, at: usize, offset: usize, bytes: &[u8]) {
        let (file, held) = self.file(at);
        let wrote = match file.write_at(bytes, offset as u64) {
            Ok(wrote) => wrote,
            Err(errno) => {
                assert_eq!(errno, Errno::NoSpace);
                return;
            }
        };
        let end = offset + wrote;
        held.resize(held.len().max(end), 0);
        held[offset..end].copy_from_slice(&bytes[..wrote]);
    }

    fn set_size(&mut self, at: usize, size: usize) {
        let (file, held) = self.file(at);
        file.set_size(size as u64).expect("a size that files have");
        held.resize(size, 0);
    }

    /// Takes the name away; an open file goes on without.
    fn remove(&mut self, at: usize) {
        let Some(bytes) = self.files[at].take() else {
            return;
        };
        let removed = self.fs.remove_file(["/", NAMES[at]].concat());
        removed.expect("a file that is there");
        if let Some(file) = self.open[at].take() {
            self.unlinked.push((file, bytes));
        }
    }

    fn fork(&self) -> Self {
        Self {
            files: self.files.clone(),
            ..Self::new(self.fs.fork())
        }
    }

    fn restore(&mut self, state: &Snapshot, files: &Files) {
        self.open = [None, None, None];
        self.unlinked.clear();
        self.fs.restore(state).expect("a state of the same quotas");
        self.files = files.clone();
    }

    /// Holds all bytes against what was written.
    fn judge(&self) {
        assert_eq!(self.fs.check(), Ok(()));
        let usage = self.fs.usage();
        assert!(usage.private_bytes <= usage.logical_bytes);
        assert!(usage.logical_bytes <= self.fs.quota().max_bytes);
        for (name, bytes) in NAMES.iter().zip(&self.files) {
            let read = self.fs.read(["/", name].concat()).ok();
            assert!(read == *bytes, "{name} reads as something else");
        }
        for (file, bytes) in &self.unlinked {
            let mut read = vec![0xa5; bytes.len() + 1];
            let len = file.read_at(&mut read, 0).expect("an open file");
            assert!(read[..len] == bytes[..], "an unlinked file differs");
        }
    }
}
