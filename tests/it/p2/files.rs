//! Bytes, streams, times, bounds.

use std::sync::Arc;

use stratafs::image::Image;
use stratafs::limits::{MAX_HOST_READ_BYTES, MAX_STREAM_WRITE_BYTES};
use stratafs::vfs::{Fs, Rights, Rule};
use wasmtime_wasi::p2::bindings::clocks::wall_clock::Datetime;
use wasmtime_wasi::p2::bindings::sync::filesystem::types::{
    Advice, DescriptorFlags, DescriptorType, ErrorCode, NewTimestamp, OpenFlags, PathFlags,
};

use super::guest::{Guest, Halt, MODES};
use super::{base, big};

const READ: DescriptorFlags = DescriptorFlags::READ;
const WRITE: DescriptorFlags = DescriptorFlags::WRITE;

fn both() -> DescriptorFlags {
    READ | WRITE
}

#[test]
fn reads_are_bounded_and_end_with_the_file() {
    for mode in MODES {
        let (mut guest, root) = Guest::new(&Fs::new(&base()), mode);
        assert_eq!(guest.get(root, "big").unwrap(), big());
        let file = guest.open(root, "big", OpenFlags::empty(), both()).unwrap();
        // No host buffer of the size that the guest states (case 66).
        let (bytes, end) = guest.read(file, 0, u64::MAX).unwrap();
        assert!(!bytes.is_empty() && bytes.len() <= MAX_HOST_READ_BYTES && !end);
        let past_end = guest.read(file, 1 << 40, 10).unwrap();
        assert_eq!(past_end, (Vec::new(), true));
        assert_eq!(guest.read(file, 199_990, 100).unwrap().0, &big()[199_990..]);
        // What the guest wrote is bounded too.
        let long = vec![7; MAX_HOST_READ_BYTES + 1];
        guest.put(root, "long", &long).unwrap();
        let file = guest.open(root, "long", OpenFlags::empty(), READ).unwrap();
        assert!(guest.read(file, 0, u64::MAX).unwrap().0.len() <= MAX_HOST_READ_BYTES);
        assert_eq!(guest.read_all(file).unwrap(), long);
    }
}

#[test]
fn case_67_far_offsets_are_errors_or_cost_nothing() {
    for mode in MODES {
        let fs = Fs::new(&Image::empty());
        let (mut guest, root) = Guest::new(&fs, mode);
        let file = guest.open(root, "f", OpenFlags::CREATE, both()).unwrap();
        for offset in [i64::MAX as u64, u64::MAX, 1 << 62] {
            // What is negative as Linux counts is no offset (found by the soak).
            let (wrote, read) = if offset == u64::MAX {
                (ErrorCode::Invalid, Err(ErrorCode::Invalid))
            } else {
                (ErrorCode::FileTooLarge, Ok((Vec::new(), true)))
            };
            assert_eq!(guest.write(file, offset, b"x"), Err(wrote), "{offset}");
            assert_eq!(guest.read(file, offset, 9), read, "{offset}");
            assert_eq!(
                guest.set_size(file, offset),
                Err(ErrorCode::FileTooLarge),
                "{offset}"
            );
            let stream = guest.reader(file, offset).unwrap();
            let error = guest.input(&stream).read(1).unwrap_err();
            assert_eq!(guest.halt(error), Halt::Closed);
            let stream = guest.writer(file, offset).unwrap();
            let error = guest.output(&stream).write("x".into()).unwrap_err();
            assert_eq!(
                guest.halt(error),
                Halt::Failed(Some(ErrorCode::FileTooLarge))
            );
        }
        // The twins: 5 GiB and 1 TiB are ordinary.
        for offset in [5 << 30, 1 << 40] {
            assert_eq!(guest.write(file, offset, b"x").unwrap(), 1);
            assert_eq!(guest.stat(file).unwrap().size, offset + 1);
        }
        assert!(fs.usage().private_bytes < 1 << 20, "{:?}", fs.usage());
    }
}

