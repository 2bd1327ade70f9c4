//! File systems that live from one request of a client to its next.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use hyper::HeaderMap;
use hyper::header::{COOKIE, HeaderValue};
use parking_lot::Mutex;
use stratafs::budget::Budget;
use stratafs::vfs::Fs;

use crate::failure::Failure;

/// The cookie that names a session.
const NAME: &str = "stratafs_session";

/// Bytes of a name: nobody guesses one of 2^128.
const NAME_BYTES: usize = 16;

/// The name of a session, which only its client knows.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Ticket([u8; NAME_BYTES]);

/// All sessions.
pub(super) struct Sessions {
    ttl: Duration,
    most: usize,
    budget: Option<Budget>,
    state: Mutex<SessionTable>,
}

#[derive(Default)]
struct SessionTable {
    by_name: HashMap<Ticket, Session>,
    /// Names by last use: the least recent first.
    by_use: BTreeMap<u64, Ticket>,
    /// Counts uses.
    uses: u64,
    /// Counts sessions.
    made: u64,
}

struct Session {
    number: u64,
    fs: Fs,
    last_use: u64,
    /// When its last request ended.
    since: Instant,
    /// Requests that are in it.
    busy: u32,
}

impl Ticket {
    fn draw() -> Result<Self, Failure> {
        let mut bytes = [0; NAME_BYTES];
        getrandom::fill(&mut bytes).map_err(|error| {
            Failure::new(format_args!("no random numbers for a session: {error}"))
        })?;
        Ok(Self(bytes))
    }

    fn parse(text: &str) -> Option<Self> {
        let digits = text.as_bytes();
        if digits.len() != 2 * NAME_BYTES {
            return None;
        }
        let mut bytes = [0; NAME_BYTES];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
            for digit in pair {
                let digit = char::from(*digit).to_digit(16)?;
                *byte = *byte << 4 | u8::try_from(digit).ok()?;
            }
        }
        Some(Self(bytes))
    }

    /// Returns what makes a client send it with each request, and shows it to no script.
    pub(super) fn cookie(&self) -> String {
        let hex: String = self.0.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{NAME}={hex}; Path=/; HttpOnly; SameSite=Lax")
    }
}

impl Sessions {
    pub(super) fn new(ttl: Duration, most: u32, budget: Option<Budget>) -> Self {
        Self {
            ttl,
            most: usize::try_from(most).unwrap_or(usize::MAX),
            budget,
            state: Mutex::default(),
        }
    }

    /// Returns the file system of the session that a head names, and takes the name out of
    /// it; a new one if it names none that lives. The last value is whether it is new.
    pub(super) fn take(
        &self,
        head: &mut HeaderMap,
        make: impl FnOnce() -> Fs,
    ) -> Result<(Fs, Ticket, bool), Failure> {
        let now = Instant::now();
        let named = take_cookies(head);
        let mut state = self.state.lock();
        for ticket in named {
            let is_over = |one: &Session| one.busy == 0 && now >= one.since + self.ttl;
            if state.by_name.get(&ticket).is_some_and(|one| !is_over(one)) {
                let fs = state.touch(&ticket);
                if let Some(fs) = fs {
                    return Ok((fs, ticket, false));
                }
            }
        }
        let ticket = Ticket::draw()?;
        let fs = make();
        state.made += 1;
        let session = Session {
            number: state.made,
            fs: fs.clone(),
            last_use: 0,
            since: now,
            busy: 0,
        };
        state.by_name.insert(ticket, session);
        state.touch(&ticket);
        Ok((fs, ticket, true))
    }

    /// A request of a session has ended.
    pub(super) fn give_back(&self, ticket: &Ticket, now: Instant) {
        if let Some(session) = self.state.lock().by_name.get_mut(ticket) {
            session.busy = session.busy.saturating_sub(1);
            session.since = now;
        }
    }

    /// Takes out the sessions that are over, and, while there are too many or they hold
    /// seven eighths of the budget, those that were used least recently and are not in use.
    pub(super) fn sweep(&self, now: Instant) -> Vec<(u64, Fs)> {
        let mut gone = Vec::new();
        let mut state = self.state.lock();
        let (mut freed, mut from) = (0, 0);
        while let Some((at, name)) = state.by_use.range(from..).next() {
            let (at, name) = (*at, *name);
            from = at + 1;
            let Some(session) = state.by_name.get(&name) else {
                continue;
            };
            if session.busy > 0 {
                continue;
            }
            let is_over = now >= session.since + self.ttl;
            if !is_over && state.by_name.len() <= self.most && !self.is_short(freed) {
                // Those behind it were used later still.
                break;
            }
            freed += session.fs.usage().held_bytes;
            gone.extend(state.remove(&name));
        }
        gone
    }

    /// Whether sessions hold too much of the budget once `freed` bytes have gone.
    fn is_short(&self, freed: u64) -> bool {
        self.budget.as_ref().is_some_and(|budget| {
            let held = budget.held_bytes().saturating_sub(freed);
            held > budget.max_bytes() / 8 * 7
        })
    }

    /// Takes all of them out.
    pub(super) fn take_all(&self) -> Vec<(u64, Fs)> {
        let mut state = self.state.lock();
        let names: Vec<Ticket> = state.by_use.values().copied().collect();
        names.iter().filter_map(|name| state.remove(name)).collect()
    }

    pub(super) fn len(&self) -> u64 {
        self.state.lock().by_name.len() as u64
    }
}

