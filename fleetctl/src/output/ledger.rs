//! The ledger of drift, what is accepted, what is ignored and what was repaired, for people.

use fleet_proto::v1;

use super::table::Columns;
use super::text::{Zone, count, minute, or_dash, plain};

/// The lines of the ledger, as they come: newest first.
pub fn lines(reply: &v1::ReadLedgerReply, zone: Zone) -> String {
    let kept = reply.kept_since_ms.map(|at| format!("; kept since {}", minute(at, zone))).unwrap_or_default();
    if reply.lines.is_empty() {
        return format!("nothing in the ledger{kept}\n");
    }
    let mut rows = Columns::new(&["WHEN", "ENTRY", "NODE", "SERVICE", "KIND", "WHAT", "FOUND", "BY", "WHY"]);
    for line in &reply.lines {
        rows.row([
            minute(line.at_ms, zone),
            line.entry.clone(),
            line.node.clone(),
            or_dash(&line.service),
            or_dash(&line.kind),
            or_dash(&line.what),
            or_dash(&line.found),
            or_dash(&line.by),
            or_dash(&line.why),
        ]);
    }
    rows.to_text() + &format!("{}{kept}\n", count(reply.lines.len(), "line"))
}

/// What is accepted.
pub fn acceptances(list: &[v1::Acceptance], zone: Zone) -> String {
    if list.is_empty() {
        return "nothing is accepted\n".to_owned();
    }
    let mut rows = Columns::new(&["NODE", "SERVICE", "KIND", "WHAT", "FOUND", "COVERS", "BY", "UNTIL", "REASON"]);
    for its in list {
        rows.row([
            its.node.clone(),
            or_dash(&its.service),
            its.kind.clone(),
            its.what.clone(),
            or_dash(&its.found),
            if its.covers { "yes" } else { "no" }.to_owned(),
            its.by.clone(),
            minute(its.until_ms, zone),
            its.reason.clone(),
        ]);
    }
    rows.to_text()
}

/// What is ignored.
pub fn rules(list: &[v1::IgnoreRule], zone: Zone) -> String {
    if list.is_empty() {
        return "nothing is ignored\n".to_owned();
    }
    let mut rows = Columns::new(&["SERVICE", "GLOB", "FILES", "BY", "SINCE", "REASON"]);
    for rule in list {
        rows.row([
            rule.service.clone(),
            rule.glob.clone(),
            rule.ignored.to_string(),
            rule.by.clone(),
            minute(rule.at_ms, zone),
            rule.reason.clone(),
        ]);
    }
    rows.to_text()
}

/// What a repair puts back, or did.
pub fn repair(repair: &v1::Repair) -> String {
    let verb = match repair.state.as_str() {
        "planned" => "would put back",
        "working" => "puts back",
        _ => "put back",
    };
    let mut text = String::new();
    for file in &repair.files {
        text += &format!("  {verb} {} ({})\n", plain(&file.path), plain(&file.kind));
    }
    let restart = match (repair.restarted, repair.state.as_str()) {
        _ if repair.files.is_empty() => "",
        (true, "planned") => "  would restart the service: it may have loaded what differs\n",
        (false, "planned") => "  would not restart the service: nothing that it can have loaded differs\n",
        (true, _) => "  restarted the service: it may have loaded what differed\n",
        (false, _) => "  did not restart the service: nothing that it can have loaded differed\n",
    };
    text += restart;
    for finding in &repair.left {
        let line = format!("left alone: {} {}: {}", finding.kind, finding.what, finding.found);
        text += &format!("  {}\n", plain(&line));
    }
    if !repair.left.is_empty() {
        text += "  processes are never killed here: look at each on the node (ps, systemctl), and end it there\n";
    }
    text
}

/// Repairs beside deployments, newest first.
pub fn repairs(list: &[v1::Repair], zone: Zone) -> String {
    let mut rows = Columns::new(&["ID", "WHEN", "SERVICE", "NODE", "RESULT", "BY", "NOTE"]);
    for its in list {
        rows.row([
            its.id.clone(),
            minute(its.started_at_ms, zone),
            its.service.clone(),
            its.node.clone(),
            its.state.clone(),
            or_dash(&its.by),
            its.detail.clone(),
        ]);
    }
    if rows.is_empty() { String::new() } else { format!("\nrepairs\n{}", rows.to_text()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::samples::START;

    #[test]
    fn a_ledger_says_who_and_why_and_how_far_back_it_goes() {
        let line = v1::LedgerLine {
            at_ms: START,
            entry: "closed".into(),
            node: "n1".into(),
            service: "shop".into(),
            kind: "mode".into(),
            what: "bin/\u{1b}shop".into(),
            why: "fixed".into(),
            ..v1::LedgerLine::default()
        };
        let reply = v1::ReadLedgerReply { lines: vec![line], made_at_ms: START, kept_since_ms: Some(START) };
        assert_eq!(
            lines(&reply, Zone::Utc),
            "WHEN              ENTRY   NODE  SERVICE  KIND  WHAT       FOUND  BY  WHY
2026-11-21 09:14  closed  n1    shop     mode  bin/\u{fffd}shop  -      -   fixed
1 line; kept since 2026-11-21 09:14
"
        );
        assert_eq!(lines(&v1::ReadLedgerReply::default(), Zone::Utc), "nothing in the ledger\n");
    }

    #[test]
    fn a_repair_says_what_it_does_and_what_it_leaves() {
        let file = v1::RepairedFile { path: "etc/shop.toml".into(), kind: "file".into() };
        let stray = v1::Finding {
            kind: "old-process".into(),
            what: "pid 7 shop".into(),
            found: "r-1 (2.2.9)".into(),
            ..v1::Finding::default()
        };
        let done = v1::Repair {
            state: "done".into(),
            files: vec![file],
            restarted: true,
            left: vec![stray],
            ..v1::Repair::default()
        };
        assert_eq!(
            repair(&done),
            "  put back etc/shop.toml (file)
  restarted the service: it may have loaded what differed
  left alone: old-process pid 7 shop: r-1 (2.2.9)
  processes are never killed here: look at each on the node (ps, systemctl), and end it there
"
        );
        let planned = repair(&v1::Repair { state: "planned".into(), restarted: false, left: vec![], ..done });
        assert!(planned.starts_with("  would put back ") && planned.contains("would not restart"), "{planned}");
    }
}
