//! Migrations with real processes: run once whatever is lost or repeated, apart from the service, bounded in time and
//! output. That their ends are told to the controller is shown in `link.rs`.

#![allow(clippy::unwrap_used)]

mod world;

use std::path::PathBuf;
use std::sync::Arc;

use fleet::deployment::{MigrationOrder, MigrationReport};
use fleet::evidence::{Parentage, Progress};
use fleet::{Hold, Millis};
use fleet_agent::keeper::{Tools, Wish};
use fleet_agent::node::Node;
use fleet_agent::permit::Permit;
use fleet_agent::platform::linux::{LinuxObserver, LinuxSupervisor};
use fleet_agent::platform::{Scope, Supervisor};
use world::{Made, World, release};

/// A bound against hanging, far above what anything here takes.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

struct Stage {
    world: World,
    made: Made,
}

impl Stage {
    fn new() -> Self {
        let (world, made) = (World::new(), release("web", "#!/bin/sh\nsleep 1000 & wait\n", None));
        world.shelf.put(&made);
        Self { world, made }
    }

    fn tools(&self, points: &str) -> Tools {
        let mut tools = self.world.tools(points);
        std::fs::create_dir_all(&tools.config.services_root).unwrap();
        tools.supervisor = Arc::new(LinuxSupervisor::new().unwrap());
        tools.observer = Arc::new(LinuxObserver::new(Scope::Root, tools.config.services_root.clone()).unwrap());
        tools
    }

    async fn node(&self, points: &str) -> Arc<Node> {
        Node::open("n1".parse().unwrap(), self.tools(points)).await.unwrap()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.world.dir.path().join(name)
    }

    fn lines(&self, name: &str) -> Vec<String> {
        std::fs::read_to_string(self.file(name)).unwrap_or_default().lines().map(str::to_owned).collect()
    }

    /// A migration of this test alone; `@` in its command is the test's directory.
    fn order(&self, attempt: u32, command: &str) -> MigrationOrder {
        // Marks are searched for in the whole machine, where other tests run at the same time.
        let own = self.world.dir.path().file_name().unwrap().to_string_lossy().to_lowercase();
        let own: String = own.chars().filter(char::is_ascii_alphanumeric).collect();
        MigrationOrder {
            deployment: format!("d-{own}").parse().unwrap(),
            attempt,
            node: "n1".parse().unwrap(),
            service: self.world.service.clone(),
            hold: self.made.hold.clone(),
            name: "migrate".into(),
            command: command.replace('@', &self.world.dir.path().display().to_string()),
            timeout: Millis::from_secs(600),
        }
    }

    /// Whether a process of `order` runs.
    fn runs(&self, order: &MigrationOrder) -> bool {
        let seen = LinuxSupervisor::new().unwrap().errands();
        seen.iter().any(|seen| seen.deployment == order.deployment && seen.attempt == order.attempt)
    }

