//! Random operations and random layers that mostly make sense.

use std::collections::BTreeMap;

use stratafs::limits::MAX_FILE_BYTES;
use stratafs::meta::{Kind, Time};
use stratafs::vfs::{Access, Follow, OpenFlags, SetTime};

use super::ops::{FIRST_FREE, From, Op, READ_ONLY, ROOT, SLOTS, Slot, Text};
use super::rng::Rng;
use super::tree::{Entry, What};

/// What the generator has to know of the present state.
pub trait Lookout {
    /// A path that leads from `dir` to something, if there is anything.
    fn some_path(&self, dir: Slot, rng: &mut Rng) -> Option<Vec<u8>>;
    /// The kind of what `slot` holds, if it holds anything.
    fn kind(&self, slot: Slot) -> Option<Kind>;
    /// The size of the file in `slot`.
    fn size(&self, slot: Slot) -> u64;
}

const NAMES: &[&[u8]] = &[
    b"a",
    b"b",
    b"c",
    b"d",
    b"e",
    b"f",
    b"g",
    b".wh.a",
    b".wh..wh..opq",
    b"\xc3\xa4",
    b"...",
];

/// Sizes and offsets on either side of a border of blocks and chunks.
pub const BORDERS: &[u64] = &[
    0, 1, 100, 4095, 4096, 4097, 8191, 8192, 12_288, 65_535, 65_536, 65_537, 69_632, 131_071,
    131_072, 140_000,
];

/// Offsets far out in files that are holes for the most part.
const FAR: &[u64] = &[1 << 20, (1 << 20) + 4095, (1 << 21) + 1, (3 << 20) + 5000];

/// Makes random operations.
pub struct Generator {
    pub rng: Rng,
    /// Leaves out what a real directory cannot be asked: a read-only preopen,
    /// offsets and sizes that some host file systems refuse in their own way.
    pub tame: bool,
    /// Writes and cuts some files past a MiB, too.
    pub far: bool,
}

impl Generator {
    pub fn new(seed: u64, tame: bool) -> Self {
        Self {
            rng: Rng::new(seed),
            tame,
            far: false,
        }
    }

    /// Makes the next operation.
    pub fn next(&mut self, state: &dyn Lookout) -> Op {
        match self.rng.below(100) {
            0..=34 => self.on_slot(state),
            35..=53 => self.open(state),
            54..=56 => Op::Close {
                slot: self.free_slot(),
            },
            choice => self.on_tree(choice, state),
        }
    }

    fn on_slot(&mut self, state: &dyn Lookout) -> Op {
        let mut slot = self.any_slot();
        // Files are what is worth reading and writing.
        for _ in 0..6 {
            if state.kind(slot) == Some(Kind::File) {
                break;
            }
            slot = self.any_slot();
        }
        let size = state.size(slot);
        match self.rng.below(40) {
            0..=10 => Op::Read {
                slot,
                offset: self.offset(size),
                len: self.length(),
            },
            11..=22 => {
                let salt = self.rng.next() as u8;
                Op::Write {
                    slot,
                    offset: self.offset(size),
                    len: self.length(),
                    salt,
                }
            }
            23..=26 => Op::Append {
                slot,
                len: self.length(),
                salt: self.rng.next() as u8,
            },
            27..=32 => self.set_size(slot, size),
            33 | 34 => Op::Stat { slot },
            35 => {
                let (atime, mtime) = self.times();
                Op::SetTimes { slot, atime, mtime }
            }
            _ => Op::List {
                slot: self.dir_slot(state),
                from: *self
                    .rng
                    .pick(&[From::Start, From::Next, From::Next, From::Mark]),
                max: self.rng.below(6),
                mark: self.rng.one_in(3),
            },
        }
    }

    /// To any size that a vector can hold, or to one past the bound.
    fn set_size(&mut self, slot: Slot, size: u64) -> Op {
        let size = self.offset(size);
        Op::SetSize {
            slot,
            size: if size == MAX_FILE_BYTES {
                size + 1
            } else {
                size
            },
        }
    }

    fn open(&mut self, state: &dyn Lookout) -> Op {
        let dir = self.dir_slot(state);
        let flags = match self.rng.below(10) {
            0..=3 => OpenFlags::empty(),
            4 | 5 => OpenFlags::CREATE,
            6 => OpenFlags::CREATE | OpenFlags::EXCLUSIVE,
            7 => OpenFlags::DIRECTORY,
            8 => OpenFlags::TRUNCATE,
            _ => OpenFlags::from_bits_truncate(self.rng.next() as u8),
        };
        let access = *self.rng.pick(&[
            Access::empty(),
            Access::READ,
            Access::WRITE,
            Access::READ | Access::WRITE,
            Access::READ | Access::WRITE,
        ]);
        let path = self.path(dir, state);
        Op::Open {
            dir,
            path,
            follow: self.follow(),
            flags,
            access,
            into: self.free_slot(),
        }
    }

