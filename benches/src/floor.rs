//! What cannot be beaten: the same files read and hashed, or only looked at, by nothing but the calls that this takes,
//! with so many threads.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::{Context as _, bail};
use fleet::Digest;
use nix::fcntl::{AtFlags, OFlag, open};
use nix::sys::stat::{Mode, fstatat};
use sha2::{Digest as _, Sha256};

use crate::cost::Cost;
use crate::{process, procfs};

/// How much is read at a time.
const PIECE: usize = 128 << 10;

/// Reads and hashes every file; the digests in the order of the files, and the bytes.
///
/// # Errors
/// A file cannot be read.
pub fn hash(tree: &Path, files: &[String], threads: usize) -> anyhow::Result<(Vec<Digest>, u64, Cost)> {
    let (next, bytes) = (AtomicUsize::new(0), AtomicU64::new(0));
    let work = || -> anyhow::Result<Vec<(usize, Digest)>> {
        let (mut done, mut piece) = (Vec::new(), vec![0; PIECE]);
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(name) = files.get(number) else { return Ok(done) };
            let mut file = File::open(tree.join(name)).with_context(|| format!("cannot open {name}"))?;
            let mut sum = Sha256::new();
            loop {
                let read = file.read(&mut piece)?;
                if read == 0 {
                    break;
                }
                sum.update(&piece[..read]);
                bytes.fetch_add(read as u64, Ordering::Relaxed);
            }
            done.push((number, Digest(sum.finalize().into())));
        }
    };
    let (parts, cost) = together(threads, work)?;
    let mut digests: Vec<(usize, Digest)> = parts.into_iter().flatten().collect();
    digests.sort_by_key(|(number, _)| *number);
    if digests.len() != files.len() {
        bail!("void: {} of {} files were hashed", digests.len(), files.len());
    }
    Ok((digests.into_iter().map(|(_, digest)| digest).collect(), bytes.into_inner(), cost))
}

/// Looks at every file by its folder's descriptor, as somebody does who knows them all.
///
/// # Errors
/// A file or folder is not there.
pub fn stat(tree: &Path, files: &[String], threads: usize) -> anyhow::Result<Cost> {
    let mut folders: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for file in files {
        let (folder, name) = file.rsplit_once('/').unwrap_or((".", file));
        folders.entry(folder).or_default().push(name);
    }
    let folders: Vec<_> = folders.into_iter().collect();
    let (next, seen) = (AtomicUsize::new(0), AtomicU64::new(0));
    let work = || -> anyhow::Result<u64> {
        let mut sizes = 0;
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some((folder, names)) = folders.get(number) else { return Ok(sizes) };
            let directory = open(&tree.join(folder), OFlag::O_RDONLY | OFlag::O_DIRECTORY, Mode::empty())
                .with_context(|| format!("cannot open {folder}"))?;
            for name in names {
                let found = fstatat(&directory, *name, AtFlags::AT_SYMLINK_NOFOLLOW)
                    .with_context(|| format!("cannot look at {folder}/{name}"))?;
                sizes += u64::try_from(found.st_size).unwrap_or(0);
                seen.fetch_add(1, Ordering::Relaxed);
            }
        }
    };
    let (_, cost) = together(threads, work)?;
    if seen.into_inner() != files.len() as u64 {
        bail!("void: not every file was looked at");
    }
    Ok(cost)
}

/// The same work by so many threads, and what all of it cost.
fn together<T: Send>(threads: usize, work: impl Fn() -> anyhow::Result<T> + Sync) -> anyhow::Result<(Vec<T>, Cost)> {
    let me = process::own_pid();
    let (begun, cpu) = (Instant::now(), procfs::on_cpu(me)?);
    let done: anyhow::Result<Vec<T>> = std::thread::scope(|scope| {
        let started: Vec<_> = (0..threads).map(|_| scope.spawn(&work)).collect();
        started
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|_| bail!("a thread has ended by a panic")))
            .collect()
    });
    let wall_s = begun.elapsed().as_secs_f64();
    let cpu_s = procfs::on_cpu(me)?.saturating_sub(cpu).as_secs_f64();
    Ok((done?, Cost { wall_s, cpu_s, rss_kib: None }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::tree::Shape;

    #[test]
    fn everything_is_hashed_and_looked_at_whatever_the_threads() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("tree");
        let tree = Shape { files: 45, bytes: 200_000, seed: 1 }.plant(&root).unwrap();
        let (digests, bytes, _) = hash(&root, &tree.files, 2).unwrap();
        assert_eq!((digests.len(), bytes), (45, tree.bytes));
        assert_eq!(hash(&root, &tree.files, 1).unwrap().0, digests);
        for (name, digest) in tree.files.iter().zip(&digests) {
            let content = std::fs::read(root.join(name)).unwrap();
            assert_eq!(Digest(Sha256::digest(content).into()), *digest);
        }
        stat(&root, &tree.files, 2).unwrap();
        std::fs::remove_file(root.join(&tree.files[7])).unwrap();
        assert!(stat(&root, &tree.files, 1).is_err() && hash(&root, &tree.files, 1).is_err());
    }
}
