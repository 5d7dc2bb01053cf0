//! The number of the next session: on the disk before it is said, so that no two sessions of this identity ever have the
//! same. A copy of the disk on another machine says a number that was said already, or makes this one say it later:
//! the controller sees it either way. What it makes of that is its own affair.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::durable::{self, FileError};

#[derive(Serialize, Deserialize)]
struct Begun {
    session: u64,
}

/// Draws the next number. Blocking.
///
/// # Errors
/// The file could not be read or written: then there is no number to be said.
pub fn next(path: &Path) -> Result<u64, FileError> {
    let begun: Option<Begun> = durable::read_json(path)?;
    let session = begun.map_or(0, |begun| begun.session).saturating_add(1);
    durable::write_json(path, &Begun { session })?;
    Ok(session)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_number_is_never_drawn_twice() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("session.json");
        assert_eq!([next(&path).unwrap(), next(&path).unwrap(), next(&path).unwrap()], [1, 2, 3]);
        let copy = dir.path().join("copy.json");
        std::fs::copy(&path, &copy).unwrap();
        assert_eq!((next(&path).unwrap(), next(&copy).unwrap()), (4, 4), "a copy says what was said");
        std::fs::write(&path, "{").unwrap();
        assert!(next(&path).is_err(), "what cannot be read is not begun anew");
    }
}