    fn on_tree(&mut self, choice: usize, state: &dyn Lookout) -> Op {
        let dir = self.dir_slot(state);
        let path = self.path(dir, state);
        match choice {
            57..=62 => Op::StatAt {
                dir,
                path,
                follow: self.follow(),
            },
            63 => {
                let (atime, mtime) = self.times();
                Op::SetTimesAt {
                    dir,
                    path,
                    follow: self.follow(),
                    atime,
                    mtime,
                }
            }
            64..=70 => Op::Mkdir {
                dir,
                path: self.new_path(dir, state),
            },
            71..=73 => Op::Rmdir { dir, path },
            74..=79 => Op::Unlink { dir, path },
            80..=83 => {
                let new = self.new_path(dir, state);
                Op::Symlink {
                    dir,
                    path: new,
                    target: path,
                }
            }
            84 => Op::Readlink { dir, path },
            85..=89 => {
                let (to, _) = self.second(dir, state);
                Op::Link {
                    dir,
                    path,
                    to,
                    new: self.new_path(to, state),
                }
            }
            _ => {
                let (to, new) = self.second(dir, state);
                Op::Rename { dir, path, to, new }
            }
        }
    }

    fn second(&mut self, dir: Slot, state: &dyn Lookout) -> (Slot, Text) {
        let to = if self.rng.one_in(2) {
            dir
        } else {
            self.dir_slot(state)
        };
        (to, self.path(to, state))
    }

    /// A path that mostly leads to something.
    fn path(&mut self, dir: Slot, state: &dyn Lookout) -> Text {
        self.path_known(6, dir, state)
    }

    /// A path that mostly leads to nothing yet.
    fn new_path(&mut self, dir: Slot, state: &dyn Lookout) -> Text {
        self.path_known(1, dir, state)
    }

    fn path_known(&mut self, tenths: usize, dir: Slot, state: &dyn Lookout) -> Text {
        let known = state.some_path(dir, &mut self.rng);
        let mut path = match self.rng.below(10) {
            choice if choice < tenths => known.unwrap_or_default(),
            ..=8 => {
                let mut path = known.unwrap_or_default();
                // A new name beside or below what is there.
                if self.rng.one_in(2) {
                    path.truncate(path.iter().rposition(|byte| *byte == b'/').unwrap_or(0));
                }
                if !path.is_empty() {
                    path.push(b'/');
                }
                path.extend_from_slice(self.rng.pick::<&[u8]>(NAMES));
                path
            }
            _ => self.odd_path(),
        };
        if self.rng.one_in(20) {
            path.push(b'/');
        }
        Text(path)
    }

    fn odd_path(&mut self) -> Vec<u8> {
        let mut path = Vec::new();
        if self.rng.one_in(8) {
            path.push(b'/');
        }
        for part in 0..=self.rng.below(4) {
            if part > 0 {
                path.extend_from_slice(self.rng.pick::<&[u8]>(&[&b"/"[..], b"/", b"//", b"/./"]));
            }
            match self.rng.below(12) {
                0..=2 => path.extend_from_slice(b".."),
                3 => path.push(b'.'),
                4 if self.rng.one_in(4) => path.extend_from_slice(&[b'n'; 255]),
                5 if self.rng.one_in(4) => path.extend_from_slice(&[b'n'; 256]),
                6 if self.rng.one_in(4) => {}
                7 if self.rng.one_in(8) => path.push(0),
                _ => path.extend_from_slice(self.rng.pick::<&[u8]>(NAMES)),
            }
        }
        path
    }

    fn any_slot(&mut self) -> Slot {
        match self.rng.below(SLOTS) {
            READ_ONLY if self.tame => ROOT,
            slot => slot,
        }
    }

    fn free_slot(&mut self) -> Slot {
        FIRST_FREE + self.rng.below(SLOTS - FIRST_FREE)
    }

    /// Mostly the root or another directory.
    fn dir_slot(&mut self, state: &dyn Lookout) -> Slot {
        let slot = self.any_slot();
        let dir = state.kind(slot) == Some(Kind::Dir) || self.rng.one_in(10);
        let often_read_only = slot == READ_ONLY && !self.rng.one_in(4);
        if dir && !often_read_only { slot } else { ROOT }
    }

