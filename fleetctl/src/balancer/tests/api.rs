//! The runtime API over its sockets. What the answers must be is checked against HAProxy itself in `haproxy.rs`; this
//! table holds where none is installed.

use std::path::Path;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use super::world::{config, dead_address, in_time};
use crate::balancer::{AdminAddress, Balancer};

#[tokio::test]
async fn wrong_commands_get_haproxys_words_and_change_nothing() {
    let folder = TempDir::new().unwrap();
    let balancer = Balancer::start(config(&folder, &[dead_address().await])).await.unwrap();
    let before = balancer.answer("show servers state").await;
    for (command, expected) in [
        ("set server shop/s9 state drain", "No such server.\n\n"),
        ("set server nope/s1 state drain", "No such backend.\n\n"),
        ("set server shop state drain", "Require 'backend/server'.\n\n"),
        ("set server shop/s1 state away", "'set server <srv> state' expects 'ready', 'drain' and 'maint'.\n\n"),
        ("set server shop/s1 state", "'set server <srv> state' expects 'ready', 'drain' and 'maint'.\n\n"),
        ("set server shop/s1 weight 300", "Absolute weight can only be between 0 and 256 inclusive.\n\n"),
        ("set server shop/s1 weight x", "Empty weight string empty or preceded by garbage\n"),
        ("show servers conn nope", "Can't find backend.\n\n"),
    ] {
        assert_eq!(balancer.answer(command).await, expected, "{command}");
    }
    for command in ["", "drain shop/s1", "SET SERVER shop/s1 state drain", "set", "show", "set server"] {
        let answer = balancer.answer(command).await;
        assert!(answer.starts_with("Unknown command") || answer.starts_with("Require"), "{command:?}: {answer}");
    }
    assert_eq!(balancer.answer("show servers state").await, before);
    assert!(balancer.answer("show info").await.starts_with("Name: fleet-balancer\n"));
}

#[tokio::test]
async fn a_unix_socket_answers_closes_and_knows_a_prompt() {
    let folder = TempDir::new().unwrap();
    let config = config(&folder, &[dead_address().await]);
    let balancer = Balancer::start(config.clone()).await.unwrap();
    let socket = folder.path().join("admin.sock");
    assert_eq!(talk(&socket, b"set server shop/s1 state drain\n").await, "\n");
    assert_eq!(
        talk(&socket, b"set server shop/s1 state ready\nset server shop/s9 state ready\n").await,
        "\nNo such server.\n\n"
    );
    assert_eq!(
        talk(&socket, b"set server shop/s9 state ready;set server shop/s1 state ready\r\n").await,
        "No such server.\n\n\n"
    );
    assert_eq!(talk(&socket, b"prompt\nset server shop/s1 state drain\nquit\n").await, "\n> \n> ");
    assert_eq!(talk(&socket, &[b'x'; 20_000]).await, "", "a line that is too long is not answered");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&socket).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let mut second = config.clone();
    second.state_file = folder.path().join("second.json");
    let error = Balancer::start(second).await.unwrap_err().to_string();
    assert!(error.contains("admin.sock") && error.contains("runtime API"), "{error}");
    balancer.stop().await;
    // What a killed balancer leaves behind is replaced.
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    assert!(socket.exists());
    let _again = Balancer::start(config).await.unwrap();
    assert!(talk(&socket, b"show servers state shop\n").await.contains(" s1 127.0.0.1 2 8 "));
}

#[tokio::test]
async fn a_tcp_socket_answers_the_same() {
    let folder = TempDir::new().unwrap();
    let mut config = config(&folder, &[dead_address().await]);
    config.admin = "127.0.0.1:0".parse().unwrap();
    let balancer = Balancer::start(config).await.unwrap();
    let AdminAddress::Tcp(address) = balancer.admin() else { panic!("it was configured as TCP") };
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.write_all(b"show servers conn shop\n").await.unwrap();
    let mut answer = String::new();
    in_time(stream.read_to_string(&mut answer)).await.unwrap();
    assert_eq!(answer, balancer.answer("show servers conn shop").await);
}

/// Sends `bytes` and reads until the other side closes.
pub(super) async fn talk(socket: &Path, bytes: &[u8]) -> String {
    let mut stream = UnixStream::connect(socket).await.unwrap();
    // A refused long line may be closed before all of it is written.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let _ = in_time(stream.read_to_end(&mut answer)).await;
    String::from_utf8(answer).unwrap()
}
