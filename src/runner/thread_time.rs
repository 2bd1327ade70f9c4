//! The time of processors that a thread takes, as others may ask for it.

use std::time::Duration;

/// A thread, and what it had taken when it was noted.
pub(super) struct ThreadTime {
    #[cfg(target_os = "linux")]
    stat: std::path::PathBuf,
    #[cfg(target_os = "linux")]
    before: Duration,
}

#[cfg(target_os = "linux")]
impl ThreadTime {
    /// Notes the thread that calls.
    pub(super) fn of_this_thread() -> Self {
        // A link to PROCESS/task/THREAD.
        let thread = std::fs::read_link("/proc/thread-self").unwrap_or_default();
        let stat = std::path::Path::new("/proc").join(thread).join("schedstat");
        let before = read(&stat).unwrap_or_default();
        Self { stat, before }
    }

    /// Returns what it has taken since; nothing if the system does not tell, or the thread is
    /// gone.
    pub(super) fn taken(&self) -> Duration {
        let now = read(&self.stat).unwrap_or_default();
        now.saturating_sub(self.before)
    }
}

/// Reads the time on a processor, the first number of three, in nanoseconds.
#[cfg(target_os = "linux")]
fn read(stat: &std::path::PathBuf) -> Option<Duration> {
    let text = std::fs::read_to_string(stat).ok()?;
    let nanos = text.split(' ').next()?.parse().ok()?;
    Some(Duration::from_nanos(nanos))
}

#[cfg(not(target_os = "linux"))]
impl ThreadTime {
    /// Notes the thread that calls.
    pub(super) fn of_this_thread() -> Self {
        Self {}
    }

    /// Returns nothing: the system does not tell.
    pub(super) fn taken(&self) -> Duration {
        Duration::ZERO
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_thread_that_works_takes_time_and_one_that_waits_takes_none() {
        let (send, receive) = std::sync::mpsc::channel();
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let waiting = std::thread::spawn(move || {
            send.send(ThreadTime::of_this_thread()).unwrap();
            ended.recv().unwrap_err();
        });
        let waits = receive.recv().unwrap();
        let works = ThreadTime::of_this_thread();
        let start = Instant::now();
        while works.taken() < Duration::from_millis(30) {
            assert!(start.elapsed() < Duration::from_secs(60));
        }
        assert!(waits.taken() < Duration::from_millis(30));
        drop(end);
        waiting.join().unwrap();
        assert_eq!(waits.taken(), Duration::ZERO);
    }
}
