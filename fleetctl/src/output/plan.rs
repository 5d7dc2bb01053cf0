//! What a deployment would do, and the plans that were kept, for people.

use fleet_proto::v1;

use super::holds;
use super::screen::Glyphs;
use super::table::Columns;
use super::text::{Zone, count, minute, or_dash, plain, size};

/// The plan as text: every node and what happens to it, the rules, what warns and what forbids.
pub fn render(plan: &v1::Plan, zone: Zone, glyphs: Glyphs) -> String {
    let release = plan.release.clone().unwrap_or_default();
    let head = format!("{}   {}   {}   {}", plan.service, change(plan, glyphs), release.id, plan.environment);
    let mut lines = vec![plain(&head).trim_end().to_owned(), String::new()];
    let nodes = nodes(plan);
    if !nodes.is_empty() {
        lines.extend(nodes);
        lines.push(String::new());
    }
    lines.extend(rules(plan, glyphs));
    lines.extend(holds::waivers(&plan.waivers, zone));
    lines.extend(objections(plan, glyphs));
    lines.push(String::new());
    lines.push(format!(
        "Plan: {} to change in {}.",
        count(plan.to_change as usize, "node"),
        count(plan.segments.len(), "segment")
    ));
    if !plan.id.is_empty() {
        let id = plain(&plan.id);
        lines.push(format!("Saved as {id}.  Run exactly this:  fleetctl deploy --plan {id}"));
    }
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// The plans that were kept, as the controller orders them: newest first.
pub fn list_kept(plans: &[v1::Plan], zone: Zone) -> String {
    if plans.is_empty() {
        return "no plans were kept: fleetctl plan --keep\n".to_owned();
    }
    let mut rows = Columns::new(&["ID", "MADE", "SERVICE", "ENV", "VERSION", "CHANGES", "BY", "STATE"]);
    for plan in plans {
        let state = match (plan.refused.as_str(), plan.blocks.len()) {
            ("", 0) => "ready".to_owned(),
            ("", blocks) => count(blocks, "block"),
            (why, _) => format!("refused: {why}"),
        };
        rows.row([
            plan.id.clone(),
            minute(plan.made_at_ms, zone),
            plan.service.clone(),
            or_dash(&plan.environment),
            plan.release.as_ref().map(|r| r.version.clone()).unwrap_or_default(),
            count(plan.to_change as usize, "node"),
            or_dash(&plan.actor),
            state,
        ]);
    }
    rows.to_text()
}

/// `2.3.0 → 2.3.1`, with every version that is replaced.
fn change(plan: &v1::Plan, glyphs: Glyphs) -> String {
    let version = plan.release.as_ref().map(|r| r.version.as_str()).unwrap_or_default();
    let planned = plan.segments.iter().flat_map(|s| &s.nodes);
    let mut from: Vec<&str> =
        planned.map(|n| n.from_version.as_str()).filter(|v| !v.is_empty() && *v != version).collect();
    from.sort_unstable();
    from.dedup();
    if from.is_empty() { version.to_owned() } else { format!("{} {} {version}", from.join(", "), glyphs.to()) }
}

fn nodes(plan: &v1::Plan) -> Vec<String> {
    let mut rows = Columns::new(&["SEGMENT", "NODE", "CONDITION", "FROM", "CHANGE", "NOTE"]);
    for (index, segment) in plan.segments.iter().enumerate() {
        for node in &segment.nodes {
            rows.row(cells(&format!("{}/{}", index + 1, plan.segments.len()), node));
        }
    }
    for node in &plan.absent {
        rows.row(cells("absent", node));
    }
    if rows.is_empty() { Vec::new() } else { rows.to_text().lines().map(|line| format!("  {line}")).collect() }
}

fn cells(segment: &str, node: &v1::PlanNode) -> [String; 6] {
    let from = if node.from_version.is_empty() { "nothing".to_owned() } else { node.from_version.clone() };
    [segment.to_owned(), node.node.clone(), or_dash(&node.condition), from, node.change.clone(), node.note.clone()]
}

/// How it would move.
fn rules(plan: &v1::Plan, glyphs: Glyphs) -> Vec<String> {
    let release = plan.release.clone().unwrap_or_default();
    let planned: usize = plan.segments.iter().map(|s| s.nodes.len()).sum();
    let total = planned + plan.absent.len();
    let sizes: Vec<String> = plan.segments.iter().map(|s| s.nodes.len().to_string()).collect();
    let mut rules = vec![
        (
            "nodes",
            format!(
                "{total} expected: {} to change, {} already there, {} absent",
                plan.to_change,
                planned.saturating_sub(plan.to_change as usize),
                plan.absent.len()
            ),
        ),
        ("segments", format!("{} {} {} nodes", plan.segments.len(), glyphs.to(), sizes.join(", "))),
    ];
    let mut more = |name: &'static str, value: String| {
        if !value.is_empty() {
            rules.push((name, value));
        }
    };
    more("order", plan.order.clone());
    more("at once", if plan.parallel == "all" { String::new() } else { plan.parallel.clone() });
    more(
        "capacity",
        match plan.floor {
            0 => String::new(),
            floor => format!(
                "never fewer than {floor} of {total} serving (--min-healthy {}), {} serve now",
                plan.min_healthy, plan.serving
            ),
        },
    );
    let on_failure = match plan.on_failure.as_str() {
        "stop" => "stop and leave everything as it is",
        "pause" => "halt and wait for a person",
        _ => "roll back, newest segment first",
    };
    more("failures", format!("{} allowed, then {on_failure}", plan.max_failures));
    more("bake", format!("{} per segment", fleet::Millis(plan.bake_ms)));
    for gate in &plan.gates {
        more("gate", gate.clone());
    }
    let pauses: Vec<String> = plan.pause_after.iter().map(ToString::to_string).collect();
    more(
        "pause",
        match pauses.len() {
            0 => String::new(),
            1 => format!("after segment {}, until it is promoted", pauses[0]),
            _ => format!("after segments {}, until it is promoted", pauses.join(", ")),
        },
    );
    more("migration", plan.migration.clone());
    more(
        "confirm",
        match plan.confirm_ms {
            0 => String::new(),
            ms => format!("an agent that is not confirmed within {} undoes its switch", fleet::Millis(ms)),
        },
    );
    more("release", format!("{}, {}", count(release.files as usize, "file"), size(release.bundle_size)));
    rules.into_iter().map(|(name, value)| entry(name, &value)).collect()
}

