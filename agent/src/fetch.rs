//! Bringing a bundle here: by digest, resumed where it broke off, verified before it has its name. Where the bytes
//! come from is behind [`Source`]; what is in them is `releases`' and `fleet_bundle`'s business.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::Duration;

use fleet::Digest;
use tokio_stream::{Stream, StreamExt};

use crate::backoff::Backoff;
use crate::durable::{self, FileError};
use crate::layout::Layout;
use crate::platform::linux::machine;

/// Space left untouched beyond the bundle, in bytes: orders, records and journals must still be writable (I12).
pub const MARGIN: u64 = 4 << 20;
/// A bundle that arrives whole and wrong this often will not arrive right.
const MOST_MISMATCHES: u32 = 3;
/// A stream that is silent for so long is taken for dead and resumed.
const SILENCE: Duration = Duration::from_secs(20);
/// The longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Bytes of a bundle as they come.
pub type Chunks = Pin<Box<dyn Stream<Item = Result<Vec<u8>, SourceError>> + Send>>;

/// The bytes could not be had now; trying again may help.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct SourceError(pub String);

/// Where bundles come from.
#[tonic::async_trait]
pub trait Source: Send + Sync + 'static {
    /// The bytes of the bundle with this digest, from `offset` on.
    async fn open(&self, bundle: &Digest, offset: u64) -> Result<Chunks, SourceError>;
}

/// Why fetching was given up.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// No room.
    #[error("no space for the bundle in {}: {needed} bytes are needed and {free} are free; remove something and order it again", path.display())]
    NoSpace {
        /// Where.
        path: PathBuf,
        /// What is needed, margin included.
        needed: u64,
        /// What there is.
        free: u64,
    },
    /// It arrived whole and wrong, again and again.
    #[error(
        "the controller sent {tries} times something else than {expected}, last {found}: its copy is damaged, create the release again"
    )]
    Mismatch {
        /// What was asked for.
        expected: Digest,
        /// What came.
        found: Digest,
        /// How often.
        tries: u32,
    },
    /// The part could not be written or read.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Fetches until it is here, for ever if need be; the caller drops this future when the order is superseded.
///
/// `progress` is told what to show to people. Returns the path of a file that had the right digest when it got its
/// name; `unpack_exactly` checks again.
///
/// # Errors
/// What trying again cannot mend.
pub async fn fetch(
    source: &dyn Source,
    layout: &Layout,
    bundle: &Digest,
    size: u64,
    progress: &(dyn Fn(String) + Sync),
) -> Result<PathBuf, FetchError> {
    let (target, part) = (layout.bundle(bundle), layout.partial(bundle));
    if std::fs::metadata(&target).is_ok_and(|found| found.len() == size) {
        return Ok(target);
    }
    let mut backoff = Backoff::new(Duration::from_millis(100), LONGEST_PAUSE);
    let mut mismatches = 0;
    loop {
        let have = length(&part)?;
        if have > size {
            durable::remove(&part)?;
            continue;
        }
        check_space(&layout.bundles(), size - have)?;
        if have < size {
            progress(format!("{} of {}", bytes(have), bytes(size)));
            if let Err(error) = receive(source, &part, bundle, have, size, progress).await {
                match error {
                    Interruption::Link(reason) => {
                        let pause = backoff.next();
                        tracing::warn!(bundle = %bundle.short(), "fetching broke off at {}: {reason}; again in {pause:?}", bytes(length(&part)?));
                        progress(format!("{} of {}, interrupted: {reason}", bytes(length(&part)?), bytes(size)));
                        tokio::time::sleep(pause).await;
                        continue;
                    }
                    Interruption::File(error) if error.cause.kind() == io::ErrorKind::StorageFull => {
                        let free = machine::free_space(&layout.bundles()).unwrap_or(0);
                        durable::remove(&part)?;
                        return Err(FetchError::NoSpace { path: layout.bundles(), needed: size + MARGIN, free });
                    }
                    Interruption::File(error) => return Err(error.into()),
                }
            }
        }
        if size == 0 && have == 0 {
            File::create(&part).map_err(FileError::at("make", &part))?;
        }
        progress("verifying".to_owned());
        let found = digest_of(&part).await?;
        if found == *bundle {
            std::fs::rename(&part, &target).map_err(FileError::at("rename to", &target))?;
            durable::sync_directory(&layout.bundles()).map_err(FileError::at("sync", &layout.bundles()))?;
            return Ok(target);
        }
        durable::remove(&part)?;
        mismatches += 1;
        tracing::error!(expected = %bundle, %found, "a bundle arrived whole and wrong (try {mismatches} of {MOST_MISMATCHES}); discarded");
        if mismatches >= MOST_MISMATCHES {
            return Err(FetchError::Mismatch { expected: *bundle, found, tries: mismatches });
        }
    }
}

