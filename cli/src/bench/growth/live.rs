//! Growth of live instances.

use std::cell::Cell;
use std::num::NonZeroUsize;
use std::thread;

use stratafs::image::Image;
use stratafs::vfs::{Fs, Snapshot};

use super::{Case, base, take_turns, up_to};
use crate::failure::Failure;
use crate::report::Series;

const BLOCK: u64 = 4096;

/// An instance over nothing with so many small files, a hundred in a directory.
fn with_files(count: u64) -> Result<Fs, Failure> {
    let fs = Fs::new(&Image::empty());
    for n in 0..count {
        if n % 100 == 0 {
            fs.create_dir(format!("/d{}", n / 100))?;
        }
        fs.write(format!("/d{}/f{}", n / 100, n % 100), b"new")?;
    }
    Ok(fs)
}

pub(super) fn changed(max: u64) -> Result<Vec<Series>, Failure> {
    let mut all: Vec<(u64, Fs, Snapshot)> = Vec::new();
    for files in up_to(max, [10, 1_000, 10_000, 100_000]).map(u64::from) {
        let fs = with_files(files)?;
        let before = fs.snapshot();
        fs.write("/d0/f7", b"again")?;
        all.push((files, fs, before));
    }
    let of = "files that the instance made";
    let forks = all
        .iter()
        .map(|(n, fs, _)| Case::new(*n, move || Ok(fs.fork())));
    let stats = all
        .iter()
        .map(|(n, fs, _)| Case::new(*n, move || Ok(fs.metadata("/d0/f5")?)));
    let changes = all
        .iter()
        .map(|(n, fs, before)| Case::new(*n, move || Ok(before.changes_to(&fs.snapshot())?)));
    let files = all.iter().map(|(n, fs, _)| {
        Case::new(*n, move || {
            fs.write("/d0/one more", b"")?;
            Ok(fs.remove_file("/d0/one more")?)
        })
    });
    Ok(vec![
        take_turns(of, "fork", forks.collect())?,
        take_turns(of, "metadata of a file", stats.collect())?,
        take_turns(of, "what one change changed", changes.collect())?,
        take_turns(of, "make and remove a file", files.collect())?,
    ])
}

pub(super) fn blocks(max: u64) -> Result<Vec<Series>, Failure> {
    let mut all = Vec::new();
    for blocks in up_to(max, [16, 160, 1_600, 16_000]).map(u64::from) {
        let fs = Fs::new(&Image::empty());
        let bytes: Vec<u8> = (0..blocks * BLOCK)
            .map(|at| u8::try_from(at % 251).unwrap_or(0))
            .collect();
        fs.write("/file", bytes)?;
        all.push((blocks, fs));
    }
    let block = [7_u8; 4096];
    let of = "blocks of 4 KiB of a file";
    let work = |write: bool, fork: bool| -> Result<Vec<Case<'_>>, Failure> {
        let mut cases = Vec::new();
        for (blocks, fs) in &all {
            let options = stratafs::host::OpenOptions::new().read(true).write(true);
            let (file, at, blocks) = (options.open(fs, "/file")?, Cell::new(0), *blocks);
            let mut buf = [0; 4096];
            cases.push(Case::new(blocks, move || {
                at.set((at.get() + 0x9e37_79b1) % blocks);
                let held = fork.then(|| fs.fork());
                match write {
                    true => file.write_at(&block, at.get() * BLOCK)?,
                    false => file.read_at(&mut buf, at.get() * BLOCK)?,
                };
                Ok(held)
            }));
        }
        Ok(cases)
    };
    Ok(vec![
        take_turns(of, "read a block", work(false, false)?)?,
        take_turns(of, "write a block", work(true, false)?)?,
        take_turns(of, "fork, write a block, drop the fork", work(true, true)?)?,
    ])
}

