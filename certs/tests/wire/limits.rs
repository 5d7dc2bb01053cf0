//! Floods: idle and crowded connections are dropped, the loop goes on, the places come back. And the end: the port
//! comes back too.

use std::time::Duration;

use fleet_certs::{DialError, Limits, Role, ServerTls, accept_loop};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio_stream::StreamExt;

use crate::fixture::{ASK, Fleet, call, within};

/// Waits until the other side has dropped the connection.
async fn dropped(mut tcp: TcpStream) {
    let mut byte = [0u8; 1];
    match within(tcp.read(&mut byte)).await {
        Ok(0) | Err(_) => {}
        Ok(_) => panic!("an idle connection was answered"),
    }
}

#[tokio::test]
async fn idle_handshakes_are_dropped_by_cap_and_by_time() {
    let fleet = Fleet::new();
    let node = fleet.enrol(Role::Node, "n1");
    let address = fleet
        .serve_within(Limits { handshakes: 8, handshake_timeout: Duration::from_secs(3), ..Limits::default() })
        .await;
    let before = fleet.channel(Some(&node), address).await;
    let before = before.unwrap();
    let mut idle = Vec::new();
    for _ in 0..100 {
        idle.push(TcpStream::connect(address).await.unwrap());
    }
    // Who is connected is still served, every idle one is dropped, and then newcomers get in again.
    within(call(before, ASK)).await.unwrap();
    for tcp in idle {
        dropped(tcp).await;
    }
    let after = fleet.channel(Some(&node), address).await.unwrap();
    within(call(after, ASK)).await.unwrap();
}

#[tokio::test]
async fn connections_of_one_address_are_counted_and_given_back() {
    let fleet = Fleet::new();
    let node = fleet.enrol(Role::Node, "n1");
    let identity = Fleet::identity(Role::Node, "n1");
    let address = fleet.serve_within(Limits { connections_per_address: 2, ..Limits::default() }).await;
    let first = fleet.channel(Some(&node), address).await.unwrap();
    let second = fleet.channel(Some(&node), address).await.unwrap();
    let error = fleet.channel(Some(&node), address).await.unwrap_err();
    assert!(matches!(error, DialError::Broken { .. }), "{error:?}");
    assert_eq!(fleet.sessions.count(&identity), 2);
    drop(first);
    // The place is free when the controller has seen the end of the first connection.
    within(async {
        while fleet.sessions.count(&identity) > 1 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    within(async {
        while fleet.channel(Some(&node), address).await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    within(call(second, ASK)).await.unwrap();
}

#[tokio::test]
async fn the_port_is_free_when_the_stream_is_dropped() {
    let fleet = Fleet::new();
    let (own, _) = fleet.issue(Role::Controller, "c1");
    let tls = ServerTls::new(fleet.authority.ca_pem(), &own.cert_pem, &own.key_pem).unwrap();
    let node = fleet.enrol(Role::Node, "n1");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut incoming = accept_loop(listener, tls, Limits::default(), fleet.sessions.clone());
    // One peer that never ends its handshake, and one that is let in.
    let idle = TcpStream::connect(address).await.unwrap();
    let dialling = tokio::spawn({
        let dialer = fleet.dialer(Some(&node));
        async move { dialer.channel(&address.to_string(), "localhost").await }
    });
    let accepted = within(incoming.next()).await.unwrap().unwrap();
    drop(incoming);
    // No await lies between the end and the new beginning: nothing had a chance to tidy up later.
    let again = std::net::TcpListener::bind(address).unwrap();
    dropped(idle).await;
    drop((accepted, again));
    within(dialling).await.unwrap().unwrap_err();
}
