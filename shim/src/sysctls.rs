//! What a spec has the kernel set for a network: `net.*` of `linux.sysctl`.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

/// Where the kernel has settings; those of networks are of the namespace of whoever opens them.
const DIR: &str = "/proc/sys";

/// What the kernel has set for one network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkSettings(Vec<Setting>);

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Setting {
    /// As the spec has it.
    name: String,
    /// Below [`DIR`].
    path: String,
    value: String,
}

impl NetworkSettings {
    /// Takes those of a spec.
    ///
    /// # Errors
    /// One of them is no setting of a network.
    pub fn of(all: BTreeMap<String, String>) -> Result<Self, String> {
        let settings = all.into_iter().map(|(name, value)| {
            let path = path_of(&name).ok_or_else(|| {
                format!(
                    "linux.sysctl: {name:?}: expected a setting of networks, net.*: a guest has nothing \
                     that another setting of the kernel could be about"
                )
            })?;
            Ok(Setting { name, path, value })
        });
        settings.collect::<Result<_, _>>().map(Self)
    }

    /// Returns the name of the first.
    #[must_use]
    pub fn first(&self) -> Option<&str> {
        self.0.first().map(|setting| setting.name.as_str())
    }

    /// Sets them for the namespace that this thread is in.
    ///
    /// # Errors
    /// The kernel has no such setting there, or refuses the value. Those before are set.
    pub fn set(&self) -> Result<(), String> {
        for Setting { name, path, value } in &self.0 {
            let opened = OpenOptions::new()
                .write(true)
                .open(Path::new(DIR).join(path));
            let set = opened.and_then(|mut file| file.write_all(value.as_bytes()));
            set.map_err(|error| format!("linux.sysctl: {name:?} cannot be {value:?}: {error}"))?;
        }
        Ok(())
    }
}

/// Returns where a setting of networks lies; `None` if it is none. Names are written as sysctl(8) has
/// them: the separator that comes first parts them, and the other one stands for it in a part.
fn path_of(name: &str) -> Option<String> {
    let path = match name.find(['.', '/']).map(|at| name.as_bytes().get(at)) {
        Some(Some(b'/')) => name.to_owned(),
        _ => name
            .chars()
            .map(|letter| match letter {
                '.' => '/',
                '/' => '.',
                other => other,
            })
            .collect(),
    };
    let below = path.strip_prefix("net/")?;
    let is_name = |part: &str| !part.is_empty() && part != "." && part != "..";
    (below.split('/').all(is_name) && !below.contains('\0')).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_networks_in_either_form_and_nothing_else() {
        for (name, path) in [
            ("net.ipv4.tcp_syncookies", "net/ipv4/tcp_syncookies"),
            ("net/ipv4/tcp_syncookies", "net/ipv4/tcp_syncookies"),
            (
                "net.ipv4.conf.eth0/1.rp_filter",
                "net/ipv4/conf/eth0.1/rp_filter",
            ),
            (
                "net/ipv4/conf/eth0.1/rp_filter",
                "net/ipv4/conf/eth0.1/rp_filter",
            ),
        ] {
            assert_eq!(path_of(name).as_deref(), Some(path));
        }
        for wrong in [
            "",
            "net",
            "net.",
            "net..ipv4",
            "netx.a",
            "kernel.shmmax",
            "/net/ipv4/ip_forward",
            "net/../kernel/core_pattern",
            "net.//.kernel.core_pattern",
            "net/./ipv4",
            "net/ipv4/",
            "net.a\0b",
            "fs.mqueue.msg_max",
        ] {
            assert_eq!(path_of(wrong), None, "{wrong:?}");
            let all = BTreeMap::from([(wrong.to_owned(), "1".to_owned())]);
            let text = NetworkSettings::of(all).unwrap_err();
            assert!(text.contains(&format!("linux.sysctl: {wrong:?}")), "{text}");
        }
    }
}
