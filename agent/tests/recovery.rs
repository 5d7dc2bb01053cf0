//! What killed agents, crashing services and meddling hands leave behind, and that it is found and put right. The
//! histories of orders themselves are in `keeper.rs`.

#![allow(clippy::unwrap_used)]

mod world;

use std::os::unix::fs::symlink;
use std::sync::Arc;

use fleet::evidence::{Health, Progress};
use fleet::{Millis, Nonce};
use fleet_agent::keeper::{Tools, Wish};
use fleet_agent::node::Node;
use fleet_agent::permit::Permit;
use fleet_agent::platform::Scope;
use fleet_agent::platform::fake::OnStart;
use fleet_agent::platform::linux::{LinuxObserver, LinuxSupervisor};
use fleet_agent::service_log::Cause;
use world::{World, release};

#[tokio::test(start_paused = true)]
async fn a_service_that_ends_again_and_again_does_not_fill_the_disk() {
    let (world, one) = (World::new(), release("web", "one", None));
    world.hold(&one).await;
    let agent = world.up(world.wish(1, &one.hold), "");
    agent.until(|status| status.health == Health::Healthy).await;
    world.host.on_start(&world.service, OnStart::Crashes);
    world.host.crash(&world.service);
    agent.until(|_| world.starts_of(1, Cause::Crash) >= 12).await;
    let journal = std::fs::metadata(world.tools("").layout.journal(&world.service)).unwrap().len();
    assert!(journal < 600, "one restart takes some 300 bytes, and {journal} are there after twelve");
}

#[tokio::test(start_paused = true)]
async fn a_log_that_grows_while_the_service_runs_is_cut() {
    let (world, one) = (World::new(), release("web", "one", None));
    world.hold(&one).await;
    let log = world.root().join(".fleet/service.log");
    let file = std::fs::File::create(&log).unwrap();
    file.set_len((16 << 20) + 1).unwrap();
    let agent = world.up(world.wish(1, &one.hold), "");
    agent.until(|status| status.health == Health::Healthy).await;
    while std::fs::metadata(&log).unwrap().len() > 0 {
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    }
    assert_eq!(std::fs::metadata(log.with_extension("log.1")).unwrap().len(), 16 << 20);
}

#[tokio::test(start_paused = true)]
async fn what_runs_from_files_that_were_replaced_is_started_anew_wherever_the_agent_is_killed() {
    for place in ["stage.after", "stop.before", "stop.after", "start.before"] {
        let (world, one) = (World::new(), release("web", "one", None));
        world.hold(&one).await;
        world.host.advance(100);
        std::fs::write(world.root().join("releases").join(one.release().as_str()).join("bin/app"), "evil").unwrap();
        let mut agent = world.up(world.wish(2, &one.hold), &format!("{place}=stop"));
        assert_eq!(agent.end(2).await, None, "{place}");
        let mut agent = world.up(world.wish(2, &one.hold), "");
        assert_eq!(agent.end(2).await, Some(Progress::Held), "{place}");
        assert_eq!(world.starts_of(2, Cause::Order), 1, "{place}: the process of the changed files was left running");
        agent.kill().await;
    }
}

