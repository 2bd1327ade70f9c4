//! The program `stratafs`: see [`stratafs::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    stratafs::cli::main()
}
