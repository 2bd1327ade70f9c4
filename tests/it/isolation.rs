//! Many instances over one base: nothing of one reaches another or the base,
//! and what they held is given back.

use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::Mutex;
use stratafs::chunk::ChunkPool;
use stratafs::image::Image;
use stratafs::runner::{Guest, GuestDir, OutputSink, RunPlan, Runner, RunnerConfig, Stdio, Stream};
use stratafs::source::{self, SourceOptions};
use stratafs::vfs::{Access, Descriptor, Follow, Fs, OpenFlags, Rights};

use crate::support::base::Base;
use crate::support::guest::{World, guest};

const INSTANCES: u32 = 1_000;

fn image(pool: &ChunkPool) -> Image {
    let base = Base::new();
    let layer = source::dir_ambient(pool, base.path(), &SourceOptions::default()).unwrap();
    Image::new(&[layer]).unwrap()
}

/// Keeps what each instance said.
#[derive(Default)]
struct Said(Mutex<Vec<(u32, String)>>);

impl OutputSink for Said {
    fn write(&self, instance: u32, _: Stream, bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes).into_owned();
        self.0.lock().push((instance, text));
    }
}

/// Resident bytes of this process.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    line.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<u64>()
        .unwrap()
        * 1024
}

/// Names in the root and the bytes of the files there.
fn root_files(fs: &Fs) -> Vec<(String, Vec<u8>)> {
    let root = fs.root().unwrap();
    let entries = root.read_dir(0, usize::MAX).unwrap();
    let read = |name: Vec<u8>| {
        let file = open(&root, &name, OpenFlags::empty(), Access::READ);
        let size = usize::try_from(file.stat().unwrap().size).unwrap();
        let mut bytes = vec![0; size];
        assert_eq!(file.read_at(&mut bytes, 0).unwrap(), size);
        (String::from_utf8(name).unwrap(), bytes)
    };
    let names = entries.into_iter().map(|entry| entry.name.into());
    names.map(read).collect()
}

fn open(root: &Descriptor, path: &[u8], flags: OpenFlags, access: Access) -> Descriptor {
    root.open_at(Follow::No, path, flags, access).unwrap()
}

#[test]
fn case_c2_79_a_thousand_guests_ravage_one_base_and_leave_it_whole() {
    let pool = ChunkPool::new();
    let image = image(&pool);
    let (digest, held) = (image.verify().unwrap(), pool.count_held_bytes());
    let runner = {
        let guest = Guest::from_file(&guest("ravage", World::P1)).unwrap();
        let mut config = RunnerConfig::default();
        config.threads = 4;
        Runner::new(&guest, config).unwrap()
    };
    let said = Arc::new(Said::default());
    let mut plan = RunPlan::default();
    plan.args = vec!["ravage".into()];
    plan.preopens = vec![GuestDir {
        dir: "/".into(),
        guest: "/".into(),
        rights: Rights::ReadWrite,
    }];
    plan.instances = INSTANCES;
    plan.keep_file_systems = true;
    plan.stdio = Stdio::Collect(said.clone());
    let before = resident();
    let report = runner.run(&image, &plan).unwrap();

    let said = std::mem::take(&mut *said.0.lock());
    if let Some(failed) = report.failed().next() {
        let heard: Vec<_> = said
            .iter()
            .filter(|(number, _)| *number == failed.instance)
            .collect();
        panic!(
            "instance {}: {:?}, {heard:?}",
            failed.instance, failed.outcome
        );
    }
    let numbers: BTreeSet<_> = said.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers.len(), 1_000, "each instance said something");
    let different: BTreeSet<_> = said.iter().map(|(_, text)| text).collect();
    assert_eq!(
        different.len(),
        1,
        "each instance saw the same base: {different:?}"
    );

    for (number, fs) in report.file_systems.iter().enumerate() {
        let want = format!("ravaged-by-{number};").repeat(500).into_bytes();
        let size = want.len() as u64;
        assert_eq!(
            root_files(fs),
            [("left".to_owned(), want)],
            "instance {number}"
        );
        let usage = fs.usage();
        assert_eq!(
            (usage.private_bytes, usage.open),
            (size, 0),
            "instance {number}"
        );
    }
    assert_eq!(image.verify().unwrap(), digest, "the base");
    assert_eq!(pool.count_held_bytes(), held, "the base's chunks");
    drop(report);
    assert_eq!(
        pool.count_held_bytes(),
        held,
        "after the instances are gone"
    );
    // Loosely, since allocators keep what they were given back: all that the
    // guests wrote in passing is more than 1 GB.
    let grown = resident().saturating_sub(before);
    assert!(grown < 256 << 20, "{grown} bytes are still resident");
}

