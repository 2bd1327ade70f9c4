//! Fills, renames and deletes everything it sees.
//!
//! `ravage [DIR]`: what no instance may notice of another. It looks at the
//! whole tree first and prints a digest of it: the same for every instance,
//! whatever the ones before did. Then it writes over each file, renames each
//! file and directory, checks that it still sees exactly its own work, deletes
//! everything and leaves one file.

use guest_examples::check::{Fold, arg, instance};
use guest_examples::posix::{self, Kind, O_RDWR, Result};
use guest_examples::tree::{self, Found, join};

/// What every instance writes before its number.
const MARK: &str = "ravaged-by-";

/// Bytes of a file that are looked at for the digest: its first chunk.
const LOOK: usize = 64 * 1024;

/// Stands for the tree as the base has it; no mark may be in it.
fn look(found: &[Found]) -> Result<u64> {
    let mut fold = Fold::default();
    for Found { path, stat } in found {
        assert!(!path.contains(MARK), "{path} bears another's mark");
        fold.add(path.as_bytes());
        fold.add_u64(stat.size);
        fold.add_u64(stat.ino);
        fold.add_u64(stat.mtime as u64);
        if stat.kind == Kind::File {
            let bytes = posix::open(path, posix::O_RDONLY)?.pread_all(LOOK, 0)?;
            let marked = bytes
                .windows(MARK.len())
                .any(|part| part == MARK.as_bytes());
            assert!(!marked, "{path} holds another's mark");
            fold.add(&bytes);
        }
    }
    Ok(fold.get())
}

/// Writes the mark over the start of a file and fills on past its end.
fn fill(path: &str, size: u64, mark: &str) -> Result<()> {
    let file = posix::open(path, O_RDWR)?;
    file.pwrite_all(mark.repeat(100).as_bytes(), size)?;
    // Last, since a short file's start reaches into what was filled on.
    file.pwrite_all(mark.as_bytes(), 0)?;
    Ok(())
}

/// Checks that a file still has what this instance wrote.
fn check(path: &str, mark: &str) -> Result<()> {
    let file = posix::open(path, posix::O_RDONLY)?;
    assert_eq!(file.pread_all(mark.len(), 0)?, mark.as_bytes(), "{path}");
    let size = file.stat()?.size;
    let end = file.pread_all(mark.len(), size - mark.len() as u64)?;
    assert_eq!(end, mark.as_bytes(), "the end of {path}");
    Ok(())
}

fn main() -> Result<()> {
    let root = arg(1, "/");
    let mark = format!("{MARK}{};", instance());
    let found = tree::walk(&root)?;
    let seen = look(&found)?;
    let mut files = 0;
    for Found { path, stat } in &found {
        if stat.kind == Kind::File {
            fill(path, stat.size, &mark)?;
            files += 1;
        }
    }
    // From below, so that each path is still good when its turn comes.
    for Found { path, .. } in found.iter().rev() {
        posix::rename(path, &format!("{path}.{mark}"))?;
    }
    let renamed = tree::walk(&root)?;
    assert_eq!(renamed.len(), found.len(), "as many objects as before");
    for Found { path, stat } in &renamed {
        assert!(path.ends_with(&mark), "{path} lacks this instance's mark");
        if stat.kind == Kind::File {
            check(path, &mark)?;
        }
    }
    let removed = tree::clear(&root)?;
    assert_eq!(posix::list(&root)?, [], "nothing is left");
    posix::write_file(&join(&root, "left"), mark.repeat(500).as_bytes())?;
    println!(
        "saw {seen:016x}, filled {files}, renamed {}, removed {removed}",
        renamed.len()
    );
    Ok(())
}

guest_examples::command!(main);
