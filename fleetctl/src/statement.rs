//! Reading a signed statement: envelope, signature and content, without a controller. Whoever has the authority's
//! certificate can do it, years later. What is shown of it is `output::statement`'s.

use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use fleet::Digest;
use fleet::statement::chain::Link;
use fleet::statement::{PAYLOAD_TYPE, Predicate, Statement, StatementError};
use fleet_certs::files::{Existing, Readers, write};
use fleet_certs::{LARGEST_ENVELOPE, SealError};
use sha2::Digest as _;

use crate::failure::Failure;

/// A statement that passed its check.
#[derive(Debug)]
pub struct Checked {
    /// What is stated.
    pub statement: Statement,
    /// The digest of its payload.
    pub digest: Digest,
    /// The key that signed it.
    pub keyid: String,
}

/// Why a statement is not believed.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// Its envelope or signature.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// Its content.
    #[error(transparent)]
    Statement(#[from] StatementError),
}

/// Checks a statement: byte for byte as it was signed, by a key that this authority certified for statements.
///
/// # Errors
/// With the first thing that is wrong.
pub fn check(envelope: &[u8], ca_pem: &str) -> Result<Checked, Refused> {
    let opened = fleet_certs::open(envelope, PAYLOAD_TYPE, ca_pem, |payload| {
        let statement = Statement::from_payload(payload)?;
        // Written times lie between 1970 and 9999.
        let ms = u64::try_from(statement.predicate().made_at.timestamp().0).unwrap_or(0);
        Ok::<_, Refused>((statement, UNIX_EPOCH + Duration::from_millis(ms)))
    })?;
    let digest = Digest(sha2::Sha256::digest(&opened.payload).into());
    Ok(Checked { statement: opened.content, digest, keyid: opened.keyid })
}

/// As [`check`], for a file.
///
/// # Errors
/// 65 for what is wrong with it, or when it cannot be read.
pub fn check_file(path: &Path, ca_pem: &str) -> Result<Checked, Failure> {
    check(&read(path)?, ca_pem).map_err(|refused| refusal(&path.display().to_string(), &refused))
}

/// That a statement is not believed, as a failure (65).
pub fn refusal(what: &str, refused: &Refused) -> Failure {
    let failure = Failure::data(format!("{what} is not a valid statement of this fleet")).caused_by(refused);
    match refused {
        Refused::Seal(SealError::Untrusted { .. }) => {
            failure.help("name the authority of the fleet that made it: --ca FILE")
        }
        Refused::Seal(SealError::Authority(_)) => failure.help("name the authority's certificate, ca.pem: --ca FILE"),
        Refused::Seal(SealError::Spelling) => {
            failure.help("use the file as it was written by --save or 'statements get'; nothing may be changed in it")
        }
        Refused::Seal(_) | Refused::Statement(_) => {
            failure.help("do not rely on it; get it anew from the controller: fleetctl statements get NUMBER")
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    use std::io::Read as _;
    let cannot = |e: std::io::Error| Failure::data(format!("cannot read {}", path.display())).because(e);
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(cannot)?;
    file.take(LARGEST_ENVELOPE as u64 + 1).read_to_end(&mut bytes).map_err(cannot)?;
    Ok(bytes)
}

/// Writes a statement whole or not at all.
///
/// # Errors
/// 1 with what the operating system says.
pub fn save(path: &Path, envelope: &[u8], existing: Existing) -> Result<(), Failure> {
    write(path, envelope, Readers::Everyone, existing)
        .map_err(|e| Failure::failed(format!("cannot write {}", path.display())).caused_by(&e))
}

/// The name that a statement has in a folder of them.
pub fn file_name(sequence: u64) -> String {
    format!("{sequence:012}.dsse.json")
}

impl Checked {
    /// What is stated.
    pub fn predicate(&self) -> &Predicate {
        self.statement.predicate()
    }

    /// Its place in the chain.
    pub fn link(&self) -> Link {
        let predicate = self.predicate();
        Link { sequence: predicate.sequence, previous: predicate.previous, digest: self.digest }
    }
}

/// The statements in a folder, each checked, in order of their numbers: files named `*.dsse.json`. One whose name begins
/// with another number than it has stands in another's place.
///
/// # Errors
/// 65 with the first file that is wrong.
pub fn check_folder(folder: &Path, ca_pem: &str) -> Result<Vec<(PathBuf, Checked)>, Failure> {
    let cannot = |e: std::io::Error| Failure::data(format!("cannot read {}", folder.display())).because(e);
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(cannot)? {
        let path = entry.map_err(cannot)?.path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().ends_with(".dsse.json")) {
            paths.push(path);
        }
    }
    paths.sort();
    let mut checked = Vec::with_capacity(paths.len());
    for path in paths {
        let one = check_file(&path, ca_pem)?;
        let sequence = one.predicate().sequence;
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let digits: String = name.chars().take_while(char::is_ascii_digit).collect();
        if digits.parse().is_ok_and(|named: u64| named != sequence) {
            return Err(Failure::data(format!("{} holds statement {sequence}", path.display()))
                .because("it stands in the place of another one"));
        }
        checked.push((path, one));
    }
    checked.sort_by_key(|(_, one)| one.predicate().sequence);
    Ok(checked)
}
