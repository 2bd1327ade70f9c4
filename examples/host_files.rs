//! A file system that is prepared once and forked for each call of a plugin: a directory under a
//! rule, a file of the host's making, and a volume that all calls share.
//!
//! `cargo run --release --example host_files`

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use stratafs::image::Image;
use stratafs::vfs::{Fs, Rights, Rule};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let prepared = Fs::new(&Image::from_dir(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/examples"
    ))?);
    prepared.create_dir_all("/data/secret")?;
    prepared.write("/data/table", "1 2 3\n")?;
    prepared.set_rule("/data", Rule::ReadOnly)?;
    prepared.set_rule("/data/secret", Rule::Hidden)?;

    // Made anew each time it is opened, held in no layer and no diff.
    let tokens = AtomicU32::new(0);
    let token = move || format!("token {}\n", tokens.fetch_add(1, Ordering::Relaxed)).into_bytes();
    prepared.mount_file("/etc/token", Arc::new(token))?;

    let results = Fs::new(&Image::empty());
    prepared.mount("/out", &results, "/", Rights::ReadWrite)?;

    for call in 0..3 {
        // O(1), with the rules and mounts of the prepared one. A guest of the call gets
        // `fs.root()?` as its preopen.
        let fs = prepared.fork();
        let token = fs.read_to_string("/etc/token")?;
        fs.write("/scratch", format!("of call {call}"))?;
        fs.write(format!("/out/{call}"), token)?;
    }
    for entry in results.read_dir("/")? {
        print!(
            "out/{}: {}",
            String::from_utf8_lossy(entry.name()),
            results.read_to_string(entry.path())?
        );
    }
    assert!(
        !prepared.exists("/scratch")?,
        "a call's own files went with it"
    );
    Ok(())
}
