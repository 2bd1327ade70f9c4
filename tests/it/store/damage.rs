//! Damage gives the right data or an error, and never takes the host along.

use std::fs;
use std::path::{Path, PathBuf};

use stratafs::errno::Errno;
use stratafs::image::ImageConfig;
use stratafs::name::LayerPath;
use stratafs::store::{LayerOrigin, Store, StoreError};
use stratafs::vfs::Fs;

use super::support::{noise, put, put_file, shown};

/// All that a store of one small image tells.
fn told(dir: &Path) -> Result<String, String> {
    let text = |error: StoreError| error.to_string();
    let store = Store::open(dir).map_err(text)?;
    let image = store.image("a").map_err(text)?;
    let shown = shown(&image)?;
    let layers = store.layers("a").map_err(text)?;
    let layers: Vec<_> = layers.iter().map(|layer| layer.digest()).collect();
    let tags: Vec<_> = store.list().map_err(text)?;
    Ok(format!("{shown:?} {layers:?} {tags:?}"))
}

fn files(dir: &Path, names: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for name in names {
        for entry in fs::read_dir(dir.join(name)).unwrap() {
            found.push(entry.unwrap().path());
        }
    }
    assert!(!found.is_empty());
    found
}

fn small(dir: &Path) {
    let store = Store::open(dir).unwrap();
    put_file(&store, "a", &noise(9, 3000)).unwrap();
}

/// Flips a bit of each byte that `choose` takes, and holds what is told.
fn flip(dir: &Path, file: &Path, choose: impl Fn(usize, u8) -> bool) {
    let good = fs::read(file).unwrap();
    let expected = told(dir).unwrap();
    let mut found = 0;
    for at in (0..good.len()).filter(|at| choose(*at, good[*at])) {
        let mut bad = good.clone();
        bad[at] ^= 1 << (at % 8);
        fs::write(file, &bad).unwrap();
        match told(dir) {
            Ok(told) => assert_eq!(told, expected, "{} at {at}", file.display()),
            Err(_) => found += 1,
        }
        fs::write(file, &good).unwrap();
    }
    assert_eq!(told(dir).unwrap(), expected);
    assert!(found > 0, "{}: nothing was found", file.display());
}

#[test]
fn case_100_any_byte_flipped_gives_right_data_or_an_error() {
    let dir = tempfile::tempdir().unwrap();
    small(dir.path());
    for file in files(dir.path(), &["packs", "indexes", "layers"]) {
        flip(dir.path(), &file, |_, _| true);
    }
}

#[test]
fn case_100_any_byte_of_the_catalog_flipped() {
    let dir = tempfile::tempdir().unwrap();
    small(dir.path());
    Store::open(dir.path()).unwrap().tag("a", "b").unwrap();
    flip(dir.path(), &dir.path().join("catalog.log"), |_, _| true);
}

/// Everything that can be asked of a store, whatever the answer.
fn asked(dir: &Path) -> Result<String, String> {
    let text = |error: StoreError| error.to_string();
    let all = told(dir)?;
    let store = Store::open(dir).map_err(text)?;
    let mut blobs = Vec::new();
    let info = store.info("a").map_err(text)?;
    for digest in info.raw_config.into_iter().chain(info.manifest) {
        let mut blob = store.blob(digest).map_err(text)?;
        let read = std::io::Read::read_to_end(&mut blob, &mut blobs);
        read.map_err(|error| error.to_string())?;
    }
    Ok(format!("{all} {blobs:?}"))
}

