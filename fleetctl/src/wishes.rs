//! What a flag and a key of `fleet.yaml` can both say of a deployment and `fleet` has no text for: when the migration
//! is run, and how long an agent waits to be confirmed.

use std::str::FromStr;

use fleet::Millis;
use fleet::deployment::Place;

/// When a migration is run, as people write it: `before:1`, `after:2`, segments counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MigrationPlace(pub Place);

/// How long an agent waits for the controller's confirmation before it undoes a switch; zero: it does not wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConfirmWithin(pub Millis);

/// Why the place of a migration was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a place for a migration: write before:N or after:N, with segments counted from 1")]
pub struct MigrationPlaceError(String);

/// Why a time for confirmations was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a time for confirmations: write a duration (30s), or off")]
pub struct ConfirmWithinError(String);

/// Before anything else: a schema that grows is safe for the old release, and the new one finds it in place.
impl Default for MigrationPlace {
    fn default() -> Self {
        Self(Place::Before(0))
    }
}

impl FromStr for MigrationPlace {
    type Err = MigrationPlaceError;
    fn from_str(text: &str) -> Result<Self, MigrationPlaceError> {
        let refuse = || MigrationPlaceError(text.chars().take(80).collect());
        let (word, number) = text.split_once(':').ok_or_else(refuse)?;
        if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
            return Err(refuse());
        }
        // More segments than this no fleet has; and the wire counts in 32 bits.
        let segment = number.parse::<u32>().ok().and_then(|n| n.checked_sub(1)).ok_or_else(refuse)? as usize;
        match word {
            "before" => Ok(Self(Place::Before(segment))),
            "after" => Ok(Self(Place::After(segment))),
            _ => Err(refuse()),
        }
    }
}

impl FromStr for ConfirmWithin {
    type Err = ConfirmWithinError;
    fn from_str(text: &str) -> Result<Self, ConfirmWithinError> {
        match text {
            "off" => Ok(Self(Millis(0))),
            _ => text.parse().map(Self).map_err(|_| ConfirmWithinError(text.chars().take(80).collect())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_migration_has_a_place() {
        assert_eq!("before:1".parse(), Ok(MigrationPlace::default()));
        assert_eq!("after:12".parse(), Ok(MigrationPlace(Place::After(11))));
        for bad in ["", "before", "before:0", "before:", "after:-1", "after:+1", "during:1", "after:4294967296"] {
            assert!(bad.parse::<MigrationPlace>().is_err(), "{bad}");
        }
    }

    #[test]
    fn confirmation_can_be_off() {
        assert_eq!("off".parse(), Ok(ConfirmWithin(Millis(0))));
        assert_eq!("1m".parse(), Ok(ConfirmWithin(Millis::from_secs(60))));
        assert!("never".parse::<ConfirmWithin>().is_err());
    }
}