#[tokio::test(start_paused = true)]
async fn ordering_what_is_live_again_removes_what_was_put_beside_it() {
    let (world, one) = (World::new(), release("web", "one", None));
    world.hold(&one).await;
    let live = world.root().join("releases").join(one.release().as_str());
    for (n, planted) in ["plugin", "bin/plugin", "directory/"].into_iter().enumerate() {
        world.host.advance(100);
        let path = live.join(planted);
        if planted.ends_with('/') {
            std::fs::create_dir(&path).unwrap()
        } else {
            std::fs::write(&path, "x").unwrap()
        }
        let generation = n as u64 + 2;
        let mut agent = world.up(world.wish(generation, &one.hold), "");
        assert_eq!(agent.end(generation).await, Some(Progress::Held));
        assert!(!path.exists(), "{planted}");
        assert_eq!(world.starts_of(generation, Cause::Order), 1, "what may have read it was started anew");
        agent.kill().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_link_that_only_looks_like_current_is_replaced_by_the_next_order() {
    let (world, one) = (World::new(), release("web", "one", None));
    world.hold(&one).await;
    let current = world.root().join("current");
    std::fs::remove_file(&current).unwrap();
    // The observer says that this is no release, so nothing is held on the strength of it.
    symlink(world.root().join("releases").join(one.release().as_str()), &current).unwrap();
    let mut agent = world.up(world.wish(2, &one.hold), "");
    assert_eq!(agent.end(2).await, Some(Progress::Held));
    assert_eq!(std::fs::read_link(&current).unwrap(), std::path::Path::new("releases").join(one.release().as_str()));
}

#[tokio::test(start_paused = true)]
async fn a_start_that_was_not_written_down_counts_for_the_order_it_was_made_for() {
    let (world, one, two) = (World::new(), release("web", "one", None), release("web", "two", None));
    world.shelf.put(&one);
    world.shelf.put(&two);
    let mut agent = world.up(world.wish(1, &one.hold), "start.inside=stop");
    assert_eq!(agent.end(1).await, None);
    // A newer order was saved before the agent came up again.
    let mut agent = world.up(world.wish(2, &two.hold), "");
    assert_eq!(agent.end(2).await, Some(Progress::Held));
    assert_eq!((world.starts_of(1, Cause::Order), world.starts_of(2, Cause::Order)), (1, 1));
}

#[tokio::test]
async fn bundles_that_no_order_names_are_swept_when_the_agent_comes_up() {
    let (world, one, two) = (World::new(), release("web", "one", None), release("web", "two", None));
    let layout = world.tools("").layout;
    let node = Node::open("n1".parse().unwrap(), world.tools("")).await.unwrap();
    node.receive(vec![world.order(1, &one.hold)], Millis(0)).await;
    node.stop().await;
    for bundle in [one.bundle(), two.bundle()] {
        std::fs::write(layout.partial(&bundle), "half").unwrap();
        std::fs::write(layout.bundle(&bundle), "whole").unwrap();
    }
    let node = Node::open("n1".parse().unwrap(), world.tools("")).await.unwrap();
    let left = |bundle| (layout.partial(bundle).exists(), layout.bundle(bundle).exists());
    assert_eq!((left(&one.bundle()), left(&two.bundle())), ((true, true), (false, false)));
    node.stop().await;
}

#[tokio::test]
async fn a_keeper_that_has_ended_is_not_quoted() {
    let (world, one) = (World::new(), release("web", "one", None));
    world.shelf.put(&one);
    let node = Node::open("n1".parse().unwrap(), world.tools("stop.before=stop@2")).await.unwrap();
    node.receive(vec![world.order(1, &one.hold)], Millis(60_000)).await;
    let mut changes = node.changes();
    let state = async |n| node.attest(Nonce::from_random(n), fleet::looked::Depth::Sweep).await.services.remove(0);
    while state(1).await.progress != Progress::Held {
        changes.changed().await.unwrap();
    }
    // Its next restart of the service is where the keeper ends.
    world.host.crash(&world.service);
    loop {
        let said = state(2).await;
        if let Progress::Fenced { reason } = said.progress {
            assert!(reason.contains("ended") && said.health == Health::Unknown, "{reason}");
            break;
        }
        changes.changed().await.unwrap();
    }
    // The controller's next word gives the service a new one.
    node.receive(vec![world.order(1, &one.hold)], Millis(60_000)).await;
    while state(3).await.processes.is_empty() {
        changes.changed().await.unwrap();
    }
    node.stop().await;
}

/// Whoever stands in a release's directory is not its main process. With real processes, since finding rests on /proc.
#[tokio::test]
async fn a_bystander_is_not_taken_for_the_process_that_was_started() {
    let (world, one) = (World::new(), release("web", "#!/bin/sh\nsleep 1000 & wait\n", None));
    world.shelf.put(&one);
    let tools = |points| -> Tools {
        let mut tools = world.tools(points);
        std::fs::create_dir_all(&tools.config.services_root).unwrap();
        tools.supervisor = Arc::new(LinuxSupervisor::new().unwrap());
        tools.observer = Arc::new(LinuxObserver::new(Scope::Root, tools.config.services_root.clone()).unwrap());
        tools
    };
    let wish = |generation, hold| {
        let order = world.order(generation, hold);
        let permit = Permit { order: order.clone(), until: tools("").now().after(Millis(60_000)) };
        Wish { order, permit: Some(permit), ..world.wish(generation, hold) }
    };
    let mut agent = World::up_with(tools("start.before=stop"), wish(1, &one.hold));
    assert_eq!(agent.end(1).await, None);
    let mut bystander = std::process::Command::new("sleep")
        .arg("1000")
        .current_dir(world.root().join("releases").join(one.release().as_str()))
        .spawn()
        .unwrap();
    let mut agent = World::up_with(tools("start.inside=stop"), wish(1, &one.hold));
    assert_eq!(agent.end(1).await, None);
    let mut agent = World::up_with(tools(""), wish(1, &one.hold));
    assert_eq!(agent.end(1).await, Some(Progress::Held));
    let main = agent.until(|status| status.running.is_some()).await.running.unwrap().pid;
    let starts = world.starts();
    bystander.kill().unwrap();
    bystander.wait().unwrap();
    agent.wish.send(wish(2, &fleet::Hold::Nothing)).unwrap();
    assert_eq!(agent.end(2).await, Some(Progress::Held));
    assert_ne!(main, bystander.id());
    assert_eq!(starts.iter().map(|start| start.pid).collect::<Vec<_>>(), [main]);
}
