//! Calls preview1 itself, with what no C library would pass.
//!
//! `raw_p1`: prints what each call answers. `raw_p1 trap NAME`: passes one
//! pointer that is out of bounds; the host has to end the guest.

use guest_examples::preview1::{
    self as p1, APPEND, CREAT, DIRECTORY, EXCL, FOLLOW, Iovec, READ, ROOT, TRUNC, WRITE, done, raw,
};

fn main() {
    let args: Vec<_> = std::env::args().collect();
    if let [_, word, name] = &args[..]
        && word == "trap"
    {
        trap(name);
        println!("{name}: lived on");
        return;
    }
    for fd in [ROOT + 20, 1 << 31, u32::MAX] {
        println!("descriptor {fd}: {}", every_call(fd));
    }
    let dir = p1::open(ROOT, "docs", DIRECTORY, 0, 0).unwrap();
    println!("directory: {}", every_call(dir));
    println!("preopen: {}", every_call(ROOT));
    opening();
    offsets();
    sizes();
    times();
    renumber();
    listing();
    paths();
    links();
}

/// Answers of the calls that take a descriptor, in one line.
fn every_call(fd: u32) -> String {
    let mut buf = [0; 8];
    let mut size = 0;
    let iovec = Iovec {
        buf: buf.as_mut_ptr(),
        len: buf.len(),
    };
    // SAFETY: what pointers there are, are valid.
    let codes = unsafe {
        [
            ("advise", raw::fd_advise(fd, 0, 0, 0)),
            ("allocate", raw::fd_allocate(fd, 0, 10)),
            ("datasync", raw::fd_datasync(fd)),
            ("sync", raw::fd_sync(fd)),
            ("set_flags", raw::fd_fdstat_set_flags(fd, 0)),
            ("set_rights", raw::fd_fdstat_set_rights(fd, 0, 0)),
            ("set_size", raw::fd_filestat_set_size(fd, 0)),
            (
                "pread",
                raw::fd_pread(fd, &raw const iovec, 1, 0, &raw mut size),
            ),
        ]
    };
    let mut line = String::new();
    // wasmtime-wasi does not synchronise directories, stratafs does.
    let is_dir = p1::fdstat(fd).is_ok_and(|stat| stat.filetype == 3);
    for (name, code) in codes {
        if is_dir && name.ends_with("sync") {
            continue;
        }
        line += &format!("{name} {:?}, ", p1::Errno(code as u16));
    }
    line += &format!(
        "read {:?}, write {:?}, ",
        p1::read(fd, &mut buf),
        p1::write(fd, b"x")
    );
    line += &format!("seek {:?}, tell {:?}, ", p1::seek(fd, 0, 0), p1::tell(fd));
    line += &format!(
        "stat {:?}, fdstat {:?}",
        p1::fstat(fd).map(|stat| stat.filetype),
        p1::fdstat(fd).map(|stat| (stat.filetype, stat.flags))
    );
    line
}

