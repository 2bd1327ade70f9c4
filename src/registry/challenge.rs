//! `WWW-Authenticate`: how a registry wants to be told who asks (RFC 9110, 11.6.1).

/// What a registry asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// A name and a password.
    Basic,
    /// A token of the server at `realm`.
    Bearer {
        realm: String,
        service: Option<String>,
    },
}

/// Reads the headers of an answer. A token comes before a password; what is not known is
/// passed over.
pub(super) fn parse<'h>(headers: impl Iterator<Item = &'h str>) -> Option<Challenge> {
    let mut basic = None;
    for header in headers {
        for (scheme, params) in challenges(header) {
            let param = |name: &str| {
                let found = params.iter().find(|(key, _)| key == name);
                found.map(|(_, value)| value.clone())
            };
            if scheme.eq_ignore_ascii_case("bearer")
                && let Some(realm) = param("realm")
            {
                let service = param("service");
                return Some(Challenge::Bearer { realm, service });
            }
            if scheme.eq_ignore_ascii_case("basic") {
                basic = Some(Challenge::Basic);
            }
        }
    }
    basic
}

type Params = Vec<(String, String)>;

/// Takes a header apart: schemes, each with its parameters.
fn challenges(header: &str) -> Vec<(String, Params)> {
    let mut found: Vec<(String, Params)> = Vec::new();
    let mut rest = header;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let word_len = rest.find([' ', '\t', ',', '=']).unwrap_or(rest.len());
        let (word, after) = rest.split_at(word_len);
        if word.is_empty() {
            return found;
        }
        let Some(value) = after.trim_start().strip_prefix('=') else {
            found.push((word.to_owned(), Params::new()));
            rest = after;
            continue;
        };
        let (value, after) = value_of(value.trim_start());
        if let Some((_, params)) = found.last_mut() {
            params.push((word.to_ascii_lowercase(), value));
        }
        rest = after;
    }
}

/// Reads a value, quoted or not; returns it and what follows it.
fn value_of(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let len = text.find([' ', '\t', ',']).unwrap_or(text.len());
        let (value, after) = text.split_at(len);
        return (value.to_owned(), after);
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, quoted.get(at + 1..).unwrap_or_default()),
            '\\' => value.extend(chars.next().map(|(_, c)| c)),
            c => value.push(c),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read() {
        let bearer = |realm: &str, service: Option<&str>| {
            Some(Challenge::Bearer {
                realm: realm.into(),
                service: service.map(str::to_owned),
            })
        };
        for (headers, want) in [
            (
                &[r#"Bearer realm="https://a/t",service="r",scope="repository:x:pull,push""#][..],
                bearer("https://a/t", Some("r")),
            ),
            (
                &[r#"bearer realm=https://a/t"#],
                bearer("https://a/t", None),
            ),
            (&[r#"Basic realm="x""#], Some(Challenge::Basic)),
            (&["Basic"], Some(Challenge::Basic)),
            (
                &[r#"Basic realm="x", Bearer realm="https://a/t?a=1,2" , service = "q\"r""#],
                bearer("https://a/t?a=1,2", Some("q\"r")),
            ),
            (
                &[r#"Basic realm="x""#, r#"Bearer realm="b""#],
                bearer("b", None),
            ),
            (&["Negotiate", "NTLM abc=="], None),
            (&[""], None),
            (&["Bearer"], None),
            (&[r#"Bearer realm="open"#], bearer("open", None)),
            (&["=,=\"", "Bearer ==="], None),
        ] {
            assert_eq!(parse(headers.iter().copied()), want, "{headers:?}");
        }
    }
}
