//! Random arguments and the log of the guests that call everything.
//!
//! Each call draws from a sequence of its own, made of the seed and the call's
//! number: calls can be left out without changing the others, which is how a
//! long run that went wrong is cut down to the few calls that matter.

use super::random::Random;

/// What a run does: `SEED COUNT [CALLS]`, the last a list of the numbers of
/// the calls to make, with commas.
pub struct Plan {
    /// Where random numbers start.
    pub seed: u64,
    /// Calls from 0 to this number.
    pub count: u64,
    /// The calls to make; all if absent.
    pub only: Option<Vec<u64>>,
}

impl Plan {
    /// Reads the arguments.
    ///
    /// # Panics
    ///
    /// If they are no numbers.
    pub fn from_args() -> Self {
        let args: Vec<String> = std::env::args().collect();
        let number = |text: &String| text.parse().expect("a number");
        Self {
            seed: args.get(1).map_or(1, number),
            count: args.get(2).map_or(1_000, number),
            only: args.get(3).map(|list| {
                let numbers = list.split(',').filter(|text| !text.is_empty());
                numbers.map(|text| number(&text.to_owned())).collect()
            }),
        }
    }

    /// The numbers of the calls to make, each with its random numbers.
    pub fn calls(&self) -> impl Iterator<Item = (u64, Random)> {
        let wanted = move |n: &u64| self.only.as_ref().is_none_or(|only| only.contains(n));
        (0..self.count)
            .filter(wanted)
            .map(|n| (n, Random::new(self.seed.wrapping_mul(0x1_0000_0000) ^ n)))
    }
}

/// The names of the tree that the runs start from, and a few that are free.
const NAMES: [&str; 20] = [
    "f", "g", "h", "big", "d", "d", "d/g", "d/e", "e", "n", "lf", "ld", "gone", "loop", "up",
    "dot", "ls", "new", "new2", "d/new",
];

/// What a path may be made of besides names.
const TOKENS: [&str; 4] = [".", "..", "", "g"];

/// Draws a path: mostly of a few names, so that calls meet.
pub fn path(random: &mut Random) -> Vec<u8> {
    match random.below(100) {
        0..55 => (*random.pick(&NAMES)).into(),
        55..70 => joined(random, 2, 1),
        70..93 => joined(random, 5, 4),
        _ => odd(random),
    }
}

/// Joins names, each as likely as this many in eight to be a token instead.
fn joined(random: &mut Random, most: usize, tokens: usize) -> Vec<u8> {
    let count = 1 + random.below(most);
    let parts: Vec<&str> = (0..count)
        .map(|_| {
            if random.below(8) < tokens {
                *random.pick(&TOKENS)
            } else {
                *random.pick(&NAMES)
            }
        })
        .collect();
    let mut path = parts.join("/").into_bytes();
    if random.below(8) < tokens {
        path.push(b'/');
    }
    path
}

fn odd(random: &mut Random) -> Vec<u8> {
    match random.below(16) {
        0 => Vec::new(),
        1 => b"/".to_vec(),
        2 => b"/f".to_vec(),
        3 => vec![b'x'; 255],
        4 => vec![b'x'; 256],
        5 => [b"d/", &[b'y'; 255][..]].concat(),
        6 => [b"nope/", &[b'y'; 256][..]].concat(),
        7 => b"f\0".to_vec(),
        8 => b"\xff".to_vec(),
        9 => b"d/\xc3\x28".to_vec(),
        10 => b"d/../".repeat(100),
        11 => [&b"./".repeat(1_000)[..], b"f"].concat(),
        12 => b"d//////g".to_vec(),
        13 => "\u{e4}\u{1f980}".into(),
        14 => b"...".to_vec(),
        _ => b"a\\b".to_vec(),
    }
}

/// Draws the target of a symbolic link.
pub fn target(random: &mut Random) -> Vec<u8> {
    match random.below(8) {
        0 => [path(random), b"/".to_vec()].concat(),
        1 => b"..".to_vec(),
        2 => b"new".to_vec(),
        _ => path(random),
    }
}

/// Draws an offset or a size: around what files hold, and at the edges.
pub fn offset(random: &mut Random) -> u64 {
    const NEAR: [u64; 12] = [0, 1, 3, 5, 11, 100, 4095, 4096, 4097, 9_999, 10_000, 70_000];
    const FAR: [u64; 8] = [
        1 << 20,
        1 << 32,
        (1 << 40) + 5,
        1 << 62,
        i64::MAX as u64 - 1,
        i64::MAX as u64,
        1 << 63,
        u64::MAX,
    ];
    match random.below(24) {
        0 => *random.pick(&FAR),
        1..6 => random.below(12_000) as u64,
        _ => *random.pick(&NEAR),
    }
}

/// Draws a time in nanoseconds: small, so that it is told from a clock's.
pub fn nanos(random: &mut Random) -> u64 {
    random.below(1_000_000) as u64 * 1_000_000_007
}

/// Shows a time: as it is if it was set, else that it was not.
pub fn time(nanos: u64) -> String {
    if nanos < 1_000_000_000 << 30 {
        nanos.to_string()
    } else {
        "clock".into()
    }
}

/// Gives inode numbers small numbers, by when they were first seen.
#[derive(Default)]
pub struct Seen(Vec<u64>);

impl Seen {
    /// The small number of one.
    pub fn number(&mut self, inode: u64) -> usize {
        let known = self.0.iter().position(|seen| *seen == inode);
        known.unwrap_or_else(|| {
            self.0.push(inode);
            self.0.len() - 1
        })
    }
}

/// FNV-1a: tells whether bytes are equal, shortly.
pub fn digest(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Shows a path, its long runs shortened.
pub fn show(path: &[u8]) -> String {
    if path.len() > 40 {
        let (head, tail) = (&path[..8], &path[path.len() - 4..]);
        return format!(
            "\"{}({} bytes {:x}){}\"",
            head.escape_ascii(),
            path.len(),
            digest(path),
            tail.escape_ascii()
        );
    }
    format!("\"{}\"", path.escape_ascii())
}
