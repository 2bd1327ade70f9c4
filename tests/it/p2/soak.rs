//! 0.2 calls at random, here and in wasmtime-wasi on a directory of the host:
//! the same answers, call by call, but for what [`rules`] excuses. How runs
//! are made longer and cut down: `crate::soak`.

use std::fmt::Debug;
use std::ops::BitOr;

use stratafs::image::Image;
use stratafs::vfs::Rights;
use stratafs::wasi::StratafsCtx;
use wasmtime::component::Resource;
use wasmtime_wasi::p2::bindings::clocks::wall_clock::Datetime;
use wasmtime_wasi::p2::bindings::sync::filesystem::types::{
    Advice, DescriptorFlags, DescriptorStat, DescriptorType, NewTimestamp, OpenFlags, PathFlags,
};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, StreamError};
use wasmtime_wasi::{FsPerms, WasiCtxBuilder};

use super::guest::{Answer, Fd, Guest, Halt, MODES, Mode};
use crate::soak::drawn::random::Random;
use crate::soak::drawn::soak::{Seen, digest, nanos, offset, path, show, target, time};
use crate::soak::rules::{P2, Rule};
use crate::soak::{Episode, Twins, calls, soak, tree};

/// Both hosts on the tree that all soaks start from.
struct Filesystem {
    image: Image,
}

impl Twins for Filesystem {
    fn rules(&self) -> &'static [Rule] {
        P2
    }

    fn logs(&self, episode: &Episode) -> [Vec<String>; 2] {
        let fs = tree::instance(&self.image);
        let read_only = fs.preopen(b"/", Rights::ReadOnly).unwrap();
        let stratafs = StratafsCtx::new()
            .preopen(fs.root().unwrap(), "/")
            .preopen(read_only, "/ro");
        let mode = MODES[usize::from(episode.seed.is_multiple_of(2))];
        let ours = Caller::new(Guest::over(WasiCtxBuilder::new().build(), stratafs, mode));
        let ours = ours.run(episode);
        fs.check().unwrap();
        assert_eq!(fs.usage().open, 0, "{episode:?}");

        let dir = tree::fresh();
        tree::fill(dir.path());
        let mut wasi = WasiCtxBuilder::new();
        wasi.allow_blocking_current_thread(true);
        for (name, perms) in [("/", FsPerms::ReadWrite), ("/ro", FsPerms::ReadOnly)] {
            wasi.preopened_dir(dir.path(), name, perms).unwrap();
        }
        let theirs = Caller::new(Guest::over(wasi.build(), StratafsCtx::new(), Mode::Sync));
        [ours, theirs.run(episode)]
    }
}

/// A guest, what it has open, and what it has seen.
struct Caller {
    guest: Guest,
    /// The two roots first; they stay.
    open: Vec<(Fd, DescriptorType)>,
    seen: Seen,
}

type Kind = (usize, fn(&mut Caller, &mut Random) -> String);

/// The calls and how likely they are.
const KINDS: &[Kind] = &[
    (30, Caller::open),
    (6, Caller::close),
    (8, Caller::read),
    (8, Caller::write),
    (4, Caller::read_stream),
    (6, Caller::write_stream),
    (4, Caller::set_size),
    (8, Caller::stat),
    (10, Caller::stat_at),
    (4, Caller::about),
    (2, Caller::advise),
    (2, Caller::sync),
    (2, Caller::set_times),
    (3, Caller::set_times_at),
    (8, Caller::mkdir),
    (6, Caller::rmdir),
    (6, Caller::unlink),
    (8, Caller::symlink),
    (5, Caller::readlink),
    (9, Caller::rename),
    (8, Caller::link),
    (4, Caller::hash_at),
    (2, Caller::same),
    (6, Caller::list),
];

const OPEN: [OpenFlags; 4] = [
    OpenFlags::CREATE,
    OpenFlags::DIRECTORY,
    OpenFlags::EXCLUSIVE,
    OpenFlags::TRUNCATE,
];

