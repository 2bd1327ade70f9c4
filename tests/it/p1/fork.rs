//! Contexts that are forked, and tables that are opened again from data.

use stratafs::errno::Errno as Code;
use stratafs::vfs::Rights as Allow;
use stratafs::wasi::p1::Described;

use super::*;
use crate::support::p1::{Data, MODES, Oflags, READ_WRITE, Rights};

fn ctx(guest: &mut Guest) -> &mut Ctx {
    match guest.store.data_mut() {
        Data::Ours(ctx) => ctx,
        Data::Stock(_) => panic!("the guest is wasmtime-wasi's"),
    }
}

#[test]
fn a_fork_of_a_context_keeps_numbers_offsets_and_files_without_names() {
    for mode in MODES {
        let fs = fresh();
        let mut first = on(mode, &fs);
        let hello = first
            .open(ROOT, "hello", Oflags::empty(), READ_WRITE)
            .unwrap();
        assert_eq!(first.read(hello, 5).unwrap(), b"hello");
        let gone = first.open(ROOT, "gone", Oflags::CREAT, READ_WRITE).unwrap();
        first.write(gone, b"nameless").unwrap();
        first.unlink(ROOT, "gone").unwrap();
        let spare = first
            .open(ROOT, "old", Oflags::empty(), READ_WRITE)
            .unwrap();
        let dir = first
            .open(ROOT, "dir", Oflags::DIRECTORY, Rights::FD_READ)
            .unwrap();
        first.close(spare).unwrap();

        let (other, forked) = ctx(&mut first).fork(&fs, quiet()).unwrap();
        let mut second = Guest::new(mode, forked);
        first.write(gone, b" here").unwrap();
        // Each goes on where it was, on its own files.
        assert_eq!(second.read(hello, 6).unwrap(), b" world");
        assert_eq!(first.read(hello, 6).unwrap(), b" world");
        assert_eq!(second.tell(gone).unwrap(), 8);
        assert_eq!(second.pread(gone, 99, 0).unwrap(), b"nameless");
        assert_eq!(first.pread(gone, 99, 0).unwrap(), b"nameless here");
        assert_eq!(second.preopens(), first.preopens());
        assert_eq!(second.content(dir, "inner").unwrap(), b"inner");
        // The lowest free number is the same in both.
        second.create(ROOT, "second", b"2");
        assert_eq!(
            second
                .open(ROOT, "old", Oflags::empty(), READ_WRITE)
                .unwrap(),
            spare
        );
        assert!(other.exists("/second").unwrap() && !fs.exists("/second").unwrap());
    }
}

#[test]
fn a_table_from_data_has_no_more_rights_than_the_preopens() {
    let described = |ctx: &Ctx| -> Vec<Described> {
        ctx.describe(|_| Ok::<_, ()>(("/".to_owned(), b"hello".to_vec())), |_| ())
            .unwrap()
    };
    for mode in MODES {
        let mut first = on(mode, &fresh());
        let hello = first
            .open(ROOT, "hello", Oflags::empty(), READ_WRITE)
            .unwrap();
        first.seek(hello, 6, 0).unwrap();
        let table = described(ctx(&mut first));
        assert_eq!(table.len(), hello as usize + 1);

        let mut again = Ctx::new(quiet()).preopen(fresh().root().unwrap(), "/");
        again.reopen(&table).unwrap();
        let mut second = Guest::new(mode, again);
        assert_eq!(second.read(hello, 9).unwrap(), b"world");
        assert!(second.write(hello, b"!").is_ok());

        // Below a preopen that is read-only it reads.
        let fs = fresh();
        let read_only = fs.preopen("/", Allow::ReadOnly).unwrap();
        let mut again = Ctx::new(quiet()).preopen(read_only, "/");
        again.reopen(&table).unwrap();
        let mut third = Guest::new(mode, again);
        assert_eq!(third.read(hello, 9).unwrap(), b"world");
        assert!(third.write(hello, b"!").is_err());
    }
}

#[test]
fn a_table_from_data_that_asks_for_too_much_changes_nothing() {
    let open = |preopen: &str, path: &str| {
        let mut table = Vec::new();
        let mut first = on(Mode::Sync, &fresh());
        first
            .open(ROOT, "hello", Oflags::empty(), READ_WRITE)
            .unwrap();
        let (preopen, path) = (preopen.to_owned(), path.as_bytes().to_vec());
        table.extend(
            ctx(&mut first)
                .describe(|_| Ok::<_, ()>((preopen.clone(), path.clone())), |_| ())
                .unwrap(),
        );
        table
    };
    let refused = |table: Vec<Described>| {
        let mut again = Ctx::new(quiet()).preopen(fresh().root().unwrap(), "/");
        let errno = again.reopen(&table).unwrap_err().errno();
        let mut guest = Guest::new(Mode::Sync, again);
        assert_eq!(guest.content(ROOT, "hello").unwrap(), b"hello world");
        errno
    };
    assert_eq!(refused(open("/other", "hello")), Code::BadDescriptor);
    assert_eq!(refused(open("/", "missing")), Code::NoEntry);
    assert_eq!(refused(open("/", "../hello")), Code::NotPermitted);
    assert_eq!(refused(open("/", "up")), Code::Loop);
    assert_eq!(refused(open("/", "dir")), Code::IsDirectory);
    assert_eq!(refused(vec![Described::Stream(3)]), Code::BadDescriptor);
}