#[test]
fn case_100_files_changed_at_random_give_right_data_or_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let mut import = store.import().unwrap();
    let pool = import.pool().clone();
    import.layer(super::support::lower(&pool), LayerOrigin::new());
    import.layer(super::support::upper(&pool), LayerOrigin::new());
    import.raw_config(&noise(3, 5000)).unwrap();
    import.commit(ImageConfig::new(), Some("a")).unwrap();
    drop(store);
    let expected = asked(dir.path()).unwrap();
    let mut files = files(dir.path(), &["packs", "indexes", "layers"]);
    files.push(dir.path().join("catalog.log"));
    let good: Vec<_> = files.iter().map(|file| fs::read(file).unwrap()).collect();
    let mut rng = crate::support::rng::Rng::new(100);
    let (mut right, mut refused) = (0, 0);
    for round in 0..600 {
        let which = rng.below(files.len());
        let mut bad = good[which].clone();
        match rng.below(4) {
            0 => bad.truncate(rng.below(bad.len())),
            1 => bad.extend_from_slice(&noise(round, 1 + rng.below(5000))),
            // A piece somewhere else.
            2 => {
                let (from, to) = (rng.below(bad.len()), rng.below(bad.len()));
                let len = rng.below(64).min(bad.len() - from.max(to));
                bad.copy_within(from..from + len, to);
            }
            _ => {
                for _ in 0..=rng.below(8) {
                    let at = rng.below(bad.len());
                    bad[at] ^= 1 << rng.below(8);
                }
            }
        }
        fs::write(&files[which], &bad).unwrap();
        match asked(dir.path()) {
            Ok(told) => {
                assert_eq!(told, expected, "round {round}: {}", files[which].display());
                right += 1;
            }
            Err(error) => {
                assert!(!error.is_empty());
                refused += 1;
            }
        }
        fs::write(&files[which], &good[which]).unwrap();
        for (file, good) in files.iter().zip(&good) {
            // Nothing is thrown away for it.
            assert!(fs::read(file).unwrap() == *good, "round {round}");
        }
    }
    assert_eq!(asked(dir.path()).unwrap(), expected);
    assert!(
        right > 50 && refused > 200,
        "{right} right, {refused} refused"
    );
}

#[test]
fn case_104_cut_empty_foreign_and_newer_files_are_named() {
    let dir = tempfile::tempdir().unwrap();
    small(dir.path());
    for file in files(dir.path(), &["packs", "indexes", "layers"]) {
        let good = fs::read(&file).unwrap();
        let mut newer = good.clone();
        newer[8] = 9;
        let mut foreign = good.clone();
        foreign[0] ^= 0x20;
        let half = good[..good.len() / 2].to_vec();
        let longer = [&good[..], &[0; 7]].concat();
        for (bad, says) in [
            (newer, "version 9: this program reads version 1"),
            (foreign, "bad magic number"),
            (half, ""),
            (longer, ""),
            (Vec::new(), ""),
        ] {
            fs::write(&file, &bad).unwrap();
            let error = told(dir.path()).unwrap_err();
            assert!(error.contains(says), "{}: {error}", file.display());
            // An instance has an errno to say it with.
            let name = file.file_name().unwrap().to_string_lossy().into_owned();
            let errno = Errno::Io.to_string();
            assert!(error.contains(&name) || error.contains(&errno), "{error}");
            let found = Store::open(dir.path()).unwrap().verify().unwrap();
            assert!(!found.is_sound(), "{}", file.display());
            let found = found.errors.iter().map(ToString::to_string);
            assert!(
                found.into_iter().any(|error| error.contains(&name)),
                "{name}"
            );
        }
        fs::write(&file, &good).unwrap();
    }
    assert!(
        Store::open(dir.path())
            .unwrap()
            .verify()
            .unwrap()
            .is_sound()
    );
}

#[test]
fn case_99_forged_chunks_are_not_served_and_verify_names_them() {
    let dir = tempfile::tempdir().unwrap();
    small(dir.path());
    let pack = &files(dir.path(), &["packs"])[0];
    let mut forged = fs::read(pack).unwrap();
    let data = 4096..4096 + 3000;
    // The chunk and its entry in the table agree; the pack's name does not.
    forged[data.start] ^= 1;
    let table = data.end + 4..data.end + 36;
    let first = u32::from_le_bytes(forged[data.end..data.end + 4].try_into().unwrap());
    let digest = stratafs::digest::Digest::of(&forged[4096..4096 + first as usize]);
    forged[table].copy_from_slice(digest.as_bytes());
    fs::write(pack, &forged).unwrap();
    let store = Store::open(dir.path()).unwrap();
    let fs = Fs::new(&store.image("a").unwrap());
    assert!(fs.read("/file").is_err());
    let found = store.verify().unwrap().errors;
    assert!(
        matches!(&found[0], StoreError::Damaged { file, .. } if file == pack),
        "{found:?}"
    );
}

/// Puts 3,000 files into a store, in seven directories.
fn many(store: &Store) {
    let mut import = store.import().unwrap();
    let mut layer = stratafs::layer::Layer::builder();
    for n in 0..3000 {
        let path = LayerPath::parse(format!("dir{}/file{n}", n % 7).as_bytes()).unwrap();
        let content = stratafs::chunk::ContentBuilder::of(import.pool(), &noise(n, 50));
        let meta = stratafs::meta::Meta::with_mode(0o644);
        layer.file(&path, meta, content).unwrap();
    }
    import.layer(layer.finish().unwrap(), LayerOrigin::new());
    import.commit(ImageConfig::new(), Some("a")).unwrap();
}

