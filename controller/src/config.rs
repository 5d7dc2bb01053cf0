//! `controller.toml`: where the controller keeps its state and where it listens.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use fleet::Millis;
use serde::Deserialize;

/// The controller's configuration. Unknown keys are refused.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The directory made by `fleet-controller init`: store, artifacts, authority.
    pub data_dir: PathBuf,
    /// Where agents and operators connect.
    #[serde(default = "default_listen")]
    pub listen: SocketAddr,
    /// Which database indexes the store: `sled` or `redb`. The commit log is the truth for both, so it may be changed
    /// between two starts.
    #[serde(default)]
    pub store: Backend,
    /// How often every node is asked for fresh evidence, as a duration.
    #[serde(default = "default_observe_every", with = "span")]
    pub observe_every: Millis,
    /// How long an order permits its service to start without the agent asking again, as a duration.
    #[serde(default = "default_permit", with = "span")]
    pub permit: Millis,
    /// Whether tests between segments may run on this host, as the user that the controller runs as: whoever may deploy
    /// may then run commands here.
    #[serde(default)]
    pub run_tests: bool,
}

/// The databases that can index the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Backend {
    /// sled, behind its seven rules.
    #[default]
    Sled,
    /// redb.
    Redb,
}

/// The shortest and longest observation interval: below, a small fleet is busy proving; above, a finding cannot be
/// named within ten seconds of its cause.
const OBSERVE_BOUNDS: (Millis, Millis) = (Millis(100), Millis(4_000));

fn default_listen() -> SocketAddr {
    SocketAddr::from(([0, 0, 0, 0], 7443))
}

fn default_observe_every() -> Millis {
    Millis(2_000)
}

fn default_permit() -> Millis {
    Millis::from_secs(300)
}

mod span {
    use fleet::Millis;
    use serde::{Deserialize, Deserializer, de::Error};

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Millis, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// Why the configuration was refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("cannot read {}: {cause}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        cause: std::io::Error,
    },
    /// The file is not what it should be.
    #[error("{}: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Place and reason.
        reason: String,
    },
}

impl Config {
    /// Reads the file.
    ///
    /// # Errors
    /// With the file's name, and the line and reason where it is malformed.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|cause| ConfigError::Read { path: path.into(), cause })?;
        Self::parse(&text).map_err(|reason| ConfigError::Malformed { path: path.into(), reason })
    }

    fn parse(text: &str) -> Result<Self, String> {
        let config: Self = toml::from_str(text).map_err(|e| e.to_string())?;
        let (shortest, longest) = OBSERVE_BOUNDS;
        if config.observe_every < shortest || config.observe_every > longest {
            return Err(format!(
                "observe_every is {}, it must lie between {shortest} and {longest}",
                config.observe_every
            ));
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_shortest_file_is_enough_and_nonsense_is_refused() {
        let config = Config::parse("data_dir = '/x'").unwrap();
        assert_eq!((config.listen.port(), config.store, config.observe_every), (7443, Backend::Sled, Millis(2_000)));
        for bad in [
            "",
            "data_dir = 1",
            "data_dir = '/x'\nlisten = 'x'",
            "data_dir='/x'\nobserve_every='1h'",
            "data_dir='/x'\ndatadir='/y'",
            "data_dir='/x'\nstore='etcd'",
        ] {
            assert!(Config::parse(bad).is_err(), "{bad}");
        }
    }
}
