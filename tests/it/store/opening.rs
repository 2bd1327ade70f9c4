//! Opening the files of a store: what is none, what cannot be opened now, and
//! how many are open.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use stratafs::chunk::ContentBuilder;
use stratafs::image::ImageConfig;
use stratafs::layer::Layer;
use stratafs::limits::MAX_OPEN_PACKS;
use stratafs::meta::Meta;
use stratafs::store::{LayerOrigin, Store, StoreError, StoreOptions};
use stratafs::vfs::Fs;

use super::support::{get_file, noise, path, put_file};

fn files(dir: &Path, name: &str) -> Vec<PathBuf> {
    let found = fs::read_dir(dir.join(name)).unwrap();
    found.map(|entry| entry.unwrap().path()).collect()
}

/// What a store says when everything of it is asked for.
fn told(dir: &Path) -> Result<(), String> {
    let text = |error: StoreError| error.to_string();
    let store = Store::open(dir).map_err(text)?;
    get_file(&store, "a")?;
    store.layers("a").map_err(text)?;
    store.import().map_err(text)?;
    Ok(())
}

/// Opens the store, and counts the steps that this takes on files.
fn steps_of_opening(dir: &Path) -> u64 {
    let steps = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&steps);
    let hook = move |_: &str, _: &Path| {
        counted.fetch_add(1, Ordering::Relaxed);
        Ok(())
    };
    let opened = StoreOptions::new().hook(Arc::new(hook)).open(dir);
    drop(opened.unwrap());
    steps.load(Ordering::Relaxed)
}

#[test]
fn a_store_is_swept_once_after_what_may_have_left_something() {
    let dir = tempfile::tempdir().unwrap();
    let of = |name: &str| dir.path().join(name);
    let remains = of(&format!("packs/{}", "ab".repeat(32)));
    let leave = || fs::write(&remains, "stratpak and half").unwrap();
    let mut counts = Vec::new();
    for images in [5, 10] {
        let store = Store::open(dir.path()).unwrap();
        for image in 0..images {
            let tag = format!("{images}-{image}");
            put_file(&store, &tag, &noise(image, 2000)).unwrap();
        }
        assert!(!of("swept").exists());
        leave();
        let first = steps_of_opening(dir.path());
        assert!(of("swept").is_file() && !remains.exists());
        // From then on there is nothing to find, and nothing is looked for.
        let again = steps_of_opening(dir.path());
        assert!(again < first, "{again} steps, {first} before");
        counts.push(again);
    }
    assert_eq!(counts[0], counts[1]);
    // Each that may leave something says so before it does.
    let store = Store::open(dir.path()).unwrap();
    let import = store.import().unwrap();
    assert!(!of("swept").exists());
    leave();
    // While it runs nobody sweeps, and nobody says that somebody did.
    Store::open(dir.path()).unwrap();
    assert!(!of("swept").exists() && remains.exists());
    drop(import);
    Store::open(dir.path()).unwrap();
    assert!(of("swept").exists() && !remains.exists());
    store.gc().unwrap();
    assert!(!of("swept").exists());
    Store::open(dir.path()).unwrap();
    Store::repair(dir.path()).unwrap();
    assert!(!of("swept").exists());
    // What stands in its place is no word of a store's.
    fs::write(of("swept"), "").unwrap();
    fs::write(of("tmp/1-2-3"), "stratpak and half").unwrap();
    Store::open(dir.path()).unwrap();
    assert!(!of("tmp/1-2-3").exists());
    fs::remove_file(of("swept")).unwrap();
    fs::create_dir(of("swept")).unwrap();
    leave();
    Store::open(dir.path()).unwrap();
    assert!(!remains.exists());
}

#[cfg(unix)]
#[test]
fn special_files_are_refused_at_once() {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;
    let dir = tempfile::tempdir().unwrap();
    put_file(&Store::open(dir.path()).unwrap(), "a", &noise(1, 50_000)).unwrap();
    let names = ["packs", "indexes", "layers"];
    let mut all: Vec<_> = names
        .iter()
        .flat_map(|name| files(dir.path(), name))
        .collect();
    all.push(dir.path().join("catalog.lock"));
    all.push(dir.path().join("imports.lock"));
    let aside = dir.path().join("tmp/aside");
    for file in all {
        for kind in ["a named pipe", "a symbolic link", "a directory", "a socket"] {
            fs::rename(&file, &aside).unwrap();
            match kind {
                "a named pipe" => {
                    let made = std::process::Command::new("mkfifo").arg(&file).status();
                    assert!(made.unwrap().success());
                }
                "a symbolic link" => symlink(&aside, &file).unwrap(),
                "a directory" => fs::create_dir(&file).unwrap(),
                _ => drop(UnixListener::bind(&file).unwrap()),
            }
            // It would be swept: this is about what is opened.
            let kept = fs::read(&aside).unwrap();
            let error = told(dir.path()).expect_err("it was opened");
            let name = file.file_name().unwrap().to_string_lossy();
            let says = format!("expected a regular file, found {kind}");
            let errno = stratafs::errno::Errno::Io.to_string();
            let named = error.contains(&*name) && error.contains(&says);
            assert!(named || error.contains(&errno), "{name}: {error}");
            if let Ok(store) = Store::open(dir.path())
                && let Ok(report) = store.verify()
                && !name.ends_with(".lock")
            {
                let found = report.errors.iter().map(ToString::to_string);
                assert!(
                    found.into_iter().any(|error| error.contains(&says)),
                    "{name}"
                );
            }
            match fs::symlink_metadata(&file).unwrap().is_dir() {
                true => fs::remove_dir(&file).unwrap(),
                false => fs::remove_file(&file).unwrap(),
            }
            fs::write(&file, kept).unwrap();
        }
    }
    told(dir.path()).unwrap();
}

