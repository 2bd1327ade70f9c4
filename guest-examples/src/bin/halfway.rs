//! Stands in the middle of things at each of its calls, and tells all that it sees there.
//!
//! `halfway PART`: what is held while calls are made. A host that stops the guest at any of them and has it
//! go on elsewhere must have it print the same.

use guest_examples::check::arg;
use guest_examples::preview1::{
    self as p1, APPEND, CREAT, DIRECTORY, EXCL, Event, Filestat, READ, ROOT, Result, Subscription,
    TRUNC, WRITE, done, raw,
};

fn main() {
    let part = arg(1, "recursion");
    let told = match part.as_str() {
        "recursion" => recursion(&mut Vec::new(), ROOT, 0),
        "listing" => listing(),
        "appending" => appending(),
        "removed" => removed(),
        "renamed" => renamed(),
        "numbers" => numbers(),
        "waiting" => waiting(),
        "drawn" => drawn(),
        "flags" => flags(),
        "all" => all(),
        other => panic!("no part {other:?}"),
    };
    println!("{part}: {told:?}");
}

/// Opens a file, to read and write it, with what else `oflags` asks for.
fn file(path: &str, oflags: u32, fdflags: u32) -> Result<u32> {
    p1::open(ROOT, path, oflags, READ | WRITE | SEEK | TELL, fdflags)
}

const SEEK: u64 = 1 << 2;
const TELL: u64 = 1 << 5;

/// All that a descriptor tells, in one line.
fn tell(what: &str, fd: u32) {
    println!("{what}: {:?}", p1::fstat(fd).map(numbers_of));
}

fn tell_path(path: &str) {
    println!("{path}: {:?}", p1::stat(ROOT, 0, path).map(numbers_of));
}

fn numbers_of(stat: Filestat) -> [u64; 8] {
    let kind = stat.filetype.into();
    [
        stat.dev, stat.ino, kind, stat.nlink, stat.size, stat.atim, stat.mtim, stat.ctim,
    ]
}

/// The next names of a directory, as many as a small buffer has room for, and the cookie behind
/// the last one.
fn names(dir: u32, cookie: u64) -> Result<(Vec<String>, u64)> {
    let mut buffer = [0; 80];
    let length = p1::readdir(dir, &mut buffer, cookie)?;
    let (mut names, mut next, mut at) = (Vec::new(), cookie, 0);
    while at + 24 <= length {
        let number = |from: usize| u64::from_le_bytes(*buffer[at + from..].first_chunk().unwrap());
        let name_length = (number(16) & 0xffff_ffff) as usize;
        let Some(name) = buffer[..length].get(at + 24..at + 24 + name_length) else {
            break;
        };
        names.push(format!("{} {}", String::from_utf8_lossy(name), number(8)));
        next = number(0);
        at += 24 + name_length;
    }
    Ok((names, next))
}

/// Lists one directory in another, each in the middle of its list.
fn recursion(above: &mut Vec<String>, dir: u32, depth: usize) -> Result<()> {
    let mut cookie = 0;
    loop {
        let (found, next) = names(dir, cookie)?;
        if found.is_empty() || depth > 3 {
            return Ok(());
        }
        println!("{}/ {found:?}", above.join("/"));
        for name in found {
            let name = name.split(' ').next().unwrap();
            if [".", "..", "many", "dev", "tmp"].contains(&name) {
                continue;
            }
            if let Ok(inner) = p1::open(dir, name, DIRECTORY, 0, 0) {
                above.push(name.to_owned());
                recursion(above, inner, depth + 1)?;
                above.pop();
                p1::close(inner)?;
            }
        }
        cookie = next;
    }
}

/// A directory that changes, is renamed and removed while it is listed.
fn listing() -> Result<()> {
    p1::mkdir(ROOT, "seen")?;
    for number in 0..9 {
        p1::close(file(&format!("seen/{number}"), CREAT, 0)?)?;
    }
    let dir = p1::open(ROOT, "seen", DIRECTORY, 0, 0)?;
    let (mut cookie, mut round) = (0, 0);
    loop {
        let (found, next) = names(dir, cookie)?;
        println!("{found:?}");
        if found.is_empty() {
            break;
        }
        tell("listed", dir);
        match round {
            0 => p1::unlink(dir, "8")?,
            1 => p1::rename(ROOT, "seen", "docs/moved")?,
            2 => p1::rename(dir, "0", "zero")?,
            3 => p1::close(p1::open(dir, "late", CREAT, WRITE, 0)?)?,
            _ => {}
        }
        (cookie, round) = (next, round + 1);
    }
    for name in ["1", "2", "3", "4", "5", "6", "7", "zero", "late"] {
        p1::unlink(dir, name)?;
    }
    p1::rmdir(ROOT, "docs/moved")?;
    tell("removed", dir);
    println!("{:?} {:?}", names(dir, 0), p1::mkdir(dir, "below"));
    tell("docs", p1::open(ROOT, "docs", DIRECTORY, 0, 0)?);
    Ok(())
}

