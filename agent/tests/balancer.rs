//! A node behind an HAProxy that this file plays: nobody is sent to a service that does not run, and nobody forgets
//! to send them back.

#![allow(clippy::unwrap_used)]

mod world;

use std::sync::{Arc, Mutex};

use fleet::evidence::Progress;
use fleet_agent::platform::fake::{Deed, FakeHost};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixListener;
use tokio::task::JoinHandle;
use world::{World, dead_probe, release};

/// What the balancer was told, and how many deeds the host had seen by then.
type Heard = Arc<Mutex<Vec<(String, usize)>>>;

/// Plays HAProxy's runtime API on a socket.
fn balancer(world: &World, heard: &Heard) -> JoinHandle<()> {
    balancer_that_answers(world, heard, |_| true)
}

/// The same, answering only some commands; to others it hangs up.
fn balancer_that_answers(world: &World, heard: &Heard, answers: fn(&str) -> bool) -> JoinHandle<()> {
    let path = world.dir.path().join("haproxy.sock");
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(path).unwrap();
    let (heard, host): (Heard, FakeHost) = (heard.clone(), world.host.clone());
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = BufReader::new(stream);
            let mut line = String::new();
            stream.read_line(&mut line).await.unwrap();
            if !answers(&line) {
                continue;
            }
            let answer = if line.starts_with("show servers conn web") {
                "# bkname/svname bkid/svid addr port - purge_delay used_cur\nweb/n1 3/1 127.0.0.1 1 - 5000 0\n\n"
            } else {
                "\n"
            };
            let _ = stream.write_all(answer.as_bytes()).await;
            let deeds = host.deeds().into_iter().filter(|deed| matches!(deed, Deed::Start { .. })).count();
            heard.lock().unwrap().push((line.trim().to_owned(), deeds));
        }
    })
}

fn behind(drain_timeout: &str) -> World {
    let mut world = World::new();
    let socket = world.dir.path().join("haproxy.sock");
    world.more = format!(
        "[balancer]\ndrain_timeout = \"{drain_timeout}\"\nhaproxy = {{ socket = \"{}\", backend = \"web\", server = \"n1\" }}",
        socket.display()
    );
    world
}

fn states(heard: &Heard) -> Vec<(String, usize)> {
    let state = |(line, deeds): &(String, usize)| {
        line.strip_prefix("set server web/n1 state ").map(|state| (state.to_owned(), *deeds))
    };
    heard.lock().unwrap().iter().filter_map(state).collect()
}

#[tokio::test]
async fn traffic_goes_before_the_stop_and_comes_back_after_the_probe() {
    let (world, heard) = (behind("10s"), Heard::default());
    let _balancer = balancer(&world, &heard);
    let (one, two) = (release("web", "one", None), release("web", "two", None));
    world.shelf.put(&one);
    world.shelf.put(&two);
    let mut agent = world.up(world.wish(1, &one.hold), "");
    assert_eq!(agent.end(1).await, Some(Progress::Held));
    agent.wish.send(world.wish(2, &two.hold)).unwrap();
    assert_eq!(agent.end(2).await, Some(Progress::Held));
    let expected = [("drain", 0), ("ready", 1), ("drain", 1), ("ready", 2)];
    assert_eq!(states(&heard), expected.map(|(state, deeds)| (state.to_owned(), deeds)));
}

