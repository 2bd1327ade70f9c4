//! Addresses, as far as registries use them: `http` and `https`, a host, a path, a query.

use super::name::is_loopback;

/// An absolute address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Url {
    /// Whether it is `https`.
    pub(super) secure: bool,
    /// Host and port, as they were written.
    pub(super) host: String,
    /// Path and query, with the slash in front.
    pub(super) path: String,
}

impl Url {
    pub(super) fn new(secure: bool, host: &str, path: &str) -> Self {
        Self {
            secure,
            host: host.to_owned(),
            path: path.to_owned(),
        }
    }

    /// Reads an absolute address. `None` for another scheme, one with a user, one without a
    /// host, and one with bytes that do not belong into a line.
    pub(super) fn parse(text: &str) -> Option<Self> {
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return None;
        }
        let (scheme, rest) = text.split_once("://")?;
        let secure = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        let rest = rest.split('#').next().unwrap_or_default();
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (host, path) = rest.split_at(end);
        super::name::check_host(host).ok()?;
        let path = match path.starts_with('/') {
            true => path.to_owned(),
            false => format!("/{path}"),
        };
        Some(Self {
            secure,
            host: host.to_ascii_lowercase(),
            path,
        })
    }

    /// Reads what a header `Location` says, seen from here. A registry behind a proxy that
    /// ends TLS may take itself for one without: its own address stays what it was.
    pub(super) fn join(&self, location: &str) -> Option<Self> {
        if location.contains("://") {
            let mut other = Self::parse(location)?;
            other.secure |= self.secure && other.bare_host() == self.bare_host();
            if other.secure == self.secure && other.bare_host() == self.bare_host() {
                other.host.clone_from(&self.host);
            }
            return Some(other);
        }
        if !location.bytes().all(|byte| byte.is_ascii_graphic()) {
            return None;
        }
        let scheme = if self.secure { "https" } else { "http" };
        if let Some(rest) = location.strip_prefix("//") {
            return Self::parse(&format!("{scheme}://{rest}"));
        }
        let path = match location.starts_with('/') {
            true => location.to_owned(),
            false => {
                let own = self.path.split('?').next().unwrap_or_default();
                let dir = own.rsplit_once('/').map_or("", |(dir, _)| dir);
                format!("{dir}/{location}")
            }
        };
        Some(Self {
            path,
            ..self.clone()
        })
    }

    /// The host without the port that goes with the scheme anyway.
    fn bare_host(&self) -> &str {
        let host = self.host.as_str();
        let usual = host.strip_suffix(":443").or(host.strip_suffix(":80"));
        usual.unwrap_or(host)
    }

    /// Returns whether a request to `other` goes to whom one to this goes.
    pub(super) fn is_same_host(&self, other: &Self) -> bool {
        self.secure == other.secure && self.host.eq_ignore_ascii_case(&other.host)
    }

    /// Returns whether the way to it is this machine's own.
    pub(super) fn is_loopback(&self) -> bool {
        is_loopback(&self.host)
    }

    /// Adds to the query.
    pub(super) fn with_query(&self, pairs: &[(&str, &str)]) -> Self {
        let mut path = self.path.clone();
        for (name, value) in pairs {
            path.push(if path.contains('?') { '&' } else { '?' });
            path.push_str(name);
            path.push('=');
            path.push_str(&encoded(value));
        }
        Self {
            path,
            ..self.clone()
        }
    }
}

impl std::fmt::Display for Url {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = if self.secure { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.host, self.path)
    }
}

/// Escapes a value of a query or a form.
pub(super) fn encoded(value: &str) -> String {
    use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
    const KEPT: &AsciiSet = &NON_ALPHANUMERIC
        .remove(b'-')
        .remove(b'.')
        .remove(b'_')
        .remove(b'~');
    utf8_percent_encode(value, KEPT).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_are_seen_from_where_they_were_said() {
        let here = Url::parse("https://r.example.com/v2/a/blobs/uploads/?x=1").unwrap();
        for (location, want) in [
            ("/v2/b", "https://r.example.com/v2/b"),
            ("u?s=1", "https://r.example.com/v2/a/blobs/uploads/u?s=1"),
            ("//o.example.com/p", "https://o.example.com/p"),
            ("https://o.example.com:1/p?q", "https://o.example.com:1/p?q"),
            ("http://o.example.com/p", "http://o.example.com/p"),
            // The registry behind a proxy.
            ("http://r.example.com/v2/b", "https://r.example.com/v2/b"),
            ("http://r.example.com:80/v2/b", "https://r.example.com/v2/b"),
            (
                "https://r.example.com:443/v2/b",
                "https://r.example.com/v2/b",
            ),
        ] {
            assert_eq!(here.join(location).unwrap().to_string(), want);
        }
        for location in [
            "ftp://a/b",
            "https://u:p@a/b",
            "https:///b",
            "/a b",
            "/a\r\nX: y",
        ] {
            assert_eq!(here.join(location), None, "{location:?}");
        }
    }

    #[test]
    fn values_are_escaped() {
        let url = Url::parse("https://a.b").unwrap();
        let url = url.with_query(&[("s", "repository:a/b:pull,push"), ("t", "&=")]);
        let want = "https://a.b/?s=repository%3Aa%2Fb%3Apull%2Cpush&t=%26%3D";
        assert_eq!(url.to_string(), want);
    }
}
