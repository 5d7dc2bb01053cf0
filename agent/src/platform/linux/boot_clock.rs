//! The kernel's clocks, for measuring how long ago something was on this machine. Start times of processes are in
//! `proc`.

use fleet::Millis;
use nix::time::{ClockId, clock_gettime};

/// Since boot, suspended time included: it never goes back.
pub(super) fn now() -> Millis {
    Millis(nanos() / 1_000_000)
}

/// The same, finer.
pub(super) fn nanos() -> u64 {
    let Ok(since_boot) = clock_gettime(ClockId::CLOCK_BOOTTIME) else { return 0 };
    let seconds = u64::try_from(since_boot.tv_sec()).unwrap_or(0);
    let nanos = u64::try_from(since_boot.tv_nsec()).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(nanos)
}

/// How long ago something was.
pub(super) fn since(then: Millis) -> Millis {
    Millis(now().0.saturating_sub(then.0))
}

/// The processor time that this thread has taken.
pub(super) fn thread_nanos() -> u64 {
    #[allow(clippy::unnecessary_cast)]
    let nanos = |time: nix::sys::time::TimeSpec| {
        (time.tv_sec() as i64).saturating_mul(1_000_000_000).saturating_add(time.tv_nsec() as i64)
    };
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(0, |time| u64::try_from(nanos(time)).unwrap_or(0))
}

/// The clock of change times, in nanoseconds; 0 if it cannot be read, so that everything has changed just now.
pub(super) fn wall_nanos() -> i64 {
    #[allow(clippy::unnecessary_cast)]
    let nanos = |time: nix::sys::time::TimeSpec| {
        (time.tv_sec() as i64).saturating_mul(1_000_000_000).saturating_add(time.tv_nsec() as i64)
    };
    clock_gettime(ClockId::CLOCK_REALTIME).map_or(0, nanos)
}
