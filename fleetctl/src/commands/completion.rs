//! `fleetctl completion`: the script for a shell, made from the command line itself.

use clap::{CommandFactory as _, ValueEnum};
use clap_complete::Shell;
use fleet::outcome::exit;

use super::session::Session;
use crate::failure::Failure;

/// Packages install these scripts; by hand it is one line in the shell's start file.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  fleetctl completion bash > ~/.local/share/bash-completion/completions/fleetctl
  fleetctl completion zsh > ~/.zfunc/_fleetctl
  fleetctl completion fish > ~/.config/fish/completions/fleetctl.fish")]
pub struct Args {
    /// The shell
    shell: ShellName,
}

/// The shells there are scripts for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ShellName {
    /// GNU bash.
    Bash,
    /// The Z shell.
    Zsh,
    /// The fish shell.
    Fish,
}

pub(super) fn run(session: &Session, args: Args) -> Result<u8, Failure> {
    session.screen.out(&script(args.shell));
    Ok(exit::OK)
}

fn script(shell: ShellName) -> String {
    let shell = match shell {
        ShellName::Bash => Shell::Bash,
        ShellName::Zsh => Shell::Zsh,
        ShellName::Fish => Shell::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut super::Cli::command(), "fleetctl", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shell_knows_the_verbs() {
        for shell in [ShellName::Bash, ShellName::Zsh, ShellName::Fish] {
            let script = script(shell);
            assert!(script.contains("rollback") && script.contains("fleetctl"), "{shell:?}");
        }
    }
}
