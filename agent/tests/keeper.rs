//! One service on one node, through everything that can happen to its agent: the real keeper, a host in memory, a
//! real disk. What it leaves to others: real processes (platform), the wire (link).

#![allow(clippy::unwrap_used)]

mod world;

use std::sync::Arc;

use fleet::evidence::{Health, Progress};
use fleet::{Hold, Millis};
use fleet_agent::keeper::{AgentState, Wish};
use fleet_agent::permit::Permit;
use fleet_agent::platform::fake::{Deed, OnStart, OnStop};
use fleet_agent::service_log::Cause;
use proptest::prelude::*;
use world::{Made, World, dead_probe, release};

/// Every place at which an agent can be ended on the way to a release and back.
const PLACES: &[&str] = &[
    "fetch.before",
    "fetch.after",
    "stage.before",
    "stage.after",
    "stop.before",
    "stop.after",
    "switch.before",
    "switch.intended",
    "switch.renamed",
    "switch.switched",
    "switch.after",
    "start.before",
    "start.intended",
    "start.inside",
    "start.recorded",
    "start.after",
    "probe.before",
    "probe.after",
    "turn.after",
    "settle.recorded",
    "settle.after",
];

#[tokio::test(start_paused = true)]
async fn a_release_is_fetched_once_started_once_and_held() {
    let (world, one) = (World::new(), release("web", "one", None));
    world.shelf.put(&one);
    let mut agent = world.up(world.wish(1, &one.hold), "");
    assert_eq!(agent.end(1).await, Some(Progress::Held));
    assert_eq!(world.host.running(&world.service), [one.release()]);
    assert_eq!(world.current(), Some(one.release()));
    assert_eq!(*world.shelf.fetched.lock().unwrap(), 1);
    // The same release again, under another number: nothing is restarted.
    agent.wish.send(world.wish(2, &one.hold)).unwrap();
    assert_eq!(agent.end(2).await, Some(Progress::Held));
    assert_eq!(world.starts().len(), 1);
    let status = agent.until(|status| status.health == Health::Healthy).await;
    assert_eq!(status.live.unwrap().release, one.release());
    assert!(!status.known.is_empty());
}

