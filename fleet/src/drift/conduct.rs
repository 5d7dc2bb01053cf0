//! What an agent does that no honest agent does, and how long that is held against it. One lie must not be hidden by the
//! next honest answer: a finding about conduct stays open until the agent has been honest for a while *and* often. What
//! shows that an agent is not honest is for others to see: see [`super::asked`] and [`super::past`].

use std::collections::BTreeMap;

use crate::drift::{Finding, FindingKey, Kind};
use crate::{Generation, Millis, NodeName, ServiceName, Timestamp};

/// How long a finding about conduct stays open after the last time: longer than the pause between two looks of a cron
/// job (5 minutes), so that whoever looks sees it.
const HELD_AGAINST: Millis = Millis::from_secs(600);
/// How many answers that count must have come since: an agent that says nothing more is not honest again.
const HONEST_ANSWERS: u32 = 20;
/// How much is kept of what an agent said, in characters: it is its own word and may be anything.
const LONGEST_SAID: usize = 80;

/// Something that no honest agent does. It is refused, and this is what is said of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Misdeed {
    /// It answered for another node.
    OtherNode {
        /// Which it said it was.
        claimed: NodeName,
    },
    /// It answered what it was never asked.
    NeverAsked,
    /// It answered what another node was asked.
    OthersNonce {
        /// Which.
        of: NodeName,
    },
    /// It answered a second time.
    AnsweredBefore {
        /// How long after it was asked.
        after: Millis,
    },
    /// It answered an older question after a newer one.
    Overtaken {
        /// How long after it was asked.
        after: Millis,
    },
    /// It answered what it was asked in an earlier session.
    EarlierSession {
        /// How long after it was asked.
        after: Millis,
    },
    /// It answered what nobody waited for any more.
    Late {
        /// How long after it was asked.
        after: Millis,
    },
    /// It spoke of another boot than the one with which the session began, or of an earlier one.
    OtherBoot {
        /// Which.
        said: String,
        /// Of which it was to speak.
        known: String,
    },
    /// Its machine has not got older since the last answer.
    WentBack {
        /// How long its machine was up, as it said now; None if it does not say so any more.
        said: Option<Millis>,
        /// As it said before.
        before: Millis,
    },
    /// It showed a process that is older than the boot of its machine.
    OlderThanItsBoot {
        /// The process.
        pid: u32,
        /// How old it is said to be.
        age: Millis,
        /// How long the machine is said to be up.
        up: Millis,
    },
    /// It is at an older order than before in the same session.
    EarlierOrder {
        /// Of which service.
        service: ServiceName,
        /// Which.
        said: Generation,
        /// At which it was before.
        before: Generation,
    },
    /// It said what cannot be read.
    Unreadable {
        /// Why not.
        reason: String,
    },
    /// Two agents answer under its identity at the same time.
    TwoPlaces {
        /// The boots of the two.
        boots: [String; 2],
    },
    /// It began a session with a number that is not above every earlier one.
    RepeatedSession {
        /// The number.
        said: u64,
        /// The highest so far.
        highest: u64,
    },
}

impl Misdeed {
    /// What makes it the same misdeed when it is seen again.
    pub fn what(&self) -> &'static str {
        match self {
            Self::OtherNode { .. } => "answer for another node",
            Self::NeverAsked => "answer without a question",
            Self::OthersNonce { .. } => "answer to another node's question",
            Self::AnsweredBefore { .. } => "answer repeated",
            Self::Overtaken { .. } => "answer out of order",
            Self::EarlierSession { .. } => "answer of an earlier session",
            Self::Late { .. } => "answer too late",
            Self::OtherBoot { .. } => "answer of another boot",
            Self::WentBack { .. } => "answer of an earlier time",
            Self::OlderThanItsBoot { .. } => "process older than its boot",
            Self::EarlierOrder { .. } => "answer of an earlier order",
            Self::Unreadable { .. } => "answer that cannot be read",
            Self::TwoPlaces { .. } => "two places at once",
            Self::RepeatedSession { .. } => "session repeated",
        }
    }

    fn expected(&self) -> &'static str {
        match self {
            Self::TwoPlaces { .. } => "one agent for one identity",
            Self::RepeatedSession { .. } => "sessions with rising numbers",
            Self::OtherNode { .. }
            | Self::NeverAsked
            | Self::OthersNonce { .. }
            | Self::AnsweredBefore { .. }
            | Self::Overtaken { .. }
            | Self::EarlierSession { .. }
            | Self::Late { .. }
            | Self::OtherBoot { .. }
            | Self::WentBack { .. }
            | Self::OlderThanItsBoot { .. }
            | Self::EarlierOrder { .. }
            | Self::Unreadable { .. } => "fresh answers of its own, each once",
        }
    }

    /// What was seen, for people.
    pub fn found(&self) -> String {
        let said = |text: &str| text.chars().take(LONGEST_SAID).collect::<String>();
        match self {
            Self::OtherNode { claimed } => format!("it spoke for {claimed}: refused"),
            Self::NeverAsked => "a nonce that was never drawn for it, or long ago: made up or recorded, refused".into(),
            Self::OthersNonce { of } => format!("the nonce was drawn for {of}: refused"),
            Self::AnsweredBefore { after } => format!("the nonce was answered before ({after} ago asked): refused"),
            Self::Overtaken { after } => {
                format!("a newer question had been answered already ({after} ago asked): refused")
            }
            Self::EarlierSession { after } => {
                format!("the nonce was drawn in a session that has ended ({after} ago asked): refused")
            }
            Self::Late { after } => format!("{after} after it was asked, when nobody waited any more: refused"),
            Self::OtherBoot { said: boot, known } => {
                format!("it spoke of boot {}, and this is boot {}: recorded, refused", said(boot), said(known))
            }
            Self::WentBack { said: Some(up), before } => {
                format!(
                    "its machine was up for {before} before and is for {up} now: recorded, or restored from a snapshot; refused"
                )
            }
            Self::WentBack { said: None, before } => {
                format!("its machine was up for {before} before and it says nothing of that now: recorded, refused")
            }
            Self::OlderThanItsBoot { pid, age, up } => {
                format!("pid {pid} is said to run for {age}, and the machine for {up}: refused")
            }
            Self::EarlierOrder { service, said, before } => {
                format!("{service}: at order {said} after it was at order {before}: recorded, refused")
            }
            Self::Unreadable { reason } => format!("{}: refused", said(reason)),
            Self::TwoPlaces { boots: [one, two] } if one == two => {
                format!("two agents answer under its identity, both of boot {}: nothing they say counts", said(one))
            }
            Self::TwoPlaces { boots: [one, two] } => format!(
                "two agents answer under its identity, of boot {} and of boot {}: a copied key, nothing they say counts",
                said(one),
                said(two)
            ),
            Self::RepeatedSession { said, highest } => format!(
                "session {said} after session {highest}: a copied or restored identity, refused; take the node out and let it join again"
            ),
        }
    }
}

