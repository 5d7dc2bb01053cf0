//! Waiting for something to become true: polled often, with limits that only ever fail a test.

use std::time::{Duration, Instant};

/// Far above what anything here takes.
pub const PATIENCE: Duration = Duration::from_secs(120);
/// Within this the fleet must name what is wrong.
pub const PROMISE: Duration = Duration::from_secs(10);
/// Between two looks.
const PACE: Duration = Duration::from_millis(50);

/// Waits until `look` sees something, and says what was awaited if it never does.
#[track_caller]
pub fn until<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    within(PATIENCE, what, look)
}

/// Waits until `look` sees something within what the product promises (stretched by `FLEET_TESTS_SLACK`).
#[track_caller]
pub fn promised<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    // The benchmark B9 measures what is promised; a test shares its machine with others, and fails only far beyond it.
    let slack = std::env::var("FLEET_TESTS_SLACK").ok().and_then(|text| text.parse().ok()).unwrap_or(3);
    let start = Instant::now();
    let seen = within(PROMISE * slack, what, look);
    eprintln!("{what}: after {:.1} s", start.elapsed().as_secs_f32());
    seen
}

/// Waits until `look` sees something, or `limit` is over.
#[track_caller]
pub fn within<T>(limit: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        // Looked at once more after the limit: one slow look must not decide.
        let last = start.elapsed() > limit;
        if let Some(seen) = look() {
            return seen;
        }
        assert!(!last, "waited {limit:?} in vain: {what}");
        std::thread::sleep(PACE);
    }
}
