//! What `run --trace` wrote, read again.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::json;
use stratafs::image::Image;
use stratafs::name::LayerPath;
use stratafs::source::StartSet;
use stratafs::vfs::Fs;

use crate::failure::{Failure, from_base64, put_bytes};
use crate::limits::{MAX_TRACE_LINE_BYTES, MAX_TRACED_PATHS};

/// A line of a trace, as far as it matters here.
#[derive(Deserialize)]
struct TraceLine {
    path: String,
    /// The path in base64, where it is not UTF-8.
    path_bytes: Option<String>,
    #[serde(default)]
    size_bytes: u64,
    #[serde(default)]
    read_bytes: u64,
}

impl TraceLine {
    fn path(&self) -> Result<LayerPath, String> {
        let bytes = match &self.path_bytes {
            Some(text) => from_base64(text).ok_or("`path_bytes` is not base64")?,
            None => self.path.clone().into_bytes(),
        };
        LayerPath::parse(&bytes).map_err(|error| error.to_string())
    }
}

/// Reads a trace. Calls `each` with the path of each line, and the line, until it fails.
/// Empty lines are skipped. `option` is the one that names the file.
fn read_lines(
    option: &str,
    file: &Path,
    mut each: impl FnMut(LayerPath, &TraceLine) -> Result<(), String>,
) -> Result<(), Failure> {
    let at = |what: &dyn std::fmt::Display| {
        Failure::new(format_args!("{option} {}: {what}", file.display()))
    };
    let opened = File::open(file).map_err(|error| at(&error))?;
    let mut reader = BufReader::new(opened);
    let mut bytes = Vec::new();
    for number in 1_u64.. {
        bytes.clear();
        let mut limited = (&mut reader).take(MAX_TRACE_LINE_BYTES + 1);
        let read = limited.read_until(b'\n', &mut bytes);
        if read.map_err(|error| at(&error))? == 0 {
            break;
        }
        let bad = |why: String| {
            at(&format_args!(
                "line {number} is not a line of `run --trace`: {why}"
            ))
        };
        if bytes.len() as u64 > MAX_TRACE_LINE_BYTES {
            return Err(bad(format!(
                "it has more than {MAX_TRACE_LINE_BYTES} bytes"
            )));
        }
        if bytes.trim_ascii().is_empty() {
            continue;
        }
        let line: TraceLine =
            serde_json::from_slice(&bytes).map_err(|error| bad(error.to_string()))?;
        let path = line.path().map_err(&bad)?;
        each(path, &line).map_err(&bad)?;
    }
    Ok(())
}

/// Which files of an image were opened, each with the number of those before it, and how many
/// bytes of each were read at most.
#[derive(Debug, Default)]
pub(super) struct Touched(HashMap<LayerPath, (usize, u64)>);

impl Touched {
    /// Reads traces.
    pub(super) fn read(files: &[PathBuf]) -> Result<Self, Failure> {
        let mut touched = Self::default();
        for file in files {
            touched.take(file, MAX_TRACED_PATHS)?;
        }
        Ok(touched)
    }

    fn take(&mut self, file: &Path, max_paths: usize) -> Result<(), Failure> {
        read_lines("--trace", file, |path, line| {
            let before = self.0.len();
            let (_, most) = self.0.entry(path).or_insert((before, 0));
            *most = line.read_bytes.max(*most);
            bounded(self.0.len(), max_paths)
        })
    }

    /// Returns how many bytes of the file at `path` were read; `None` if it was never opened.
    pub(super) fn of(&self, path: &LayerPath) -> Option<u64> {
        self.0.get(path).map(|(_, read)| *read)
    }

    /// Returns how many paths the traces named before this one.
    pub(super) fn place(&self, path: &LayerPath) -> usize {
        let found = self.0.get(path);
        found.map_or(usize::MAX, |(before, _)| *before)
    }

