//! Ctrl-C and SIGTERM as an ordinary error, so that every guard is dropped on the way out.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

static ASKED_TO_STOP: AtomicBool = AtomicBool::new(false);

/// Somebody asked this program to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interrupted;

impl std::fmt::Display for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("interrupted")
    }
}

impl std::error::Error for Interrupted {}

extern "C" fn note(_signal: nix::libc::c_int) {
    ASKED_TO_STOP.store(true, Ordering::SeqCst);
}

/// From now on SIGINT, SIGTERM and SIGHUP are noted instead of ending the program at once.
///
/// # Errors
/// The system refuses the handler.
pub fn listen() -> anyhow::Result<()> {
    let action = SigAction::new(SigHandler::Handler(note), SaFlags::SA_RESTART, SigSet::empty());
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // SAFETY: the handler only stores into an atomic, which is async-signal-safe.
        #[allow(unsafe_code)]
        unsafe { sigaction(signal, &action) }.with_context(|| format!("cannot listen for {signal}"))?;
    }
    Ok(())
}

/// Fails once somebody has asked to stop.
///
/// # Errors
/// [`Interrupted`].
pub fn check() -> Result<(), Interrupted> {
    if ASKED_TO_STOP.load(Ordering::SeqCst) { Err(Interrupted) } else { Ok(()) }
}
