//! The example service that a newcomer deploys: a small HTTP/1.1 server on threads.
//!
//! Each binary calls [`serve`] with its own [`Version`], so that two versions are really different executables with
//! different digests. It leaves everything else to the fleet: who starts it, on which port, under which release.
//!
//! Exit codes: 0 after SIGTERM or SIGINT, 2 for a wrong argument, 98 (the number of `EADDRINUSE` on Linux) when the port
//! is in use, 1 for any other failure.

mod arguments;
mod connection;
mod request;
mod response;
mod server;

use std::io::Write;
use std::process::ExitCode;

use arguments::{Arguments, Mode};
use nix::sys::signal::{SigSet, Signal};

/// What one binary is: fixed at compile time, so that the digest of the executable says which version it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    /// The version that every response carries in `X-Version`.
    pub number: &'static str,
    /// What `/healthz` says.
    pub health: Health,
}

/// Whether this version works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// `/healthz` answers 200.
    Good,
    /// The process starts and listens, but `/healthz` answers 503 and `/` answers 500, so that traffic that reaches it
    /// by mistake is seen.
    Broken {
        /// Why, as the response's body says it.
        reason: &'static str,
    },
}

/// Exit code for a port that is in use: `EADDRINUSE` on Linux, so that it cannot be taken for anything else.
pub const EXIT_PORT_IN_USE: u8 = 98;
/// Exit code for a wrong argument, as in most Unix tools.
pub const EXIT_USAGE: u8 = 2;

/// Runs the service until SIGTERM or SIGINT and returns the exit code.
///
/// Arguments and environment: `--port N` or `PORT`, `--bind ADDRESS` (default 127.0.0.1), `--worker`, `--help`;
/// `FLEET_NODE` and `FLEET_RELEASE` are repeated in the responses' headers.
pub fn serve(version: Version) -> ExitCode {
    let arguments = match Arguments::read(std::env::args().skip(1), std::env::var("PORT").ok()) {
        Ok(arguments) => arguments,
        Err(error) => {
            say(&format!("hello {}: {error}\n{}", version.number, arguments::USAGE));
            return ExitCode::from(EXIT_USAGE);
        }
    };
    // Blocked before the first thread starts, so that every thread inherits it and only the wait below receives them.
    let stop = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT]);
    if let Err(error) = stop.thread_block() {
        say(&format!("hello {}: cannot block SIGTERM: {error}", version.number));
        return ExitCode::FAILURE;
    }
    match arguments.mode {
        Mode::Help => {
            say(arguments::USAGE);
            ExitCode::SUCCESS
        }
        Mode::Worker => {
            say(&format!("hello {} worker: pid {}, waiting for SIGTERM", version.number, std::process::id()));
            wait(&stop)
        }
        Mode::Server { bind, port } => {
            let running = match server::Server::start(version, bind, port) {
                Ok(running) => running,
                Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
                    say(&format!(
                        "hello {}: port {port} on {bind} is in use by another process; find it with: ss -ltnp 'sport = :{port}'",
                        version.number
                    ));
                    return ExitCode::from(EXIT_PORT_IN_USE);
                }
                Err(error) => {
                    say(&format!("hello {}: cannot listen on {bind} port {port}: {error}", version.number));
                    return ExitCode::FAILURE;
                }
            };
            say(&format!("hello {} listening on http://{}", version.number, running.address()));
            let code = wait(&stop);
            match running.stop() {
                server::Stopped::Finished => code,
                server::Stopped::CutOff { connections } => {
                    say(&format!("hello {}: {connections} connections were cut off", version.number));
                    ExitCode::FAILURE
                }
            }
        }
    }
}

/// Waits for one of `signals`.
fn wait(signals: &SigSet) -> ExitCode {
    loop {
        match signals.wait() {
            Ok(_) => return ExitCode::SUCCESS,
            Err(nix::errno::Errno::EINTR) => {}
            Err(error) => {
                say(&format!("hello: cannot wait for SIGTERM: {error}"));
                return ExitCode::FAILURE;
            }
        }
    }
}

/// One line to standard error. A closed standard error must not end a service.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
