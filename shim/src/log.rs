//! What the process that stays has to say: lines on its standard error, which containerd logs.

use std::fmt;
use std::io::Write;
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

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

/// Says something about a container, or about the process if it is empty, if there is still
/// somebody who reads it.
pub fn log_line(level: LogLevel, container: &str, text: fmt::Arguments<'_>) {
    let (format, most) = CHOICE.get().copied().unwrap_or_default();
    if level <= most {
        let line = line(format, level, container, text);
        let _unheard = std::io::stderr().write_all(line.as_bytes());
    }
}

fn line(format: LogFormat, level: LogLevel, container: &str, text: fmt::Arguments<'_>) -> String {
    let level = match level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
    };
    // A line is one line, whatever a guest has to do with it.
    let text = text.to_string().replace('\n', " | ");
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
    }
}
