//! The promise: no request is lost, and none is routed to a server after the answer to `drain`.

use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::world::{TestServer, ask, config, in_time, used_cur, wait_for_used};
use crate::balancer::Balancer;
use crate::load::{self, Load};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drain_restart_and_ready_of_each_server_in_turn_loses_no_request() {
    let folder = TempDir::new().unwrap();
    let mut servers = Vec::new();
    for _ in 0..3 {
        servers.push(TestServer::start("1.0.0").await);
    }
    let addresses: Vec<_> = servers.iter().map(|server| server.address).collect();
    let balancer = Balancer::start(config(&folder, &addresses)).await.unwrap();
    let url = format!("http://{}/", balancer.address("shop").await.unwrap());
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(load::run(Load {
        url,
        rate_per_second: 300,
        workers: 8,
        stop: async move {
            let _ = stopped.await;
        },
    }));
    for server in &servers {
        server.wait_for_requests(5).await;
    }
    for (index, address) in addresses.iter().enumerate() {
        let name = format!("shop/s{}", index + 1);
        assert_eq!(balancer.answer(&format!("set server {name} state drain")).await, "\n");
        wait_for_used(&balancer, &name, 0).await;
        let old = servers.remove(index);
        drop(old);
        let neighbour = &servers[(index + 1) % 2];
        neighbour.wait_for_requests(10).await;
        servers.insert(index, TestServer::start_at(*address, "2.0.0").await);
        assert_eq!(balancer.answer(&format!("set server {name} state ready")).await, "\n");
        servers[index].wait_for_requests(5).await;
    }
    stop.send(()).unwrap();
    let report = in_time(running).await.unwrap().unwrap();
    assert_eq!(report.failed, 0, "{report:?}");
    assert_eq!(report.sent, report.ok);
    assert!(report.by_version["1.0.0"] > 0 && report.by_version["2.0.0"] > 0, "{report:?}");
    assert_eq!(report.by_server.keys().collect::<Vec<_>>(), ["s1", "s2", "s3"]);
    assert!(report.p50_us > 0 && report.p50_us <= report.p99_us, "{report:?}");
    in_time(balancer.stop()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_the_answer_no_request_is_routed_to_a_drained_server() {
    let folder = TempDir::new().unwrap();
    let (one, two) = (TestServer::start("1").await, TestServer::start("1").await);
    let balancer = Balancer::start(config(&folder, &[one.address, two.address])).await.unwrap();
    let address = balancer.address("shop").await.unwrap();
    let mut clients = JoinSet::new();
    for _ in 0..6 {
        clients.spawn(async move {
            loop {
                let answer = ask(address, "GET /", "").await;
                assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
            }
        });
    }
    for state in ["drain", "maint"].iter().cycle().take(20) {
        one.wait_for_requests(1).await;
        assert_eq!(balancer.answer(&format!("set server shop/s1 state {state}")).await, "\n");
        // What was routed before the answer is counted; once that is through, nothing may arrive any more.
        wait_for_used(&balancer, "shop/s1", 0).await;
        let seen = one.count();
        two.wait_for_requests(20).await;
        assert_eq!((one.count(), used_cur(&balancer, "shop/s1").await), (seen, 0), "after {state}");
        assert_eq!(balancer.answer("set server shop/s1 state ready").await, "\n");
    }
    assert!(clients.try_join_next().is_none(), "every client is still being answered");
}

#[tokio::test]
async fn used_cur_counts_a_request_until_it_is_answered_or_the_client_is_gone() {
    let folder = TempDir::new().unwrap();
    let server = TestServer::start("1").await;
    let balancer = Balancer::start(config(&folder, &[server.address])).await.unwrap();
    let address = balancer.address("shop").await.unwrap();
    let held = tokio::spawn(ask(address, "GET /hold", ""));
    wait_for_used(&balancer, "shop/s1", 1).await;
    let given_up = tokio::spawn(ask(address, "GET /hold", ""));
    wait_for_used(&balancer, "shop/s1", 2).await;
    given_up.abort();
    wait_for_used(&balancer, "shop/s1", 1).await;
    assert_eq!(balancer.answer("set server shop/s1 state drain").await, "\n");
    assert_eq!(used_cur(&balancer, "shop/s1").await, 1, "drain does not cut off");
    server.release.add_permits(2);
    let answer = in_time(held).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("held"), "{answer}");
    wait_for_used(&balancer, "shop/s1", 0).await;
}

#[tokio::test]
async fn equal_servers_take_turns_and_weights_are_shares() {
    let folder = TempDir::new().unwrap();
    let (one, two) = (TestServer::start("1").await, TestServer::start("1").await);
    let balancer = Balancer::start(config(&folder, &[one.address, two.address])).await.unwrap();
    let address = balancer.address("shop").await.unwrap();
    for turn in 1..=4 {
        for _ in 0..2 {
            ask(address, "GET /", "").await;
        }
        assert_eq!((one.count(), two.count()), (turn, turn));
    }
    assert_eq!(balancer.answer("set server shop/s1 weight 25%").await, "\n");
    for _ in 0..10 {
        ask(address, "GET /", "").await;
    }
    assert_eq!((one.count() - 4, two.count() - 4), (2, 8), "25 to 100");
}

#[tokio::test]
async fn stopping_waits_for_the_request_in_flight() {
    let folder = TempDir::new().unwrap();
    let server = TestServer::start("1").await;
    let balancer = Balancer::start(config(&folder, &[server.address])).await.unwrap();
    let address = balancer.address("shop").await.unwrap();
    let held = tokio::spawn(ask(address, "GET /hold", ""));
    wait_for_used(&balancer, "shop/s1", 1).await;
    let stopping = tokio::spawn(balancer.stop());
    server.release.add_permits(1);
    assert!(in_time(held).await.unwrap().ends_with("held"));
    in_time(stopping).await.unwrap();
    assert!(tokio::net::TcpStream::connect(address).await.is_err(), "nothing listens any more");
}
