//! Bytes as choices.

/// What is left of the bytes. Past their end every choice is the first.
pub struct Feed<'a>(&'a [u8]);

impl<'a> Feed<'a> {
    /// Starts with all of them.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Tells whether nothing is left to choose by.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes one byte.
    pub fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((byte, rest)) => {
                self.0 = rest;
                *byte
            }
            None => 0,
        }
    }

    /// Gives a number below `bound`, which is at most 256 and not 0.
    pub fn below(&mut self, bound: usize) -> usize {
        usize::from(self.byte()) % bound
    }

    /// Tells yes or no.
    pub fn coin(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    /// Picks one of a few.
    ///
    /// # Panics
    ///
    /// If there is nothing to pick from.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// Gives a number: small, near the edges of blocks, or eight bytes.
    pub fn number(&mut self) -> u64 {
        match self.byte() {
            small @ 0..200 => u64::from(small),
            200..230 => self.pick(&[4_095, 4_096, 4_097, 9_999, 65_535, 65_536, 100_000]),
            230..240 => self.pick(&[1 << 32, 1 << 44, (1 << 44) - 4_096, u64::MAX, 1 << 63]),
            _ => (0..8).fold(0, |number, _| number << 8 | u64::from(self.byte())),
        }
    }

    /// Takes up to 32 bytes as they are.
    pub fn bytes(&mut self) -> &'a [u8] {
        let len = self.below(33).min(self.0.len());
        let (bytes, rest) = self.0.split_at(len);
        self.0 = rest;
        bytes
    }

    /// Gives a path: names that are there, tokens, now and then any bytes.
    pub fn path(&mut self) -> Vec<u8> {
        const PARTS: [&[u8]; 16] = [
            b"f", b"g", b"d", b"e", b"lf", b"ld", b"abs", b"loop", b"up", b"new", b".", b"..", b"",
            b"x", b"hard", b"gone",
        ];
        match self.byte() {
            0..150 => self.pick(&PARTS).to_vec(),
            150..240 => {
                let count = 1 + self.below(5);
                let parts: Vec<&[u8]> = (0..count).map(|_| self.pick(&PARTS)).collect();
                parts.join(&b'/')
            }
            240..245 => vec![b'n'; 250 + self.below(10)],
            _ => self.bytes().to_vec(),
        }
    }
}
