//! `RUN --mount=type=...,key=value`.

use super::flags::{Flag, yes_or_no};
use super::problem::{Position, Problem};
use crate::parse;

/// A mount, as written; its words may hold variables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MountLine {
    pub(crate) at: Position,
    pub(crate) kind: MountKind,
    pub(crate) target: Option<String>,
    pub(crate) read_only: bool,
}

/// What is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum MountKind {
    /// A directory of a stage, an image or the context; what is written there goes.
    Bind {
        from: Option<String>,
        source: Option<String>,
    },
    /// A directory that stays for the next build.
    Cache {
        id: Option<String>,
        from: Option<String>,
        source: Option<String>,
        /// Whether one `RUN` at a time has it.
        locked: bool,
    },
    /// An empty directory.
    Tmpfs {
        /// Bytes that it may hold.
        size: Option<u64>,
    },
    /// A file, or a variable, that leaves no trace.
    Secret {
        id: Option<String>,
        variable: Option<String>,
        required: bool,
    },
}

/// Words by key.
struct MountKeys<'a> {
    at: Position,
    keys: Vec<(String, Option<&'a str>)>,
}

impl<'a> MountKeys<'a> {
    /// Takes the value of a key that has one of these names.
    fn take(&mut self, names: &[&str]) -> Result<Option<&'a str>, Problem> {
        let mut found = None;
        while let Some(at) = self
            .keys
            .iter()
            .position(|(key, _)| names.contains(&key.as_str()))
        {
            let (key, value) = self.keys.remove(at);
            if found.is_some() {
                return Err(self.twice(&key));
            }
            let Some(value) = value.filter(|value| !value.is_empty()) else {
                return Err(Problem::new(
                    self.at,
                    format_args!("--mount: {key} has no value: write {key}=VALUE"),
                ));
            };
            found = Some(value);
        }
        Ok(found)
    }

    fn text(&mut self, names: &[&str]) -> Result<Option<String>, Problem> {
        Ok(self.take(names)?.map(str::to_owned))
    }

    /// Takes a key that is on or off.
    fn on(&mut self, names: &[&str]) -> Result<Option<bool>, Problem> {
        let named = |key: &String| names.contains(&key.as_str());
        let Some(at) = self.keys.iter().position(|(key, _)| named(key)) else {
            return Ok(None);
        };
        let (key, value) = self.keys.remove(at);
        if self.keys.iter().any(|(key, _)| named(key)) {
            return Err(self.twice(&key));
        }
        let value = value.unwrap_or("true");
        match yes_or_no(value) {
            Some(on) => Ok(Some(on)),
            None => Err(self.refuse(format_args!("{key}={value}: write {key} or {key}=false"))),
        }
    }

    fn twice(&self, key: &str) -> Problem {
        self.refuse(format_args!("{key} is given twice: leave one out"))
    }

    fn refuse(&self, what: impl std::fmt::Display) -> Problem {
        Problem::new(self.at, format_args!("--mount: {what}"))
    }
}

/// Reads a mount.
pub(super) fn read(flag: &Flag) -> Result<MountLine, Problem> {
    let value = flag.value()?;
    let keys = value.split(',').map(|word| match word.split_once('=') {
        Some((key, value)) => (key.to_ascii_lowercase(), Some(value)),
        None => (word.to_ascii_lowercase(), None),
    });
    let mut keys = MountKeys {
        at: flag.at,
        keys: keys.collect(),
    };
    let kind = keys.take(&["type"])?.unwrap_or("bind").to_ascii_lowercase();
    let kind = kind.as_str();
    let target = keys.text(&["target", "dst", "destination"])?;
    let read_only = match (
        keys.on(&["readonly", "ro"])?,
        keys.on(&["readwrite", "rw"])?,
    ) {
        (Some(_), Some(_)) => return Err(keys.refuse("ro and rw together: leave one out")),
        (read_only, None) => read_only,
        (None, Some(written)) => Some(!written),
    };
    let read_kind = match kind {
        "bind" => bind(&mut keys)?,
        "cache" => cache(&mut keys)?,
        "tmpfs" => tmpfs(&mut keys)?,
        "secret" => secret(&mut keys)?,
        "ssh" => {
            return Err(
                keys.refuse("type=ssh: a guest has no agent to ask: mount a key as type=secret")
            );
        }
        other => {
            return Err(keys.refuse(format_args!(
                "type={other}: write type=bind, type=cache, type=tmpfs or type=secret"
            )));
        }
    };
    if target.is_none() && !matches!(read_kind, MountKind::Secret { .. }) {
        return Err(keys.refuse("it has no target: write target=/DIR"));
    }
    if let Some((key, _)) = keys.keys.first() {
        let why = match key.as_str() {
            "mode" | "uid" | "gid" => "WASI shows a guest no modes and no owners",
            _ => "unknown or not to be had for that type",
        };
        return Err(keys.refuse(format_args!("type={kind},{key}: {why}: leave it out")));
    }
    if read_only == Some(false) && matches!(read_kind, MountKind::Secret { .. }) {
        return Err(keys.refuse("type=secret: a secret is read alone: leave rw out"));
    }
    let read_only = read_only.unwrap_or(matches!(read_kind, MountKind::Bind { .. }));
    Ok(MountLine {
        at: flag.at,
        kind: read_kind,
        target,
        read_only,
    })
}

fn bind(keys: &mut MountKeys<'_>) -> Result<MountKind, Problem> {
    Ok(MountKind::Bind {
        from: from(keys)?,
        source: keys.text(&["source", "src"])?,
    })
}

/// Reads what something is mounted of: which stages are needed is known before any variable is.
fn from(keys: &mut MountKeys<'_>) -> Result<Option<String>, Problem> {
    let from = keys.text(&["from"])?;
    match from.as_deref().is_some_and(|from| from.contains('$')) {
        true => Err(keys.refuse(
            "from takes no variables: name a stage that begins with FROM and an ARG before the first FROM",
        )),
        false => Ok(from),
    }
}

fn tmpfs(keys: &mut MountKeys<'_>) -> Result<MountKind, Problem> {
    let Some(text) = keys.take(&["size"])? else {
        return Ok(MountKind::Tmpfs { size: None });
    };
    // `64m`, `64mb` and `64MiB` are one.
    let lower = text.to_ascii_lowercase();
    let bare = lower.strip_suffix('b').unwrap_or(&lower);
    match parse::size(bare.strip_suffix('i').unwrap_or(bare)) {
        Ok(size) => Ok(MountKind::Tmpfs { size: Some(size) }),
        Err(why) => Err(keys.refuse(format_args!("size={text}: {why}"))),
    }
}

fn cache(keys: &mut MountKeys<'_>) -> Result<MountKind, Problem> {
    let sharing = keys.take(&["sharing"])?.map(str::to_ascii_lowercase);
    let locked = match sharing.as_deref() {
        None | Some("shared" | "private") => false,
        Some("locked") => true,
        Some(other) => {
            return Err(keys.refuse(format_args!(
                "sharing={other}: write sharing=locked for a cache that one RUN at a time has, or leave it out"
            )));
        }
    };
    Ok(MountKind::Cache {
        id: keys.text(&["id"])?,
        from: from(keys)?,
        source: keys.text(&["source", "src"])?,
        locked,
    })
}

fn secret(keys: &mut MountKeys<'_>) -> Result<MountKind, Problem> {
    Ok(MountKind::Secret {
        id: keys.text(&["id", "source", "src"])?,
        variable: keys.text(&["env"])?,
        required: keys.on(&["required"])?.unwrap_or(false),
    })
}
