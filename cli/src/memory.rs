//! How much memory this process may use, as Linux tells it.

use std::fs;
use std::path::{Path, PathBuf};

/// Half of the memory that this process may use: the machine's, or what its
/// control groups leave of it. `None` where the system does not tell.
pub(super) fn half() -> Option<u64> {
    let machine = total(&fs::read_to_string("/proc/meminfo").ok()?)?;
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limit = limit_files(&groups, Path::new("/sys/fs/cgroup"))
        .iter()
        .filter_map(|file| fs::read_to_string(file).ok()?.trim().parse::<u64>().ok())
        .min();
    Some(limit.map_or(machine, |limit| limit.min(machine)) / 2)
}

/// The bytes of `MemTotal` in `/proc/meminfo`.
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// The files that hold a bound on the memory of the groups that
/// `/proc/self/cgroup` names and of all groups above them. A group may be
/// mounted as the root of its hierarchy, as in most containers, so the root
/// is always asked.
fn limit_files(groups: &str, mounted: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else {
            continue;
        };
        let (top, file) = match controllers {
            "" => (mounted.to_owned(), "memory.max"),
            _ if controllers.split(',').any(|name| name == "memory") => {
                (mounted.join("memory"), "memory.limit_in_bytes")
            }
            _ => continue,
        };
        let below = top.join(path.trim_start_matches('/'));
        let groups = below
            .ancestors()
            .take_while(|group| group.starts_with(&top));
        files.extend(groups.map(|group| group.join(file)));
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_read_in_bytes() {
        assert_eq!(
            total("MemFree: 1 kB\nMemTotal:       24 kB\n"),
            Some(24 * 1024)
        );
        assert_eq!(total("MemFree: 1 kB\n"), None);
        assert_eq!(total("MemTotal: x kB\n"), None);
    }

    #[test]
    fn both_versions_of_control_groups_and_all_groups_above_are_asked() {
        let files = |groups| limit_files(groups, Path::new("/g"));
        let paths = |names: &[&str]| names.iter().map(PathBuf::from).collect::<Vec<_>>();
        assert_eq!(
            files("0::/a/b\n"),
            paths(&["/g/a/b/memory.max", "/g/a/memory.max", "/g/memory.max"])
        );
        assert_eq!(
            files("5:cpu,memory:/c\n4:cpuset:/d\n"),
            paths(&[
                "/g/memory/c/memory.limit_in_bytes",
                "/g/memory/memory.limit_in_bytes"
            ])
        );
        assert_eq!(files("nonsense\n"), paths(&[]));
    }

    #[test]
    fn this_machine_tells() {
        assert_eq!(half().is_some(), cfg!(target_os = "linux"));
        assert_ne!(half(), Some(0));
    }
}
