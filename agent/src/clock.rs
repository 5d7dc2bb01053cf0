//! The only file of the agent that asks what time it is. Wall-clock time is for people to read; no decision rests
//! on it. Durations within one run use tokio's timers, and permits use the kernel's boot clock (platform).

/// Now, in milliseconds since the Unix epoch, for the controller to tell people how wrong this clock is.
pub fn now() -> fleet::Timestamp {
    fleet::Timestamp(jiff::Timestamp::now().as_millisecond())
}

/// Now, in RFC 3339, for logs that people read.
pub fn now_text() -> String {
    jiff::Timestamp::now().to_string()
}
