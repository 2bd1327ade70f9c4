//! A host whose base is an image in a store: it is mapped, not read, and shared by all processes
//! that open it. What a run changed becomes the next image.
//!
//! `cargo run --release --features store --example from_store [STORE]`; without a store, one in a
//! temporary directory.

use std::path::{Path, PathBuf};

use stratafs::image::{ImageConfig, Reference};
use stratafs::source::{SourceOptions, dir_ambient};
use stratafs::store::{LayerOrigin, Store};
use stratafs::vfs::Fs;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let temporary = tempfile::tempdir()?;
    let place = std::env::args_os().nth(1).map(PathBuf::from);
    let store = Store::open(&place.unwrap_or_else(|| temporary.path().join("store")))?;

    // Once, by whoever makes images: `stratafs image import DIR --tag app:1` does the same.
    let mut import = store.import()?;
    let dir = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/examples"));
    let layer = dir_ambient(import.pool(), dir, &SourceOptions::default())?;
    import.layer(layer, LayerOrigin::new());
    import.commit(ImageConfig::new(), Some("app:1"))?;

    // In each process that runs guests. A guest gets `fs.root()?` as its preopen.
    let fs = Fs::new(&store.image("app:1")?);
    fs.write("/answer", "42\n")?;
    let tag: Reference = "app:2".parse()?;
    let image = fs.commit(&store, &tag, "wrote the answer")?;
    println!("app:2 has {} layers", image.layers.len());
    assert_eq!(Fs::new(&store.image("app:2")?).read("/answer")?, b"42\n");
    Ok(())
}
