//! Keys, tokens and passwords.

use memchr::memmem;
use stratafs::chunk::{Content, ContentError};
use stratafs::name::{LayerPath, Name};

use crate::limits::{MAX_SCANNED_BYTES, MAX_SCANNED_FILE_BYTES};

/// What is said where there was too much to look at.
pub(super) const OVER: &str = "the image has more than is looked through for secrets: files after the first 1 GiB were not read";

/// Names of files that hold little else than secrets.
const FILES: [&[&[u8]]; 9] = [
    &[b"id_rsa"],
    &[b"id_dsa"],
    &[b"id_ecdsa"],
    &[b"id_ed25519"],
    &[b".netrc"],
    &[b".git-credentials"],
    &[b".pgpass"],
    &[b".aws", b"credentials"],
    &[b".docker", b"config.json"],
];

/// Looks into files, up to a bound for all of them.
pub(super) struct Scanner {
    left: u64,
    buf: Vec<u8>,
}

impl Scanner {
    pub(super) fn new() -> Self {
        Self {
            left: MAX_SCANNED_BYTES,
            buf: Vec::new(),
        }
    }

    /// Returns whether files were left out.
    pub(super) fn is_over(&self) -> bool {
        self.left == 0
    }

    /// Returns what kind of secret is in a file, by its name or its beginning.
    pub(super) fn scan(
        &mut self,
        path: &LayerPath,
        content: &Content,
    ) -> Result<Option<&'static str>, ContentError> {
        let len = content.size().min(MAX_SCANNED_FILE_BYTES).min(self.left);
        self.left -= len;
        let names: Vec<&[u8]> = path.names().iter().map(Name::as_bytes).collect();
        if content.size() > 0 && FILES.iter().any(|file| names.ends_with(file)) {
            return Ok(Some("a file that holds keys or passwords"));
        }
        self.buf.resize(usize::try_from(len).unwrap_or(0), 0);
        let read = content.read_at(&mut self.buf, 0)?;
        Ok(kind_of(self.buf.get(..read).unwrap_or_default()))
    }
}

/// Returns what kind of secret is in text.
pub(super) fn kind_of(text: &[u8]) -> Option<&'static str> {
    let begins = |key: &str| memmem::find(text, key.as_bytes());
    if let Some(at) = begins("-----BEGIN ") {
        let line = text.get(at..).unwrap_or_default();
        let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default();
        // A program that writes keys has the words, but not on a line of their own.
        if line.trim_ascii_end().ends_with(b"PRIVATE KEY-----") {
            return Some("a private key");
        }
    }
    let tokens = [
        ("AKIA", 16, "an access key of AWS"),
        ("ghp_", 36, "a token of GitHub"),
        ("github_pat_", 40, "a token of GitHub"),
        ("glpat-", 20, "a token of GitLab"),
        ("xoxb-", 20, "a token of Slack"),
        ("sk_live_", 24, "a key of Stripe"),
    ];
    let found = tokens
        .iter()
        .find(|(prefix, len, _)| has_token(text, prefix.as_bytes(), *len));
    found.map(|(_, _, what)| *what)
}

/// Returns whether `prefix` begins a word and so many letters and digits follow it.
fn has_token(text: &[u8], prefix: &[u8], len: usize) -> bool {
    let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    memmem::find_iter(text, prefix).any(|at| {
        let before = at.checked_sub(1).and_then(|before| text.get(before));
        let after = text.get(at + prefix.len()..).unwrap_or_default();
        let after: Vec<&u8> = after
            .iter()
            .take(len)
            .take_while(|byte| is_word(byte))
            .collect();
        !before.is_some_and(is_word)
            && after.len() == len
            && after.iter().any(|byte| byte.is_ascii_digit())
    })
}

/// Returns whether a variable is named as secrets are, and has a value.
pub(super) fn is_secret_variable(variable: &str) -> bool {
    let Some((name, value)) = variable.split_once('=') else {
        return false;
    };
    !value.is_empty() && is_secret_name(name)
}

/// Returns whether a variable is named as secrets are.
pub(super) fn is_secret_name(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    let ends = [
        "PASSWORD",
        "PASSWD",
        "SECRET",
        "TOKEN",
        "API_KEY",
        "ACCESS_KEY",
        "PRIVATE_KEY",
    ];
    ends.iter().any(|end| name.ends_with(end))
}

#[cfg(test)]
mod tests {
    use super::*;
    use stratafs::chunk::{ChunkPool, ContentBuilder};

    #[test]
    fn secrets_are_told_from_words_about_them() {
        for (text, want) in [
            ("-----BEGIN RSA PRIVATE KEY-----\nabc", true),
            ("write(\"-----BEGIN %s PRIVATE KEY-----\\n\")", false),
            ("-----BEGIN CERTIFICATE-----\n", false),
            ("key = AKIAABCDEFGHIJKLMN01", true),
            ("xAKIAABCDEFGHIJKLMN01", false),
            ("AKIASHORT1", false),
            ("ghp_0123456789abcdefghijABCDEFGHIJ012345", true),
            ("ghp_ is how tokens begin", false),
        ] {
            assert_eq!(kind_of(text.as_bytes()).is_some(), want, "{text}");
        }
        assert!(is_secret_variable("DB_PASSWORD=x") && is_secret_variable("token=1"));
        assert!(!is_secret_variable("DB_PASSWORD=") && !is_secret_variable("TOKENS=1"));
    }

    #[test]
    fn no_more_is_read_than_a_bound() {
        let pool = ChunkPool::new();
        let path = LayerPath::parse(b"f").unwrap();
        let key = b"-----BEGIN PRIVATE KEY-----\n";
        let mut text = vec![b'.'; usize::try_from(MAX_SCANNED_FILE_BYTES).unwrap()];
        text.extend(key);
        let mut scanner = Scanner::new();
        let mut scan = |text: &[u8]| {
            scanner
                .scan(&path, &ContentBuilder::of(&pool, text))
                .unwrap()
        };
        assert_eq!(scan(&text), None, "past what is read of one file");
        assert!(scan(key).is_some());
        scanner.left = 5;
        let content = ContentBuilder::of(&pool, key);
        assert_eq!(scanner.scan(&path, &content).unwrap(), None);
        assert!(scanner.is_over());
        assert_eq!(Scanner::new().left, MAX_SCANNED_BYTES);
    }
}
