//! What the service manager is told: that the controller serves, that it still thinks, that it stops. The protocol is
//! sd_notify(3); where nobody listens (`NOTIFY_SOCKET` is not set) nothing is said. Starting again what does not say that it
//! lives is the service manager's work.

use std::convert::Infallible;

use sd_notify::NotifyState;
use tokio::sync::watch;

/// It serves.
pub(crate) fn ready(status: &str) {
    say(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// It was told to end.
pub(crate) fn stopping() {
    say(&[NotifyState::Stopping]);
}

/// Says for ever that it lives, as often as the service manager wants that, as long as the mind has turned since it was last
/// said. A runtime that still turns is no sign: the one task that owns all state must.
pub(crate) async fn live(mut pulse: watch::Receiver<u64>) -> Infallible {
    let Some(wanted) = sd_notify::watchdog_enabled() else { return std::future::pending().await };
    loop {
        // Half of what is allowed, as sd_watchdog_enabled(3) advises.
        tokio::time::sleep(wanted / 2).await;
        if pulse.changed().await.is_ok() {
            say(&[NotifyState::Watchdog]);
        } else {
            std::future::pending::<()>().await;
        }
    }
}

fn say(what: &[NotifyState<'_>]) {
    if let Err(cause) = sd_notify::notify(what) {
        tracing::warn!("the service manager cannot be told {what:?}: {cause}");
    }
}