#[test]
fn input_streams_go_on_after_the_end_once_the_file_grows() {
    for mode in MODES {
        let (mut guest, root) = Guest::new(&Fs::new(&base()), mode);
        let file = guest.open(root, "f", OpenFlags::empty(), both()).unwrap();
        let stream = guest.reader(file, 1).unwrap();
        assert_eq!(guest.input(&stream).read(0).unwrap(), "");
        assert_eq!(guest.input(&stream).read(2).unwrap(), "el");
        assert_eq!(guest.input(&stream).skip(1).unwrap(), 1);
        assert_eq!(guest.input(&stream).skip(0).unwrap(), 0);
        assert_eq!(guest.input(&stream).read(100).unwrap(), "o");
        for _ in 0..2 {
            let error = guest.input(&stream).read(1).unwrap_err();
            assert_eq!(guest.halt(error), Halt::Closed);
            let error = guest.input(&stream).skip(1).unwrap_err();
            assert_eq!(guest.halt(error), Halt::Closed);
        }
        assert_eq!(guest.write(file, 5, b" you").unwrap(), 4);
        assert_eq!(guest.input(&stream).read(100).unwrap(), " you");
    }
}

#[test]
fn input_streams_hand_out_the_base_without_a_copy() {
    let (mut guest, root) = Guest::new(&Fs::new(&base()), MODES[0]);
    let file = guest.open(root, "big", OpenFlags::empty(), READ).unwrap();
    let mut seen = Vec::new();
    for _ in 0..2 {
        let stream = guest.reader(file, 0).unwrap();
        seen.push(guest.input(&stream).read(usize::MAX).unwrap());
    }
    assert_eq!(seen[0].as_ptr(), seen[1].as_ptr());
    assert!(seen[0].len() <= MAX_HOST_READ_BYTES);
}

#[test]
fn output_streams_write_through_and_trap_past_the_permit() {
    for mode in MODES {
        let (mut guest, root) = Guest::new(&Fs::new(&base()), mode);
        let file = guest.open(root, "f", OpenFlags::empty(), both()).unwrap();
        let stream = guest.writer(file, 1).unwrap();
        let permit = guest.output(&stream).check_write().unwrap();
        assert_eq!(permit, MAX_STREAM_WRITE_BYTES);
        guest.output(&stream).write("EL".into()).unwrap();
        guest.output(&stream).write("L".into()).unwrap();
        assert_eq!(guest.read_all(file).unwrap(), b"hELLo");
        guest.output(&stream).write_zeroes(100_000).unwrap();
        assert_eq!(guest.stat(file).unwrap().size, 100_004);
        guest.output(&stream).write("!".into()).unwrap();
        guest.output(&stream).flush().unwrap();
        assert_eq!(guest.read(file, 100_003, 9).unwrap().0, b"\0!");
        let error = guest
            .output(&stream)
            .write(vec![0; permit + 1].into())
            .unwrap_err();
        assert_eq!(guest.halt(error), Halt::Trap);
        let error = guest.output(&stream).write_zeroes(permit + 1).unwrap_err();
        assert_eq!(guest.halt(error), Halt::Trap);
    }
}

#[test]
fn case_p15_appends_go_to_the_end_wherever_that_is() {
    for mode in MODES {
        let (mut guest, root) = Guest::new(&Fs::new(&base()), mode);
        let one = guest.open(root, "f", OpenFlags::empty(), WRITE).unwrap();
        let two = guest.open(root, "f", OpenFlags::empty(), WRITE).unwrap();
        let (first, second) = (guest.appender(one).unwrap(), guest.appender(two).unwrap());
        guest.output(&first).write(" a".into()).unwrap();
        guest.output(&second).write(" b".into()).unwrap();
        guest.output(&first).write_zeroes(1).unwrap();
        assert_eq!(guest.get(root, "f").unwrap(), b"hello a b\0");
    }
}

#[test]
fn streams_are_always_ready() {
    for mode in MODES {
        let (mut guest, root) = Guest::new(&Fs::new(&base()), mode);
        let file = guest.open(root, "f", OpenFlags::empty(), both()).unwrap();
        let input = guest.reader(file, 0).unwrap();
        let output = guest.appender(file).unwrap();
        let mut table = std::mem::take(&mut guest.host.table);
        guest.wait(async {
            let input = table.get_mut(&input).unwrap();
            input.ready().await;
            assert_eq!(input.blocking_read(3).await.unwrap(), "hel");
            assert_eq!(input.blocking_skip(1).await.unwrap(), 1);
            let output = table.get_mut(&output).unwrap();
            output.ready().await;
            output.blocking_write_and_flush("!".into()).await.unwrap();
            assert!(output.write_ready().await.unwrap() > 0);
        });
        guest.host.table = table;
        assert_eq!(guest.get(root, "f").unwrap(), b"hello!");
    }
}

