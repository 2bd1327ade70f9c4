//! Random numbers from a seed, the same on every machine.

/// splitmix64: small, fast, and good enough to pick operations.
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`, which is not 0.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// True in one of `n` cases.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

/// A number from the environment, in decimal.
pub fn from_env(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// How many of `all` runs with random input a test makes: as many as the variable
/// says, all of them where `tests/all.sh --long` asks for that, or else a quarter.
pub fn runs(variable: &str, all: u64) -> u64 {
    from_env(variable).unwrap_or_else(|| match is_long() {
        true => all,
        false => all.div_ceil(4),
    })
}

/// Whether the tests may take as long as they like.
pub fn is_long() -> bool {
    std::env::var_os("STRATAFS_TEST_LONG").is_some()
}
