//! Walks symbolic links: chains, loops, dangling ones, ones that point out.

use guest_examples::posix::{
    self, O_CREAT, O_DIRECTORY, O_EXCL, O_NOFOLLOW, O_RDONLY, O_RDWR, Result,
};

fn read(path: &str) -> Result<String> {
    posix::read_file(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

fn main() -> Result<()> {
    posix::mkdir("/s")?;
    posix::mkdir("/s/dir")?;
    posix::write_file("/s/dir/file", b"found")?;
    for (target, path) in [
        ("dir/file", "/s/to-file"),
        ("dir", "/s/to-dir"),
        ("to-file", "/s/to-link"),
        ("nothing", "/s/dangling"),
        ("loop-b", "/s/loop-a"),
        ("loop-a", "/s/loop-b"),
        ("../../outside", "/s/out"),
        ("dir/", "/s/slash"),
        ("dir/file/", "/s/file-slash"),
        ("..", "/s/up"),
        (".", "/s/here"),
        ("/etc/motd", "/s/absolute"),
        ("", "/s/empty"),
    ] {
        println!(
            "symlink {target:?} at {path}: {:?}",
            posix::symlink(target, path)
        );
    }
    println!("over a file: {:?}", posix::symlink("x", "/s/dir/file"));
    println!("new with a slash: {:?}", posix::symlink("x", "/s/new/"));

    for path in [
        "/s/to-file",
        "/s/to-dir/file",
        "/s/to-link",
        "/s/dangling",
        "/s/loop-a",
        "/s/out",
        "/s/slash/file",
        "/s/file-slash",
        "/s/up/s/dir/file",
        "/s/here/here/here/to-file",
        "/s/to-file/",
        "/s/to-dir/../to-file",
        "/links/sym-rel",
        "/links/sym-dir/motd",
    ] {
        println!("read {path}: {:?}", read(path));
    }
    for path in [
        "/s/to-file",
        "/s/to-dir",
        "/s/dangling",
        "/s/to-dir/",
        "/s/dangling/",
        "/s/loop-a",
    ] {
        let kind = |stat: posix::Stat| {
            (
                stat.kind,
                if stat.kind == posix::Kind::Dir {
                    0
                } else {
                    stat.size
                },
            )
        };
        println!(
            "{path}: stat {:?}, lstat {:?}, readlink {:?}",
            posix::stat(path).map(kind),
            posix::lstat(path).map(kind),
            posix::readlink(path)
        );
    }
    let open = |path, flags| posix::open(path, flags).map(|_| "opened");
    println!(
        "open without following: {:?}",
        open("/s/to-file", O_RDONLY | O_NOFOLLOW)
    );
    println!(
        "open a directory by link: {:?}",
        open("/s/to-dir", O_RDONLY | O_DIRECTORY)
    );
    println!(
        "create over a dangling link, exclusive: {:?}",
        open("/s/dangling", O_RDWR | O_CREAT | O_EXCL)
    );
    println!(
        "create through a dangling link: {:?}",
        open("/s/dangling", O_RDWR | O_CREAT)
    );
    println!("what it made: {:?}", read("/s/nothing"));

    for length in [40, 41] {
        let dir = format!("/s/chain{length}");
        posix::mkdir(&dir)?;
        posix::write_file(&format!("{dir}/l0"), b"end of the chain")?;
        for link in 1..=length {
            posix::symlink(&format!("l{}", link - 1), &format!("{dir}/l{link}"))?;
        }
        println!("chain of {length}: {:?}", read(&format!("{dir}/l{length}")));
    }
    println!(
        "rename a link: {:?}",
        posix::rename("/s/to-file", "/s/moved")
    );
    println!("read it: {:?}", read("/s/moved"));
    println!(
        "remove it: {:?}, rmdir a link: {:?}",
        posix::unlink("/s/moved"),
        posix::rmdir("/s/to-dir")
    );
    println!("its target: {:?}", read("/s/dir/file"));
    Ok(())
}

guest_examples::command!(main);
