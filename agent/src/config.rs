//! `agent.toml`: what a node's administrator decides. Unknown keys are errors; so is every value that could not
//! work, before anything is started. Reading the identity and the orders is left to others.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use fleet::{Millis, NodeName, ServiceName};
use serde::{Deserialize, Deserializer};

use crate::platform::{Scope, ServicePlace};

/// The file read when none is named.
pub const DEFAULT_PATH: &str = "/etc/fleet/agent.toml";
/// Where state lives when nothing else is said.
pub const DEFAULT_STATE: &str = "/var/lib/fleet-agent";

/// However large a release is, its files are looked at this often.
const LONGEST_BETWEEN_SWEEPS: Millis = Millis(fleet::looked::OLDEST_SWEEP.0 / 2);
/// However slowly, they are read this often.
const LONGEST_BETWEEN_HASHES: Millis = Millis(fleet::looked::OLDEST_HASH.0 / 2);

/// The configuration of one agent.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The node's name; only compared with the identity, which is what counts.
    #[serde(default)]
    pub node: Option<NodeName>,
    /// `host:port` of the controller.
    pub controller: String,
    /// The DNS name in the controller's certificate.
    #[serde(default = "default_controller_name")]
    pub controller_name: String,
    /// Identity, orders, journals, bundles.
    #[serde(default = "default_state_dir")]
    pub state_dir: PathBuf,
    /// Every service lives in a directory of its own name below it.
    #[serde(default = "default_services_root")]
    pub services_root: PathBuf,
    /// Which processes of the machine belong to this node.
    #[serde(default)]
    pub scope: Scope,
    /// Given to every service, and what `${NAME}` in its command is replaced from.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// The load balancer that the services of this node stand behind.
    #[serde(default)]
    pub balancer: Option<BalancerConfig>,
    /// What a service may do while the controller cannot be asked.
    #[serde(default)]
    pub when_controller_unreachable: WhenUnreachable,
    /// Releases kept on the disk for each service, the live one included.
    #[serde(default = "default_keep_releases")]
    pub keep_releases: usize,
    /// Whom services run as when the agent is root and the release names nobody.
    #[serde(default)]
    pub service_user: Option<String>,
    /// Whether the controller may plant a decoy here: a process of older code that never executes an instruction, to see
    /// whether the alarm fires. Off unless it is said: a production node has no processes that nobody asked for.
    #[serde(default)]
    pub selftest: bool,
    /// The longest time between two looks at every file of what is held, although nothing was told of them. The less such a
    /// look takes, the sooner it is repeated, down to every second: a large release takes a three-thousandth of one core.
    #[serde(default = "default_sweep_every", deserialize_with = "span")]
    pub sweep_every: Millis,
    /// Time between two readings of every file of what is held.
    #[serde(default = "default_rehash_every", deserialize_with = "span")]
    pub rehash_every: Millis,
    /// The part of one core that reading files again may take, in percent. What is asked for by a person, a deployment
    /// or a change is read as fast as it goes.
    #[serde(default = "default_observe_cpu_share")]
    pub observe_cpu_share: u8,
    /// Time between two local looks at what runs.
    #[serde(default = "default_observe_every", deserialize_with = "span")]
    pub observe_every: Millis,
}

/// The load balancer, and how long draining may take.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BalancerConfig {
    /// HAProxy's runtime API.
    pub haproxy: HaproxyConfig,
    /// Connections that are still open after this time are cut by the stop.
    #[serde(default = "default_drain_timeout", deserialize_with = "span")]
    pub drain_timeout: Millis,
}

/// One server of one backend of an HAProxy.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HaproxyConfig {
    /// `host:port`, or the absolute path of a unix socket.
    pub socket: String,
    /// The backend.
    pub backend: String,
    /// This node's server in it.
    pub server: String,
}

/// The start policy while the controller cannot be reached (product: E, start permit).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WhenUnreachable {
    /// Nothing starts without a fresh permit.
    #[default]
    Refuse,
    /// What was last permitted may start, once the controller has been silent for a while.
    LastPermitted,
}