/// One kind of misdeed that is held against an agent.
#[derive(Debug, Clone)]
struct Noted {
    expected: String,
    found: String,
    last: Timestamp,
    honest_since: u32,
}

/// What is held against one agent.
#[derive(Debug, Clone, Default)]
pub struct Conduct {
    /// By what it is; there are no more entries than kinds of misdeeds.
    noted: BTreeMap<String, Noted>,
}

impl Conduct {
    /// It has done this. What it was seen to do first stays the description.
    pub fn note(&mut self, misdeed: &Misdeed, now: Timestamp) {
        let new = || Noted { expected: misdeed.expected().into(), found: misdeed.found(), last: now, honest_since: 0 };
        let noted = self.noted.entry(misdeed.what().into()).or_insert_with(new);
        noted.last = now;
        noted.honest_since = 0;
    }

    /// Takes up a finding that was open before the controller was started: its time begins anew.
    pub fn resume(&mut self, finding: &Finding, now: Timestamp) {
        let noted =
            Noted { expected: finding.expected.clone(), found: finding.found.clone(), last: now, honest_since: 0 };
        self.noted.insert(finding.key.what.clone(), noted);
    }

    /// It has given an answer that counts.
    pub fn honest(&mut self) {
        for noted in self.noted.values_mut() {
            noted.honest_since = noted.honest_since.saturating_add(1);
        }
    }

    /// Whether this is held against it already.
    pub fn has(&self, misdeed: &Misdeed) -> bool {
        self.noted.contains_key(misdeed.what())
    }

    /// What is still held against it.
    pub fn findings(&mut self, node: &NodeName, now: Timestamp) -> Vec<Finding> {
        self.noted.retain(|_, noted| now.since(noted.last) <= HELD_AGAINST || noted.honest_since < HONEST_ANSWERS);
        let finding = |(what, noted): (&String, &Noted)| {
            let key = FindingKey { node: node.clone(), service: None, kind: Kind::Agent, what: what.clone() };
            Finding::new(key, noted.expected.clone(), noted.found.clone())
        };
        self.noted.iter().map(finding).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn open(conduct: &mut Conduct, now: i64) -> usize {
        conduct.findings(&"n1".parse().unwrap(), Timestamp(now)).len()
    }

    #[test]
    fn one_lie_is_not_hidden_by_the_next_honest_answer() {
        let mut conduct = Conduct::default();
        conduct.note(&Misdeed::NeverAsked, Timestamp(0));
        (0..1_000).for_each(|_| conduct.honest());
        assert_eq!(open(&mut conduct, 600_000), 1, "honest often, and not for long");
        assert_eq!(open(&mut conduct, 600_001), 0);
    }

    #[test]
    fn silence_makes_nobody_honest() {
        let mut conduct = Conduct::default();
        conduct.note(&Misdeed::NeverAsked, Timestamp(0));
        (1..HONEST_ANSWERS).for_each(|_| conduct.honest());
        assert_eq!(open(&mut conduct, i64::MAX), 1);
        conduct.honest();
        assert_eq!(open(&mut conduct, i64::MAX), 0);
    }

    #[test]
    fn a_lie_that_is_told_again_begins_anew_and_another_one_is_another() {
        let mut conduct = Conduct::default();
        conduct.note(&Misdeed::NeverAsked, Timestamp(0));
        (0..HONEST_ANSWERS).for_each(|_| conduct.honest());
        conduct.note(&Misdeed::NeverAsked, Timestamp(500_000));
        conduct.note(&Misdeed::AnsweredBefore { after: Millis(3) }, Timestamp(500_000));
        assert_eq!(open(&mut conduct, 1_100_000), 2);
        (0..HONEST_ANSWERS).for_each(|_| conduct.honest());
        assert_eq!(open(&mut conduct, 1_100_001), 0);
    }

    #[test]
    fn a_restart_of_the_controller_forgives_nothing() {
        let mut conduct = Conduct::default();
        conduct.note(&Misdeed::NeverAsked, Timestamp(0));
        let finding = conduct.findings(&"n1".parse().unwrap(), Timestamp(1)).pop().unwrap();
        let mut after = Conduct::default();
        after.resume(&finding, Timestamp(1_000_000));
        assert_eq!(after.findings(&"n1".parse().unwrap(), Timestamp(1_600_000)), [finding]);
    }
}
