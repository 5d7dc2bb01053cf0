//! Whom a client takes for its controller: a certificate of the fleet's authority with a controller's identity.
//!
//! The authority is known by its certificate, or, on first contact, only by the hash in the join token.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, OtherError, RootCertStore, SignatureScheme};

use crate::certificate::{Certificate, is_self_signed_authority, public_key_hash};
use crate::error::Error;
use crate::identity::Role;
use crate::provider::provider;

/// Why a certificate is refused by the fleet's own rules, beyond those of webpki.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Distrust {
    #[error("it belongs to a {0}, not to a controller (wrong role)")]
    WrongRole(Role),
    #[error("its identity cannot be used: {0}")]
    NoIdentity(#[source] Error),
    #[error(
        "no certificate it presents has the authority key of the join token: this is another fleet, or somebody between you and the controller"
    )]
    OtherAuthorityThanToken,
}

impl Distrust {
    fn into_tls(self) -> rustls::Error {
        CertificateError::Other(OtherError(Arc::new(self))).into()
    }
}

/// How the authority is known.
#[derive(Debug)]
pub(crate) enum Root {
    /// By its certificate.
    Known(Arc<WebPkiServerVerifier>),
    /// By the hash of its public key.
    Hash(String),
}

/// Verifies a controller's certificate.
#[derive(Debug)]
pub(crate) struct ControllerVerifier {
    root: Root,
}

impl ControllerVerifier {
    /// Trusts the given authorities.
    pub(crate) fn known(authorities: &[CertificateDer<'static>]) -> Result<Self, Error> {
        Ok(ControllerVerifier { root: Root::Known(webpki(authorities)?) })
    }

    /// Trusts the authority with this hash, which the controller must present.
    pub(crate) fn by_hash(ca_hash: String) -> Self {
        ControllerVerifier { root: Root::Hash(ca_hash) }
    }
}

/// The certificate of a chain (without its leaf) that is the authority with this hash.
pub(crate) fn authority_in<'a, 'b>(
    intermediates: &'a [CertificateDer<'b>],
    ca_hash: &str,
) -> Option<&'a CertificateDer<'b>> {
    intermediates.iter().find(|der| {
        // The hash pins only the key. That the certificate is signed with it says that the rest is the authority's own
        // word too, and not put around the key by somebody else.
        public_key_hash(der).is_ok_and(|hash| hash == ca_hash) && is_self_signed_authority(der)
    })
}

impl ServerCertVerifier for ControllerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let webpki = match &self.root {
            Root::Known(webpki) => webpki.clone(),
            Root::Hash(hash) => {
                let authority =
                    authority_in(intermediates, hash).ok_or_else(|| Distrust::OtherAuthorityThanToken.into_tls())?;
                webpki(&[authority.clone().into_owned()]).map_err(|error| Distrust::NoIdentity(error).into_tls())?
            }
        };
        // Our controllers send leaf and authority only; the authority is the root, so there is nothing in between.
        let verified = webpki.verify_server_cert(end_entity, &[], server_name, ocsp_response, now)?;
        let role =
            Certificate::from_der(end_entity).map_err(|error| Distrust::NoIdentity(error).into_tls())?.identity.role();
        if role == Role::Controller { Ok(verified) } else { Err(Distrust::WrongRole(role).into_tls()) }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let provider = provider();
        verify_tls12_signature(message, cert, dss, &provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let provider = provider();
        verify_tls13_signature(message, cert, dss, &provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

fn webpki(authorities: &[CertificateDer<'static>]) -> Result<Arc<WebPkiServerVerifier>, Error> {
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots.add(authority.clone())?;
    }
    Ok(WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider()).build()?)
}
