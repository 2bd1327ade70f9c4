//! Renames everything over everything.
//!
//! For each pair of kinds a fresh pair of names is made, the rename is tried,
//! and the answer and the tree after it are printed.

use guest_examples::posix::{self, Kind, Result};
use guest_examples::tree::{self, digest};

const KINDS: [&str; 7] = ["none", "file", "dir", "full", "link", "dirlink", "base"];

/// Makes an object of this kind.
fn make(kind: &str, path: &str) -> Result<()> {
    match kind {
        "file" => posix::write_file(path, b"file"),
        "dir" => posix::mkdir(path),
        "full" => {
            posix::mkdir(path)?;
            posix::write_file(&format!("{path}/inside"), b"inside")
        }
        "link" => posix::symlink("nowhere", path),
        "dirlink" => posix::symlink("../docs", path),
        "base" => posix::rename("/docs/guide", path),
        _ => Ok(()),
    }
}

fn describe(path: &str) -> String {
    match posix::lstat(path) {
        Err(error) => format!("{error:?}"),
        Ok(stat) if stat.kind == Kind::Dir => {
            format!(
                "Dir of {}",
                posix::list(path).map_or(0, |entries| entries.len())
            )
        }
        Ok(stat) => format!("{:?}", stat.kind),
    }
}

fn matrix() -> Result<()> {
    for from in KINDS {
        for to in KINDS {
            if from == "base" && to == "base" {
                continue;
            }
            posix::mkdir("/m")?;
            make(from, "/m/from")?;
            make(to, "/m/to")?;
            let answer = posix::rename("/m/from", "/m/to");
            println!(
                "{from} over {to}: {answer:?}; from {}, to {}",
                describe("/m/from"),
                describe("/m/to")
            );
            for path in ["/m/from", "/m/to"] {
                if posix::lstat(&format!("{path}/intro.txt")).is_ok()
                    && describe("/docs/guide") == "ENOENT"
                {
                    posix::rename(path, "/docs/guide")?;
                }
            }
            tree::clear("/m")?;
            posix::rmdir("/m")?;
        }
    }
    Ok(())
}

fn main() -> Result<()> {
    let before = digest("/docs")?;
    matrix()?;
    assert_eq!(
        digest("/docs")?,
        before,
        "the base directory came through unchanged"
    );

    posix::mkdir("/m")?;
    make("full", "/m/dir")?;
    make("file", "/m/file")?;
    make("link", "/m/link")?;
    for (from, to) in [
        ("/m/dir", "/m/dir"),
        ("/m/dir", "/m/dir/below"),
        ("/m/dir", "/m/dir/inside/below"),
        ("/m/dir/inside", "/m/dir"),
        ("/m/dir/", "/m/moved/"),
        ("/m/moved", "/m/dir"),
        ("/m/file", "/m/new/"),
        ("/m/file/", "/m/new"),
        ("/m/file", "/m/missing/new"),
        ("/m/file", "/m/file/new"),
        ("/m/file", "/m/file"),
        ("/m/file", "/m/./file"),
        ("/m/dir/.", "/m/new"),
        ("/m/dir/..", "/m/new"),
        ("/m/file", "/m/dir/.."),
        ("/m/file", "/m/dir/."),
        ("/", "/m/root"),
        ("/m/file", "/"),
        ("/m/none", "/m/new"),
        ("/m/none", "/none/new"),
        ("/m/link", "/m/link2"),
        ("/m/link2/", "/m/link3"),
        ("/docs", "/m/dir/docs"),
        ("/m/dir/docs", "/docs"),
    ] {
        println!("{from} to {to}: {:?}", posix::rename(from, to));
    }
    assert_eq!(digest("/docs")?, before);
    println!("tree {:016x}", digest("/m")?);
    Ok(())
}

guest_examples::command!(main);
