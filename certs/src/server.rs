//! The controller's end of TLS: its certificate, and which certificates of peers it accepts.
//!
//! A peer may come without a certificate, because enrolment shares the port; every other call must be refused to such a
//! peer by the controller's table. Taking connections is in `accept`.

use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme,
};

use crate::certificate::{Certificate, certificates};
use crate::error::Error;
use crate::identity::Role;
use crate::provider::provider;
use crate::sessions::Sessions;

/// The controller's TLS material. Clones share it, so [`ServerTls::replace`] reaches the running accept loop.
#[derive(Clone)]
pub struct ServerTls {
    material: Arc<ArcSwap<Material>>,
}

struct Material {
    peers: Arc<dyn ClientCertVerifier>,
    own: Arc<SingleCertAndKey>,
}

impl ServerTls {
    /// From the authority's certificate and the controller's certificate and key, all PEM.
    ///
    /// Refuses a certificate that is not a controller's or does not belong to the key.
    pub fn new(ca_pem: &str, server_cert_pem: &str, server_key_pem: &str) -> Result<Self, Error> {
        let material = Material::new(ca_pem, server_cert_pem, server_key_pem)?;
        Ok(ServerTls { material: Arc::new(ArcSwap::from_pointee(material)) })
    }

    /// Takes new material for all connections from now on; open ones go on. On error the old stays in use.
    pub fn replace(&self, ca_pem: &str, server_cert_pem: &str, server_key_pem: &str) -> Result<(), Error> {
        let material = Material::new(ca_pem, server_cert_pem, server_key_pem)?;
        self.material.store(Arc::new(material));
        Ok(())
    }

    /// The configuration for one connection. Built per connection, from shared parts, so that the verifier knows whom
    /// to name when it refuses.
    pub(crate) fn config(&self, sessions: &Sessions, address: SocketAddr) -> Result<Arc<ServerConfig>, Error> {
        let material = self.material.load();
        let verifier = PeerVerifier { authority: material.peers.clone(), sessions: sessions.clone(), address };
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(Arc::new(verifier))
            .with_cert_resolver(material.own.clone());
        config.alpn_protocols = vec![b"h2".to_vec()];
        // A resumed session skips the check of the certificate, and with it every revocation. Connections live long,
        // full handshakes are cheap: there is no resumption at all.
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(Arc::new(config))
    }
}

impl std::fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerTls").finish_non_exhaustive()
    }
}

impl Material {
    fn new(ca_pem: &str, cert_pem: &str, key_pem: &str) -> Result<Self, Error> {
        let authorities = certificates(ca_pem)?;
        let mut chain = certificates(cert_pem)?;
        let found = Certificate::from_der(&chain[0])?.identity.role();
        if found != Role::Controller {
            return Err(Error::WrongRole { found, wanted: Role::Controller });
        }
        let mut roots = RootCertStore::empty();
        for authority in authorities {
            roots.add(authority.clone())?;
            // The authority is part of the chain, so that a node that knows only its hash can learn it.
            if !chain.contains(&authority) {
                chain.push(authority);
            }
        }
        let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).map_err(|_| Error::Pem { what: "private key" })?;
        let own = CertifiedKey::from_der(chain, key, &provider()).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => Error::KeyMismatch,
            other => Error::Tls(other),
        })?;
        let peers =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()).allow_unauthenticated().build()?;
        Ok(Material { peers, own: Arc::new(SingleCertAndKey::from(own)) })
    }
}

/// Verifies a peer's certificate: signature, dates and purpose by webpki, then identity, role and allow-list. A refusal
/// here ends the handshake with an alert that tells the peer which of these it was.
struct PeerVerifier {
    authority: Arc<dyn ClientCertVerifier>,
    sessions: Sessions,
    address: SocketAddr,
}

impl std::fmt::Debug for PeerVerifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PeerVerifier").field("address", &self.address).finish_non_exhaustive()
    }
}

impl ClientCertVerifier for PeerVerifier {
    fn offer_client_auth(&self) -> bool {
        self.authority.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.authority.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.authority.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = self.authority.verify_client_cert(end_entity, intermediates, now)?;
        // From here on the certificate is one that our authority has signed: what is wrong with it deserves a warning.
        let certificate = Certificate::from_der(end_entity).map_err(|error| {
            tracing::warn!(peer = %self.address, %error, "connection refused: no usable identity in the certificate");
            CertificateError::ApplicationVerificationFailure
        })?;
        let (identity, serial) = (&certificate.identity, &certificate.serial);
        if identity.role() == Role::Controller {
            tracing::warn!(peer = %self.address, %identity, "connection refused: a controller's certificate used by a client");
            return Err(CertificateError::InvalidPurpose.into());
        }
        if !self.sessions.allows(identity, serial) {
            tracing::warn!(peer = %self.address, %identity, %serial, "connection refused: the certificate is revoked or was never issued here");
            return Err(CertificateError::Revoked.into());
        }
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.authority.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.authority.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.authority.supported_verify_schemes()
    }
}
