//! Confirm or undo, one service on one node: what nobody confirms is undone by the node itself, wherever and whenever
//! its agent is killed. The host is in memory; that every question has a connection of its own is shown in `link.rs`.

#![allow(clippy::unwrap_used)]

mod world;

use fleet::evidence::{Confirmation, Progress};
use fleet::{Generation, Hold, ReleaseId};
use fleet_agent::keeper::{AgentState, Status, Wish};
use fleet_agent::platform::fake::{OnStart, OnStop};
use fleet_agent::service_log::Cause;
use world::{Made, Says, Working, World, release};

/// Half a minute on the boot clock: what [`World::wish_to_confirm`] gives.
const WITHIN: u64 = 3_000;

/// A world in which `one` is held at generation 1 and `two` can be had.
async fn world() -> (World, Made, Made) {
    let world = World::new();
    let (one, two) = (release("web", "one", None), release("web", "two", None));
    prepared(&world, &one, &two).await;
    (world, one, two)
}

async fn prepared(world: &World, one: &Made, two: &Made) {
    world.shelf.put(two);
    world.hold(one).await;
}

fn awaits(status: &Status) -> bool {
    status.generation == Generation(2)
        && status.progress == Progress::Held
        && status.confirmation == Confirmation::Awaited
}

/// The wish to confirm `hold` at generation 2, as the disk has it before the controller has said anything.
fn from_the_disk(world: &World, hold: &Hold) -> Wish {
    Wish { order: world.wish_to_confirm(2, hold).order, ..world.unconfirmed(2, hold) }
}

fn staged(world: &World, release: &ReleaseId) -> bool {
    world.root().join("releases").join(release.as_str()).is_dir()
}

