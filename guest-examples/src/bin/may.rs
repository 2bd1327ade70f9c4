//! Says what it may do.
//!
//! `may WHAT:PATH...`: `read` and `write` a file, `list` and `mkdir` a directory; a line each, `ok` or
//! the error.

use guest_examples::posix;

fn try_it(what: &str, path: &str) -> posix::Result<()> {
    match what {
        "read" => posix::read_file(path).map(drop),
        "write" => posix::write_file(path, b"written"),
        "list" => posix::list(path).map(drop),
        "mkdir" => posix::mkdir(path),
        other => panic!("{other}?"),
    }
}

fn main() {
    for arg in std::env::args().skip(1) {
        let (what, path) = arg.split_once(':').expect("WHAT:PATH");
        match try_it(what, path) {
            Ok(()) => println!("ok"),
            Err(error) => println!("{error:?}"),
        }
    }
}

guest_examples::command!(main);
