//! Saying what should hold, and numbers that stand for bytes.

/// A 64-bit FNV-1a over everything that was added: enough to compare two runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fold(u64);

impl Default for Fold {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fold {
    /// The number for these bytes alone.
    pub fn of(bytes: &[u8]) -> u64 {
        let mut fold = Self::default();
        fold.add(bytes);
        fold.get()
    }

    /// Adds bytes.
    pub fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    /// Adds a number.
    pub fn add_u64(&mut self, number: u64) {
        self.add(&number.to_le_bytes());
    }

    /// Gives the number so far.
    pub fn get(self) -> u64 {
        self.0
    }
}

/// The guest's argument at `at` (0 is its own name), or a default.
pub fn arg(at: usize, default: &str) -> String {
    std::env::args()
        .nth(at)
        .unwrap_or_else(|| default.to_owned())
}

/// The guest's argument at `at` as a number, or a default.
///
/// # Panics
///
/// If it is there and no number.
pub fn number(at: usize, default: u64) -> u64 {
    match std::env::args().nth(at) {
        None => default,
        Some(word) => word
            .parse()
            .unwrap_or_else(|_| panic!("argument {at}, {word:?}, is no number")),
    }
}

/// The number of this instance among those that share a base: what `stratafs
/// run --instances` says in `STRATAFS_INSTANCE`; 0 where nobody says.
pub fn instance() -> String {
    std::env::var("STRATAFS_INSTANCE").unwrap_or_else(|_| "0".to_owned())
}
