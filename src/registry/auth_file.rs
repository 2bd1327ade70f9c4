//! What to log in with, as Docker's `config.json` and podman's `auth.json` keep it.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::error::{RegistryError, RegistryErrorKind};
use super::helper::Helper;
use super::name::plain_host;
use super::options::{Credential, Credentials};
use crate::limits::MAX_REGISTRY_CONFIG_BYTES;
use crate::name::show_path;

/// The key that Docker's own registry has in such files.
const DOCKER_KEY: &str = "https://index.docker.io/v1/";

/// A file with credentials: those in `auths`, and those that the programs `credHelpers` and
/// `credsStore` keep.
#[derive(Clone, Debug)]
pub struct AuthFile {
    path: PathBuf,
}

impl AuthFile {
    /// Names a file. It need not be there.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Returns the file's path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Saves credentials for `host`: with the helper that the file names for it, or else in
    /// the file, which only its owner may read. The rest of the file stays. The file is
    /// replaced in one step.
    ///
    /// # Errors
    ///
    /// [`RegistryErrorKind::Credentials`].
    pub fn store(&self, host: &str, user: &str, password: &str) -> Result<(), RegistryError> {
        let host = plain_host(host);
        let failed = |what| error(host, what);
        let mut file = self.read().map_err(failed)?;
        let key = key_of(host);
        if let Some(helper) = helper_of(&file, host).map_err(failed)? {
            helper.store(&key, user, password).map_err(failed)?;
            return Ok(());
        }
        let auths = file.entry("auths").or_insert_with(|| json!({}));
        let Some(auths) = auths.as_object_mut() else {
            let what = format!("{}: `auths` is not an object", show_path(&self.path));
            return Err(failed(what));
        };
        let auth = STANDARD.encode(format!("{user}:{password}"));
        auths.insert(key, json!({"auth": auth}));
        self.write(&file).map_err(failed)
    }

    /// Removes the credentials for `host`. Returns whether there were any.
    ///
    /// # Errors
    ///
    /// [`RegistryErrorKind::Credentials`].
    pub fn erase(&self, host: &str) -> Result<bool, RegistryError> {
        let host = plain_host(host);
        let failed = |what| error(host, what);
        let mut file = self.read().map_err(failed)?;
        let mut had = false;
        if let Some(helper) = helper_of(&file, host).map_err(failed)? {
            let key = key_of(host);
            had = helper.get(&key).map_err(failed)?.is_some();
            helper.erase(&key).map_err(failed)?;
        }
        if let Some(auths) = file.get_mut("auths").and_then(Value::as_object_mut) {
            let before = auths.len();
            auths.retain(|key, _| matched(key, host, "") != Some(0));
            if auths.len() < before {
                had = true;
                self.write(&file).map_err(failed)?;
            }
        }
        Ok(had)
    }

