//! A small deterministic generator: chance is an argument of the realm, given once as a seed.

/// SplitMix64 (Steele, Lea, Flood 2014): full period, good enough for ids and for picking a callee, not for secrets.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// The sequence of this seed.
    pub fn new(seed: u64) -> Self {
        Random(seed)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// An id for a publication that is not in history: 2^52..2^53, above every event id.
    pub fn publication_id(&mut self) -> u64 {
        (1 << 52) | (self.bits() >> 12)
    }

    /// A number in 0..bound; 0 for a bound of 0.
    pub fn below(&mut self, bound: usize) -> usize {
        if bound == 0 { 0 } else { (self.bits() % bound as u64) as usize }
    }
}
