//! What the service manager is told: that the agent has taken up its services, that it lives, that it stops. The protocol is
//! sd_notify(3); where nobody listens (`NOTIFY_SOCKET` is not set) nothing is said. Starting again what does not say that it
//! lives is the service manager's work.

use std::convert::Infallible;

use sd_notify::NotifyState;

/// It has taken up what it found, whether the controller can be reached or not.
pub(crate) fn ready(status: &str) {
    say(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// It was told to end; services go on.
pub(crate) fn stopping() {
    say(&[NotifyState::Stopping]);
}

/// Says for ever that it lives, as often as the service manager wants that, as long as the thread of the services answers
/// this one, the link's.
pub(crate) async fn live() -> Infallible {
    let Some(wanted) = sd_notify::watchdog_enabled() else { return std::future::pending().await };
    loop {
        // Half of what is allowed, as sd_watchdog_enabled(3) advises.
        tokio::time::sleep(wanted / 2).await;
        if tokio::spawn(async {}).await.is_ok() {
            say(&[NotifyState::Watchdog]);
        }
    }
}

fn say(what: &[NotifyState<'_>]) {
    if let Err(cause) = sd_notify::notify(what) {
        tracing::warn!("the service manager cannot be told {what:?}: {cause}");
    }
}