#[cfg(unix)]
#[test]
fn what_cannot_be_opened_now_is_not_called_damage() {
    let dir = tempfile::tempdir().unwrap();
    put_file(&Store::open(dir.path()).unwrap(), "a", &noise(1, 50_000)).unwrap();
    // EIO, ENOMEM, EACCES, ENFILE, EMFILE
    for number in [5, 12, 13, 23, 24] {
        for which in ["packs", "indexes", "layers"] {
            let hook = move |step: &str, path: &Path| {
                let hit = step == "open" && path.parent().is_some_and(|dir| dir.ends_with(which));
                match hit {
                    true => Err(io::Error::from_raw_os_error(number)),
                    false => Ok(()),
                }
            };
            let store = StoreOptions::new().hook(Arc::new(hook));
            let store = store.open(dir.path()).unwrap();
            let report = store.verify().unwrap();
            assert!(
                report.errors.is_empty(),
                "{number} {which}: {:?}",
                report.errors
            );
            assert!(!report.unread.is_empty() && !report.is_sound());
            let expected = io::Error::from_raw_os_error(number).to_string();
            assert!(
                report
                    .unread
                    .iter()
                    .all(|error| error.to_string().contains(&expected))
            );
        }
    }
    // A file that is not there is.
    fs::remove_file(&files(dir.path(), "packs")[0]).unwrap();
    let report = Store::open(dir.path()).unwrap().verify().unwrap();
    assert!(!report.errors.is_empty());
}

/// An image whose files lie in this many packs, each file `n` in pack `n`.
fn many_packs(store: &Store, count: usize) -> Vec<Vec<u8>> {
    let mut import = store.import().unwrap();
    let mut layer = Layer::builder();
    let files: Vec<_> = (0..count).map(|n| noise(n as u64 + 1, 3000)).collect();
    for (n, bytes) in files.iter().enumerate() {
        let content = ContentBuilder::of(import.pool(), bytes);
        let at = path(&format!("f{n}"));
        layer.file(&at, Meta::with_mode(0o644), content).unwrap();
    }
    import.layer(layer.finish().unwrap(), LayerOrigin::new());
    import.commit(ImageConfig::new(), Some("many")).unwrap();
    files
}

/// Descriptors of this process that lead below `dir`.
#[cfg(target_os = "linux")]
fn descriptors(dir: &Path) -> usize {
    let open = fs::read_dir("/proc/self/fd").unwrap();
    let targets = open.filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
    targets.filter(|target| target.starts_with(dir)).count()
}

#[cfg(target_os = "linux")]
#[test]
fn packs_past_the_bound_need_no_descriptor() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().canonicalize().unwrap();
    let count = 3 * MAX_OPEN_PACKS;
    let small = || StoreOptions::new().max_pack_bytes(1000);
    let files = {
        let store = small().open(&dir).unwrap();
        many_packs(&store, count)
    };
    assert_eq!(fs::read_dir(dir.join("packs")).unwrap().count(), count);
    assert_eq!(descriptors(&dir), 0);
    let store = Store::open(&dir).unwrap();
    let image = store.image("many").unwrap();
    let fs_ = Fs::new(&image);
    let all_read = |fs_: &Fs| {
        for (n, bytes) in files.iter().enumerate() {
            assert!(fs_.read(format!("/f{n}")).unwrap() == *bytes, "{n}");
        }
    };
    assert_eq!(descriptors(&dir), MAX_OPEN_PACKS);
    all_read(&fs_);
    // A second image of the same packs, and another handle of the store.
    let other = Store::open(&dir).unwrap();
    let images = [store.image("many").unwrap(), other.image("many").unwrap()];
    assert_eq!(descriptors(&dir), 2 * MAX_OPEN_PACKS);
    images.iter().for_each(|image| all_read(&Fs::new(image)));
    // What is open stays readable when a collection takes it away.
    store.untag("many").unwrap();
    store.gc().unwrap();
    assert_eq!(fs::read_dir(dir.join("packs")).unwrap().count(), 0);
    all_read(&Fs::new(&image));
    drop((fs_, image, images));
    assert_eq!(descriptors(&dir), 0);
    assert_eq!(
        descriptors_while_importing(&small().open(&dir).unwrap(), &dir),
        0
    );
}

/// Counts the descriptors of packs that an import holds beyond the bound.
#[cfg(target_os = "linux")]
fn descriptors_while_importing(store: &Store, dir: &Path) -> usize {
    let import = store.import().unwrap();
    for n in 0..3 * MAX_OPEN_PACKS {
        drop(ContentBuilder::of(import.pool(), &noise(n as u64, 3000)));
    }
    descriptors(&dir.join("packs")).saturating_sub(MAX_OPEN_PACKS)
}

#[test]
fn a_mapped_pack_that_is_cut_short_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let store = StoreOptions::new().max_pack_bytes(1000);
    let store = store.open(dir.path()).unwrap();
    let count = MAX_OPEN_PACKS + 10;
    let files = many_packs(&store, count);
    let store = Store::open(dir.path()).unwrap();
    let fs_ = Fs::new(&store.image("many").unwrap());
    for pack in self::files(dir.path(), "packs") {
        let pack = fs::File::options().write(true).open(pack).unwrap();
        // Windows does not cut what is mapped.
        drop(pack.set_len(100));
    }
    for (n, bytes) in files.iter().enumerate() {
        match fs_.read(format!("/f{n}")) {
            Ok(read) => assert!(read == *bytes && cfg!(windows)),
            Err(error) => assert!(error.to_string().contains("input/output"), "{error}"),
        }
    }
}