const FLAGS: [DescriptorFlags; 6] = [
    DescriptorFlags::READ,
    DescriptorFlags::WRITE,
    DescriptorFlags::MUTATE_DIRECTORY,
    DescriptorFlags::FILE_INTEGRITY_SYNC,
    DescriptorFlags::DATA_INTEGRITY_SYNC,
    DescriptorFlags::REQUESTED_WRITE_SYNC,
];

/// Draws a set of flags, few of them.
fn some_of<T: BitOr<Output = T> + Copy + Default, const N: usize>(
    random: &mut Random,
    all: [T; N],
) -> T {
    all.into_iter()
        .filter(|_| random.below(3) == 0)
        .fold(T::default(), |some, one| some | one)
}

fn told<T: Debug>(answer: Answer<T>, shown: impl FnOnce(&T) -> String) -> String {
    match answer {
        Ok(what) => format!("ok {}", shown(&what)),
        Err(error) => error.name().to_owned(),
    }
}

fn none(_: &()) -> String {
    String::new()
}

/// A path as 0.2 can pass it: text.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn at(random: &mut Random) -> String {
    text(&path(random))
}

fn follow(random: &mut Random) -> (bool, PathFlags) {
    match random.below(2) {
        0 => (false, PathFlags::empty()),
        _ => (true, PathFlags::SYMLINK_FOLLOW),
    }
}

fn new_time(random: &mut Random) -> (String, NewTimestamp) {
    match random.below(3) {
        0 => ("keep".into(), NewTimestamp::NoChange),
        1 => ("now".into(), NewTimestamp::Now),
        _ => {
            let nanos = nanos(random);
            let time = Datetime {
                seconds: nanos / 1_000_000_000,
                nanoseconds: (nanos % 1_000_000_000) as u32,
            };
            (nanos.to_string(), NewTimestamp::Timestamp(time))
        }
    }
}

impl Caller {
    fn new(mut guest: Guest) -> Self {
        let roots = guest.preopens();
        Self {
            guest,
            open: roots
                .into_iter()
                .map(|(fd, _)| (fd, DescriptorType::Directory))
                .collect(),
            seen: Seen::default(),
        }
    }

    fn run(mut self, episode: &Episode) -> Vec<String> {
        let total: usize = KINDS.iter().map(|(weight, _)| weight).sum();
        let mut lines = Vec::new();
        for n in 0..episode.count {
            if episode.only.as_ref().is_some_and(|only| !only.contains(&n)) {
                continue;
            }
            let mut random = Random::new(episode.seed.wrapping_mul(0x1_0000_0000) ^ n);
            let mut at = random.below(total);
            let kind = KINDS.iter().find(|(weight, _)| {
                let here = at < *weight;
                at = at.wrapping_sub(*weight);
                here
            });
            lines.push(format!("{n} {}", kind.unwrap().1(&mut self, &mut random)));
        }
        lines
    }

    /// Draws a descriptor: its place, for the log, and itself.
    fn some(&self, random: &mut Random, wanted: impl Fn(DescriptorType) -> bool) -> (usize, Fd) {
        let places: Vec<usize> = (0..self.open.len())
            .filter(|place| wanted(self.open[*place].1))
            .collect();
        let place = if places.is_empty() || random.below(12) == 0 {
            random.below(self.open.len())
        } else {
            *random.pick(&places)
        };
        (place, self.open[place].0)
    }

    fn file(&self, random: &mut Random) -> (usize, Fd) {
        self.some(random, |kind| kind == DescriptorType::RegularFile)
    }

    /// Draws one to walk from: mostly the root.
    fn dir(&self, random: &mut Random) -> (usize, Fd) {
        match random.below(16) {
            0..10 => (0, self.open[0].0),
            10 => (1, self.open[1].0),
            _ => self.some(random, |kind| kind == DescriptorType::Directory),
        }
    }