#[tokio::test(start_paused = true)]
async fn wherever_the_agent_is_killed_it_arrives_and_starts_once() {
    for place in PLACES {
        for count in 1..=2 {
            let (world, one, two) = (World::new(), release("web", "one", None), release("web", "two", None));
            world.hold(&one).await;
            world.shelf.put(&two);
            let mut agent = world.up(world.wish(2, &two.hold), &format!("{place}=stop@{count}"));
            let mut end = agent.end(2).await;
            if end.is_none() {
                agent = world.up(world.wish(2, &two.hold), "");
                end = agent.end(2).await;
            }
            assert_eq!(end, Some(Progress::Held), "{place}@{count}");
            assert_eq!(world.host.running(&world.service), [two.release()], "{place}@{count}");
            assert_eq!(world.current(), Some(two.release()), "{place}@{count}");
            assert_eq!(world.starts_of(2, Cause::Order), 1, "{place}@{count}");
            let deeds = world.host.deeds().into_iter().filter(|deed| matches!(deed, Deed::Start { .. })).count();
            assert_eq!(deeds, 2, "{place}@{count}: one start for each order");
            agent.kill().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn wherever_the_agent_is_killed_a_bad_release_ends_with_the_old_one_running() {
    for place in PLACES {
        for count in 1..=2 {
            let (world, one, bad) =
                (World::new(), release("web", "one", None), release("web", "bad", Some(dead_probe())));
            world.hold(&one).await;
            world.shelf.put(&bad);
            let mut agent = world.up(world.wish(2, &bad.hold), &format!("{place}=stop@{count}"));
            let mut end = agent.end(2).await;
            if end.is_none() {
                agent = world.up(world.wish(2, &bad.hold), "");
                end = agent.end(2).await;
            }
            let Some(Progress::Failed { step, reason }) = end else { panic!("{place}@{count}: {end:?}") };
            assert_eq!(step, "probe", "{place}@{count}: {reason}");
            assert!(reason.contains("not healthy within"), "{reason}");
            assert_eq!(world.host.running(&world.service), [one.release()], "{place}@{count}");
            assert_eq!(world.current(), Some(one.release()), "{place}@{count}");
            assert_eq!((world.starts_of(2, Cause::Order), world.starts_of(2, Cause::Undo)), (1, 1), "{place}@{count}");
            agent.kill().await;
            // It is not tried again, whoever asks, until a newer order comes.
            let mut agent = world.up(world.wish(2, &bad.hold), "");
            assert!(matches!(agent.end(2).await, Some(Progress::Failed { .. })));
            agent.wish.send(world.wish(3, &one.hold)).unwrap();
            assert_eq!(agent.end(3).await, Some(Progress::Held));
            assert_eq!(world.starts().len(), 3, "{place}@{count}: going back to what runs restarts nothing");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_first_release_that_fails_leaves_nothing() {
    let (world, bad) = (World::new(), release("web", "bad", Some(dead_probe())));
    world.shelf.put(&bad);
    let mut agent = world.up(world.wish(1, &bad.hold), "");
    assert!(matches!(agent.end(1).await, Some(Progress::Failed { .. })));
    assert!(world.host.running(&world.service).is_empty());
    assert_eq!(world.current(), None);
}

#[tokio::test(start_paused = true)]
async fn a_program_that_ends_at_once_fails_with_what_it_printed() {
    let (world, one) = (World::new(), release("web", "one", None));
    world.shelf.put(&one);
    world.host.on_start(&world.service, OnStart::Crashes);
    let mut agent = world.up(world.wish(1, &one.hold), "");
    let Some(Progress::Failed { step, reason }) = agent.end(1).await else { panic!() };
    assert!(step == "probe" && reason.contains("ended soon after its start"), "{step}: {reason}");
    let other = World::new();
    other.shelf.put(&one);
    other.host.on_start(&other.service, OnStart::Refuses("no such file".into()));
    let mut agent = other.up(other.wish(1, &one.hold), "");
    let Some(Progress::Failed { step, reason }) = agent.end(1).await else { panic!() };
    assert!(step == "start" && reason.contains("no such file"), "{step}: {reason}");
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_staged_leaves_the_running_service_alone() {
    let (world, one, two) = (World::new(), release("web", "one", None), release("web", "two", None));
    world.hold(&one).await;
    let deeds = world.host.deeds().len();
    world.shelf.spoil(&two);
    let mut agent = world.up(world.wish(2, &two.hold), "");
    let Some(Progress::Failed { step, reason }) = agent.end(2).await else { panic!() };
    assert!(step == "fetch" && reason.contains("3 times"), "{step}: {reason}");
    // A release of another service under this one's name.
    let foreign = release("other", "x", None);
    world.shelf.put(&foreign);
    agent.wish.send(world.wish(3, &foreign.hold)).unwrap();
    let Some(Progress::Failed { step, reason }) = agent.end(3).await else { panic!() };
    assert!(step == "stage" && reason.contains("service other"), "{step}: {reason}");
    // Larger than the disk.
    let Hold::Release { release, bundle, .. } = two.hold.clone() else { unreachable!() };
    agent.wish.send(world.wish(4, &Hold::Release { release, bundle, size: 1 << 60 })).unwrap();
    let Some(Progress::Failed { step, reason }) = agent.end(4).await else { panic!() };
    assert!(step == "fetch" && reason.contains("no space"), "{step}: {reason}");
    assert_eq!(world.host.deeds().len(), deeds, "nothing was stopped or started");
    assert_eq!(world.host.running(&world.service), [one.release()]);
    assert_eq!(world.current(), Some(one.release()));
    assert_eq!(std::fs::read_dir(world.dir.path().join("state/bundles")).unwrap().count(), 0);
}

#[tokio::test(start_paused = true)]
async fn holding_nothing_stops_and_removes_the_link() {
    let (world, one) = (World::new(), release("web", "one", None));
    world.hold(&one).await;
    let mut agent = world.up(world.wish(2, &Hold::Nothing), "");
    assert_eq!(agent.end(2).await, Some(Progress::Held));
    assert!(world.host.running(&world.service).is_empty());
    assert_eq!(world.current(), None);
    assert!(
        world.root().join("releases").join(one.release().as_str()).is_dir(),
        "what was staged stays for the way back"
    );
}

#[tokio::test(start_paused = true)]
async fn a_dead_service_does_not_start_before_the_controller_has_spoken() {
    let (world, one, two) = (World::new(), release("web", "one", None), release("web", "two", None));
    world.hold(&one).await;
    world.host.crash(&world.service);
    world.shelf.put(&two);
    // The order on the disk is of yesterday, and its permit would still be fresh.
    let mut agent = world.up(world.unconfirmed(1, &one.hold), "");
    let status = agent.until(|status| matches!(status.progress, Progress::Fenced { .. })).await;
    assert!(matches!(status.health, Health::Unhealthy { .. }));
    assert!(world.host.running(&world.service).is_empty());
    // The controller wants something else by now: the old release never runs again.
    agent.wish.send(world.wish(2, &two.hold)).unwrap();
    assert_eq!(agent.end(2).await, Some(Progress::Held));
    assert_eq!(world.host.running(&world.service), [two.release()]);
    let released: Vec<_> = world.starts().into_iter().map(|start| (start.release, start.cause)).collect();
    assert_eq!(released, [(one.release(), Cause::Order), (two.release(), Cause::Order)]);
}

#[tokio::test(start_paused = true)]
async fn the_controllers_word_lifts_the_fence() {
    let (world, one) = (World::new(), release("web", "one", None));
    world.hold(&one).await;
    world.host.reboot();
    let mut agent = world.up(world.unconfirmed(1, &one.hold), "");
    agent.until(|status| matches!(status.progress, Progress::Fenced { .. })).await;
    agent.wish.send(world.wish(1, &one.hold)).unwrap();
    assert_eq!(agent.end(1).await, Some(Progress::Held));
    agent.until(|status| status.running.is_some()).await;
    assert_eq!(world.starts_of(1, Cause::Boot), 1);
}

#[tokio::test(start_paused = true)]
async fn last_permitted_starts_after_a_silence_and_only_what_was_permitted() {
    let (mut world, one) = (World::new(), release("web", "one", None));
    world.more = "when_controller_unreachable = \"last-permitted\"".into();
    world.hold(&one).await;
    world.host.crash(&world.service);
    let agent = world.up(world.unconfirmed(1, &one.hold), "");
    agent.until(|status| matches!(status.progress, Progress::Fenced { .. })).await;
    assert!(world.host.running(&world.service).is_empty());
    world.host.advance(3_000);
    agent.until(|status| status.running.is_some()).await;
    assert_eq!(world.starts_of(1, Cause::Boot), 1);
}

#[tokio::test(start_paused = true)]
async fn a_running_service_is_adopted_and_nothing_else_happens_before_the_controllers_word() {
    let (world, one, two) = (World::new(), release("web", "one", None), release("web", "two", None));
    world.hold(&one).await;
    world.shelf.put(&two);
    // Generation 2 was saved, and the agent ended before it acted.
    let mut agent = world.up(world.unconfirmed(2, &two.hold), "");
    let status = agent.until(|status| status.health == Health::Healthy).await;
    assert!(matches!(&status.progress, Progress::Working { step, .. } if step == "wait"), "{:?}", status.progress);
    assert_eq!(world.host.running(&world.service), [one.release()]);
    agent.wish.send(world.wish(2, &two.hold)).unwrap();
    assert_eq!(agent.end(2).await, Some(Progress::Held));
}

#[tokio::test(start_paused = true)]
async fn a_permit_that_expires_during_the_work_stops_it_before_anyone_is_disturbed() {
    let (world, one, two) = (World::new(), release("web", "one", None), release("web", "two", None));
    world.hold(&one).await;
    let agent = world.up(world.wish(2, &two.hold), "");
    // It cannot be fetched yet; meanwhile the permit ends.
    agent
        .until(|status| matches!(&status.progress, Progress::Working { detail, .. } if detail.contains("interrupted")))
        .await;
    world.host.advance(10_000);
    world.shelf.put(&two);
    agent.until(|status| matches!(status.progress, Progress::Fenced { .. })).await;
    assert_eq!(
        world.host.running(&world.service),
        [one.release()],
        "what runs is not stopped without the right to start"
    );
    agent.wish.send(world.wish(2, &two.hold)).unwrap();
    agent.until(|status| status.progress == Progress::Held).await;
    assert_eq!(world.host.running(&world.service), [two.release()]);
}

#[tokio::test(start_paused = true)]
async fn a_process_that_dies_is_started_again_with_growing_pauses() {
    let (world, one) = (World::new(), release("web", "one", None));
    world.hold(&one).await;
    let agent = world.up(world.wish(1, &one.hold), "");
    for round in 1..=3 {
        let before = agent.until(|status| status.running.is_some()).await.running;
        world.host.crash(&world.service);
        agent.until(|status| status.running.is_some() && status.running != before).await;
        assert_eq!(world.starts_of(1, Cause::Crash), round);
    }
    assert_eq!(world.starts_of(1, Cause::Order), 1);
    // Told to stop, the agent leaves the service running.
    agent.wish.send_modify(|wish| wish.agent = AgentState::Stopping);
    assert_eq!(agent.work.await.unwrap(), Ok(()));
    assert_eq!(world.host.running(&world.service), [one.release()]);
}

#[tokio::test(start_paused = true)]
async fn a_newer_order_takes_over_from_one_that_cannot_be_fetched() {
    let (world, one, two, lost) =
        (World::new(), release("web", "one", None), release("web", "two", None), release("web", "lost", None));
    world.hold(&one).await;
    world.shelf.put(&two);
    let mut agent = world.up(world.wish(2, &lost.hold), "");
    agent
        .until(|status| matches!(&status.progress, Progress::Working { detail, .. } if detail.contains("interrupted")))
        .await;
    agent.wish.send(world.wish(3, &two.hold)).unwrap();
    assert_eq!(agent.end(3).await, Some(Progress::Held));
    assert_eq!(world.host.running(&world.service), [two.release()]);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_cannot_be_stopped_fails_the_order_and_is_not_joined_by_another() {
    let (world, one, two) = (World::new(), release("web", "one", None), release("web", "two", None));
    world.hold(&one).await;
    world.shelf.put(&two);
    world.host.on_stop(&world.service, OnStop::Hangs);
    let mut agent = world.up(world.wish(2, &two.hold), "");
    let Some(Progress::Failed { step, .. }) = agent.end(2).await else { panic!() };
    assert_eq!(step, "stop");
    assert_eq!(world.host.running(&world.service), [one.release()]);
    assert_eq!(world.current(), Some(one.release()));
}

#[tokio::test(start_paused = true)]
async fn a_release_that_was_tampered_with_is_fetched_again_before_it_goes_live() {
    let (world, one, two) = (World::new(), release("web", "one", None), release("web", "two", None));
    world.hold(&one).await;
    world.shelf.put(&two);
    let mut agent = world.up(world.wish(2, &two.hold), "");
    assert_eq!(agent.end(2).await, Some(Progress::Held));
    let program = world.root().join("releases").join(one.release().as_str()).join("bin/app");
    std::fs::write(&program, "evil").unwrap();
    agent.wish.send(world.wish(3, &one.hold)).unwrap();
    assert_eq!(agent.end(3).await, Some(Progress::Held));
    assert_eq!(std::fs::read_to_string(program).unwrap(), "one");
    assert_eq!(world.current(), Some(one.release()));
}

#[tokio::test(start_paused = true)]
async fn ordering_what_is_live_again_puts_right_what_was_changed_in_it() {
    let (world, one) = (World::new(), release("web", "one", None));
    world.hold(&one).await;
    let live = world.root().join("releases").join(one.release().as_str());
    std::fs::write(live.join("bin/app"), "evil").unwrap();
    std::fs::write(live.join("left-behind"), "x").unwrap();
    let mut agent = world.up(world.wish(2, &one.hold), "");
    assert_eq!(agent.end(2).await, Some(Progress::Held));
    assert_eq!(std::fs::read_to_string(live.join("bin/app")).unwrap(), "one");
    assert!(!live.join("left-behind").exists());
    assert_eq!((world.starts_of(2, Cause::Order), world.host.running(&world.service)), (1, vec![one.release()]));
    let entries = std::fs::read_dir(live.parent().unwrap()).unwrap().count();
    assert_eq!(entries, 1, "what it changed places with is gone");
}

#[tokio::test(start_paused = true)]
async fn a_service_that_died_is_not_started_from_files_that_were_changed() {
    let (world, one) = (World::new(), release("web", "one", None));
    world.hold(&one).await;
    let program = world.root().join("releases").join(one.release().as_str()).join("bin/app");
    let mut agent = world.up(world.wish(1, &one.hold), "");
    assert_eq!(agent.end(1).await, Some(Progress::Held));
    std::fs::write(&program, "evil").unwrap();
    world.host.crash(&world.service);
    agent.until(|status| status.running.is_none()).await;
    agent.until(|status| status.running.is_some() && status.progress == Progress::Held).await;
    assert_eq!(std::fs::read_to_string(program).unwrap(), "one", "it was put right first");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_lost_its_record_compares_files_again_once_it_holds_its_order() {
    let (world, one) = (World::new(), release("web", "one", None));
    world.hold(&one).await;
    world.forget_record();
    let mut agent = world.up(world.wish(1, &one.hold), "");
    assert_eq!(agent.end(1).await, Some(Progress::Held));
    let status = agent.until(|status| status.live.is_some()).await;
    assert_eq!(status.live.unwrap().release, one.release());
}

#[tokio::test(start_paused = true)]
async fn old_releases_are_removed_and_the_last_ones_kept() {
    let mut world = World::new();
    world.more = "keep_releases = 2".into();
    let made: Vec<Made> = (0..4).map(|n| release("web", &format!("program {n}"), None)).collect();
    world.hold(&made[0]).await;
    let mut agent = world.up(world.wish(1, &made[0].hold), "");
    for (n, made) in made.iter().enumerate().skip(1) {
        world.shelf.put(made);
        let generation = n as u64 + 1;
        agent.wish.send(world.wish(generation, &made.hold)).unwrap();
        assert_eq!(agent.end(generation).await, Some(Progress::Held));
    }
    agent.wish.send_modify(|wish| wish.agent = AgentState::Stopping);
    agent.work.await.unwrap().unwrap();
    let mut kept: Vec<String> = std::fs::read_dir(world.root().join("releases"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    kept.sort();
    let mut expected = [made[2].release().to_string(), made[3].release().to_string()];
    expected.sort();
    assert_eq!(kept, expected);
}

/// The one place where what is remembered is less than what was done: executed, and not yet written down. With real
/// processes, since finding the process again rests on /proc.
#[tokio::test]
async fn a_process_that_was_started_and_not_written_down_is_found_again() {
    use fleet_agent::platform::Scope;
    use fleet_agent::platform::linux::{LinuxObserver, LinuxSupervisor};
    let (world, one) = (World::new(), release("web", "#!/bin/sh\nsleep 1000 & wait\n", None));
    world.shelf.put(&one);
    let tools = |points| {
        let mut tools = world.tools(points);
        std::fs::create_dir_all(&tools.config.services_root).unwrap();
        tools.supervisor = Arc::new(LinuxSupervisor::new().unwrap());
        tools.observer = Arc::new(LinuxObserver::new(Scope::Root, tools.config.services_root.clone()).unwrap());
        tools
    };
    let wish = || {
        let tools = tools("");
        let mut wish = world.wish(1, &one.hold);
        wish.permit = Some(Permit { order: wish.order.clone(), until: tools.now().after(Millis(60_000)) });
        wish
    };
    let mut agent = World::up_with(tools("start.inside=stop"), wish());
    assert_eq!(agent.end(1).await, None);
    assert!(world.starts().is_empty(), "nothing was written down");
    let mut agent = World::up_with(tools(""), wish());
    assert_eq!(agent.end(1).await, Some(Progress::Held));
    let starts = world.starts();
    assert_eq!(starts.len(), 1);
    assert_eq!(agent.until(|status| status.running.is_some()).await.running.unwrap().pid, starts[0].pid);
    let mark = format!("FLEET_SERVICE_ROOT={}", world.root().display());
    let shells = std::fs::read_dir("/proc").unwrap().flatten().filter(|entry| {
        let read = |file: &str| std::fs::read(entry.path().join(file)).unwrap_or_default();
        let marked = read("environ").split(|b| *b == 0).any(|variable| variable == mark.as_bytes());
        marked && read("comm").starts_with(b"app")
    });
    assert_eq!(shells.count(), 1, "one main process, not two");
    agent.wish.send(Wish { order: world.order(2, &Hold::Nothing), permit: None, ..wish() }).unwrap();
    agent.wish.send_modify(|wish| {
        wish.permit = Some(Permit { order: wish.order.clone(), until: tools("").now().after(Millis(60_000)) });
    });
    assert_eq!(agent.end(2).await, Some(Progress::Held));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Any history of orders, each with any number of kills and perhaps a reboot, ends where the last order says,
    /// and nothing is started twice for one order.
    #[test]
    fn any_history_of_kills_ends_where_the_last_order_says(
        history in prop::collection::vec((0usize..4, prop::collection::vec((0usize..PLACES.len(), 1u32..3), 0..4), prop::bool::weighted(0.2)), 1..5)
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async move {
            let world = World::new();
            let good: Vec<Made> = (1..3).map(|n| release("web", &format!("program {n}"), None)).collect();
            let bad = release("web", "bad", Some(dead_probe()));
            for made in good.iter().chain([&bad]) {
                world.shelf.put(made);
            }
            let mut lives = Hold::Nothing;
            for (n, (choice, kills, reboot)) in history.into_iter().enumerate() {
                let generation = n as u64 + 1;
                let hold = match choice {
                    0 => Hold::Nothing,
                    1 | 2 => good[choice - 1].hold.clone(),
                    _ => bad.hold.clone(),
                };
                let fails = choice == 3;
                for (place, count) in kills {
                    let mut agent = world.up(world.wish(generation, &hold), &format!("{}=stop@{count}", PLACES[place]));
                    let end = agent.end(generation).await;
                    agent.kill().await;
                    if end.is_some() {
                        break;
                    }
                }
                if reboot {
                    world.host.reboot();
                }
                let mut agent = world.up(world.wish(generation, &hold), "");
                let end = agent.end(generation).await;
                assert_eq!(matches!(end, Some(Progress::Failed { .. })), fails, "{end:?}");
                if !fails {
                    lives = hold;
                }
                if let Some(release) = lives.release() {
                    agent.until(|status| status.running.as_ref().is_some_and(|running| running.release == *release)).await;
                }
                agent.kill().await;
                assert_eq!(world.current().as_ref(), lives.release());
                assert_eq!(world.host.running(&world.service), lives.release().cloned().into_iter().collect::<Vec<_>>());
                if !reboot {
                    assert!(world.starts_of(generation, Cause::Order) <= 1 && world.starts_of(generation, Cause::Undo) <= 1, "{:?}", world.starts());
                    assert_eq!(world.starts_of(generation, Cause::Crash), 0);
                }
            }
        });
    }
}
