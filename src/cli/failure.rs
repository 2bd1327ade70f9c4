//! Why a command could not do its work.

use std::fmt::Display;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

/// One line for a person, and the exit code that goes with it.
#[derive(Debug)]
pub(super) struct Failure {
    message: String,
    code: u8,
}

impl Failure {
    /// The work failed.
    pub(super) fn new(message: impl Display) -> Self {
        Self {
            message: message.to_string(),
            code: 1,
        }
    }

    /// The work failed at a file or directory of the host.
    pub(super) fn at(path: &Path, error: impl Display) -> Self {
        Self::new(format_args!("{}: {error}", path.display()))
    }

    /// The arguments are wrong.
    pub(super) fn usage(message: impl Display) -> Self {
        Self {
            message: message.to_string(),
            code: 2,
        }
    }

    /// Says it on stderr.
    pub(super) fn report(self) -> ExitCode {
        say(&self.message);
        ExitCode::from(self.code)
    }
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::new(error)
    }
}

/// Writes one line that starts with `error: ` to stderr.
pub(super) fn say(message: &str) {
    complain(&format!("error: {}", message.trim_end().replace('\n', " ")));
}

/// Writes lines to stderr. Where nobody takes them there is nobody to tell.
pub(super) fn complain(lines: &str) {
    drop(writeln!(io::stderr(), "{lines}"));
}

/// Writes lines to stdout.
pub(super) fn tell(lines: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{lines}")
        .and_then(|()| stdout.flush())
        .map_err(|error| Failure::new(format_args!("stdout: {error}")))
}
