//! `RUN --mount=type=...,key=value`.

use super::flags::Flag;
use super::problem::{Position, Problem};

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
    Tmpfs,
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
    keys: Vec<(&'a str, Option<&'a str>)>,
}

impl<'a> MountKeys<'a> {
    /// Takes the value of a key that goes by one of these names.
    fn take(&mut self, names: &[&str]) -> Result<Option<&'a str>, Problem> {
        let mut found = None;
        while let Some(at) = self.keys.iter().position(|(key, _)| names.contains(key)) {
            let (key, value) = self.keys.remove(at);
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
        let Some(at) = self.keys.iter().position(|(key, _)| names.contains(key)) else {
            return Ok(None);
        };
        let (key, value) = self.keys.remove(at);
        match value {
            None | Some("true" | "1") => Ok(Some(true)),
            Some("false" | "0") => Ok(Some(false)),
            Some(other) => Err(Problem::new(
                self.at,
                format_args!("--mount: {key}={other}: write {key} or {key}=false"),
            )),
        }
    }

    fn refuse(&self, what: impl std::fmt::Display) -> Problem {
        Problem::new(self.at, format_args!("--mount: {what}"))
    }
}

/// Reads a mount.
pub(super) fn read(flag: &Flag) -> Result<MountLine, Problem> {
    let value = flag.value()?;
    let keys = value.split(',').map(|word| match word.split_once('=') {
        Some((key, value)) => (key, Some(value)),
        None => (word, None),
    });
    let mut keys = MountKeys {
        at: flag.at,
        keys: keys.collect(),
    };
    let kind = keys.take(&["type"])?.unwrap_or("bind");
    let target = keys.text(&["target", "dst", "destination"])?;
    let read_only = match (
        keys.on(&["readonly", "ro"])?,
        keys.on(&["readwrite", "rw"])?,
    ) {
        (Some(read_only), _) => Some(read_only),
        (None, written) => written.map(|written| !written),
    };
    let read_kind = match kind {
        "bind" => bind(&mut keys)?,
        "cache" => cache(&mut keys)?,
        "tmpfs" => MountKind::Tmpfs,
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
        return Err(keys.refuse(format_args!(
            "{key}: unknown or not to be had for type={kind}: leave it away"
        )));
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
        from: keys.text(&["from"])?,
        source: keys.text(&["source", "src"])?,
    })
}

fn cache(keys: &mut MountKeys<'_>) -> Result<MountKind, Problem> {
    let locked = match keys.take(&["sharing"])? {
        None | Some("shared" | "private") => false,
        Some("locked") => true,
        Some(other) => {
            return Err(keys.refuse(format_args!(
                "sharing={other}: write sharing=locked for a cache that one RUN at a time has, or leave it away"
            )));
        }
    };
    Ok(MountKind::Cache {
        id: keys.text(&["id"])?,
        from: keys.text(&["from"])?,
        source: keys.text(&["source", "src"])?,
        locked,
    })
}

fn secret(keys: &mut MountKeys<'_>) -> Result<MountKind, Problem> {
    Ok(MountKind::Secret {
        id: keys.text(&["id"])?,
        variable: keys.text(&["env"])?,
        required: keys.on(&["required"])?.unwrap_or(false),
    })
}