#[test]
fn damage_of_one_block_of_an_index_harms_those_who_need_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    many(&store);
    let index = &files(dir.path(), &["indexes"])[0];
    let good = fs::read(index).unwrap();
    let start = u64::from_le_bytes(good[16..24].try_into().unwrap()) as usize;
    let path = |n: u64| format!("/dir{}/file{n}", n % 7);
    // What each file is, if anybody can tell.
    let look = |fs: &Fs| -> Vec<bool> {
        let read = |n: u64| match fs.read(path(n)) {
            Ok(bytes) => {
                assert_eq!(bytes, noise(n, 50), "{n}");
                true
            }
            Err(error) => {
                assert_eq!(error.errno(), Errno::Io, "{error}");
                false
            }
        };
        (0..3000).map(read).collect()
    };
    let (mut some, mut all, mut none) = (0, 0, 0);
    let blocks = (good.len() - start).div_ceil(16 * 1024);
    for block in 0..blocks {
        let mut bad = good.clone();
        bad[start + block * 16 * 1024 + 60] ^= 1;
        fs::write(index, bad).unwrap();
        // The names of the packs are needed to open it.
        let Ok(image) = store.image("a") else {
            continue;
        };
        let (one, two, three) = (Fs::new(&image), Fs::new(&image), Fs::new(&image));
        let first = look(&one);
        // Closing a file looks at all objects for its equal, and finds none in
        // the damaged part; what it does not need stays as it was.
        for n in 0..7 {
            let name = format!("/dir{n}/fresh");
            if two.write(&name, noise(n, 50)).is_ok() {
                assert_eq!(two.read(&name).unwrap(), noise(n, 50));
            }
        }
        for fs in [&one, &two, &three] {
            assert_eq!(look(fs), first, "block {block}");
        }
        let whole = first.iter().filter(|read| **read).count();
        match whole {
            0 => none += 1,
            3000 => all += 1,
            _ => some += 1,
        }
        assert!(image.damage().is_some() || whole == 3000, "block {block}");
    }
    fs::write(index, &good).unwrap();
    // Only the first objects, the directories, are needed by everyone.
    assert!(none <= 2, "{none} of {blocks} blocks harm everyone");
    assert!(
        some > blocks / 2,
        "{some} harm some, {all} nobody, of {blocks}"
    );
}

#[test]
fn case_81_an_index_cut_short_in_use_is_an_error_and_no_signal() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    many(&store);
    let index = &files(dir.path(), &["indexes"])[0];
    let good = fs::read(index).unwrap();
    let expected = shown(&store.image("a").unwrap()).unwrap();
    for round in 0..40 {
        let image = store.image("a").unwrap();
        let fs = Fs::new(&image);
        if round % 2 == 0 {
            // Some of it has been looked at and found good before.
            fs.read(format!("/dir{}/file{round}", round % 7)).unwrap();
        }
        let len = good.len() as u64 * round / 40;
        let file = fs::File::options().write(true).open(index).unwrap();
        // Windows does not cut what is mapped: nothing is damaged then.
        let cut = file.set_len(len).is_ok();
        drop(file);
        match shown(&image) {
            Ok(all) => assert_eq!(all, expected),
            Err(error) => {
                assert!(cut, "{error}");
                assert!(image.damage().is_some());
                assert!(fs.read("/dir1/file1").is_err());
            }
        }
        drop((fs, image));
        fs::write(index, &good).unwrap();
    }
    assert_eq!(shown(&store.image("a").unwrap()).unwrap(), expected);
}

#[test]
fn case_81_a_pack_cut_short_or_removed_in_use() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    put(&store, "a").unwrap();
    let image = store.image("a").unwrap();
    let fs = Fs::new(&image);
    assert_eq!(fs.read("/etc/motd").unwrap(), b"hello");
    let pack = &files(dir.path(), &["packs"])[0];
    let good = fs::read(pack).unwrap();
    let file = fs::File::options().write(true).open(pack).unwrap();
    file.set_len(5000).unwrap();
    let large = fs.read("/lib/large");
    assert!(large.is_err(), "it was longer");
    // A write into it, whose block has to be copied first, changes nothing.
    fs::write(pack, &good).unwrap();
    assert_eq!(fs.read("/lib/large").unwrap(), noise(1, 30_000));
    drop(file);
    fs::remove_file(pack).unwrap();
    assert_eq!(
        fs.read("/lib/large").unwrap(),
        noise(1, 30_000),
        "it is open"
    );
    assert!(matches!(
        Store::open(dir.path()).unwrap().image("a"),
        Err(StoreError::Io { .. })
    ));
}
