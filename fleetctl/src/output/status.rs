//! The state of every service, and one deployment in detail, for people.

use fleet_proto::v1;

use super::frame;
use super::holds;
use super::lines;
use super::screen::{Glyphs, Screen};
use super::table::Columns;
use super::tally;
use super::text::{age_at, count, or_dash, plain, rfc3339};

/// Every service: what it should run, on how many nodes that is proven, and its last deployment.
pub fn services(reply: &v1::StatusReply, now_ms: i64, glyphs: Glyphs) -> String {
    let mut rows = Columns::new(&["SERVICE", "ENV", "VERSION", "NODES", "STATE", "SINCE", "BY", "LAST DEPLOYMENT"]);
    for service in &reply.services {
        let state = match (service.state.as_str(), service.findings) {
            ("drifted", n) => format!("drifted ({n})"),
            ("mixed", _) => "mixed (!)".to_owned(),
            (state, _) => state.to_owned(),
        };
        let (since, by, last) = match &service.last {
            Some(last) => (
                age_at(now_ms, last.finished_at_ms.unwrap_or(last.started_at_ms)),
                last.started_by.clone(),
                brief(last, glyphs),
            ),
            None => ("-".to_owned(), "-".to_owned(), "-".to_owned()),
        };
        rows.row([
            service.service.clone(),
            or_dash(&service.environment),
            or_dash(&service.version),
            format!("{}/{}", service.nodes_proven, service.nodes_expected),
            state,
            since,
            or_dash(&by),
            last,
        ]);
    }
    let nodes = format!("{}: {} ready\n", count(reply.nodes as usize, "node"), reply.nodes_ready);
    if rows.is_empty() {
        format!("no service has been deployed yet\n{nodes}")
    } else {
        format!("{}{nodes}", rows.to_text())
    }
}

fn brief(last: &v1::Deployment, glyphs: Glyphs) -> String {
    let outcome = match (last.outcome.as_str(), last.segment) {
        ("", Some(segment)) => {
            // The phase where it is more than moving: somebody may have to do something.
            let phase = match last.phase.as_str() {
                phase @ ("halted" | "paused") => format!("{phase}, "),
                _ => String::new(),
            };
            format!("{phase}segment {}/{} {} {}", segment + 1, last.segments.len(), glyphs.to(), tally::version(last))
        }
        ("", None) => format!("{} {} {}", last.phase, glyphs.to(), tally::version(last)),
        (outcome, _) => outcome.replace('-', " "),
    };
    format!("{} {outcome}", last.id)
}

