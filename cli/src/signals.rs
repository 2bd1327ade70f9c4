//! What the program does when it is asked to end.

#[cfg(unix)]
pub(super) use unix::end_cleanly;

/// Does nothing where there are no Unix signals: what an ended process left is
/// removed by the next one.
#[cfg(not(unix))]
pub(super) fn end_cleanly() {}

#[cfg(unix)]
mod unix {
    use std::thread;

    use nix::sys::signal::{SigSet, Signal};
    use stratafs::staged;

    /// From now on INT and TERM remove output that is not complete, and end the
    /// program with 130 and 143, as a shell shows them. Called before the first
    /// thread starts, since threads take over which signals they block. A signal
    /// that the program was started to ignore stays ignored.
    ///
    /// Programs that this one starts are not concerned: the standard library
    /// starts them with no signal blocked.
    pub(crate) fn end_cleanly() {
        let ignored = ignored();
        let mut signals = SigSet::empty();
        for signal in [Signal::SIGINT, Signal::SIGTERM] {
            if ignored & mask(signal) == 0 {
                signals.add(signal);
            }
        }
        if signals.thread_block().is_err() {
            return;
        }
        let waiting = thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || {
                while let Ok(signal) = signals.wait() {
                    if signals.contains(signal) {
                        staged::abandon_all();
                        std::process::exit(128 + signal as i32);
                    }
                }
            });
        if waiting.is_err() {
            // Nobody would take the signals: let them end the program at once.
            let _: nix::Result<()> = signals.thread_unblock();
        }
    }

    /// The signals that are ignored, a bit for each, as `/proc` shows them.
    /// None where there is no such file.
    fn ignored() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
        line.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok())
            .unwrap_or(0)
    }

    fn mask(signal: Signal) -> u64 {
        1 << (signal as i32 - 1)
    }
}
