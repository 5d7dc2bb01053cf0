//! Which controller to talk to, and as whom: contexts in a TOML file, overridden by the environment, overridden by
//! flags. Reading certificates and dialling is left to `client`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use fleet_certs::files::{Existing, Readers, create_private_dir, write};
use serde::{Deserialize, Serialize};

use crate::failure::Failure;

/// The user's file: contexts by name, and which of them is current.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfigFile {
    /// The context used when none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<String>,
    /// The contexts.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub contexts: BTreeMap<String, Context>,
}

/// One fleet, and who we are there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Context {
    /// `HOST:PORT`.
    pub controller: String,
    /// The name the controller's certificate must carry; the host of `controller` unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
    /// The fleet's authority, PEM.
    pub ca: PathBuf,
    /// The operator's certificate, PEM.
    pub cert: PathBuf,
    /// The operator's private key, PEM.
    pub key: PathBuf,
    /// Whether `deploy` and `rollback` ask on a terminal.
    #[serde(default, skip_serializing_if = "Confirm::is_never")]
    pub confirm: Confirm,
}

/// Whether changes are confirmed on a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(from = "bool", into = "bool")]
pub enum Confirm {
    /// They are carried out at once.
    #[default]
    Never,
    /// `[y/N]` first, if there is a terminal.
    OnTerminal,
}

impl Confirm {
    fn is_never(&self) -> bool {
        *self == Self::Never
    }
}

impl From<bool> for Confirm {
    fn from(value: bool) -> Self {
        if value { Self::OnTerminal } else { Self::Never }
    }
}

impl From<Confirm> for bool {
    fn from(value: Confirm) -> bool {
        value == Confirm::OnTerminal
    }
}

/// What flags and environment say; each wins over the file. clap has already let flags win over the environment.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// `--controller`, `FLEETCTL_CONTROLLER`.
    pub controller: Option<String>,
    /// `--context`, `FLEETCTL_CONTEXT`.
    pub context: Option<String>,
    /// `FLEETCTL_CA_FILE`.
    pub ca: Option<PathBuf>,
    /// `FLEETCTL_CERT_FILE`.
    pub cert: Option<PathBuf>,
    /// `FLEETCTL_KEY_FILE`.
    pub key: Option<PathBuf>,
    /// `FLEETCTL_SERVER_NAME`.
    pub server_name: Option<String>,
}

/// What a command talks to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The context's name; none if everything was given by flags and environment.
    pub context: Option<String>,
    /// `HOST:PORT`.
    pub controller: String,
    /// The name the controller's certificate must carry.
    pub server_name: String,
    /// The fleet's authority, PEM.
    pub ca: PathBuf,
    /// The operator's certificate, PEM.
    pub cert: PathBuf,
    /// The operator's private key, PEM.
    pub key: PathBuf,
    /// Whether changes are confirmed on a terminal.
    pub confirm: Confirm,
}