/// Why a configuration was refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}: {cause}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        cause: std::io::Error,
    },
    /// The text is not a configuration.
    #[error("{}: {cause}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Place, reason, and the keys there are.
        cause: Box<toml::de::Error>,
    },
    /// A value cannot work.
    #[error("{}: {key}: {reason}", path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// The key.
        key: &'static str,
        /// Why, and what to write instead.
        reason: String,
    },
}

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// The file, the key, and what to write instead.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text =
            std::fs::read_to_string(path).map_err(|cause| ConfigError::Unreadable { path: path.to_owned(), cause })?;
        Self::parse(path, &text)
    }

    /// Checks a text; `path` is for the messages.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let config: Self = toml::from_str(text)
            .map_err(|cause| ConfigError::Malformed { path: path.to_owned(), cause: Box::new(cause) })?;
        config.check().map_err(|(key, reason)| ConfigError::Value { path: path.to_owned(), key, reason })?;
        Ok(config)
    }

    /// Where a service lives.
    pub fn place(&self, service: &ServiceName) -> ServicePlace {
        ServicePlace { service: service.clone(), root: self.services_root.join(service.as_str()) }
    }

    fn check(&self) -> Result<(), (&'static str, String)> {
        if self.controller.rsplit_once(':').is_none_or(|(host, port)| host.is_empty() || port.parse::<u16>().is_err()) {
            return Err((
                "controller",
                format!("'{}' is not host:port, such as controller.example.com:7443", self.controller),
            ));
        }
        for (key, path) in [("state_dir", &self.state_dir), ("services_root", &self.services_root)] {
            if !path.is_absolute() {
                return Err((key, format!("'{}' is not an absolute path", path.display())));
            }
        }
        if self.state_dir.starts_with(&self.services_root) && self.state_dir != self.services_root {
            let inside = self
                .state_dir
                .strip_prefix(&self.services_root)
                .map(|rest| rest.components().count())
                .unwrap_or_default();
            // One level down it would be taken for a service's root and watched as such.
            if inside > 1 {
                return Err((
                    "state_dir",
                    "it lies inside a service's directory; put it outside services_root".to_owned(),
                ));
            }
        }
        if self.keep_releases < 2 {
            return Err(("keep_releases", "at least 2: the live release, and the one to go back to".to_owned()));
        }
        if self.observe_every < Millis(100) {
            return Err(("observe_every", "at least 100ms: every look reads /proc".to_owned()));
        }
        if self.sweep_every < Millis::from_secs(1) || self.sweep_every > LONGEST_BETWEEN_SWEEPS {
            return Err((
                "sweep_every",
                format!("between 1s and {LONGEST_BETWEEN_SWEEPS}: the controller believes no older look"),
            ));
        }
        if self.rehash_every < Millis::from_secs(60) || self.rehash_every > LONGEST_BETWEEN_HASHES {
            return Err((
                "rehash_every",
                format!("between 1m and {LONGEST_BETWEEN_HASHES}: the controller believes no older reading"),
            ));
        }
        if !(1..=100).contains(&self.observe_cpu_share) {
            return Err(("observe_cpu_share", "between 1 and 100, the percent of one core".to_owned()));
        }
        if self.service_user.as_deref() == Some("") {
            return Err(("service_user", "it is empty: name a user, or remove the line".to_owned()));
        }
        for name in self.environment.keys() {
            if name.is_empty() || name.contains(['=', '\0']) || name.starts_with("FLEET_") {
                return Err((
                    "environment",
                    format!(
                        "'{}' is not a name for a variable of a service (FLEET_ is reserved)",
                        name.escape_default()
                    ),
                ));
            }
        }
        if let Some(BalancerConfig { haproxy, .. }) = &self.balancer {
            // These words become part of a command line of HAProxy, where ';' and blanks separate.
            for (key, word) in
                [("balancer.haproxy.backend", &haproxy.backend), ("balancer.haproxy.server", &haproxy.server)]
            {
                if word.is_empty()
                    || !word.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':'))
                {
                    return Err((
                        key,
                        format!("'{}' has characters HAProxy does not allow in a name", word.escape_default()),
                    ));
                }
            }
            if !haproxy.socket.starts_with('/')
                && haproxy.socket.rsplit_once(':').is_none_or(|(_, port)| port.parse::<u16>().is_err())
            {
                return Err((
                    "balancer.haproxy.socket",
                    format!("'{}' is neither host:port nor an absolute path", haproxy.socket),
                ));
            }
        }
        Ok(())
    }
}

fn default_controller_name() -> String {
    "localhost".to_owned()
}
fn default_state_dir() -> PathBuf {
    DEFAULT_STATE.into()
}
fn default_services_root() -> PathBuf {
    "/opt".into()
}
fn default_keep_releases() -> usize {
    5
}
fn default_observe_every() -> Millis {
    Millis::from_secs(2)
}
fn default_sweep_every() -> Millis {
    Millis::from_secs(120)
}
fn default_rehash_every() -> Millis {
    Millis::from_secs(3_600)
}
fn default_observe_cpu_share() -> u8 {
    10
}
fn default_drain_timeout() -> Millis {
    Millis::from_secs(30)
}

