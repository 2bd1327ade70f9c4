//! The small languages of the options' values.

use std::path::PathBuf;
use std::time::Duration;

use stratafs::chunk::Scope;
use stratafs::image::Reference;
use stratafs::limits::{MAX_INSTANCES, MAX_THREADS};
use stratafs::runner::{HostDir, Preopen, Volume};
use stratafs::vfs::Rights;
use stratafs::vfs::Share;

/// An environment variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Variable {
    pub(super) name: String,
    pub(super) value: String,
}

/// Reads a name that an image is to be given.
pub(super) fn tag(text: &str) -> Result<Reference, String> {
    match text.parse() {
        Ok(Reference::Digest(_)) => Err("a digest is no name that could be given".to_owned()),
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

/// Reads seconds, with a fraction if wanted.
pub(super) fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok();
    seconds
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .filter(|duration| !duration.is_zero())
        .ok_or_else(|| "expected a number of seconds above 0".to_owned())
}

/// Reads `K=V`.
pub(super) fn variable(text: &str) -> Result<Variable, String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok(Variable {
            name: name.to_owned(),
            value: value.to_owned(),
        }),
        _ => Err("expected NAME=VALUE".to_owned()),
    }
}

/// Reads `FS_DIR::GUEST_DIR[::ro]`.
pub(super) fn preopen(text: &str) -> Result<Preopen, String> {
    let (dir, guest, rights) = shown(text)?;
    Ok(Preopen {
        dir: dir.to_owned(),
        guest: guest.to_owned(),
        rights,
    })
}

/// Reads `HOST_DIR::GUEST_DIR[::ro]`.
pub(super) fn host_dir(text: &str) -> Result<HostDir, String> {
    let (dir, guest, rights) = shown(text)?;
    Ok(HostDir {
        dir: PathBuf::from(dir),
        guest: guest.to_owned(),
        rights,
    })
}

/// Reads `NAME::GUEST_DIR`.
pub(super) fn volume(text: &str) -> Result<Volume, String> {
    match text.split_once("::") {
        Some((name, guest)) if !name.is_empty() && !guest.is_empty() && !guest.contains("::") => {
            Ok(Volume {
                name: name.to_owned(),
                guest: guest.to_owned(),
            })
        }
        _ => Err("expected NAME::GUEST_DIR".to_owned()),
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
        let read = volume("cache::/var/cache").unwrap();
        assert_eq!(
            (read.name.as_str(), read.guest.as_str()),
            ("cache", "/var/cache")
        );
        for bad in ["", "a", "a::", "::/a", "a::/b::ro", "a::/b::"] {
            assert_eq!(
                volume(bad),
                Err("expected NAME::GUEST_DIR".to_owned()),
                "{bad}"
            );
        }
    }

    #[test]
    fn variables() {
        let variable = |text| variable(text).map(|v| (v.name, v.value));
        assert_eq!(variable("A=b=c"), Ok(("A".into(), "b=c".into())));
        assert_eq!(variable("A="), Ok(("A".into(), String::new())));
        assert!(variable("A").is_err());
        assert!(variable("=b").is_err());
    }
}
