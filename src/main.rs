//! The command line: see `stratafs --help`.

fn main() {}
