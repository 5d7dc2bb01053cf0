//! What keeps a running deployment: a gate that is asked, a halt, a pause, a wait; and the exceptions it runs with. The
//! same lines in the live view and in `status`.

use fleet_proto::v1;

use super::text::{Zone, minute, plain};

/// What it waits for and what a person can do about it; nothing once it has ended.
pub fn lines(deployment: &v1::Deployment) -> Vec<String> {
    if !deployment.outcome.is_empty() {
        return Vec::new();
    }
    let (id, within) = (&deployment.id, within(&deployment.waiting_on));
    let mut lines = Vec::new();
    if !deployment.halted.is_empty() {
        lines.push(format!("  HALTED    {}", deployment.halted));
        let retry = if can_retry(&deployment.halted) { " [--retry]" } else { "" };
        lines.push(format!("            fleetctl promote {id}{retry}, or fleetctl abort {id}{within}"));
    }
    if !deployment.paused_by.is_empty() {
        lines.push(format!("  PAUSED    by {}", deployment.paused_by));
        lines.push(format!("            fleetctl resume {id}, or fleetctl abort {id}{within}"));
    }
    // The sentences of these two say the same once more.
    let said = !deployment.halted.is_empty() || !deployment.paused_by.is_empty();
    if !said && !deployment.waiting_on.is_empty() {
        let word = if deployment.phase == "queued" { "queued  " } else { "waiting " };
        lines.push(format!("  {word}  {}", deployment.waiting_on));
    }
    lines.iter().map(|line| plain(line)).collect()
}

/// `(within 23h)`, as the sentence ends that says for how long a person is waited for.
fn within(waiting_on: &str) -> &str {
    match waiting_on.rfind(" (within ") {
        Some(at) if waiting_on.ends_with(')') => &waiting_on[at..],
        Some(_) | None => "",
    }
}

/// The nodes that need not be proven, each with who says so, why, and until when.
pub fn waivers(waivers: &[v1::Waiver], zone: Zone) -> Vec<String> {
    waivers
        .iter()
        .map(|w| {
            let by = if w.by.is_empty() { String::new() } else { format!("by {}, ", w.by) };
            plain(&format!("  waived    {}  {} ({by}until {})", w.node, w.reason, minute(w.until_ms, zone)))
        })
        .collect()
}

/// What halted it as it was asked to has nothing that could be tried again.
fn can_retry(halted: &str) -> bool {
    !halted.starts_with("it waits to be promoted")
}

/// A gate that is asked, in a few words.
pub fn gate_words(asked: &v1::GateAsked) -> String {
    use v1::gate::Source;
    let gate = asked.gate.clone().unwrap_or_default();
    let what = match gate.source {
        Some(Source::Test(test)) if test.from == "controller" => {
            format!(" ('{}' on the controller's host)", test.command)
        }
        Some(Source::Test(test)) => format!(" ('{}' where fleetctl watches)", test.command),
        Some(Source::Metric(metric)) => format!(" (the metric {})", metric.query),
        Some(Source::Approval(approval)) => format!(" ({} to approve)", approval.required),
        None => String::new(),
    };
    let again = match asked.asking.map_or(1, |a| a.attempt) {
        0 | 1 => String::new(),
        attempt => format!(", attempt {attempt}"),
    };
    plain(&format!("gate {}{what}{again}", gate.name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::samples::{finished, gate_asked, gating, halted};

    #[test]
    fn a_halt_says_what_can_be_done() {
        assert_eq!(
            lines(&halted()),
            [
                "  HALTED    it waits to be promoted after segment 1",
                "            fleetctl promote d-7k2m4, or fleetctl abort d-7k2m4 (within 23h)"
            ]
        );
        let mut failed = halted();
        failed.halted = "it failed: 1 failed, 0 allowed".into();
        assert!(lines(&failed)[1].contains("fleetctl promote d-7k2m4 [--retry]"));
        failed.paused_by = "bob".into();
        assert_eq!(
            lines(&failed)[2..],
            ["  PAUSED    by bob", "            fleetctl resume d-7k2m4, or fleetctl abort d-7k2m4 (within 23h)"]
        );
        assert!(lines(&finished(fleet::Outcome::Aborted, "proven", "2")).is_empty());
    }

    #[test]
    fn every_wait_has_its_sentence() {
        assert_eq!(
            lines(&gating()),
            ["  waiting   segment 2: an answer to the gate test ('tests/smoke.sh' where fleetctl watches), within 1m"]
        );
        let mut queued = gating();
        queued.phase = "queued".into();
        queued.waiting_on = "d-5c0ax of bob to end".into();
        assert_eq!(lines(&queued), ["  queued    d-5c0ax of bob to end"]);
    }

    #[test]
    fn gates_and_waivers_in_words() {
        assert_eq!(gate_words(&gate_asked()), "gate test ('tests/smoke.sh' where fleetctl watches)");
        let mut again = gate_asked();
        again.asking = Some(v1::GateAsking { segment: 1, gate: 0, attempt: 2 });
        assert!(gate_words(&again).ends_with(", attempt 2"));
        assert_eq!(
            waivers(&halted().waivers, Zone::Utc),
            ["  waived    n8  disk, OPS-12 (by alice, until 2026-11-22 09:14)"]
        );
    }
}