    async fn until(&self, what: impl Fn() -> bool) {
        let waiting = async {
            while !what() {
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.expect("nothing happened for a minute");
    }
}

/// How the newest migration ended.
async fn end(node: &Arc<Node>, attempt: u32) -> MigrationReport {
    let mut changes = node.changes();
    let ended = async {
        loop {
            changes.borrow_and_update();
            let newest = node.migrations().into_iter().next().filter(|its| its.attempt == attempt);
            match newest.map(|its| its.report) {
                None | Some(MigrationReport::Running { .. }) => changes.changed().await.unwrap(),
                Some(report) => return report,
            }
        }
    };
    tokio::time::timeout(PATIENCE, ended).await.expect("it has not ended within a minute")
}

#[tokio::test]
async fn it_runs_once_in_the_staged_release_although_it_is_said_again_and_the_agent_comes_up_again() {
    let stage = Stage::new();
    let order = stage.order(1, "echo ran >> @/ran; pwd > @/pwd; env > @/env; cat > @/stdin; ps -o sid= -p $$ > @/sid");
    let node = stage.node("").await;
    node.migrate(vec![order.clone(), order.clone()]).await;
    node.migrate(vec![order.clone()]).await;
    assert_eq!(end(&node, 1).await, MigrationReport::Succeeded);
    node.migrate(vec![order.clone()]).await;
    node.stop().await;
    let node = stage.node("").await;
    node.migrate(vec![order.clone()]).await;
    assert_eq!(end(&node, 1).await, MigrationReport::Succeeded);
    assert_eq!(stage.lines("ran"), ["ran"]);

    let release = stage.made.release();
    let directory = stage.world.root().join("releases").join(release.as_str());
    assert_eq!(stage.lines("pwd"), [directory.canonicalize().unwrap().display().to_string()]);
    assert_eq!(stage.world.current(), None, "it is staged and not live");
    assert!(stage.lines("stdin").is_empty());
    let environment = stage.lines("env");
    for expected in [
        format!("FLEET_DEPLOYMENT={}", order.deployment),
        "FLEET_MIGRATION=migrate".to_owned(),
        "FLEET_ATTEMPT=1".to_owned(),
        format!("FLEET_RELEASE={release}"),
    ] {
        assert!(environment.contains(&expected), "{expected} in {environment:?}");
    }
    assert!(!environment.iter().any(|line| line.starts_with("FLEET_SERVICE_ROOT=")), "{environment:?}");
    // A person's wish to run it again has a number of its own.
    let again = MigrationOrder { attempt: 2, ..order.clone() };
    node.migrate(vec![again]).await;
    assert_eq!(end(&node, 2).await, MigrationReport::Succeeded);
    assert_eq!(stage.lines("ran").len(), 2);
    // And what is older than that is over.
    node.migrate(vec![order]).await;
    assert_eq!((node.migrations().len(), stage.lines("ran").len()), (2, 2));
    assert_eq!(*stage.world.shelf.fetched.lock().unwrap(), 1);
}

#[tokio::test]
async fn killed_before_it_was_started_it_is_interrupted_and_never_begun_again() {
    let stage = Stage::new();
    let order = stage.order(1, "echo ran >> @/ran");
    let node = stage.node("migration.begun=stop").await;
    node.migrate(vec![order.clone()]).await;
    stage.until(|| stage.file("state/migrations/web.json").exists()).await;
    node.stop().await;
    let node = stage.node("").await;
    node.migrate(vec![order.clone()]).await;
    let MigrationReport::Interrupted { reason } = end(&node, 1).await else { panic!() };
    assert!(reason.contains("nothing of it runs any more"), "{reason}");
    assert!(stage.lines("ran").is_empty());
    // A person says that it is to be tried again.
    node.migrate(vec![MigrationOrder { attempt: 2, ..order }]).await;
    assert_eq!(end(&node, 2).await, MigrationReport::Succeeded);
}

#[tokio::test]
async fn killed_after_its_end_was_written_down_it_has_ended() {
    let stage = Stage::new();
    let order = stage.order(1, "echo ran >> @/ran");
    let node = stage.node("migration.ended=stop").await;
    node.migrate(vec![order.clone()]).await;
    let written = || std::fs::read_to_string(stage.file("state/migrations/web.json")).unwrap_or_default();
    stage.until(|| written().contains("succeeded")).await;
    assert!(matches!(node.migrations()[0].report, MigrationReport::Running { .. }), "it was not told");
    node.stop().await;
    let node = stage.node("").await;
    node.migrate(vec![order]).await;
    assert_eq!(end(&node, 1).await, MigrationReport::Succeeded);
    assert_eq!(stage.lines("ran"), ["ran"]);
}

#[test]
fn it_outlives_its_agent_is_interrupted_and_is_not_joined_by_another() {
    let stage = Stage::new();
    let order = stage.order(1, "echo begun >> @/ran; until [ -e @/go ]; do sleep 0.02; done; echo done >> @/ran");
    let runtime = || tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let killed = runtime();
    killed.block_on(async {
        stage.node("").await.migrate(vec![order.clone()]).await;
        stage.until(|| stage.lines("ran") == ["begun"]).await;
    });
    killed.shutdown_background();
    runtime().block_on(async {
        let node = stage.node("").await;
        node.migrate(vec![order.clone()]).await;
        let MigrationReport::Interrupted { reason } = end(&node, 1).await else { panic!() };
        assert!(reason.contains("it runs on as process"), "{reason}");
        assert!(stage.runs(&order));
        let again = MigrationOrder { attempt: 2, ..order.clone() };
        node.migrate(vec![again.clone()]).await;
        let MigrationReport::Failed { reason } = end(&node, 2).await else { panic!() };
        assert!(reason.contains("attempt 1 of") && reason.contains("still runs"), "{reason}");
        std::fs::write(stage.file("go"), "").unwrap();
        stage.until(|| !stage.runs(&order)).await;
        assert_eq!(stage.lines("ran"), ["begun", "done"], "it was not disturbed");
        let third = MigrationOrder { attempt: 3, ..order.clone() };
        node.migrate(vec![third]).await;
        assert_eq!(end(&node, 3).await, MigrationReport::Succeeded);
    });
}

#[tokio::test]
async fn what_takes_too_long_is_ended_with_everything_it_started() {
    let stage = Stage::new();
    let stubborn =
        "trap '' TERM; (trap '' TERM; while :; do sleep 0.05; done) & echo waiting; while :; do sleep 0.05; done";
    for (attempt, command) in [(1, "echo waiting; sleep 1000"), (2, stubborn)] {
        let order = MigrationOrder { timeout: Millis(3_000), ..stage.order(attempt, command) };
        let node = stage.node("").await;
        node.migrate(vec![order.clone()]).await;
        let MigrationReport::Failed { reason } = end(&node, attempt).await else { panic!() };
        assert!(reason.starts_with("timed out") && reason.ends_with("waiting"), "{reason}");
        assert!(!stage.runs(&order), "{command}");
        node.stop().await;
    }
}

#[tokio::test]
async fn what_fails_says_how_with_the_end_of_what_it_printed() {
    let stage = Stage::new();
    let node = stage.node("").await;
    node.migrate(vec![stage.order(1, "head -c 3000000 /dev/zero | tr '\\0' x; echo; echo the end >&2; exit 3")]).await;
    let MigrationReport::Failed { reason } = end(&node, 1).await else { panic!() };
    assert!(reason.starts_with("exit status: 3;") && reason.ends_with("\nthe end"), "{}", &reason[..80]);
    assert!(reason.len() < 2_048 + 100, "{}", reason.len());
    node.migrate(vec![stage.order(2, "kill -9 $$")]).await;
    let MigrationReport::Failed { reason } = end(&node, 2).await else { panic!() };
    assert!(reason.contains("signal: 9") && reason.contains("printed nothing"), "{reason}");
}

#[tokio::test]
async fn it_is_neither_stopped_with_the_service_nor_taken_for_it() {
    let stage = Stage::new();
    let node = stage.node("").await;
    let held = |generation: u64, hold: &Hold| {
        let (node, order) = (node.clone(), stage.world.order(generation, hold));
        async move {
            let mut changes = node.changes();
            node.receive(vec![order], Millis(600_000)).await;
            let holding = async {
                loop {
                    changes.borrow_and_update();
                    let said = node.look(fleet::looked::Depth::Sweep).await.remove(0);
                    if said.generation.0 == generation && said.progress == Progress::Held {
                        return said;
                    }
                    changes.changed().await.unwrap();
                }
            };
            tokio::time::timeout(PATIENCE, holding).await.unwrap()
        }
    };
    let said = held(1, &stage.made.hold).await;
    let pids = |said: &fleet::evidence::ServiceEvidence| said.processes.iter().map(|its| its.pid).collect::<Vec<_>>();
    let service = pids(&said);
    let order = stage.order(1, "until [ -e @/go ]; do sleep 0.02; done");
    node.migrate(vec![order.clone()]).await;
    stage.until(|| stage.runs(&order)).await;
    let said = node.look(fleet::looked::Depth::Sweep).await.remove(0);
    assert_eq!(pids(&said), service, "{:?}", said.processes);
    let said = held(2, &Hold::Nothing).await;
    assert!(said.processes.is_empty(), "{:?}", said.processes);
    assert!(stage.runs(&order), "it was stopped with the service");
    std::fs::write(stage.file("go"), "").unwrap();
    assert_eq!(end(&node, 1).await, MigrationReport::Succeeded);
    node.stop().await;
}

/// It stands in the directory of the release that is about to be started, and its agent does not know it any more.
#[tokio::test]
async fn what_outlived_its_agent_is_not_adopted_as_the_service() {
    let stage = Stage::new();
    let wish = |generation, hold: &Hold| {
        let order = stage.world.order(generation, hold);
        let permit = Permit { order: order.clone(), until: stage.tools("").now().after(Millis(60_000)) };
        Wish { order, permit: Some(permit), ..stage.world.wish(generation, hold) }
    };
    let mut agent = World::up_with(stage.tools("start.intended=stop"), wish(1, &stage.made.hold));
    assert_eq!(agent.end(1).await, None);
    let left = stage.order(1, "");
    let shell = std::process::Command::new("sh")
        .args(["-c", "sleep 1000 >/dev/null 2>&1 & echo $!"])
        .current_dir(stage.world.root().join("releases").join(stage.made.release().as_str()))
        .envs([("FLEET_DEPLOYMENT", left.deployment.as_str()), ("FLEET_MIGRATION", "migrate"), ("FLEET_ATTEMPT", "1")])
        .output()
        .unwrap();
    let orphan: u32 = String::from_utf8(shell.stdout).unwrap().trim().parse().unwrap();
    stage.until(|| stage.runs(&left)).await;
    let mut agent = World::up_with(stage.tools(""), wish(1, &stage.made.hold));
    assert_eq!(agent.end(1).await, Some(Progress::Held));
    let main = agent.until(|status| status.running.is_some()).await.running.unwrap().pid;
    // It is seen for what it is: nobody watches over it any more.
    let node = stage.node("").await;
    let seen = node.look(fleet::looked::Depth::Sweep).await.into_iter().flat_map(|service| service.processes);
    let seen: Vec<_> = seen.filter(|process| process.pid == orphan).collect();
    node.stop().await;
    agent.wish.send(wish(2, &Hold::Nothing)).unwrap();
    assert_eq!(agent.end(2).await, Some(Progress::Held));
    let survived = stage.runs(&left);
    std::process::Command::new("kill").args(["-9", &orphan.to_string()]).status().unwrap();
    assert_ne!(main, orphan);
    assert!(survived, "it was stopped with the service");
    assert!(matches!(&seen[..], [stray] if stray.parentage == Parentage::Stray && stray.marker.is_none()), "{seen:?}");
}

#[tokio::test]
async fn nothing_is_run_on_the_strength_of_what_cannot_be_read_or_is_for_others() {
    let stage = Stage::new();
    let order = stage.order(1, "echo ran >> @/ran");
    std::fs::write(stage.file("state/migrations/web.json"), "{ half").unwrap();
    let node = stage.node("").await;
    node.migrate(vec![order.clone()]).await;
    let MigrationReport::Interrupted { reason } = end(&node, 1).await else { panic!() };
    assert!(reason.contains("web.json"), "{reason}");
    assert_eq!(std::fs::read_to_string(stage.file("state/migrations/web.json")).unwrap(), "{ half");
    let foreign = MigrationOrder { node: "n2".parse().unwrap(), attempt: 7, ..order };
    node.migrate(vec![foreign]).await;
    assert_eq!(node.migrations().len(), 1);
    assert!(stage.lines("ran").is_empty());
}

#[tokio::test]
async fn a_release_that_cannot_be_had_is_not_waited_for_longer_than_the_migration_may_take() {
    let stage = Stage::new();
    let lost = release("web", "lost", None);
    let order = MigrationOrder { hold: lost.hold.clone(), timeout: Millis(300), ..stage.order(1, "echo ran >> @/ran") };
    let node = stage.node("").await;
    node.migrate(vec![order]).await;
    let MigrationReport::Failed { reason } = end(&node, 1).await else { panic!() };
    assert!(reason.contains("it was not begun") && reason.contains("was not on the disk within 300ms"), "{reason}");
    assert!(stage.lines("ran").is_empty());
}