impl SessionTable {
    /// Counts one more request that is in a session.
    fn touch(&mut self, ticket: &Ticket) -> Option<Fs> {
        self.uses += 1;
        let session = self.by_name.get_mut(ticket)?;
        self.by_use.remove(&session.last_use);
        session.last_use = self.uses;
        session.busy += 1;
        self.by_use.insert(self.uses, *ticket);
        Some(session.fs.clone())
    }

    fn remove(&mut self, ticket: &Ticket) -> Option<(u64, Fs)> {
        let session = self.by_name.remove(ticket)?;
        self.by_use.remove(&session.last_use);
        Some((session.number, session.fs))
    }
}

/// Takes the cookies of this name out of a head, and returns what they say.
fn take_cookies(head: &mut HeaderMap) -> Vec<Ticket> {
    let is_ours = |pair: &&str| pair.split('=').next().map(str::trim) == Some(NAME);
    let all: Vec<HeaderValue> = head.get_all(COOKIE).iter().cloned().collect();
    let named = |value: &HeaderValue| {
        let text = value.to_str().unwrap_or_default();
        text.split(';').any(|pair| is_ours(&pair))
    };
    if !all.iter().any(named) {
        return Vec::new();
    }
    let mut tickets = Vec::new();
    head.remove(COOKIE);
    for value in all {
        let Ok(text) = value.to_str() else {
            head.append(COOKIE, value);
            continue;
        };
        let (ours, others): (Vec<&str>, Vec<&str>) = text.split(';').partition(is_ours);
        let values = ours.iter().filter_map(|pair| pair.split_once('='));
        tickets.extend(values.filter_map(|(_, value)| Ticket::parse(value.trim())));
        let left = others.join(";");
        if let (false, Ok(left)) = (left.trim().is_empty(), left.trim().parse()) {
            head.append(COOKIE, left);
        }
    }
    tickets
}

#[cfg(test)]
mod tests {
    use stratafs::image::Image;

    use super::*;

    fn head(cookies: &[&str]) -> HeaderMap {
        let mut head = HeaderMap::new();
        for cookie in cookies {
            head.append(COOKIE, cookie.parse().unwrap());
        }
        head
    }

    fn fork() -> Fs {
        Fs::new(&Image::empty())
    }

    fn sent(ticket: &Ticket) -> String {
        ticket.cookie().split(';').next().unwrap().to_owned()
    }

    #[test]
    fn cookies_of_others_stay() {
        let ticket = Ticket::draw().unwrap();
        let both = format!("a=1; {}; b=2", sent(&ticket));
        let mut cookies = head(&[&both, "c=3", "stratafs_session=short"]);
        assert!(take_cookies(&mut cookies) == [ticket]);
        let left: Vec<_> = cookies.get_all(COOKIE).iter().collect();
        assert_eq!(left, ["a=1; b=2", "c=3"]);
        assert!(
            ticket
                .cookie()
                .ends_with("; Path=/; HttpOnly; SameSite=Lax")
        );
    }

    #[test]
    fn a_session_is_found_by_its_name_alone_until_its_time_is_up() {
        let sessions = Sessions::new(Duration::from_secs(60), 10, None);
        let (fs, ticket, is_new) = sessions.take(&mut head(&[]), fork).unwrap();
        assert!(is_new);
        fs.write("/seen", "yes").unwrap();
        let cookie = sent(&ticket);
        let (again, _, is_new) = sessions.take(&mut head(&[&cookie]), fork).unwrap();
        assert!(!is_new && again.exists("/seen").unwrap());
        let forged = format!("{NAME}={}", "0".repeat(2 * NAME_BYTES));
        let (other, _, is_new) = sessions.take(&mut head(&[&forged]), fork).unwrap();
        assert!(is_new && !other.exists("/seen").unwrap());
        // In use, it stays whatever the time is.
        let later = Instant::now() + Duration::from_secs(61);
        sessions.give_back(&ticket, Instant::now());
        assert!(sessions.sweep(later).is_empty());
        sessions.give_back(&ticket, Instant::now());
        assert_eq!(sessions.sweep(later).len(), 1);
        assert_eq!(sessions.len(), 1);
    }

    #[test]
    fn those_used_least_recently_make_room() {
        let sessions = Sessions::new(Duration::from_secs(60), 2, None);
        let mut tickets = Vec::new();
        for _ in 0..3 {
            let (_, ticket, _) = sessions.take(&mut head(&[]), fork).unwrap();
            sessions.give_back(&ticket, Instant::now());
            tickets.push(ticket);
        }
        let cookie = sent(&tickets[0]);
        sessions.take(&mut head(&[&cookie]), fork).unwrap();
        sessions.give_back(&tickets[0], Instant::now());
        let gone = sessions.sweep(Instant::now());
        assert_eq!(
            gone.iter().map(|(number, _)| *number).collect::<Vec<_>>(),
            [2]
        );
        let budget = Budget::new(1 << 20);
        let sessions = Sessions::new(Duration::from_secs(60), 10, Some(budget.clone()));
        let make = || Fs::builder(&Image::empty()).budget(&budget, "s").build();
        for _ in 0..2 {
            let (fs, ticket, _) = sessions.take(&mut head(&[]), make).unwrap();
            fs.write("/data", vec![1; 480 << 10]).unwrap();
            sessions.give_back(&ticket, Instant::now());
        }
        let gone = sessions.sweep(Instant::now());
        assert_eq!(
            gone.iter().map(|(number, _)| *number).collect::<Vec<_>>(),
            [1]
        );
    }
}
