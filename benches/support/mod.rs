//! What the benches share: guests, a base on tmpfs, figures with their spread.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// What a guest speaks, and so what it is built for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum World {
    /// preview1: a core module.
    P1,
    /// 0.2: a component.
    P2,
    /// 0.3: a component, from the package in `guest-examples/three`.
    P3,
}

/// Builds the guests, unless they are built, and reads one of them.
pub fn guest(name: &str, world: World) -> Vec<u8> {
    let guests = Path::new(env!("CARGO_MANIFEST_DIR")).join("guest-examples");
    let (target, features): (_, &[&str]) = match world {
        World::P1 => ("wasm32-wasip1", &["--features", "raw"]),
        World::P2 | World::P3 => ("wasm32-wasip2", &[]),
    };
    let (home, kind, dir) = match world {
        World::P1 | World::P2 => (guests.clone(), "--bin", "release"),
        World::P3 => (guests.join("three"), "--example", "release/examples"),
    };
    let out = guests.join("target");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .current_dir(&home)
        .args(["build", "--release", "--locked", "--quiet"])
        .args(["--target", target, kind, name, "--target-dir"])
        .arg(&out)
        .args(features)
        .status()
        .expect("cargo runs");
    assert!(status.success(), "{name} does not build for {target}");
    let file: PathBuf = [target, dir, &format!("{name}.wasm")].iter().collect();
    std::fs::read(out.join(file)).expect("what was built")
}

/// A directory that goes with its value, on tmpfs where there is one, so that
/// no disk is measured.
pub fn memory_dir() -> TempDir {
    match tempfile::tempdir_in("/dev/shm") {
        Ok(dir) => dir,
        Err(_) => {
            println!("no /dev/shm: host directories are on the disk for temporary files");
            tempfile::tempdir().expect("a directory")
        }
    }
}

/// A median and how far the figures lie apart.
#[derive(Clone, Copy)]
pub struct Spread {
    /// The one in the middle.
    pub median: f64,
    /// The smallest.
    pub least: f64,
    /// The largest.
    pub most: f64,
}

impl Spread {
    /// Of one figure or more.
    pub fn of(mut figures: Vec<f64>) -> Self {
        figures.sort_by(f64::total_cmp);
        let at = |place: usize| figures.get(place).copied().expect("a figure");
        Self {
            median: at(figures.len() / 2),
            least: at(0),
            most: at(figures.len() - 1),
        }
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            median,
            least,
            most,
        } = self;
        write!(f, "{median:.0} [{least:.0}..{most:.0}]")
    }
}

/// Says how busy the machine is: processes that run or want to, over the
/// last 1, 5 and 15 minutes.
pub fn print_load(when: &str) {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let three: Vec<&str> = load.split(' ').take(3).collect();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    println!("load {when}: {} on {cores} cores", three.join(" "));
}
