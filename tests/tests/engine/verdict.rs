//! Who belongs to the verdict: nodes that fall silent, that are excused for a time, that join and that leave.

use fleet_tests::stage::names;
use fleet_tests::{Made, Stage, Story};
use serde_json::Value;

pub const STORIES: &[Story] = &[
    ("a budget in percent counts silence", a_budget_in_percent),
    ("a dead node is excused, for a time", waivers),
    ("a node joins, and one is taken out", joins_and_leaves),
];

const WAITS: &str = "it waits to be promoted after segment 1";

/// Begins a deployment in two halves, and loses the agents of these nodes of the second half before its turn.
fn lose(stage: &Stage, made: &Made, nodes: &[&str]) -> String {
    let fleet = &stage.fleet;
    let flags = ["--segments", "2", "--max-failures", "10%", "--deadline", "20s", "--pause-after", "1"];
    let id = fleet.begin(&made.path, &flags);
    fleet.until_reason(&id, WAITS);
    nodes.iter().for_each(|node| fleet.kill_agent(node));
    fleet.ctl(["promote", &id]).expect(0);
    fleet.until_reason(&id, &format!("proof from {}", nodes[0]));
    fleet.bounce_controller();
    fleet.until_reason(&id, nodes[0]);
    id
}

fn a_budget_in_percent(stage: &Stage) {
    let (fleet, before, made) = (&stage.fleet, stage.level(), stage.make());
    // One of twelve is less than 10 %: it goes on, and is still never converged.
    let id = lose(stage, &made, &["n11"]);
    let done = fleet.ended(&id, 4);
    assert_eq!(names(&done["unproven"]), ["n11"], "{done:#}");
    let others: Vec<String> = fleet.nodes().into_iter().filter(|node| node != "n11").collect();
    stage.run_by(&others, &made);
    stage.run_by(&["n11".to_owned()], &before);
    fleet.start_agent("n11");
    fleet.until_verified();
    stage.run_by_all(&made);

    // Two are more: it turns back, and both are there again for the last round.
    let next = stage.make();
    let id = lose(stage, &next, &["n10", "n12"]);
    let mut stream = fleet.watch(&id);
    stream.until_fact("rollback-started");
    fleet.start_agent("n10");
    fleet.start_agent("n12");
    stream.finish().expect(3);
    let done = fleet.ended(&id, 3);
    assert_eq!(done["cause"], "2 failed, 10% allowed", "{done:#}");
    fleet.until_ready();
    stage.run_by_all(&made);
}

fn waivers(stage: &Stage) {
    let (fleet, made) = (&stage.fleet, stage.make());
    fleet.power_off("n12");
    fleet.until_state("n12", "unreachable");
    let grace = ["--segments", "1", "--absent-grace", "2s"];
    let with = |more: &[&str]| grace.iter().chain(more).map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let deploy = |made: &Made, more: &[&str]| {
        let words = with(more);
        fleet.deploy(&made.path, &words.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let done = deploy(&made, &["--waive", "n12=the disk is replaced, OPS-12", "-o", "json"]).expect(7).json();
    assert_eq!(done["outcome"], "converged-with-waivers", "{done:#}");
    let waiver = &done["waivers"][0];
    assert_eq!((waiver["node"].as_str(), waiver["by"].as_str()), (Some("n12"), Some("admin")), "{done:#}");
    let living: Vec<String> = fleet.nodes().into_iter().filter(|node| node != "n12").collect();
    stage.run_by(&living, &made);

    // One that is over when the verdict is spoken covers nothing.
    let next = stage.make();
    let late = deploy(&next, &["--waive", "n12=OPS-12", "--waive-for", "1s"]).expect(4);
    late.says("n12").never_says("converged-with-waivers");
    stage.run_by(&living, &next);

    // Said while it runs; what was said outlives the controller.
    let last = stage.make();
    let id = fleet.begin(&last.path, &["--segments", "2", "--absent-grace", "2s", "--pause-after", "1"]);
    fleet.until_reason(&id, WAITS);
    fleet.ctl(["waive", &id, "n12", "--reason", "rack 7 is dark"]).expect(0);
    fleet.bounce_controller();
    fleet.until_reason(&id, WAITS);
    fleet.ctl(["status", &id]).expect(0).says("rack 7 is dark");
    fleet.ctl(["promote", &id]).expect(0);
    let done = fleet.ended(&id, 7);
    assert_eq!(done["waivers"][0]["reason"], "rack 7 is dark", "{done:#}");
    stage.run_by(&living, &last);
    fleet.start_agent("n12");
    fleet.until_ready();
    fleet.until_verified();
    stage.run_by_all(&last);
}

fn joins_and_leaves(stage: &Stage) {
    let (fleet, made) = (&stage.fleet, stage.make());
    let mut everyone = fleet.nodes();
    everyone.push("n13".to_owned());
    let id = fleet.begin(&made.path, &["--segments", "2", "--pause-after", "1"]);
    fleet.until_reason(&id, WAITS);
    assert_eq!(fleet.join_late(), "n13");
    let waiting = fleet.until_reason(&id, WAITS);
    assert_eq!(names(&waiting["joined"]), ["n13"], "{waiting:#}");
    fleet.bounce_controller();
    let waiting = fleet.until_reason(&id, WAITS);
    assert_eq!(names(&waiting["joined"]), ["n13"], "it belongs to the verdict: {waiting:#}");
    assert!(!fleet.service_root("n13", "hello").join("current").exists(), "it is held until the last round");
    fleet.ctl(["promote", &id]).expect(0);
    let done = fleet.ended(&id, 0);
    assert_eq!(done["joined"][0]["state"], "verified", "{done:#}");
    stage.run_by(&everyone, &made);

    // One that is taken out belongs to it no longer, and the record says who did that and why.
    let next = stage.make();
    let id = fleet.begin(&next.path, &["--segments", "2", "--pause-after", "1"]);
    fleet.until_reason(&id, WAITS);
    fleet.power_off("n13");
    fleet.ctl(["nodes", "remove", "n13", "--yes", "--reason", "sold, OPS-13"]).expect(0);
    fleet.bounce_controller();
    let waiting = fleet.until_reason(&id, WAITS);
    let all = waiting["segments"].as_array().unwrap().iter().flat_map(|segment| segment["nodes"].as_array().unwrap());
    let gone: Vec<&Value> = all.filter(|node| node["node"] == "n13").collect();
    assert!(gone.iter().all(|node| node["state"] == "decommissioned") && gone.len() == 1, "{waiting:#}");
    fleet.ctl(["promote", &id]).expect(0);
    fleet.ended(&id, 0);
    let facts = fleet.facts(&id);
    let fact = facts.iter().find(|fact| fact["fact"] == "node-decommissioned").unwrap();
    assert!(fact["node"] == "n13" && fact["text"].as_str().unwrap().contains("sold, OPS-13"), "{fact}");
    stage.run_by_all(&next);
}
