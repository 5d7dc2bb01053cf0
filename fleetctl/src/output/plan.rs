//! What a deployment would do, for people.

use fleet_proto::v1;

use super::screen::Glyphs;
use super::table::Columns;
use super::text::{count, plain, size};

/// The plan as text.
pub fn render(plan: &v1::Plan, glyphs: Glyphs) -> String {
    let release = plan.release.clone().unwrap_or_default();
    let arrow = glyphs.to();
    let planned: Vec<&v1::PlanNode> = plan.segments.iter().flat_map(|s| &s.nodes).collect();
    let mut from: Vec<&str> =
        planned.iter().map(|n| n.from_version.as_str()).filter(|v| !v.is_empty() && *v != release.version).collect();
    from.sort_unstable();
    from.dedup();
    let change = if from.is_empty() {
        release.version.clone()
    } else {
        format!("{} {arrow} {}", from.join(", "), release.version)
    };
    let mut text =
        plain(&format!("{}   {change}   {}   {}", plan.service, release.id, plan.environment)).trim_end().to_owned()
            + "\n\n";

    let mut rows = Columns::new(&["SEGMENT", "NODE", "FROM", "CHANGE", "NOTE"]);
    for (index, segment) in plan.segments.iter().enumerate() {
        for node in &segment.nodes {
            rows.row(cells(&format!("{}/{}", index + 1, plan.segments.len()), node));
        }
    }
    for node in &plan.absent {
        rows.row(cells("absent", node));
    }
    if !rows.is_empty() {
        for line in rows.to_text().lines() {
            text += &format!("  {line}\n");
        }
        text += "\n";
    }

    let sizes: Vec<String> = plan.segments.iter().map(|s| s.nodes.len().to_string()).collect();
    let total = planned.len() + plan.absent.len();
    text += &format!(
        "  nodes     {total} expected: {} to change, {} already there, {} absent\n",
        plan.to_change,
        planned.len().saturating_sub(plan.to_change as usize),
        plan.absent.len()
    );
    text += &format!("  segments  {} {arrow} {} nodes\n", plan.segments.len(), sizes.join(", "));
    if !plan.order.is_empty() {
        text += &format!("  order     {}\n", plain(&plan.order));
    }
    let on_failure = if plan.on_failure == "stop" {
        "stop and leave everything as it is"
    } else {
        "roll back, newest segment first"
    };
    text += &format!("  failures  {} allowed, then {on_failure}\n", plain(&plan.max_failures));
    text += &format!("  bake      {} per segment\n", fleet::Millis(plan.bake_ms));
    text += &format!("  release   {}, {}\n", count(release.files as usize, "file"), size(release.bundle_size));
    for warning in &plan.warnings {
        text += &format!("  warn      {}\n", plain(warning));
    }
    if !plan.refused.is_empty() {
        text += &format!("  refused   {}\n", plain(&plan.refused));
    }
    text += &format!(
        "\nPlan: {} to change in {}.\n",
        count(plan.to_change as usize, "node"),
        count(plan.segments.len(), "segment")
    );
    text
}

fn cells(segment: &str, node: &v1::PlanNode) -> [String; 5] {
    let from = if node.from_version.is_empty() { "nothing".to_owned() } else { node.from_version.clone() };
    [segment.to_owned(), node.node.clone(), from, node.change.clone(), node.note.clone()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::samples::release;

    #[test]
    fn a_plan_names_every_node_and_what_happens_to_it() {
        let node = |name: &str, from: &str, change: &str| v1::PlanNode {
            node: name.into(),
            from_version: from.into(),
            from_release: String::new(),
            change: change.into(),
            note: String::new(),
        };
        let plan = v1::Plan {
            service: "shop".into(),
            environment: "prod".into(),
            release: Some(release("2.3.1")),
            segments: vec![
                v1::PlanSegment { nodes: vec![node("web-01", "2.3.0", "update"), node("web-07", "2.3.1", "none")] },
                v1::PlanSegment { nodes: vec![node("web-12", "", "install")] },
            ],
            absent: vec![node("web-31", "2.3.0", "update")],
            order: "by name".into(),
            max_failures: "0".into(),
            bake_ms: 60_000,
            on_failure: "rollback".into(),
            to_change: 2,
            refused: String::new(),
            warnings: vec!["drift on web-12: 2 files that this deployment overwrites".into()],
        };
        assert_eq!(
            render(&plan, Glyphs::Unicode),
            "shop   2.3.0 → 2.3.1   r-9f2c1e7ab310   prod

  SEGMENT  NODE    FROM     CHANGE   NOTE
  1/2      web-01  2.3.0    update
  1/2      web-07  2.3.1    none
  2/2      web-12  nothing  install
  absent   web-31  2.3.0    update

  nodes     4 expected: 2 to change, 1 already there, 1 absent
  segments  2 → 2, 1 nodes
  order     by name
  failures  0 allowed, then roll back, newest segment first
  bake      1m per segment
  release   3 files, 31.0 MB
  warn      drift on web-12: 2 files that this deployment overwrites

Plan: 2 nodes to change in 2 segments.
"
        );
    }
}
