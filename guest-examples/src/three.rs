//! Commands of WASI 0.3 from programs with a `main`.

use std::process::{ExitCode, Termination};

pub use wasip3;

/// What `run` answers for what `main` gave.
pub fn ended(main: impl Termination) -> Result<(), ()> {
    if main.report() == ExitCode::SUCCESS {
        Ok(())
    } else {
        Err(())
    }
}

/// Exports `main` as the `run` of an 0.3 command.
#[macro_export]
macro_rules! command {
    ($main:path) => {
        struct Command;
        $crate::three::wasip3::cli::command::export!(Command);
        impl $crate::three::wasip3::exports::cli::run::Guest for Command {
            async fn run() -> ::std::result::Result<(), ()> {
                $crate::three::ended($main())
            }
        }
    };
}
