//! Follows hard links through writes, renames and removals.
//!
//! The base has `/links/one` and `/links/two` as two names of one file.

use guest_examples::posix::{self, O_RDWR, O_TRUNC, Result};

fn show(what: &str, paths: &[&str]) -> Result<()> {
    println!("{what}");
    for path in paths {
        match posix::lstat(path) {
            Err(error) => println!("  {path}: {error:?}"),
            Ok(stat) => {
                let text = posix::read_file(path)?;
                let text = String::from_utf8_lossy(&text);
                println!("  {path}: nlink {}, {:?}", stat.nlink, text.trim_end());
            }
        }
    }
    Ok(())
}

fn main() -> Result<()> {
    let (one, two, three) = ("/links/one", "/links/two", "/links/three");
    show("base", &[one, two])?;
    let ino = posix::stat(one)?.ino;
    assert_eq!(posix::stat(two)?.ino, ino, "one object, one number");

    posix::append(one, b"appended by the first name\n")?;
    show("written by one name", &[one, two])?;
    assert_eq!(posix::stat(one)?, posix::stat(two)?, "all of stat is equal");

    posix::link(two, three)?;
    println!("again: {:?}", posix::link(two, three).err());
    show("a third name", &[one, two, three])?;
    assert_eq!(posix::stat(three)?.ino, ino);

    posix::rename(one, three)?;
    show(
        "rename between two names of one file does nothing",
        &[one, two, three],
    )?;

    posix::unlink(two)?;
    show("the second name gone", &[one, two, three])?;

    posix::mkdir("/links/deep")?;
    posix::rename(three, "/links/deep/three")?;
    drop(posix::open(one, O_RDWR | O_TRUNC)?);
    posix::append("/links/deep/three", b"written after truncation\n")?;
    show(
        "truncated by one, written by the other",
        &[one, "/links/deep/three"],
    )?;
    assert_eq!(
        posix::stat("/links/deep/three")?.ino,
        ino,
        "the number stayed"
    );

    println!(
        "of a directory: {:?}",
        posix::link("/links/deep", "/links/dir").err()
    );
    println!(
        "of nothing: {:?}",
        posix::link("/links/none", "/links/new").err()
    );
    println!("into nothing: {:?}", posix::link(one, "/none/new").err());
    posix::symlink("one", "/links/sym")?;
    posix::link("/links/sym", "/links/sym2")?;
    println!(
        "of a symbolic link: {:?}, nlink {}",
        posix::readlink("/links/sym2"),
        posix::lstat("/links/sym")?.nlink
    );
    Ok(())
}

guest_examples::command!(main);
