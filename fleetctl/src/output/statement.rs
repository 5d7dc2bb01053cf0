//! Statements, for people: one in full, and many at a glance.

use fleet::statement::{Entry, NodeState, Occasion, Predicate, Verdict};
use fleet_proto::v1;

use super::drift;
use super::table::Columns;
use super::text::{Zone, count, minute, or_dash, plain, short_digest, size};
use crate::statement::Checked;

/// One statement that passed its check.
pub fn render(checked: &Checked) -> String {
    let stated = checked.predicate();
    let mut text = format!(
        "Statement {} of fleet {}, made at {}\n  {}\n  {}\n  signed by {}, certified by this fleet's authority; the time is the controller's own word\n\n",
        stated.sequence,
        plain(&stated.fleet),
        stated.made_at,
        checked.digest,
        plain(&occasion(stated)),
        checked.keyid,
    );
    let mut rows = Columns::new(&["NODE", "SERVICE", "VERSION", "RELEASE", "DIGEST", "GRADE", "STATE"]);
    for entry in &stated.nodes {
        rows.row(row(entry));
    }
    text += &if rows.is_empty() { "no node is expected\n".to_owned() } else { rows.to_text() };
    for waiver in &stated.waivers {
        text += &plain(&format!(
            "waiver: {} by {} until {}: {} ({})",
            waiver.node, waiver.by, waiver.until, waiver.reason, waiver.deployment
        ));
        text.push('\n');
    }
    let findings: Vec<_> = stated.findings.iter().map(finding).collect();
    if !findings.is_empty() {
        text.push('\n');
        text += &drift::findings(&findings, stated.made_at.timestamp().0);
    }
    text.push('\n');
    text + &ending(stated) + "\n"
}

/// What a statement comes to, in one line.
pub fn ending(stated: &Predicate) -> String {
    let proven = stated.nodes.iter().filter(|entry| is_proven(&entry.state)).count();
    let named = stated.nodes.len();
    let exit = stated.verdict.exit_code();
    match stated.verdict {
        Verdict::Proven => format!("{proven} of {named} proven, nothing found."),
        Verdict::ProvenWithWaivers => format!("{proven} of {named} proven, the others waived.   (exit {exit})"),
        Verdict::Differs => format!(
            "{proven} of {named} proven, {} stated.   (exit {exit})",
            count(stated.findings.len(), "difference")
        ),
        Verdict::Unknown => format!("UNKNOWN: no node proved anything.   (exit {exit})"),
    }
}

fn is_proven(state: &NodeState) -> bool {
    matches!(state, NodeState::Proven { .. } | NodeState::ProvenEmpty { .. } | NodeState::OnRecord { .. })
}

fn occasion(stated: &Predicate) -> String {
    match &stated.occasion {
        Occasion::Verification { actor, service: None, .. } => format!("{actor} asked every node"),
        Occasion::Verification { actor, service: Some(service), .. } => {
            format!("{actor} asked every node for {service}")
        }
        Occasion::Deployment {
            id, service, environment, direction, actor, outcome, cause, limit, approvals, ..
        } => {
            let mut text = format!("{direction} {id} of {service} in {environment} by {actor} ended {outcome}");
            if !cause.is_empty() {
                text += &format!(": {cause}");
            }
            if !limit.is_empty() {
                text += &format!("; limited to {limit}");
            }
            for approval in approvals {
                text += &format!("; {}", approval.what);
                text += &approval.by.as_ref().map(|by| format!(" by {by}")).unwrap_or_default();
            }
            text
        }
    }
}

fn row(entry: &Entry) -> [String; 7] {
    let (digest, grade, state) = match &entry.state {
        NodeState::Proven { grade, digest, .. } => (Some(digest), grade.as_str(), "proven".to_owned()),
        NodeState::OnRecord { grade, at } => (None, grade.as_str(), format!("proven at {at}, by the journal")),
        NodeState::ProvenEmpty { .. } => (None, "", "proven to run nothing of it".to_owned()),
        NodeState::Unproven { why } => (None, "", format!("NOT PROVEN: {why}")),
        NodeState::Waived { why } => (None, "", format!("waived: {why}")),
        NodeState::Unordered {} => (None, "", "nothing was ordered here".to_owned()),
        NodeState::Decommissioned { why } => (None, "", format!("decommissioned: {why}")),
    };
    let release = entry.expected.as_ref();
    let version = release.and_then(|release| release.version.as_ref()).map(ToString::to_string);
    [
        entry.node.to_string(),
        or_dash(entry.service.as_ref().map_or("", |service| service.as_str())),
        or_dash(&version.unwrap_or_default()),
        or_dash(release.map_or("", |release| release.id.as_str())),
        or_dash(&digest.map(|digest| short_digest(&digest.to_string())).unwrap_or_default()),
        or_dash(grade),
        state,
    ]
}

fn finding(found: &fleet::statement::Found) -> v1::Finding {
    v1::Finding {
        node: found.node.to_string(),
        service: found.service.as_ref().map(ToString::to_string).unwrap_or_default(),
        kind: found.kind.to_string(),
        what: found.what.clone(),
        expected: found.expected.clone(),
        found: found.found.clone(),
        since_ms: found.since.timestamp().0,
        severity: found.severity.as_str().into(),
        by: found.by.clone().unwrap_or_default(),
        changed_at_ms: found.changed_at.map(|at| at.timestamp().0),
    }
}

/// The statements that the controller keeps.
pub fn list(list: &[v1::StatementSummary], zone: Zone) -> String {
    if list.is_empty() {
        return "no statements\n".to_owned();
    }
    let mut rows = Columns::new(&["NUMBER", "WHEN", "OF", "VERDICT", "PROVEN", "SIZE", "BY", "DIGEST"]);
    for one in list {
        let of = match (one.occasion.as_str(), one.about.as_str()) {
            ("verification", "") => "verify".to_owned(),
            ("verification", service) => format!("verify {service}"),
            (_, about) => about.to_owned(),
        };
        rows.row([
            one.sequence.to_string(),
            minute(one.made_at_ms, zone),
            of,
            one.verdict.clone(),
            format!("{}/{}", one.proven, one.nodes),
            size(one.size),
            or_dash(&one.actor),
            short_digest(&one.digest),
        ]);
    }
    rows.to_text()
}
