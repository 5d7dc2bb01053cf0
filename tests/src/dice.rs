//! Numbers that differ from run to run. The seed is printed, so that a run can be repeated: `FLEET_TESTS_SEED`.

/// A sequence of numbers.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// By `FLEET_TESTS_SEED` if it is set, else by chance; says which.
    pub fn thrown() -> Dice {
        let seed = std::env::var("FLEET_TESTS_SEED")
            .ok()
            .and_then(|text| text.parse().ok())
            .unwrap_or_else(|| u64::from(std::process::id()));
        eprintln!("FLEET_TESTS_SEED={seed}");
        Dice(seed)
    }

    /// The same sequence for the same seed.
    pub fn seeded(seed: u64) -> Dice {
        Dice(seed)
    }

    /// From 0 to `limit` - 1: Knuth's MMIX generator, of which the upper bits are the good ones.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }

    /// Whether something happens that happens `of_a_hundred` times in a hundred.
    pub fn happens(&mut self, of_a_hundred: u64) -> bool {
        self.below(100) < of_a_hundred
    }

    /// One of some.
    pub fn one_of<'a, T>(&mut self, some: &'a [T]) -> &'a T {
        &some[self.below(some.len() as u64) as usize]
    }

    /// So many bytes that no compression makes smaller.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(count + 4);
        while bytes.len() < count {
            bytes.extend_from_slice(&(self.below(1 << 31) as u32).to_le_bytes()[..3]);
        }
        bytes.truncate(count);
        bytes
    }

    /// A size between `least` and `most`, small ones being as likely as large ones: every power of two has its turn.
    pub fn size(&mut self, least: u64, most: u64) -> usize {
        let doublings = 64 - (most / least.max(1)).leading_zeros();
        let top = least.max(1) << self.below(u64::from(doublings.max(1)));
        (least + self.below(top.min(most - least).max(1))) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_numbers_within_their_bounds() {
        let (mut one, mut other) = (Dice::seeded(7), Dice::seeded(7));
        for _ in 0..1_000 {
            let size = one.size(10, 5_000);
            assert_eq!(size, other.size(10, 5_000));
            assert!((10..5_000).contains(&size), "{size}");
            assert_eq!(one.bytes(size % 50), other.bytes(size % 50));
        }
        assert_eq!(one.bytes(17).len(), 17);
    }
}
