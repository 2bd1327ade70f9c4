//! The guests of `guest-examples`, built once for all tests.
//!
//! Each test is a process of its own under nextest, so the first one builds
//! under a file lock and leaves a stamp of the sources it built from; the
//! others see the stamp and go on.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What a guest speaks, and so what it is built for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum World {
    /// preview1: a core module.
    P1,
    /// 0.2: a component.
    P2,
    /// 0.3: a component whose library speaks 0.2.
    P3,
}

impl World {
    /// The name of rustc's target.
    pub fn target(self) -> &'static str {
        match self {
            Self::P1 => "wasm32-wasip1",
            Self::P2 | Self::P3 => "wasm32-wasip2",
        }
    }

    /// Arguments of cargo besides the common ones. Guests that call preview1
    /// themselves exist for preview1 only.
    fn features(self) -> &'static [&'static str] {
        match self {
            Self::P1 => &["--features", "raw"],
            Self::P2 => &[],
            Self::P3 => &["--examples"],
        }
    }

    /// The package: that for 0.3 is another one over the same sources.
    fn home(self) -> PathBuf {
        match self {
            Self::P1 | Self::P2 => home(),
            Self::P3 => home().join("three"),
        }
    }

    /// Where cargo puts a guest below its target directory.
    fn file(self, name: &str) -> PathBuf {
        let release = Path::new(self.target()).join("release");
        let dir = match self {
            Self::P1 | Self::P2 => release,
            Self::P3 => release.join("examples"),
        };
        dir.join(format!("{name}.wasm"))
    }
}

/// The package of the guests, beside the package that is tested or in it.
fn home() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .map(|dir| dir.join("guest-examples"))
        .find(|home| home.join("Cargo.toml").exists())
        .expect("the tests run in a clone, which has guest-examples")
}

/// Gives the file of a guest, built from the sources as they are now.
pub fn guest(name: &str, world: World) -> PathBuf {
    let out = home().join("target");
    build_once(&out.join("built"), &sources(), || {
        for world in [World::P1, World::P2, World::P3] {
            build(&world.home(), world.target(), world.features(), &out);
        }
    });
    let file = out.join(world.file(name));
    assert!(file.exists(), "no guest {name} for {}", world.target());
    file
}

/// Gives the file of the guest that answers HTTP requests.
pub fn http_guest() -> PathBuf {
    let (package, out) = (home().join("http"), home().join("target"));
    let files = ["Cargo.toml", "Cargo.lock", "src/lib.rs"];
    let want = as_text(files.map(|file| package.join(file)).into());
    let target = World::P2.target();
    build_once(&out.join("built-http"), &want, || {
        build(&package, target, &[], &out);
    });
    out.join(target).join("release/answers.wasm")
}

/// Builds under a lock, unless the stamp says that these sources are built.
fn build_once(stamp: &Path, want: &String, build: impl FnOnce()) {
    let out = stamp.parent().unwrap();
    fs::create_dir_all(out).unwrap();
    if fs::read_to_string(stamp).ok().as_ref() != Some(want) {
        let lock = File::create(out.join("lock")).unwrap();
        lock.lock().unwrap();
        if fs::read_to_string(stamp).ok().as_ref() != Some(want) {
            build();
            fs::write(stamp, want).unwrap();
        }
    }
}

fn build(package: &Path, target: &str, features: &[&str], out: &Path) {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .current_dir(package)
        .args([
            "build",
            "--release",
            "--locked",
            "--target",
            target,
            "--target-dir",
        ])
        .arg(out)
        .args(features)
        // What builds the host's side is not for the guests.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("CARGO_BUILD_TARGET")
        .output()
        .expect("cargo runs");
    let text = String::from_utf8_lossy(&built.stderr);
    if text.contains("target may not be installed") || text.contains("can't find crate for `std`") {
        panic!("the guests need Rust's {target}: rustup target add wasm32-wasip1 wasm32-wasip2");
    }
    assert!(
        built.status.success(),
        "the guests do not build for {target}:\n{text}"
    );
}

/// Everything the guests are made from, as one text: paths, and a number for
/// what is in them.
fn sources() -> String {
    let mut files = vec![home().join("Cargo.toml"), home().join("Cargo.lock")];
    files.extend(["Cargo.toml", "Cargo.lock"].map(|file| World::P3.home().join(file)));
    let mut dirs = vec![home().join("src"), home().join("three/src")];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else {
                files.push(path);
            }
        }
    }
    files.sort();
    as_text(files)
}

fn as_text(files: Vec<PathBuf>) -> String {
    let line = |path: PathBuf| {
        let digest = stratafs::digest::Digest::of(&fs::read(&path).unwrap());
        format!("{} {digest}\n", path.display())
    };
    files.into_iter().map(line).collect()
}

/// The names of all guests, from the files that are there.
pub fn names() -> BTreeSet<String> {
    let bins = home().join("src/bin");
    let name = |entry: std::io::Result<fs::DirEntry>| {
        entry
            .unwrap()
            .path()
            .file_stem()
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned()
    };
    fs::read_dir(bins).unwrap().map(name).collect()
}
