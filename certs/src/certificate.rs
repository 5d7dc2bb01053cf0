//! Reading certificates: the identity in the one URI name, the serial, the validity, the hash of the public key.
//!
//! Nothing here decides whether a certificate is to be believed; the TLS verifiers do. Input is hostile: it comes from
//! any peer, before anything is known about it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::error::Error;
use crate::identity::Identity;
use crate::provider::hex;

/// The largest certificate read, in bytes. Ours are below 1 KiB; a stranger's must not cost us more than a glance.
const LARGEST_CERTIFICATE: usize = 16 * 1024;

/// What the fleet needs to know of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// Whom it names.
    pub identity: Identity,
    /// Its serial in lower-case hexadecimal without leading zero bytes; the key of allow-list and audit.
    pub serial: String,
    /// From when it is valid.
    pub not_before: SystemTime,
    /// Until when it is valid.
    pub not_after: SystemTime,
}

impl Certificate {
    /// Reads a DER certificate. Exactly one URI name is required, and it must be a fleet identity.
    pub fn from_der(der: &[u8]) -> Result<Self, Error> {
        let parsed = parse(der)?;
        let names = parsed.subject_alternative_name().map_err(|e| unreadable(e.to_string()))?;
        let uris: Vec<&str> = names
            .iter()
            .flat_map(|extension| &extension.value.general_names)
            .filter_map(|name| match name {
                GeneralName::URI(uri) => Some(*uri),
                _ => None,
            })
            .collect();
        let [uri] = uris[..] else {
            return Err(Error::IdentityCount { found: uris.len() });
        };
        let serial = parsed.raw_serial();
        let leading_zeros = serial.iter().take_while(|byte| **byte == 0).count();
        let validity = parsed.validity();
        Ok(Certificate {
            identity: uri.parse()?,
            serial: hex(&serial[leading_zeros..]),
            not_before: from_unix_seconds(validity.not_before.timestamp()),
            not_after: from_unix_seconds(validity.not_after.timestamp()),
        })
    }

    /// Reads the first certificate of a PEM text.
    pub fn from_pem(pem: &str) -> Result<Self, Error> {
        Self::from_der(&first_certificate(pem)?)
    }

    /// When to renew: after two thirds of the lifetime, so that a third is left for everything to go wrong.
    pub fn renew_at(&self) -> SystemTime {
        let lifetime = self.not_after.duration_since(self.not_before).unwrap_or_default();
        self.not_before + lifetime / 3 * 2
    }
}

/// The SHA-256 of a certificate's SubjectPublicKeyInfo in base64url without padding, as it stands in a join token.
pub fn public_key_hash(der: &[u8]) -> Result<String, Error> {
    let parsed = parse(der)?;
    Ok(URL_SAFE_NO_PAD.encode(Sha256::digest(parsed.tbs_certificate.subject_pki.raw)))
}

/// The DER SubjectPublicKeyInfo of a certificate.
pub(crate) fn public_key_info(der: &[u8]) -> Result<Vec<u8>, Error> {
    Ok(parse(der)?.tbs_certificate.subject_pki.raw.to_vec())
}

/// Until when a certificate without identity (an authority's) is valid.
pub(crate) fn not_after(der: &[u8]) -> Result<SystemTime, Error> {
    Ok(from_unix_seconds(parse(der)?.validity().not_after.timestamp()))
}

/// Whether the certificate is an authority's and signed with its own key. The caller has pinned that key.
pub(crate) fn is_self_signed_authority(der: &[u8]) -> bool {
    parse(der).is_ok_and(|parsed| parsed.is_ca() && parsed.verify_signature(None).is_ok())
}

/// All certificates of a PEM text; at least one.
pub(crate) fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, Error> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|e| unreadable(e.to_string()))?;
    if found.is_empty() {
        return Err(Error::Pem { what: "certificate" });
    }
    Ok(found)
}

/// The first certificate of a PEM text.
pub(crate) fn first_certificate(pem: &str) -> Result<CertificateDer<'static>, Error> {
    certificates(pem)?.into_iter().next().ok_or(Error::Pem { what: "certificate" })
}

/// A certificate as PEM, lines of 64 characters as in RFC 7468.
pub(crate) fn to_pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, tail) = rest.split_at(rest.len().min(64));
        pem.push_str(line);
        pem.push('\n');
        rest = tail;
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}

fn parse(der: &[u8]) -> Result<X509Certificate<'_>, Error> {
    if der.len() > LARGEST_CERTIFICATE {
        return Err(unreadable("it is larger than 16 KiB".into()));
    }
    match X509Certificate::from_der(der) {
        Ok(([], parsed)) => Ok(parsed),
        Ok(_) => Err(unreadable("bytes follow after its end".into())),
        Err(e) => Err(unreadable(e.to_string())),
    }
}

fn unreadable(reason: String) -> Error {
    Error::Certificate { reason }
}

fn from_unix_seconds(seconds: i64) -> SystemTime {
    // Times before 1970 occur only in hostile certificates; the epoch is long past for every purpose.
    u64::try_from(seconds).map_or(UNIX_EPOCH, |s| UNIX_EPOCH + Duration::from_secs(s))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;
    use rcgen::{CertificateParams, KeyPair, SanType};

    fn certificate_with(uris: &[&str]) -> Vec<u8> {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        for uri in uris {
            params.subject_alt_names.push(SanType::URI((*uri).try_into().unwrap()));
        }
        let key = KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn exactly_one_identity() {
        let one = certificate_with(&["spiffe://fleet/node/n1"]);
        assert_eq!(Identity::from_certificate(&one).unwrap().to_uri(), "spiffe://fleet/node/n1");
        assert!(matches!(Certificate::from_der(&certificate_with(&[])), Err(Error::IdentityCount { found: 0 })));
        let two = certificate_with(&["spiffe://fleet/node/n1", "spiffe://fleet/node/n2"]);
        assert!(matches!(Certificate::from_der(&two), Err(Error::IdentityCount { found: 2 })));
        let foreign = certificate_with(&["https://example.com/"]);
        assert!(matches!(Certificate::from_der(&foreign), Err(Error::Identity { .. })));
        let mut trailing = one;
        trailing.push(0);
        assert!(matches!(Certificate::from_der(&trailing), Err(Error::Certificate { .. })));
    }

    #[test]
    fn pem_is_what_others_read() {
        let der = certificate_with(&["spiffe://fleet/node/n1"]);
        assert_eq!(first_certificate(&to_pem(&der)).unwrap().as_ref(), der);
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2048)) {
            prop_assert!(Certificate::from_der(&bytes).is_err());
        }

        #[test]
        fn damaged_certificates_never_panic(damage in proptest::collection::vec((any::<usize>(), any::<u8>()), 1..8)) {
            let mut der = certificate_with(&["spiffe://fleet/node/n1"]);
            for (place, byte) in damage {
                let place = place % der.len();
                der[place] = byte;
            }
            // What still parses still has a name within the grammar.
            if let Ok(read) = Certificate::from_der(&der) {
                prop_assert!(crate::check_name(read.identity.name()).is_ok());
            }
        }
    }
}
