//! What an image is built for.

use std::fmt;
use std::str::FromStr;

/// The platform of an image: `OS/ARCHITECTURE[/VARIANT]` in Go's words, such
/// as `linux/amd64`, `linux/arm/v7` or `wasip1/wasm`.
///
/// stratafs takes any: what runs is WebAssembly, and an image brings files.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Platform {
    os: Box<str>,
    architecture: Box<str>,
    variant: Option<Box<str>>,
}

impl Platform {
    /// Puts a platform together. Without a variant any is meant.
    #[must_use]
    pub fn new(os: &str, architecture: &str, variant: Option<&str>) -> Self {
        Self {
            os: os.into(),
            architecture: architecture.into(),
            variant: variant.filter(|name| !name.is_empty()).map(Box::from),
        }
    }

    /// Returns what images for this machine say: Linux, whatever the system,
    /// since that is what images are built for.
    #[must_use]
    pub fn host() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "x86" => "386",
            "powerpc64" => "ppc64le",
            "loongarch64" => "loong64",
            other => other,
        };
        Self::new("linux", architecture, None)
    }

    /// Returns the operating system.
    #[must_use]
    pub fn os(&self) -> &str {
        &self.os
    }

    /// Returns the architecture.
    #[must_use]
    pub fn architecture(&self) -> &str {
        &self.architecture
    }

    /// Returns the variant of the architecture.
    #[must_use]
    pub fn variant(&self) -> Option<&str> {
        self.variant.as_deref()
    }

    /// Returns whether it is one of those that stand for WebAssembly: `wasm` or
    /// `wasm32`, whatever the system (`wasi`, `wasip1`, `wasip2`, `js`).
    #[must_use]
    pub fn is_wasm(&self) -> bool {
        matches!(&*self.architecture, "wasm" | "wasm32" | "wasm64")
    }

    /// Returns whether an image for `other` is what was asked for here.
    #[must_use]
    pub fn takes(&self, other: &Self) -> bool {
        self.os == other.os
            && self.architecture == other.architecture
            && (self.variant.is_none() || self.variant == other.variant)
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

/// The text is no platform.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "invalid platform {0:?}: expected OS/ARCHITECTURE[/VARIANT], such as linux/amd64 or wasip1/wasm"
)]
pub struct ParsePlatformError(String);

impl FromStr for Platform {
    type Err = ParsePlatformError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts: Vec<&str> = text.split('/').collect();
        let word = |part: &&str| {
            !part.is_empty()
                && part
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        };
        match parts.as_slice() {
            _ if !parts.iter().all(word) => Err(ParsePlatformError(text.to_owned())),
            [os, architecture] => Ok(Self::new(os, architecture, None)),
            [os, architecture, variant] => Ok(Self::new(os, architecture, Some(variant))),
            _ => Err(ParsePlatformError(text.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_are_two_or_three_words() {
        for text in ["linux/amd64", "linux/arm/v7", "wasip1/wasm"] {
            assert_eq!(text.parse::<Platform>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "linux",
            "linux/",
            "/amd64",
            "a/b/c/d",
            "linux/amd 64",
            "a//b",
        ] {
            let error = text.parse::<Platform>().unwrap_err();
            assert!(
                error
                    .to_string()
                    .starts_with(&format!("invalid platform {text:?}"))
            );
        }
    }

    #[test]
    fn no_variant_takes_any() {
        let parse = |text: &str| text.parse::<Platform>().unwrap();
        assert!(parse("linux/arm").takes(&parse("linux/arm/v7")));
        assert!(!parse("linux/arm/v6").takes(&parse("linux/arm/v7")));
        assert!(!parse("linux/arm/v6").takes(&parse("linux/arm")));
        assert!(!parse("wasi/wasm").takes(&parse("wasip1/wasm")));
        assert!(parse("wasip1/wasm").is_wasm());
        assert!(!Platform::host().is_wasm());
    }
}
