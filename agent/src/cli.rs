//! The agent's command line. Usage errors exit 64 (clap's own 2 would read as "drift found").

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use clap::{Args, Parser, Subcommand, ValueEnum};
use fleet::NodeName;
use tokio::sync::watch;

use crate::agent;
use crate::config::{Config, DEFAULT_PATH, DEFAULT_STATE};
use crate::join::{self, Joined, Joining, TokenSource};
use crate::layout::Layout;
use crate::platform::linux::{LinuxObserver, LinuxSupervisor, WatchLimits, WatchPace};
use crate::platform::linux::{machine, memory};
use crate::status::AgentStatus;

/// Usage error, as in sysexits.h.
const USAGE: u8 = 64;
/// Local configuration or certificate.
const CONFIG: u8 = 78;

/// The agent of one node: it holds what the controller orders, and proves what it holds.
#[derive(Debug, Parser)]
#[command(name = "fleet-agent", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Join a fleet: make a key here, and have it certified with a join token
    Join(JoinArgs),
    /// Run the agent in the foreground
    Run(ConfigArgs),
    /// Show what is on this node's disk; exits 0 if an agent runs, 3 if not, 4 if that cannot be told
    Status(StatusArgs),
    /// Check the configuration file
    CheckConfig(ConfigArgs),
    /// Print the version
    Version,
}

#[derive(Debug, Args)]
struct ConfigArgs {
    /// The configuration file
    #[arg(long, env = "FLEET_AGENT_CONFIG", default_value = DEFAULT_PATH, value_name = "FILE")]
    config: PathBuf,
}

#[derive(Debug, Args)]
struct StatusArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// For people or for programs
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Output {
    Text,
    Json,
}

#[derive(Debug, Args)]
struct JoinArgs {
    /// The controller
    #[arg(value_name = "HOST:PORT", env = "FLEET_AGENT_CONTROLLER")]
    controller: String,
    /// The file with the token, removed after use; `-` reads standard input
    #[arg(long, env = "FLEET_AGENT_TOKEN_FILE", value_name = "FILE")]
    token_file: PathBuf,
    /// The node's name; without it, the configuration's, or this machine's name
    #[arg(long)]
    name: Option<NodeName>,
    /// The name in the controller's certificate; without it, the configuration's, or the host above
    #[arg(long, value_name = "NAME")]
    controller_name: Option<String>,
    /// What to say of the node; may be repeated
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// Where the identity is kept; without it, the configuration's state_dir
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Take state_dir, node and controller_name from this file
    #[arg(long, env = "FLEET_AGENT_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Runs the program.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS };
        }
    };
    log_to_stderr();
    memory::be_frugal();
    // This thread keeps the link, the other one the services; whatever takes long has threads of its own. A third would
    // mostly be woken for nothing: an idle agent is made of wake-ups.
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(1, &anyhow::Error::new(error).context("cannot start the runtime")),
    };
    let code = match cli.command {
        Command::Join(args) => runtime.block_on(join_fleet(args)),
        Command::Run(args) => run(&runtime, &args.config),
        Command::Status(args) => status(&args),
        Command::CheckConfig(args) => check_config(&args.config),
        Command::Version => {
            say(&format!("fleet-agent {}", env!("CARGO_PKG_VERSION")));
            ExitCode::SUCCESS
        }
    };
    // A keeper in the middle of a blocking call is not waited for: it resumes at the next start.
    runtime.shutdown_background();
    code
}

async fn join_fleet(args: JoinArgs) -> ExitCode {
    let config = match args.config.as_deref().map(Config::load).transpose() {
        Ok(config) => config,
        Err(error) => return fail(CONFIG, &error.into()),
    };
    let name = args
        .name
        .or_else(|| config.as_ref().and_then(|config| config.node.clone()))
        .or_else(|| machine::host_name().and_then(|name| name.parse().ok()));
    let Some(name) = name else {
        return fail(USAGE, &anyhow::anyhow!("this machine has no usable host name; give one with --name"));
    };
    let state = args
        .state_dir
        .or_else(|| config.as_ref().map(|config| config.state_dir.clone()))
        .unwrap_or_else(|| DEFAULT_STATE.into());
    let controller_name = args
        .controller_name
        .or_else(|| config.map(|config| config.controller_name))
        .unwrap_or_else(|| host_of(&args.controller));
    let token = if args.token_file == Path::new("-") { TokenSource::Stdin } else { TokenSource::File(args.token_file) };
    let joining = Joining {
        controller: args.controller,
        controller_name,
        token,
        name,
        labels: args.labels.into_iter().collect::<BTreeMap<_, _>>(),
    };
    match join::join(&Layout::new(&state), &joining).await {
        Ok(Joined::Now { name }) => {
            say(&format!("{name} has joined the fleet of {}.\nNext: fleet-agent run", joining.controller));
            ExitCode::SUCCESS
        }
        Ok(Joined::Already { name }) => {
            say(&format!("{name} has joined already ({}).", state.display()));
            ExitCode::SUCCESS
        }
        Err(error) => fail(1, &error.into()),
    }
}

