//! What a client sees when servers fail.

use std::sync::atomic::Ordering;

use tempfile::TempDir;

use super::world::{TestServer, ask, config, dead_address, in_time, mute_server};
use crate::balancer::Balancer;

#[tokio::test]
async fn a_request_that_reached_no_server_is_tried_at_another() {
    let folder = TempDir::new().unwrap();
    let good = TestServer::start("1").await;
    let balancer = Balancer::start(config(&folder, &[dead_address().await, good.address])).await.unwrap();
    let address = balancer.address("shop").await.unwrap();
    for number in 0..6 {
        let answer = ask(address, "POST /echo", &format!("body {number}")).await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with(&format!("body {number}")), "{answer}");
        assert!(answer.contains("x-fleet-server: s2\r\n"), "{answer}");
    }
    let stat = balancer.answer("show stat").await;
    let column = |server: &str, index| {
        let prefix = format!("shop,{server},");
        let line = stat.lines().find(|line| line.starts_with(&prefix)).unwrap();
        line.split(',').nth(index).unwrap().parse::<u64>().unwrap()
    };
    assert_eq!((column("s1", 13), column("s2", 7), column("s2", 16)), (3, 6, 3), "econ, stot, wredis: {stat}");
}

#[tokio::test]
async fn a_server_that_may_have_seen_the_request_is_not_followed_by_another() {
    let folder = TempDir::new().unwrap();
    let (mute, asked) = mute_server().await;
    let good = TestServer::start("1").await;
    let balancer = Balancer::start(config(&folder, &[mute, good.address])).await.unwrap();
    let address = balancer.address("shop").await.unwrap();
    let answer = ask(address, "GET /", "").await;
    assert!(answer.starts_with("HTTP/1.1 502") && answer.contains("x-fleet-server: s1"), "{answer}");
    assert_eq!((asked.load(Ordering::SeqCst), good.count()), (1, 0));
}

#[tokio::test]
async fn no_reachable_server_is_502_and_no_ready_server_503() {
    let folder = TempDir::new().unwrap();
    let balancer = Balancer::start(config(&folder, &[dead_address().await])).await.unwrap();
    let address = balancer.address("shop").await.unwrap();
    let answer = ask(address, "GET /", "").await;
    assert!(answer.starts_with("HTTP/1.1 502") && answer.contains("cannot connect to 127.0.0.1"), "{answer}");
    balancer.answer("set server shop/s1 state drain").await;
    let answer = ask(address, "GET /", "").await;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(answer.ends_with("fleet balancer: no server of backend shop became ready within 2s\n"), "{answer}");
}

#[tokio::test]
async fn a_waiting_request_goes_to_the_first_server_that_becomes_ready() {
    let folder = TempDir::new().unwrap();
    let server = TestServer::start("1").await;
    let balancer = Balancer::start(config(&folder, &[server.address])).await.unwrap();
    let address = balancer.address("shop").await.unwrap();
    balancer.answer("set server shop/s1 state maint").await;
    let waiting = tokio::spawn(ask(address, "GET /", ""));
    // Let the request arrive; if it should arrive only after `ready`, the test still holds.
    tokio::task::yield_now().await;
    balancer.answer("set server shop/s1 state ready").await;
    assert!(in_time(waiting).await.unwrap().starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn headers_of_one_connection_stay_on_it() {
    let folder = TempDir::new().unwrap();
    let server = TestServer::start("1").await;
    let balancer = Balancer::start(config(&folder, &[server.address])).await.unwrap();
    let address = balancer.address("shop").await.unwrap();
    let answer = ask(address, "GET /headers HTTP/1.1\r\nUpgrade: websocket\r\nX-Kept: yes\r\nX-Ignored:", "").await;
    assert!(!answer.contains("websocket") && answer.contains("\"x-kept\": \"yes\""), "{answer}");
    assert!(answer.contains("\"x-forwarded-for\": \"127.0.0.1\"") && answer.contains("shop.test"), "{answer}");
    assert!(!answer.to_lowercase().contains("x-secret: 1"), "named in Connection by the server: {answer}");
    let answer = ask(address, "CONNECT other:443", "").await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    let long = format!("GET / HTTP/1.1\r\nX-Long: {}\r\nX-Ignored:", "x".repeat(40_000));
    let answer = ask(address, &long, "").await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
}
