//! The controller's program: its command line, its log, its signals. Everything else is the library's.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use fleet::outcome::exit;
use fleet_controller::config::Config;
use fleet_controller::{init, serve};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Keeps what every server of a fleet shall run, and drives deployments towards it.
#[derive(Debug, Parser)]
#[command(
    name = "fleet-controller",
    version,
    after_help = "Examples:\n  fleet-controller init --data-dir /var/lib/fleet --name controller.example.com\n  fleet-controller serve --config /etc/fleet/controller.toml"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make the authority, the controller's certificate and the first operator's; again: change nothing.
    Init {
        /// Where the controller keeps everything.
        #[arg(long, default_value = "/var/lib/fleet")]
        data_dir: PathBuf,
        /// Host name or address by which agents and operators reach it; may be given several times.
        #[arg(long = "name", required = true)]
        names: Vec<String>,
    },
    /// Serve agents and operators.
    Serve {
        /// The configuration file.
        #[arg(long, default_value = "/etc/fleet/controller.toml", env = "FLEET_CONTROLLER_CONFIG")]
        config: PathBuf,
    },
    /// Read the configuration and say whether it is right.
    CheckConfig {
        /// The configuration file.
        #[arg(long, default_value = "/etc/fleet/controller.toml", env = "FLEET_CONTROLLER_CONFIG")]
        config: PathBuf,
    },
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // clap's own code for a wrong command line is 2, which means "differences" everywhere in this product.
            let code = if error.use_stderr() { exit::USAGE } else { exit::OK };
            let _ = error.print();
            return code.into();
        }
    };
    let filter = EnvFilter::try_from_env("FLEET_CONTROLLER_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&anyhow::anyhow!("cannot start the runtime: {error}"), exit::FAILED),
    };
    let result = runtime.block_on(run(cli.command));
    // Tasks that still hold streams are not waited for: everything acknowledged is on disk.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err((code, error)) => fail(&error, code),
    }
}

fn fail(error: &anyhow::Error, code: u8) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "error: {error:#}");
    code.into()
}

async fn run(command: Command) -> Result<(), (u8, anyhow::Error)> {
    let failed = |error: anyhow::Error| (exit::FAILED, error);
    match command {
        Command::Init { data_dir, names } => {
            let made = init::init(&data_dir, &names).await.map_err(failed)?;
            let dir = data_dir.display();
            let text = match made {
                init::Made::Nothing => format!("{dir} is initialised already; nothing was changed\n"),
                init::Made::Controller { ca_hash } => {
                    format!(
                        "made the authority (key hash {ca_hash}), the controller's certificate and the first operator's\nnext: move {dir}/admin to the first operator, then: fleet-controller serve\n"
                    )
                }
            };
            let _ = std::io::stdout().write_all(text.as_bytes());
            Ok(())
        }
        Command::Serve { config } => {
            let config = Config::load(&config).map_err(|e| (exit::CONFIG, e.into()))?;
            let mut terminate = signal(SignalKind::terminate()).map_err(|e| failed(e.into()))?;
            let mut interrupt = signal(SignalKind::interrupt()).map_err(|e| failed(e.into()))?;
            let stop = async {
                tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
                tracing::info!("stopping: deployments go on after the next start");
            };
            serve::serve(&config, stop).await.map_err(failed)
        }
        Command::CheckConfig { config } => {
            Config::load(&config).map_err(|e| (exit::CONFIG, e.into()))?;
            let _ = writeln!(std::io::stdout(), "{} is right", config.display());
            Ok(())
        }
    }
}
