//! The only file of the agent that asks what time it is. Wall-clock time is for people to read; no decision rests
//! on it. Durations within one run use tokio's timers, and permits use the kernel's boot clock (platform).

/// Now, in RFC 3339, for logs that people read.
pub fn now_text() -> String {
    jiff::Timestamp::now().to_string()
}