/// Removes a bundle and what has come of it: it is unpacked, or nobody wants it any more.
pub fn forget(layout: &Layout, bundle: &Digest) {
    for path in [layout.bundle(bundle), layout.partial(bundle)] {
        if let Err(error) = durable::remove(&path) {
            tracing::warn!("{error}");
        }
    }
}

/// Removes every bundle but the `wanted`: what an agent was fetching when it was ended, for an order or a restart that
/// nobody remembers, would lie there for ever. What is wrongly removed is only fetched again.
pub fn sweep(layout: &Layout, wanted: &[Digest]) {
    let keep: Vec<PathBuf> = wanted.iter().flat_map(|bundle| [layout.bundle(bundle), layout.partial(bundle)]).collect();
    let entries = match std::fs::read_dir(layout.bundles()) {
        Ok(entries) => entries,
        Err(cause) => return tracing::warn!("{}", FileError::at("read", &layout.bundles())(cause)),
    };
    for path in entries.flatten().map(|entry| entry.path()).filter(|path| !keep.contains(path)) {
        if let Err(error) = durable::remove(&path) {
            tracing::warn!("{error}");
        }
    }
}

enum Interruption {
    Link(String),
    File(FileError),
}

async fn receive(
    source: &dyn Source,
    part: &Path,
    bundle: &Digest,
    offset: u64,
    size: u64,
    progress: &(dyn Fn(String) + Sync),
) -> Result<(), Interruption> {
    let failed = |what| move |cause| Interruption::File(FileError::at(what, part)(cause));
    let mut chunks = source.open(bundle, offset).await.map_err(|error| Interruption::Link(error.0))?;
    let mut file = OpenOptions::new().append(true).create(true).open(part).map_err(failed("open"))?;
    let mut have = offset;
    loop {
        let chunk = match tokio::time::timeout(SILENCE, chunks.next()).await {
            Ok(Some(Ok(chunk))) => chunk,
            Ok(Some(Err(error))) => return Err(Interruption::Link(error.0)),
            Ok(None) if have == size => break,
            Ok(None) => return Err(Interruption::Link(format!("the stream ended after {have} of {size} bytes"))),
            Err(_) => return Err(Interruption::Link(format!("nothing came for {} s", SILENCE.as_secs()))),
        };
        if have.saturating_add(chunk.len() as u64) > size {
            // More than was announced is certainly not it. What is there cannot be trusted either.
            drop(file);
            durable::remove(part).map_err(Interruption::File)?;
            return Err(Interruption::Link(format!("more than the announced {size} bytes came")));
        }
        file.write_all(&chunk).map_err(failed("write"))?;
        have += chunk.len() as u64;
        progress(format!("{} of {}", bytes(have), bytes(size)));
    }
    file.sync_all().map_err(failed("sync"))
}

fn check_space(directory: &Path, missing: u64) -> Result<(), FetchError> {
    let needed = missing.saturating_add(MARGIN);
    let free = machine::free_space(directory).map_err(FileError::at("ask for the free space of", directory))?;
    if free < needed {
        return Err(FetchError::NoSpace { path: directory.to_owned(), needed, free });
    }
    Ok(())
}

fn length(path: &Path) -> Result<u64, FileError> {
    match std::fs::metadata(path) {
        Ok(found) => Ok(found.len()),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(cause) => Err(FileError::at("look at", path)(cause)),
    }
}

