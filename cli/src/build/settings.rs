//! The settings of a build, from what was typed and the environment.

use std::collections::BTreeMap;
use std::env;
use std::io::{self, IsTerminal};

use stratafs::budget::Budget;
use stratafs::meta::Time;
use stratafs::runner::{Network, RunnerConfig};

use super::variables::EPOCH;
use crate::build_args::{BuildArgs, ProgressKind, SecretFrom};
use crate::failure::Failure;
use crate::limits::MAX_SECRET_BYTES;
use crate::memory;
use crate::recipe_file;

/// The settings of a build.
pub(super) struct Settings {
    /// What messages call the recipe.
    pub(super) name: String,
    pub(super) build_args: BTreeMap<String, String>,
    pub(super) secrets: BTreeMap<String, Vec<u8>>,
    /// The time of everything that is made.
    pub(super) epoch: Time,
    pub(super) progress: Option<ProgressKind>,
    pub(super) no_cache: bool,
    pub(super) explain: bool,
    /// What all guests that run at a time may hold together.
    pub(super) budget: Option<Budget>,
    /// How guests are run.
    pub(super) config: RunnerConfig,
    /// The hosts that they reach, as typed.
    pub(super) doors: String,
}

impl Settings {
    pub(super) fn of(args: &BuildArgs, name: String) -> Result<Self, Failure> {
        let mut config = RunnerConfig::default();
        config.cache_dir = crate::resolve::usual_cache_dir();
        config.timeout = args.timeout;
        config.max_memory = args.max_memory;
        let mut doors = Vec::new();
        let mut network = Network::none();
        for door in &args.allow_net {
            let found = door.find().map_err(|error| {
                Failure::new(format_args!(
                    "--allow-net {}: the host is not found: {error}",
                    door.host
                ))
            })?;
            network.allow(&door.host, &found, door.port);
            doors.push(format!("{}:{}", door.host, door.port.unwrap_or(0)));
        }
        config.network = network;
        let usual = match io::stderr().is_terminal() {
            true => ProgressKind::Tty,
            false => ProgressKind::Plain,
        };
        let mut build_args = build_args(args)?;
        // An ARG of that name has what the environment says, as one of `docker buildx` has.
        if let (false, Some(epoch)) = (build_args.contains_key(EPOCH), host_value(EPOCH)?) {
            build_args.insert(EPOCH.to_owned(), epoch);
        }
        Ok(Self {
            name,
            secrets: secrets(&args.secrets)?,
            epoch: epoch(build_args.get(EPOCH))?,
            build_args,
            progress: (!args.quiet).then_some(match args.progress {
                ProgressKind::Auto => usual,
                typed => typed,
            }),
            no_cache: args.no_cache,
            explain: args.explain,
            budget: memory::half().map(Budget::new),
            config,
            doors: doors.join(" "),
        })
    }
}

fn build_args(args: &BuildArgs) -> Result<BTreeMap<String, String>, Failure> {
    let mut all = BTreeMap::new();
    for variable in &args.build_args {
        let value = match &variable.value {
            Some(value) => Some(value.clone()),
            None => host_value(&variable.name)?,
        };
        if let Some(value) = value {
            all.insert(variable.name.clone(), value);
        }
    }
    Ok(all)
}

/// Returns the host's value of a variable, if it has one.
fn host_value(name: &str) -> Result<Option<String>, Failure> {
    match env::var(name) {
        Ok(value) => Ok(Some(value)),
        Err(env::VarError::NotPresent) => Ok(None),
        Err(env::VarError::NotUnicode(_)) => Err(Failure::new(format_args!(
            "the host's value of {name} is not UTF-8"
        ))),
    }
}

/// Reads secrets; no message ever has their bytes.
fn secrets(given: &[SecretFrom]) -> Result<BTreeMap<String, Vec<u8>>, Failure> {
    let mut all = BTreeMap::new();
    for secret in given {
        let id = &secret.id;
        let bytes = match (&secret.file, &secret.variable) {
            (Some(file), _) => recipe_file::read_bounded(file, MAX_SECRET_BYTES)?,
            (None, variable) => {
                let name = variable.as_ref().unwrap_or(id);
                let value = host_value(name)?.ok_or_else(|| {
                    Failure::new(format_args!(
                        "--secret id={id}: the host has no variable {name}: write src=FILE or env=VARIABLE"
                    ))
                })?;
                value.into_bytes()
            }
        };
        all.insert(id.clone(), bytes);
    }
    Ok(all)
}

/// The time that everything gets: `SOURCE_DATE_EPOCH`, else 0.
fn epoch(given: Option<&String>) -> Result<Time, Failure> {
    let Some(text) = given.filter(|text| !text.is_empty()) else {
        return Ok(Time::EPOCH);
    };
    match text.parse::<u32>() {
        Ok(seconds) => Ok(Time::new(i64::from(seconds), 0)),
        Err(_) => Err(Failure::new(format_args!(
            "SOURCE_DATE_EPOCH={text}: it is a number of seconds since 1970"
        ))),
    }
}
