//! The live view of a deployment: a few lines that are drawn again in place. Pure: a deployment, the time and a width
//! in, lines out; drawing is left to the watching command.

use fleet_proto::v1;

use super::holds;
use super::lines;
use super::screen::{Accent, Glyphs, Screen};
use super::table::Columns;
use super::tally::{self, Standing};
use super::text::{age_at, count, cut, plain, size, took};

/// The width of a bar in cells.
const BAR: usize = 10;
/// Nodes at work shown under a segment; the others are counted, so that a large segment does not fill the screen.
const MOST_NODES_SHOWN: usize = 8;

/// The head: what is deployed, where, how.
pub fn head(deployment: &v1::Deployment, glyphs: Glyphs) -> String {
    let arrow = format!(" {} ", glyphs.to());
    let bake =
        if deployment.bake_ms > 0 { format!("   bake {}", fleet::Millis(deployment.bake_ms)) } else { String::new() };
    let at_once = match deployment.parallel.as_str() {
        "" | "all" => String::new(),
        parallel => format!("   {parallel} at a time"),
    };
    let on_failure = match deployment.on_failure.as_str() {
        "stop" => "stop",
        "pause" => "pause",
        _ => "roll back",
    };
    let limit = if deployment.limit.is_empty() { String::new() } else { format!("   only {}", deployment.limit) };
    plain(&format!(
        "{} {}   {}   {}{at_once}{bake}   on failure: {on_failure}{limit}",
        deployment.service,
        tally::change(deployment, &arrow),
        count(tally::expected(deployment).len(), "node"),
        count(deployment.segments.len(), "segment"),
    ))
}

/// What is being moved: `Release r-51ab09c4e2f1  hello 1.0.0  (3 files, 2.1 kB)`.
pub fn release_line(release: &v1::Release) -> String {
    let files = count(release.files as usize, "file");
    plain(&format!(
        "Release {}  {} {}  ({files}, {})",
        release.id,
        release.service,
        release.version,
        size(release.bundle_size)
    ))
}

/// The frame at `now_ms` of the controller's clock; no line is longer than `width`.
pub fn frame(deployment: &v1::Deployment, now_ms: i64, glyphs: Glyphs, width: usize) -> Vec<String> {
    let all = deployment.segments.len();
    let mut frame = Vec::new();
    for (index, segment) in deployment.segments.iter().enumerate() {
        let total = tally::size(segment);
        let done = tally::count(segment, Standing::Done);
        let at_work = tally::count(segment, Standing::AtWork);
        let time = match (segment.started_at_ms, segment.ended_at_ms) {
            (Some(from), Some(to)) => took(from, to),
            (Some(from), None) => took(from, now_ms),
            (None, _) => String::new(),
        };
        let gate = deployment.gate.as_ref().filter(|g| g.asking.is_some_and(|a| a.segment as usize == index));
        let words = match gate {
            Some(gate) => format!("{} is asked", holds::gate_words(gate)),
            None => state_words(segment, deployment),
        };
        let line = format!(
            "  segment {}/{all}  {}  {:>5}   {time:<6}  {words}",
            index + 1,
            bar(done, at_work, total, glyphs),
            format!("{done}/{total}")
        );
        frame.push(line.trim_end().to_owned());
        frame.extend(nodes_at_work(segment, now_ms));
    }
    for node in &deployment.absent {
        frame.push(format!(
            "  absent       {}  {}",
            node.node,
            if node.detail.is_empty() { "waited for at the end" } else { &node.detail }
        ));
    }
    for node in &deployment.joined {
        let detail = if node.detail.is_empty() { "ordered at the end" } else { &node.detail };
        frame.push(format!("  joined       {}  {detail}", node.node));
    }
    frame.extend(holds::lines(deployment));
    frame.push(foot(deployment, now_ms, glyphs));
    frame.iter().map(|line| cut(&plain(line), width)).collect()
}

fn bar(done: usize, at_work: usize, total: usize, glyphs: Glyphs) -> String {
    let [full, half, empty] = glyphs.cells();
    let cells = |n: usize| (n * BAR).checked_div(total).unwrap_or(0);
    let full_cells = cells(done);
    let half_cells = cells(done + at_work) - full_cells;
    format!("{}{}{}", full.repeat(full_cells), half.repeat(half_cells), empty.repeat(BAR - full_cells - half_cells))
}