impl ConfigFile {
    /// Reads the file; one that does not exist is empty.
    ///
    /// # Errors
    /// 78 if it cannot be read or has a key that does not belong there; the message has the line.
    pub fn load(path: &Path) -> Result<Self, Failure> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(Failure::config(format!("cannot read {}", path.display())).because(error)),
        };
        toml::from_str(&text).map_err(|error| {
            Failure::config(format!("{} is not valid", path.display())).because(error.to_string().trim_end())
        })
    }

    /// Writes the file whole or not at all.
    ///
    /// # Errors
    /// 78 if the directory or file cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), Failure> {
        let cannot = || Failure::config(format!("cannot write {}", path.display()));
        let text = toml::to_string_pretty(self).map_err(|e| cannot().caused_by(&e))?;
        if let Some(dir) = path.parent().filter(|d| !d.as_os_str().is_empty()) {
            create_private_dir(dir).map_err(|e| cannot().caused_by(&e))?;
        }
        write(path, text.as_bytes(), Readers::Owner, Existing::Replace).map_err(|e| cannot().caused_by(&e))
    }

    /// What to talk to, by precedence: flag, environment, file.
    ///
    /// # Errors
    /// 78 if a named context does not exist or something needed is given nowhere.
    pub fn resolve(&self, overrides: &Overrides) -> Result<Target, Failure> {
        let name = overrides.context.clone().or_else(|| self.current.clone());
        let context = match &name {
            Some(name) => Some(self.contexts.get(name).ok_or_else(|| self.unknown_context(name))?),
            None => None,
        };
        let need = |what: &str, variable: &str| {
            Failure::config(format!("no {what} is known"))
                .help(format!("start a fleet on this machine with 'fleetctl dev up', join one with 'fleetctl login HOST:PORT --token-file FILE', or set {variable}"))
        };
        let controller = overrides
            .controller
            .clone()
            .or_else(|| context.map(|c| c.controller.clone()))
            .ok_or_else(|| need("controller", "--controller"))?;
        let file = |own: &Option<PathBuf>, of: fn(&Context) -> &PathBuf, what, variable| {
            own.clone().or_else(|| context.map(|c| of(c).clone())).ok_or_else(|| need(what, variable))
        };
        let server_name = overrides
            .server_name
            .clone()
            // Another controller of the same fleet is known by its own name, not by the context's.
            .or_else(|| context.filter(|_| overrides.controller.is_none()).and_then(|c| c.server_name.clone()))
            .or_else(|| context.filter(|c| c.controller == controller).and_then(|c| c.server_name.clone()))
            .unwrap_or_else(|| host_of(&controller).to_owned());
        Ok(Target {
            ca: file(&overrides.ca, |c| &c.ca, "authority's certificate", "FLEETCTL_CA_FILE")?,
            cert: file(&overrides.cert, |c| &c.cert, "operator's certificate", "FLEETCTL_CERT_FILE")?,
            key: file(&overrides.key, |c| &c.key, "operator's key", "FLEETCTL_KEY_FILE")?,
            confirm: context.map(|c| c.confirm).unwrap_or_default(),
            context: name,
            controller,
            server_name,
        })
    }

    /// The authority's certificate of a context, or of the current one.
    ///
    /// # Errors
    /// 78 if there is none.
    pub fn authority(&self, context: Option<&str>) -> Result<PathBuf, Failure> {
        let Some(name) = context.or(self.current.as_deref()) else {
            return Err(Failure::config("no authority's certificate is known")
                .help("name the ca.pem of the fleet: --ca FILE, or set FLEETCTL_CA_FILE"));
        };
        self.contexts.get(name).map(|context| context.ca.clone()).ok_or_else(|| self.unknown_context(name))
    }

    /// The failure for a context that does not exist, with the nearest name.
    pub fn unknown_context(&self, name: &str) -> Failure {
        let failure = Failure::config(format!("there is no context '{name}'"));
        let nearest = self.contexts.keys().min_by_key(|known| strsim::damerau_levenshtein(known, name));
        match nearest {
            Some(known) if strsim::damerau_levenshtein(known, name) <= 2 => {
                failure.help(format!("did you mean '{known}'?"))
            }
            Some(_) => failure.help(format!("known: {}", self.contexts.keys().cloned().collect::<Vec<_>>().join(", "))),
            None => failure.help("there are none yet: 'fleetctl dev up' or 'fleetctl login' make one"),
        }
    }
}

/// The host of `HOST:PORT`; brackets of an IPv6 address are removed.
pub fn host_of(address: &str) -> &str {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    host.trim_start_matches('[').trim_end_matches(']')
}

/// Where the user's file lies: `$FLEETCTL_CONFIG`, or `fleetctl/config.toml` in the XDG configuration directory.
///
/// # Errors
/// 78 if neither is set and there is no home directory.
pub fn path() -> Result<PathBuf, Failure> {
    match std::env::var_os("FLEETCTL_CONFIG").filter(|v| !v.is_empty()) {
        Some(path) => Ok(PathBuf::from(path)),
        None => Ok(xdg("XDG_CONFIG_HOME", ".config")?.join("fleetctl/config.toml")),
    }
}

