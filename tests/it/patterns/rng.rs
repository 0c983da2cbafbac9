//! The random numbers of a scenario, from one seed.

/// splitmix64: small, and good enough to vary names, counts and delays.
#[derive(Clone, Debug)]
pub(crate) struct Rng {
    state: u64,
    /// The seed.
    pub(crate) seed: u64,
}

impl Rng {
    pub(crate) fn new(seed: u64) -> Rng {
        Rng { state: seed, seed }
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns a number from `low` up to, but not including, `high`.
    pub(crate) fn within(&mut self, low: u32, high: u32) -> u32 {
        low + (self.next() % u64::from(high - low)) as u32
    }

    /// Returns a number between `low` and `high`.
    pub(crate) fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    pub(crate) fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[(self.next() % of.len() as u64) as usize]
    }

    pub(crate) fn coin(&mut self) -> bool {
        self.next().is_multiple_of(2)
    }

    /// Returns `digits` hexadecimal digits.
    pub(crate) fn hex(&mut self, digits: usize) -> String {
        (0..digits).map(|_| char::from_digit((self.next() % 16) as u32, 16).unwrap()).collect()
    }

    pub(crate) fn uid(&mut self) -> String {
        let part = |digits| self.hex(digits);
        [8, 4, 4, 4, 12].map(part).join("-")
    }
}
