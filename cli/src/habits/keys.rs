//! `-W`, `-S` and `-C` of `wasmtime run`: keys that have an answer here, and for
//! the others the name of the option that does it.

use std::time::Duration;

use stratafs::runner::Proposals;

use crate::parse;

/// One key of wasmtime's, with its value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Key {
    MaxMemory(u64),
    Fuel(u64),
    Timeout(Duration),
    TrapUnknownImports(bool),
    Proposal(String, bool),
    Network(bool),
    Tcp(bool),
    Udp(bool),
    Names(bool),
    Workdir(String),
    Cache(bool),
    /// What is so anyway.
    Nothing,
}

/// Keys that were given together, as `-W gc,fuel=1000`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Keys(pub(crate) Vec<Key>);

/// Reads `-W`.
pub(crate) fn wasm(text: &str) -> Result<Keys, String> {
    each(text, |key, value| {
        Ok(match key {
            "max-memory-size" => Key::MaxMemory(count(value)?),
            "fuel" => Key::Fuel(count(value)?),
            "timeout" => Key::Timeout(duration(value)?),
            "unknown-imports-trap" => Key::TrapUnknownImports(flag(value)?),
            "component-model" | "component-model-async" => only_on(value)?,
            "max-table-elements" | "max-instances" | "max-tables" | "max-memories" => {
                return Err("memories and tables are bounded together, with --max-memory".into());
            }
            "trap-on-grow-failure" => {
                return Err("--max-memory ends a guest that grows past it".into());
            }
            "unknown-imports-default" => return Err("see --trap-unknown-imports".into()),
            "epoch-interruption" => return Err("--timeout does what it is for".into()),
            "help" => return Err(help("wasm", &wasm_names())),
            name => {
                let on = flag(value)?;
                if !Proposals::default().set(name, on) {
                    return Err(help("wasm", &wasm_names()));
                }
                Key::Proposal(name.to_owned(), on)
            }
        })
    })
}

/// Reads `-S`.
pub(crate) fn wasi(text: &str) -> Result<Keys, String> {
    each(text, |key, value| {
        Ok(match key {
            "inherit-network" => Key::Network(flag(value)?),
            "tcp" => Key::Tcp(flag(value)?),
            "udp" => Key::Udp(flag(value)?),
            "allow-ip-name-lookup" => Key::Names(flag(value)?),
            "cwd" => Key::Workdir(parse::workdir(value.unwrap_or_default())?),
            "cli" | "common" | "preview0" | "preview2" | "p3" | "inherit-stdin"
            | "inherit-stdout" | "inherit-stderr" => only_on(value)?,
            "inherit-env" => {
                return Err(
                    "no environment is inherited: name each variable with --env NAME".into(),
                );
            }
            "listenfd" | "tcplisten" => {
                return Err(
                    "no socket is passed to a guest: components listen with --allow-net".into(),
                );
            }
            "max-random-size" | "max-resources" | "hostcall-fuel" | "max-component-handles" => {
                return Err("the bounds are fixed: leave it out".into());
            }
            "nn"
            | "nn-graph"
            | "http"
            | "http-outgoing-body-buffer-chunks"
            | "http-outgoing-body-chunk-size"
            | "max-http-fields-size"
            | "config"
            | "config-var"
            | "keyvalue"
            | "keyvalue-in-memory-data"
            | "tls"
            | "threads" => {
                return Err("guests have the interfaces of wasi:cli, and no others".into());
            }
            _ => return Err(help("wasi", WASI_NAMES)),
        })
    })
}

/// Reads `-C`.
pub(crate) fn codegen(text: &str) -> Result<Keys, String> {
    each(text, |key, value| {
        Ok(match key {
            "cache" => Key::Cache(flag(value)?),
            "parallel-compilation" => only_on(value)?,
            "cache-config" => return Err("--cache DIR says where compiled guests are kept".into()),
            _ => return Err(help("codegen", "cache=n (as --no-cache)")),
        })
    })
}

/// Refuses `-O`, `-D` and what else wasmtime has: nothing here answers to it.
pub(crate) fn none(_: &str) -> Result<Keys, String> {
    Err("guests are compiled as `wasmtime run` does without it: leave it out".to_owned())
}

