//! Resident memory of this process, as the kernel counts it.

use std::fs;

use serde::Serialize;

/// Resident memory around a run; `null` where the platform does not tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Resident {
    /// With guest and base ready, before the first file system is made.
    pub(crate) before: Option<u64>,
    /// With all file systems made, before the first guest starts.
    pub(crate) after_create: Option<u64>,
    /// The most at any moment of the run.
    pub(crate) peak: Option<u64>,
}

/// Reads how much memory is resident now. Linux only.
#[must_use]
pub(crate) fn resident_bytes() -> Option<u64> {
    status("VmRSS:")
}

/// Reads the most memory that was resident since the last [`reset_peak`], or
/// since the start. Linux only.
#[must_use]
pub(crate) fn peak_bytes() -> Option<u64> {
    status("VmHWM:")
}

/// Reads how much memory is resident now, to the page: `VmRSS` lags behind by
/// some pages for each processor. Walks the page tables, up to milliseconds.
/// Linux only.
#[must_use]
pub(crate) fn settled_bytes() -> Option<u64> {
    parse(&fs::read_to_string("/proc/self/smaps_rollup").ok()?, "Rss:")
}

/// Lets the peak start anew from what is resident now, where the kernel
/// allows it.
pub(crate) fn reset_peak() {
    // See proc(5), /proc/pid/clear_refs. Refused, the peak is an upper bound.
    drop(fs::write("/proc/self/clear_refs", "5"));
}

fn status(key: &str) -> Option<u64> {
    parse(&fs::read_to_string("/proc/self/status").ok()?, key)
}

fn parse(status: &str, key: &str) -> Option<u64> {
    let value = status.lines().find_map(|line| line.strip_prefix(key))?;
    let kib: u64 = value.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_text_is_read() {
        let text = "Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\n";
        assert_eq!(parse(text, "VmRSS:"), Some(1 << 20));
        assert_eq!(parse(text, "VmHWM:"), Some(2 << 20));
        assert_eq!(parse(text, "VmSwap:"), None);
        assert_eq!(parse("VmRSS:\tmuch\n", "VmRSS:"), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_has_some() {
        assert!(resident_bytes() > Some(1 << 16));
        assert!(settled_bytes() > Some(1 << 16));
        assert!(peak_bytes() >= resident_bytes().map(|bytes| bytes / 2));
    }
}