/// Several descriptors of one file, two of which append.
fn appending() -> Result<()> {
    let one = file("data/log.txt", 0, APPEND)?;
    let two = file("data/log.txt", 0, APPEND)?;
    let plain = file("data/log.txt", 0, 0)?;
    p1::seek(plain, 3, 0)?;
    for (fd, bytes) in [
        (one, "one"),
        (plain, "PLAIN"),
        (two, "two"),
        (plain, "more"),
        (one, "end"),
    ] {
        println!("{:?}", p1::write(fd, bytes.as_bytes()));
        println!("{:?}", [one, two, plain].map(p1::tell));
        tell("written", fd);
    }
    p1::rename(ROOT, "data/log.txt", "data/moved")?;
    println!("{:?}", p1::write(two, b"after"));
    p1::seek(one, -12, 2)?;
    let mut buffer = [0; 20];
    let length = p1::read(one, &mut buffer)?;
    println!("{:?}", String::from_utf8_lossy(&buffer[..length]));
    tell_path("data/moved");
    Ok(())
}

/// Files and directories that lose their names, and others that take them.
fn removed() -> Result<()> {
    let base = file("etc/motd", 0, 0)?;
    let again = file("etc/motd", 0, APPEND)?;
    p1::unlink(ROOT, "etc/motd")?;
    let own = file("etc/motd", CREAT | EXCL, 0)?;
    p1::write(own, b"own")?;
    p1::unlink(ROOT, "etc/motd")?;
    p1::mkdir(ROOT, "etc/motd")?;
    let dir = p1::open(ROOT, "etc/motd", DIRECTORY, 0, 0)?;
    p1::rmdir(ROOT, "etc/motd")?;
    let newest = file("etc/motd", CREAT | EXCL, 0)?;
    // SAFETY: no pointer is passed.
    done(unsafe { raw::fd_filestat_set_times(own, 5, 7, 5) })?;
    for (what, fd) in [
        ("base", base),
        ("again", again),
        ("own", own),
        ("dir", dir),
        ("newest", newest),
    ] {
        tell(what, fd);
    }
    println!(
        "{:?} {:?}",
        p1::write(again, b"more"),
        p1::pwrite(own, b"later", 10)
    );
    let mut buffer = [0; 80];
    for fd in [base, own, newest] {
        let length = p1::pread(fd, &mut buffer, 0)?;
        println!("{:?}", String::from_utf8_lossy(&buffer[..length]));
        tell("read", fd);
    }
    println!(
        "{:?} {:?}",
        names(dir, 0),
        p1::open(dir, "x", CREAT, WRITE, 0)
    );
    p1::close(base)?;
    tell("again", again);
    tell_path("etc");
    Ok(())
}

/// Files and directories that change places while they are open.
fn renamed() -> Result<()> {
    let one = file("docs/guide/intro.txt", 0, 0)?;
    let two = file("docs/guide/usage.txt", 0, 0)?;
    let dir = p1::open(ROOT, "docs/guide", DIRECTORY, 0, 0)?;
    p1::rename(ROOT, "docs/guide/intro.txt", "docs/x")?;
    p1::rename(ROOT, "docs/guide/usage.txt", "docs/guide/intro.txt")?;
    p1::rename(ROOT, "docs/x", "docs/guide/usage.txt")?;
    p1::rename(ROOT, "docs/guide", "etc/guide")?;
    p1::link(ROOT, 0, "etc/guide/usage.txt", "second")?;
    p1::rename(ROOT, "docs", "papers")?;
    for (what, fd) in [("one", one), ("two", two), ("dir", dir)] {
        tell(what, fd);
    }
    p1::write(one, b"ONE")?;
    println!("{:?}", names(dir, 0));
    p1::rename(ROOT, "second", "etc/guide/intro.txt")?;
    let mut buffer = [0; 9];
    p1::read(two, &mut buffer)?;
    println!("{:?} {:?}", String::from_utf8_lossy(&buffer), p1::tell(two));
    for (what, fd) in [("one", one), ("two", two), ("dir", dir)] {
        tell(what, fd);
    }
    for path in [
        "etc/guide/usage.txt",
        "papers/alpha/part/1.txt",
        "papers",
        "etc",
        ".",
        "docs",
    ] {
        tell_path(path);
    }
    Ok(())
}

/// Descriptors that have other numbers than they were given.
fn numbers() -> Result<()> {
    let renumber = |from, to| {
        // SAFETY: no pointer is passed.
        done(unsafe { raw::fd_renumber(from, to) })
    };
    let one = file("etc/hosts", 0, 0)?;
    let dir = p1::open(ROOT, "docs", DIRECTORY, 0, 0)?;
    p1::seek(one, 4, 0)?;
    println!("to a free number: {:?}", renumber(one, 40));
    println!("over the input: {:?}", renumber(dir, 0));
    let two = file("etc/motd", 0, 0)?;
    println!("over an open one: {:?}", renumber(two, one + 1));
    println!("the root: {:?}", renumber(ROOT, 20));
    for fd in 0..50 {
        if let Ok(stat) = p1::fdstat(fd) {
            println!(
                "{fd}: {stat:?} {:?} {:?}",
                p1::fstat(fd).map(numbers_of),
                p1::tell(fd)
            );
        }
        let mut prestat = [0; 2];
        // SAFETY: the pointer is valid for a write.
        if done(unsafe { raw::fd_prestat_get(fd, &raw mut prestat) }).is_ok() {
            println!("{fd} is shown: {prestat:?}");
        }
    }
    println!("{:?}", p1::open(20, "etc/hosts", 0, READ, 0));
    println!("{:?}", p1::open(0, "empty.txt", 0, READ, 0));
    Ok(())
}

