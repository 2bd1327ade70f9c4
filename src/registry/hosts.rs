//! Mirrors, as containerd's `hosts.toml` tells of them: `DIR/HOST[:PORT]/hosts.toml`, or
//! `DIR/_default/hosts.toml` for all others.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use toml::{Table, Value};
use ureq::http::header::HeaderName;

use super::error::RegistryErrorKind;
use super::url::Url;
use crate::limits::MAX_REGISTRY_CONFIG_BYTES;
use crate::name::show_path;

/// What a file says of one registry.
#[derive(Default)]
pub(super) struct Hosts {
    /// The registry itself, if it is told of.
    pub(super) server: Option<HostConfig>,
    /// Who is asked before it, in this order.
    pub(super) mirrors: Vec<HostConfig>,
}

/// One host.
pub(super) struct HostConfig {
    pub(super) url: Url,
    /// Further roots of trust.
    pub(super) roots: Vec<Vec<u8>>,
    /// Whether its certificate is taken as it is.
    pub(super) unverified: bool,
    pub(super) headers: Vec<(HeaderName, String)>,
    /// Whether it may say what a tag leads to.
    pub(super) resolves: bool,
    /// Whether it may be asked for blobs and manifests.
    pulls: bool,
}

/// Reads what the first of the directories says of a registry.
pub(super) fn read(dirs: &[PathBuf], host: &str) -> Result<Hosts, RegistryErrorKind> {
    for dir in dirs {
        // A colon may not be in a name everywhere.
        let other = host.replace(':', "_") + "_";
        for name in [host, &other, "_default"] {
            let file = dir.join(name).join("hosts.toml");
            let text = match read_text(&file) {
                Ok(text) => text,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(bad(&file, error)),
            };
            let table = text.parse::<Table>();
            let table = table.map_err(|error| bad(&file, error.message()))?;
            return hosts(&file, &table, name == "_default");
        }
    }
    Ok(Hosts::default())
}

fn bad(file: &Path, what: impl std::fmt::Display) -> RegistryErrorKind {
    RegistryErrorKind::Options(format!("{}: {what}", show_path(file)))
}

/// Makes the error of a value of another type than is expected.
fn wrong_type(file: &Path, what: &str, expected: &str, found: &Value) -> RegistryErrorKind {
    let found = found.type_str();
    bad(
        file,
        format_args!("{what}: expected {expected}, found {found}"),
    )
}

fn read_text(file: &Path) -> io::Result<String> {
    let mut text = String::new();
    let mut bounded = File::open(file)?.take(MAX_REGISTRY_CONFIG_BYTES + 1);
    bounded.read_to_string(&mut text)?;
    match text.len() as u64 > MAX_REGISTRY_CONFIG_BYTES {
        true => Err(io::Error::other("it is too large")),
        false => Ok(text),
    }
}

fn hosts(file: &Path, table: &Table, is_default: bool) -> Result<Hosts, RegistryErrorKind> {
    let mut hosts = Hosts::default();
    match table.get("server") {
        // Of all others, it is each its own.
        Some(Value::String(server)) if !is_default => {
            hosts.server = Some(one(file, server, table)?);
        }
        Some(Value::String(_)) | None => {}
        Some(other) => return Err(wrong_type(file, "`server`", "a text", other)),
    }
    let mirrors = match table.get("host") {
        Some(Value::Table(mirrors)) => mirrors,
        Some(other) => return Err(wrong_type(file, "`host`", "a table", other)),
        None => return Ok(hosts),
    };
    for (address, table) in mirrors {
        let Value::Table(table) = table else {
            let what = format!("`host.{address:?}`");
            return Err(wrong_type(file, &what, "a table", table));
        };
        hosts.mirrors.push(one(file, address, table)?);
    }
    hosts.mirrors.retain(|mirror| mirror.pulls);
    Ok(hosts)
}

fn one(file: &Path, address: &str, table: &Table) -> Result<HostConfig, RegistryErrorKind> {
    let full = match address.contains("://") {
        true => address.to_owned(),
        false => format!("https://{address}"),
    };
    let url = Url::parse(&full);
    let expected = "expected HOST[:PORT], or an address of http or https";
    let invalid = || {
        bad(
            file,
            format_args!("invalid address {address:?}: {expected}"),
        )
    };
    let mut url = url.ok_or_else(invalid)?;
    let flag = |key: &str| match table.get(key) {
        None => Ok(false),
        Some(Value::Boolean(set)) => Ok(*set),
        Some(other) => Err(wrong_type(
            file,
            &format!("`{key}`"),
            "true or false",
            other,
        )),
    };
    let path = url.path.trim_end_matches('/').to_owned();
    url.path = match flag("override_path")? || path.ends_with("/v2") {
        true => path,
        false => path + "/v2",
    };
    if table.contains_key("client") {
        let what = "`client`: certificates of clients are not known here";
        return Err(bad(file, what));
    }
    let dir = file.parent().unwrap_or(file);
    let roots = texts(file, table, "ca")?;
    let roots = roots.unwrap_or_default().into_iter().map(|name| {
        let path = dir.join(name);
        std::fs::read(&path).map_err(|error| bad(&path, error))
    });
    let can = texts(file, table, "capabilities")?;
    let can = |what: &str| {
        can.as_ref()
            .is_none_or(|can| can.iter().any(|can| can == what))
    };
    Ok(HostConfig {
        url,
        roots: roots.collect::<Result<_, _>>()?,
        unverified: flag("skip_verify")?,
        headers: headers(file, table)?,
        resolves: can("resolve"),
        pulls: can("pull"),
    })
}

