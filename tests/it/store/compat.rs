//! Stores of earlier versions open.

use std::fs;
use std::path::Path;

use stratafs::chunk::ChunkPool;
use stratafs::image::{Image, ImageConfig};
use stratafs::store::{LayerOrigin, Store};

use super::support::{lower, shown, upper};

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to),
            false => drop(fs::copy(entry.path(), &to).unwrap()),
        }
    }
}

/// Copies the store of version 1 to `dir`.
pub fn fixture(dir: &Path) {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/store-1");
    copy(&fixture, dir);
    // What no version control keeps: it is empty.
    fs::create_dir_all(dir.join("tmp")).unwrap();
}

/// Where to write a store like the fixture, when a version is about to change.
const WRITE: &str = "STRATAFS_WRITE_FIXTURE";

fn write(dir: &Path) {
    let store = Store::open(dir).unwrap();
    let mut import = store.import().unwrap();
    let pool = import.pool().clone();
    for layer in [lower(&pool), upper(&pool)] {
        import.layer(layer, LayerOrigin::new());
    }
    let mut config = ImageConfig::new();
    config.env = vec!["A=1".into()];
    import.commit(config, Some("fixture")).unwrap();
}

/// `store-1` was made by the first version, from the two layers of `support`.
#[test]
fn a_store_of_version_1_opens_and_is_written_to() {
    if let Some(dir) = std::env::var_os(WRITE) {
        write(Path::new(&dir));
    }
    let dir = tempfile::tempdir().unwrap();
    fixture(dir.path());
    let store = Store::open(dir.path()).unwrap();
    assert!(store.verify().unwrap().is_sound());
    let pool = ChunkPool::new();
    let expected = Image::new(&[lower(&pool), upper(&pool)]).unwrap();
    let image = store.image("fixture").unwrap();
    assert_eq!(shown(&image).unwrap(), shown(&expected).unwrap());
    assert_eq!(image.digest(), expected.digest());
    assert_eq!(store.layers("fixture").unwrap().len(), 2);
    let info = store.info("fixture").unwrap();
    assert_eq!(info.config.env, ["A=1"]);
    super::support::put_file(&store, "new", b"new").unwrap();
    assert_eq!(super::support::get_file(&store, "new").unwrap(), b"new");
}
