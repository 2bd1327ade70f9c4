//! What a program reads to start, out of a trace of it.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use serde_json::Value;
use stratafs::name::LayerPath;
use stratafs::source::StartSet;

use crate::failure::Failure;
use crate::limits::MAX_START_LINE_BYTES;

/// Reads the lines of `run --trace`. Paths that are not UTF-8 are passed over. A file of which at least half was read is read whole.
pub(super) fn read(file: Option<&Path>) -> Result<StartSet, Failure> {
    let mut set = StartSet::new();
    let Some(path) = file else {
        return Ok(set);
    };
    let failed = |what: &dyn std::fmt::Display| {
        Failure::new(format_args!("--start-set {}: {what}", path.display()))
    };
    let opened = File::open(path).map_err(|error| failed(&error))?;
    let mut reader = BufReader::new(opened);
    for number in 1.. {
        let mut line = Vec::new();
        let mut bounded = reader.by_ref().take(MAX_START_LINE_BYTES);
        let read = bounded.read_until(b'\n', &mut line);
        if read.map_err(|error| failed(&error))? == 0 {
            break;
        }
        let none = || failed(&format_args!("line {number} is no line of `run --trace`"));
        let value: Value = serde_json::from_slice(&line).map_err(|_| none())?;
        if value.get("path_bytes").is_none() {
            let (path, whole) = traced(&value).ok_or_else(none)?;
            set.add(path, whole);
        }
    }
    Ok(set)
}

fn traced(line: &Value) -> Option<(LayerPath, bool)> {
    let path = line.get("path")?.as_str()?;
    let path = LayerPath::parse(path.trim_start_matches('/').as_bytes()).ok()?;
    let (size, read) = (
        line.get("size_bytes")?.as_u64()?,
        line.get("read_bytes")?.as_u64()?,
    );
    Some((path, read >= size / 2))
}