/// What warns, and what forbids, each with the way out.
fn objections(plan: &v1::Plan, glyphs: Glyphs) -> Vec<String> {
    let mut lines: Vec<String> = plan.warnings.iter().map(|warning| entry("warn", warning)).collect();
    for block in &plan.blocks {
        let node = if block.node.is_empty() || block.why.contains(&block.node) {
            String::new()
        } else {
            format!("{} ", block.node)
        };
        let help = if block.help.is_empty() { String::new() } else { format!("   {} {}", glyphs.to(), block.help) };
        lines.push(entry("fail", &format!("{node}{}{help}", block.why)));
    }
    // What refuses a plan with blocks is one of them.
    if !plan.refused.is_empty() && plan.blocks.is_empty() {
        lines.push(entry("refused", &plan.refused));
    }
    lines
}

fn entry(name: &str, value: &str) -> String {
    plain(&format!("  {name:<9} {value}")).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::samples::{START, halted, release};

    fn node(name: &str, condition: &str, from: &str, change: &str) -> v1::PlanNode {
        v1::PlanNode {
            node: name.into(),
            from_version: from.into(),
            change: change.into(),
            condition: condition.into(),
            ..v1::PlanNode::default()
        }
    }

    fn plan() -> v1::Plan {
        v1::Plan {
            service: "shop".into(),
            environment: "prod".into(),
            release: Some(release("2.3.1")),
            segments: vec![
                v1::PlanSegment {
                    nodes: vec![
                        node("web-12", "unhealthy", "2.3.0", "change"),
                        node("web-01", "old", "2.3.0", "change"),
                    ],
                },
                v1::PlanSegment {
                    nodes: vec![node("web-02", "old", "", "install"), node("web-07", "current", "2.3.1", "same")],
                },
            ],
            absent: vec![node("web-31", "unknown", "2.3.0", "change")],
            order: "by name".into(),
            max_failures: "0".into(),
            bake_ms: 60_000,
            on_failure: "rollback".into(),
            to_change: 3,
            warnings: vec!["drift on web-12: 2 files that this deployment overwrites".into()],
            ..v1::Plan::default()
        }
    }

    #[test]
    fn a_plan_names_every_node_and_what_happens_to_it() {
        assert_eq!(
            render(&plan(), Zone::Utc, Glyphs::Unicode),
            "shop   2.3.0 → 2.3.1   r-9f2c1e7ab310   prod

  SEGMENT  NODE    CONDITION  FROM     CHANGE   NOTE
  1/2      web-12  unhealthy  2.3.0    change
  1/2      web-01  old        2.3.0    change
  2/2      web-02  old        nothing  install
  2/2      web-07  current    2.3.1    same
  absent   web-31  unknown    2.3.0    change

  nodes     5 expected: 3 to change, 1 already there, 1 absent
  segments  2 → 2, 2 nodes
  order     by name
  failures  0 allowed, then roll back, newest segment first
  bake      1m per segment
  release   3 files, 31.0 MB
  warn      drift on web-12: 2 files that this deployment overwrites

Plan: 3 nodes to change in 2 segments.
"
        );
    }

    #[test]
    fn a_plan_shows_its_rules_and_what_forbids_it() {
        let plan = v1::Plan {
            id: "p-3f9a".into(),
            parallel: "25%".into(),
            floor: 3,
            serving: 4,
            min_healthy: "60%".into(),
            on_failure: "pause".into(),
            gates: vec!["test: 'tests/smoke.sh' where fleetctl watches".into()],
            pause_after: vec![1, 2],
            migration: "migrate: 'bin/shop migrate' once, before segment 1".into(),
            waivers: halted().waivers,
            confirm_ms: 30_000,
            warnings: vec![],
            refused: "web-31 is unreachable for 12m".into(),
            blocks: vec![
                v1::PlanBlock {
                    node: "web-31".into(),
                    why: "unreachable for 12m".into(),
                    help: "bring it back, or: --waive web-31=REASON".into(),
                },
                v1::PlanBlock {
                    node: String::new(),
                    why: "2.3.1 was rolled back by d-1".into(),
                    help: "--again".into(),
                },
            ],
            ..plan()
        };
        let text = render(&plan, Zone::Utc, Glyphs::Unicode);
        let (_, rules) = text.split_once("  order     by name\n").unwrap_or_default();
        assert_eq!(
            rules,
            "  at once   25%
  capacity  never fewer than 3 of 5 serving (--min-healthy 60%), 4 serve now
  failures  0 allowed, then halt and wait for a person
  bake      1m per segment
  gate      test: 'tests/smoke.sh' where fleetctl watches
  pause     after segments 1, 2, until it is promoted
  migration migrate: 'bin/shop migrate' once, before segment 1
  confirm   an agent that is not confirmed within 30s undoes its switch
  release   3 files, 31.0 MB
  waived    n8  disk, OPS-12 (by alice, until 2026-11-22 09:14)
  fail      web-31 unreachable for 12m   → bring it back, or: --waive web-31=REASON
  fail      2.3.1 was rolled back by d-1   → --again

Plan: 3 nodes to change in 2 segments.
Saved as p-3f9a.  Run exactly this:  fleetctl deploy --plan p-3f9a
"
        );
    }

    #[test]
    fn kept_plans_are_listed() {
        let kept = |id: &str| v1::Plan { id: id.into(), made_at_ms: START, actor: "alice".into(), ..plan() };
        let stale = v1::Plan { refused: "bob deploys d-9z".into(), ..kept("p-1111") };
        let blocked = v1::Plan { blocks: vec![v1::PlanBlock::default()], ..kept("p-2222") };
        assert_eq!(
            list_kept(&[kept("p-3f9a"), stale, blocked], Zone::Utc),
            "ID      MADE              SERVICE  ENV   VERSION  CHANGES  BY     STATE
p-3f9a  2026-11-21 09:14  shop     prod  2.3.1    3 nodes  alice  ready
p-1111  2026-11-21 09:14  shop     prod  2.3.1    3 nodes  alice  refused: bob deploys d-9z
p-2222  2026-11-21 09:14  shop     prod  2.3.1    3 nodes  alice  1 block
"
        );
        assert!(list_kept(&[], Zone::Utc).contains("plan --keep"));
    }
}
