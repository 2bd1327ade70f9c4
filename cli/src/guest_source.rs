//! The demo's guest: an example of this repository, built when it is needed.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::failure::Failure;

/// The package that this program was built from, in its clone.
const PACKAGE: &str = env!("CARGO_MANIFEST_DIR");

/// The example, and what it is built for.
const EXAMPLE: &str = "marker";
const TARGET: &str = "wasm32-wasip1";

/// Builds the demo's guest and returns its file. Cargo does nothing if it is
/// there and fresh.
pub(super) fn build() -> Result<PathBuf, Failure> {
    let package = Path::new(PACKAGE).with_file_name("guest-examples");
    let manifest = package.join("Cargo.toml");
    if !manifest.is_file() {
        return Err(Failure::new(format_args!(
            "the demo's guest is built from {}, which is not there: run the demo from a clone, or name a guest with --guest",
            manifest.display()
        )));
    }
    let target_dir = package.join("target");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let done = Command::new(&cargo)
        .args([
            "build",
            "--quiet",
            "--release",
            "--locked",
            "--bin",
            EXAMPLE,
            "--target",
            TARGET,
        ])
        .arg("--manifest-path")
        .arg(&manifest)
        .arg("--target-dir")
        .arg(&target_dir)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| Failure::at(Path::new(&cargo), error))?;
    if !done.status.success() {
        let text = String::from_utf8_lossy(&done.stderr);
        let why = text
            .lines()
            .find(|line| line.starts_with("error"))
            .unwrap_or("cargo failed");
        return Err(Failure::new(format_args!(
            "the demo's guest does not build ({why}); try: rustup target add {TARGET} && cargo build --release --target {TARGET} --manifest-path {}",
            manifest.display()
        )));
    }
    Ok(target_dir
        .join(TARGET)
        .join("release")
        .join(EXAMPLE)
        .with_extension("wasm"))
}