/// Waits until the controller has been asked so many more times.
async fn asked_again(world: &World, more: usize) {
    let before = world.word.asked().len();
    while world.word.asked().len() < before + more {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

async fn ends_unconfirmed(agent: &mut Working, why: &str) -> String {
    let Some(Progress::Failed { step, reason }) = agent.end(2).await else { panic!("it has not failed") };
    assert!(step == "confirm" && reason.contains(why), "{step}: {reason}");
    reason
}

#[tokio::test(start_paused = true)]
async fn what_is_confirmed_is_held() {
    let (world, one, two) = world().await;
    world.word.says(Says::NotYet);
    let mut agent = world.up(world.wish_to_confirm(2, &two.hold), "");
    agent.until(awaits).await;
    asked_again(&world, 3).await;
    assert_eq!(world.host.running(&world.service), [two.release()]);
    world.word.says(Says::Confirmed);
    assert_eq!(agent.end(2).await, Some(Progress::Held));
    let asked = world.word.asked();
    assert!(asked.iter().all(|question| *question == asked[0] && question.generation == Generation(2)), "{asked:?}");
    agent.kill().await;

    // It is settled: an agent that comes up asks nobody.
    let mut agent = world.up(from_the_disk(&world, &two.hold), "");
    assert_eq!(agent.end(2).await, Some(Progress::Held));
    assert_eq!(world.word.asked().len(), asked.len());
    assert!(staged(&world, &one.release()) && world.starts_of(2, Cause::Undo) == 0);
}

#[tokio::test(start_paused = true)]
async fn what_nobody_confirms_is_undone_when_the_time_is_over_and_not_before() {
    let (world, one, two) = world().await;
    world.word.says(Says::Nothing);
    let mut agent = world.up(world.wish_to_confirm(2, &two.hold), "");
    agent.until(awaits).await;
    world.host.advance(WITHIN - 1);
    asked_again(&world, 3).await;
    assert!(awaits(&agent.status.borrow()));
    world.host.advance(1);
    let reason = ends_unconfirmed(&mut agent, "not confirmed within 30s: connection refused; asked ").await;
    assert!(!reason.contains("going back"), "{reason}");
    assert_eq!(world.host.running(&world.service), [one.release()]);
    assert_eq!(world.current(), Some(one.release()));
    assert_eq!((world.starts_of(2, Cause::Order), world.starts_of(2, Cause::Undo)), (1, 1));
    // It stays undone until a newer order comes.
    agent.kill().await;
    let asked = world.word.asked().len();
    let mut agent = world.up(world.wish_to_confirm(2, &two.hold), "");
    ends_unconfirmed(&mut agent, "not confirmed").await;
    assert_eq!((world.starts().len(), world.word.asked().len()), (3, asked));
}

#[tokio::test(start_paused = true)]
async fn a_stale_confirmation_confirms_nothing() {
    let (world, one, two) = world().await;
    world.word.says(Says::Stale);
    let mut agent = world.up(world.wish_to_confirm(2, &two.hold), "");
    agent.until(awaits).await;
    asked_again(&world, 5).await;
    assert!(awaits(&agent.status.borrow()));
    world.host.advance(WITHIN);
    ends_unconfirmed(&mut agent, "the nonce of another question").await;
    assert_eq!(world.host.running(&world.service), [one.release()]);
}

#[tokio::test(start_paused = true)]
async fn wherever_the_agent_is_killed_a_confirmed_order_is_held_and_started_once() {
    for place in
        ["start.recorded", "probe.after", "confirm.awaited", "confirm.given", "settle.recorded", "settle.after"]
    {
        let (world, _, two) = world().await;
        let mut agent = world.up(world.wish_to_confirm(2, &two.hold), &format!("{place}=stop"));
        if agent.end(2).await.is_none() {
            agent = world.up(world.wish_to_confirm(2, &two.hold), "");
            assert_eq!(agent.end(2).await, Some(Progress::Held), "{place}");
        } else {
            assert_eq!(place, "settle.after");
        }
        assert_eq!(world.host.running(&world.service), [two.release()], "{place}");
        assert_eq!(world.starts_of(2, Cause::Order), 1, "{place}");
        let asked = world.word.asked();
        assert!(asked.iter().all(|question| *question == asked[0]), "{place}: {asked:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn wherever_the_agent_is_killed_an_unconfirmed_order_is_undone_without_the_controller() {
    for place in [
        "confirm.awaited=stop",
        "turn.after=stop",
        "stop.before=stop@2",
        "stop.after=stop@2",
        "switch.intended=stop@2",
        "switch.renamed=stop@2",
        "switch.after=stop@2",
        "start.before=stop@2",
        "start.intended=stop@2",
        "start.inside=stop@2",
        "start.recorded=stop@2",
        "probe.after=stop@2",
        "settle.recorded=stop",
    ] {
        let (world, one, two) = world().await;
        world.word.says(Says::Nothing);
        let mut agent = world.up(world.wish_to_confirm(2, &two.hold), place);
        tokio::select! {
            end = agent.end(2) => assert_eq!(end, None, "{place}"),
            () = async {
                while world.word.asked().is_empty() {
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                }
                world.host.advance(WITHIN);
                std::future::pending::<()>().await;
            } => {}
        }
        // The release keeps the controller away: there is neither contact nor permit.
        let mut agent = world.up(from_the_disk(&world, &two.hold), "");
        if place.starts_with("confirm.awaited") {
            agent.until(awaits).await;
            world.host.advance(WITHIN);
        }
        ends_unconfirmed(&mut agent, "not confirmed within 30s").await;
        assert_eq!(world.host.running(&world.service), [one.release()], "{place}");
        assert_eq!(world.current(), Some(one.release()), "{place}");
        assert_eq!((world.starts_of(2, Cause::Order), world.starts_of(2, Cause::Undo)), (1, 1), "{place}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_comes_up_waits_for_what_is_left_of_the_time() {
    let (world, one, two) = world().await;
    world.word.says(Says::Nothing);
    let agent = world.up(world.wish_to_confirm(2, &two.hold), "");
    agent.until(awaits).await;
    agent.kill().await;
    world.host.advance(WITHIN - 500);
    let agent = world.up(from_the_disk(&world, &two.hold), "");
    agent.until(awaits).await;
    agent.kill().await;
    world.host.advance(499);
    let mut agent = world.up(from_the_disk(&world, &two.hold), "");
    agent.until(awaits).await;
    asked_again(&world, 2).await;
    assert!(awaits(&agent.status.borrow()));
    world.host.advance(1);
    ends_unconfirmed(&mut agent, "not confirmed within 30s").await;
    assert_eq!(world.host.running(&world.service), [one.release()]);
    let asked = world.word.asked();
    assert!(asked.iter().all(|question| *question == asked[0]), "one attempt has one nonce: {asked:?}");
}

#[tokio::test(start_paused = true)]
async fn when_the_time_is_over_before_the_agent_comes_up_it_goes_back_at_once() {
    let (world, one, two) = world().await;
    world.word.says(Says::Nothing);
    let mut agent = world.up(world.wish_to_confirm(2, &two.hold), "confirm.awaited=stop");
    assert_eq!(agent.end(2).await, None);
    world.host.advance(WITHIN);
    let mut agent = world.up(from_the_disk(&world, &two.hold), "");
    ends_unconfirmed(&mut agent, "before the controller could be asked").await;
    assert!(world.word.asked().is_empty());
    assert_eq!(world.host.running(&world.service), [one.release()]);
}

#[tokio::test(start_paused = true)]
async fn after_a_reboot_the_whole_time_counts_again() {
    let (world, one, two) = world().await;
    world.word.says(Says::Nothing);
    let agent = world.up(world.wish_to_confirm(2, &two.hold), "");
    agent.until(awaits).await;
    world.host.advance(WITHIN - 1);
    agent.kill().await;
    world.host.reboot();
    let agent = world.up(from_the_disk(&world, &two.hold), "");
    agent.until(|status| matches!(status.progress, Progress::Fenced { .. })).await;
    world.host.advance(WITHIN - 1);
    agent.kill().await;
    assert!(world.host.running(&world.service).is_empty(), "without a permit the new release does not start");
    // Brought up once more in the same boot, it remembers since when.
    world.host.advance(1);
    let mut agent = world.up(from_the_disk(&world, &two.hold), "");
    ends_unconfirmed(&mut agent, "not confirmed within 30s").await;
    assert_eq!(world.host.running(&world.service), [one.release()]);
    assert_eq!(world.current(), Some(one.release()));
}

#[tokio::test(start_paused = true)]
async fn after_a_reboot_with_the_controllers_word_it_is_started_again_and_confirmed() {
    let (world, _, two) = world().await;
    world.word.says(Says::NotYet);
    let agent = world.up(world.wish_to_confirm(2, &two.hold), "");
    agent.until(awaits).await;
    agent.kill().await;
    world.host.reboot();
    let mut agent = world.up(from_the_disk(&world, &two.hold), "");
    agent.until(|status| matches!(status.progress, Progress::Fenced { .. })).await;
    agent.wish.send(world.wish_to_confirm(2, &two.hold)).unwrap();
    agent.until(awaits).await;
    assert_eq!(world.host.running(&world.service), [two.release()]);
    world.word.says(Says::Confirmed);
    assert_eq!(agent.end(2).await, Some(Progress::Held));
    assert_eq!(world.starts_of(2, Cause::Order), 2, "once in each boot");
}

#[tokio::test(start_paused = true)]
async fn after_a_reboot_what_does_not_start_again_is_undone() {
    let (world, one, two) = world().await;
    world.word.says(Says::NotYet);
    let agent = world.up(world.wish_to_confirm(2, &two.hold), "");
    agent.until(awaits).await;
    agent.kill().await;
    world.host.reboot();
    world.host.on_start(&world.service, OnStart::Refuses("no such file".into()));
    let mut agent = world.up(from_the_disk(&world, &two.hold), "");
    agent.until(|status| matches!(status.progress, Progress::Fenced { .. })).await;
    agent.wish.send(world.wish_to_confirm(2, &two.hold)).unwrap();
    let reason = ends_unconfirmed(&mut agent, "could not be started again").await;
    assert!(reason.contains("going back to"), "the host refuses everything: {reason}");
    world.host.on_start(&world.service, OnStart::Runs);
    agent.until(|status| status.running.is_some()).await;
    assert_eq!(world.host.running(&world.service), [one.release()]);
}

#[tokio::test(start_paused = true)]
async fn what_was_live_already_needs_no_confirmation() {
    let (world, one, two) = world().await;
    world.word.says(Says::Nothing);
    let mut agent = world.up(world.wish_to_confirm(2, &one.hold), "");
    assert_eq!(agent.end(2).await, Some(Progress::Held));
    assert!(world.word.asked().is_empty() && world.starts().len() == 1);
    // And an order that does not ask for one, such as every order back, gets none.
    agent.wish.send(world.wish(3, &two.hold)).unwrap();
    assert_eq!(agent.end(3).await, Some(Progress::Held));
    assert!(world.word.asked().is_empty());
}

#[tokio::test(start_paused = true)]
async fn files_that_changed_places_under_the_service_need_a_confirmation() {
    let (world, one, _) = world().await;
    world.word.says(Says::Nothing);
    world.host.advance(100);
    std::fs::write(world.root().join("releases").join(one.release().as_str()).join("bin/app"), "evil").unwrap();
    let mut agent = world.up(world.wish_to_confirm(2, &one.hold), "");
    agent.until(awaits).await;
    world.host.advance(WITHIN);
    ends_unconfirmed(&mut agent, "not confirmed").await;
    assert_eq!(world.host.running(&world.service), [one.release()], "there is nowhere else to go back to");
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_new_here_goes_back_to_nothing() {
    let (world, two) = (World::new(), release("web", "two", None));
    world.shelf.put(&two);
    world.word.says(Says::Nothing);
    let mut agent = world.up(world.wish_to_confirm(2, &two.hold), "");
    agent.until(awaits).await;
    world.host.advance(WITHIN);
    ends_unconfirmed(&mut agent, "not confirmed").await;
    assert!(world.host.running(&world.service).is_empty());
    assert_eq!(world.current(), None);
}

#[tokio::test(start_paused = true)]
async fn a_newer_order_ends_the_waiting_and_decides() {
    let (world, one, two) = world().await;
    world.word.says(Says::Nothing);
    let mut agent = world.up(world.wish_to_confirm(2, &two.hold), "");
    agent.until(awaits).await;
    agent.wish.send(world.wish(3, &one.hold)).unwrap();
    assert_eq!(agent.end(3).await, Some(Progress::Held));
    world.host.advance(WITHIN);
    assert_eq!(world.host.running(&world.service), [one.release()]);
    assert_eq!(world.starts().iter().filter(|start| start.cause == Cause::Undo).count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_newer_order_for_the_same_release_is_not_the_confirmation_of_the_older() {
    let (world, one, two) = world().await;
    world.word.says(Says::Nothing);
    let mut agent = world.up(world.wish_to_confirm(2, &two.hold), "");
    agent.until(awaits).await;
    asked_again(&world, 1).await;
    // Nothing is restarted, and yet the release was never confirmed.
    agent.wish.send(world.wish_to_confirm(3, &two.hold)).unwrap();
    agent.until(|status| status.generation == Generation(3) && status.confirmation == Confirmation::Awaited).await;
    asked_again(&world, 1).await;
    let asked = world.word.asked();
    let (first, last) = (asked.first().unwrap(), asked.last().unwrap());
    assert_eq!((first.generation, last.generation), (Generation(2), Generation(3)));
    assert_ne!(first.nonce, last.nonce);
    world.host.advance(WITHIN);
    let Some(Progress::Failed { step, .. }) = agent.end(3).await else { panic!() };
    assert_eq!(step, "confirm");
    assert_eq!(world.host.running(&world.service), [one.release()]);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_removed_until_it_is_confirmed() {
    let mut world = World::new();
    world.more = "keep_releases = 2".into();
    let made: Vec<Made> = ["one", "two", "three"].map(|program| release("web", program, None)).into();
    prepared(&world, &made[0], &made[1]).await;
    world.shelf.put(&made[2]);
    let mut agent = world.up(world.wish(2, &made[1].hold), "");
    assert_eq!(agent.end(2).await, Some(Progress::Held));
    world.word.says(Says::NotYet);
    agent.wish.send(world.wish_to_confirm(3, &made[2].hold)).unwrap();
    agent.until(|status| status.confirmation == Confirmation::Awaited).await;
    let staged = |at: usize| staged(&world, &made[at].release());
    assert!(staged(0) && staged(1) && staged(2));
    world.word.says(Says::Confirmed);
    assert_eq!(agent.end(3).await, Some(Progress::Held));
    agent.wish.send_modify(|wish| wish.agent = AgentState::Stopping);
    agent.work.await.unwrap().unwrap();
    assert!(!staged(0) && staged(1) && staged(2));
}

#[tokio::test(start_paused = true)]
async fn a_process_that_ends_before_the_confirmation_is_undone_without_waiting() {
    let (world, one, two) = world().await;
    world.word.says(Says::NotYet);
    let mut agent = world.up(world.wish_to_confirm(2, &two.hold), "");
    agent.until(awaits).await;
    world.host.crash(&world.service);
    ends_unconfirmed(&mut agent, "ended before the order was confirmed").await;
    assert_eq!(world.host.running(&world.service), [one.release()]);
}

/// A machine that loses its power, and a container that is stopped, end both: that is no crash of the release.
#[tokio::test(start_paused = true)]
async fn a_process_that_ended_together_with_its_agent_is_started_again_once() {
    let (world, one, two) = world().await;
    world.word.says(Says::NotYet);
    let agent = world.up(world.wish_to_confirm(2, &two.hold), "");
    agent.until(awaits).await;
    agent.kill().await;
    world.host.crash(&world.service);
    let agent = world.up(world.wish_to_confirm(2, &two.hold), "");
    agent.until(|status| awaits(status) && status.running.is_some()).await;
    assert_eq!(world.host.running(&world.service), [two.release()]);
    assert_eq!(world.starts_of(2, Cause::Order), 2);
    agent.kill().await;
    // The same once more: it is the next agent that did not watch.
    world.host.crash(&world.service);
    let mut agent = world.up(world.wish_to_confirm(2, &two.hold), "");
    agent.until(|status| awaits(status) && status.running.is_some()).await;
    // Under the eyes of its agent it is one.
    world.host.crash(&world.service);
    ends_unconfirmed(&mut agent, "ended before the order was confirmed").await;
    assert_eq!(world.host.running(&world.service), [one.release()]);
}

/// deploy-rs stops taking back at the first node that cannot: here every node goes back by itself.
#[tokio::test(start_paused = true)]
async fn a_way_back_that_fails_is_told_and_is_nobody_elses_concern() {
    let ((stuck, one, two), (other, _, _)) = (world().await, world().await);
    for world in [&stuck, &other] {
        world.word.says(Says::Nothing);
    }
    let mut at_the_stuck = stuck.up(stuck.wish_to_confirm(2, &two.hold), "");
    let mut at_the_other = other.up(other.wish_to_confirm(2, &two.hold), "");
    at_the_stuck.until(awaits).await;
    at_the_other.until(awaits).await;
    stuck.host.on_stop(&stuck.service, OnStop::Hangs);
    for world in [&stuck, &other] {
        world.host.advance(WITHIN);
    }
    let reason = ends_unconfirmed(&mut at_the_stuck, "not confirmed within 30s").await;
    assert!(reason.contains(&format!("going back to {} failed at stop", one.release())), "{reason}");
    assert_eq!(stuck.host.running(&stuck.service), [two.release()]);
    let reason = ends_unconfirmed(&mut at_the_other, "not confirmed within 30s").await;
    assert!(!reason.contains("going back"), "{reason}");
    assert_eq!(other.host.running(&other.service), [one.release()]);
}