fn opening() {
    for (path, oflags, rights, fdflags) in [
        ("etc/motd", 0, 0, 0),
        ("etc/motd", 0, READ, 0),
        ("etc/motd", 0, WRITE, 0),
        ("etc/motd", 0, READ | WRITE, 0),
        ("new-a", CREAT, 0, 0),
        ("new-b", CREAT, READ, 0),
        ("new-c", CREAT, WRITE, 0),
        ("new-a", CREAT | EXCL, WRITE, 0),
        ("new-a", TRUNC, 0, 0),
        ("new-a", TRUNC, READ, 0),
        ("new-a", 0, WRITE, APPEND),
        ("docs", 0, READ, 0),
        ("docs", 0, WRITE, 0),
        ("docs", CREAT, 0, 0),
        ("docs", TRUNC, 0, 0),
        ("docs", DIRECTORY, READ, 0),
        ("docs", DIRECTORY, WRITE, 0),
        ("docs", DIRECTORY | CREAT, 0, 0),
        ("docs", DIRECTORY | EXCL, 0, 0),
        ("docs", DIRECTORY | TRUNC, 0, 0),
        ("etc/motd", DIRECTORY, 0, 0),
        ("etc/motd/", 0, 0, 0),
        ("etc/motd/", CREAT, 0, 0),
        ("none/", 0, 0, 0),
        ("none/", CREAT, 0, 0),
        ("etc/motd", 0, READ, 4),
        ("", 0, 0, 0),
        (".", 0, 0, 0),
        ("./", 0, 0, 0),
        ("..", 0, 0, 0),
        ("/", 0, 0, 0),
        ("/etc/motd", 0, 0, 0),
        ("docs/../etc/motd", 0, 0, 0),
        ("docs/../../etc/motd", 0, 0, 0),
        ("none/../etc/motd", 0, 0, 0),
        ("etc/motd/..", 0, 0, 0),
        ("etc/motd/.", 0, 0, 0),
        ("etc//motd", 0, 0, 0),
        ("a\0b", 0, 0, 0),
        ("links/sym-rel", 0, 0, 0),
        ("links/dangling", 0, 0, 0),
        ("links/dangling", EXCL | CREAT, 0, 0),
    ] {
        let answer = p1::open(ROOT, path, oflags, rights, fdflags).map(|fd| {
            let mut buf = [0; 4];
            let can = (p1::pread(fd, &mut buf, 0), p1::pwrite(fd, b"", 0));
            let stat = p1::fdstat(fd).unwrap();
            p1::close(fd).unwrap();
            (can, stat.filetype, stat.flags)
        });
        println!("open {path:?} oflags {oflags} rights {rights:#x} fdflags {fdflags}: {answer:?}");
    }
    let child = p1::open(ROOT, "docs/guide", DIRECTORY, READ, 0).unwrap();
    println!(
        "child/..: {:?}",
        p1::open(child, "../alpha", 0, 0, 0).map(drop)
    );
    println!(
        "child: {:?}",
        p1::open(child, "intro.txt", 0, 0, 0).map(drop)
    );
    let file = p1::open(ROOT, "etc/motd", 0, READ, 0).unwrap();
    println!("below a file: {:?}", p1::open(file, "x", 0, 0, 0).map(drop));
    let path = "etc/../links/sym-rel";
    let mut fd = 0;
    // SAFETY: the path is valid for its length, the pointer for a write.
    let code = unsafe {
        raw::path_open(
            ROOT,
            0,
            path.as_ptr(),
            path.len(),
            0,
            READ,
            0,
            0,
            &raw mut fd,
        )
    };
    println!("open a link, not followed: {:?}", done(code));
}

fn offsets() {
    let fd = p1::open(ROOT, "offsets", CREAT, READ | WRITE, 0).unwrap();
    println!("write: {:?}", p1::write(fd, b"0123456789"));
    for (offset, whence) in [
        (0, 0),
        (-3, 1),
        (2, 1),
        (-4, 2),
        (100, 2),
        (-1, 0),
        (i64::MIN, 1),
        (i64::MAX, 0),
        (i64::MAX, 2),
    ] {
        println!(
            "seek {offset} from {whence}: {:?}, now {:?}",
            p1::seek(fd, offset, whence),
            p1::tell(fd)
        );
    }
    let mut buf = [0; 16];
    p1::seek(fd, 4, 0).unwrap();
    println!("read: {:?}, now {:?}", p1::read(fd, &mut buf), p1::tell(fd));
    println!("at the end: {:?}", p1::read(fd, &mut buf));
    println!(
        "pread: {:?}, now {:?}",
        p1::pread(fd, &mut buf, 2),
        p1::tell(fd)
    );
    println!("pread far: {:?}", p1::pread(fd, &mut buf, 1 << 62));
    println!(
        "pwrite past the end: {:?}, size {}",
        p1::pwrite(fd, b"x", 20),
        p1::fstat(fd).unwrap().size
    );
    println!(
        "pwrite of nothing past the end: {:?}, size {}",
        p1::pwrite(fd, b"", 90),
        p1::fstat(fd).unwrap().size
    );
    let append = p1::open(ROOT, "offsets", 0, READ | WRITE, APPEND).unwrap();
    println!(
        "append: {:?}, size {}",
        p1::write(append, b"end"),
        p1::fstat(fd).unwrap().size
    );
    println!(
        "set append: {:?}, flags {:?}",
        flags(fd, APPEND),
        p1::fdstat(fd).map(|stat| stat.flags)
    );
    println!(
        "clear append: {:?}, flags {:?}",
        flags(append, 0),
        p1::fdstat(append).map(|stat| stat.flags)
    );
    p1::seek(append, 0, 0).unwrap();
    println!(
        "then writes go to the offset: {:?}, now {:?}",
        p1::write(append, b"start"),
        p1::tell(append)
    );
    // Those for synchronous writes are refused by wasmtime-wasi and taken by stratafs.
    println!("no waiting: {:?}", flags(fd, 4));
}

