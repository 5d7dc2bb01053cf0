//! What every verb shares: the global flags, the screen, and the way to the controller.

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use fleet::Millis;

use crate::client::{Controller, Operator};
use crate::config::{self, ConfigFile, Overrides};
use crate::failure::Failure;
use crate::output::format::Format;
use crate::output::screen::{ColourChoice, Glyphs, Screen, Surroundings, Verbosity};
use crate::output::text::Zone;

/// Flags that every verb understands.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// The controller, instead of the context's
    #[arg(long, global = true, value_name = "HOST:PORT", env = "FLEETCTL_CONTROLLER", hide_env_values = true)]
    pub controller: Option<String>,
    /// The context to use, instead of the current one
    #[arg(long, global = true, value_name = "NAME", env = "FLEETCTL_CONTEXT", hide_env_values = true)]
    pub context: Option<String>,
    /// How to write results
    #[arg(
        short,
        long,
        visible_alias = "format",
        global = true,
        value_name = "FMT",
        value_enum,
        env = "FLEETCTL_OUTPUT",
        hide_env_values = true
    )]
    pub output: Option<Format>,
    /// Say only what was asked for
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Say more
    #[arg(short, long, global = true)]
    pub verbose: bool,
    /// When to use colour
    #[arg(long, global = true, value_name = "WHEN", value_enum, default_value = "auto")]
    pub color: ColourChoice,
    /// Write ASCII only
    #[arg(long, global = true)]
    pub ascii: bool,
    /// Show times in UTC
    #[arg(long, global = true)]
    pub utc: bool,
    /// Never ask, even on a terminal
    #[arg(long, global = true)]
    pub no_input: bool,
    /// Stop waiting after this time (30s, 5m, 1h30m); a deployment goes on
    #[arg(long, global = true, value_name = "DUR")]
    pub timeout: Option<Millis>,
}

/// One run of the program.
#[derive(Debug)]
pub struct Session {
    /// The global flags.
    pub global: Global,
    /// Where output goes.
    pub screen: Screen,
}

/// What a question was answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Go on.
    Yes,
    /// Leave it.
    No,
    /// There is nobody to ask.
    NobodyThere,
}

impl Session {
    /// A run with these flags, in this process' surroundings.
    pub fn new(global: Global) -> Self {
        let around = Surroundings::of_process();
        let verbosity = match (global.quiet, global.verbose) {
            (true, _) => Verbosity::Quiet,
            (false, true) => Verbosity::Verbose,
            (false, false) => Verbosity::Normal,
        };
        let screen = Screen {
            colour: around.colour(global.color),
            glyphs: if global.ascii { Glyphs::Ascii } else { around.glyphs() },
            verbosity,
            zone: if global.utc { Zone::Utc } else { Zone::Local },
        };
        Self { global, screen }
    }

    /// Starts the log on standard error, if `FLEETCTL_LOG` asks for one.
    pub fn start_log(&self) {
        if let Ok(filter) = std::env::var("FLEETCTL_LOG") {
            let filter = tracing_subscriber::EnvFilter::new(filter);
            // Only a second call could fail, and there is none.
            let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).try_init();
        }
    }

    /// The format asked for, if the verb has it.
    ///
    /// # Errors
    /// 64 if it has not.
    pub fn format(&self, offered: &[Format], verb: &str) -> Result<Format, Failure> {
        Format::pick(self.global.output, offered, verb)
    }

    /// `--timeout`.
    pub fn timeout(&self) -> Option<Duration> {
        self.global.timeout.map(Millis::to_std)
    }

    /// The time by this machine's clock, for ages where the controller does not say its own.
    pub fn local_ms(&self) -> i64 {
        jiff::Timestamp::now().as_millisecond()
    }

    /// The controller that flags, environment and configuration name; not yet connected.
    ///
    /// # Errors
    /// 78 if none is known or the identity cannot be read.
    pub fn controller(&self) -> Result<Controller, Failure> {
        let file = ConfigFile::load(&config::path()?)?;
        let path = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        let overrides = Overrides {
            controller: self.global.controller.clone(),
            context: self.global.context.clone(),
            ca: path("FLEETCTL_CA_FILE"),
            cert: path("FLEETCTL_CERT_FILE"),
            key: path("FLEETCTL_KEY_FILE"),
            server_name: std::env::var("FLEETCTL_SERVER_NAME").ok().filter(|v| !v.is_empty()),
        };
        Controller::new(file.resolve(&overrides)?)
    }

    /// The authority's certificate (PEM), for what is checked without a controller: that of `named`, or of the
    /// environment, or of the context. No identity of our own is needed.
    ///
    /// # Errors
    /// 78 if none is known or it cannot be read.
    pub fn authority(&self, named: Option<&std::path::Path>) -> Result<String, Failure> {
        let of_environment = || std::env::var_os("FLEETCTL_CA_FILE").filter(|v| !v.is_empty()).map(PathBuf::from);
        let path = match named.map(PathBuf::from).or_else(of_environment) {
            Some(path) => path,
            None => ConfigFile::load(&config::path()?)?.authority(self.global.context.as_deref())?,
        };
        fleet_certs::files::read(&path).map_err(|e| {
            Failure::config(format!("cannot use the authority's certificate {}", path.display())).caused_by(&e)
        })
    }

    /// A connection to it.
    ///
    /// # Errors
    /// As [`Self::controller`], and 69 if nobody answers.
    pub async fn connect(&self) -> Result<Operator, Failure> {
        self.controller()?.connect().await
    }

    /// Asks a person, if there is one.
    pub fn ask(&self, question: &str) -> Answer {
        if self.global.no_input || !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
            return Answer::NobodyThere;
        }
        let mut stderr = std::io::stderr();
        let _ = write!(stderr, "{question} [y/N] ");
        let _ = stderr.flush();
        let mut line = String::new();
        match std::io::stdin().read_line(&mut line) {
            Ok(_) if matches!(line.trim().to_ascii_lowercase().as_str(), "y" | "yes") => Answer::Yes,
            Ok(_) | Err(_) => Answer::No,
        }
    }
}
