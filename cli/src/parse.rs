//! The small languages of the options' values.

use std::net::{IpAddr, Ipv6Addr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use stratafs::chunk::Scope;
use stratafs::image::Reference;
use stratafs::limits::{MAX_INSTANCES, MAX_THREADS};
use stratafs::runner::{GuestDir, HostDir, Volume};
use stratafs::vfs::{Rights, Rule, Share};

use super::limits::{MAX_IN_FLIGHT, MAX_SESSIONS};

/// An environment variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Variable {
    pub(super) name: String,
    /// `None`: the host's value.
    pub(super) value: Option<String>,
}

/// A host that guests may reach, and at which port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Door {
    pub(super) host: String,
    pub(super) port: Option<u16>,
}

impl Door {
    /// Looks the host up.
    pub(super) fn find(&self) -> std::io::Result<Vec<IpAddr>> {
        let found = (self.host.as_str(), 0).to_socket_addrs()?;
        Ok(found.map(|address| address.ip()).collect())
    }
}

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) host: String,
    pub(super) port: u16,
}

/// What is kept when files would go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum OnEnd {
    /// Base and changes, as images whose tags begin with this.
    Commit(Reference),
    /// What was changed, as layers in this directory.
    Diff(PathBuf),
}

/// What `--volume` and `-v` show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum VolumeSource {
    /// A volume, empty or from an image of the store.
    Volume(Volume, Option<Reference>),
    /// A directory of the host, as Docker's `-v /a:/b`.
    Dir(HostDir),
}

/// What a volume is kept as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Saved {
    pub(super) name: String,
    pub(super) tag: Reference,
}

/// Reads a name that an image is to be given.
pub(super) fn tag(text: &str) -> Result<Reference, String> {
    match text.parse() {
        Ok(Reference::Digest(_)) => {
            Err("a digest cannot be given to an image: expected NAME[:TAG]".to_owned())
        }
        Ok(tag) => Ok(tag),
        Err(error) => Err(error.to_string()),
    }
}

/// Reads `123`, `64K`, `16M`, `2G`: powers of 1024.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let (digits, unit) = match text.char_indices().last() {
        Some((at, 'k' | 'K')) => (text.get(..at), 1 << 10),
        Some((at, 'm' | 'M')) => (text.get(..at), 1 << 20),
        Some((at, 'g' | 'G')) => (text.get(..at), 1 << 30),
        _ => (Some(text), 1_u64),
    };
    let digits = digits.unwrap_or_default();
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(
            "expected a whole number, alone or with K, M or G for powers of 1024, such as 512M"
                .to_owned(),
        );
    }
    let number = digits.parse::<u64>().ok();
    number
        .and_then(|number| number.checked_mul(unit))
        .ok_or_else(|| format!("too large: at most {}", u64::MAX))
}

/// The same for what fits in 32 bits.
pub(super) fn small_size(text: &str) -> Result<u32, String> {
    u32::try_from(size(text)?).map_err(|_| format!("too large: at most {}", u32::MAX))
}

/// Reads among whom equal blocks are held once.
pub(super) fn share(text: &str) -> Result<Share, String> {
    match text {
        "none" => Ok(Share::None),
        "own" => Ok(Share::Own),
        "run" => Ok(Share::Scope(Scope::new())),
        _ => Err("expected none, own or run".to_owned()),
    }
}

/// Reads how many instances run.
pub(super) fn instances(text: &str) -> Result<u32, String> {
    number_up_to(MAX_INSTANCES, text)
}

/// Reads how many run at a time.
pub(super) fn threads(text: &str) -> Result<u32, String> {
    number_up_to(MAX_THREADS, text)
}

fn number_up_to(most: u32, text: &str) -> Result<u32, String> {
    let number = text.parse::<u32>().ok();
    number
        .filter(|number| (1..=most).contains(number))
        .ok_or_else(|| format!("expected a number from 1 to {most}"))
}

/// Reads how many requests are answered at a time.
pub(super) fn in_flight(text: &str) -> Result<u32, String> {
    number_up_to(MAX_IN_FLIGHT, text)
}

/// Reads how many sessions there may be.
pub(super) fn sessions(text: &str) -> Result<u32, String> {
    number_up_to(MAX_SESSIONS, text)
}