const WASI_NAMES: &str = "inherit-network, tcp, udp, allow-ip-name-lookup, cwd (see --inherit-network, --allow-net, --workdir)";

fn wasm_names() -> String {
    let names: Vec<_> = Proposals::names().collect();
    format!(
        "max-memory-size (as --max-memory), fuel, timeout (as --timeout), unknown-imports-trap, {}",
        names.join(", ")
    )
}

fn help(option: &str, names: &str) -> String {
    format!("the keys of --{option} that there are: {names}")
}

fn each(
    text: &str,
    read: impl Fn(&str, Option<&str>) -> Result<Key, String>,
) -> Result<Keys, String> {
    let keys = text.split(',').map(|part| {
        let (key, value) = match part.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (part, None),
        };
        // wasmtime takes either spelling.
        let key = key.replace('_', "-");
        read(&key, value).map_err(|why| format!("{key}: {why}"))
    });
    keys.collect::<Result<_, _>>().map(Keys)
}

fn flag(value: Option<&str>) -> Result<bool, String> {
    match value {
        None | Some("y" | "yes" | "true") => Ok(true),
        Some("n" | "no" | "false") => Ok(false),
        Some(_) => Err("expected y or n".to_owned()),
    }
}

fn only_on(value: Option<&str>) -> Result<Key, String> {
    match flag(value)? {
        true => Ok(Key::Nothing),
        false => Err("it is always on".to_owned()),
    }
}

fn count(value: Option<&str>) -> Result<u64, String> {
    parse::size(&value.unwrap_or_default().replace('_', ""))
}

/// Reads `1`, `2s`, `100ms`, `5us`, `7ns`.
fn duration(value: Option<&str>) -> Result<Duration, String> {
    let text = value.unwrap_or_default();
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let digits = text.strip_suffix(unit).unwrap_or(text);
    let number = digits.parse::<u64>().ok();
    let made = match (number, unit) {
        (Some(number), "" | "s") => Some(Duration::from_secs(number)),
        (Some(number), "ms") => Some(Duration::from_millis(number)),
        (Some(number), "us" | "\u{3bc}s") => Some(Duration::from_micros(number)),
        (Some(number), "ns") => Some(Duration::from_nanos(number)),
        _ => None,
    };
    made.filter(|made| !made.is_zero())
        .ok_or_else(|| "expected a time above 0, such as 2s or 100ms".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_mean_what_wasmtime_says() {
        let read = wasm("gc,threads=n,max_memory_size=1_000,fuel=5,timeout=100ms").unwrap();
        let want = [
            Key::Proposal("gc".into(), true),
            Key::Proposal("threads".into(), false),
            Key::MaxMemory(1000),
            Key::Fuel(5),
            Key::Timeout(Duration::from_millis(100)),
        ];
        assert_eq!(read.0, want);
        assert_eq!(
            wasi("inherit-network,tcp=n").unwrap().0,
            [Key::Network(true), Key::Tcp(false)]
        );
        assert_eq!(
            wasi("cli,preview2=y").unwrap().0,
            [Key::Nothing, Key::Nothing]
        );
        assert_eq!(codegen("cache=n").unwrap().0, [Key::Cache(false)]);
    }

    #[test]
    fn other_keys_are_refused_with_what_there_is() {
        for (told, part) in [
            (wasm("telepathy"), "max-memory-size"),
            (wasm("gc=maybe"), "y or n"),
            (wasm("fuel"), "whole number"),
            (wasm("timeout=0"), "100ms"),
            (wasm("timeout=99999999999999999999s"), "100ms"),
            (wasm(""), "max-memory-size"),
            (wasi("inherit-env"), "--env NAME"),
            (wasi("preview2=n"), "always on"),
            (wasi("http"), "wasi:cli"),
            (wasi("cwd=rel"), "absolute"),
            (codegen("cache-config=x"), "--cache DIR"),
            (none("opt-level=2"), "leave it out"),
        ] {
            let told = told.unwrap_err();
            assert!(told.contains(part), "{told}");
        }
    }
}
