//! Bundles on their way to agents: chunk by chunk, only as fast as they are read. An agent that asks and does not read
//! holds a few chunks and an open file, never a thread; and it may do so only a few times at once.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::sync::{Arc, Mutex, PoisonError};

use fleet::{Digest, NodeName};
use fleet_proto::{LARGEST_CHUNK, v1};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::artifacts::Artifacts;

/// Chunks of a bundle read ahead: 1 MiB, enough to keep a fast link busy.
const CHUNKS_AHEAD: usize = 4;
/// Fetches of one node at once. An agent has one for each service that it is changing; each costs an open file and the
/// chunks read ahead.
const MOST_AT_ONCE: usize = 32;

/// A bundle as it travels.
pub type Chunks = ReceiverStream<Result<v1::Chunk, Status>>;

/// The fetches that are under way, by node.
#[derive(Debug, Clone)]
pub struct Fetches {
    artifacts: Artifacts,
    under_way: Arc<Mutex<BTreeMap<NodeName, usize>>>,
}

/// One fetch's place in the count of its node.
struct Place {
    fetches: Fetches,
    node: NodeName,
}

impl Fetches {
    /// Serves what `artifacts` keeps.
    pub fn new(artifacts: Artifacts) -> Self {
        Self { artifacts, under_way: Arc::default() }
    }

    /// Begins to send a bundle from an offset on.
    ///
    /// # Errors
    /// When it is not kept, or when the node has too many fetches under way.
    pub async fn begin(&self, node: NodeName, digest: Digest, offset: u64) -> Result<Chunks, Status> {
        let place = self.take_place(node)?;
        let artifacts = self.artifacts.clone();
        let opened = blocking(move || artifacts.open_at(&digest, offset)).await;
        let file = opened.map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => Status::not_found(format!("there is no bundle {digest} here")),
            _ => unreadable(&digest, &e),
        })?;
        let (chunks, stream) = mpsc::channel(CHUNKS_AHEAD);
        tokio::spawn(send(file, digest, chunks, place));
        Ok(ReceiverStream::new(stream))
    }

    fn take_place(&self, node: NodeName) -> Result<Place, Status> {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        let count = under_way.entry(node.clone()).or_default();
        if *count >= MOST_AT_ONCE {
            let what = format!("{node} has {MOST_AT_ONCE} fetches under way already: read those first");
            return Err(Status::resource_exhausted(what));
        }
        *count += 1;
        Ok(Place { fetches: self.clone(), node })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut under_way = self.fetches.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = under_way.get_mut(&self.node) {
            *count -= 1;
            if *count == 0 {
                under_way.remove(&self.node);
            }
        }
    }
}

async fn send(mut file: File, digest: Digest, chunks: mpsc::Sender<Result<v1::Chunk, Status>>, _place: Place) {
    loop {
        // Read only when there is room: who does not read keeps no thread waiting.
        let Ok(room) = chunks.reserve().await else { return };
        let read = blocking(move || read_chunk(&mut file).map(|data| (file, data))).await;
        match read {
            Ok((_, data)) if data.is_empty() => return,
            Ok((again, data)) => {
                file = again;
                room.send(Ok(v1::Chunk { data }));
            }
            Err(e) => return room.send(Err(unreadable(&digest, &e))),
        }
    }
}

/// The next bytes; none at the end.
fn read_chunk(file: &mut File) -> io::Result<Vec<u8>> {
    let mut data = Vec::with_capacity(LARGEST_CHUNK);
    file.take(LARGEST_CHUNK as u64).read_to_end(&mut data)?;
    Ok(data)
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

fn unreadable(digest: &Digest, error: &io::Error) -> Status {
    Status::internal(format!("cannot read bundle {digest}: {error}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use tokio_stream::StreamExt;

    const DIGEST: Digest = Digest([7; 32]);

    fn kept(content: &[u8]) -> (tempfile::TempDir, Fetches) {
        let dir = tempfile::tempdir().unwrap();
        let artifacts = Artifacts::open(dir.path()).unwrap();
        let name = format!("{}{}", DIGEST.hex(), fleet_bundle::FILE_SUFFIX);
        std::fs::write(dir.path().join("artifacts").join(name), content).unwrap();
        (dir, Fetches::new(artifacts))
    }

    fn node(name: &str) -> NodeName {
        name.parse().unwrap()
    }

    #[tokio::test]
    async fn a_bundle_arrives_whole_from_any_offset() {
        let content: Vec<u8> = (0..3 * LARGEST_CHUNK + 5).map(|i| i as u8).collect();
        let (_dir, fetches) = kept(&content);
        for offset in [0, 1, LARGEST_CHUNK, content.len(), content.len() + 1] {
            let mut chunks = fetches.begin(node("n1"), DIGEST, offset as u64).await.unwrap();
            let mut arrived = Vec::new();
            while let Some(chunk) = chunks.next().await {
                let data = chunk.unwrap().data;
                assert!(!data.is_empty() && data.len() <= LARGEST_CHUNK);
                arrived.extend(data);
            }
            assert_eq!(arrived, content.get(offset..).unwrap_or_default());
        }
        let refused = fetches.begin(node("n1"), Digest([8; 32]), 0).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::NotFound);
    }

    #[tokio::test]
    async fn who_does_not_read_is_bounded_and_others_are_served() {
        let (_dir, fetches) = kept(&vec![1; 10 * LARGEST_CHUNK]);
        let mut unread = Vec::new();
        for _ in 0..MOST_AT_ONCE {
            unread.push(fetches.begin(node("n1"), DIGEST, 0).await.unwrap());
        }
        let refused = fetches.begin(node("n1"), DIGEST, 0).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
        assert!(fetches.begin(node("n2"), DIGEST, 0).await.is_ok());
        // The places come back with the streams.
        unread.clear();
        while !fetches.under_way.lock().unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
        assert!(fetches.begin(node("n1"), DIGEST, 0).await.is_ok());
    }
}
