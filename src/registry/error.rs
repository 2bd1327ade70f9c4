//! Why a registry did not do what it was asked for.

use std::fmt;
use std::io;

use crate::name::show;

/// Why something failed at a registry: which host, which name, which reason, in one line.
#[derive(Debug)]
pub struct RegistryError(Box<ErrorParts>);

#[derive(Debug)]
struct ErrorParts {
    /// Host and repository, or the host alone.
    name: String,
    /// What was to be done.
    action: String,
    kind: RegistryErrorKind,
}

impl RegistryError {
    pub(super) fn new(name: &str, action: impl fmt::Display, kind: RegistryErrorKind) -> Self {
        Self(Box::new(ErrorParts {
            name: name.to_owned(),
            action: action.to_string(),
            kind,
        }))
    }

    /// Returns the reason.
    #[must_use]
    pub fn kind(&self) -> &RegistryErrorKind {
        &self.0.kind
    }

    /// Returns the host and the repository, or the host alone.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Returns whether the registry says that there is no such thing.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self.0.kind, RegistryErrorKind::Status { status: 404, .. })
    }
}

impl fmt::Display for RegistryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ErrorParts { name, action, kind } = &*self.0;
        let line = format!("{name}: {action}: {kind}");
        f.write_str(&show(line.as_bytes()))
    }
}

impl std::error::Error for RegistryError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&self.0.kind)
    }
}

/// The reason of a [`RegistryError`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryErrorKind {
    /// The registry refused.
    #[error("{}", status_text(*status, message))]
    Status {
        /// The status of its answer.
        status: u16,
        /// What it says about it: the codes and messages of its answer, or the beginning
        /// of whatever it is.
        message: String,
    },
    /// Who may, has to say who it is, and that is not known or not enough.
    #[error("{}; {hint}", status_text(*status, message))]
    Denied {
        /// The status of its answer.
        status: u16,
        /// What it says about it.
        message: String,
        /// What to do.
        hint: String,
    },
    /// The registry has given as much as it gives for now.
    #[error(
        "{}; a quota is used up, trying again at once is of no use",
        status_text(429, message)
    )]
    Quota {
        /// What it says about it.
        message: String,
    },
    /// The registry asks for patience, for more than is had.
    #[error("{}; it asks to wait {seconds} s", status_text(*status, message))]
    Busy {
        /// The status of its answer.
        status: u16,
        /// What it says about it.
        message: String,
        /// How long it asks to wait.
        seconds: u64,
    },
    /// The registry could only be reached by plain HTTP, which is not allowed.
    #[error(
        "plain HTTP is used for this machine alone (localhost, 127.0.0.0/8, [::1]): --plain-http allows it"
    )]
    PlainHttp,
    /// The host cannot be reached, or the connection broke.
    #[error("{0}")]
    Connection(String),
    /// No byte came or went for so long.
    #[error("no progress for {seconds} s")]
    Stalled {
        /// How long.
        seconds: u64,
    },
    /// What came is not what was promised.
    #[error("expected {what} {promised}, found {found}")]
    Mismatch {
        /// What differs: the digest, or the size in bytes.
        what: &'static str,
        /// What was promised.
        promised: String,
        /// What came.
        found: String,
    },
    /// What came is too large.
    #[error("more than {limit} bytes in {what}")]
    TooLarge {
        /// What.
        what: &'static str,
        /// The bound, in bytes.
        limit: u64,
    },
    /// No signature of an image fits the key.
    #[error("no signature that fits the key: {0}")]
    Unsigned(String),
    /// The answer breaks the protocol.
    #[error("an answer that breaks the protocol: {0}")]
    Protocol(String),
    /// Credentials cannot be read or kept.
    #[error("credentials: {0}")]
    Credentials(String),
    /// The options do not make a client.
    #[error("{0}")]
    Options(String),
    /// The bytes could not be read or kept on this side.
    #[error("{0}")]
    Local(#[source] io::Error),
}

/// `404 Not Found: what the registry says`.
fn status_text(status: u16, message: &str) -> String {
    let name = ureq::http::StatusCode::from_u16(status).ok();
    let name = name.and_then(|status| status.canonical_reason());
    let mut out = status.to_string();
    if let Some(name) = name {
        out.push(' ');
        out.push_str(name);
    }
    if !message.is_empty() {
        out.push_str(": ");
        out.push_str(message);
    }
    out
}
