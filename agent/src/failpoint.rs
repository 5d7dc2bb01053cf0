//! Named places at which a test can end the agent: `FLEET_FP='start.inside=kill@2,switch.after=kill'`. They sit at
//! every step boundary, so that the kill matrix needs no luck. A release build does not look at the variable.
//!
//! `kill` ends the process as `kill -9` does. `stop` makes the place return [`Interrupted`], so that a test in
//! one process can drop everything held in memory and start again from the disk.

use std::sync::Mutex;

/// The variable that arms fail points.
pub const VARIABLE: &str = "FLEET_FP";

/// The agent shall go on no further from here: as far as the disk is concerned it was killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("interrupted at a fail point")]
pub struct Interrupted;

/// What happens at an armed place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Kill,
    Stop,
}

#[derive(Debug)]
struct Armed {
    name: String,
    action: Action,
    /// Passages still to come, this one included, before it fires.
    countdown: u32,
}

/// The armed fail points of one agent, and the names of every place passed.
#[derive(Debug, Default)]
pub struct FailPoints {
    armed: Mutex<Vec<Armed>>,
}

/// Why a list of fail points could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a fail point: write name=kill or name=kill@2")]
pub struct Malformed(String);

impl FailPoints {
    /// Nothing fires.
    pub fn none() -> Self {
        Self::default()
    }

    /// Those of [`VARIABLE`], in a debug build.
    ///
    /// # Errors
    /// The part that could not be read: a test that arms nothing would prove nothing.
    pub fn from_environment() -> Result<Self, Malformed> {
        match std::env::var(VARIABLE) {
            Ok(text) if cfg!(debug_assertions) => Self::parse(&text),
            Ok(_) | Err(_) => Ok(Self::none()),
        }
    }

    /// Reads `name=kill@2,other=stop`.
    ///
    /// # Errors
    /// The part that could not be read.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        let mut armed = Vec::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let malformed = || Malformed(part.to_owned());
            let (name, action) = part.split_once('=').ok_or_else(malformed)?;
            let (action, count) = action.split_once('@').unwrap_or((action, "1"));
            let action = match action {
                "kill" => Action::Kill,
                "stop" => Action::Stop,
                _ => return Err(malformed()),
            };
            let countdown = count.parse().ok().filter(|count| *count > 0).ok_or_else(malformed)?;
            armed.push(Armed { name: name.to_owned(), action, countdown });
        }
        Ok(Self { armed: Mutex::new(armed) })
    }

    /// Passes the place `name`.
    ///
    /// # Errors
    /// [`Interrupted`] where a test armed `stop`. `kill` does not return.
    pub fn pass(&self, name: &str) -> Result<(), Interrupted> {
        if !cfg!(debug_assertions) {
            return Ok(());
        }
        let mut armed = self.armed.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut fired = None;
        armed.retain_mut(|point| {
            if point.name != name {
                return true;
            }
            point.countdown -= 1;
            if point.countdown == 0 {
                fired = Some(point.action);
            }
            point.countdown > 0
        });
        match fired {
            None => Ok(()),
            Some(Action::Stop) => Err(Interrupted),
            Some(Action::Kill) => {
                #[cfg(debug_assertions)]
                crate::platform::linux::machine::die();
                #[cfg(not(debug_assertions))]
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_point_fires_once_at_its_count() {
        let points = FailPoints::parse("a=stop@2, b=stop").unwrap();
        assert_eq!(points.pass("c"), Ok(()));
        assert_eq!(points.pass("a"), Ok(()));
        assert_eq!(points.pass("a"), Err(Interrupted));
        assert_eq!(points.pass("a"), Ok(()));
        assert_eq!(points.pass("b"), Err(Interrupted));
    }

    #[test]
    fn a_list_that_cannot_be_read_is_an_error() {
        for bad in ["a", "a=explode", "a=kill@0", "a=kill@x"] {
            assert!(FailPoints::parse(bad).is_err(), "{bad}");
        }
    }
}