    fn open(&mut self, random: &mut Random) -> String {
        let ((place, dir), path) = (self.dir(random), at(random));
        let (follows, follow) = follow(random);
        let open = match random.below(2) {
            0 => OpenFlags::empty(),
            _ => some_of(random, OPEN),
        };
        let flags = match random.below(8) {
            0 => some_of(random, FLAGS),
            1 => DescriptorFlags::empty(),
            2 | 3 => DescriptorFlags::READ,
            4 => DescriptorFlags::WRITE,
            _ => DescriptorFlags::READ | DescriptorFlags::WRITE,
        };
        let answer = self.guest.open_at(dir, follow, &path, open, flags);
        let what = match answer {
            Ok(fd) if self.open.len() < 14 => {
                let kind = self.guest.kind(fd).unwrap();
                self.open.push((fd, kind));
                format!("ok at {} {kind:?}", self.open.len() - 1)
            }
            Ok(fd) => {
                self.guest.close(fd);
                "ok and closed".into()
            }
            Err(error) => error.name().to_owned(),
        };
        let path = show(path.as_bytes());
        format!("open {place} {path} follow {follows} {open:?} {flags:?} = {what}")
    }

    fn close(&mut self, random: &mut Random) -> String {
        if self.open.len() < 3 {
            return "close = none".into();
        }
        let place = 2 + random.below(self.open.len() - 2);
        let (fd, _) = self.open.swap_remove(place);
        self.guest.close(fd);
        format!("close {place} = ok")
    }

    fn read(&mut self, random: &mut Random) -> String {
        let ((place, fd), offset) = (self.file(random), offset(random));
        let len = *random.pick(&[0, 1, 3, 100, 4_096, 9_000]);
        // One call may give less than there is: all of it is compared.
        let (mut bytes, mut end) = (Vec::new(), false);
        let mut answer = Ok(());
        while !end && (bytes.len() as u64) < len {
            let at = offset.saturating_add(bytes.len() as u64);
            match self.guest.read(fd, at, len - bytes.len() as u64) {
                Ok((more, last)) => {
                    end = last || more.is_empty();
                    bytes.extend(more);
                }
                Err(error) => {
                    answer = Err(error);
                    break;
                }
            }
        }
        let what = told(answer, |()| format!("{} {:x}", bytes.len(), digest(&bytes)));
        format!("read {place} {len} at {offset} = {what}")
    }

    fn write(&mut self, random: &mut Random) -> String {
        let ((place, fd), offset) = (self.file(random), offset(random));
        let len = *random.pick(&[0, 1, 3, 100, 4_096, 9_000]);
        let bytes = random.bytes(len);
        let answer = self.guest.write(fd, offset, &bytes);
        format!(
            "write {place} {len} at {offset} = {}",
            told(answer, u64::to_string)
        )
    }

    /// Takes a stream's error for the log.
    fn halted(&mut self, error: StreamError) -> String {
        match self.guest.halt(error) {
            Halt::Failed(Some(code)) => code.name().to_owned(),
            other => format!("{other:?}"),
        }
    }

    fn read_stream(&mut self, random: &mut Random) -> String {
        let ((place, fd), offset) = (self.file(random), random.below(12_000) as u64);
        let asked = format!("read-stream {place} at {offset}");
        let stream: Resource<DynInputStream> = match self.guest.reader(fd, offset) {
            Ok(stream) => stream,
            Err(error) => return format!("{asked} = {}", error.name()),
        };
        let mut stream = self.guest.host.table.delete(stream).unwrap();
        let mut bytes = Vec::new();
        let end = loop {
            match self.guest.wait(stream.blocking_read(5_000)) {
                Ok(more) if bytes.len() < 9_000 => bytes.extend_from_slice(&more),
                Ok(_) => break "more".to_owned(),
                Err(error) => break self.halted(error),
            }
        };
        bytes.truncate(9_000);
        format!("{asked} = ok {} {:x} {end}", bytes.len(), digest(&bytes))
    }