#[test]
fn streams_need_a_file_and_the_access() {
    for mode in MODES {
        let (mut guest, root) = Guest::new(&Fs::new(&base()), mode);
        assert_eq!(guest.reader(root, 0).err(), Some(ErrorCode::IsDirectory));
        assert_eq!(guest.writer(root, 0).err(), Some(ErrorCode::BadDescriptor));
        assert_eq!(guest.appender(root).err(), Some(ErrorCode::BadDescriptor));
        let reads = guest.open(root, "f", OpenFlags::empty(), READ).unwrap();
        assert_eq!(guest.writer(reads, 0).err(), Some(ErrorCode::BadDescriptor));
        assert_eq!(guest.appender(reads).err(), Some(ErrorCode::BadDescriptor));
        assert_eq!(guest.write(reads, 0, b"x"), Err(ErrorCode::BadDescriptor));
        assert_eq!(guest.set_size(reads, 0), Err(ErrorCode::Invalid));
        let writes = guest.open(root, "f", OpenFlags::empty(), WRITE).unwrap();
        assert_eq!(
            guest.reader(writes, 0).err(),
            Some(ErrorCode::BadDescriptor)
        );
        assert_eq!(
            guest.read(writes, 0, 1).err(),
            Some(ErrorCode::BadDescriptor)
        );
        assert!(guest.writer(writes, 0).is_ok() && guest.reader(reads, 0).is_ok());
    }
}

#[test]
fn case_56_nothing_is_changed_through_a_read_only_preopen() {
    for mode in MODES {
        let fs = Fs::new(&base());
        let (mut guest, root) = Guest::read_only(&fs, mode);
        let no = ErrorCode::NotPermitted;
        assert_eq!(
            guest.open(root, "f", OpenFlags::TRUNCATE, READ).err(),
            Some(no)
        );
        assert_eq!(
            guest.open(root, "new", OpenFlags::CREATE, READ).err(),
            Some(no)
        );
        assert_eq!(
            guest.open(root, "f", OpenFlags::empty(), WRITE).err(),
            Some(no)
        );
        let dir = guest.open(root, "d", OpenFlags::DIRECTORY, READ).unwrap();
        for (dir, path) in [(root, "f"), (dir, "g")] {
            let file = guest.open(dir, path, OpenFlags::empty(), READ).unwrap();
            assert_eq!(guest.writer(file, 0).err(), Some(no));
            assert_eq!(guest.appender(file).err(), Some(no));
            assert_eq!(guest.write(file, 0, b"x"), Err(no));
            assert_eq!(guest.set_size(file, 0), Err(no));
            assert_eq!(
                guest.set_times(file, NewTimestamp::Now, NewTimestamp::Now),
                Err(no)
            );
            let times = [NewTimestamp::Now, NewTimestamp::Now];
            assert_eq!(
                guest.set_times_at(dir, PathFlags::empty(), path, times),
                Err(no)
            );
            assert_eq!(guest.unlink(dir, path), Err(no));
            assert_eq!(guest.mkdir(dir, "new"), Err(no));
            assert_eq!(guest.rmdir(dir, "e"), Err(no));
            assert_eq!(guest.symlink(dir, "x", "new"), Err(no));
            assert_eq!(guest.rename((dir, path), (dir, "new")), Err(no));
            assert_eq!(guest.link((dir, path), (dir, "new")), Err(no));
        }
        assert_eq!(guest.get(root, "f").unwrap(), b"hello");
        assert_eq!((fs.usage().private_bytes, fs.usage().inodes), (0, 0));
        let stat = guest.stat_at(root, "f").unwrap();
        assert_eq!(stat.data_modification_timestamp.unwrap().seconds, 1_000);
    }
}

