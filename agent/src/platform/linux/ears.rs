//! A thread that waits for what the kernel tells of files, and says that something was told. What it was is taken in by
//! the next look.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::sync::watch;

use super::watch::{Told, Watches};

/// Whoever copies a tree makes thousands of changes; this much of them makes one look.
const TOGETHER: Duration = Duration::from_millis(10);

/// The thread ends when this is dropped.
#[derive(Debug)]
pub(super) struct Ears {
    _stop: OwnedFd,
}

impl Ears {
    /// # Errors
    /// No pipe or no thread is to be had.
    pub(super) fn open(watches: Arc<Watches>, notice: watch::Sender<u64>) -> std::io::Result<Self> {
        let (stopped, stop) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
        std::thread::Builder::new().name("ears".to_owned()).stack_size(256 << 10).spawn(move || {
            hear(&watches, &stopped, &notice);
        })?;
        Ok(Self { _stop: stop })
    }
}

fn hear(watches: &Watches, stopped: &OwnedFd, notice: &watch::Sender<u64>) {
    loop {
        let mut both =
            [PollFd::new(watches.descriptor(), PollFlags::POLLIN), PollFd::new(stopped.as_fd(), PollFlags::POLLIN)];
        match poll(&mut both, PollTimeout::NONE) {
            Ok(_) => {}
            Err(Errno::EINTR) => continue,
            Err(refused) => return tracing::error!("changes of files cannot be waited for: {refused}"),
        }
        if both[1].any().unwrap_or(true) {
            return;
        }
        let first = watches.listen();
        // The end of this wait is either its time or the end of the thread: nothing that is told can be missed by it.
        let mut end = [PollFd::new(stopped.as_fd(), PollFlags::POLLIN)];
        let pause = PollTimeout::try_from(TOGETHER).unwrap_or(PollTimeout::ZERO);
        if poll(&mut end, pause).is_ok_and(|ready| ready > 0) {
            return;
        }
        if first == Told::Something || watches.listen() == Told::Something {
            notice.send_modify(|count| *count += 1);
        }
    }
}
