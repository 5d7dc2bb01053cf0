//! The self-test of the alarm: a decoy of old code is planted on a node that volunteers, and its finding is required in
//! time, and its closing when it is gone. The decoy is found and judged like everything else; only here is it known that
//! nobody need be called. Who is tested and what is said to agents is the controller's.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::drift::{Comparison, FindingKey, Kind};
use crate::evidence::{Process, ServiceEvidence};
use crate::{Digest, Millis, NodeName, ReleaseId, ServiceName, Timestamp};

/// Ages are counted in ticks of a hundredth of a second and read a moment apart.
const ROUNDING: Millis = Millis(1_000);

/// A process that was planted, as the agent said when it had planted it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decoy {
    /// Under whose name.
    pub service: ServiceName,
    /// Of which release.
    pub release: ReleaseId,
    /// Its number.
    pub pid: u32,
    /// How long its machine was up when it began.
    pub born: Millis,
    /// What it executes, if that was made for this test.
    pub made: Option<Digest>,
}

/// What an agent says of a decoy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Of which self-test.
    pub test: String,
    /// What became of it.
    pub state: State,
}

/// What became of a decoy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It stands.
    Planted(Decoy),
    /// It could not be planted; why.
    Refused(String),
    /// It is gone.
    Removed,
}

impl Decoy {
    /// Whether this is that very process, and no other with its number.
    fn is(&self, process: &Process, up: Option<Millis>) -> bool {
        let born = up.map(|up| up.0.saturating_sub(process.age.0));
        process.pid == self.pid && born.is_some_and(|born| born.abs_diff(self.born.0) <= ROUNDING.0)
    }

    /// The evidence as it would be without the decoy; None when it does not show it. Everything else stays, real old
    /// code among it.
    pub fn taken_out(&self, evidence: &ServiceEvidence, up: Option<Millis>) -> Option<ServiceEvidence> {
        if evidence.service != self.service || !evidence.processes.iter().any(|process| self.is(process, up)) {
            return None;
        }
        let mut without = evidence.clone();
        without.processes.retain(|process| !self.is(process, up));
        Some(without)
    }
}

/// What was found of a decoy: what is found with it and not without it.
pub fn owed_to_decoy(with: &Comparison, without: &Comparison) -> BTreeSet<FindingKey> {
    let counted: BTreeSet<&FindingKey> = without.findings.iter().map(|finding| &finding.key).collect();
    with.findings.iter().map(|finding| &finding.key).filter(|key| !counted.contains(key)).cloned().collect()
}

/// How a self-test ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The alarm fired in time, and fell silent again.
    Passed,
    /// It did not: whatever it watches is not watched.
    Failed,
    /// It could not be tried, or was interrupted: nobody knows whether it works.
    Unknown,
}

impl Verdict {
    /// The word used on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
        }
    }
}

/// A self-test that is over, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// Where; None when there was no node to try it on.
    pub node: Option<NodeName>,
    /// When it began.
    pub at: Timestamp,
    /// Who wanted it.
    pub by: String,
    /// How it ended.
    pub verdict: Verdict,
    /// What happened, for people.
    pub detail: String,
    /// How long each half might take.
    pub deadline: Millis,
    /// From the wish until the finding was in the ledger.
    pub found_after: Option<Millis>,
    /// From the finding, when the decoy was sent away, until the finding was closed.
    pub closed_after: Option<Millis>,
}

/// How far a self-test is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Stage {
    /// The agent was asked for a decoy.
    Asked,
    /// It stands.
    Planted(Decoy),
    /// It was found, and sent away.
    Found { decoy: Decoy, at: Timestamp },
}

/// A self-test at work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SelfTest {
    /// Its id, by which the agent's answers name it.
    pub id: String,
    /// Where.
    pub node: NodeName,
    at: Timestamp,
    by: String,
    deadline: Millis,
    stage: Stage,
    /// What it was taken for, if not for old code.
    mistaken: Option<Kind>,
}

