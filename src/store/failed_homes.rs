//! Homes that failed: a home that does not give what it should is passed over for the next, and asked
//! after the others for a while.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::limits::FAILED_HOME_SECONDS;

/// Returns the place in the name of an image: `HOST/NAME` of `HOST/NAME@sha256:HEX`.
pub(super) fn place_of(home: &str) -> &str {
    home.rsplit_once('@').map_or(home, |(place, _)| place)
}

/// Which homes failed in this process, by their places.
#[derive(Default)]
pub(super) struct FailedHomes(Mutex<HashMap<String, Instant>>);

impl FailedHomes {
    /// Asks one home after the other, those that failed a while ago last, until one has what is
    /// wanted. Returns what all of them say otherwise.
    pub(super) fn ask<T>(
        &self,
        homes: &[String],
        ask: &mut dyn FnMut(&str) -> Result<T, String>,
    ) -> Result<T, String> {
        let mut whys: Vec<String> = Vec::new();
        for home in self.in_order(homes, Instant::now()) {
            let place = place_of(home).to_owned();
            match ask(home) {
                Ok(found) => {
                    self.0.lock().remove(&place);
                    return Ok(found);
                }
                Err(why) => {
                    self.0.lock().insert(place, Instant::now());
                    whys.push(why);
                }
            }
        }
        match whys.is_empty() {
            true => Err("it is not said where it comes from".to_owned()),
            false => Err(whys.join("; ")),
        }
    }

    fn in_order<'h>(&self, homes: &'h [String], now: Instant) -> Vec<&'h str> {
        let mut failed = self.0.lock();
        let span = Duration::from_secs(FAILED_HOME_SECONDS);
        failed.retain(|_, when| now.duration_since(*when) < span);
        let mut homes: Vec<&str> = homes.iter().map(String::as_str).collect();
        // Of several that failed, the one that did so longest ago is asked first.
        homes.sort_by_key(|home| failed.get(place_of(home)).copied());
        homes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_that_failed_is_asked_last_for_a_while() {
        let failed = FailedHomes::default();
        let homes = ["a@1".to_owned(), "b@1".to_owned(), "c@1".to_owned()];
        let from = |home: &str| match home {
            "c@1" => Ok(home.to_owned()),
            _ => Err(format!("{home}: no")),
        };
        let mut asked = Vec::new();
        let mut ask = |home: &str| {
            asked.push(home.to_owned());
            from(home)
        };
        assert_eq!(failed.ask(&homes, &mut ask).unwrap(), "c@1");
        assert_eq!(failed.ask(&homes, &mut ask).unwrap(), "c@1");
        assert_eq!(asked, ["a@1", "b@1", "c@1", "c@1"]);
        let later = Instant::now() + Duration::from_secs(FAILED_HOME_SECONDS);
        assert_eq!(failed.in_order(&homes, later), ["a@1", "b@1", "c@1"]);
        let error = failed.ask(&homes[..2], &mut |home| from(home)).unwrap_err();
        assert_eq!(error, "a@1: no; b@1: no");
        assert!(failed.ask(&[], &mut |home| from(home)).is_err());
    }
}
