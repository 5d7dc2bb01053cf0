//! Nodes, for people.

use std::collections::BTreeMap;

use fleet_proto::v1;

use super::drift;
use super::table::Columns;
use super::text::{age, age_at, count, elapsed, or_dash, plain, rfc3339};
use super::verify;

/// How much the list shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// What fits a terminal.
    Brief,
    /// Labels, origins and certificates too.
    Wide,
}

/// The time to reckon ages with: the local clock, but never before the newest contact the controller knows of.
/// The controller does not say what time it is; a clock behind it must not make every node look just seen.
pub fn now_for(nodes: &[v1::Node], local_ms: i64) -> i64 {
    nodes.iter().filter_map(|n| n.last_contact_ms).fold(local_ms, i64::max)
}

/// The nodes, and how many are in which state.
pub fn list(nodes: &[v1::Node], now_ms: i64, detail: Detail) -> String {
    if nodes.is_empty() {
        return "no nodes: make a token with 'fleetctl tokens create', then 'fleet-agent join' on the node\n"
            .to_owned();
    }
    let mut header = vec!["NAME", "STATE", "SERVICES", "DRIFT", "AGENT", "SEEN", "OBSERVED"];
    if detail == Detail::Wide {
        header.extend(["LABELS", "ORIGIN", "CERTIFICATE UNTIL"]);
    }
    let mut rows = Columns::new(&header);
    for node in nodes {
        let seen = |ms: Option<i64>| ms.map_or_else(|| "never".to_owned(), |ms| age_at(now_ms, ms));
        let blind = matches!(node.state.as_str(), "unreachable" | "unmanaged");
        let findings = match node.findings {
            // Of a silent node nothing is known, and nothing is claimed.
            _ if blind => "?".to_owned(),
            0 => "-".to_owned(),
            n => n.to_string(),
        };
        let mut cells = vec![
            node.name.clone(),
            node.state.clone(),
            services(node, blind),
            findings,
            or_dash(&node.agent_version),
            seen(node.last_contact_ms),
            seen(node.last_observation_ms),
        ];
        if detail == Detail::Wide {
            let labels: BTreeMap<&String, &String> = node.labels.iter().collect();
            let labels: Vec<String> = labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
            cells.extend([
                or_dash(&labels.join(",")),
                or_dash(&node.origins.join(",")),
                node.certificate_not_after_ms.map_or_else(|| "-".to_owned(), rfc3339),
            ]);
        }
        rows.row(cells);
    }
    format!("{}{}\n", rows.to_text(), summary(nodes))
}

fn services(node: &v1::Node, blind: bool) -> String {
    let mark = if blind { "?" } else { "" };
    let list: Vec<String> = node
        .services
        .iter()
        .map(|s| format!("{} {}{mark}", s.service, if s.version.is_empty() { "-" } else { &s.version }))
        .collect();
    or_dash(&list.join(", "))
}

fn summary(nodes: &[v1::Node]) -> String {
    let mut states: BTreeMap<&str, usize> = BTreeMap::new();
    for node in nodes {
        *states.entry(node.state.as_str()).or_default() += 1;
    }
    // Ready first, as the documentation shows; the others by name.
    let ready = states.remove("ready").unwrap_or(0);
    let mut parts = vec![format!("{ready} ready")];
    parts.extend(states.iter().map(|(state, n)| format!("{n} {}", plain(state))));
    format!("{}: {}", count(nodes.len(), "node"), parts.join(", "))
}

/// One node in full: both clocks, its services, its findings, its proofs.
pub fn show(reply: &v1::GetNodeReply, now_ms: i64) -> String {
    let node = reply.node.clone().unwrap_or_default();
    let mut rows = Columns::new(&[]);
    let mut line = |name: &str, value: String| rows.row([name.to_owned(), value]);
    let ago = |ms: Option<i64>| {
        ms.map_or_else(|| "never".to_owned(), |ms| format!("{} ({} ago)", rfc3339(ms), age(elapsed(now_ms, ms))))
    };
    let labels: BTreeMap<&String, &String> = node.labels.iter().collect();
    line("name", node.name.clone());
    line("state", node.state.clone());
    line("labels", or_dash(&labels.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(" ")));
    line("known from", or_dash(&node.origins.join(", ")));
    line("agent", or_dash(&node.agent_version));
    line("last contact", ago(node.last_contact_ms));
    line("last observation", ago(node.last_observation_ms));
    line(
        "certificate",
        format!(
            "{} until {}",
            or_dash(&node.certificate_serial),
            node.certificate_not_after_ms.map_or_else(|| "-".to_owned(), rfc3339)
        ),
    );
    let mut text = rows.to_rows("");
    if !node.services.is_empty() {
        let mut rows = Columns::new(&["SERVICE", "VERSION", "RELEASE", "STATE", "GRADE", "GENERATION", "DESIRED"]);
        for s in &node.services {
            let desired =
                if s.desired_version.is_empty() { s.desired_release.clone() } else { s.desired_version.clone() };
            rows.row([
                s.service.clone(),
                or_dash(&s.version),
                or_dash(&s.release),
                s.state.clone(),
                or_dash(&s.grade),
                s.generation.to_string(),
                or_dash(&desired),
            ]);
        }
        text.push('\n');
        text += &rows.to_text();
    }
    for seen in &reply.seen {
        text.push('\n');
        text += &seen_of(seen);
    }
    if !reply.proofs.is_empty() {
        text.push('\n');
        text += &verify::proofs(&reply.proofs);
    }
    if !reply.findings.is_empty() {
        text.push('\n');
        text += &drift::findings(&reply.findings, now_ms);
    }
    text
}