#[test]
fn case_56_rules_hold_for_streams_and_descriptors() {
    for mode in MODES {
        let fs = Fs::new(&base());
        let (mut guest, root) = Guest::new(&fs, mode);
        let no = ErrorCode::NotPermitted;
        let early = guest.open(root, "f", OpenFlags::empty(), both()).unwrap();
        let stream = guest.writer(early, 0).unwrap();
        fs.set_rule(b"/f", Rule::ReadOnly).unwrap();
        fs.set_rule(b"/big", Rule::AppendOnly).unwrap();
        assert!(guest.output(&stream).write("x".into()).is_err());
        assert_eq!(guest.write(early, 0, b"x"), Err(no));
        assert_eq!(guest.set_size(early, 0), Err(no));
        let now = NewTimestamp::Now;
        assert_eq!(guest.set_times(early, now, now), Err(no));
        let opened = guest.open(root, "hl", OpenFlags::empty(), WRITE);
        assert_eq!(opened.err(), Some(no));
        let log = guest.open(root, "big", OpenFlags::empty(), both()).unwrap();
        assert_eq!(guest.write(log, 0, b"x"), Err(no));
        let stream = guest.appender(log).unwrap();
        guest.output(&stream).write("!".into()).unwrap();
        assert_eq!(guest.stat(log).unwrap().size, 200_001);
        assert_eq!(guest.get(root, "f").unwrap(), b"hello");
    }
}

#[test]
fn a_mount_and_a_virtual_file_are_seen_by_components() {
    for mode in MODES {
        let (fs, other) = (
            Fs::new(&base()),
            Fs::builder(&base()).device(9.try_into().unwrap()).build(),
        );
        fs.mount(b"/d/m", &other, b"/d", Rights::ReadOnly).unwrap();
        let sink = Arc::new(|| b"made".to_vec());
        fs.mount_file(b"/made", sink).unwrap();
        let (mut guest, root) = Guest::new(&fs, mode);
        assert_eq!(guest.get(root, "d/m/g").unwrap(), b"inside");
        assert_eq!(guest.get(root, "made").unwrap(), b"made");
        let file = guest.open(root, "d/m/g", OpenFlags::empty(), READ).unwrap();
        let hash = guest.hash(file).unwrap();
        assert_eq!(guest.hash_at(root, "d/m/g").unwrap(), hash);
        assert_ne!(guest.hash_at(root, "d/g").unwrap(), hash);
        let no = ErrorCode::NotPermitted;
        assert_eq!(guest.unlink(root, "d/m/g"), Err(no));
        assert_eq!(guest.rename((root, "made"), (root, "x")), Err(no));
        let made = guest.open(root, "made", OpenFlags::empty(), READ).unwrap();
        let stream = guest.reader(made, 1).unwrap();
        assert_eq!(&guest.input(&stream).read(9).unwrap()[..], b"ade");
        assert_eq!(guest.writer(made, 0).err(), Some(ErrorCode::BadDescriptor));
    }
}

#[test]
fn case_56_a_read_only_file_system_says_so() {
    for mode in MODES {
        let (mut guest, root) = Guest::new(&Fs::builder(&base()).read_only().build(), mode);
        let no = ErrorCode::ReadOnly;
        assert_eq!(
            guest.open(root, "f", OpenFlags::empty(), WRITE).err(),
            Some(no)
        );
        assert_eq!(
            guest.open(root, "f", OpenFlags::TRUNCATE, READ).err(),
            Some(no)
        );
        assert_eq!(guest.unlink(root, "f"), Err(no));
        assert_eq!(guest.mkdir(root, "new"), Err(no));
        assert_eq!(guest.get(root, "f").unwrap(), b"hello");
    }
}

#[test]
fn case_61_an_unlinked_open_file_stays_until_its_last_stream_goes() {
    for mode in MODES {
        let fs = Fs::new(&Image::empty());
        let (mut guest, root) = Guest::new(&fs, mode);
        guest.put(root, "f", &[1; 50_000]).unwrap();
        let file = guest.open(root, "f", OpenFlags::empty(), both()).unwrap();
        let stream = guest.reader(file, 49_999).unwrap();
        guest.unlink(root, "f").unwrap();
        assert_eq!(guest.stat(file).unwrap().link_count, 0);
        assert_eq!(guest.write(file, 50_000, b"x").unwrap(), 1);
        guest.close(file);
        assert_eq!(guest.input(&stream).read(9).unwrap(), "\u{1}x");
        assert!(fs.usage().private_bytes > 0);
        guest.host.table.delete(stream).unwrap();
        assert_eq!((fs.usage().private_bytes, fs.usage().inodes), (0, 0));
    }
}

