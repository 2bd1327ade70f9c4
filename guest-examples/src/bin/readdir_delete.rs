//! Deletes what a listing shows while it goes on.
//!
//! `readdir_delete [DIR]`: 300 files of the base and 300 of its own, each
//! removed when the listing names it; none may be passed over.

use guest_examples::check::arg;
use guest_examples::posix;
use guest_examples::tree::join;

fn main() -> posix::Result<()> {
    let dir = arg(1, "/many");
    for number in 0..300 {
        posix::write_file(&join(&dir, &format!("own-{number}")), b"x")?;
    }
    let all = posix::list(&dir)?.len();
    let mut removed = 0;
    for entry in posix::listing(&dir)? {
        if entry.name != "." && entry.name != ".." {
            posix::unlink(&join(&dir, &entry.name))?;
            removed += 1;
        }
    }
    let left = posix::list(&dir)?.len();
    println!("{dir}: {all} entries, {removed} removed while listing, {left} left");
    posix::rmdir(&dir)?;
    Ok(())
}

guest_examples::command!(main);
