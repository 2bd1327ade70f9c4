//! What the program does when it is asked to end.

#[cfg(unix)]
pub(super) use unix::{end_cleanly, instead_of_ending};

/// Does nothing where there are no Unix signals: what an ended process left is
/// removed by the next one.
#[cfg(not(unix))]
pub(super) fn end_cleanly() {}

/// Does nothing there either.
#[cfg(not(unix))]
pub(super) fn instead_of_ending(_: impl FnOnce() + Send + 'static) {}

#[cfg(unix)]
mod unix {
    use std::thread;

    use nix::sys::signal::{SigSet, Signal};
    use parking_lot::Mutex;
    use stratafs::staged;

    /// What the next signal does in place of ending the program.
    static INSTEAD: Mutex<Option<Box<dyn FnOnce() + Send>>> = Mutex::new(None);

    /// Has the next signal do this; the one after it ends the program again.
    pub(crate) fn instead_of_ending(work: impl FnOnce() + Send + 'static) {
        *INSTEAD.lock() = Some(Box::new(work));
    }

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
                    let instead = INSTEAD.lock().take();
                    if let Some(work) = instead {
                        work();
                    } else if signals.contains(signal) {
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