#[tokio::test]
async fn a_balancer_that_cannot_be_reached_fails_the_order_before_the_stop() {
    let (world, heard) = (behind("2s"), Heard::default());
    let (one, two) = (release("web", "one", None), release("web", "two", None));
    world.shelf.put(&one);
    world.shelf.put(&two);
    let at_first = balancer(&world, &heard);
    let mut agent = world.up(world.wish(1, &one.hold), "");
    assert_eq!(agent.end(1).await, Some(Progress::Held));
    at_first.abort();
    let _ = at_first.await;
    std::fs::remove_file(world.dir.path().join("haproxy.sock")).unwrap();
    let deeds = world.host.deeds().len();
    agent.wish.send(world.wish(2, &two.hold)).unwrap();
    let Some(Progress::Failed { step, reason }) = agent.end(2).await else { panic!() };
    assert!(step == "drain" && reason.contains("cannot be reached"), "{step}: {reason}");
    assert_eq!(world.host.deeds().len(), deeds, "the service was not touched");
    assert_eq!(world.host.running(&world.service), [one.release()]);
    // Whether it heard the drain is not known, so putting back is owed, and paid when it can be.
    agent.kill().await;
    heard.lock().unwrap().clear();
    let _balancer = balancer(&world, &heard);
    let mut agent = world.up(world.wish(2, &two.hold), "");
    assert!(matches!(agent.end(2).await, Some(Progress::Failed { .. })));
    while states(&heard).is_empty() {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(states(&heard), [("ready".to_owned(), 1)]);
}

#[tokio::test]
async fn an_agent_killed_after_draining_drains_again_and_puts_back_once_it_is_proven() {
    for place in [
        "drain.recorded",
        "drain.after",
        "stop.after",
        "switch.renamed",
        "start.inside",
        "probe.after",
        "allow.before",
        "allow.after",
    ] {
        let (world, heard) = (behind("10s"), Heard::default());
        let _balancer = balancer(&world, &heard);
        let (one, two) = (release("web", "one", None), release("web", "two", None));
        world.shelf.put(&one);
        world.shelf.put(&two);
        let mut agent = world.up(world.wish(1, &one.hold), "");
        assert_eq!(agent.end(1).await, Some(Progress::Held));
        agent.kill().await;
        let mut agent = world.up(world.wish(2, &two.hold), &format!("{place}=stop"));
        assert_eq!(agent.end(2).await, None, "{place}");
        let mut agent = world.up(world.wish(2, &two.hold), "");
        assert_eq!(agent.end(2).await, Some(Progress::Held), "{place}");
        assert_eq!(world.starts().len(), 2, "{place}");
        let states = states(&heard);
        assert_eq!(states.last(), Some(&("ready".to_owned(), 2)), "{place}: {states:?}");
        assert!(states.iter().skip(2).all(|(state, deeds)| state == "drain" || *deeds == 2), "{place}: {states:?}");
        agent.kill().await;
    }
}

#[tokio::test]
async fn a_release_that_fails_gets_no_traffic_and_the_old_one_gets_it_back() {
    let (world, heard) = (behind("10s"), Heard::default());
    let _balancer = balancer(&world, &heard);
    let (one, bad) = (release("web", "one", None), release("web", "bad", Some(dead_probe())));
    world.shelf.put(&one);
    world.shelf.put(&bad);
    let mut agent = world.up(world.wish(1, &one.hold), "");
    assert_eq!(agent.end(1).await, Some(Progress::Held));
    agent.wish.send(world.wish(2, &bad.hold)).unwrap();
    assert!(matches!(agent.end(2).await, Some(Progress::Failed { .. })));
    let expected = [("drain", 0), ("ready", 1), ("drain", 1), ("ready", 3)];
    assert_eq!(states(&heard), expected.map(|(state, deeds)| (state.to_owned(), deeds)));
}

#[tokio::test]
async fn a_fenced_service_is_taken_out_first_and_put_back_when_it_runs() {
    let (world, heard) = (behind("10s"), Heard::default());
    let _balancer = balancer(&world, &heard);
    let one = release("web", "one", None);
    world.shelf.put(&one);
    let mut agent = world.up(world.wish(1, &one.hold), "");
    assert_eq!(agent.end(1).await, Some(Progress::Held));
    agent.kill().await;
    world.host.reboot();
    let agent = world.up(world.unconfirmed(1, &one.hold), "");
    agent.until(|status| matches!(status.progress, Progress::Fenced { .. })).await;
    while states(&heard).len() < 3 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    agent.wish.send(world.wish(1, &one.hold)).unwrap();
    while states(&heard).len() < 4 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let expected = [("drain", 0), ("ready", 1), ("drain", 1), ("ready", 2)];
    assert_eq!(states(&heard), expected.map(|(state, deeds)| (state.to_owned(), deeds)));
}

#[tokio::test]
async fn an_order_to_confirm_does_not_wait_for_ever_for_a_balancer_that_it_has_cut_off() {
    let (world, heard) = (behind("10s"), Heard::default());
    let (one, two) = (release("web", "one", None), release("web", "two", None));
    world.shelf.put(&one);
    world.shelf.put(&two);
    let at_first = balancer(&world, &heard);
    let mut agent = world.up(world.wish(1, &one.hold), "");
    assert_eq!(agent.end(1).await, Some(Progress::Held));
    at_first.abort();
    let _ = at_first.await;
    let _deaf = balancer_that_answers(&world, &heard, |line| !line.contains("state ready"));
    let order = fleet::Order { confirm: fleet::Millis(300), ..world.order(2, &two.hold) };
    let wish = fleet_agent::keeper::Wish { permit: Some(world.permit(&order)), order, ..world.wish(2, &two.hold) };
    agent.wish.send(wish).unwrap();
    let Some(Progress::Failed { step, reason }) = agent.end(2).await else { panic!() };
    assert!(step == "allow" && reason.contains("the balancer could not be told within"), "{step}: {reason}");
    assert_eq!(world.host.running(&world.service), [one.release()]);
}
