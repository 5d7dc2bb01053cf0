//! Plans are carried out as they were shown or not at all; canary, growing segments and spread; selections; two services
//! at once.

use std::fs;

use fleet_tests::stage::{names, segments};
use fleet_tests::{Proc, Stage, Story, until};
use serde_json::Value;

pub const STORIES: &[Story] = &[
    ("a kept plan is carried out or stale", a_kept_plan),
    ("canary, growing segments, spread over zones", canary_and_growing),
    ("a host pattern and labels select", selections),
    ("two services at once", two_services),
];

fn a_kept_plan(stage: &Stage) {
    let (fleet, made) = (&stage.fleet, stage.make());
    let path = made.path.to_str().unwrap();
    let plan = |path: &str| fleet.ctl(["plan", path, "--keep", "--segments", "3", "-o", "json"]).expect(0).json();
    let kept = plan(path);
    let id = kept["id"].as_str().unwrap();
    assert_eq!(kept["toChange"], 12, "{kept:#}");
    assert!(kept["segments"][0]["nodes"][0]["fromVersion"].is_string(), "it says what changes: {kept:#}");

    // What was kept is kept by a controller that is killed.
    fleet.bounce_controller();
    let begun = fleet.ctl(["deploy", "--plan", id, "--yes", "--detach", "-o", "name"]).expect(0);
    let deployment = begun.stdout.trim();
    fleet.bounce_controller();
    let done = fleet.ended(deployment, 0);
    assert_eq!(done["plan"], *id);
    assert_eq!(segments(&done), segments(&kept), "exactly what was shown");
    stage.run_by_all(&made);

    // Planned on what is no longer so: refused, and nothing is touched.
    fleet.ctl(["deploy", "--plan", id, "--yes"]).expect(75).says("stale").says(deployment);
    let next = stage.make();
    let kept = plan(next.path.to_str().unwrap());
    let id = kept["id"].as_str().unwrap();
    fleet.kill_agent("n12");
    until("the controller has lost the agent", || (fleet.ctl(["plan", "--plan", id]).code != 0).then_some(()));
    fleet.ctl(["deploy", "--plan", id, "--yes"]).expect(75).says("stale").says("n12 has gone");
    stage.run_by_all(&made);
    // It is the same fleet again, and the same plan.
    fleet.start_agent("n12");
    fleet.until_ready();
    until("the plan fits again", || (fleet.ctl(["plan", "--plan", id]).code == 0).then_some(()));
    fleet.ctl(["deploy", "--plan", id, "--yes"]).expect(0).says("converged");
    stage.run_by_all(&next);
}

fn canary_and_growing(stage: &Stage) {
    let (fleet, made) = (&stage.fleet, stage.make());
    let flags = ["--canary", "1", "--segments", "growing", "--order", "spread:az"];
    let mut words = vec!["plan", made.path.to_str().unwrap(), "-o", "json"];
    words.extend(flags);
    let plan = segments(&fleet.ctl(words).expect(0).json());
    assert_eq!(plan.iter().map(Vec::len).collect::<Vec<_>>(), [1, 1, 2, 4, 4], "{plan:?}");
    // Twelve nodes over zones of 6, 3, 2 and the one without: half of every larger segment is of zone a.
    for part in [&plan[3], &plan[4]] {
        let of_a = part.iter().filter(|node| (2..=7).contains(&node[1..].parse::<u16>().unwrap())).count();
        assert_eq!(of_a, 2, "in proportion: {plan:?}");
    }

    let mut stream = fleet.deploy_stream(&made.path, &flags);
    let first = stream.fact().unwrap();
    let id = first["deployment"].as_str().unwrap().to_owned();
    let (mut begun, mut proven) = (0, Vec::<String>::new());
    while let Some(fact) = stream.fact() {
        match fact["fact"].as_str().unwrap() {
            "segment-started" => {
                assert_eq!(fact["segment"].as_u64(), Some(begun as u64), "{fact}");
                let before: usize = plan[..begun].iter().map(Vec::len).sum();
                assert_eq!(proven.len(), before, "nothing begins before the segment before is proven: {fact}");
                begun += 1;
                if begun == 4 {
                    fleet.kill_controller();
                    fleet.start_controller();
                    // What it waits for may be over by the time that it can be asked.
                    until("the controller answers again", || fleet.deployment(&id).map(drop));
                }
            }
            "node-proven" => {
                let node = fact["node"].as_str().unwrap().to_owned();
                assert!(plan[begun - 1].contains(&node), "{node} is of segment {begun}: {plan:?}");
                proven.push(node);
            }
            _ => {}
        }
    }
    stream.finish().expect(0);
    assert_eq!(segments(&fleet.deployment(&id).unwrap()), plan, "the segments as planned");
    stage.run_by_all(&made);
}

