//! Trees of files whose sizes are spread as those of real systems are (log-normal), the same for the same seed.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::Context as _;

/// How wide the sizes are spread: with this 20,000 files of a gibibyte have a median of about 10 kB, a largest of some
/// tens of MB.
const SIGMA: f64 = 1.844;
/// Files in one folder.
const IN_A_FOLDER: u32 = 20;
/// How much is made at a time.
const PIECE: usize = 64 << 10;

/// What a tree is to be like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// How many files.
    pub files: u32,
    /// How many bytes in all of them, within a twentieth.
    pub bytes: u64,
    /// Which sizes and contents.
    pub seed: u64,
}

/// What was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    /// The paths, relative to the tree, in no order of size.
    pub files: Vec<String>,
    /// All bytes.
    pub bytes: u64,
    /// The size of the one in the middle.
    pub median: u64,
    /// The size of the largest.
    pub largest: u64,
}

/// Marsaglia's xorshift64*: a gibibyte of it in a second, and no compression makes it smaller.
struct Noise(u64);

impl Noise {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// Above 0, up to 1.
    fn part(&mut self) -> f64 {
        ((self.next() >> 11) + 1) as f64 / (1u64 << 53) as f64
    }

    /// Box and Muller's.
    fn normal(&mut self) -> f64 {
        (-2.0 * self.part().ln()).sqrt() * (2.0 * std::f64::consts::PI * self.part()).cos()
    }
}

impl Shape {
    /// The size of each file.
    fn sizes(&self) -> Vec<u64> {
        let mut noise = Noise::new(self.seed);
        let drawn: Vec<f64> = (0..self.files).map(|_| (SIGMA * noise.normal()).exp()).collect();
        // What was drawn decides the spread, what is wished the sum.
        let scale = self.bytes as f64 / drawn.iter().sum::<f64>();
        drawn.into_iter().map(|size| ((size * scale) as u64).max(1)).collect()
    }

    /// Writes it into `dir`, which must not be there yet.
    ///
    /// # Errors
    /// Something cannot be written.
    pub fn plant(&self, dir: &Path) -> anyhow::Result<Tree> {
        fs::create_dir(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let sizes = self.sizes();
        let mut noise = Noise::new(!self.seed);
        let mut piece = vec![0; PIECE];
        let mut tree = Tree { files: Vec::new(), bytes: 0, median: 0, largest: 0 };
        for (number, size) in (0u32..).zip(&sizes) {
            // Two levels, as in real trees.
            let folder = number / IN_A_FOLDER;
            let name = format!("{}/{folder}/file-{number}", folder / 32);
            let path = dir.join(&name);
            if number % IN_A_FOLDER == 0 {
                fs::create_dir_all(path.parent().unwrap_or(dir))?;
            }
            let mut file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
            let mut left = *size;
            while left > 0 {
                for word in piece.chunks_exact_mut(8).take(left.div_ceil(8).min(PIECE as u64 / 8) as usize) {
                    word.copy_from_slice(&noise.next().to_le_bytes());
                }
                let count = left.min(PIECE as u64);
                file.write_all(&piece[..count as usize])?;
                left -= count;
            }
            file.set_permissions(fs::Permissions::from_mode(0o644))?;
            tree.bytes += size;
            tree.files.push(name);
        }
        let mut sorted = sizes;
        sorted.sort_unstable();
        tree.median = sorted.get(sorted.len() / 2).copied().unwrap_or(0);
        tree.largest = sorted.last().copied().unwrap_or(0);
        Ok(tree)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_wished_gibibyte_has_the_described_spread() {
        let sizes = Shape { files: 20_000, bytes: 1 << 30, seed: 1 }.sizes();
        let sum: u64 = sizes.iter().sum();
        assert!(sum.abs_diff(1 << 30) < 1 << 20, "{sum}");
        let mut sorted = sizes.clone();
        sorted.sort_unstable();
        assert!((8_000..12_000).contains(&sorted[10_000]), "{}", sorted[10_000]);
        assert!((10 << 20..100 << 20).contains(sorted.last().unwrap()), "{}", sorted.last().unwrap());
    }

    #[test]
    fn the_same_seed_makes_the_same_tree() {
        let dir = tempfile::tempdir().unwrap();
        let shape = Shape { files: 50, bytes: 300_000, seed: 7 };
        let one = shape.plant(&dir.path().join("one")).unwrap();
        let other = shape.plant(&dir.path().join("other")).unwrap();
        assert_eq!(one, other);
        let mut sum = 0;
        for name in &one.files {
            let content = fs::read(dir.path().join("one").join(name)).unwrap();
            assert_eq!(content, fs::read(dir.path().join("other").join(name)).unwrap());
            sum += content.len() as u64;
        }
        assert_eq!(sum, one.bytes);
        let last = fs::read(dir.path().join("one").join(&one.files[49])).unwrap();
        assert_ne!(last, vec![0; last.len()]);
    }
}
