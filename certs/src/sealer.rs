//! The controller's signing key for documents that outlive it. Not the key of its connections: what signs a statement
//! can open no connection, and what opens connections can sign no statement. How a signature is checked is in
//! `envelope`.

use std::fmt;
use std::time::SystemTime;

use rcgen::{KeyPair, PKCS_ED25519, PublicKeyData, SigningKey};

use crate::authority::Authority;
use crate::certificate::{first_certificate, to_pem};
use crate::envelope::{Envelope, key_id, pre_authentication};
use crate::error::Error;
use crate::files::{IdentityFiles, IdentityPems};

/// A signing key and its certificate. `Debug` hides the key.
pub struct Sealer {
    key: KeyPair,
    keyid: String,
    cert_pem: String,
}

impl Sealer {
    /// Loads the key of `files`, or makes it. Ed25519: signing needs no randomness, and a signature cannot be written in
    /// a second way.
    ///
    /// # Errors
    /// When a file cannot be read or written, or its certificate is another fleet's.
    pub fn load_or_create(authority: &Authority, files: &IdentityFiles, now: SystemTime) -> Result<Self, Error> {
        if !files.is_complete() {
            let key = KeyPair::generate_for(&PKCS_ED25519).map_err(Error::Build)?;
            let cert_pem = authority.issue_for_statements(&key, now)?;
            let ca_pem = authority.ca_pem().to_owned();
            files.save(&IdentityPems { ca_pem, cert_pem, key_pem: key.serialize_pem() })?;
        }
        let pems = files.load()?;
        if pems.ca_pem != authority.ca_pem() {
            return Err(Error::OtherAuthority { path: files.cert() });
        }
        let key = KeyPair::from_pem(&pems.key_pem).map_err(Error::Key)?;
        let cert_pem = to_pem(&first_certificate(&pems.cert_pem)?);
        Ok(Self { keyid: key_id(&key.subject_public_key_info()), key, cert_pem })
    }

    /// Signs a document and puts it into its envelope, the certificate beside the signature.
    ///
    /// # Errors
    /// When the library refuses to sign.
    pub fn seal(&self, payload_type: &str, payload: &[u8]) -> Result<String, Error> {
        let signature = self.key.sign(&pre_authentication(payload_type, payload)).map_err(Error::Build)?;
        Ok(Envelope::new(payload_type, payload, &self.keyid, &signature, &self.cert_pem).to_text())
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer").field("keyid", &self.keyid).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
