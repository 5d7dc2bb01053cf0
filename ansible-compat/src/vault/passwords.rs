//! Vault passwords: read from files or asked of scripts, named by vault ids, and never shown.
//!
//! Trying them on a vault is `vault`'s.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Fault};
use crate::program::output_of;
use crate::source::{bytes_within, is_executable};

/// The name of passwords that were given none.
const DEFAULT: &str = "default";

/// Passwords for vaults; each vault tries the one of its own name first, then all others in the order given.
#[derive(Clone, Default)]
pub struct Passwords {
    known: Vec<Secret>,
    /// What they were read from, as `--vault-id` arguments.
    pub(crate) arguments: Vec<String>,
}

/// One password.
#[derive(Clone)]
pub(crate) struct Secret {
    id: String,
    bytes: Vec<u8>,
}

impl Secret {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl fmt::Debug for Passwords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.known.iter().map(|secret| &secret.id)).finish()
    }
}

impl Passwords {
    /// Reads what `--vault-id NAME@FILE` (or `FILE`) and `--vault-password-file FILE` name. An executable file is run
    /// and prints the password; one whose name ends in `-client` is told `--vault-id NAME`, as with Ansible.
    ///
    /// # Errors
    /// If any of them cannot be read or is empty. Ansible goes on while it has at least one; a password that is missing
    /// is found out here, not at the file that needs it. `NAME@prompt` is refused.
    pub fn read(vault_ids: &[String], files: &[PathBuf]) -> Result<Self, Error> {
        let named = vault_ids.iter().map(|argument| match argument.split_once('@') {
            Some((id, file)) => (id, PathBuf::from(file)),
            None => (DEFAULT, PathBuf::from(argument)),
        });
        let unnamed = files.iter().map(|file| (DEFAULT, file.clone()));
        let mut passwords = Self::default();
        for (id, file) in named.chain(unnamed) {
            let id = if id.is_empty() { DEFAULT } else { id };
            let bytes = passwords.password(id, &file).map_err(|fault| fault.in_file(&file))?;
            passwords.arguments.push(format!("{id}@{}", file.display()));
            passwords.known.push(Secret { id: id.to_owned(), bytes });
        }
        Ok(passwords)
    }

    #[cfg(test)]
    pub(crate) fn of<'a>(all: impl Iterator<Item = (&'a str, &'a [u8])>) -> Self {
        let known = all.map(|(id, bytes)| Secret { id: id.to_owned(), bytes: bytes.to_vec() }).collect();
        Self { known, arguments: Vec::new() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    pub(crate) fn in_order(&self, id: Option<&str>) -> impl Iterator<Item = &Secret> {
        let named = move |secret: &&Secret| Some(secret.id.as_str()) == id;
        self.known.iter().filter(named).chain(self.known.iter().filter(move |secret| !named(secret)))
    }

    fn password(&self, id: &str, file: &Path) -> Result<Vec<u8>, Fault> {
        if file.as_os_str() == "prompt" || file.as_os_str() == "prompt_ask_vault_pass" {
            return Err(Fault::recognised(
                "a vault password typed at a prompt",
                "put it into a file that only you can read, or write a script that asks for it",
            ));
        }
        let told = if is_executable(file) {
            let client = file.file_stem().is_some_and(|stem| stem.as_encoded_bytes().ends_with(b"-client"));
            let arguments = if client { &["--vault-id", id][..] } else { &[] };
            let program = file.canonicalize().map_err(|cause| unreadable(&cause))?;
            output_of(&program, arguments, &[])?
        } else {
            let bytes = bytes_within(file).map_err(|cause| unreadable(&cause))?;
            let bytes = bytes.trim_ascii().to_vec();
            // A password may itself be kept in a vault, which an earlier one opens.
            if super::is_vault(&bytes) { super::open(&bytes, self)? } else { bytes }
        };
        let start = told.iter().position(|b| !b"\r\n".contains(b)).unwrap_or(told.len());
        let end = told.iter().rposition(|b| !b"\r\n".contains(b)).map_or(start, |last| last + 1);
        match &told[start..end] {
            [] => Err(Fault::invalid("the vault password is empty", "write the password into it, on one line")),
            password => Ok(password.to_vec()),
        }
    }
}

fn unreadable(cause: &std::io::Error) -> Fault {
    Fault::invalid(
        format!("the vault password cannot be read: {cause}"),
        "check the path and that this user may read it",
    )
}
