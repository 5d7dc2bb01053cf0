//! The only file of the controller that asks the operating system for the time.

use std::time::{SystemTime, UNIX_EPOCH};

use fleet::Timestamp;

/// Now, by this machine's clock.
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// Now, for certificates.
pub fn system_now() -> SystemTime {
    SystemTime::now()
}