#[test]
fn case_65_a_full_resource_table_is_an_error_code() {
    for mode in MODES {
        let (mut guest, root) = Guest::new(&Fs::new(&base()), mode);
        guest.host.table.set_max_capacity(3);
        let file = guest.open(root, "f", OpenFlags::empty(), both()).unwrap();
        let more = guest.open(root, "f", OpenFlags::empty(), READ).unwrap();
        let full = Some(ErrorCode::Quota);
        assert_eq!(guest.open(root, "f", OpenFlags::empty(), READ).err(), full);
        assert_eq!(guest.reader(file, 0).err(), full);
        assert_eq!(guest.writer(file, 0).err(), full);
        assert_eq!(guest.appender(file).err(), full);
        assert_eq!(guest.listing(root).err(), full);
        guest.close(more);
        assert!(guest.listing(root).is_ok());
    }
}

#[test]
fn case_65_open_descriptors_are_bounded() {
    for mode in MODES {
        let fs = Fs::builder(&base()).max_open(100).build();
        let (mut guest, root) = Guest::new(&fs, mode);
        let mut held = Vec::new();
        let error = loop {
            match guest.open(root, "f", OpenFlags::empty(), READ) {
                Ok(file) => held.push(file),
                Err(error) => break error,
            }
        };
        assert_eq!((error, held.len()), (ErrorCode::Quota, 99));
        assert_eq!(guest.listing(root).err(), Some(ErrorCode::Quota));
        assert_eq!(
            guest.open(root, "new", OpenFlags::CREATE, READ).err(),
            Some(ErrorCode::Quota)
        );
        assert_eq!(guest.stat_at(root, "new").err(), Some(ErrorCode::NoEntry));
        guest.close(held.remove(0));
        assert!(guest.open(root, "f", OpenFlags::empty(), READ).is_ok());
        held.drain(..).for_each(|file| guest.close(file));
    }
}

#[test]
fn case_68_the_quota_ends_a_stream_with_its_code() {
    for mode in MODES {
        let fs = Fs::builder(&Image::empty()).max_bytes(1 << 20).build();
        let (mut guest, root) = Guest::new(&fs, mode);
        let file = guest.open(root, "f", OpenFlags::CREATE, both()).unwrap();
        let stream = guest.writer(file, 0).unwrap();
        guest
            .output(&stream)
            .write(vec![1; 1 << 19].into())
            .unwrap();
        guest
            .output(&stream)
            .write(vec![2; 1 << 19].into())
            .unwrap();
        let error = guest.output(&stream).write("x".into()).unwrap_err();
        assert_eq!(
            guest.halt(error),
            Halt::Failed(Some(ErrorCode::InsufficientSpace))
        );
        // A failed stream is closed; the file and a new stream are not.
        let error = guest.output(&stream).check_write().unwrap_err();
        assert_eq!(guest.halt(error), Halt::Closed);
        assert_eq!(
            guest.write(file, 1 << 20, b"x"),
            Err(ErrorCode::InsufficientSpace)
        );
        assert_eq!(guest.stat(file).unwrap().size, 1 << 20);
        guest.set_size(file, 0).unwrap();
        let stream = guest.writer(file, 0).unwrap();
        guest.output(&stream).write("x".into()).unwrap();
        assert_eq!(guest.get(root, "f").unwrap(), b"x");
    }
}

#[test]
fn case_73_times_are_set_shown_and_refused() {
    let to = |seconds, nanoseconds| {
        NewTimestamp::Timestamp(Datetime {
            seconds,
            nanoseconds,
        })
    };
    for mode in MODES {
        let (mut guest, root) = Guest::new(&Fs::new(&base()), mode);
        let file = guest.open(root, "f", OpenFlags::empty(), READ).unwrap();
        let times = |guest: &mut Guest, path| {
            let stat = guest.stat_at(root, path).unwrap();
            let pair = |time: Option<Datetime>| time.map(|t| (t.seconds, t.nanoseconds)).unwrap();
            (
                pair(stat.data_access_timestamp),
                pair(stat.data_modification_timestamp),
            )
        };
        assert_eq!(times(&mut guest, "f").1, (1_000, 7));
        guest
            .set_times(file, to(5, 999_999_999), NewTimestamp::NoChange)
            .unwrap();
        assert_eq!(times(&mut guest, "f"), ((5, 999_999_999), (1_000, 7)));
        let follow = PathFlags::SYMLINK_FOLLOW;
        guest
            .set_times_at(root, follow, "lf", [NewTimestamp::NoChange, to(6, 0)])
            .unwrap();
        assert_eq!(times(&mut guest, "hl"), ((5, 999_999_999), (6, 0)));
        guest
            .set_times_at(root, PathFlags::empty(), "lf", [to(1, 1), to(2, 2)])
            .unwrap();
        assert_eq!(times(&mut guest, "lf"), ((1, 1), (2, 2)));
        assert_eq!(times(&mut guest, "f").1, (6, 0));
        guest
            .set_times(file, NewTimestamp::NoChange, NewTimestamp::Now)
            .unwrap();
        assert!(times(&mut guest, "f").1.0 > 1_700_000_000);
        let keep = NewTimestamp::NoChange;
        assert_eq!(
            guest.set_times(file, to(u64::MAX, 0), keep),
            Err(ErrorCode::Overflow)
        );
        assert_eq!(
            guest.set_times(file, to(u64::MAX, 1_000_000_000), keep),
            Err(ErrorCode::Overflow)
        );
        guest.set_times(file, keep, to(1, 1_000_000_005)).unwrap();
        assert_eq!(times(&mut guest, "f").1, (2, 5));
        guest.set_times(file, to(i64::MAX as u64, 0), keep).unwrap();
        assert_eq!(times(&mut guest, "f").0, (i64::MAX as u64, 0));
    }
}