impl SelfTest {
    /// An agent is asked for a decoy.
    pub fn begin(id: String, node: NodeName, by: String, deadline: Millis, at: Timestamp) -> Self {
        Self { id, node, at, by, deadline, stage: Stage::Asked, mistaken: None }
    }

    /// The decoy stands. A second answer changes nothing.
    pub fn planted(&mut self, decoy: Decoy) {
        if self.stage == Stage::Asked {
            self.stage = Stage::Planted(decoy);
        }
    }

    /// The ledger says these of the decoy now. True when it is to be sent away: it was found.
    pub fn seen(&mut self, open: &BTreeSet<FindingKey>, now: Timestamp) -> bool {
        let Stage::Planted(decoy) = &self.stage else { return false };
        if !open.iter().any(|key| key.kind == Kind::OldProcess) {
            self.mistaken = open.first().map(|key| key.kind).or(self.mistaken);
            return false;
        }
        self.stage = Stage::Found { decoy: decoy.clone(), at: now };
        true
    }

    /// The ledger says nothing of the decoy any more: the end, if it was found before.
    pub fn silent(&self, now: Timestamp) -> Option<Outcome> {
        let Stage::Found { decoy, at } = &self.stage else { return None };
        let (found, closed) = (at.since(self.at), now.since(*at));
        let detail = format!("{} was found after {found}; its finding was closed {closed} later", self.describe(decoy));
        Some(Outcome { closed_after: Some(closed), ..self.end(Verdict::Passed, detail) })
    }

    /// It is late: the end, if its time is up.
    pub fn late(&self, now: Timestamp) -> Option<Outcome> {
        let deadline = self.deadline;
        match &self.stage {
            Stage::Asked if now.since(self.at) > deadline => {
                let detail = format!("its agent planted no decoy within {deadline}");
                Some(self.end(Verdict::Unknown, detail))
            }
            Stage::Planted(decoy) if now.since(self.at) > deadline => {
                let detail = match self.mistaken {
                    Some(kind) => {
                        format!(
                            "{} was taken for '{kind}' and not for old code within {deadline}",
                            self.describe(decoy)
                        )
                    }
                    None => format!("{} was not found within {deadline}: the alarm is broken", self.describe(decoy)),
                };
                Some(self.end(Verdict::Failed, detail))
            }
            Stage::Found { decoy, at } if now.since(*at) > deadline => {
                let detail = format!(
                    "{} was found after {}, and its finding was still open {deadline} after it was sent away",
                    self.describe(decoy),
                    at.since(self.at)
                );
                Some(self.end(Verdict::Failed, detail))
            }
            Stage::Asked | Stage::Planted(_) | Stage::Found { .. } => None,
        }
    }

    /// It cannot go on.
    pub fn interrupted(&self, why: &str) -> Outcome {
        self.end(Verdict::Unknown, why.to_owned())
    }

    /// The decoy, once it is known.
    pub fn decoy(&self) -> Option<&Decoy> {
        match &self.stage {
            Stage::Asked => None,
            Stage::Planted(decoy) | Stage::Found { decoy, .. } => Some(decoy),
        }
    }

    fn describe(&self, decoy: &Decoy) -> String {
        let made = if decoy.made.is_some() { "made old code" } else { "old code" };
        format!("the decoy (pid {}, {made} {} of {})", decoy.pid, decoy.release, decoy.service)
    }

