//! A key that never leaves its machine, and the request for a certificate that does.
//!
//! The authority takes nothing from a request but the public key, so requests carry no names.

use std::fmt;

use rcgen::{
    CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData, SubjectPublicKeyInfo,
};
use rustls::pki_types::CertificateSigningRequestDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;

use crate::certificate::{first_certificate, public_key_info};
use crate::error::Error;

/// The largest request read, in bytes of PEM. Ours are below 500; it is read before its sender is trusted.
const LARGEST_REQUEST: usize = 16 * 1024;

/// A private key and the request made with it. `Debug` hides the key.
pub struct KeyAndCsr {
    /// The private key (PKCS #8 PEM); keep it with `files::Readers::Owner`.
    pub key_pem: String,
    /// The request (PEM); send it.
    pub csr_pem: String,
}

impl KeyAndCsr {
    /// A new ECDSA P-256 key and its request.
    pub fn generate() -> Result<Self, Error> {
        Self::request(&KeyPair::generate().map_err(Error::Build)?)
    }

    /// A new request for a key that exists: for renewal, or to repeat an enrolment that was cut off.
    pub fn for_key(key_pem: &str) -> Result<Self, Error> {
        Self::request(&KeyPair::from_pem(key_pem).map_err(Error::Key)?)
    }

    fn request(key: &KeyPair) -> Result<Self, Error> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let csr_pem = params.serialize_request(key).and_then(|csr| csr.pem()).map_err(Error::Build)?;
        Ok(KeyAndCsr { key_pem: key.serialize_pem(), csr_pem })
    }
}

impl fmt::Debug for KeyAndCsr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyAndCsr").field("key_pem", &"<hidden>").field("csr_pem", &self.csr_pem).finish()
    }
}

/// Checks that a PEM certificate was issued for a PEM private key.
pub fn check_key_matches(cert_pem: &str, key_pem: &str) -> Result<(), Error> {
    let key = KeyPair::from_pem(key_pem).map_err(Error::Key)?;
    let certified = public_key_info(&first_certificate(cert_pem)?)?;
    if key.subject_public_key_info() == certified { Ok(()) } else { Err(Error::KeyMismatch) }
}

/// The public key of a request whose sender has proven to hold the private key. Everything else in it is ignored.
pub(crate) fn requested_key(csr_pem: &str) -> Result<SubjectPublicKeyInfo, Error> {
    let refuse = |reason: &str| Error::Request { reason: reason.to_owned() };
    if csr_pem.len() > LARGEST_REQUEST {
        return Err(refuse("it is larger than 16 KiB"));
    }
    let der = CertificateSigningRequestDer::from_pem_slice(csr_pem.as_bytes())
        .map_err(|_| refuse("it is not a PEM certificate request"))?;
    let (rest, csr) =
        X509CertificationRequest::from_der(&der).map_err(|_| refuse("it is not a certificate request"))?;
    if !rest.is_empty() {
        return Err(refuse("bytes follow after its end"));
    }
    csr.verify_signature().map_err(|_| refuse("it is not signed with the key it names"))?;
    let key = SubjectPublicKeyInfo::from_der(csr.certification_request_info.subject_pki.raw)
        .map_err(|_| refuse("its kind of key is not known"))?;
    // One kind of key in the whole fleet: nobody enrols a weak one.
    if key.algorithm() != &PKCS_ECDSA_P256_SHA256 {
        return Err(refuse("its key is not ECDSA P-256"));
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_request_proves_its_key() {
        let made = KeyAndCsr::generate().unwrap();
        let key = KeyPair::from_pem(&made.key_pem).unwrap();
        let asked = requested_key(&made.csr_pem).unwrap();
        assert_eq!(asked.subject_public_key_info(), key.subject_public_key_info());
        assert!(!format!("{made:?}").contains("PRIVATE KEY"));
        let again = KeyAndCsr::for_key(&made.key_pem).unwrap();
        assert_eq!(requested_key(&again.csr_pem).unwrap(), asked);
    }

    #[test]
    fn damaged_and_foreign_requests_are_refused() {
        let made = KeyAndCsr::generate().unwrap();
        let mut der = CertificateSigningRequestDer::from_pem_slice(made.csr_pem.as_bytes()).unwrap().to_vec();
        // Flip a bit inside the signature, at the very end.
        *der.last_mut().unwrap() ^= 1;
        let damaged = crate::certificate::to_pem(&der).replace("CERTIFICATE", "CERTIFICATE REQUEST");
        let p384 = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        let other_kind = KeyAndCsr::request(&p384).unwrap().csr_pem;
        for csr in ["", "hello", &damaged, &other_kind, &"x".repeat(20_000)] {
            assert!(matches!(requested_key(csr), Err(Error::Request { .. })));
        }
    }
}
