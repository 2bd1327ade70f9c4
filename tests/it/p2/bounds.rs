//! What a guest states, leaves behind or does at the same time as others.

use std::sync::atomic::{AtomicBool, Ordering};

use stratafs::image::Image;
use stratafs::limits::{MAX_HOST_READ_BYTES, MAX_STREAM_WRITE_BYTES};
use stratafs::vfs::Fs;
use wasmtime_wasi::p2::bindings::sync::filesystem::types::{DescriptorFlags, OpenFlags};

use super::guest::{Guest, Halt, MODES};
use super::{base, big};

fn both() -> DescriptorFlags {
    DescriptorFlags::READ | DescriptorFlags::WRITE
}

#[test]
fn case_66_streams_take_and_give_bounded_pieces_whatever_is_stated() {
    for mode in MODES {
        let fs = Fs::new(&base());
        let (mut guest, root) = Guest::new(&fs, mode);
        let file = guest.open(root, "big", OpenFlags::empty(), both()).unwrap();
        let reader = guest.reader(file, 0).unwrap();
        let mut read = Vec::new();
        while read.len() < big().len() {
            let piece = guest.input(&reader).read(usize::MAX).unwrap();
            assert!(
                (1..=MAX_HOST_READ_BYTES).contains(&piece.len()),
                "{}",
                piece.len()
            );
            read.extend_from_slice(&piece);
        }
        assert_eq!(read, big());
        // More than was permitted is the guest's mistake, and nothing of it
        // is written.
        for excess in [MAX_STREAM_WRITE_BYTES + 1, 4 * MAX_STREAM_WRITE_BYTES] {
            let writer = guest.writer(file, 0).unwrap();
            let error = guest
                .output(&writer)
                .write(vec![1; excess].into())
                .unwrap_err();
            assert_eq!(guest.halt(error), Halt::Trap);
            let writer = guest.writer(file, 0).unwrap();
            let error = guest.output(&writer).write_zeroes(excess).unwrap_err();
            assert_eq!(guest.halt(error), Halt::Trap);
        }
        assert_eq!(guest.get(root, "big").unwrap(), big());
        assert_eq!(fs.usage().private_bytes, 0);
    }
}

#[test]
fn case_70_listing_ends_while_another_thread_changes() {
    for mode in MODES {
        let fs = Fs::new(&Image::empty());
        let (mut guest, root) = Guest::new(&fs, mode);
        for number in 0..1_000 {
            guest.put(root, &format!("n{number}"), b"").unwrap();
        }
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let top = fs.root().unwrap();
                for number in 0_u64.. {
                    let name = format!("t{number}");
                    top.create_dir_at(name.as_bytes()).unwrap();
                    if number.is_multiple_of(2) {
                        top.remove_dir_at(name.as_bytes()).unwrap();
                    }
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                }
            });
            for _ in 0..20 {
                let names = guest.names(root).unwrap();
                let stayed = names.iter().filter(|name| name.starts_with('n')).count();
                assert_eq!(stayed, 1_000);
            }
            stop.store(true, Ordering::Relaxed);
        });
    }
}

#[test]
fn case_75_a_store_dropped_in_the_middle_leaves_what_was_written_and_nothing_open() {
    let base = base();
    let before = base.verify().unwrap();
    for mode in MODES {
        let fs = Fs::new(&base);
        let (mut guest, root) = Guest::new(&fs, mode);
        let new = guest.open(root, "new", OpenFlags::CREATE, both()).unwrap();
        let doomed = guest
            .open(root, "doomed", OpenFlags::CREATE, both())
            .unwrap();
        guest.write(doomed, 0, &[1; 9_000]).unwrap();
        guest.unlink(root, "doomed").unwrap();
        let writer = guest.writer(new, 0).unwrap();
        guest.output(&writer).write(vec![2; 5_000].into()).unwrap();
        let old = guest.open(root, "big", OpenFlags::empty(), both()).unwrap();
        let reader = guest.reader(old, 0).unwrap();
        guest.input(&reader).read(10).unwrap();
        guest.appender(old).unwrap();
        let listing = guest.listing(root).unwrap();
        guest.next(listing).unwrap();
        assert!(fs.usage().open > 0);
        drop(guest);
        let usage = fs.usage();
        assert_eq!(
            (usage.open, usage.private_bytes, usage.inodes),
            (0, 5_000, 1)
        );
        assert_eq!(fs.check(), Ok(()));
        assert_eq!(fs.read("/new").unwrap(), [2; 5_000]);
        assert_eq!(base.verify().unwrap(), before);
    }
}
