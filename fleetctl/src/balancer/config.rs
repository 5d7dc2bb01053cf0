//! The balancer's configuration: a TOML file, checked once here so that the rest can trust it.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest configuration that is read: far above [`MAX_SERVERS`] servers.
const MAX_CONFIG_BYTES: u64 = 1024 * 1024;
/// Most backends: one per service of a development fleet.
const MAX_BACKENDS: usize = 64;
/// Most servers in one backend: one per node of the largest fleet that one machine is asked to simulate.
const MAX_SERVERS: usize = 1000;
/// Longest name: that of a DNS label, as nodes have.
const MAX_NAME_BYTES: usize = 63;
/// Highest weight of a server, as in HAProxy.
pub const MAX_WEIGHT: u16 = 256;
/// Initial weight of a server. HAProxy's own default is 1, of which 25 % is 0; with 100, percentages mean what they say.
const DEFAULT_WEIGHT: u16 = 100;

/// The balancer's configuration file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where requests for the first backend are taken.
    pub listen: SocketAddr,
    /// Where the runtime API answers: `127.0.0.1:18079`, or the path of a unix socket.
    pub admin: AdminAddress,
    /// Where the states of the servers are kept over a restart. Written beside and moved over.
    pub state_file: PathBuf,
    /// The backends, in order. Each but the first needs its own `listen`.
    #[serde(default)]
    pub backends: Vec<Backend>,
}

/// A named group of servers that answer the same requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Backend {
    /// The name used in `set server NAME/SERVER`.
    pub name: String,
    /// Where requests for this backend are taken; only the first backend may leave it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listen: Option<SocketAddr>,
    /// The servers, in order.
    #[serde(default)]
    pub servers: Vec<Server>,
}

/// One server of a backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// The name used in `set server BACKEND/NAME` and in `X-Fleet-Server`.
    pub name: String,
    /// Where it answers.
    pub address: SocketAddr,
    /// Its initial weight, 0 to 256; 100 if not given.
    #[serde(default = "default_weight")]
    pub weight: u16,
}

/// Where the runtime API answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum AdminAddress {
    /// A TCP address, loopback only: the API has no authentication.
    Tcp(SocketAddr),
    /// A unix socket, created with mode 0600.
    Unix(PathBuf),
}

/// What is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the balancer's configuration {path}: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The file is longer than any sensible configuration.
    #[error("the balancer's configuration {path} has more than {MAX_CONFIG_BYTES} bytes")]
    TooLong {
        /// The file.
        path: PathBuf,
    },
    /// The file is not TOML, or has an unknown or missing key.
    #[error("the balancer's configuration {path} is wrong: {source}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where and what.
        source: Box<toml::de::Error>,
    },
    /// A value cannot be used.
    #[error("the balancer's configuration is wrong: {0}")]
    Refused(String),
}

impl Config {
    /// Reads and checks the file at `path`.
    ///
    /// # Errors
    /// Any [`ConfigError`].
    pub fn read(path: &Path) -> Result<Config, ConfigError> {
        let unreadable = |source| ConfigError::Unreadable { path: path.to_owned(), source };
        if std::fs::metadata(path).map_err(unreadable)?.len() > MAX_CONFIG_BYTES {
            return Err(ConfigError::TooLong { path: path.to_owned() });
        }
        let text = std::fs::read_to_string(path).map_err(unreadable)?;
        let config: Config = toml::from_str(&text)
            .map_err(|source| ConfigError::Malformed { path: path.to_owned(), source: Box::new(source) })?;
        config.check()?;
        Ok(config)
    }

    /// Refuses what cannot work: names that the runtime API cannot say, names used twice, a backend that nothing reaches.
    ///
    /// # Errors
    /// [`ConfigError::Refused`] with the place and the reason.
    pub fn check(&self) -> Result<(), ConfigError> {
        let refused = |why: String| Err(ConfigError::Refused(why));
        if self.backends.is_empty() {
            return refused("it has no [[backends]]".to_owned());
        }
        if self.backends.len() > MAX_BACKENDS {
            return refused(format!("{} backends, at most {MAX_BACKENDS} are allowed", self.backends.len()));
        }
        if let AdminAddress::Tcp(address) = &self.admin
            && !address.ip().is_loopback()
        {
            return refused(format!("admin {address} is not a loopback address, and the runtime API has no password"));
        }
        let mut names = BTreeSet::new();
        for (index, backend) in self.backends.iter().enumerate() {
            let name = &backend.name;
            check_name("backend", name)?;
            if !names.insert(name) {
                return refused(format!("backend {name} appears twice"));
            }
            match (index, backend.listen) {
                (0, Some(_)) => {
                    return refused(format!(
                        "backend {name} is the first: it uses the `listen` at the top, remove its own"
                    ));
                }
                (0, None) | (_, Some(_)) => {}
                (_, None) => {
                    return refused(format!("no request can reach backend {name}: give it its own `listen`"));
                }
            }
            if backend.servers.len() > MAX_SERVERS {
                return refused(format!(
                    "backend {name} has {} servers, at most {MAX_SERVERS} are allowed",
                    backend.servers.len()
                ));
            }
            let mut servers = BTreeSet::new();
            for server in &backend.servers {
                check_name("server", &server.name)?;
                if !servers.insert(&server.name) {
                    return refused(format!("server {name}/{} appears twice", server.name));
                }
                if server.weight > MAX_WEIGHT {
                    return refused(format!(
                        "server {name}/{} has weight {}, at most {MAX_WEIGHT} is allowed",
                        server.name, server.weight
                    ));
                }
            }
        }
        Ok(())
    }

    /// Every backend's name with the address on which its requests are taken.
    pub(super) fn listeners(&self) -> impl Iterator<Item = (&str, SocketAddr)> {
        self.backends.iter().map(|backend| (backend.name.as_str(), backend.listen.unwrap_or(self.listen)))
    }
}

impl FromStr for AdminAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<AdminAddress, String> {
        if let Some(path) = text.strip_prefix("unix:").or(text.starts_with('/').then_some(text)) {
            return Ok(AdminAddress::Unix(PathBuf::from(path)));
        }
        text.parse().map(AdminAddress::Tcp).map_err(|_| {
            format!("{text:?} is neither an address such as 127.0.0.1:18079 nor the absolute path of a unix socket")
        })
    }
}

impl TryFrom<String> for AdminAddress {
    type Error = String;

    fn try_from(text: String) -> Result<AdminAddress, String> {
        text.parse()
    }
}

impl From<AdminAddress> for String {
    fn from(address: AdminAddress) -> String {
        address.to_string()
    }
}

impl fmt::Display for AdminAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AdminAddress::Tcp(address) => write!(formatter, "{address}"),
            AdminAddress::Unix(path) => write!(formatter, "unix:{}", path.display()),
        }
    }
}

fn default_weight() -> u16 {
    DEFAULT_WEIGHT
}

/// The characters that HAProxy allows in names; the runtime API could not say others.
fn check_name(what: &str, name: &str) -> Result<(), ConfigError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
    if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.chars().all(allowed) {
        return Err(ConfigError::Refused(format!(
            "{what} name {name:?}: 1 to {MAX_NAME_BYTES} of a-z, A-Z, 0-9, '-', '_', '.', ':' are allowed"
        )));
    }
    Ok(())
}