/// All instances live at once and change in turn, on several threads; then
/// every other one goes, which the rest must not notice.
#[test]
fn case_c4_98_a_thousand_living_instances_see_only_their_own_changes() {
    let pool = ChunkPool::new();
    let image = image(&pool);
    let (digest, held) = (image.verify().unwrap(), pool.count_held_bytes());
    let all: Vec<Fs> = (0..INSTANCES).map(|_| Fs::new(&image)).collect();
    let text = |number: usize, round: usize| format!("instance {number}, round {round};");
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let all = &all;
            scope.spawn(move || {
                for round in 0..5 {
                    for (number, fs) in all.iter().enumerate().filter(|(n, _)| n % 4 == thread) {
                        let root = fs.root().unwrap();
                        let text = text(number, round);
                        let new = OpenFlags::CREATE;
                        open(&root, b"own", new, Access::WRITE)
                            .append(text.as_bytes())
                            .unwrap();
                        let shared =
                            open(&root, b"data/log.txt", OpenFlags::empty(), Access::WRITE);
                        shared
                            .write_at(text.as_bytes(), 7_000 * round as u64 / 5)
                            .unwrap();
                        let name = format!("docs/guide/{round}");
                        root.rename_at(b"docs/guide/intro.txt", &root, name.as_bytes())
                            .unwrap();
                        root.rename_at(name.as_bytes(), &root, b"docs/guide/intro.txt")
                            .unwrap();
                        root.unlink_at(format!("many/{:03}", number % 60 * 5 + round).as_bytes())
                            .unwrap();
                    }
                }
            });
        }
    });
    let (kept, gone): (Vec<_>, Vec<_>) = all.into_iter().enumerate().partition(|(n, _)| n % 2 == 0);
    drop(gone);
    for (number, fs) in &kept {
        let own: String = (0..5).map(|round| text(*number, round)).collect();
        assert_eq!(
            root_files_named(fs, b"own"),
            own.as_bytes(),
            "instance {number}"
        );
        let log = String::from_utf8(root_files_named(fs, b"data/log.txt")).unwrap();
        for round in 0..5 {
            assert!(
                log.contains(&text(*number, round)),
                "instance {number}, round {round}"
            );
        }
        assert_eq!(
            log.matches("instance ").count(),
            5,
            "instance {number}: marks of others"
        );
        let root = fs.root().unwrap();
        let left = (0..300).filter(|file| {
            root.stat_at(Follow::No, format!("many/{file:03}").as_bytes())
                .is_ok()
        });
        assert_eq!(left.count(), 295, "instance {number}");
    }
    drop(kept);
    assert_eq!(image.verify().unwrap(), digest, "the base");
    assert_eq!(
        pool.count_held_bytes(),
        held,
        "memory is back to the base line"
    );
}

fn root_files_named(fs: &Fs, path: &[u8]) -> Vec<u8> {
    let file = open(&fs.root().unwrap(), path, OpenFlags::empty(), Access::READ);
    let mut bytes = vec![0; usize::try_from(file.stat().unwrap().size).unwrap()];
    let len = file.read_at(&mut bytes, 0).unwrap();
    bytes.truncate(len);
    bytes
}