#[test]
fn flags_and_types_are_as_opened() {
    for mode in MODES {
        let fs = Fs::new(&base());
        let (mut guest, root) = Guest::new(&fs, mode);
        let mut opened = |path, open, flags| {
            let file = guest.open(root, path, open, flags).unwrap();
            guest.flags(file).unwrap()
        };
        let empty = DescriptorFlags::empty();
        assert!(opened("f", OpenFlags::empty(), empty) == READ);
        assert!(opened("f", OpenFlags::empty(), READ) == READ);
        assert!(opened("f", OpenFlags::empty(), WRITE) == WRITE);
        assert!(opened("f", OpenFlags::CREATE, empty) == both());
        assert!(opened("f", OpenFlags::TRUNCATE, both()) == both());
        assert!(opened("d", OpenFlags::DIRECTORY, empty) == READ);
        assert!(guest.flags(root).unwrap() == READ | DescriptorFlags::MUTATE_DIRECTORY);
        assert_eq!(guest.kind(root).unwrap(), DescriptorType::Directory);
        let file = guest.open(root, "lf", OpenFlags::empty(), READ).unwrap();
        assert_eq!(guest.kind(file).unwrap(), DescriptorType::RegularFile);
        for flags in [
            DescriptorFlags::FILE_INTEGRITY_SYNC,
            DescriptorFlags::DATA_INTEGRITY_SYNC,
            DescriptorFlags::REQUESTED_WRITE_SYNC,
        ] {
            let file = guest
                .open(root, "f", OpenFlags::empty(), READ | flags)
                .unwrap();
            assert!(guest.flags(file).unwrap() == READ | flags);
            let file = guest.open(root, "f", OpenFlags::empty(), both() | flags);
            let file = file.unwrap();
            assert!(guest.flags(file).unwrap() == both() | flags);
            // A write is done when it returns anyway.
            assert_eq!(guest.write(file, 0, b"x"), Ok(1));
        }
        let (mut guest, root) = Guest::read_only(&fs, mode);
        assert!(guest.flags(root).unwrap() == READ);
    }
}

#[test]
fn what_is_for_files_is_not_for_directories() {
    for mode in MODES {
        let (mut guest, root) = Guest::new(&Fs::new(&base()), mode);
        let bad = ErrorCode::BadDescriptor;
        assert_eq!(guest.read(root, 0, 1).err(), Some(bad));
        assert_eq!(guest.write(root, 0, b"x"), Err(bad));
        assert_eq!(guest.set_size(root, 0), Err(bad));
        assert_eq!(guest.advise(root, Advice::Normal), Err(bad));
        guest.sync(root).unwrap();
        guest.sync_data(root).unwrap();
        let file = guest.open(root, "f", OpenFlags::empty(), READ).unwrap();
        for advice in [Advice::Sequential, Advice::WillNeed, Advice::NoReuse] {
            guest.advise(file, advice).unwrap();
        }
        guest.sync(file).unwrap();
        guest.sync_data(file).unwrap();
        assert_eq!(guest.listing(file).err(), Some(ErrorCode::NotDirectory));
        assert_eq!(
            guest.stat_at(file, "x").err(),
            Some(ErrorCode::NotDirectory)
        );
        assert_eq!(guest.mkdir(file, "x"), Err(ErrorCode::NotDirectory));
    }
}