/// Reads a text, or a list of texts.
fn texts(file: &Path, table: &Table, key: &str) -> Result<Option<Vec<String>>, RegistryErrorKind> {
    let expected = "a text or a list of texts";
    let wrong = |found: &Value| wrong_type(file, &format!("`{key}`"), expected, found);
    let text = |value: &Value| {
        let text = value.as_str().map(str::to_owned);
        text.ok_or_else(|| wrong(value))
    };
    match table.get(key) {
        None => Ok(None),
        Some(Value::Array(all)) => all.iter().map(text).collect::<Result<_, _>>().map(Some),
        Some(one) => text(one).map(|one| Some(vec![one])),
    }
}

fn headers(file: &Path, table: &Table) -> Result<Vec<(HeaderName, String)>, RegistryErrorKind> {
    let headers = match table.get("header") {
        None => return Ok(Vec::new()),
        Some(Value::Table(headers)) => headers,
        Some(other) => return Err(wrong_type(file, "`header`", "a table", other)),
    };
    let mut found = Vec::new();
    for key in headers.keys() {
        let name = HeaderName::from_bytes(key.as_bytes());
        let name =
            name.map_err(|_| bad(file, format_args!("{key:?} is not the name of a header")))?;
        let values = texts(file, headers, key)?.unwrap_or_default();
        found.extend(values.into_iter().map(|value| (name.clone(), value)));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str, host: &str) -> Result<Hosts, String> {
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().join("r.example.com:5000");
        std::fs::create_dir(&own).unwrap();
        std::fs::write(own.join("hosts.toml"), text).unwrap();
        std::fs::write(own.join("ca.pem"), "roots").unwrap();
        let read = read(&[dir.path().join("missing"), dir.path().to_owned()], host);
        read.map_err(|error| error.to_string())
    }

    #[test]
    fn mirrors_come_in_the_order_of_the_file() {
        let text = r#"
            server = "https://r.example.com:5001"
            [host."http://z.example.com:80"]
            capabilities = ["pull", "resolve"]
            [host."a.example.com/pre/fix"]
            capabilities = ["pull"]
            ca = "ca.pem"
            skip_verify = true
            [host."a.example.com/pre/fix".header]
            x-one = ["1", "2"]
            [host."https://b.example.com/whole"]
            override_path = true
            [host."https://push.example.com"]
            capabilities = ["push"]
        "#;
        let hosts = of(text, "r.example.com:5000").unwrap();
        let urls: Vec<String> = hosts
            .mirrors
            .iter()
            .map(|one| one.url.to_string())
            .collect();
        let want = [
            "http://z.example.com:80/v2",
            "https://a.example.com/pre/fix/v2",
            "https://b.example.com/whole",
        ];
        assert_eq!(urls, want);
        let server = hosts.server.unwrap().url.to_string();
        assert_eq!(server, "https://r.example.com:5001/v2");
        let [first, second, third] = hosts.mirrors.as_slice() else {
            panic!("three");
        };
        assert!(first.resolves && !second.resolves && third.resolves);
        assert!(second.unverified && !first.unverified);
        assert_eq!(second.roots, [b"roots".to_vec()]);
        assert_eq!(second.headers.len(), 2);
        assert!(of(text, "other.example.com").unwrap().mirrors.is_empty());
    }

    #[test]
    fn what_is_wrong_in_a_file_is_named() {
        for (text, want) in [
            ("server = 1", "`server`: expected a text, found integer"),
            ("host = 1", "`host`: expected a table, found integer"),
            ("[host.\"ftp://x\"]", "invalid address \"ftp://x\""),
            (
                "[host.\"https://x\"]\nca = 1",
                "`ca`: expected a text or a list of texts, found integer",
            ),
            ("[host.\"https://x\"]\nca = \"none.pem\"", "none.pem"),
            (
                "[host.\"https://x\"]\nskip_verify = 1",
                "`skip_verify`: expected true or false, found integer",
            ),
            ("[host.\"https://x\"]\nclient = \"c.pem\"", "`client`"),
            (
                "[host.\"https://x\"]\nheader = 1",
                "`header`: expected a table, found integer",
            ),
            ("[", "hosts.toml"),
        ] {
            let error = of(text, "r.example.com:5000").err().unwrap();
            assert!(error.contains(want), "{text}: {error}");
        }
    }
}