fn span<'de, D: Deserializer<'de>>(input: D) -> Result<Millis, D::Error> {
    String::deserialize(input)?.parse().map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(Path::new("agent.toml"), text).map_err(|e| e.to_string())
    }

    #[test]
    fn one_line_is_enough() {
        let config = parse("controller = \"c.example.com:7443\"").unwrap();
        assert_eq!(config.state_dir, Path::new(DEFAULT_STATE));
        assert_eq!((config.keep_releases, config.observe_every, config.scope), (5, Millis(2_000), Scope::Machine));
        assert_eq!(config.when_controller_unreachable, WhenUnreachable::Refuse);
        assert!(!config.selftest);
        assert_eq!(config.place(&"web".parse().unwrap()).root, Path::new("/opt/web"));
    }

    #[test]
    fn everything_can_be_said() {
        let config = parse(
            r#"
            node = "n1"
            controller = "127.0.0.1:7443"
            controller_name = "localhost"
            state_dir = "/tmp/x/state"
            services_root = "/tmp/x/services"
            scope = "root"
            environment = { PORT = "18081" }
            when_controller_unreachable = "last-permitted"
            keep_releases = 3
            service_user = "nobody"
            selftest = true
            observe_every = "500ms"
            sweep_every = "30s"
            rehash_every = "6h"
            observe_cpu_share = 5
            [balancer]
            drain_timeout = "5s"
            haproxy = { socket = "127.0.0.1:9999", backend = "hello", server = "n1" }
            "#,
        )
        .unwrap();
        assert_eq!(config.scope, Scope::Root);
        assert!(config.selftest);
        assert_eq!(config.when_controller_unreachable, WhenUnreachable::LastPermitted);
        assert_eq!((config.sweep_every, config.rehash_every), (Millis(30_000), Millis::from_secs(6 * 3_600)));
        assert_eq!(config.observe_cpu_share, 5);
        assert_eq!(config.balancer.unwrap().drain_timeout, Millis(5_000));
    }

    #[test]
    fn the_document_has_a_line_for_every_key_and_no_other() {
        // The parser lists what it knows: "expected one of `node`, `controller`, …".
        let error = parse("zzz = 1").unwrap_err();
        let known = error.split_once("expected one of").unwrap().1;
        let known: Vec<&str> = known.split('`').skip(1).step_by(2).collect();
        let document = include_str!("../../docs/agent.md");
        let told = document.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
        let mut told: Vec<&str> = told.map(|(key, _)| key).collect();
        let mut sorted = known.clone();
        sorted.sort_unstable();
        told.sort_unstable();
        assert_eq!(told, sorted);
    }

    #[test]
    fn each_mistake_is_named() {
        let ok = "controller = \"c:1\"\n";
        for (text, named) in [
            ("", "controller"),
            ("controller = \"c\"", "host:port"),
            (&format!("{ok}contoller = 1"), "contoller"),
            (&format!("{ok}state_dir = \"x\""), "absolute"),
            (&format!("{ok}services_root = \"/s\"\nstate_dir = \"/s/web/state\""), "inside a service"),
            (&format!("{ok}keep_releases = 1"), "at least 2"),
            (&format!("{ok}observe_every = \"1ms\""), "100ms"),
            (&format!("{ok}observe_every = \"soon\""), "duration"),
            (&format!("{ok}sweep_every = \"10m\""), "5m"),
            (&format!("{ok}rehash_every = \"1d\""), "12h"),
            (&format!("{ok}observe_cpu_share = 0"), "percent"),
            (&format!("{ok}scope = \"all\""), "machine"),
            (&format!("{ok}node = \"../x\""), "node"),
            (&format!("{ok}environment = {{ FLEET_RELEASE = \"x\" }}"), "FLEET_"),
            (
                &format!("{ok}balancer = {{ haproxy = {{ socket = \"x\", backend = \"b\", server = \"s\" }} }}"),
                "socket",
            ),
            (
                &format!(
                    "{ok}balancer = {{ haproxy = {{ socket = \"/x\", backend = \"b;shutdown\", server = \"s\" }} }}"
                ),
                "backend",
            ),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains("agent.toml") && error.contains(named), "{text}: {error}");
        }
    }
}
