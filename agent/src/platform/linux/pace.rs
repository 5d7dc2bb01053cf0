//! How often files are looked at and read although nothing was told of them: as often as that is cheap. Who is due is asked
//! by `trees` and `rehash`.

use fleet::Millis;

/// So much of a look at every file costs nothing that anybody would notice, and calls for no rest.
const FREE_NANOS: u64 = 2_000_000;

/// How often files are looked at and read although nothing was told of them.
#[derive(Debug, Clone, Copy)]
pub struct WatchPace {
    /// Between two looks at every file, at most.
    pub sweep_every: Millis,
    /// One is followed by this many times as long without one, if that is sooner.
    pub sweep_rest: u64,
    /// But by at least this, however small the release.
    pub sweep_soonest: Millis,
    /// Between two readings of every file.
    pub rehash_every: Millis,
    /// Between two looks whether something is due to be read again, or was made so by something odd. That passes over all
    /// files of what is held, in memory only.
    pub rehash_look_every: Millis,
    /// The part of one core that reading them again may take, in percent.
    pub cpu_percent: u8,
}

impl Default for WatchPace {
    fn default() -> Self {
        // About a three-thousandth of one core: 20,000 files (40 ms) are looked at every two minutes, 1,000 (2 ms) in every
        // round.
        let sweep_rest = 3_000;
        Self {
            sweep_every: Millis::from_secs(120),
            sweep_rest,
            sweep_soonest: Millis::from_secs(1),
            rehash_every: Millis::from_secs(3_600),
            rehash_look_every: Millis::from_secs(15),
            cpu_percent: 10,
        }
    }
}

impl WatchPace {
    /// The pause until everything is looked at again, by what the last two such looks took which had nothing to read
    /// (processor time, or a tenth of the time; 0: there was none yet). The cheaper of them counts: one that was held up, or met files that somebody
    /// had just changed, must not keep the next one away for minutes.
    pub(super) fn pause(&self, took: [u64; 2]) -> Millis {
        let counts = took[0].min(took[1]).saturating_sub(FREE_NANOS);
        let rest = Millis(counts.saturating_mul(self.sweep_rest) / 1_000_000);
        rest.max(self.sweep_soonest).min(self.sweep_every)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_are_as_frequent_as_they_are_cheap_and_one_that_was_dear_delays_nothing() {
        let pause = |took: [u64; 2]| WatchPace::default().pause(took.map(|millis| millis * 1_000_000));
        let (soonest, latest) = (Millis::from_secs(1), Millis::from_secs(120));
        assert_eq!(pause([0, 0]), soonest);
        assert_eq!((pause([2, 2]), pause([2, 900]), pause([900, 2])), (soonest, soonest, soonest));
        assert_eq!(pause([12, 15]), Millis::from_secs(30));
        assert_eq!((pause([42, 0]), pause([42, 44]), pause([900, 900])), (soonest, latest, latest));
    }
}