async fn digest_of(path: &Path) -> Result<Digest, FileError> {
    let owned = path.to_owned();
    let work = move || File::open(&owned).and_then(|mut file| fleet_bundle::digest(&mut file));
    let found = tokio::task::spawn_blocking(work).await.unwrap_or_else(|stopped| Err(io::Error::other(stopped)));
    found.map(|(digest, _)| digest).map_err(FileError::at("read", path))
}

/// A size for people.
fn bytes(count: u64) -> String {
    match count {
        0..10_000 => format!("{count} B"),
        10_000..1_000_000 => format!("{:.1} kB", count as f64 / 1e3),
        _ => format!("{:.1} MB", count as f64 / 1e6),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::sync::Mutex;

    /// Gives each try one prepared answer.
    struct Script(Mutex<Vec<Answer>>, Mutex<Vec<u64>>);
    enum Answer {
        Refuses,
        Sends(Vec<u8>),
        SendsThenBreaks(Vec<u8>),
    }

    #[tonic::async_trait]
    impl Source for Script {
        async fn open(&self, _: &Digest, offset: u64) -> Result<Chunks, SourceError> {
            self.1.lock().unwrap().push(offset);
            let items = match self.0.lock().unwrap().remove(0) {
                Answer::Refuses => return Err(SourceError("refused".into())),
                Answer::Sends(bytes) => bytes.chunks(7).map(|chunk| Ok(chunk.to_vec())).collect::<Vec<_>>(),
                Answer::SendsThenBreaks(bytes) => vec![Ok(bytes), Err(SourceError("broke".into()))],
            };
            Ok(Box::pin(tokio_stream::iter(items)))
        }
    }

    async fn run(content: &[u8], answers: Vec<Answer>) -> (Result<Vec<u8>, FetchError>, Vec<u64>) {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        layout.make().unwrap();
        let (digest, size) = fleet_bundle::digest(&mut &content[..]).unwrap();
        let source = Script(Mutex::new(answers), Mutex::default());
        let path = fetch(&source, &layout, &digest, size, &|_| {}).await;
        let offsets = source.1.into_inner().unwrap();
        let left = std::fs::read_dir(layout.bundles()).unwrap().count();
        assert_eq!(left, usize::from(path.is_ok()), "nothing partial is left");
        (path.map(|path| std::fs::read(path).unwrap()), offsets)
    }

    #[tokio::test(start_paused = true)]
    async fn a_broken_transfer_goes_on_where_it_broke_off() {
        let content: Vec<u8> = (0..100).collect();
        let answers = vec![
            Answer::Refuses,
            Answer::SendsThenBreaks(content[..40].to_vec()),
            Answer::Sends(content[40..60].to_vec()),
            Answer::Sends(content[60..].to_vec()),
        ];
        let (fetched, offsets) = run(&content, answers).await;
        assert_eq!(fetched.unwrap(), content);
        assert_eq!(offsets, [0, 0, 40, 60]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_arrives_wrong_is_discarded_and_fetched_again_from_the_start() {
        let content = vec![1; 50];
        let (fetched, offsets) = run(&content, vec![Answer::Sends(vec![2; 50]), Answer::Sends(content.clone())]).await;
        assert_eq!(fetched.unwrap(), content);
        assert_eq!(offsets, [0, 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_controller_whose_copy_is_damaged_is_not_asked_for_ever() {
        let (fetched, offsets) = run(&[1; 50], (0..3).map(|_| Answer::Sends(vec![2; 50])).collect()).await;
        assert!(matches!(fetched, Err(FetchError::Mismatch { tries: 3, .. })));
        assert_eq!(offsets, [0, 0, 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn more_than_announced_is_not_written() {
        let content = vec![1; 50];
        let (fetched, _) = run(&content, vec![Answer::Sends(vec![1; 5_000]), Answer::Sends(content.clone())]).await;
        assert_eq!(fetched.unwrap(), content);
    }

    #[tokio::test]
    async fn a_bundle_that_cannot_fit_is_refused_before_the_first_byte() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        layout.make().unwrap();
        let source = Script(Mutex::default(), Mutex::default());
        let error = fetch(&source, &layout, &Digest([1; 32]), 1 << 60, &|_| {}).await.unwrap_err();
        assert!(matches!(error, FetchError::NoSpace { .. }), "{error}");
        assert!(source.1.lock().unwrap().is_empty());
    }
}
