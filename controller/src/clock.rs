//! The only file of the controller that asks the operating system for the time.

use std::time::{SystemTime, UNIX_EPOCH};

use fleet::Timestamp;

/// Now, by this machine's clock.
pub fn now() -> Timestamp {
    at(SystemTime::now())
}

/// A point in time of the operating system; what lies before 1970 is the beginning of time.
pub fn at(time: SystemTime) -> Timestamp {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// Now, for certificates.
pub fn system_now() -> SystemTime {
    SystemTime::now()
}
