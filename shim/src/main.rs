//! The program that containerd starts.

use std::process::ExitCode;

#[cfg(target_os = "linux")]
fn main() -> ExitCode {
    use stratafs_shim::start::{ShimArgs, USAGE, run};
    let words = std::env::args_os().skip(1);
    let words: Result<Vec<_>, _> = words.map(std::ffi::OsString::into_string).collect();
    let Ok(words) = words else {
        eprintln!("error: an argument is not UTF-8\n{USAGE}");
        return ExitCode::from(2);
    };
    let args = match ShimArgs::parse(words) {
        Ok(args) => args,
        Err(error) => {
            eprintln!("error: {error}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    if args.version {
        println!("containerd-shim-stratafs-v1 {}", env!("CARGO_PKG_VERSION"));
        return ExitCode::SUCCESS;
    }
    if args.action.is_empty() {
        eprintln!("error: no action\n{USAGE}");
        return ExitCode::from(2);
    }
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn main() -> ExitCode {
    eprintln!("error: this runtime of containerd is for Linux");
    ExitCode::FAILURE
}