    fn write_stream(&mut self, random: &mut Random) -> String {
        let ((place, fd), offset) = (self.file(random), random.below(12_000) as u64);
        let append = random.below(2) == 0;
        let len = 1 + random.below(4_096);
        let bytes = random.bytes(len);
        let asked = format!("write-stream {place} {len} at {offset} append {append}");
        let opened = if append {
            self.guest.appender(fd)
        } else {
            self.guest.writer(fd, offset)
        };
        let stream: Resource<DynOutputStream> = match opened {
            Ok(stream) => stream,
            Err(error) => return format!("{asked} = {}", error.name()),
        };
        let mut stream = self.guest.host.table.delete(stream).unwrap();
        let wrote = stream.blocking_write_and_flush(bytes.into());
        let what = match self.guest.wait(wrote) {
            Ok(()) => "ok".to_owned(),
            Err(error) => self.halted(error),
        };
        format!("{asked} = {what}")
    }

    fn set_size(&mut self, random: &mut Random) -> String {
        let ((place, fd), size) = (self.file(random), offset(random));
        let answer = self.guest.set_size(fd, size);
        format!("set-size {place} {size} = {}", told(answer, none))
    }

    /// Shows what a `stat` gave, but what is a host's own affair.
    fn shown(stat: &DescriptorStat) -> String {
        let is_dir = stat.type_ == DescriptorType::Directory;
        let (links, size) = if is_dir {
            (0, 0)
        } else {
            (stat.link_count, stat.size)
        };
        let nanos = |time: &Option<Datetime>| {
            let time = time.as_ref().unwrap();
            self::time(time.seconds * 1_000_000_000 + u64::from(time.nanoseconds))
        };
        format!(
            "{:?} links {links} size {size} mtim {} atim {}",
            stat.type_,
            nanos(&stat.data_modification_timestamp),
            nanos(&stat.data_access_timestamp)
        )
    }

    fn stat(&mut self, random: &mut Random) -> String {
        let (place, fd) = self.some(random, |_| true);
        let answer = self.guest.stat(fd);
        format!("stat {place} = {}", told(answer, Self::shown))
    }

    fn stat_at(&mut self, random: &mut Random) -> String {
        let ((place, dir), path) = (self.dir(random), at(random));
        let (follows, follow) = follow(random);
        let answer = self.guest.stat_follow(dir, follow, &path);
        let what = told(answer, Self::shown);
        format!(
            "stat-at {place} {} follow {follows} = {what}",
            show(path.as_bytes())
        )
    }

    fn about(&mut self, random: &mut Random) -> String {
        let (place, fd) = self.some(random, |_| true);
        let (flags, kind) = (self.guest.flags(fd), self.guest.kind(fd));
        let hash = self.guest.hash(fd).map(|hash| self.seen.number(hash.0));
        format!("about {place} = {flags:?} {kind:?} {hash:?}")
    }

    fn advise(&mut self, random: &mut Random) -> String {
        let (place, fd) = self.some(random, |_| true);
        let advice = *random.pick(&[Advice::Normal, Advice::DontNeed, Advice::WillNeed]);
        format!(
            "advise {place} {advice:?} = {}",
            told(self.guest.advise(fd, advice), none)
        )
    }

    fn sync(&mut self, random: &mut Random) -> String {
        let (place, fd) = self.some(random, |_| true);
        let answers = (self.guest.sync(fd), self.guest.sync_data(fd));
        format!("sync {place} = {answers:?}")
    }

    fn set_times(&mut self, random: &mut Random) -> String {
        let ((place, fd), atime, mtime) = (self.file(random), new_time(random), new_time(random));
        let answer = self.guest.set_times(fd, atime.1, mtime.1);
        format!(
            "set-times {place} {} {} = {}",
            atime.0,
            mtime.0,
            told(answer, none)
        )
    }

    fn set_times_at(&mut self, random: &mut Random) -> String {
        let ((place, dir), path) = (self.dir(random), at(random));
        let (follows, follow) = follow(random);
        let (atime, mtime) = (new_time(random), new_time(random));
        let times = [atime.1, mtime.1];
        let what = told(self.guest.set_times_at(dir, follow, &path, times), none);
        let path = show(path.as_bytes());
        let (atime, mtime) = (atime.0, mtime.0);
        format!("set-times-at {place} {path} follow {follows} {atime} {mtime} = {what}")
    }

