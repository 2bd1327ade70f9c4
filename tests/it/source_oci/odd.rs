//! One suite of odd entries over every source: what a tree means does not
//! depend on how it came.

use std::fs;
use std::path::Path;

use super::{a, listed, read};
use crate::support::archive::{Archive, Head};
use crate::support::layout::{Layout, gzip, zstd};

/// A tree that a directory can have as well: what it looks like as a layer,
/// or a part of the error.
struct Odd {
    name: &'static str,
    archive: Archive,
    want: Result<&'static str, &'static str>,
}

fn odd(name: &'static str, archive: Archive, want: Result<&'static str, &'static str>) -> Odd {
    Odd {
        name,
        archive,
        want,
    }
}

fn suite() -> Vec<Odd> {
    let dir = || a().head(Head::new(b'5', "./").octal(100, 8, 0o755));
    vec![
        odd("whiteout", dir().file(".wh.x", ""), Ok("/:d x:w")),
        odd(
            "opaque",
            dir().dir("d").file("d/.wh..wh..opq", ""),
            Ok("/:d d:d!"),
        ),
        odd(
            "reserved",
            dir().file(".wh..wh.plnk", "").file("f", "1"),
            Ok("/:d f:f1"),
        ),
        odd(
            "no name hidden",
            dir().file(".wh.", ""),
            Err("invalid whiteout"),
        ),
        odd(
            "dots hidden",
            dir().file(".wh...", ""),
            Err("invalid whiteout"),
        ),
        odd(
            "whiteout that is a directory",
            dir().dir(".wh.etc"),
            Err("invalid whiteout"),
        ),
        odd(
            "whiteout with bytes",
            dir().file(".wh.x", "1"),
            Err("invalid whiteout"),
        ),
        odd(
            "whiteout and entry",
            dir().file(".wh.x", "").file("x", "1"),
            Ok("/:d x:f1"),
        ),
        odd("FIFO", dir().head(Head::new(b'6', "p")), Err("a FIFO")),
        odd(
            "dangling link",
            dir().symlink("l", "/nowhere"),
            Ok("/:d l:s/nowhere"),
        ),
        odd(
            "loop",
            dir().symlink("a", "b").symlink("b", "a"),
            Ok("/:d a:sb b:sa"),
        ),
        odd(
            "link out",
            dir().symlink("l", "../../etc/passwd"),
            Ok("/:d l:s../../etc/passwd"),
        ),
        odd(
            "hard links",
            dir().file("f", "1").hard_link("g", "f"),
            Ok("/:d f:f1#2 g:f1#2"),
        ),
        odd(
            "case",
            dir().file("A", "1").file("a", "2"),
            Ok("/:d A:f1 a:f2"),
        ),
        odd(
            "spaces and dots",
            dir().file(" ", "1").file("...", "2"),
            Ok("/:d  :f1 ...:f2"),
        ),
        odd(
            "device names",
            dir().file("COM1", "1").file("nul.txt", "2"),
            Ok("/:d COM1:f1 nul.txt:f2"),
        ),
    ]
}

#[track_caller]
fn check(source: &str, odd: &Odd, path: &Path) {
    match odd.want {
        Ok(want) => assert_eq!(listed(path), [want], "{source}: {}", odd.name),
        Err(part) => {
            let error = read(path).unwrap_err().to_string();
            assert!(error.contains(part), "{source}: {}: {error}", odd.name);
        }
    }
}

#[test]
fn odd_entries_mean_the_same_in_each_archive() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x");
    for odd in suite() {
        let tar = odd.archive.clone().end();
        let layout = Layout::of(std::slice::from_ref(&tar));
        check("layout", &odd, layout.path());
        for (source, bytes) in [
            ("tar", tar.clone()),
            ("gzip", gzip(&tar)),
            ("zstd", zstd(&tar)),
            ("archive", layout.archive()),
        ] {
            fs::write(&path, bytes).unwrap();
            check(source, &odd, &path);
        }
    }
}

/// Unpacks the archive by hand, as the names stand there.
#[cfg(target_os = "linux")]
fn unpack(tar: &[u8], to: &Path) {
    let mut archive = ::tar::Archive::new(tar);
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = to.join(
            entry
                .path()
                .unwrap()
                .strip_prefix("./")
                .unwrap_or(&entry.path().unwrap()),
        );
        let link = entry.link_name().unwrap().map(|link| link.into_owned());
        match entry.header().entry_type() {
            ::tar::EntryType::Directory => fs::create_dir_all(path).unwrap(),
            ::tar::EntryType::Symlink => std::os::unix::fs::symlink(link.unwrap(), path).unwrap(),
            ::tar::EntryType::Link => fs::hard_link(to.join(link.unwrap()), path).unwrap(),
            ::tar::EntryType::Fifo => {
                assert!(
                    std::process::Command::new("mkfifo")
                        .arg(path)
                        .status()
                        .unwrap()
                        .success()
                );
            }
            _ => drop(std::io::copy(&mut entry, &mut fs::File::create(path).unwrap()).unwrap()),
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn odd_entries_mean_the_same_in_a_directory() {
    for odd in suite() {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        fs::create_dir(&tree).unwrap();
        unpack(&odd.archive.clone().end(), &tree);
        check("directory", &odd, &tree);
    }
}
