//! What `run --trace` wrote, read again.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use stratafs::name::LayerPath;

use super::text::rooted;
use crate::failure::Failure;
use crate::limits::{MAX_TRACE_LINE_BYTES, MAX_TRACED_PATHS};

/// Which files of an image were opened, by path as traces write it, and how many bytes of
/// each were read at most.
#[derive(Debug, Default)]
pub(super) struct Touched(HashMap<String, u64>);

/// A line of a trace, as far as it matters here.
#[derive(Deserialize)]
struct TraceLine {
    path: String,
    #[serde(default)]
    read_bytes: u64,
}

impl Touched {
    /// Reads traces.
    pub(super) fn read(files: &[PathBuf]) -> Result<Self, Failure> {
        let mut touched = Self::default();
        for file in files {
            touched.take(file, MAX_TRACED_PATHS)?;
        }
        Ok(touched)
    }

    fn take(&mut self, path: &Path, max_paths: usize) -> Result<(), Failure> {
        let at = |error: std::io::Error| Failure::at(path, error);
        let mut reader = BufReader::new(File::open(path).map_err(at)?);
        let mut line = Vec::new();
        for number in 1_u64.. {
            line.clear();
            let mut limited = (&mut reader).take(MAX_TRACE_LINE_BYTES + 1);
            if limited.read_until(b'\n', &mut line).map_err(at)? == 0 {
                break;
            }
            let bad = |what: &dyn std::fmt::Display| {
                Failure::at(
                    path,
                    format_args!(
                        "line {number}: {what}: expected what `stratafs run --trace` writes"
                    ),
                )
            };
            if line.len() as u64 > MAX_TRACE_LINE_BYTES {
                return Err(bad(&format_args!("more than {MAX_TRACE_LINE_BYTES} bytes")));
            }
            if line.trim_ascii().is_empty() {
                continue;
            }
            let TraceLine { path, read_bytes } =
                serde_json::from_slice(&line).map_err(|error| bad(&error))?;
            let most = self.0.entry(path).or_default();
            *most = read_bytes.max(*most);
            if self.0.len() > max_paths {
                return Err(bad(&format_args!("more than {max_paths} paths")));
            }
        }
        Ok(())
    }

    /// How many bytes of the file at `path` were read; `None` if it was never opened.
    pub(super) fn of(&self, path: &LayerPath) -> Option<u64> {
        self.0.get(&rooted(path)).copied()
    }

    /// Counts the paths.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traces_with_long_lines_or_many_paths_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("trace");
        let take = |text: &[u8], max| {
            std::fs::write(&file, text).unwrap();
            let mut touched = Touched::default();
            let taken = touched.take(&file, max).map(|()| touched.len());
            taken.map_err(|failure| format!("{failure:?}"))
        };
        let two = b"{\"path\":\"/a\"}\n\n{\"path\":\"/b\",\"read_bytes\":1}\n{\"path\":\"/a\"}";
        assert_eq!(take(two, 2), Ok(2));
        let many = take(two, 1).unwrap_err();
        assert!(many.contains("line 3: more than 1 paths"), "{many}");
        let long = vec![b' '; usize::try_from(MAX_TRACE_LINE_BYTES).unwrap() + 1];
        let long = take(&long, MAX_TRACED_PATHS).unwrap_err();
        assert!(long.contains("line 1: more than"), "{long}");
    }
}