fn run(runtime: &tokio::runtime::Runtime, path: &Path) -> ExitCode {
    let prepared = || -> anyhow::Result<_> {
        let mut config = Config::load(path)?;
        agent::resolve_root(&mut config)?;
        let supervisor = LinuxSupervisor::new().context("cannot use /proc")?;
        let pace = WatchPace {
            sweep_every: config.sweep_every,
            rehash_every: config.rehash_every,
            cpu_percent: config.observe_cpu_share,
            ..WatchPace::default()
        };
        let observer = LinuxObserver::with(config.scope, config.services_root.clone(), pace, WatchLimits::default())
            .context("cannot use /proc")?;
        Ok((config, supervisor, observer))
    };
    let (config, supervisor, observer) = match prepared() {
        Ok(prepared) => prepared,
        Err(error) => return fail(CONFIG, &error),
    };
    runtime.block_on(async {
        let (stop, stopping) = watch::channel(false);
        if let Err(error) = stop_on_signal(stop) {
            return fail(1, &anyhow::Error::new(error).context("cannot listen for signals"));
        }
        match agent::run(config, Arc::new(supervisor), Arc::new(observer), stopping).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(
                error @ (agent::AgentError::NotJoined { .. }
                | agent::AgentError::OtherName { .. }
                | agent::AgentError::NoSuchUser(_)
                | agent::AgentError::Identity(_)),
            ) => fail(CONFIG, &error.into()),
            Err(error) => fail(1, &error.into()),
        }
    })
}

fn stop_on_signal(stop: watch::Sender<bool>) -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stop.send_replace(true);
        // The sender stays alive until the process ends: a closed channel is no signal.
        std::future::pending::<()>().await;
    });
    Ok(())
}

fn status(args: &StatusArgs) -> ExitCode {
    let config = match Config::load(&args.config.config) {
        Ok(config) => config,
        Err(error) => return fail(4, &error.into()),
    };
    let status = AgentStatus::read(&config);
    match args.output {
        Output::Text => say(status.to_text().trim_end()),
        Output::Json => say(&serde_json::to_string_pretty(&status).unwrap_or_default()),
    }
    ExitCode::from(status.exit_code())
}

fn check_config(path: &Path) -> ExitCode {
    match Config::load(path) {
        Ok(_) => {
            say(&format!("{} is fine", path.display()));
            ExitCode::SUCCESS
        }
        Err(error) => fail(CONFIG, &error.into()),
    }
}

fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| format!("'{text}' is not KEY=VALUE"))?;
    if key.is_empty() {
        return Err(format!("'{text}' has no key"));
    }
    Ok((key.to_owned(), value.to_owned()))
}

/// The host of `host:port`; a loopback address is certified as `localhost`.
fn host_of(address: &str) -> String {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host).trim_start_matches('[').trim_end_matches(']');
    match host.parse::<std::net::IpAddr>() {
        Ok(ip) if ip.is_loopback() => "localhost".to_owned(),
        Ok(_) | Err(_) => host.to_owned(),
    }
}

fn log_to_stderr() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("FLEET_AGENT_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let ansi = std::io::IsTerminal::is_terminal(&std::io::stderr());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(ansi).init();
}

/// A closed standard output is no reason to panic, as println would.
fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

fn fail(code: u8, error: &anyhow::Error) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "error: {error:#}");
    ExitCode::from(code)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn hosts_and_labels() {
        assert_eq!(host_of("c.example.com:7443"), "c.example.com");
        assert_eq!(host_of("127.0.0.1:7443"), "localhost");
        assert_eq!(host_of("[::1]:7443"), "localhost");
        assert_eq!(label("a=b=c").unwrap(), ("a".into(), "b=c".into()));
        assert!(label("a").is_err() && label("=a").is_err());
    }
}
