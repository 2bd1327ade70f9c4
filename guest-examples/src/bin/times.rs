//! Looks at what moves the times of files and directories, and sets them.

use guest_examples::posix::{self, O_CREAT, O_RDONLY, O_RDWR, O_TRUNC, Result, Stat};

const SECOND: i64 = 1_000_000_000;
const LONG_AGO: i64 = 1_000_000_000 * SECOND;

/// Sets an old time, does something, and tells which times moved.
fn moves(what: &str, path: &str, act: impl FnOnce() -> Result<()>) -> Result<()> {
    posix::set_times(path, Some(LONG_AGO), Some(LONG_AGO), true)?;
    act()?;
    let stat = posix::lstat(path)?;
    println!(
        "{what}: mtime {}",
        if stat.mtime == LONG_AGO.into() {
            "stays"
        } else {
            "moves"
        }
    );
    Ok(())
}

fn times(stat: Stat) -> (i128, i128) {
    (stat.atime, stat.mtime)
}

fn main() -> Result<()> {
    let (dir, file) = ("/docs", "/docs/guide/intro.txt");
    println!("base: {}", posix::stat(file)?.mtime);
    posix::set_times(file, Some(5 * SECOND + 7), Some(6 * SECOND + 8), false)?;
    println!("set: {:?}", times(posix::stat(file)?));
    posix::set_times(file, None, Some(9 * SECOND), false)?;
    println!("one kept: {:?}", times(posix::stat(file)?));
    let reader = posix::open(file, O_RDONLY)?;
    reader.set_times(Some(1), Some(2))?;
    println!("by a reader's descriptor: {:?}", times(posix::stat(file)?));
    println!("bytes: {}", posix::read_file(file)?.len());

    moves("open for reading", file, || {
        posix::open(file, O_RDONLY).map(drop)
    })?;
    moves("open for writing", file, || {
        posix::open(file, O_RDWR).map(drop)
    })?;
    moves("open to create what is there", file, || {
        posix::open(file, O_RDWR | O_CREAT).map(drop)
    })?;
    moves("read", file, || posix::read_file(file).map(drop))?;
    moves("write", file, || posix::open(file, O_RDWR)?.write_all(b"x"))?;
    moves("set the size", file, || {
        posix::open(file, O_RDWR)?.truncate(3)
    })?;
    moves("truncate when opening", file, || {
        posix::open(file, O_RDWR | O_TRUNC).map(drop)
    })?;
    moves("link", file, || posix::link(file, "/docs/second"))?;
    moves("rename", file, || {
        posix::rename("/docs/second", "/docs/third")
    })?;
    moves("create in a directory", dir, || {
        posix::write_file("/docs/new", b"")
    })?;
    moves("write to a file in a directory", dir, || {
        posix::append("/docs/new", b"x")
    })?;
    moves("unlink in a directory", dir, || posix::unlink("/docs/new"))?;
    moves("make a directory in a directory", dir, || {
        posix::mkdir("/docs/dir")
    })?;
    moves("make a directory further below", dir, || {
        posix::mkdir("/docs/dir/below")
    })?;
    moves("list", dir, || posix::list(dir).map(drop))?;

    posix::symlink("none", "/docs/link")?;
    posix::set_times("/docs/link", Some(3), Some(4), true)?;
    println!("of a link itself: {:?}", times(posix::lstat("/docs/link")?));
    println!(
        "through a dangling link: {:?}",
        posix::set_times("/docs/link", Some(3), Some(4), false)
    );
    let before = posix::stat(file)?.mtime;
    posix::append(file, b"y")?;
    assert!(
        posix::stat(file)?.mtime > before,
        "a write moves the time on"
    );
    Ok(())
}

guest_examples::command!(main);
