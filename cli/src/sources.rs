//! What `--layer` and SRC name, in all commands alike.

use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use stratafs::source::{LeftOut, Platform, Source, SourceError, SourceOptions};

use super::failure::{Failure, complain};

/// How sources are read.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct SourceArgs {
    /// Leave devices, FIFOs and sockets of a source out instead of refusing it,
    /// and say how many
    #[arg(long)]
    pub(super) skip_special: bool,

    /// Which image to take of an index [default: the only one, else the one
    /// for Linux on this architecture, else the one for WebAssembly]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub(super) platform: Option<Platform>,

    /// Which image to take where a source has several, by its name; what Docker leaves
    /// out of names may be left out
    #[arg(long, alias = "name", value_name = "NAME")]
    pub(super) image_name: Option<String>,
}

impl SourceArgs {
    pub(super) fn options(&self) -> SourceOptions {
        SourceOptions {
            skip_special: self.skip_special.then(LeftOut::new),
            platform: self.platform.clone(),
            name: self.image_name.clone(),
            ..SourceOptions::default()
        }
    }
}

/// The platform that a new image names.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct StampArgs {
    /// The platform that the new image names, so that tools that do not know
    /// WebAssembly unpack it
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub(super) set_platform: Option<Platform>,
}

/// Sources, the lowest first, and how they are read.
#[derive(Clone, Debug, Default)]
pub(super) struct Layers {
    pub(super) paths: Vec<PathBuf>,
    pub(super) options: SourceOptions,
}

impl Layers {
    /// Takes what was typed: there is one standard input to be a source.
    pub(super) fn new(paths: Vec<PathBuf>, args: &SourceArgs) -> Result<Self, Failure> {
        if paths.iter().filter(|path| is_stdin(path)).count() > 1 {
            let twice = "`-` is given twice: there is one standard input";
            return Err(Failure::usage(twice));
        }
        let options = args.options();
        Ok(Self { paths, options })
    }

    /// Returns whether the standard input is one of them, and so is used up.
    pub(super) fn take_stdin(&self) -> bool {
        self.paths.iter().any(|path| is_stdin(path))
    }

    /// Says what was left out of those that have been read.
    pub(super) fn report_left_out(&self) {
        let Some(left_out) = &self.options.skip_special else {
            return;
        };
        let mut names: Vec<String> = left_out.first().iter().map(ToString::to_string).collect();
        let count = left_out.count();
        if count > names.len() as u64 {
            names.push("...".to_owned());
        }
        if count > 0 {
            complain(&format!(
                "left out: {count} special files ({})",
                names.join(", ")
            ));
        }
    }
}

/// Opens a source: a path, or `-` for the standard input.
pub(super) fn open(path: &Path, options: &SourceOptions) -> Result<Source, SourceError> {
    match is_stdin(path) {
        true => Source::from_reader(path, io::stdin().lock(), options),
        false => Source::open(path, options),
    }
}

fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == "-"
}
