//! Acting on a process by identity: a signal reaches this very process or none, and its end is awaited as an event.
//! Numbers are reused; a pidfd is not. The start time is compared after the pidfd is open, which closes the gap.

use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::proc::{self, Identity};

/// How often to look where the kernel has no pidfds (before 5.3, or forbidden by a sandbox).
const POLL: Duration = Duration::from_millis(100);

/// What became of a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Delivery {
    /// The process has it.
    Sent,
    /// The process was gone before.
    Gone,
}

/// A process held by descriptor.
enum Hold {
    /// It runs; the descriptor is its own.
    Held(OwnedFd),
    /// It runs, and the kernel gives no descriptor.
    Unheld(Pid),
    /// It does not run.
    Gone,
}

/// Sends `signal` to this very process.
///
/// # Errors
/// The kernel refused (another user's process).
pub(super) fn signal(identity: Identity, signal: Signal) -> std::io::Result<Delivery> {
    let sent = match hold(identity) {
        Hold::Held(descriptor) => pidfd_send_signal(descriptor, signal),
        // Without pidfds the gap between look and signal stays; it is as small as it can be made.
        Hold::Unheld(pid) => kill_process(pid, signal),
        Hold::Gone => return Ok(Delivery::Gone),
    };
    match sent {
        Ok(()) => Ok(Delivery::Sent),
        Err(Errno::SRCH) => Ok(Delivery::Gone),
        Err(refused) => Err(refused.into()),
    }
}

/// Returns when this very process has ended.
pub(super) async fn gone(identity: Identity) {
    if let Hold::Held(descriptor) = hold(identity)
        && let Some(descriptor) = watched(descriptor)
    {
        // A pidfd becomes readable when its process ends, and never before.
        let _ = descriptor.readable().await;
    }
    // Reached at once after the event; the loop is for kernels without pidfds and for an exhausted descriptor table.
    while proc::runs(identity) {
        tokio::time::sleep(POLL).await;
    }
}

/// The descriptor as an event source; None where the runtime has no room for it.
fn watched(descriptor: OwnedFd) -> Option<AsyncFd<OwnedFd>> {
    // SAFETY: the descriptor is owned, and moves into the AsyncFd: it is open, and the same, for as long as that lives.
    #[allow(unsafe_code)]
    unsafe {
        AsyncFd::register_with_interest(descriptor, Interest::READABLE).ok()
    }
}

fn hold(identity: Identity) -> Hold {
    let Some(pid) = i32::try_from(identity.pid).ok().and_then(Pid::from_raw) else { return Hold::Gone };
    let opened = pidfd_open(pid, PidfdFlags::empty());
    if !proc::runs(identity) {
        return Hold::Gone;
    }
    match opened {
        Ok(descriptor) => Hold::Held(descriptor),
        Err(Errno::SRCH) => Hold::Gone,
        Err(_) => Hold::Unheld(pid),
    }
}