fn flags(fd: u32, flags: u32) -> p1::Result<()> {
    // SAFETY: no pointer is passed.
    done(unsafe { raw::fd_fdstat_set_flags(fd, flags) })
}

fn sizes() {
    let fd = p1::open(ROOT, "sizes", CREAT, READ | WRITE, 0).unwrap();
    let reader = p1::open(ROOT, "sizes", 0, READ, 0).unwrap();
    for (fd, name) in [(fd, "writer"), (reader, "reader")] {
        for size in [100, 5_000_000_000, 0] {
            // SAFETY: no pointer is passed.
            let code = done(unsafe { raw::fd_filestat_set_size(fd, size) });
            println!(
                "{name}: size to {size}: {code:?}, is {}",
                p1::fstat(fd).unwrap().size
            );
        }
        // SAFETY: no pointer is passed.
        let code = done(unsafe { raw::fd_allocate(fd, 0, 100) });
        println!("{name}: allocate: {code:?}");
    }
    println!("write by a reader: {:?}", p1::write(reader, b"x"));
    let writer = p1::open(ROOT, "sizes", 0, WRITE, 0).unwrap();
    println!("read by a writer: {:?}", p1::read(writer, &mut [0; 4]));
    println!("list a file: {:?}", p1::readdir(fd, &mut [0; 64], 0));
}

fn times() {
    let fd = p1::open(ROOT, "times", CREAT, READ | WRITE, 0).unwrap();
    for (atim, mtim, fst) in [
        (5, 6, 1 | 4),
        (7, 8, 4),
        (9, 10, 1),
        (1, 2, 4 | 8),
        (1, 2, 1 | 2),
        (3, 4, 0),
        (1 << 62, 1 << 61, 5),
    ] {
        // SAFETY: no pointer is passed.
        let code = done(unsafe { raw::fd_filestat_set_times(fd, atim, mtim, fst) });
        let stat = p1::fstat(fd).unwrap();
        println!(
            "times {atim} {mtim} flags {fst}: {code:?}, now {} {}",
            stat.atim, stat.mtim
        );
    }
    // SAFETY: the paths are valid for their lengths.
    let set = |path: &str, flags| unsafe {
        done(raw::path_filestat_set_times(
            ROOT,
            flags,
            path.as_ptr(),
            path.len(),
            11,
            12,
            5,
        ))
    };
    println!(
        "by path: {:?}, missing: {:?}",
        set("times", FOLLOW),
        set("none", FOLLOW)
    );
    println!(
        "of a dangling link: {:?}, itself: {:?}",
        set("links/dangling", FOLLOW),
        set("links/dangling", 0)
    );
    println!(
        "now {:?}",
        p1::stat(ROOT, 0, "links/dangling").map(|stat| (stat.mtim, stat.filetype))
    );
}

