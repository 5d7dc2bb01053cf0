//! `fleet-controller init`: makes the authority, the controller's own certificate and the first operator's. Doing it
//! again changes nothing.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use fleet_certs::files::{IdentityFiles, IdentityPems};
use fleet_certs::{Authority, Identity, KeyAndCsr, Role, Sealer, check_name};

use crate::clock;
use crate::records::{Change, Enrolled, OperatorRecord, save};
use crate::store::{OpenMode, open_sled};

/// How long the controller's and the first operator's certificates live.
const LIFETIME: Duration = Duration::from_secs(365 * 24 * 3_600);
/// The name of the first operator.
pub const FIRST_OPERATOR: &str = "admin";

/// The directories below the data directory.
pub struct Layout<'a>(pub &'a Path);

impl Layout<'_> {
    /// The authority's key and certificate.
    pub fn authority(&self) -> std::path::PathBuf {
        self.0.join("pki")
    }

    /// The controller's own identity.
    pub fn own(&self) -> IdentityFiles {
        IdentityFiles::in_dir(self.0.join("identity"))
    }

    /// The key that signs statements, and its certificate.
    pub fn statement_key(&self) -> IdentityFiles {
        IdentityFiles::in_dir(self.0.join("statement-key"))
    }

    /// The first operator's identity; moved to their machine by whoever runs init.
    pub fn admin(&self) -> IdentityFiles {
        IdentityFiles::in_dir(self.0.join("admin"))
    }

    /// The store.
    pub fn store(&self) -> std::path::PathBuf {
        self.0.join("store")
    }
}

/// Makes what is missing. `names` are the host names and addresses by which the controller is reached.
///
/// # Errors
/// With the file that could not be made, or when the directory holds only a part of a controller.
pub async fn init(data_dir: &Path, names: &[String]) -> anyhow::Result<Made> {
    fleet_certs::install_crypto_provider();
    let layout = Layout(data_dir);
    // The controller's own identity is written last, so it decides. The first operator's may have been moved away by now.
    if layout.own().is_complete() {
        Authority::load(&layout.authority())
            .context("the data directory has been initialised, but its authority cannot be read")?;
        return Ok(Made::Nothing);
    }
    if layout.store().join("log").exists() && !layout.authority().exists() {
        bail!(
            "{} holds a store but no authority: restore the directory 'pki' from a backup; a new authority would lock every node out",
            data_dir.display()
        );
    }
    std::fs::create_dir_all(data_dir).with_context(|| format!("cannot make {}", data_dir.display()))?;
    // Not every address is a name: `::1` is none.
    let fleet_name = names.iter().find(|name| check_name(name).is_ok()).map_or("fleet", String::as_str);
    let authority = Authority::load_or_create(&layout.authority(), fleet_name)?;
    let own = identity(&authority, Role::Controller, "controller", names)?;
    let admin = identity(&authority, Role::Operator, FIRST_OPERATOR, &[])?;
    let store = open_sled(&layout.store(), OpenMode::Create)?;
    // The serial is accepted before the certificate exists on disk: a crash in between leaves an unused serial.
    let record = OperatorRecord { name: FIRST_OPERATOR.into(), certificates: vec![admin.1] };
    save(store.as_ref(), &[Change::Operator(record)]).await?;
    layout.admin().save(&admin.0)?;
    Sealer::load_or_create(&authority, &layout.statement_key(), clock::system_now())?;
    layout.own().save(&own.0)?;
    Ok(Made::Controller { ca_hash: authority.ca_hash().to_owned() })
}

/// What init did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Made {
    /// Everything was there.
    Nothing,
    /// A new controller.
    Controller {
        /// The hash of its authority's public key, as join tokens carry it.
        ca_hash: String,
    },
}

fn identity(
    authority: &Authority,
    role: Role,
    name: &str,
    names: &[String],
) -> anyhow::Result<(IdentityPems, Enrolled)> {
    let key = KeyAndCsr::generate()?;
    let issued = authority.issue(&key.csr_pem, &Identity::new(role, name)?, names, LIFETIME, clock::system_now())?;
    let now = clock::now();
    let enrolled = Enrolled {
        serial: issued.serial,
        not_after: now.after(fleet::Millis(LIFETIME.as_millis() as u64)),
        at: now,
        token: "init".into(),
    };
    Ok((IdentityPems { ca_pem: authority.ca_pem().to_owned(), cert_pem: issued.pem, key_pem: key.key_pem }, enrolled))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::records::load;

    async fn serials(layout: &Layout<'_>) -> Vec<String> {
        let store = open_sled(&layout.store(), OpenMode::Existing).unwrap();
        let operators = load(store.as_ref()).await.unwrap().operators;
        operators[FIRST_OPERATOR].certificates.iter().map(|certificate| certificate.serial.clone()).collect()
    }

    #[tokio::test]
    async fn again_changes_nothing_even_when_the_first_operators_identity_was_moved_away() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout(dir.path());
        assert!(matches!(init(dir.path(), &["::1".into()]).await.unwrap(), Made::Controller { .. }));
        let (own, accepted) = (layout.own().load().unwrap(), serials(&layout).await);
        std::fs::rename(dir.path().join("admin"), dir.path().join("moved")).unwrap();
        assert_eq!(init(dir.path(), &["localhost".into()]).await.unwrap(), Made::Nothing);
        assert!(layout.own().load().unwrap() == own);
        assert_eq!(serials(&layout).await, accepted, "the first operator is still let in");
    }

    #[tokio::test]
    async fn what_was_cut_off_is_completed_and_a_store_without_authority_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout(dir.path());
        init(dir.path(), &["localhost".into()]).await.unwrap();
        std::fs::remove_dir_all(dir.path().join("identity")).unwrap();
        let Made::Controller { .. } = init(dir.path(), &["localhost".into()]).await.unwrap() else {
            panic!("it was not complete")
        };
        assert!(layout.own().is_complete());
        std::fs::remove_dir_all(dir.path().join("identity")).unwrap();
        std::fs::remove_dir_all(layout.authority()).unwrap();
        let refused = init(dir.path(), &["localhost".into()]).await.unwrap_err().to_string();
        assert!(refused.contains("restore the directory 'pki'"), "{refused}");
    }
}
