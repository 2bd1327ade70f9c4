//! The names that images have, and those that people know them by.

/// Where a name without a host is from, as Docker has it.
const DOCKER: &str = "docker.io";

/// Keeps those of `all` that `wish` names best: by a name that is the same, else
/// by one that is the same once what people leave out is filled in
/// (`docker.io/library/x:2` for `x:2`), else by one that ends in it
/// (`localhost/x:2`, `quay.io/a/x:2`).
pub(super) fn named<T>(all: Vec<T>, wish: &str, names: impl Fn(&T) -> &[String]) -> Vec<T> {
    let best = |one: &T| names(one).iter().filter_map(|name| rank(wish, name)).min();
    let least = all.iter().filter_map(best).min();
    let keep = |one: &T| least.is_some() && best(one) == least;
    all.into_iter().filter(keep).collect()
}

/// How far a name is from what was wished for; `None` if it is another one.
fn rank(wish: &str, name: &str) -> Option<u8> {
    if wish == name {
        return Some(0);
    }
    let (wish, name) = (FullName::of(wish)?, FullName::of(name)?);
    if wish.tag != name.tag || wish.digest.is_some() && wish.digest != name.digest {
        return None;
    }
    let same_host = wish.host() == name.host();
    if same_host && wish.path() == name.path() {
        return Some(1);
    }
    let short = name.path.strip_suffix(wish.path)?;
    (wish.host.is_none() && (short.is_empty() || short.ends_with('/'))).then_some(2)
}

/// A name in its parts.
struct FullName<'n> {
    host: Option<&'n str>,
    path: &'n str,
    tag: &'n str,
    digest: Option<&'n str>,
}

impl<'n> FullName<'n> {
    fn of(name: &'n str) -> Option<Self> {
        let (name, digest) = match name.split_once('@') {
            Some((name, digest)) => (name, Some(digest)),
            None => (name, None),
        };
        let (host, rest) = match name.split_once('/') {
            Some((host, rest)) if host.contains(['.', ':']) || host == "localhost" => {
                (Some(host), rest)
            }
            _ => (None, name),
        };
        let (path, tag) = rest.rsplit_once(':').unwrap_or((rest, "latest"));
        let named = !path.is_empty() && !tag.is_empty();
        named.then_some(Self {
            host,
            path,
            tag,
            digest,
        })
    }

    fn host(&self) -> &str {
        match self.host {
            None | Some("index.docker.io" | "registry-1.docker.io") => DOCKER,
            Some(host) => host,
        }
    }

    /// The path, with what Docker puts before names of one part.
    fn path(&self) -> String {
        match self.host() == DOCKER && !self.path.contains('/') {
            true => format!("library/{}", self.path),
            false => self.path.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_people_know_lead_to_those_of_tools() {
        for (wish, name, told) in [
            ("x:2", "x:2", Some(0)),
            ("2", "2", Some(0)),
            ("x:2", "docker.io/library/x:2", Some(1)),
            ("docker.io/library/x:2", "x:2", Some(1)),
            ("index.docker.io/x:2", "docker.io/library/x:2", Some(1)),
            ("x", "docker.io/library/x:latest", Some(1)),
            ("a/x:2", "docker.io/a/x:2", Some(1)),
            ("x:2", "docker.io/library/x:2@sha256:00", Some(1)),
            ("x:2", "localhost/x:2", Some(2)),
            ("a/x:2", "quay.io/b/a/x:2", Some(2)),
            ("quay.io/x:2", "localhost/x:2", None),
            ("x:2", "docker.io/library/x:3", None),
            ("x:2", "docker.io/library/yx:2", None),
            ("x", "docker.io/library/x:2", None),
            ("x:2@sha256:11", "docker.io/library/x:2@sha256:00", None),
            ("", "docker.io/library/x:latest", None),
            (":2", "docker.io/library/x:2", None),
        ] {
            assert_eq!(rank(wish, name), told, "{wish} for {name}");
        }
    }

    #[test]
    fn the_nearest_name_wins() {
        let all = || vec![["x:2".to_owned()], ["docker.io/library/x:2".to_owned()]];
        assert_eq!(named(all(), "x:2", |names| names), [["x:2"]]);
        let far = vec![["localhost/x:2".to_owned()], ["quay.io/x:2".to_owned()]];
        assert_eq!(named(far, "x:2", |names| names).len(), 2);
        assert!(named(all(), "y:2", |names| names).is_empty());
    }
}