fn state_words(segment: &v1::DeploymentSegment, deployment: &v1::Deployment) -> String {
    match segment.state.as_str() {
        "baked" if deployment.bake_ms > 0 => format!("ok, baked {}", fleet::Millis(deployment.bake_ms)),
        "baked" | "proven" => "ok".to_owned(),
        // The bar says it.
        "rolling" => String::new(),
        "rolling-back" => "rolling back".to_owned(),
        "rolled-back" => "rolled back".to_owned(),
        other => other.to_owned(),
    }
}

fn nodes_at_work(segment: &v1::DeploymentSegment, now_ms: i64) -> Vec<String> {
    let open: Vec<_> =
        segment.nodes.iter().filter(|n| matches!(tally::standing(n), Standing::AtWork | Standing::Failed)).collect();
    let mut rows = Columns::new(&[]);
    for node in open.iter().take(MOST_NODES_SHOWN) {
        // An agent's detail begins with its step where it has one.
        let (step, detail) = match tally::standing(node) {
            Standing::Failed => ("failed", node.detail.as_str()),
            Standing::AtWork | Standing::Waiting | Standing::Done | Standing::Gone => {
                node.detail.split_once(": ").unwrap_or((node.detail.as_str(), ""))
            }
        };
        let step = if step.is_empty() { node.state.as_str() } else { step };
        rows.row([node.node.clone(), step.to_owned(), age_at(now_ms, node.since_ms), detail.to_owned()]);
    }
    let mut lines: Vec<String> =
        if rows.is_empty() { Vec::new() } else { rows.to_rows("      ").lines().map(str::to_owned).collect() };
    if open.len() > MOST_NODES_SHOWN {
        lines.push(format!("      and {} more", open.len() - MOST_NODES_SHOWN));
    }
    lines
}

fn foot(deployment: &v1::Deployment, now_ms: i64, glyphs: Glyphs) -> String {
    let versions: Vec<String> = tally::versions(deployment)
        .iter()
        .rev()
        .map(|(version, nodes)| format!("{} on {version}", nodes.len()))
        .collect();
    let dot = glyphs.dot();
    let until = deployment.finished_at_ms.unwrap_or(now_ms);
    let phase = match deployment.phase.as_str() {
        "verifying" => format!("verifying every node {dot} "),
        "rolling-back" => format!("rolling back {dot} "),
        "migrating" => format!("migrating {dot} "),
        _ => String::new(),
    };
    let serving = if deployment.floor > 0 && deployment.outcome.is_empty() {
        let total = tally::expected(deployment).len();
        format!("serving {} of {total}, never fewer than {} {dot} ", deployment.serving, deployment.floor)
    } else {
        String::new()
    };
    format!("  {phase}{serving}{} {dot} {}", versions.join(", "), took(deployment.started_at_ms, until))
}

/// What is said when it is over: the outcome in words, the proof or its absence for every node, what to do next.
pub fn ending(deployment: &v1::Deployment, screen: &Screen) -> String {
    let total = tally::expected(deployment).len();
    let service = plain(&deployment.service);
    let version = plain(tally::version(deployment));
    let id = plain(&deployment.id);
    let exit = deployment.exit_code;
    let time = took(deployment.started_at_ms, deployment.finished_at_ms.unwrap_or(deployment.started_at_ms));
    let mut text = String::new();
    match deployment.outcome.as_str() {
        "converged" | "converged-with-waivers" => {
            let waived = if deployment.outcome == "converged" {
                String::new()
            } else {
                format!("   (with waivers, exit {exit})")
            };
            let unproven = deployment.unproven.len();
            text += &format!(
                "{} {service} {version} on {} of {total} nodes in {time}{waived}   {id}\n",
                screen.paint(Accent::Good, screen.glyphs.ok()),
                total - unproven.min(total)
            );
            text += &proofs(deployment);
            for line in holds::waivers(&deployment.waivers, screen.zone) {
                text += &format!("{line}\n");
            }
        }
        "rolled-back" => {
            text += &failed_nodes(deployment, screen);
            text += &format!("{id} FAILED and was rolled back: {}.   (exit {exit})\n", tail(deployment));
            text += &format!("  look    fleetctl status {id}\n  check   fleetctl verify {service}\n");
        }
        "aborted" => {
            text += &format!("{id} was ABORTED: {}.   (exit {exit})\n", tail(deployment));
            text += &format!("  look    fleetctl status {id}\n  drift   fleetctl drift\n");
        }
        "superseded" => {
            text += &format!("{id} was SUPERSEDED: {}.   (exit {exit})\n", tail(deployment));
            if !deployment.cause.is_empty() {
                text += &format!("  cause   {}\n", plain(&deployment.cause));
            }
            text += &format!("  look    fleetctl history {service}\n");
        }
        // What was queued and could not begin when its turn came: nothing was changed.
        "refused" => {
            let cross = screen.paint(Accent::Bad, screen.glyphs.bad());
            text += &format!("{cross} {id} was REFUSED: {}   (exit {exit})\n", plain(&deployment.cause));
            text += "  nothing was changed\n";
        }
        // "unproven", and whatever a newer controller may say: never sounds like success.
        _ => {
            text += &failed_nodes(deployment, screen);
            text += &format!(
                "{} {id} is {}: a human is needed.   (exit {exit})\n",
                screen.paint(Accent::Bad, screen.glyphs.bad()),
                plain(&deployment.outcome.to_uppercase())
            );
            if !deployment.cause.is_empty() {
                text += &format!("  cause   {}\n", plain(&deployment.cause));
            }
            for (version, nodes) in tally::versions(deployment) {
                text += &format!(
                    "  last proven on {}: {}\n",
                    plain(version),
                    nodes.iter().map(|n| plain(n)).collect::<Vec<_>>().join(" ")
                );
            }
            for node in lines::unproven(deployment) {
                text += &format!("  not proven: {node}\n");
            }
            text += &format!(
                "  look    fleetctl status {id}\n  drift   fleetctl drift --fresh\n  back    fleetctl rollback {service}\n"
            );
        }
    }
    text
}

