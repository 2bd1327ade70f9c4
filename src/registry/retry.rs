//! What is tried again, and when.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use super::error::{RegistryError, RegistryErrorKind};
use super::options::ClientOptions;
use crate::limits::MAX_RETRY_AFTER_SECONDS;

/// The longest pause that is made without being asked to.
const MAX_PAUSE: Duration = Duration::from_secs(10);

/// What came of a try.
pub(super) enum Attempt {
    /// It is of no use to try again.
    Fatal(RegistryError),
    /// It may succeed the next time, not before so long if that is said.
    Again(RegistryError, Option<Duration>),
}

impl From<RegistryError> for Attempt {
    fn from(error: RegistryError) -> Self {
        Self::Fatal(error)
    }
}

impl Attempt {
    pub(super) fn into_error(self) -> RegistryError {
        match self {
            Self::Fatal(error) | Self::Again(error, _) => error,
        }
    }
}

/// Counts tries, and waits between them.
pub(super) struct Tries<'o> {
    options: &'o ClientOptions,
    done: u32,
}

impl<'o> Tries<'o> {
    pub(super) fn new(options: &'o ClientOptions) -> Self {
        Self { options, done: 0 }
    }

    /// Begins to count anew: it came further than before.
    pub(super) fn progressed(&mut self) {
        self.done = 0;
    }

    /// Waits until the next try, or gives the error if there is none.
    pub(super) fn failed(&mut self, attempt: Attempt) -> Result<(), RegistryError> {
        let (error, asked) = match attempt {
            Attempt::Fatal(error) => return Err(error),
            Attempt::Again(error, asked) => (error, asked),
        };
        self.done += 1;
        if self.done >= self.options.tries {
            return Err(error);
        }
        let pause = asked.unwrap_or_else(|| self.pause());
        tracing::debug!(%error, ?pause, "tries again");
        std::thread::sleep(pause);
        Ok(())
    }

    /// Twice as long each time, and anything from half of that to all of it, so that those
    /// who were refused together do not come back together.
    fn pause(&self) -> Duration {
        let doubled = 1_u32.checked_shl(self.done.saturating_sub(1).min(16));
        let whole = self
            .options
            .first_pause
            .saturating_mul(doubled.unwrap_or(1));
        let whole = whole.min(MAX_PAUSE);
        let random = RandomState::new().hash_one(self.done) % 1024;
        let random = u32::try_from(random).unwrap_or(0);
        whole / 2 + whole / 2048 * random
    }
}

/// Repeats `work` while that may help.
pub(super) fn repeated<T>(
    options: &ClientOptions,
    mut work: impl FnMut() -> Result<T, Attempt>,
) -> Result<T, RegistryError> {
    let mut tries = Tries::new(options);
    loop {
        match work() {
            Ok(done) => return Ok(done),
            Err(attempt) => tries.failed(attempt)?,
        }
    }
}

/// Makes of an answer that is no success what may be tried again.
pub(super) fn of_status(
    status: u16,
    error: RegistryError,
    retry_after: Option<Duration>,
    (name, action): (&str, &str),
) -> Attempt {
    let passes = matches!(status, 408 | 425 | 429 | 500 | 502 | 503 | 504);
    let quota = matches!(error.kind(), RegistryErrorKind::Quota { .. });
    match (passes && !quota, retry_after) {
        (false, _) => Attempt::Fatal(error),
        (true, Some(long)) if long.as_secs() > MAX_RETRY_AFTER_SECONDS => {
            let message = match error.kind() {
                RegistryErrorKind::Status { message, .. } => message.clone(),
                _ => String::new(),
            };
            let seconds = long.as_secs();
            let kind = RegistryErrorKind::Busy {
                status,
                message,
                seconds,
            };
            Attempt::Fatal(RegistryError::new(name, action, kind))
        }
        (true, after) => Attempt::Again(error, after),
    }
}

/// Reads `Retry-After`: seconds, or a date, of which `now` (seconds since 1970) is taken.
pub(crate) fn retry_after(text: &str, now: u64) -> Option<Duration> {
    let text = text.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    Some(Duration::from_secs(http_date(text)?.saturating_sub(now)))
}

/// Reads `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110, 5.6.7) as seconds since 1970.
fn http_date(text: &str) -> Option<u64> {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let (_, rest) = text.split_once(", ")?;
    let words: Vec<&str> = rest.split(' ').collect();
    let [day, month, year, time, "GMT"] = words.as_slice() else {
        return None;
    };
    let month = MONTHS.iter().position(|name| name == month)? as u64;
    let (day, year): (u64, u64) = (day.parse().ok()?, year.parse().ok()?);
    let clock: Option<Vec<u64>> = time.split(':').map(|part| part.parse().ok()).collect();
    let [hour, minute, second] = clock?.try_into().ok()?;
    if !(1970..=9999).contains(&year) || !(1..=31).contains(&day) {
        return None;
    }
    // Years that begin in March, so that a leap day is the last of one.
    let (year, month) = match month < 2 {
        true => (year - 1, month + 10),
        false => (year, month - 2),
    };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 1;
    Some(days.checked_sub(719_468)? * 86_400 + hour * 3600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = 784_111_777;
        for (text, want) in [
            ("0", Some(0)),
            (" 120 ", Some(120)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(0)),
            ("Sun, 06 Nov 1994 08:50:37 GMT", Some(60)),
            ("Sat, 29 Feb 2020 00:00:00 GMT", Some(1_582_934_400 - now)),
            ("880us", None),
            ("-1", None),
            ("soon", None),
            ("Sun, 99 Nov 1994 08:49:37 GMT", None),
        ] {
            let want = want.map(Duration::from_secs);
            assert_eq!(retry_after(text, now), want, "{text}");
        }
    }

    #[test]
    fn pauses_grow_and_end() {
        let options = ClientOptions::default();
        let mut tries = Tries::new(&options);
        for done in 1..40 {
            tries.done = done;
            let pause = tries.pause();
            let most = options.first_pause * 2_u32.pow(done.min(17) - 1);
            assert!(pause <= most.min(MAX_PAUSE), "{done}: {pause:?}");
            assert!(pause >= most.min(MAX_PAUSE) / 2, "{done}: {pause:?}");
        }
    }
}