/// Waits for times and for files, several at once.
fn waiting() -> Result<()> {
    let fd = file("etc/hosts", 0, 0)?;
    let clock = |userdata, id, timeout, flags| Subscription {
        userdata,
        id,
        timeout,
        flags,
        ..Subscription::default()
    };
    let readable = |userdata, id| Subscription {
        userdata,
        tag: 1,
        id,
        ..Subscription::default()
    };
    let later = p1::now() + 2_000_000;
    let waits = [
        vec![clock(1, 1, 1_000_000, 0)],
        vec![clock(2, 1, 1_000_000_000_000, 0), readable(3, fd)],
        vec![clock(4, 0, 1, 0), clock(5, 1, 100_000_000_000, 0)],
        vec![readable(6, 77), readable(7, fd)],
        vec![clock(8, 1, later, 1)],
    ];
    for wait in waits {
        let mut events = vec![Event::default(); wait.len()];
        let mut count = 0;
        // SAFETY: both are as long as is told.
        let code = unsafe {
            raw::poll_oneoff(
                wait.as_ptr(),
                events.as_mut_ptr(),
                wait.len(),
                &raw mut count,
            )
        };
        println!("{:?} {:?}", p1::Errno(code as u16), &events[..count]);
    }
    Ok(())
}

/// Draws random numbers and looks at the clocks, with files written in between.
fn drawn() -> Result<()> {
    let fd = file("drawn", CREAT | TRUNC, 0)?;
    for length in [1, 8, 3, 40] {
        let mut buffer = vec![0; length];
        // SAFETY: the buffer is as long as is told.
        done(unsafe { raw::random_get(buffer.as_mut_ptr(), length) })?;
        println!("{buffer:?}");
        p1::write(fd, &buffer)?;
        for clock in [0, 1] {
            let mut now = 0;
            // SAFETY: the pointer is valid for a write.
            println!(
                "{:?} {now}",
                done(unsafe { raw::clock_time_get(clock, 1, &raw mut now) })
            );
        }
        tell("drawn", fd);
    }
    Ok(())
}

/// What descriptors may do, and how they do it.
fn flags() -> Result<()> {
    let reader = p1::open(ROOT, "etc/hosts", 0, READ, 0)?;
    let writer = p1::open(ROOT, "etc/hosts", 0, WRITE, APPEND)?;
    let synced = p1::open(ROOT, "new", CREAT, READ | WRITE, 16 | 4)?;
    let dir = p1::open(ROOT, "etc", DIRECTORY, 0, 0)?;
    for round in 0..2 {
        for fd in [0, 1, 2, ROOT, reader, writer, synced, dir] {
            println!("{fd}: {:?}", p1::fdstat(fd));
        }
        let mut buffer = [0; 4];
        println!(
            "{:?} {:?}",
            p1::read(writer, &mut buffer),
            p1::write(reader, b"x")
        );
        println!(
            "{:?} {:?}",
            p1::read(reader, &mut buffer),
            p1::write(writer, b"x")
        );
        println!(
            "{:?} {:?}",
            p1::read(dir, &mut buffer),
            p1::write(synced, b"x")
        );
        // SAFETY: no pointer is passed.
        println!("{:?}", done(unsafe { raw::fd_fdstat_set_flags(writer, 0) }));
        // SAFETY: no pointer is passed.
        println!(
            "{:?}",
            done(unsafe { raw::fd_fdstat_set_rights(reader, READ * round, 0) })
        );
    }
    Ok(())
}

/// All that there is, before and behind changes.
fn all() -> Result<()> {
    let tell_all = || {
        for path in [
            ".",
            "etc",
            "etc/hosts",
            "docs",
            "docs/guide",
            "links",
            "links/one",
            "tmp",
            "dev",
            "new",
            "dir",
        ] {
            tell_path(path);
        }
        tell("root", ROOT);
    };
    tell_all();
    p1::mkdir(ROOT, "dir")?;
    p1::close(file("new", CREAT, 0)?)?;
    tell_all();
    p1::link(ROOT, 0, "new", "dir/second")?;
    p1::rename(ROOT, "etc/hosts", "dir/hosts")?;
    tell_all();
    p1::unlink(ROOT, "new")?;
    p1::rename(ROOT, "dir/hosts", "etc/hosts")?;
    tell_all();
    Ok(())
}