/// Reads where to listen: `HOST:PORT`, or `:PORT` for all of this machine's addresses.
pub(super) fn address(text: &str) -> Result<Address, String> {
    let parts = text.rsplit_once(':');
    let read = parts.and_then(|(host, port)| {
        let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        let host = match (host, bare) {
            ("", _) => "0.0.0.0",
            (_, Some(bare)) => bare.parse::<Ipv6Addr>().ok().map(|_| bare)?,
            (host, None) => host,
        };
        let is_name = bare.is_some() || !host.contains(':');
        let port = port.parse().ok().filter(|_| is_name)?;
        let host = host.to_owned();
        Some(Address { host, port })
    });
    read.ok_or_else(|| "expected HOST:PORT, such as 127.0.0.1:8080".to_owned())
}

/// Reads what is kept when files would go.
pub(super) fn on_end(text: &str) -> Result<OnEnd, String> {
    match text.split_once(':') {
        Some(("diff", dir)) if !dir.is_empty() => Ok(OnEnd::Diff(dir.into())),
        Some(("commit", name)) if !name.is_empty() => tag(name).map(OnEnd::Commit),
        _ => Err("expected commit:REF or diff:DIR".to_owned()),
    }
}

/// Reads how many of each thing are measured.
pub(super) fn most(text: &str) -> Result<u64, String> {
    let number = text.parse::<u64>().ok();
    number
        .filter(|number| *number > 0)
        .ok_or_else(|| "expected a whole number above 0".to_owned())
}

/// A time: `90s`, `30m`, `24h`, `7d`; a number alone is seconds.
pub(super) fn span(text: &str) -> Result<Duration, String> {
    let units = [("s", 1), ("m", 60), ("h", 3600), ("d", 24 * 3600)];
    let unit = units.iter().find_map(|(unit, seconds)| {
        let number = text.strip_suffix(unit)?;
        Some((number, *seconds))
    });
    let (number, seconds) = unit.unwrap_or((text, 1));
    let number = number.parse::<u64>().ok();
    let whole = number.and_then(|number| number.checked_mul(seconds));
    let whole = whole.ok_or("expected a time, as 90s, 30m, 24h or 7d")?;
    Ok(Duration::from_secs(whole))
}

/// Reads seconds, with a fraction if wanted.
pub(super) fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok();
    seconds
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .filter(|duration| !duration.is_zero())
        .ok_or_else(|| "expected a number of seconds above 0".to_owned())
}

/// Reads `K=V`, or `K` for the host's value.
pub(super) fn variable(text: &str) -> Result<Variable, String> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (text, None),
    };
    if name.is_empty() {
        return Err("expected NAME=VALUE, or NAME for the value that the host has".to_owned());
    }
    Ok(Variable {
        name: name.to_owned(),
        value,
    })
}

