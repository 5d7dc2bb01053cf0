//! What a node does by itself: it undoes what nobody confirms, and runs a migration once.

use std::fs;
use std::path::PathBuf;

use fleet_tests::stage::{lines, segments, until_lines};
use fleet_tests::{Proxy, Stage, Story, until};

pub const STORIES: &[Story] = &[
    ("a migration that is interrupted is not repeated", a_migration),
    ("a migration after a segment", after_a_segment),
    ("a node that cannot be confirmed undoes itself", cut_off),
    ("a controller that stays away is no confirmation", the_controller_stays_away),
];

/// A migration that writes a line, and waits for the file `go`.
fn migration(stage: &Stage, name: &str) -> (String, PathBuf, PathBuf) {
    let folder = stage.open_folder(name);
    let (ran, go) = (folder.join("ran"), folder.join("go"));
    let command = format!("echo ran >>{}; while ! [ -e {} ]; do sleep 0.05; done", ran.display(), go.display());
    (command, ran, go)
}

fn a_migration(stage: &Stage) {
    let (fleet, before, made) = (&stage.fleet, stage.level(), stage.make());
    let (command, ran, go) = migration(stage, "before");
    let id = fleet.begin(&made.path, &["--segments", "2", "--migrate", &command, "--migrate-place", "before:1"]);
    let running = fleet.until_reason(&id, "the migration migrate on n1");
    assert_eq!(running["phase"], "migrating", "{running:#}");
    until_lines(&ran, 1);
    fleet.bounce_controller();
    fleet.until_reason(&id, "the migration migrate on n1");
    fleet.kill_agent("n1");
    fleet.start_agent("n1");
    // Nobody can tell whether it ran, and nobody guesses.
    fleet.until_reason(&id, "nobody can tell whether the migration migrate ran");
    fleet.bounce_controller();
    fleet.until_reason(&id, "nobody can tell whether the migration migrate ran");
    stage.run_by_all(&before);
    assert_eq!(lines(&ran).len(), 1, "nothing repeats it by itself");
    // The first attempt must end before there is another.
    fs::write(&go, "").unwrap();
    let until_ended = || {
        let command = ran.display().to_string();
        let left = fleet_tests::Proc::all().any(|proc| proc.arguments().iter().any(|word| word.contains(&command)));
        (!left).then_some(())
    };
    until("the first attempt has ended", until_ended);
    fleet.ctl(["promote", &id, "--retry"]).expect(0);
    let done = fleet.ended(&id, 0);
    assert_eq!(lines(&ran).len(), 2, "once for each attempt: {done:#}");
    let facts = fleet.facts(&id);
    let started: Vec<_> = facts.iter().filter(|fact| fact["fact"] == "migration-started").collect();
    assert!(started.len() == 2 && started[1]["text"].as_str().unwrap().contains("attempt 2"), "{started:#?}");
    let at = |kind: &str| facts.iter().position(|fact| fact["fact"] == kind).unwrap();
    assert!(at("migration-succeeded") < at("segment-started"), "it ran before the first segment: {facts:#?}");
    stage.run_by_all(&made);
}

fn after_a_segment(stage: &Stage) {
    let (fleet, before, made) = (&stage.fleet, stage.level(), stage.make());
    let (command, ran, go) = migration(stage, "after");
    let id = fleet.begin(&made.path, &["--segments", "2", "--migrate", &command, "--migrate-place", "after:1"]);
    let running = fleet.until_reason(&id, "the migration migrate on n1");
    until_lines(&ran, 1);
    let parts = segments(&running);
    stage.run_by(&parts[0], &made);
    stage.run_by(&parts[1], &before);
    fleet.bounce_controller();
    fleet.until_reason(&id, "the migration migrate on n1");
    fs::write(&go, "").unwrap();
    fleet.ended(&id, 0);
    assert_eq!(lines(&ran), ["ran"], "once, though the controller was killed while it ran");
    stage.run_by_all(&made);
}

fn cut_off(stage: &Stage) {
    let (fleet, before) = (&stage.fleet, stage.level());
    let proxy = Proxy::to(fleet.controller_port);
    let config = fleet.node_dir("n1").join("agent.toml");
    let direct = fs::read_to_string(&config).unwrap();
    let address = |port: u16| format!("127.0.0.1:{port}");
    let through = direct.replace(&address(fleet.controller_port), &address(proxy.port));
    assert_ne!(through, direct, "the agent's line leads through the proxy");
    fleet.kill_agent("n1");
    fs::write(&config, through).unwrap();
    fleet.start_agent("n1");
    fleet.until_ready();

    // The session stays, and proof arrives over it; but the node can reach nobody anew.
    let made = stage.make();
    // What may still be undone ends no segment, with a bake or without: nobody else is moved before.
    let flags = ["--segments", "1,100%", "--confirm", "5s", "-l", "n1:n2:n3"];
    let id = fleet.begin(&made.path, &flags);
    let release = fleet.service_root("n1", "hello").join("releases").join(fleet.release_id(&made.version));
    // The bundle comes anew as well: it is let through.
    until("n1 has the release on its disk", || release.exists().then_some(()));
    proxy.close();
    fleet.until_reason(&id, "segment 1: n1 to reach the controller, or to undo it");
    let done = fleet.ended(&id, 3);
    assert!(proxy.turned_away() > 0, "it has asked for its confirmation anew");
    let facts = fleet.facts(&id);
    let failed = facts.iter().find(|fact| fact["fact"] == "node-failed").unwrap();
    assert!(failed["node"] == "n1" && failed["text"].as_str().unwrap().contains("not confirmed within 5s"), "{failed}");
    assert!(done["segments"][1]["startedAt"].is_null(), "the others are never touched: {done:#}");
    assert_eq!(done["outcome"], "rolled-back", "{done:#}");
    stage.run_by_all(&before);

    // With the way open it is confirmed, and stays.
    proxy.open();
    let id = fleet.begin(&made.path, &["--segments", "1", "--confirm", "5s", "--again"]);
    fleet.ended(&id, 0);
    stage.run_by_all(&made);
    fleet.kill_agent("n1");
    fs::write(&config, direct).unwrap();
    fleet.start_agent("n1");
    fleet.until_ready();
}

fn the_controller_stays_away(stage: &Stage) {
    let (fleet, before, made) = (&stage.fleet, stage.level(), stage.make());
    let (old, release) = (fleet.current("n1", "hello"), fleet.release_id(&before.version));
    let id = fleet.begin(&made.path, &["--canary", "1", "--segments", "1", "--order", "name", "--confirm", "5s"]);
    let link = fleet.service_root("n1", "hello").join("current");
    loop {
        if link.canonicalize().is_ok_and(|now| now != old) {
            break;
        }
    }
    fleet.kill_controller();
    // Nobody is there to ask: the node goes back by itself, and the old release runs again.
    until("n1 has undone itself", || {
        let back = link.canonicalize().is_ok_and(|now| now == old);
        (back && fleet.does_not_run("n1", &release, before.answers).is_none()).then_some(())
    });
    fleet.start_controller();
    until("the controller answers again", || fleet.deployment(&id));
    let done = fleet.ctl(["wait", &id, "-o", "json"]).never_says("\"converged\"");
    assert!(matches!(done.code, 3 | 4), "{done}");
    assert!(fleet.facts(&id).iter().any(|fact| fact["fact"] == "node-failed" && fact["node"] == "n1"), "{done}");
    stage.run_by_all(&before);
}