fn selections(stage: &Stage) {
    let (fleet, before) = (&stage.fleet, stage.level());
    let everyone = fleet.nodes();
    for (selection, chosen) in [("az_b:n2:!n9", vec!["n2", "n8", "n10"]), ("az=c,role=web", vec!["n11", "n12"])] {
        let made = stage.make();
        let id = fleet.begin(&made.path, &["-l", selection, "--segments", "1", "--pause-after", "1"]);
        fleet.until_reason(&id, "it waits to be promoted after segment 1");
        fleet.bounce_controller();
        let document = fleet.until_reason(&id, "it waits to be promoted after segment 1");
        assert_eq!(document["limit"].as_str(), Some(selection), "{document:#}");
        fleet.ctl(["promote", &id]).expect(0);
        let done = fleet.ended(&id, 0);
        assert_eq!(segments(&done).concat(), chosen, "{done:#}");
        let chosen: Vec<String> = chosen.into_iter().map(str::to_owned).collect();
        stage.run_by(&chosen, &made);
        let others: Vec<String> = everyone
            .iter()
            .filter(|node| !["n2", "n8", "n10", "n11", "n12"].contains(&node.as_str()))
            .cloned()
            .collect();
        stage.run_by(&others, &before);
    }
    fleet.ctl(["plan", before.path.to_str().unwrap(), "-l", "az_z"]).expect(65).says("az_z");
    stage.level();
}

fn two_services(stage: &Stage) {
    let (fleet, made) = (&stage.fleet, stage.make());
    // The same program, as another service without a port.
    let side = fleet.folder().join("side");
    fs::create_dir_all(side.join("bin")).unwrap();
    fs::copy(made.path.join("bin/hello"), side.join("bin/side")).unwrap();
    let text = "apiVersion: fleet/v1\nservice: side\nrelease: {version: \"7.0.0\"}\nnodes: role=web\n\
                files: [{source: bin/side, destination: bin/side, mode: \"0755\"}]\nrun: bin/side --worker\n";
    fs::write(side.join("fleet.yaml"), text).unwrap();
    let hello = fleet.begin(&made.path, &["--segments", "2", "--pause-after", "1"]);
    let other = fleet.begin(&side, &["--segments", "2", "--pause-after", "1"]);
    for id in [&hello, &other] {
        fleet.until_reason(id, "it waits to be promoted after segment 1");
    }
    fleet.bounce_controller();
    let listed = fleet.ctl(["status"]).expect(0);
    listed.clone().says(&hello).says(&other);
    for id in [&hello, &other] {
        fleet.until_reason(id, "it waits to be promoted after segment 1");
        fleet.ctl(["promote", id]).expect(0);
    }
    let (hello, other) = (fleet.ended(&hello, 0), fleet.ended(&other, 0));
    assert_eq!((hello["service"].as_str(), other["service"].as_str()), (Some("hello"), Some("side")));
    stage.run_by_all(&made);
    for node in fleet.nodes() {
        let current = fleet.current(&node, "side");
        let running: Vec<Proc> = fleet.services(&node).into_iter().filter(|proc| proc.program() == "side").collect();
        assert!(matches!(&running[..], [one] if one.executable().starts_with(&current)), "{node}: {running:?}");
    }
    let proofs = fleet.until_verified();
    let of_side = |proof: &&Value| proof["service"] == "side" && proof["version"] == "7.0.0";
    assert_eq!(proofs["proofs"].as_array().unwrap().iter().filter(of_side).count(), 12, "{proofs:#}");
    assert_eq!(names(&proofs["proofs"]).len(), 24);
}