/// Reads `HOST[:PORT]`; an IPv6 address with a port stands in brackets.
pub(super) fn door(text: &str) -> Result<Door, String> {
    let (host, port) = match text.parse::<Ipv6Addr>() {
        Ok(_) => (text, None),
        Err(_) => match text.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let port = port.map(str::parse::<u16>).transpose().ok();
    let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
    match (bare.unwrap_or(host), port) {
        (host, Some(port)) if !host.is_empty() && host.chars().all(known) && port != Some(0) => {
            Ok(Door {
                host: host.to_owned(),
                port,
            })
        }
        _ => Err("expected HOST or HOST:PORT, such as db.internal:5432 or [::1]:80".to_owned()),
    }
}

/// Reads the directory that a guest starts in.
pub(super) fn workdir(text: &str) -> Result<String, String> {
    match text.starts_with('/') {
        true => Ok(text.to_owned()),
        false => Err("expected an absolute path".to_owned()),
    }
}

/// Reads `FS_DIR::GUEST_DIR[::ro]`.
pub(super) fn preopen(text: &str) -> Result<GuestDir, String> {
    let (dir, guest, rights) = shown(text)?;
    Ok(GuestDir {
        dir: dir.to_owned(),
        guest: guest.to_owned(),
        rights,
    })
}

/// Reads `MODE:PATH`.
pub(super) fn rule(text: &str) -> Result<(String, Rule), String> {
    let (mode, path) = text
        .split_once(':')
        .ok_or("expected MODE:PATH, such as ro:/etc")?;
    let rule = match mode {
        "ro" => Rule::ReadOnly,
        "append" => Rule::AppendOnly,
        "hidden" => Rule::Hidden,
        "free" => Rule::Free,
        _ => {
            return Err(format!(
                "unknown mode {mode:?}: expected ro, append, hidden or free"
            ));
        }
    };
    match path.starts_with('/') {
        true => Ok((path.to_owned(), rule)),
        false => Err(format!("path {path:?}: expected an absolute path")),
    }
}

/// Reads `HOST_DIR::GUEST_DIR[::ro]`, or `DIR` for the same name on both sides.
pub(super) fn host_dir(text: &str) -> Result<HostDir, String> {
    if !text.is_empty() && !text.contains("::") {
        return Ok(HostDir {
            dir: PathBuf::from(text),
            guest: text.to_owned(),
            rights: Rights::ReadWrite,
        });
    }
    let (dir, guest, rights) = shown(text)?;
    Ok(HostDir {
        dir: PathBuf::from(dir),
        guest: guest.to_owned(),
        rights,
    })
}

/// Reads `NAME[=REF]::GUEST_DIR`, or what Docker's `-v` has: `NAME:GUEST_DIR` and
/// `HOST_DIR:GUEST_DIR[:ro]`.
pub(super) fn volume(text: &str) -> Result<VolumeSource, String> {
    let Some((name, guest)) = text.split_once("::") else {
        return docker_volume(text);
    };
    let (name, from) = match name.split_once('=') {
        Some((name, from)) => (name, Some(from)),
        None => (name, None),
    };
    if name.is_empty() || guest.is_empty() || guest.contains("::") {
        return Err("expected NAME::GUEST_DIR or NAME=REF::GUEST_DIR".to_owned());
    }
    let from = from.map(|from| from.parse().map_err(|error| format!("{error}")));
    let volume = Volume {
        name: name.to_owned(),
        guest: guest.to_owned(),
    };
    Ok(VolumeSource::Volume(volume, from.transpose()?))
}

fn docker_volume(text: &str) -> Result<VolumeSource, String> {
    let expected = || {
        "expected NAME::GUEST_DIR for a volume, or as Docker's -v NAME:GUEST_DIR and \
         HOST_DIR:GUEST_DIR[:ro], whose HOST_DIR has a slash"
            .to_owned()
    };
    let mut parts = text.split(':');
    let (Some(from), Some(guest)) = (parts.next(), parts.next()) else {
        return Err(expected());
    };
    let rights = match (parts.next(), parts.next()) {
        (None | Some("rw"), None) => Rights::ReadWrite,
        (Some("ro"), None) => Rights::ReadOnly,
        _ => return Err(expected()),
    };
    if from.is_empty() || !guest.starts_with('/') {
        return Err(expected());
    }
    let guest = guest.to_owned();
    if from.contains('/') || from.starts_with('.') {
        let dir = PathBuf::from(from);
        return Ok(VolumeSource::Dir(HostDir { dir, guest, rights }));
    }
    match rights {
        Rights::ReadWrite => {
            let name = from.to_owned();
            Ok(VolumeSource::Volume(Volume { name, guest }, None))
        }
        Rights::ReadOnly => Err("a volume is writable: leave `:ro` out".to_owned()),
    }
}

/// Reads `NAME=REF`.
pub(super) fn saved(text: &str) -> Result<Saved, String> {
    match text.split_once('=') {
        Some((name, reference)) if !name.is_empty() => Ok(Saved {
            name: name.to_owned(),
            tag: tag(reference)?,
        }),
        _ => Err("expected NAME=REF".to_owned()),
    }
}

fn shown(text: &str) -> Result<(&str, &str, Rights), String> {
    let mut parts = text.split("::");
    let (dir, guest) = (
        parts.next().unwrap_or_default(),
        parts.next().unwrap_or_default(),
    );
    let rights = match (parts.next(), parts.next()) {
        (None, _) => Rights::ReadWrite,
        (Some("ro"), None) => Rights::ReadOnly,
        _ => return Err("expected DIR::GUEST_DIR or DIR::GUEST_DIR::ro".to_owned()),
    };
    if dir.is_empty() || guest.is_empty() {
        return Err("expected DIR::GUEST_DIR or DIR::GUEST_DIR::ro".to_owned());
    }
    Ok((dir, guest, rights))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(size("0"), Ok(0));
        assert_eq!(size("123"), Ok(123));
        assert_eq!(size("64K"), Ok(65_536));
        assert_eq!(size("1m"), Ok(1 << 20));
        assert_eq!(size("2G"), Ok(2 << 30));
        for bad in ["", "K", "-1", "+1", "1.5M", "1KB", "1 K", "0x10", "1\u{fc}"] {
            assert!(size(bad).is_err(), "{bad}");
        }
        assert_eq!(
            size("99999999999G"),
            Err("too large: at most 18446744073709551615".to_owned())
        );
        assert_eq!(
            small_size("4G"),
            Err("too large: at most 4294967295".to_owned())
        );
        assert_eq!(small_size("4K"), Ok(4096));
    }

    #[test]
    fn counts() {
        assert_eq!(
            (instances("1"), instances("1000000")),
            (Ok(1), Ok(1_000_000))
        );
        assert_eq!((threads("1"), threads("1024")), (Ok(1), Ok(1024)));
        for bad in ["", "0", "-1", "x", "1K", "1000001", "4294967296"] {
            assert!(instances(bad).is_err() && threads(bad).is_err(), "{bad}");
        }
        let told = threads("1025").unwrap_err();
        assert_eq!(told, "expected a number from 1 to 1024");
    }

    #[test]
    fn times() {
        assert_eq!(span("7d"), Ok(Duration::from_secs(7 * 24 * 3600)));
        assert_eq!(span("30m"), span("1800"));
        assert!(
            ["", "h", "1.5h", "-1s", "9999999999999999d", "1w"]
                .iter()
                .all(|text| span(text).is_err())
        );
        assert_eq!(seconds("1.5"), Ok(Duration::from_millis(1500)));
        for bad in ["", "0", "-1", "nan", "inf", "1s", "1e300"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn directories() {
        let read_only = preopen("/a b::/c::ro").unwrap();
        assert_eq!(read_only.rights, Rights::ReadOnly);
        assert_eq!(
            (read_only.dir.as_str(), read_only.guest.as_str()),
            ("/a b", "/c")
        );
        assert_eq!(host_dir("C:\\x::/c").unwrap().dir, PathBuf::from("C:\\x"));
        assert_eq!(host_dir("a/b").unwrap().guest, "a/b");
        for bad in ["", "/a::", "::/a", "/a::/b::rw"] {
            assert!(host_dir(bad).is_err(), "{bad}");
        }
        for bad in [
            "",
            "/a",
            "/a::",
            "::/a",
            "/a::/b::rw",
            "/a::/b::",
            "/a::/b::ro::ro",
        ] {
            assert!(preopen(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn volumes() {
        let of = |name: &str, guest: &str| Volume {
            name: name.into(),
            guest: guest.into(),
        };
        let cache = VolumeSource::Volume(of("cache", "/var/cache"), None);
        assert_eq!(volume("cache::/var/cache"), Ok(cache.clone()));
        assert_eq!(volume("cache:/var/cache"), Ok(cache));
        let from = "x:2".parse().unwrap();
        assert_eq!(
            volume("a=x:2::/b"),
            Ok(VolumeSource::Volume(of("a", "/b"), Some(from)))
        );
        let dir = |dir: &str, rights| {
            Ok(VolumeSource::Dir(HostDir {
                dir: dir.into(),
                guest: "/b".into(),
                rights,
            }))
        };
        assert_eq!(volume("/a:/b"), dir("/a", Rights::ReadWrite));
        assert_eq!(volume("./a:/b:ro"), dir("./a", Rights::ReadOnly));
        for bad in [
            "",
            "a",
            "a::",
            "::/a",
            "a::/b::ro",
            "a::/b::",
            "a:b",
            "/a:/b:z",
            "a:/b:ro",
        ] {
            assert!(volume(bad).is_err(), "{bad}");
        }
        for bad in ["a=::/b", "=x::/b", "a=x y::/b"] {
            assert!(volume(bad).is_err(), "{bad}");
        }
        assert_eq!(saved("a=x:2").unwrap().name, "a");
        for bad in ["", "a", "=x", "a=", "a=blake3:00"] {
            assert!(saved(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn hosts() {
        let read = |text: &str| door(text).map(|door| (door.host, door.port));
        assert_eq!(read("a.example:80"), Ok(("a.example".into(), Some(80))));
        assert_eq!(read("a.example"), Ok(("a.example".into(), None)));
        assert_eq!(read("::1"), Ok(("::1".into(), None)));
        assert_eq!(read("[::1]:80"), Ok(("::1".into(), Some(80))));
        for bad in [
            "", ":80", "a:0", "a:x", "a:65536", "a b", "http://a", "a/b", "[]:1",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn variables() {
        let variable = |text| variable(text).map(|v| (v.name, v.value));
        assert_eq!(variable("A=b=c"), Ok(("A".into(), Some("b=c".into()))));
        assert_eq!(variable("A="), Ok(("A".into(), Some(String::new()))));
        assert_eq!(variable("A"), Ok(("A".into(), None)));
        assert!(variable("=b").is_err() && variable("").is_err());
    }
}
