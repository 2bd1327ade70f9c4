//! Credential helpers: programs that keep what others log in with, in Docker's protocol.

use std::io::{self, Read, Write};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::options::Credential;
use crate::limits::MAX_HELPER_BYTES;

/// What helpers say where they know nothing.
const NOT_FOUND: &str = "credentials not found";

/// The name that says that the secret is an identity token.
const TOKEN_USER: &str = "<token>";

/// A program `docker-credential-NAME`.
pub(super) struct Helper(String);

impl Helper {
    /// Takes a name out of a file. It is a word, and no way to another program.
    pub(super) fn new(name: &str) -> Result<Self, String> {
        let known = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        match !name.is_empty() && name.bytes().all(known) {
            true => Ok(Self(format!("docker-credential-{name}"))),
            false => Err(format!("{name:?} is not the name of a credential helper")),
        }
    }

    /// Asks for the credentials for a server.
    pub(super) fn get(&self, server: &str) -> Result<Option<Credential>, String> {
        let (succeeded, out) = self.run("get", server)?;
        let text = String::from_utf8_lossy(&out);
        if !succeeded {
            return match text.contains(NOT_FOUND) {
                true => Ok(None),
                false => Err(format!("{} get: {}", self.0, text.trim())),
            };
        }
        let value: Option<Value> = serde_json::from_slice(&out).ok();
        let text = |key: &str| {
            let text = value.as_ref().and_then(|value| value.get(key)?.as_str());
            text.map(str::to_owned)
        };
        let (Some(user), Some(secret)) = (text("Username"), text("Secret")) else {
            return Err(format!("{} get: no Username and Secret came", self.0));
        };
        Ok(match user.as_str() {
            _ if secret.is_empty() => None,
            TOKEN_USER => Some(Credential::Identity(secret)),
            _ => Some(Credential::Basic {
                user,
                password: secret,
            }),
        })
    }

    pub(super) fn store(&self, server: &str, user: &str, secret: &str) -> Result<(), String> {
        let request = json!({"ServerURL": server, "Username": user, "Secret": secret});
        self.done("store", &request.to_string())
    }

    pub(super) fn erase(&self, server: &str) -> Result<(), String> {
        self.done("erase", server)
    }

    fn done(&self, action: &str, input: &str) -> Result<(), String> {
        let (succeeded, out) = self.run(action, input)?;
        let text = String::from_utf8_lossy(&out);
        match succeeded || text.contains(NOT_FOUND) {
            true => Ok(()),
            false => Err(format!("{} {action}: {}", self.0, text.trim())),
        }
    }

    /// Runs it, and returns whether it succeeded and what it said.
    fn run(&self, action: &str, input: &str) -> Result<(bool, Vec<u8>), String> {
        let run = || -> io::Result<(bool, Vec<u8>)> {
            let mut child = Command::new(&self.0)
                .arg(action)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()?;
            if let Some(mut stdin) = child.stdin.take() {
                // One that does not read ends by itself.
                drop(stdin.write_all(input.as_bytes()));
            }
            let mut out = Vec::new();
            if let Some(stdout) = child.stdout.take() {
                stdout.take(MAX_HELPER_BYTES).read_to_end(&mut out)?;
            }
            Ok((child.wait()?.success(), out))
        };
        run().map_err(|error| format!("{} cannot be run: {error}", self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_helper_is_a_word() {
        for name in ["", "a/b", "../x", "a b", "x;y", "$(x)"] {
            assert!(Helper::new(name).is_err(), "{name}");
        }
        let helper = Helper::new("no-such-helper_1.2").unwrap();
        let error = helper.get("h").unwrap_err();
        assert!(error.contains("docker-credential-no-such-helper_1.2 cannot be run"));
    }
}
