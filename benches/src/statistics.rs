//! Medians, spreads and ratios of pairs.

use serde::Serialize;

/// The middle of some values with their ends; never the middle alone, because it hides the noise.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// The value in the middle; of an even number, the mean of the two in the middle.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
}

impl Spread {
    /// Of the finite values among these; none if there is none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
        sorted.sort_by(f64::total_cmp);
        let (&min, &max) = (sorted.first()?, sorted.last()?);
        let upper = *sorted.get(sorted.len() / 2)?;
        let lower = *sorted.get((sorted.len() - 1) / 2)?;
        Some(Self { median: f64::midpoint(lower, upper), min, max })
    }
}

/// The value that `part` of all are not above, 0.99 say: one of the values, by the nearest rank.
pub fn quantile(values: &[f64], part: f64) -> Option<f64> {
    let mut sorted: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
    sorted.sort_by(f64::total_cmp);
    let rank = (part * sorted.len() as f64).ceil().max(1.0) as usize;
    sorted.get(rank - 1).copied()
}

/// The ratios of pairs, peer over ours, so that more than 1 means that ours needed less. Pair by pair and not median
/// over median: what disturbs the machine for a minute disturbs both halves of a pair.
pub fn ratios(ours: &[f64], peer: &[f64]) -> Option<Spread> {
    Spread::of(ours.iter().zip(peer).filter(|(ours, _)| **ours > 0.0).map(|(ours, peer)| peer / ours))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(Spread::of([3.0, 1.0, 2.0]), Some(Spread { median: 2.0, min: 1.0, max: 3.0 }));
        assert_eq!(Spread::of([4.0, 1.0, 2.0, 3.0]), Some(Spread { median: 2.5, min: 1.0, max: 4.0 }));
        assert_eq!(Spread::of([7.0]), Some(Spread { median: 7.0, min: 7.0, max: 7.0 }));
        assert_eq!(Spread::of([]), None);
        assert_eq!(Spread::of([f64::NAN, 1.0]), Spread::of([1.0]));
    }

    #[test]
    fn a_quantile_is_one_of_the_values() {
        let values: Vec<f64> = (1..=200).map(f64::from).collect();
        assert_eq!(quantile(&values, 0.99), Some(198.0));
        assert_eq!(quantile(&values, 0.5), Some(100.0));
        assert_eq!(quantile(&[7.0], 0.99), Some(7.0));
        assert_eq!(quantile(&[], 0.99), None);
    }

    #[test]
    fn ratios_are_of_pairs_not_of_medians() {
        // The second pair ran while the machine was busy: its ratio is like the others', its times are not.
        let ratio = ratios(&[1.0, 10.0, 2.0], &[5.0, 60.0, 8.0]);
        assert_eq!(ratio, Some(Spread { median: 5.0, min: 4.0, max: 6.0 }));
    }

    #[test]
    fn no_ratio_rests_on_nothing() {
        assert_eq!(ratios(&[], &[]), None);
        assert_eq!(ratios(&[0.0], &[1.0]), None);
        assert_eq!(ratios(&[2.0, 0.0], &[1.0, 1.0]), Some(Spread { median: 0.5, min: 0.5, max: 0.5 }));
    }
}