/// Of a merge, for each file that changed on both sides.
pub(super) fn merges(max: u64) -> Result<Vec<Series>, Failure> {
    let mut cases = Vec::new();
    for files in up_to(max, [10, 100, 1_000, 10_000]).map(u64::from) {
        let origin = with_files(2 * files)?;
        let from = origin.snapshot();
        let theirs = origin.fork();
        for n in 0..files {
            let path = |n: u64| format!("/d{}/f{}", n / 100, n % 100);
            origin.write(path(2 * n), b"ours")?;
            theirs.write(path(2 * n + 1), b"theirs")?;
        }
        cases.push(Case::new(files, move || {
            let ours = origin.fork();
            Ok(ours.merge(&from, &theirs.snapshot())?)
        }));
    }
    let series = take_turns(
        "files changed on each side",
        "merge, for each of them",
        cases,
    )?;
    Ok(vec![series.for_each_of(|n| n)])
}

pub(super) fn instances(max: u64) -> Result<Vec<Series>, Failure> {
    let image = base::image(10_000)?;
    let mut all = Vec::new();
    for count in up_to(max, [10, 100, 1_000, 10_000]).map(u64::from) {
        let make = |n: u64| {
            let fs = Fs::new(&image);
            fs.write(format!("/d0/f{}", n % 100), b"own")?;
            Ok(fs)
        };
        let live: Vec<Fs> = (0..count).map(make).collect::<Result<_, Failure>>()?;
        all.push((count, live));
    }
    let image = &image;
    let of = "instances alive";
    let makes = all
        .iter()
        .map(|(n, _)| Case::new(*n, move || Ok(Fs::new(image))));
    let stats = all.iter().map(|(n, live)| {
        let mut turn = live.iter().cycle();
        Case::new(*n, move || match turn.next() {
            Some(fs) => Ok(Some(fs.metadata("/d7/f7")?)),
            None => Ok(None),
        })
    });
    Ok(vec![
        take_turns(of, "make one more", makes.collect())?,
        take_turns(of, "metadata, each in turn", stats.collect())?,
    ])
}

/// Threads that each read their own instance over one base: for one call of one of
/// them. Flat is linear.
pub(super) fn threads(max: u64) -> Result<Vec<Series>, Failure> {
    const CALLS: u64 = 20_000;
    let image = base::image(10_000)?;
    let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let run = |threads: usize, work: &(dyn Fn(&Fs, u64) -> bool + Sync)| {
        let image = &image;
        thread::scope(|scope| {
            let spawn = |_| {
                scope.spawn(move || {
                    let fs = Fs::new(image);
                    (0..CALLS).all(|n| work(&fs, n))
                })
            };
            let running: Vec<_> = (0..threads).map(spawn).collect();
            running.into_iter().all(|one| one.join().unwrap_or(false))
        })
    };
    let counts: Vec<usize> = (0..)
        .map(|n| 1 << n)
        .take_while(|n| *n <= cores && *n as u64 <= max)
        .collect();
    let cases = |work: &'static (dyn Fn(&Fs, u64) -> bool + Sync)| {
        let case = |threads: &usize| {
            let (threads, run) = (*threads, &run);
            Case::new(threads as u64, move || match run(threads, work) {
                true => Ok(()),
                false => Err(Failure::new("a thread of the bench has failed")),
            })
        };
        counts.iter().map(case).collect::<Vec<_>>()
    };
    let of = "threads on one base";
    let stats = take_turns(
        of,
        "metadata of a file",
        cases(&|fs, n| {
            fs.metadata(format!("/d{}/f{}", n % 100, n / 100 % 100))
                .is_ok()
        }),
    )?;
    let reads = take_turns(
        of,
        "read a file of 1000 bytes",
        cases(&|fs, n| fs.read(format!("/d{}/f{}", n % 100, n / 100 % 100)).is_ok()),
    )?;
    let series = [stats, reads].into_iter();
    Ok(series.map(|one| one.for_each_of(|_| CALLS)).collect())
}
