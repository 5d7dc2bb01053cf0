//! A keeper whose service's port is answered by somebody else: the answers are good, and count for nothing.
#![allow(clippy::unwrap_used)]

mod world;

use fleet::Millis;
use fleet::evidence::{Health, Progress};
use fleet::release::Probe;
use fleet_agent::platform::Listener;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use world::{World, release};

/// Answers everything well.
async fn answering(timeout: Millis) -> Probe {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let http = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 1024]).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await;
        }
    });
    Probe { http, status: 200, interval: Millis(10), successes: 2, timeout }
}

fn stranger() -> Listener {
    Listener::Stranger("pid 123 hello-v1".to_owned())
}

const REASON: &str = "is answered by another process (pid 123 hello-v1), not by this service";

#[tokio::test]
async fn a_release_is_not_held_because_a_stranger_answers() {
    let (world, made) = (World::new(), release("web", "one", Some(answering(Millis(300)).await)));
    world.shelf.put(&made);
    world.host.on_listener(&world.service, stranger());
    let mut agent = world.up(world.wish(1, &made.hold), "");
    let Some(Progress::Failed { step, reason }) = agent.end(1).await else { panic!("it was held") };
    assert!(step == "probe" && reason.contains(REASON), "{step}: {reason}");
}

#[tokio::test]
async fn a_service_is_unhealthy_once_a_stranger_answers_for_it() {
    let (world, made) = (World::new(), release("web", "one", Some(answering(Millis(3_000)).await)));
    world.shelf.put(&made);
    let mut agent = world.up(world.wish(1, &made.hold), "");
    assert_eq!(agent.end(1).await, Some(Progress::Held));
    agent.until(|status| status.health == Health::Healthy).await;
    world.host.on_listener(&world.service, stranger());
    agent.until(|status| matches!(&status.health, Health::Unhealthy { reason } if reason.contains(REASON))).await;
    world.host.on_listener(&world.service, Listener::Unknown("not permitted".to_owned()));
    agent.until(|status| status.health == Health::Healthy).await;
}
