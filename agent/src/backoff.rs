//! How long to wait before trying again: doubling, capped, with full jitter, so that a thousand agents that lost one
//! controller do not come back in one moment (F46).

use std::time::Duration;

/// A growing pause.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    tries: u32,
}

impl Backoff {
    /// Starts at `first`, never exceeds `longest`.
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, tries: 0 }
    }

    /// The next pause without jitter: for restarts on one machine, where nobody else waits.
    pub fn next_even(&mut self) -> Duration {
        let pause = self.first.saturating_mul(1 << self.tries.min(20)).min(self.longest);
        self.tries = self.tries.saturating_add(1);
        pause
    }

    /// The next pause: anything from a little to all of the even one.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Duration {
        let whole = self.next_even();
        // Without randomness the even pause still works; it only spreads nothing.
        let random = getrandom::u32().map_or(1.0, |random| f64::from(random) / f64::from(u32::MAX));
        whole.mul_f64(random).max(Duration::from_millis(20)).min(self.longest)
    }

    /// Things went well: start over.
    pub fn reset(&mut self) {
        self.tries = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));
        let pauses: Vec<u128> = (0..8).map(|_| backoff.next_even().as_millis()).collect();
        assert_eq!(pauses, [200, 400, 800, 1_600, 3_200, 6_400, 10_000, 10_000]);
        for _ in 0..100 {
            assert!(backoff.next() <= Duration::from_secs(10));
        }
        backoff.reset();
        assert_eq!(backoff.next_even(), Duration::from_millis(200));
    }
}
