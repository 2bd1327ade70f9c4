//! What the process that stays has to say: lines that containerd logs. It reads them from a FIFO in the
//! bundle of each container, for as long as it is there.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use rustix::fs::OFlags;
use serde::Deserialize;

/// How lines look.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// An object of JSON each: `ts` in seconds since 1970, `level`, `container`, `msg`.
    Json,
}

/// How much a line matters; the most first.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Something is lost.
    Error,
    /// A guest failed.
    #[default]
    Warn,
    /// What happens: containers and the process itself begin and end.
    Info,
}

static CHOICE: OnceLock<(LogFormat, LogLevel)> = OnceLock::new();

/// Chooses for this process how lines look and which are written, once.
pub fn choose(format: LogFormat, most: LogLevel) {
    CHOICE.get_or_init(|| (format, most));
}

/// Where lines go: to standard error, which is the FIFO of the first container, until nobody reads that
/// any more; then to one of those that are there.
#[derive(Default)]
struct LogReaders {
    /// The bundles of containers, by their names.
    bundles: Vec<(String, PathBuf)>,
    /// The FIFO in the place of standard error.
    open: Option<File>,
}

static READERS: Mutex<LogReaders> = Mutex::new(LogReaders {
    bundles: Vec::new(),
    open: None,
});

impl LogReaders {
    fn write(&mut self, line: &[u8]) {
        let written = match &mut self.open {
            Some(open) => open.write_all(line),
            None => io::stderr().write_all(line),
        };
        if written.is_err_and(|error| error.kind() == io::ErrorKind::BrokenPipe) {
            self.find(line);
        }
    }

    /// Looks for a FIFO that is read, the last first, and writes the line there.
    fn find(&mut self, line: &[u8]) {
        for (_, bundle) in self.bundles.iter().rev() {
            let Ok(mut fifo) = open_log(bundle) else {
                continue;
            };
            if fifo.write_all(line).is_ok() {
                self.open = Some(fifo);
                return;
            }
        }
    }
}

/// Opens the FIFO in a bundle that containerd reads lines from, if it does. Nobody waits for it: what it
/// is slow to take is lost.
pub fn open_log(bundle: &Path) -> io::Result<File> {
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or(0);
    let mut options = OpenOptions::new();
    let options = options.write(true).custom_flags(flags);
    options.open(bundle.join("log"))
}

/// Lets lines go by way of the bundle of a container as well, until that is forgotten.
pub fn add_reader(container: &str, bundle: &str) {
    let place = (container.to_owned(), PathBuf::from(bundle));
    READERS.lock().bundles.push(place);
}

/// Forgets the bundle of a container that is gone.
pub fn forget_reader(container: &str) {
    let mut readers = READERS.lock();
    readers.bundles.retain(|(name, _)| name != container);
}

/// Says something about a container, or about the process if it is empty, if there is
/// somebody who reads it.
pub fn log_line(level: LogLevel, container: &str, text: fmt::Arguments<'_>) {
    let (format, most) = CHOICE.get().copied().unwrap_or_default();
    if level <= most {
        let line = line(format, level, container, text);
        READERS.lock().write(line.as_bytes());
    }
}

fn line(format: LogFormat, level: LogLevel, container: &str, text: fmt::Arguments<'_>) -> String {
    let level = match level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
    };
    let text = one_line(&text.to_string());
    match format {
        LogFormat::Text if container.is_empty() => format!("stratafs: {level}: {text}\n"),
        LogFormat::Text => format!("stratafs: {level}: container {container}: {text}\n"),
        LogFormat::Json => {
            let since = SystemTime::now().duration_since(UNIX_EPOCH);
            let millis = since.map_or(0, |since| since.as_millis());
            let (seconds, millis) = (millis / 1000, millis % 1000);
            let (container, text) = (
                serde_json::Value::from(container),
                serde_json::Value::from(text),
            );
            format!(
                "{{\"ts\":{seconds}.{millis:03},\"level\":\"{level}\",\"container\":{container},\"msg\":{text}}}\n"
            )
        }
    }
}

/// Makes a line of one line, whatever a guest has to do with it: it moves no cursor, and hides nothing.
fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '\n' => line.push_str(" | "),
            _ if char.is_control() => line.extend(char.escape_default()),
            _ => line.push(char),
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_one_line_each_in_both_forms() {
        let text = |format, container| {
            line(
                format,
                LogLevel::Warn,
                container,
                format_args!("it \"fell\"\nfar"),
            )
        };
        assert_eq!(
            text(LogFormat::Text, ""),
            "stratafs: warn: it \"fell\" | far\n"
        );
        assert_eq!(
            text(LogFormat::Text, "c"),
            "stratafs: warn: container c: it \"fell\" | far\n"
        );
        let json: serde_json::Value = serde_json::from_str(&text(LogFormat::Json, "c")).unwrap();
        assert_eq!(
            (&json["level"], &json["container"]),
            (&"warn".into(), &"c".into())
        );
        assert_eq!(json["msg"], "it \"fell\" | far");
        assert!(json["ts"].as_f64().unwrap() > 1e9);
        assert!(LogLevel::Error < LogLevel::Warn && LogLevel::Warn < LogLevel::Info);
        let hiding = line(
            LogFormat::Text,
            LogLevel::Warn,
            "",
            format_args!("a\r\x1b[2Kb"),
        );
        assert_eq!(hiding, "stratafs: warn: a\\r\\u{1b}[2Kb\n");
    }

    #[test]
    fn lines_go_to_a_container_that_is_there_once_the_first_is_gone() {
        use std::io::Read;
        let dir = tempfile::tempdir().unwrap();
        let fifo = |name: &str| {
            let bundle = dir.path().join(name);
            std::fs::create_dir(&bundle).unwrap();
            let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
            let kind = rustix::fs::FileType::Fifo;
            rustix::fs::mknodat(rustix::fs::CWD, bundle.join("log"), kind, mode, 0).unwrap();
            let mut options = OpenOptions::new();
            let flags = OFlags::NONBLOCK.bits() as i32;
            let read = options.read(true).custom_flags(flags);
            let read = read.open(bundle.join("log")).unwrap();
            (bundle, read)
        };
        let said = |mut from: &File| {
            let mut text = String::new();
            // The end, or nothing for now.
            let _read = from.read_to_string(&mut text);
            text
        };
        let ((first, first_read), (second, second_read)) = (fifo("1"), fifo("2"));
        let mut readers = LogReaders {
            open: Some(open_log(&first).unwrap()),
            bundles: vec![("1".into(), first), ("2".into(), second.clone())],
        };
        readers.write(b"one\n");
        assert_eq!(said(&first_read), "one\n");
        drop(first_read);
        readers.write(b"two\n");
        readers.write(b"three\n");
        assert_eq!(said(&second_read), "two\nthree\n");
        // Nobody reads, until somebody does again.
        drop(second_read);
        readers.write(b"unheard\n");
        let flags = OFlags::NONBLOCK.bits() as i32;
        let mut options = OpenOptions::new();
        let again = options.read(true).custom_flags(flags);
        let again = again.open(second.join("log")).unwrap();
        readers.write(b"four\n");
        assert_eq!(said(&again), "four\n");
    }
}