/// One deployment: its head, its segments, its nodes, and how it ended or what it waits for.
pub fn deployment(deployment: &v1::Deployment, now_ms: i64, screen: &Screen) -> String {
    let mut text = frame::head(deployment, screen.glyphs) + "\n";
    text += &format!(
        "{}   {} by {}, started {}",
        plain(&deployment.id),
        plain(&deployment.kind),
        or_dash(&deployment.started_by),
        rfc3339(deployment.started_at_ms)
    );
    if !deployment.message.is_empty() {
        text += &format!("   \"{}\"", plain(&deployment.message));
    }
    for (what, value) in [("plan", &deployment.plan), ("supersedes", &deployment.supersedes)] {
        if !value.is_empty() {
            text += &format!("   {what} {}", plain(value));
        }
    }
    text += "\n\n";
    let until = deployment.finished_at_ms.unwrap_or(now_ms);
    for line in frame::frame(deployment, until, screen.glyphs, usize::MAX) {
        text += &line;
        text.push('\n');
    }
    for line in holds::waivers(&deployment.waivers, screen.zone) {
        text += &format!("{line}\n");
    }
    text.push('\n');
    let mut rows = Columns::new(&["NODE", "SEGMENT", "STATE", "HOLDS", "GRADE", "SINCE", "DETAIL"]);
    for node in tally::everyone(deployment) {
        let joined = deployment.joined.iter().any(|j| j.node == node.node);
        let segment = match tally::segment_of(deployment, &node.node) {
            Some(segment) => (segment + 1).to_string(),
            None if joined => "joined".to_owned(),
            None => "absent".to_owned(),
        };
        let since = if node.since_ms > 0 { age_at(now_ms, node.since_ms) } else { "-".to_owned() };
        rows.row([
            node.node.clone(),
            segment,
            or_dash(&node.state),
            or_dash(&node.holds),
            or_dash(&node.grade),
            since,
            node.detail.clone(),
        ]);
    }
    text += &rows.to_text();
    if !deployment.outcome.is_empty() {
        text += &format!("\n{}   (exit {})\n", lines::outcome_sentence(deployment), deployment.exit_code);
        if !deployment.cause.is_empty() {
            text += &format!("cause: {}\n", plain(&deployment.cause));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::samples::{START, finished, halted, rolling};
    use crate::output::screen::{Colour, Verbosity};
    use crate::output::text::Zone;
    use fleet::Outcome;

    #[test]
    fn one_deployment_says_what_keeps_it_and_who_is_excepted() {
        let screen =
            Screen { colour: Colour::Off, glyphs: Glyphs::Unicode, verbosity: Verbosity::Normal, zone: Zone::Utc };
        let mut halted = halted();
        halted.plan = "p-3f9a".into();
        let text = deployment(&halted, START + 153_000, &screen);
        assert_eq!(
            text,
            "shop 2.3.0 → 2.3.1   9 nodes   4 segments   2 at a time   bake 1m   on failure: roll back   only role=web
d-7k2m4   rollout by alice, started 2026-11-21T09:14:03Z   plan p-3f9a

  segment 1/4  ██████████    2/2   1m42s   ok, baked 1m
  segment 2/4  ░░░░░░░░░░    0/2           pending
  segment 3/4  ░░░░░░░░░░    0/2           pending
  segment 4/4  ░░░░░░░░░░    0/2           pending
  joined       n9  ordered at the end
  HALTED    it waits to be promoted after segment 1
            fleetctl promote d-7k2m4, or fleetctl abort d-7k2m4 (within 23h)
  serving 7 of 9, never fewer than 6 · 1 on nothing, 2 on 2.3.1, 6 on 2.3.0 · 2m33s
  waived    n8  disk, OPS-12 (by alice, until 2026-11-22 09:14)

NODE  SEGMENT  STATE    HOLDS  GRADE   SINCE  DETAIL
n1    1        proven   2.3.1  digest  2m
n2    1        proven   2.3.1  digest  2m
n3    2        pending  2.3.0  -       2m
n4    2        pending  2.3.0  -       2m
n5    3        pending  2.3.0  -       2m
n6    3        pending  2.3.0  -       2m
n7    4        pending  2.3.0  -       2m
n8    4        pending  2.3.0  -       2m
n9    joined   pending  -      -       2m
"
        );
        let mut last = halted;
        last.segment = Some(1);
        assert_eq!(brief(&last, Glyphs::Unicode), "d-7k2m4 halted, segment 2/4 → 2.3.1");
    }

    #[test]
    fn services_in_one_glance() {
        let service = |service: &str, state: &str, findings, last| v1::ServiceStatus {
            service: service.into(),
            environment: "prod".into(),
            version: "2.3.0".into(),
            release: "r-9f2c1e7ab310".into(),
            nodes_proven: 7,
            nodes_expected: 8,
            state: state.into(),
            findings,
            last,
        };
        let reply = v1::StatusReply {
            services: vec![
                service("shop", "deploying", 0, Some(rolling())),
                service("billing", "mixed", 1, Some(finished(Outcome::Unproven, "verified", "1"))),
                service("search", "drifted", 2, None),
            ],
            nodes: 8,
            nodes_ready: 7,
        };
        assert_eq!(
            services(&reply, START + 400_000, Glyphs::Unicode),
            "SERVICE  ENV   VERSION  NODES  STATE        SINCE  BY     LAST DEPLOYMENT
shop     prod  2.3.0    7/8    deploying    6m     alice  d-7k2m4 segment 2/4 → 2.3.1
billing  prod  2.3.0    7/8    mixed (!)    62s    alice  d-7k2m4 unproven
search   prod  2.3.0    7/8    drifted (2)  -      -      -
8 nodes: 7 ready
"
        );
    }
}