    /// Counts the paths.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

/// Reads the files that a program needs to start from a trace, in the order in which it
/// opened them. A file of which at least half was read counts as read whole.
pub(super) fn start_set(file: Option<&Path>) -> Result<StartSet, Failure> {
    let mut set = StartSet::new();
    read_start(file, &mut set)?;
    Ok(set)
}

fn read_start(file: Option<&Path>, set: &mut StartSet) -> Result<(), Failure> {
    if let Some(file) = file {
        read_lines("--start-set", file, |path, line| {
            set.add(path, line.read_bytes >= line.size_bytes / 2);
            bounded(set.len(), MAX_TRACED_PATHS)
        })?;
    }
    Ok(())
}

/// Where an image that is prepared has what is known of its guest, and the program with the memory in it:
/// docs/FREEZE.md.
const FROZEN: [&str; 2] = [
    "/.stratafs/frozen/state.json",
    "/.stratafs/frozen/program.wasm",
];

/// Reads what is sent first of an image: what a trace says, behind what a prepared guest goes on from.
pub(super) fn start_set_of(image: &Image, file: Option<&Path>) -> Result<StartSet, Failure> {
    let fs = Fs::new(image);
    let mut set = StartSet::new();
    for path in FROZEN {
        if fs.exists(path)? {
            let path = LayerPath::parse(path.trim_start_matches('/').as_bytes())?;
            set.add(path, true);
        }
    }
    read_start(file, &mut set)?;
    Ok(set)
}

/// Writes lines that [`start_set`] reads: path, bytes of the file, bytes that were read of it.
pub(super) fn start_lines(files: &[(LayerPath, u64, u64)]) -> String {
    let mut out = String::new();
    for (path, size, read) in files {
        let mut line = json!({ "size_bytes": size, "read_bytes": read.min(size) });
        let bytes = [b"/".as_slice(), &path.to_bytes()].concat();
        put_bytes(&mut line, "path", &bytes);
        out.push_str(&format!("{line}\n"));
    }
    out
}

fn bounded(paths: usize, max_paths: usize) -> Result<(), String> {
    match paths > max_paths {
        true => Err(format!(
            "with it the traces name more than {max_paths} paths"
        )),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &[u8]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn traces_with_long_lines_or_many_paths_are_refused() {
        let take = |text: &[u8], max| {
            let mut touched = Touched::default();
            let taken = touched.take(written(text).path(), max);
            let taken = taken.map(|()| touched.len());
            taken.map_err(|failure| format!("{failure:?}"))
        };
        let two = b"{\"path\":\"/a\"}\n\n{\"path\":\"/b\",\"read_bytes\":1}\n{\"path\":\"/a\"}";
        assert_eq!(take(two, 2), Ok(2));
        let many = take(two, 1).unwrap_err();
        assert!(many.contains("line 3 is not a line"), "{many}");
        assert!(many.contains("more than 1 paths"), "{many}");
        let long = vec![b' '; usize::try_from(MAX_TRACE_LINE_BYTES).unwrap() + 1];
        let long = take(&long, MAX_TRACED_PATHS).unwrap_err();
        assert!(long.contains("line 1 is not a line"), "{long}");
        let climbing = take(b"{\"path\":\"/../a\"}", 1).unwrap_err();
        assert!(climbing.contains("line 1"), "{climbing}");
    }

    #[test]
    fn names_of_any_bytes_are_read_as_they_were_written() {
        let lines = b"{\"path\":\"/li\\nne\",\"read_bytes\":3}\n\
            {\"path\":\"/\xef\xbf\xbd\",\"path_bytes\":\"L/8=\",\"read_bytes\":4}\n";
        let file = written(lines);
        let touched = Touched::read(&[file.path().to_owned()]).unwrap();
        let of = |name: &[u8]| touched.of(&LayerPath::parse(name).unwrap());
        assert_eq!((of(b"li\nne"), of(b"\xff")), (Some(3), Some(4)));
        assert_eq!(start_set(Some(file.path())).unwrap().len(), 2);
        let bad = written(b"{\"path\":\"x\",\"path_bytes\":\"?\"}");
        let bad = format!("{:?}", start_set(Some(bad.path())).unwrap_err());
        assert!(bad.contains("base64"), "{bad}");
    }
}