/// What the last statement about a service rests on, and the code in its processes that no release brought: its digests
/// are what `proof: pin:` in fleet.yaml takes.
fn seen_of(seen: &v1::Seen) -> String {
    let since = |age_ms: Option<u64>| age_ms.map_or_else(|| "never".to_owned(), |ms| format!("{} before", age(ms)));
    let swept = Some(seen.swept_ms).filter(|ms| *ms != u64::MAX);
    let mut text = format!(
        "{}: files told by {}, all looked at {}, all read {}; {}\n",
        plain(&seen.service),
        plain(&seen.basis),
        since(swept),
        since(seen.hashed_ms),
        count(seen.processes as usize, "process")
    );
    if !seen.unwatched.is_empty() {
        text += &format!("  not watched, but looked at every time: {}\n", plain(&seen.unwatched));
    }
    if seen.hidden > 0 {
        text += &format!("  {} of other users may not be looked into\n", count(seen.hidden as usize, "process"));
    }
    if seen.outside.is_empty() {
        return text;
    }
    text += "  outside the release:\n";
    for file in &seen.outside {
        let digest = file.digest.as_deref().unwrap_or("unreadable");
        let gone = if file.deleted { " (deleted)" } else { "" };
        text += &format!("    {digest}  {}{gone}{}\n", plain(&file.path), brought_by(file));
    }
    if seen.outside_omitted > 0 {
        text += &format!("    and {} more\n", seen.outside_omitted);
    }
    text
}

/// The package that brought a file, as far as the node can tell.
fn brought_by(file: &v1::Mapped) -> String {
    match &file.package {
        None => String::new(),
        Some(package) if package.name.is_empty() => "  of no package".to_owned(),
        Some(package) => {
            let other = match package.intact {
                Some(true) => "",
                Some(false) => "other bytes than those ",
                None => "bytes that cannot be compared with those ",
            };
            format!("  {other}of {} {}", plain(&package.name), plain(&package.version))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::samples::START;

    pub(crate) fn node(name: &str, state: &str, version: &str, findings: u32, seen_s: i64) -> v1::Node {
        v1::Node {
            name: name.into(),
            state: state.into(),
            labels: [("role".to_owned(), "web".to_owned())].into(),
            origins: vec!["enrolled".into()],
            agent_version: "0.1.0".into(),
            last_contact_ms: Some(START - seen_s * 1_000),
            last_observation_ms: Some(START - seen_s * 1_000 - 3_000),
            services: vec![v1::NodeService {
                service: "shop".into(),
                version: version.into(),
                ..v1::NodeService::default()
            }],
            findings,
            ..v1::Node::default()
        }
    }

    #[test]
    fn what_a_silent_node_runs_is_marked_as_not_known() {
        let mut unmanaged = node("db-01", "unmanaged", "", 1, 0);
        unmanaged.services.clear();
        unmanaged.last_contact_ms = None;
        unmanaged.last_observation_ms = None;
        unmanaged.agent_version = String::new();
        let nodes = [
            node("web-01", "ready", "2.3.1", 0, 2),
            node("web-12", "drifted", "2.3.0", 2, 3),
            node("web-31", "unreachable", "2.3.0", 1, 720),
            unmanaged,
        ];
        assert_eq!(
            list(&nodes, START, Detail::Brief),
            "NAME    STATE        SERVICES     DRIFT  AGENT  SEEN   OBSERVED
web-01  ready        shop 2.3.1   -      0.1.0  2s     5s
web-12  drifted      shop 2.3.0   2      0.1.0  3s     6s
web-31  unreachable  shop 2.3.0?  ?      0.1.0  12m    12m
db-01   unmanaged    -            ?      -      never  never
4 nodes: 1 ready, 1 drifted, 1 unmanaged, 1 unreachable
"
        );
    }

    #[test]
    fn what_was_seen_of_a_service_is_told_with_what_may_be_pinned() {
        let digest = format!("sha256:{}", "ab".repeat(32));
        let package =
            |name: &str, intact| v1::Package { name: name.into(), version: "3.0.19-1".into(), intact: Some(intact) };
        let outside = |path: &str, deleted, package| v1::Mapped {
            path: path.into(),
            digest: Some(digest.clone()),
            deleted,
            package,
            ..v1::Mapped::default()
        };
        let seen = v1::Seen {
            service: "shop".into(),
            basis: "events".into(),
            swept_ms: 61_000,
            hashed_ms: None,
            processes: 2,
            hidden: 3,
            outside: vec![
                outside("/usr/lib/libc.so.6", false, None),
                outside("/usr/lib/libcrypto.so.3", false, Some(package("libssl3", true))),
                outside("/usr/lib/libssl.so.3", true, Some(package("libssl3", false))),
                outside("/tmp/hook.so", false, Some(package("", false))),
            ],
            outside_omitted: 1,
            ..v1::Seen::default()
        };
        assert_eq!(
            seen_of(&seen),
            format!(
                "shop: files told by events, all looked at 61s before, all read never; 2 processes
  3 processes of other users may not be looked into
  outside the release:
    {digest}  /usr/lib/libc.so.6
    {digest}  /usr/lib/libcrypto.so.3  of libssl3 3.0.19-1
    {digest}  /usr/lib/libssl.so.3 (deleted)  other bytes than those of libssl3 3.0.19-1
    {digest}  /tmp/hook.so  of no package
    and 1 more
"
            )
        );
    }

    #[test]
    fn a_slow_local_clock_does_not_hide_silence() {
        let nodes = [node("a", "ready", "1", 0, 0), node("b", "unreachable", "1", 0, 600)];
        let now = now_for(&nodes, START - 3_600_000);
        assert_eq!(age_at(now, nodes[1].last_contact_ms.unwrap_or_default()), "10m");
    }
}
