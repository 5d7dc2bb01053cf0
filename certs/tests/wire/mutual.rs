//! Mutual authentication: who gets in, and in which words the others are refused.

use std::time::SystemTime;

use fleet_certs::{DialError, Dialer, Error, Limits, Role, ServerTls};
use rcgen::ExtendedKeyUsagePurpose as Purpose;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::fixture::{ASK, DAY, Fleet, Pair, call, within};

/// The words of a refusal of the client's certificate.
async fn rejected(fleet: &Fleet, pair: &Pair) -> String {
    let address = fleet.serve().await;
    match fleet.channel(Some(pair), address).await {
        Err(error @ DialError::Rejected { .. }) => error.to_string(),
        other => panic!("expected a rejection, got {other:?}"),
    }
}

/// The words of a refusal of the server's certificate.
async fn distrusted(client: &Fleet, server: &Fleet, tls: ServerTls, name: &str) -> String {
    let address = server.serve_with(tls, Limits::default()).await.to_string();
    match within(client.dialer(None).channel(&address, name)).await {
        Err(error @ DialError::Certificate { .. }) => error.to_string(),
        other => panic!("expected distrust, got {other:?}"),
    }
}

fn tls(fleet: &Fleet, own: &Pair) -> ServerTls {
    ServerTls::new(fleet.authority.ca_pem(), &own.cert_pem, &own.key_pem).unwrap()
}

#[tokio::test]
async fn the_server_sees_who_calls() {
    let fleet = Fleet::new();
    let address = fleet.serve().await;
    for (role, name) in [(Role::Node, "n-0001"), (Role::Operator, "alice")] {
        let (pair, issued) = fleet.issue(role, name);
        let identity = Fleet::identity(role, name);
        fleet.allowed.grant(identity.clone(), issued.serial.clone());
        let channel = fleet.channel(Some(&pair), address).await.unwrap();
        let told = within(call(channel.clone(), ASK)).await.unwrap();
        assert_eq!(told, format!("{identity} {}", issued.serial));
        assert_eq!(fleet.sessions.count(&identity), 1);
    }
}

#[tokio::test]
async fn without_certificate_one_is_nobody() {
    let fleet = Fleet::new();
    let address = fleet.serve().await;
    let channel = fleet.channel(None, address).await.unwrap();
    assert_eq!(within(call(channel, ASK)).await.unwrap(), "nobody");
}

#[tokio::test]
async fn by_ip_address_and_lazily() {
    let fleet = Fleet::new();
    let address = fleet.serve().await;
    let node = fleet.enrol(Role::Node, "n1");
    let dialer = fleet.dialer(Some(&node));
    let channel = dialer.channel_lazy(&address.to_string(), "127.0.0.1").unwrap();
    let told = within(call(channel, ASK)).await.unwrap();
    assert!(told.starts_with("spiffe://fleet/node/n1 "), "{told}");
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused() {
    let (fleet, other) = (Fleet::new(), Fleet::new());
    let stranger = other.enrol(Role::Node, "n1");
    let text = rejected(&fleet, &stranger).await;
    assert!(text.contains("another authority than this fleet's"), "{text}");
}

#[tokio::test]
async fn a_controllers_certificate_is_no_clients() {
    let fleet = Fleet::new();
    let controller = fleet.enrol(Role::Controller, "c2");
    let text = rejected(&fleet, &controller).await;
    assert!(text.contains("wrong role"), "{text}");
    // Nor is one with a client's purpose, which our authority never issues.
    let forged = fleet.forge(&["spiffe://fleet/controller/c2"], Purpose::ClientAuth);
    let text = rejected(&fleet, &forged).await;
    assert!(text.contains("wrong role"), "{text}");
}

#[tokio::test]
async fn exactly_one_identity_is_required() {
    let fleet = Fleet::new();
    for uris in [
        &[][..],
        &["spiffe://fleet/node/n1", "spiffe://fleet/node/n2"],
        &["spiffe://fleet/node/../x"],
        &["https://example.com/"],
    ] {
        let forged = fleet.forge(uris, Purpose::ClientAuth);
        let text = rejected(&fleet, &forged).await;
        assert!(text.contains("exactly one fleet identity"), "{text}");
    }
}

#[tokio::test]
async fn an_expired_certificate_is_refused_with_a_word_about_clocks() {
    let fleet = Fleet::new();
    let past = SystemTime::now() - DAY * 3;
    let (node, issued) = fleet.issue_at(Role::Node, "n1", past);
    let identity = Fleet::identity(Role::Node, "n1");
    fleet.allowed.grant(identity, issued.serial);
    let text = rejected(&fleet, &node).await;
    assert!(text.contains("compare the clocks"), "{text}");
    let (controller, _) = fleet.issue_at(Role::Controller, "c1", past);
    let text = distrusted(&fleet, &fleet, tls(&fleet, &controller), "localhost").await;
    assert!(text.contains("expired at 20"), "{text}");
    assert!(text.contains("this machine's clock says 20"), "{text}");
}

#[tokio::test]
async fn a_controller_of_another_authority_is_refused() {
    let (fleet, other) = (Fleet::new(), Fleet::new());
    let (own, _) = other.issue(Role::Controller, "c1");
    let text = distrusted(&fleet, &other, tls(&other, &own), "localhost").await;
    assert!(text.contains("another authority than this fleet's"), "{text}");
}

#[tokio::test]
async fn a_controller_for_another_name_is_refused() {
    let fleet = Fleet::new();
    let (own, _) = fleet.issue(Role::Controller, "c1");
    let text = distrusted(&fleet, &fleet, tls(&fleet, &own), "controller.example").await;
    assert!(text.contains("not for the name controller.example"), "{text}");
}

/// A TLS server that does what it likes with any certificate: `ServerTls` itself refuses these.
async fn impostor(own: &Pair) -> String {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let cert = CertificateDer::from_pem_slice(own.cert_pem.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(own.key_pem.as_bytes()).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let (tcp, _) = listener.accept().await.unwrap();
        // The client must hang up; what it says before that is of no interest here.
        let _refused = acceptor.accept(tcp).await;
    });
    address
}