    fn mkdir(&mut self, random: &mut Random) -> String {
        let ((place, dir), path) = (self.dir(random), at(random));
        let what = told(self.guest.mkdir(dir, &path), none);
        format!("mkdir {place} {} = {what}", show(path.as_bytes()))
    }

    fn rmdir(&mut self, random: &mut Random) -> String {
        let ((place, dir), path) = (self.dir(random), at(random));
        let what = told(self.guest.rmdir(dir, &path), none);
        format!("rmdir {place} {} = {what}", show(path.as_bytes()))
    }

    fn unlink(&mut self, random: &mut Random) -> String {
        let ((place, dir), path) = (self.dir(random), at(random));
        let what = told(self.guest.unlink(dir, &path), none);
        format!("unlink {place} {} = {what}", show(path.as_bytes()))
    }

    fn symlink(&mut self, random: &mut Random) -> String {
        let (target, (place, dir), path) = (text(&target(random)), self.dir(random), at(random));
        let what = told(self.guest.symlink(dir, &target, &path), none);
        let (path, target) = (show(path.as_bytes()), show(target.as_bytes()));
        format!("symlink {place} {path} to {target} = {what}")
    }

    fn readlink(&mut self, random: &mut Random) -> String {
        let ((place, dir), path) = (self.dir(random), at(random));
        let what = told(self.guest.readlink(dir, &path), |to| show(to.as_bytes()));
        format!("readlink {place} {} = {what}", show(path.as_bytes()))
    }

    fn rename(&mut self, random: &mut Random) -> String {
        let ((from, dir), path) = (self.dir(random), at(random));
        let ((to, new_dir), new) = (self.dir(random), at(random));
        let what = told(self.guest.rename((dir, &path), (new_dir, &new)), none);
        let (path, new) = (show(path.as_bytes()), show(new.as_bytes()));
        format!("rename {from} {path} to {to} {new} = {what}")
    }

    fn link(&mut self, random: &mut Random) -> String {
        let ((from, dir), path) = (self.dir(random), at(random));
        let ((to, new_dir), new) = (self.dir(random), at(random));
        let follow = match random.below(10) {
            0 => PathFlags::SYMLINK_FOLLOW,
            _ => PathFlags::empty(),
        };
        let answer = self
            .guest
            .link_follow(follow, (dir, &path), (new_dir, &new));
        let (path, new) = (show(path.as_bytes()), show(new.as_bytes()));
        format!(
            "link {from} {path} to {to} {new} {follow:?} = {}",
            told(answer, none)
        )
    }

    fn hash_at(&mut self, random: &mut Random) -> String {
        let ((place, dir), path) = (self.dir(random), at(random));
        // What a slash behind a link's name means is told of by stat-at; here
        // it would number two objects for good.
        let path = path.trim_end_matches(['/', '.']);
        let hash = self.guest.hash_at(dir, path);
        let what = told(hash, |hash| self.seen.number(hash.0).to_string());
        format!(
            "hash-at {place} {} follow false = {what}",
            show(path.as_bytes())
        )
    }

    fn same(&mut self, random: &mut Random) -> String {
        let ((one, a), (other, b)) = (self.some(random, |_| true), self.some(random, |_| true));
        format!("same {one} {other} = {}", self.guest.is_same(a, b))
    }

    fn list(&mut self, random: &mut Random) -> String {
        let (place, dir) = self.dir(random);
        let names = self.guest.names(dir).map(|names| {
            let shown: Vec<String> = names.iter().map(|name| show(name.as_bytes())).collect();
            shown.join(" ")
        });
        format!("list {place} = {}", told(names, String::clone))
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        for (fd, _) in std::mem::take(&mut self.open) {
            self.guest.close(fd);
        }
    }
}

#[test]
fn a_soak_of_0_2_calls_agrees_with_wasmtime_wasi() {
    let twins = Filesystem {
        image: tree::image(),
    };
    soak(&twins, calls(40_000));
}
