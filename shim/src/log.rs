//! What the process that stays has to say: lines on its standard error, which containerd logs.

use std::fmt;
use std::io::Write;

/// Says something, if there is still somebody who reads it.
pub fn tell(text: fmt::Arguments<'_>) {
    let line = format!("stratafs: {text}\n");
    let _unheard = std::io::stderr().write_all(line.as_bytes());
}
