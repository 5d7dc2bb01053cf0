//! `fleet-agent`; everything is in the library.

fn main() -> std::process::ExitCode {
    fleet_agent::cli::main()
}
