//! Joining: the node knows a hash only, and says nothing to anybody who cannot match it.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fleet_certs::{DialError, Dialer, JoinToken, Role, TokenGrant, TokenRefusal};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::fixture::{ASK, Fleet, call, within};

fn certificate(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
}

/// A false controller with a certificate chain and key of its choice. Returns its address, and what application bytes it
/// got to see.
async fn false_controller(
    chain: Vec<CertificateDer<'static>>,
    key_pem: &str,
) -> (String, tokio::task::JoinHandle<usize>) {
    let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let seen = tokio::spawn(async move {
        let (tcp, _) = listener.accept().await.unwrap();
        let Ok(mut tls) = acceptor.accept(tcp).await else {
            return 0;
        };
        let mut bytes = Vec::new();
        // An error ends the reading as well as the end does; the bytes until then are what counts.
        let _ended = tls.read_to_end(&mut bytes).await;
        bytes.len()
    });
    (address, seen)
}

#[tokio::test]
async fn the_right_hash_connects_and_learns_the_authority() {
    let fleet = Fleet::new();
    let address = fleet.serve().await.to_string();
    let dialer = Dialer::with_ca_hash(fleet.authority.ca_hash()).unwrap();
    assert_eq!(dialer.ca_pem(), None);
    let channel = within(dialer.channel(&address, "localhost")).await.unwrap();
    assert_eq!(within(call(channel, ASK)).await.unwrap(), "nobody");
    let learnt = dialer.ca_pem().unwrap();
    assert_eq!(certificate(learnt), certificate(fleet.authority.ca_pem()));
    // What was learnt serves for the connections to come.
    let node = fleet.enrol(Role::Node, "n1");
    let dialer = Dialer::new(learnt, node.pems()).unwrap();
    within(dialer.channel(&address, "localhost")).await.unwrap();
}

#[tokio::test]
async fn a_false_controller_hears_nothing() {
    let (real, fake) = (Fleet::new(), Fleet::new());
    let (own, _) = fake.issue(Role::Controller, "c1");
    let leaf = certificate(&own.cert_pem);
    let (real_ca, fake_ca) = (certificate(real.authority.ca_pem()), certificate(fake.authority.ca_pem()));
    let (real_own, _) = real.issue(Role::Controller, "c1");
    let chains = [
        // Another fleet.
        vec![leaf.clone(), fake_ca.clone()],
        // The real authority, copied from a real handshake, behind a leaf of another one.
        vec![leaf.clone(), real_ca.clone()],
        vec![leaf.clone(), fake_ca.clone(), real_ca.clone()],
        // No authority at all.
        vec![leaf],
    ];
    for chain in chains {
        let (address, seen) = false_controller(chain, &own.key_pem).await;
        let dialer = Dialer::with_ca_hash(real.authority.ca_hash()).unwrap();
        let error = within(dialer.channel(&address, "localhost")).await.unwrap_err();
        assert!(matches!(error, DialError::Certificate { .. }), "{error:?}");
        assert_eq!(dialer.ca_pem(), None, "nothing was learnt");
        assert_eq!(within(seen).await.unwrap(), 0, "application bytes were sent");
    }
    // The check of this check: the same server with the right chain does hear something.
    let chain = vec![certificate(&real_own.cert_pem), real_ca];
    let (address, seen) = false_controller(chain, &real_own.key_pem).await;
    let dialer = Dialer::with_ca_hash(real.authority.ca_hash()).unwrap();
    // It never says a word of HTTP/2, so the attempt ends by its own time limit.
    let error = within(dialer.channel(&address, "localhost")).await.unwrap_err();
    assert!(matches!(error, DialError::Timeout { .. }), "{error:?}");
    assert!(within(seen).await.unwrap() > 0);
}

#[tokio::test]
async fn a_node_that_knows_the_authority_cannot_pose_as_it() {
    let fleet = Fleet::new();
    let node = fleet.enrol(Role::Node, "n1");
    let chain = vec![certificate(&node.cert_pem), certificate(fleet.authority.ca_pem())];
    let (address, seen) = false_controller(chain, &node.key_pem).await;
    let dialer = Dialer::with_ca_hash(fleet.authority.ca_hash()).unwrap();
    let error = within(dialer.channel(&address, "localhost")).await.unwrap_err();
    assert!(matches!(error, DialError::Certificate { .. }), "{error:?}");
    assert_eq!(within(seen).await.unwrap(), 0);
}

#[test]
fn what_is_no_hash_is_refused() {
    for hash in ["", "abc", "!", &URL_SAFE_NO_PAD.encode([0u8; 31])] {
        assert!(matches!(Dialer::with_ca_hash(hash), Err(DialError::OwnIdentity { .. })));
    }
}

#[test]
fn a_token_of_this_authority_is_good_once() {
    let fleet = Fleet::new();
    let grant = TokenGrant::once(Role::Node, 1_000, "alice");
    let (token, mut record) = JoinToken::mint(fleet.authority.ca_hash(), grant).unwrap();
    let read: JoinToken = token.reveal().parse().unwrap();
    assert!(Dialer::with_ca_hash(read.ca_hash()).is_ok());
    record.redeem(read.secret(), "n1", 999).unwrap();
    assert!(matches!(record.redeem(read.secret(), "n1", 999), Err(TokenRefusal::UsedUp { .. })));
}
