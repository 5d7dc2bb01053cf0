//! Watching a prefix: hints that something changed. A hint may be lost to a watcher that is too slow, who is then told
//! to list again; the truth is always what `get` and `list` say.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::broadcast::{self, error::RecvError};

use super::Change;

/// How many batches a watcher may be behind before it is told to list again. Batches are shared between watchers and
/// are at most some MiB each, but nearly always a few hundred bytes.
const BATCHES_KEPT: usize = 256;

/// What a watcher learns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hint {
    /// A key under the prefix changed.
    Changed(Change),
    /// Some changes were missed: list again.
    Relist,
}

/// The changes under one prefix since the watch began, in order.
#[derive(Debug)]
pub struct Watch {
    prefix: String,
    receiver: broadcast::Receiver<Arc<Vec<Change>>>,
    waiting: VecDeque<Change>,
}

impl Watch {
    /// The next hint, or `None` when the store is gone. Cancelling loses nothing.
    pub async fn next(&mut self) -> Option<Hint> {
        loop {
            if let Some(change) = self.waiting.pop_front() {
                return Some(Hint::Changed(change));
            }
            match self.receiver.recv().await {
                Ok(changes) => {
                    self.waiting.extend(changes.iter().filter(|c| c.key.starts_with(&self.prefix)).cloned());
                }
                Err(RecvError::Lagged(_)) => return Some(Hint::Relist),
                Err(RecvError::Closed) => return None,
            }
        }
    }
}

/// The side that publishes.
#[derive(Debug)]
pub(super) struct Feed(broadcast::Sender<Arc<Vec<Change>>>);

impl Feed {
    pub(super) fn new() -> Feed {
        Feed(broadcast::channel(BATCHES_KEPT).0)
    }

    pub(super) fn publish(&self, changes: Vec<Change>) {
        if !changes.is_empty() {
            // No receiver is no fault: nobody watches.
            let _ = self.0.send(Arc::new(changes));
        }
    }

    pub(super) fn watch(&self, prefix: &str) -> Watch {
        Watch { prefix: prefix.into(), receiver: self.0.subscribe(), waiting: VecDeque::new() }
    }
}