fn tail(deployment: &v1::Deployment) -> String {
    let sentence = lines::outcome_sentence(deployment);
    sentence.split_once(' ').map_or(sentence.clone(), |(_, rest)| rest.to_owned())
}

fn failed_nodes(deployment: &v1::Deployment, screen: &Screen) -> String {
    let cross = screen.paint(Accent::Bad, screen.glyphs.bad());
    if deployment.cause.is_empty() {
        return String::new();
    }
    format!("{cross} stopped: {}\n", plain(&deployment.cause))
}

/// The proof of every node: what it holds, and with which grade it proved it.
pub fn proofs(deployment: &v1::Deployment) -> String {
    let mut rows = Columns::new(&[]);
    let release = deployment.release.as_ref();
    for node in tally::expected(deployment) {
        rows.row([
            node.node.clone(),
            node.holds.clone(),
            release.map(|r| r.id.clone()).unwrap_or_default(),
            node.state.clone(),
            node.grade.clone(),
        ]);
    }
    if rows.is_empty() { String::new() } else { rows.to_rows("  ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::samples::{START, finished, gating, halted, node, rolling};
    use crate::output::screen::{Colour, Verbosity};
    use crate::output::text::Zone;
    use fleet::Outcome;

    const SCREEN: Screen =
        Screen { colour: Colour::Off, glyphs: Glyphs::Unicode, verbosity: Verbosity::Normal, zone: Zone::Utc };

    #[test]
    fn the_frame_is_the_documented_one() {
        assert_eq!(
            head(&rolling(), Glyphs::Unicode),
            "shop 2.3.0 → 2.3.1   8 nodes   4 segments   bake 1m   on failure: roll back"
        );
        let frame = frame(&rolling(), START + 153_000, Glyphs::Unicode, 100);
        assert_eq!(
            frame.join("\n"),
            "  segment 1/4  ██████████    2/2   1m42s   ok, baked 1m
  segment 2/4  █████▓▓▓▓▓    1/2   51s
      n4  probe  2m  GET /healthz gives 503, try 4
  segment 3/4  ░░░░░░░░░░    0/2           pending
  segment 4/4  ░░░░░░░░░░    0/2           pending
  waiting   segment 2: proof from n4 (probe)
  3 on 2.3.1, 5 on 2.3.0 · 2m33s"
        );
    }

    #[test]
    fn a_gate_is_shown_at_its_segment() {
        assert_eq!(
            frame(&gating(), START + 153_000, Glyphs::Unicode, 120).join("\n"),
            "  segment 1/4  ██████████    2/2   1m42s   ok, baked 1m
  segment 2/4  ██████████    2/2   38s     gate test ('tests/smoke.sh' where fleetctl watches) is asked
  segment 3/4  ░░░░░░░░░░    0/2           pending
  segment 4/4  ░░░░░░░░░░    0/2           pending
  waiting   segment 2: an answer to the gate test ('tests/smoke.sh' where fleetctl watches), within 1m
  4 on 2.3.1, 4 on 2.3.0 · 2m33s"
        );
    }

    #[test]
    fn a_halt_a_floor_and_a_newcomer_are_shown() {
        assert_eq!(
            head(&halted(), Glyphs::Unicode),
            "shop 2.3.0 → 2.3.1   9 nodes   4 segments   2 at a time   bake 1m   on failure: roll back   only role=web"
        );
        assert_eq!(
            frame(&halted(), START + 153_000, Glyphs::Unicode, 120)[4..].join("\n"),
            "  joined       n9  ordered at the end
  HALTED    it waits to be promoted after segment 1
            fleetctl promote d-7k2m4, or fleetctl abort d-7k2m4 (within 23h)
  serving 7 of 9, never fewer than 6 · 1 on nothing, 2 on 2.3.1, 6 on 2.3.0 · 2m33s"
        );
    }

    #[test]
    fn who_was_decommissioned_is_counted_no_longer() {
        let mut deployment = rolling();
        deployment.segments[0].nodes[1].state = "decommissioned".into();
        assert!(frame(&deployment, START, Glyphs::Unicode, 100)[0].contains("██████████    1/1"));
        assert!(head(&deployment, Glyphs::Unicode).contains("7 nodes"));
    }

    #[test]
    fn a_place_that_was_taken_and_a_turn_that_was_refused() {
        let mut superseded = finished(Outcome::Superseded, "proven", "2.3.1");
        superseded.cause = "superseded by bob with d-9z".into();
        let text = ending(&superseded, &SCREEN);
        assert!(text.contains("was SUPERSEDED: 8 of 8 nodes last proven on 2.3.1.   (exit 5)\n"), "{text}");
        assert!(text.contains("  cause   superseded by bob with d-9z\n"), "{text}");
        let mut refused = finished(Outcome::Unproven, "pending", "2.3.0");
        refused.outcome = "refused".into();
        refused.exit_code = 75;
        refused.cause = "the plan is stale".into();
        let text = ending(&refused, &SCREEN);
        assert_eq!(text, "✗ d-7k2m4 was REFUSED: the plan is stale   (exit 75)\n  nothing was changed\n");
    }

    #[test]
    fn waivers_are_named_in_the_end() {
        let mut deployment = finished(Outcome::ConvergedWithWaivers, "verified", "2.3.1");
        deployment.waivers = halted().waivers;
        let text = ending(&deployment, &SCREEN);
        assert!(text.contains("  waived    n8  disk, OPS-12 (by alice, until 2026-11-22 09:14)\n"), "{text}");
    }

    #[test]
    fn no_line_of_a_frame_wraps_or_leaves_ascii() {
        let mut deployment = rolling();
        deployment.segments[1].nodes[1].detail = format!("probe: {}", "x".repeat(500));
        for line in frame(&deployment, START, Glyphs::Ascii, 60) {
            assert!(line.chars().count() <= 60 && line.is_ascii(), "{line}");
        }
    }

    #[test]
    fn success_shows_the_proof_of_every_node() {
        let text = ending(&finished(Outcome::Converged, "verified", "2.3.1"), &SCREEN);
        assert!(text.starts_with("✓ shop 2.3.1 on 8 of 8 nodes in 5m38s   d-7k2m4\n"), "{text}");
        assert!(text.contains("  n8  2.3.1  r-9f2c1e7ab310  verified  digest\n"), "{text}");
    }

    #[test]
    fn failure_says_where_everyone_is() {
        let mut rolled_back = finished(Outcome::RolledBack, "verified", "2.3.0");
        rolled_back.cause = "1 failed, 0 allowed".into();
        let text = ending(&rolled_back, &SCREEN);
        assert!(text.contains("✗ stopped: 1 failed, 0 allowed\n"), "{text}");
        assert!(text.contains("d-7k2m4 FAILED and was rolled back: 8 of 8 nodes on 2.3.0.   (exit 3)\n"), "{text}");

        let mut unproven = finished(Outcome::Unproven, "verified", "2.3.1");
        unproven.unproven = vec![node("n8", "unverified", "no contact for 31s", "")];
        let text = ending(&unproven, &SCREEN);
        assert!(text.contains("✗ d-7k2m4 is UNPROVEN: a human is needed.   (exit 4)\n"), "{text}");
        assert!(text.contains("  not proven: n8 (no contact for 31s)\n"), "{text}");
    }
}