#[tokio::test]
async fn a_node_cannot_stand_for_the_controller() {
    let fleet = Fleet::new();
    let node = fleet.enrol(Role::Node, "n1");
    assert!(matches!(
        ServerTls::new(fleet.authority.ca_pem(), &node.cert_pem, &node.key_pem),
        Err(Error::WrongRole { .. })
    ));
    // By its purpose, and, should the purpose be wrong, by its role: either check alone is enough.
    let with_purpose = fleet.forge(&["spiffe://fleet/node/n1"], Purpose::ServerAuth);
    let of_operator = fleet.forge(&["spiffe://fleet/operator/eve"], Purpose::ServerAuth);
    let no_purpose = fleet.forge(&["spiffe://fleet/controller/c1"], Purpose::ClientAuth);
    for own in [with_purpose, of_operator, no_purpose] {
        let address = impostor(&own).await;
        match within(fleet.dialer(None).channel(&address, "localhost")).await {
            Err(error @ DialError::Certificate { .. }) => {
                assert!(error.to_string().contains("wrong role"), "{error}");
            }
            other => panic!("expected distrust, got {other:?}"),
        }
    }
}

#[tokio::test]
async fn tls_1_2_is_refused() {
    let fleet = Fleet::new();
    let address = fleet.serve().await;
    let mut tcp = TcpStream::connect(address).await.unwrap();
    // A ClientHello of TLS 1.2 with ECDHE-ECDSA-AES128-GCM, P-256, uncompressed points and ECDSA-SHA256.
    let extensions = [&[0, 10, 0, 4, 0, 2, 0, 23][..], &[0, 11, 0, 2, 1, 0], &[0, 13, 0, 4, 0, 2, 4, 3]].concat();
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([0, 0, 2, 0xc0, 0x2b, 1, 0, 0, extensions.len() as u8]);
    body.extend(&extensions);
    let length = body.len() as u8;
    let mut hello = vec![22, 3, 1, 0, length + 4, 1, 0, 0, length];
    hello.extend(&body);
    tcp.write_all(&hello).await.unwrap();
    let mut answer = [0u8; 7];
    within(tcp.read_exact(&mut answer)).await.unwrap();
    assert_eq!(answer[0], 21, "an alert");
    assert_eq!(answer[5..], [2, 70], "fatal, protocol_version");
}

#[tokio::test]
async fn new_material_reaches_the_running_controller() {
    let (fleet, other) = (Fleet::new(), Fleet::new());
    let (own, _) = fleet.issue(Role::Controller, "c1");
    let material = tls(&fleet, &own);
    let address = fleet.serve_with(material.clone(), Limits::default()).await;
    let before = fleet.channel(None, address).await.unwrap();
    let (renewed, _) = other.issue(Role::Controller, "c1");
    assert!(matches!(
        material.replace(other.authority.ca_pem(), &renewed.cert_pem, &own.key_pem),
        Err(Error::KeyMismatch)
    ));
    fleet.channel(None, address).await.unwrap();
    material.replace(other.authority.ca_pem(), &renewed.cert_pem, &renewed.key_pem).unwrap();
    other.channel(None, address).await.unwrap();
    assert!(fleet.channel(None, address).await.is_err());
    assert_eq!(within(call(before, ASK)).await.unwrap(), "nobody");
}

#[tokio::test]
async fn unreachable_and_nonsense_have_their_own_words() {
    let fleet = Fleet::new();
    let dialer = fleet.dialer(None);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = listener.local_addr().unwrap().to_string();
    drop(listener);
    let error = within(dialer.channel(&closed, "localhost")).await.unwrap_err();
    assert!(matches!(error, DialError::Unreachable { .. }), "{error:?}");
    assert!(error.to_string().contains(&closed), "{error}");
    let lazy = dialer.channel_lazy(&closed, "localhost").unwrap();
    let status = within(call(lazy, ASK)).await.unwrap_err();
    assert!(matches!(DialError::find(&status), Some(DialError::Unreachable { .. })), "{status:?}");
    for address in ["localhost", "localhost:", "localhost:0", "localhost:70000", "a b:1"] {
        let error = within(dialer.channel(address, "localhost")).await.unwrap_err();
        assert!(matches!(error, DialError::Address { .. }), "{address}: {error:?}");
    }
    assert!(matches!(Dialer::new("no certificate", None), Err(DialError::OwnIdentity { .. })));
}