    fn read(&self) -> Result<Map<String, Value>, String> {
        let named = |what: String| format!("{}: {what}", show_path(&self.path));
        let mut text = String::new();
        match File::open(&self.path) {
            Ok(file) => {
                let mut bounded = file.take(MAX_REGISTRY_CONFIG_BYTES + 1);
                let read = bounded.read_to_string(&mut text);
                read.map_err(|error| named(error.to_string()))?;
                if text.len() as u64 > MAX_REGISTRY_CONFIG_BYTES {
                    let what = format!("more than {MAX_REGISTRY_CONFIG_BYTES} bytes");
                    return Err(named(what));
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(named(error.to_string())),
        }
        if text.trim().is_empty() {
            return Ok(Map::new());
        }
        // Where in the file, and never what is there.
        serde_json::from_str(&text).map_err(|error| {
            named(format!(
                "it is not a JSON object: line {}, column {}",
                error.line(),
                error.column()
            ))
        })
    }

    /// Replaces the file in one step. Only its owner may read it.
    fn write(&self, file: &Map<String, Value>) -> Result<(), String> {
        let write = || -> io::Result<()> {
            let path = self
                .path
                .canonicalize()
                .unwrap_or_else(|_| self.path.clone());
            let dir = path.parent().unwrap_or(Path::new("."));
            fs::create_dir_all(dir)?;
            // A temporary file is its owner's alone from the first byte on.
            let mut new = tempfile::NamedTempFile::new_in(dir)?;
            let text = serde_json::to_string_pretty(file).map_err(io::Error::other)?;
            writeln!(new, "{text}")?;
            new.as_file().sync_all()?;
            new.persist(&path).map_err(|error| error.error)?;
            Ok(())
        };
        write().map_err(|error| format!("{}: {error}", show_path(&self.path)))
    }
}

impl Credentials for AuthFile {
    fn find(&self, host: &str, repository: &str) -> Result<Option<Credential>, RegistryError> {
        let host = plain_host(host);
        let failed = |what| error(host, what);
        let file = self.read().map_err(failed)?;
        if let Some(helper) = helper_of(&file, host).map_err(failed)?
            && let Some(found) = helper.get(&key_of(host)).map_err(failed)?
        {
            return Ok(Some(found));
        }
        let auths = file.get("auths").and_then(Value::as_object);
        let fitting = auths.into_iter().flatten().filter_map(|(key, value)| {
            let rank = matched(key, host, repository)?;
            Some((rank, value))
        });
        // The longest key says most.
        let Some((_, value)) = fitting.max_by_key(|(rank, _)| *rank) else {
            return Ok(None);
        };
        let of_auth = |what: &str| format!("{}: {host}: {what}", show_path(&self.path));
        credential(value).map_err(|what| failed(of_auth(what)))
    }
}

/// Looks in each file, and returns what the first one that has credentials says.
impl Credentials for Vec<AuthFile> {
    fn find(&self, host: &str, repository: &str) -> Result<Option<Credential>, RegistryError> {
        for file in self {
            if let Some(found) = file.find(host, repository)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

fn error(host: &str, what: String) -> RegistryError {
    RegistryError::new(host, "cannot log in", RegistryErrorKind::Credentials(what))
}

/// Returns the key of a registry in such a file.
fn key_of(host: &str) -> String {
    match plain_host(host) {
        "docker.io" => DOCKER_KEY.to_owned(),
        host => host.to_owned(),
    }
}

/// Returns how much a key says of a repository, counted in words of its path; `None` if it is
/// about another. Podman's keys may have the beginning of a path.
fn matched(key: &str, host: &str, repository: &str) -> Option<usize> {
    let bare = key.strip_prefix("https://").or(key.strip_prefix("http://"));
    let (old, bare) = (bare.is_some(), bare.unwrap_or(key));
    let (key_host, path) = bare.split_once('/').unwrap_or((bare, ""));
    if plain_host(key_host) != host {
        return None;
    }
    let path = path.trim_end_matches('/');
    if path.is_empty() || old && matches!(path, "v1" | "v2") {
        return Some(0);
    }
    let rest = repository.strip_prefix(path)?;
    (rest.is_empty() || rest.starts_with('/')).then(|| path.split('/').count())
}

/// Returns the program that keeps the credentials for a host.
fn helper_of(file: &Map<String, Value>, host: &str) -> Result<Option<Helper>, String> {
    let helpers = file.get("credHelpers").and_then(Value::as_object);
    let own = helpers.into_iter().flatten();
    let own = own
        .filter(|(key, _)| matched(key, host, "") == Some(0))
        .find_map(|(_, name)| name.as_str());
    let name = own.or_else(|| file.get("credsStore")?.as_str());
    let name = name.filter(|name| !name.is_empty());
    name.map(Helper::new).transpose()
}

/// Reads what stands under a key.
fn credential(value: &Value) -> Result<Option<Credential>, &'static str> {
    let text = |key: &str| {
        let text = value.get(key).and_then(Value::as_str);
        text.filter(|text| !text.is_empty()).map(str::to_owned)
    };
    if let Some(token) = text("identitytoken") {
        return Ok(Some(Credential::Identity(token)));
    }
    if let Some(token) = text("registrytoken") {
        return Ok(Some(Credential::Bearer(token)));
    }
    if let Some(auth) = text("auth") {
        let decoded = STANDARD.decode(auth.trim());
        let decoded = decoded.ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let decoded = decoded.ok_or("`auth` is not text in base64")?;
        let both = decoded
            .split_once(':')
            .ok_or("`auth` has no `:`: expected NAME:PASSWORD in base64")?;
        let (user, password) = (both.0, both.1.trim_end_matches('\0'));
        return Ok(Some(Credential::Basic {
            user: user.to_owned(),
            password: password.to_owned(),
        }));
    }
    Ok(text("username")
        .zip(text("password"))
        .map(|(user, password)| Credential::Basic { user, password }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn basic(user: &str, password: &str) -> Option<Credential> {
        Some(Credential::Basic {
            user: user.into(),
            password: password.into(),
        })
    }

    fn file(text: &str) -> (tempfile::TempDir, AuthFile) {
        let dir = tempfile::tempdir().unwrap();
        let file = AuthFile::new(dir.path().join("config.json"));
        fs::write(file.path(), text).unwrap();
        (dir, file)
    }

    #[test]
    fn each_form_is_read() {
        let auth = STANDARD.encode("u:p:q");
        let text = format!(
            r#"{{"auths": {{
                "a.b": {{"auth": "{auth}"}},
                "https://index.docker.io/v1/": {{"auth": "{auth}"}},
                "https://c.d:5000/v2/": {{"username": "u", "password": "p"}},
                "e.f": {{"auth": "{auth}", "identitytoken": "it"}},
                "g.h": {{"registrytoken": "rt"}},
                "i.j": {{}},
                "k.l/team": {{"username": "team", "password": "p"}},
                "k.l/team/app": {{"username": "app", "password": "p"}},
                "k.l": {{"username": "all", "password": "p"}}
            }}}}"#
        );
        let (_dir, file) = file(&text);
        let find = |host: &str, repository: &str| file.find(host, repository).unwrap();
        assert_eq!(find("a.b", "x"), basic("u", "p:q"));
        assert_eq!(find("docker.io", "library/x"), basic("u", "p:q"));
        assert_eq!(find("registry-1.docker.io", "x"), basic("u", "p:q"));
        assert_eq!(find("c.d:5000", "x"), basic("u", "p"));
        assert_eq!(find("c.d", "x"), None);
        assert_eq!(find("e.f", "x"), Some(Credential::Identity("it".into())));
        assert_eq!(find("g.h", "x"), Some(Credential::Bearer("rt".into())));
        assert_eq!(find("i.j", "x"), None);
        assert_eq!(find("k.l", "team/app"), basic("app", "p"));
        assert_eq!(find("k.l", "team/app2"), basic("team", "p"));
        assert_eq!(find("k.l", "teams"), basic("all", "p"));
        assert_eq!(find("b", "x"), None);
        let none = AuthFile::new("/nowhere/config.json");
        assert_eq!(none.find("a.b", "x").unwrap(), None);
        let several = vec![none, file.clone()];
        assert_eq!(several.find("a.b", "x").unwrap(), basic("u", "p:q"));
    }

    #[test]
    fn a_file_that_is_damaged_is_named_and_not_told() {
        for text in [
            "{\"auths\": {\"a.b\": {\"auth\": \"c2VjcmV0",
            "[\"secret\"]",
        ] {
            let (_dir, file) = file(text);
            let error = file.find("a.b", "x").unwrap_err().to_string();
            assert!(error.contains("config.json"), "{error}");
            assert!(
                !error.contains("c2Vj") && !error.contains("secret"),
                "{error}"
            );
        }
        let (_dir, file) = file(r#"{"auths": {"a.b": {"auth": "!"}}, "credsStore": "../x"}"#);
        let error = file.find("a.b", "x").unwrap_err().to_string();
        assert!(
            error.contains("\"../x\" is not the name of a credential helper"),
            "{error}"
        );
    }

    #[test]
    fn a_file_has_a_bound() {
        let most = usize::try_from(MAX_REGISTRY_CONFIG_BYTES).unwrap();
        let (_dir, fits) = file(&format!("{}{{}}", " ".repeat(most - 2)));
        assert_eq!(fits.find("a.b", "x").unwrap(), None);
        let (_dir, over) = file(&format!("{}{{}}", " ".repeat(most - 1)));
        let error = over.find("a.b", "x").unwrap_err().to_string();
        assert!(error.contains("more than 4194304 bytes"), "{error}");
    }

    #[test]
    fn what_is_kept_is_found_and_the_rest_stays() {
        let (_dir, file) = file(r#"{"psFormat": "x", "auths": {"a.b": {"auth": "dTpw"}}}"#);
        file.store("c.d:1", "me", "secret").unwrap();
        assert_eq!(file.find("c.d:1", "x").unwrap(), basic("me", "secret"));
        assert_eq!(file.find("a.b", "x").unwrap(), basic("u", "p"));
        file.store("docker.io", "me", "hub").unwrap();
        let text = fs::read_to_string(file.path()).unwrap();
        assert!(
            text.contains("psFormat") && text.contains(DOCKER_KEY),
            "{text}"
        );
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = fs::metadata(file.path()).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        assert!(file.erase("docker.io").unwrap());
        assert!(!file.erase("docker.io").unwrap());
        assert_eq!(file.find("docker.io", "x").unwrap(), None);
        assert_eq!(file.find("a.b", "x").unwrap(), basic("u", "p"));
    }
}
