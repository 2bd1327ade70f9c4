//! The machine that figures were measured on.

use std::fs;
use std::thread;

use serde::Serialize;

/// What decides how fast a machine is; empty or `null` where the platform
/// does not tell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub(crate) struct Machine {
    /// The processor's own name.
    pub(crate) processor: String,
    /// Processors that this process may use.
    pub(crate) cores: u64,
    /// Memory of the machine.
    pub(crate) memory_bytes: Option<u64>,
    /// Operating system and architecture.
    pub(crate) system: String,
    /// The kernel's release.
    pub(crate) kernel: String,
    /// Processes that ran or wanted to, on average over the last minute.
    pub(crate) load: String,
}

impl Machine {
    /// Asks the machine. Full on Linux only.
    #[must_use]
    pub(crate) fn here() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let load = read("/proc/loadavg");
        Self {
            processor: field(&read("/proc/cpuinfo"), "model name"),
            cores: thread::available_parallelism().map_or(0, |cores| cores.get() as u64),
            memory_bytes: kib(&field(&read("/proc/meminfo"), "MemTotal")),
            system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            load: load.split(' ').next().unwrap_or_default().to_owned(),
        }
    }
}

/// The value of the first line `key : value`.
fn field(text: &str, key: &str) -> String {
    let value = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == key).then(|| value.trim().to_owned())
    });
    value.unwrap_or_default()
}

fn kib(text: &str) -> Option<u64> {
    let number: u64 = text.strip_suffix("kB")?.trim().parse().ok()?;
    number.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_texts_are_read() {
        let cpus = "processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\nmodel name\t: other\n";
        assert_eq!(field(cpus, "model name"), "Some CPU @ 2 GHz");
        assert_eq!(field(cpus, "absent"), "");
        assert_eq!(
            kib(&field("MemTotal:  24 kB\n", "MemTotal")),
            Some(24 << 10)
        );
        assert_eq!(kib("24"), None);
    }

    #[test]
    fn every_machine_has_a_core() {
        assert!(Machine::here().cores > 0);
    }
}