    fn follow(&mut self) -> Follow {
        if self.rng.one_in(2) {
            Follow::Yes
        } else {
            Follow::No
        }
    }

    fn times(&mut self) -> (SetTime, SetTime) {
        (self.time(), self.time())
    }

    fn time(&mut self) -> SetTime {
        match self.rng.below(3) {
            0 => SetTime::Keep,
            1 => SetTime::Now,
            _ => SetTime::To(Time::new(self.rng.below(2_000_000_000) as i64, 7)),
        }
    }

    /// An offset or size near a border, the end of the file, or far out.
    fn offset(&mut self, size: u64) -> u64 {
        if self.far && self.rng.one_in(8) {
            return *self.rng.pick(FAR);
        }
        match self.rng.below(20) {
            0..=11 => *self.rng.pick(BORDERS),
            12..=14 => size,
            15 => size.saturating_sub(1),
            16..=18 => self.rng.below(140_000) as u64,
            _ if self.tame => 0,
            _ => *self
                .rng
                .pick(&[MAX_FILE_BYTES, MAX_FILE_BYTES + 1, 1 << 63, u64::MAX]),
        }
    }

    fn length(&mut self) -> usize {
        match self.rng.below(12) {
            0 => 0,
            1..=4 => self.rng.below(64),
            5..=8 => *self.rng.pick(&[1, 4095, 4096, 4097, 8192]),
            9 | 10 => self.rng.below(10_000),
            _ => self.rng.below(140_000),
        }
    }
}

/// Makes the lines of a random layer that goes on top of `below`, the paths
/// of files in lower layers.
pub fn layer(rng: &mut Rng, below: &[Vec<u8>]) -> Vec<Entry> {
    let mut made: BTreeMap<Vec<u8>, Entry> = BTreeMap::new();
    for _ in 0..rng.below(25) {
        let mut path = Vec::new();
        for depth in 0..=rng.below(3) {
            if depth > 0 {
                path.push(b'/');
            }
            path.extend_from_slice(rng.pick::<&[u8]>(&NAMES[..7]));
        }
        let what = match rng.below(12) {
            0..=3 => What::Dir,
            4 | 5 => What::Pattern(*rng.pick(BORDERS)),
            6 => What::Text(b"text".to_vec()),
            7 => What::Hole(*rng.pick(BORDERS)),
            8 => What::Symlink(
                rng.pick(&[&b"a"[..], b"../b", b"/c", b"b/", b"a/b", b"."])
                    .to_vec(),
            ),
            9 => What::Whiteout,
            10 => What::Opaque,
            _ => match made.values().rfind(|entry| is_file(entry)) {
                Some(target) => What::Hard(target.path.clone()),
                None => What::Dir,
            },
        };
        if fits(&made, &path) {
            let mut entry = Entry::new(&path, what);
            entry.mtime = Time::new(rng.below(1_000_000) as i64, rng.below(1_000_000_000) as u32);
            made.insert(path, entry);
        }
    }
    let mut lines: Vec<Entry> = made.into_values().collect();
    // Hard links name what comes before them.
    lines.sort_by_key(|entry| matches!(entry.what, What::Hard(_)));
    lower_link(rng, below, &mut lines);
    lines
}

fn is_file(entry: &Entry) -> bool {
    matches!(entry.what, What::Pattern(_) | What::Text(_) | What::Hole(_))
}

/// Whether nothing but directories of this layer stands above `path`, and
/// nothing at it or below it.
fn fits(made: &BTreeMap<Vec<u8>, Entry>, path: &[u8]) -> bool {
    made.values().all(|entry| {
        if is_above(&entry.path, path) {
            matches!(entry.what, What::Dir | What::Opaque)
        } else {
            entry.path != path && !is_above(path, &entry.path)
        }
    })
}

fn is_above(dir: &[u8], path: &[u8]) -> bool {
    path.strip_prefix(dir)
        .is_some_and(|rest| rest.first() == Some(&b'/'))
}

/// Adds a hard link to a file of a lower layer that this layer leaves alone.
fn lower_link(rng: &mut Rng, below: &[Vec<u8>], lines: &mut Vec<Entry>) {
    if below.is_empty() || !rng.one_in(3) {
        return;
    }
    let target = rng.pick(below).clone();
    let name: &[u8] = b"linked";
    let touched = |entry: &Entry| {
        entry.path == target
            || is_above(&entry.path, &target) && !matches!(entry.what, What::Dir)
            || is_above(&target, &entry.path)
    };
    if target != name && !lines.iter().any(touched) {
        lines.push(Entry::new(name, What::Hard(target)));
    }
}
