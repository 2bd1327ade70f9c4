//! Calls all of preview1 at random and tells what each call gave.
//!
//! `soak_p1 SEED COUNT [CALLS]`; see [`Plan`]. The same log has to come out
//! under every host on the same tree, with `3` the root and `4` the root
//! read-only. It goes to a number of its own, since the calls close and
//! renumber whatever they meet; the last call may end the guest.

mod files;
mod names;
mod rest;

use std::fmt;

use guest_examples::preview1::{self as p1, Errno, Filestat, READ, raw};
use guest_examples::random::Random;
use guest_examples::soak::{Plan, Seen, time};

/// Where the log goes.
const LOG: u32 = 40;

/// Kinds of preview1.
const FILE: u8 = 4;
const DIRECTORY: u8 = 3;

/// A number that is never open.
const CLOSED: u32 = 60_000;

/// What the calls share.
pub struct Soak {
    seen: Seen,
    log: Vec<u8>,
    /// The descriptors, by the places that the log tells: which numbers a host
    /// gives out is its own affair.
    open: [u32; 16],
    /// What kind each is of.
    kinds: [u8; 16],
}

/// A kind of call: what it is drawn by, and how likely.
type Kind = (usize, fn(&mut Soak, &mut Random) -> String);

fn main() {
    let plan = Plan::from_args();
    keep_log();
    let kinds: Vec<Kind> = [names::KINDS, files::KINDS, rest::KINDS].concat();
    let total: usize = kinds.iter().map(|(weight, _)| weight).sum();
    let mut soak = Soak {
        seen: Seen::default(),
        log: Vec::new(),
        open: [CLOSED; 16],
        kinds: [DIRECTORY; 16],
    };
    soak.open[..5].copy_from_slice(&[0, CLOSED, 2, p1::ROOT, 4]);
    for (n, mut random) in plan.calls() {
        let mut at = random.below(total);
        let kind = kinds.iter().find(|(weight, _)| {
            let here = at < *weight;
            at = at.wrapping_sub(*weight);
            here
        });
        let (_, call) = kind.expect("within the total");
        let line = call(&mut soak, &mut random);
        soak.note(&format!("{n} {line}\n"));
    }
    let mut random = Random::new(plan.seed ^ 0x5eed);
    if plan.count > 0
        && plan
            .only
            .as_ref()
            .is_none_or(|only| only.contains(&plan.count))
    {
        let line = rest::last(&mut soak, &mut random);
        soak.note(&format!("{} {line}\n", plan.count));
    }
    soak.flush();
}

/// Moves standard output to [`LOG`], which has to be open for that.
fn keep_log() {
    let mut opened = Vec::new();
    while opened.last() != Some(&LOG) {
        opened.push(p1::open(p1::ROOT, ".", 0, READ, 0).expect("a descriptor"));
    }
    // SAFETY: no pointer is passed.
    let moved = unsafe { raw::fd_renumber(1, LOG) };
    assert_eq!(moved, 0, "the log's number");
    for fd in opened.into_iter().filter(|fd| *fd != LOG) {
        p1::close(fd).expect("close");
    }
}

impl Soak {
    fn note(&mut self, line: &str) {
        self.log.extend_from_slice(line.as_bytes());
    }

    /// Writes the log out, before a call that may end the guest too.
    fn flush(&mut self) {
        let mut rest = &self.log[..];
        while !rest.is_empty() {
            match p1::write(LOG, rest) {
                Ok(len) if len > 0 => rest = &rest[len..],
                _ => break,
            }
        }
        self.log.clear();
    }

    /// Shows what a `stat` gave. Sizes and link counts of directories are the
    /// host's own affair.
    fn stat(&mut self, stat: &Filestat) -> String {
        let (nlink, size) = if stat.filetype == 3 {
            (0, 0)
        } else {
            (stat.nlink, stat.size)
        };
        format!(
            "kind {} dev {} ino {} nlink {nlink} size {size} mtim {} atim {}",
            stat.filetype,
            stat.dev != 0,
            self.seen.number(stat.ino),
            time(stat.mtim),
            time(stat.atim),
        )
    }
}

/// A descriptor that a call is about.
#[derive(Clone, Copy)]
pub struct Fd {
    number: u32,
    /// Its place in [`Soak::open`]; none for a number that is never open.
    place: Option<usize>,
}

impl fmt::Display for Fd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place {
            Some(place) => write!(f, "{place}"),
            None => write!(f, "({})", self.number),
        }
    }
}

impl Soak {
    /// Draws a descriptor: mostly an open one.
    fn fd(&self, random: &mut Random) -> Fd {
        match random.below(32) {
            0 => Fd {
                number: *random.pick(&[50_000, 1 << 20, 1 << 31, u32::MAX]),
                place: None,
            },
            1 => self.at(random.below(3)),
            2 => self.at(random.below(self.open.len())),
            _ => self.some(random, |_| true),
        }
    }

    /// Draws a descriptor to read or write: mostly a file.
    fn file(&self, random: &mut Random) -> Fd {
        match random.below(8) {
            0 => self.fd(random),
            _ => self.some(random, |kind| kind == FILE),
        }
    }

    /// Draws a descriptor to walk from: mostly the root.
    fn dir(&self, random: &mut Random) -> Fd {
        match random.below(16) {
            0..10 => self.at(3),
            10 => self.at(4),
            11 => self.fd(random),
            _ => self.some(random, |kind| kind != FILE),
        }
    }

    /// Draws one of the open descriptors of a kind, if there is any.
    fn some(&self, random: &mut Random, wanted: fn(u8) -> bool) -> Fd {
        let open: Vec<usize> = (3..self.open.len())
            .filter(|place| self.open[*place] != CLOSED && wanted(self.kinds[*place]))
            .collect();
        if open.is_empty() {
            return self.at(5);
        }
        self.at(*random.pick(&open))
    }

    fn at(&self, place: usize) -> Fd {
        Fd {
            number: self.open[place],
            place: Some(place),
        }
    }

    /// Gives a new descriptor a place, and shows which; without room it is
    /// closed again.
    fn opened(&mut self, number: u32) -> String {
        match self.open.iter().skip(3).position(|open| *open == CLOSED) {
            Some(place) => {
                let kind = p1::fdstat(number).map_or(0, |stat| stat.filetype);
                (self.open[3 + place], self.kinds[3 + place]) = (number, kind);
                format!("at {} kind {kind}", 3 + place)
            }
            None => format!("no place {:?}", p1::close(number)),
        }
    }

    /// Notes that a descriptor took another's place.
    fn moved(&mut self, from: Fd, to: Fd) {
        if let (Some(from), Some(to)) = (from.place, to.place) {
            self.kinds[to] = self.kinds[from];
        }
        self.closed(from);
    }

    /// Notes that a descriptor was closed.
    fn closed(&mut self, fd: Fd) {
        if let Some(place) = fd.place {
            self.open[place] = CLOSED;
        }
    }
}

/// Shows an outcome.
fn outcome(code: u32, what: impl FnOnce() -> String) -> String {
    if code == 0 {
        format!("ok {}", what())
    } else {
        format!("{:?}", Errno(code as u16))
    }
}
