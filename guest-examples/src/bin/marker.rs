//! Leaves its mark on everything it can and looks for the marks of others.
//!
//! `marker [DIR]`: what `stratafs demo` runs a thousand times over one base.
//! It writes files of its own, appends to a file of the base, changes one byte
//! of another, deletes a third and renames a directory; then it checks that
//! what it sees is the base and its own changes, and no other instance's.

use guest_examples::check::{arg, instance};
use guest_examples::posix::{self, Kind, O_RDWR, Result};
use guest_examples::tree::join;

/// What marks the work of this program, whoever runs it.
const MARK: &str = "stratafs-marker-";

/// Files and a directory of the base to work on, found in order of names, so
/// that every instance picks the same.
struct Picks {
    files: Vec<String>,
    dir: Option<String>,
}

/// Looks through the tree breadth first until there is enough to work on. The
/// directory is one that holds none of the files.
fn pick(root: &str) -> Result<Picks> {
    let mut picks = Picks {
        files: Vec::new(),
        dir: None,
    };
    let mut waiting = std::collections::VecDeque::from([root.to_owned()]);
    while let Some(dir) = waiting.pop_front() {
        for entry in posix::list(&dir)? {
            assert!(
                !entry.name.starts_with(MARK),
                "{dir} shows another's {}",
                entry.name
            );
            let path = join(&dir, &entry.name);
            match entry.kind {
                Kind::File if picks.files.len() < 3 && posix::stat(&path)?.size > 0 => {
                    picks.files.push(path);
                }
                Kind::Dir => waiting.push_back(path),
                _ => {}
            }
        }
        if picks.files.len() == 3 {
            let holds = |dir: &String| picks.files.iter().any(|f| f.starts_with(&join(dir, "")));
            picks.dir = waiting.into_iter().find(|dir| !holds(dir));
            return Ok(picks);
        }
    }
    Ok(picks)
}

/// Adds the mark at the end of a file, which must not have one yet.
fn mark_end(path: &str, mark: &str) -> Result<()> {
    let before = posix::read_file(path)?;
    let marked = before
        .windows(MARK.len())
        .any(|part| part == MARK.as_bytes());
    assert!(!marked, "{path} holds another's mark");
    posix::append(path, mark.as_bytes())?;
    let after = posix::read_file(path)?;
    assert_eq!(
        after,
        [&before[..], mark.as_bytes()].concat(),
        "{path} after the append"
    );
    Ok(())
}

/// Changes the first byte of a file and checks that the rest stayed.
fn mark_start(path: &str) -> Result<()> {
    let before = posix::read_file(path)?;
    let file = posix::open(path, O_RDWR)?;
    file.pwrite_all(&[!before[0]], 0)?;
    let after = file.pread_all(before.len() + 1, 0)?;
    assert_eq!(
        (after[0], &after[1..]),
        (!before[0], &before[1..]),
        "{path} after the edit"
    );
    Ok(())
}

fn main() -> Result<()> {
    let root = arg(1, "/");
    let mark = format!("{MARK}{}", instance());
    let picks = pick(&root)?;

    let own = join(&root, &mark);
    posix::mkdir(&own)?;
    for number in 0..8 {
        let bytes = format!("{mark} file {number}\n").repeat(50 * (number + 1));
        posix::write_file(&format!("{own}/{number}.txt"), bytes.as_bytes())?;
    }
    if let Some(path) = picks.files.first() {
        mark_end(path, &mark)?;
    }
    if let Some(path) = picks.files.get(1) {
        mark_start(path)?;
    }
    if let Some(path) = picks.files.get(2) {
        posix::unlink(path)?;
        assert!(posix::stat(path).is_err(), "{path} is still there");
    }
    if let Some(dir) = &picks.dir {
        let inside = posix::list(dir)?;
        posix::rename(dir, &join(&own, "renamed"))?;
        assert_eq!(
            posix::list(&join(&own, "renamed"))?,
            inside,
            "{dir} after the rename"
        );
        assert!(posix::stat(dir).is_err(), "{dir} is still there");
    }
    let others = |entry: &posix::Entry| entry.name.starts_with(MARK) && entry.name != mark;
    assert!(
        !posix::list(&root)?.iter().any(others),
        "{root} shows another's mark"
    );
    println!(
        "instance {}: own files 8, shared files changed {}, directories renamed {}, others' marks 0",
        instance(),
        picks.files.len(),
        picks.dir.iter().count()
    );
    Ok(())
}

guest_examples::command!(main);