fn renumber() {
    // SAFETY: no pointer is passed.
    let renumber = |from, to| done(unsafe { raw::fd_renumber(from, to) });
    let open = |path| p1::open(ROOT, path, 0, READ, 0).unwrap();
    let first = |fd| {
        let mut buf = [0; 4];
        p1::pread(fd, &mut buf, 0).map(|_| String::from_utf8_lossy(&buf).into_owned())
    };
    let (one, two) = (open("etc/motd"), open("etc/hosts"));
    println!(
        "renumber: {:?}, target {:?}, source {:?}",
        renumber(one, two),
        first(two),
        first(one)
    );
    println!(
        "onto itself: {:?}, still {:?}",
        renumber(two, two),
        first(two)
    );
    println!(
        "onto nothing: {:?}, {:?}",
        renumber(two, 1_000),
        renumber(two, u32::MAX)
    );
    println!(
        "from nothing: {:?}, {:?}",
        renumber(1_000, two),
        renumber(u32::MAX, two)
    );
    println!("still {:?}", first(two));
    p1::close(two).unwrap();
    println!("closed: {:?}, again: {:?}", first(two), p1::close(two));
    for _ in 0..10_000 {
        let (one, two) = (open("etc/motd"), open("etc/hosts"));
        renumber(one, two).unwrap();
        p1::close(two).unwrap();
    }
    println!("10,000 times over");
}

fn listing() {
    let dir = p1::open(ROOT, "docs/guide", DIRECTORY, READ, 0).unwrap();
    let mut all = vec![0; 4096];
    let len = p1::readdir(dir, &mut all, 0).unwrap();
    all.truncate(len);
    let mut entries = Vec::new();
    let mut at = 0;
    while at + 24 <= all.len() {
        let word = |from: usize| u64::from_le_bytes(all[from..from + 8].try_into().unwrap());
        let (next, ino, rest) = (word(at), word(at + 8), word(at + 16));
        let (len, kind) = ((rest & 0xffff_ffff) as usize, (rest >> 32) as u8);
        let name = String::from_utf8_lossy(&all[at + 24..at + 24 + len]).into_owned();
        entries.push((name, kind, next, ino));
        at += 24 + len;
    }
    let mut names: Vec<_> = entries
        .iter()
        .map(|(name, kind, ..)| (name.clone(), *kind))
        .collect();
    names.sort();
    println!("listing: {names:?}");
    for (name, _, _, ino) in entries.iter().filter(|entry| entry.0 != "..") {
        assert_eq!(
            *ino,
            p1::stat(dir, 0, name).unwrap().ino,
            "inode number of {name}"
        );
    }
    // Each cookie goes on right behind its entry.
    for (at, entry) in entries.iter().enumerate() {
        let mut buf = vec![0; 4096];
        let len = p1::readdir(dir, &mut buf, entry.2).unwrap();
        let before: usize = entries[..=at].iter().map(|entry| 24 + entry.0.len()).sum();
        assert_eq!(buf[..len], all[before..], "after {}", entry.0);
    }
    for len in [0, 1, 23, 24, 25, 30, 50] {
        println!(
            "buffer of {len}: {:?}",
            p1::readdir(dir, &mut vec![0; len], 0)
        );
    }
    println!("past the end: {:?}", p1::readdir(dir, &mut all, 1_000_000));
}