    fn end(&self, verdict: Verdict, detail: String) -> Outcome {
        let found_after = match &self.stage {
            Stage::Found { at, .. } => Some(at.since(self.at)),
            Stage::Asked | Stage::Planted(_) => None,
        };
        Outcome {
            node: Some(self.node.clone()),
            at: self.at,
            by: self.by.clone(),
            verdict,
            detail,
            deadline: self.deadline,
            found_after,
            closed_after: None,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn decoy() -> Decoy {
        Decoy {
            service: "web".parse().unwrap(),
            release: "r-aaaaaaaaaaaa".parse().unwrap(),
            pid: 7,
            born: Millis(50_000),
            made: None,
        }
    }

    fn begun() -> SelfTest {
        let mut test =
            SelfTest::begin("t".into(), "n1".parse().unwrap(), "admin".into(), Millis(10_000), Timestamp(1_000));
        test.planted(decoy());
        test
    }

    fn open(kind: Kind) -> BTreeSet<FindingKey> {
        let (node, service) = ("n1".parse().unwrap(), Some("web".parse().unwrap()));
        BTreeSet::from([FindingKey { node, service, kind, what: "pid 7 decoy".into() }])
    }

    fn evidence(processes: &[(u32, u64)]) -> ServiceEvidence {
        let process = |(pid, age): &(u32, u64)| {
            serde_json::json!({
                "pid": pid, "parentage": "stray", "age": age, "mappings": [], "outside": 0, "marker": null,
                "cwd": null, "started": "unknown", "command": "decoy", "executable":
                    {"path": "/x", "digest": null, "release": null, "place": "outside", "link": "deleted"},
            })
        };
        serde_json::from_value(serde_json::json!({
            "service": "web", "generation": 1, "progress": {"state": "held"}, "current": null, "files": [],
            "files_omitted": 0, "compared": null, "health": {"state": "healthy"},
            "processes": processes.iter().map(process).collect::<Vec<_>>(),
        }))
        .unwrap()
    }

    #[test]
    fn found_and_closed_in_time_is_passed() {
        let mut test = begun();
        assert!(!test.seen(&BTreeSet::new(), Timestamp(2_000)) && test.silent(Timestamp(2_000)).is_none());
        assert!(test.seen(&open(Kind::OldProcess), Timestamp(3_500)), "it is sent away");
        assert!(!test.seen(&open(Kind::OldProcess), Timestamp(3_600)), "once");
        assert_eq!(test.late(Timestamp(13_500)), None);
        let outcome = test.silent(Timestamp(5_000)).unwrap();
        assert_eq!(
            (outcome.verdict, outcome.found_after, outcome.closed_after),
            (Verdict::Passed, Some(Millis(2_500)), Some(Millis(1_500)))
        );
    }

    #[test]
    fn not_found_found_as_something_else_and_never_closed_are_failed() {
        let mut test = begun();
        assert_eq!(test.late(Timestamp(11_000)), None);
        let outcome = test.late(Timestamp(11_001)).unwrap();
        assert!(outcome.verdict == Verdict::Failed && outcome.detail.contains("not found"), "{outcome:?}");
        assert!(!test.seen(&open(Kind::Process), Timestamp(2_000)));
        assert!(test.late(Timestamp(11_001)).unwrap().detail.contains("taken for 'process'"));
        assert!(test.seen(&open(Kind::OldProcess), Timestamp(2_000)));
        let outcome = test.late(Timestamp(12_001)).unwrap();
        assert!(outcome.verdict == Verdict::Failed && outcome.detail.contains("still open"), "{outcome:?}");
        assert_eq!(outcome.found_after, Some(Millis(1_000)));
    }

    #[test]
    fn what_could_not_be_tried_is_not_known() {
        let test = SelfTest::begin("t".into(), "n1".parse().unwrap(), "a".into(), Millis(10), Timestamp(0));
        assert_eq!(test.late(Timestamp(11)).unwrap().verdict, Verdict::Unknown);
        assert_eq!(begun().interrupted("gone").verdict, Verdict::Unknown);
    }

    #[test]
    fn only_the_very_process_is_taken_out() {
        let up = Some(Millis(60_000));
        let seen = evidence(&[(7, 10_200), (8, 10_200)]);
        assert_eq!(decoy().taken_out(&seen, up), Some(evidence(&[(8, 10_200)])));
        assert_eq!(decoy().taken_out(&evidence(&[(7, 8_900)]), up), None, "another process with its number");
        assert_eq!(decoy().taken_out(&evidence(&[(8, 10_000)]), up), None);
        assert_eq!(decoy().taken_out(&seen, None), None, "nobody can say whether it is the same");
    }
}