/// Where the user's data lies: the XDG data directory.
///
/// # Errors
/// 78 if it is not set and there is no home directory.
pub fn data_home() -> Result<PathBuf, Failure> {
    xdg("XDG_DATA_HOME", ".local/share")
}

/// Makes the directory of a file that shall be written, and tries whether anything can be written there.
///
/// # Errors
/// 78 if not.
pub fn can_be_written(path: &Path) -> Result<(), Failure> {
    let cannot = || Failure::config(format!("cannot write {}", path.display()));
    let dir = path.parent().filter(|d| !d.as_os_str().is_empty()).unwrap_or(Path::new("."));
    create_private_dir(dir).map_err(|e| cannot().caused_by(&e))?;
    tempfile::tempfile_in(dir).map(drop).map_err(|e| cannot().caused_by(&e))
}

fn xdg(variable: &str, below_home: &str) -> Result<PathBuf, Failure> {
    // The XDG specification: a relative path is to be ignored.
    if let Some(dir) = std::env::var_os(variable).map(PathBuf::from).filter(|d| d.is_absolute()) {
        return Ok(dir);
    }
    match std::env::var_os("HOME").map(PathBuf::from).filter(|d| d.is_absolute()) {
        Some(home) => Ok(home.join(below_home)),
        None => Err(Failure::config(format!("neither {variable} nor HOME is set"))
            .help(format!("set {variable} to an absolute path"))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn context(controller: &str) -> Context {
        Context {
            controller: controller.into(),
            server_name: None,
            ca: "/c/ca.pem".into(),
            cert: "/c/cert.pem".into(),
            key: "/c/key.pem".into(),
            confirm: Confirm::Never,
        }
    }

    fn file() -> ConfigFile {
        let mut dev = context("127.0.0.1:7443");
        dev.server_name = Some("localhost".into());
        ConfigFile {
            current: Some("dev".into()),
            contexts: [("dev".to_owned(), dev), ("prod".to_owned(), context("controller.example.com:7443"))].into(),
        }
    }

    #[test]
    fn the_file_is_used_when_nothing_else_is_said() {
        let target = file().resolve(&Overrides::default()).unwrap();
        assert_eq!(
            (target.context.as_deref(), target.controller.as_str(), target.server_name.as_str()),
            (Some("dev"), "127.0.0.1:7443", "localhost")
        );
    }

    #[test]
    fn what_is_said_wins_over_the_file() {
        let overrides =
            Overrides { context: Some("prod".into()), cert: Some("/mine/cert.pem".into()), ..Overrides::default() };
        let target = file().resolve(&overrides).unwrap();
        assert_eq!(target.server_name, "controller.example.com");
        assert_eq!((target.cert, target.key), (PathBuf::from("/mine/cert.pem"), PathBuf::from("/c/key.pem")));
        let target = file().resolve(&Overrides { controller: Some("[::1]:9".into()), ..Overrides::default() }).unwrap();
        assert_eq!((target.controller.as_str(), target.server_name.as_str()), ("[::1]:9", "::1"));
    }

    #[test]
    fn an_unknown_context_is_refused_with_the_nearest() {
        let failure = file().resolve(&Overrides { context: Some("prd".into()), ..Overrides::default() }).unwrap_err();
        assert_eq!((failure.exit, failure.help.as_deref()), (78, Some("did you mean 'prod'?")));
        assert_eq!(ConfigFile::default().resolve(&Overrides::default()).unwrap_err().exit, 78);
    }

    #[test]
    fn a_file_round_trips_and_a_wrong_key_has_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/config.toml");
        assert_eq!(ConfigFile::load(&path).unwrap(), ConfigFile::default());
        file().save(&path).unwrap();
        assert_eq!(ConfigFile::load(&path).unwrap(), file());
        std::fs::write(&path, "current = \"dev\"\ncontext = 1\n").unwrap();
        let failure = ConfigFile::load(&path).unwrap_err();
        assert_eq!(failure.exit, 78);
        assert!(failure.to_text().contains("line 2") && failure.to_text().contains("context"), "{}", failure.to_text());
    }
}