fn paths() {
    for path in [
        "",
        ".",
        "..",
        "/",
        "docs/",
        "docs/.",
        "docs/..",
        "etc/motd",
        "etc/motd/",
        "none",
        "none/",
        "none/x",
        "etc/motd/x",
        "x\0y",
    ] {
        println!(
            "{path:?}: unlink {:?}, rmdir {:?}, mkdir {:?}",
            if path == "etc/motd" {
                Ok(())
            } else {
                p1::unlink(ROOT, path)
            },
            if path == "docs/" {
                Ok(())
            } else {
                p1::rmdir(ROOT, path)
            },
            if path.starts_with("none") {
                Ok(())
            } else {
                p1::mkdir(ROOT, path)
            },
        );
    }
    println!(
        "mkdir with a slash: {:?}, rmdir: {:?}",
        p1::mkdir(ROOT, "made/"),
        p1::rmdir(ROOT, "made")
    );
    println!("name of 256: {:?}", p1::mkdir(ROOT, &"n".repeat(256)));
    println!("path of 5000: {:?}", p1::mkdir(ROOT, &"n/".repeat(2500)));
    // SAFETY: the bytes are valid for their length; they are no UTF-8.
    let code = unsafe { raw::path_create_directory(ROOT, b"\xff\xfe".as_ptr(), 2) };
    println!("no UTF-8: {:?}", done(code));
    let gone = {
        p1::mkdir(ROOT, "gone").unwrap();
        p1::open(ROOT, "gone", DIRECTORY, READ, 0).unwrap()
    };
    p1::rmdir(ROOT, "gone").unwrap();
    println!("create in a removed directory: {:?}", p1::mkdir(gone, "x"));
    println!(
        "list a removed directory: {:?}",
        p1::readdir(gone, &mut [0; 512], 2)
    );
}

fn links() {
    println!(
        "link: {:?}, followed: {:?}",
        p1::link(ROOT, 0, "etc/hosts", "hosts"),
        p1::link(ROOT, FOLLOW, "etc/hosts", "hosts2")
    );
    println!(
        "with a slash: {:?}",
        p1::link(ROOT, 0, "etc/hosts", "hosts3/")
    );
    let readlink = |path: &str, len: usize| {
        let mut buf = vec![0; len];
        let mut got = 0;
        // SAFETY: path and buffer are valid for their lengths.
        let code = unsafe {
            raw::path_readlink(
                ROOT,
                path.as_ptr(),
                path.len(),
                buf.as_mut_ptr(),
                buf.len(),
                &raw mut got,
            )
        };
        done(code).map(|()| String::from_utf8_lossy(&buf[..got]).into_owned())
    };
    println!(
        "readlink: {:?}, short: {:?}, none: {:?}",
        readlink("links/sym-dir", 100),
        readlink("links/sym-dir", 3),
        readlink("links/sym-dir", 0)
    );
    println!("readlink of a file: {:?}", readlink("etc/hosts", 10));
    println!("rename: {:?}", p1::rename(ROOT, "hosts", "moved"));
    println!("preopen's name: {:?}", {
        let mut stat = [0; 2];
        // SAFETY: the pointer is valid for a write.
        let code = unsafe { raw::fd_prestat_get(ROOT, &raw mut stat) };
        let mut name = [0; 1];
        // SAFETY: the buffer is valid for its length.
        let named = unsafe { raw::fd_prestat_dir_name(ROOT, name.as_mut_ptr(), 1) };
        (done(code), stat, done(named), name)
    });
}

/// Passes a pointer that is out of bounds.
fn trap(name: &str) {
    let far = usize::MAX - 8;
    let fd = p1::open(ROOT, "etc/motd", 0, READ | WRITE, 0).unwrap();
    let mut len = 0;
    // SAFETY: none of this is sound; the host has to refuse each of them.
    unsafe {
        match name {
            "read" => {
                let iovec = Iovec {
                    buf: far as *mut u8,
                    len: 100,
                };
                raw::fd_read(fd, &raw const iovec, 1, &raw mut len)
            }
            "read-iovecs" => raw::fd_read(fd, far as *const Iovec, 1 << 20, &raw mut len),
            "read-out" => raw::fd_read(fd, std::ptr::null(), 0, far as *mut usize),
            "stat-out" => raw::fd_filestat_get(fd, far as *mut p1::Filestat),
            "path" => raw::path_create_directory(ROOT, far as *const u8, 100),
            "path-length" => raw::path_create_directory(ROOT, 8 as *const u8, usize::MAX),
            "readdir" => raw::fd_readdir(ROOT, far as *mut u8, 100, 0, &raw mut len),
            other => panic!("no trap {other}"),
        };
    }
}
