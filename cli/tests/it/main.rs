//! The program `stratafs`, from outside: options, exit codes, output, files.
//!
//! One line a module; the library's `tidy` fails when a file here is not listed.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::type_complexity,
    unreachable_pub,
    reason = "a test stops at what it does not expect, and is no library"
)]

mod support; // what is shared with the library's tests

mod analyze; // `image analyze`: figures of hand-made images, and its page
mod artifact; // OCI artifacts of WebAssembly, and what images say that they are for
mod bench; // every way measured, or said why not
mod bounds; // what a run may hold together, and what an interrupted one leaves
mod build; // `image build`: recipes, their cache, what is refused
mod extend; // `image append` and `image mutate`
mod habits; // what people type who come from wasmtime and Docker
mod hostile; // images and archives that mean harm to the terminal or the memory
mod image; // `image` and `store`: each command, and what it refuses
#[cfg(unix)]
mod inputs; // docs/INPUTS.md: each command in it
mod killed; // commands killed at any moment
mod lint; // `image lint`: each rule fires, and all are silent on a clean image
mod lint_recipe; // `image lint` of a recipe, with lines
mod many; // many instances over one base
mod object; // images in object stores: a folder, and what is refused
mod one; // one instance: its exit code, streams, arguments, end
mod options; // each option, good and bad
mod otel; // spans for a collector
mod prepare; // `image prepare`, and runs that go on from there
mod prepare_says; // what these say of directories and of what is not kept
mod registry; // images in registries: push, pull, copy, login
#[cfg(unix)]
mod serve; // `serve`: requests, sessions, bounds, clients that mean harm
mod shared; // volumes, places in listings, traces, runs that repeat
mod sizes; // counts and sizes of `diff`, `tree` and `explain`
mod slim; // `image slim`: what is left, and the trial run
#[cfg(target_os = "linux")]
mod snapshotter; // `snapshotter`: containerd's calls, layers of registries, kills, hostile input
mod strace; // each file call of a guest, as strace tells it
mod trim; // `store gc --max-size` and `--older-than`: a store that is a cache
mod world; // /dev, /tmp, and runs without them
mod wrong; // wrong input to every option

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use support::script::Script;

/// A directory for one test, and the program to run in it.
struct Cli {
    dir: TempDir,
}

/// What the program did.
#[derive(Debug)]
struct Done {
    code: Option<i32>,
    stdout: Vec<u8>,
    stderr: String,
}

impl Cli {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Puts a file there, with the directories above it.
    fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> &Self {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
        self
    }

    /// Puts a guest there as `guest.wat`.
    fn guest(&self, script: &Script) -> &Self {
        self.file("guest.wat", script.wat())
    }

    /// The program with these words, split at spaces, in the directory.
    fn command(&self, words: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_stratafs"));
        command
            .args(words.split_whitespace())
            .current_dir(self.dir.path());
        command
            .env("STRATAFS_CACHE", self.path("cache"))
            .env("STRATAFS_STORE", self.path("store"))
            .stdin(Stdio::null());
        command
    }

    fn run(&self, words: &str) -> Done {
        Done::of(&mut self.command(words))
    }

    /// Runs a script with these options before it, over what the layers hold.
    fn script(&self, options: &str, script: &Script) -> Done {
        self.guest(script)
            .run(&format!("run --bare {options} guest.wat"))
    }

    /// The names in the test's directory.
    fn names(&self) -> Vec<String> {
        names(self.dir.path())
    }
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

impl Done {
    fn of(command: &mut Command) -> Self {
        let output = command.output().unwrap();
        Self {
            code: output.status.code(),
            stdout: output.stdout,
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    fn text(&self) -> String {
        String::from_utf8(self.stdout.clone()).unwrap()
    }

    /// It went well: exit code 0 and nothing on stderr.
    #[track_caller]
    fn fine(&self) -> &Self {
        assert_eq!((self.code, self.stderr.as_str()), (Some(0), ""), "{self:?}");
        self
    }

    /// It failed with this code and one line on stderr that has these parts.
    #[track_caller]
    fn failed(&self, code: i32, parts: &[&str]) -> &Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert!(self.stderr.starts_with("error: "), "{}", self.stderr);
        assert_eq!(self.stderr.lines().count(), 1, "{}", self.stderr);
        for part in parts {
            assert!(
                self.stderr.contains(part),
                "{part:?} is not in {}",
                self.stderr
            );
        }
        self
    }

    /// The arguments were refused: code 2, and the first line names the parts.
    #[track_caller]
    fn refused(&self, parts: &[&str]) -> &Self {
        assert_eq!(self.code, Some(2), "{self:?}");
        assert!(self.stderr.starts_with("error: "), "{}", self.stderr);
        for part in parts {
            assert!(
                self.stderr.contains(part),
                "{part:?} is not in {}",
                self.stderr
            );
        }
        assert!(self.stdout.is_empty());
        self
    }
}
