//! The deployments that are measured: what is asked for, of which fleet, and what goes wrong on the way. Each is the
//! same at every number of nodes, so that only the number differs. Playing them is left to `story`.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context as _;
use fleet::capacity::{MinHealthy, Parallel};
use fleet::deployment::plan::{Candidate, Presence, Request};
use fleet::deployment::{Budget, Kind, OnFailure, PAUSE_DEADLINE, Previous, Waiver};
use fleet::segments::{Canary, Segments};
use fleet::sequence::{Condition, Sequence};
use fleet::{Digest, Hold, Millis, NodeName, Outcome, Timestamp};

/// When every deployment starts; any moment would do.
pub const START: Timestamp = Timestamp(1_800_000_000_000);
/// How long a segment bakes.
pub const BAKE: Millis = Millis::from_secs(5);

/// One kind of deployment.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Its name in the table.
    pub name: &'static str,
    /// `--segments`.
    segments: &'static str,
    /// `--parallel`.
    parallel: &'static str,
    /// `--min-healthy`.
    min_healthy: &'static str,
    /// What goes wrong.
    pub trouble: Trouble,
    /// How it must end: a run that ends otherwise is void.
    pub outcome: Outcome,
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// Nothing.
    Nothing,
    /// From the middle of the fleet on every node fails: it turns back there.
    Middle,
    /// Every tenth node fails, and before the end the budget is exceeded.
    EveryTenth,
    /// A person pauses it when a tenth of the nodes is proven, and resumes it a minute later.
    Pause,
    /// A twentieth of the nodes is absent and waived by name, another twentieth falls silent once ordered.
    Silence,
}

/// What becomes of one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It does what it is told.
    Good,
    /// It cannot carry the order forward out.
    Fails,
    /// Nothing is heard of it.
    Silent,
}

/// All that are measured.
pub const SHAPES: [Shape; 7] = [
    Shape {
        name: "4 segments",
        segments: "4",
        parallel: "all",
        min_healthy: "0",
        trouble: Trouble::Nothing,
        outcome: Outcome::Converged,
    },
    Shape {
        name: "1 segment",
        segments: "1",
        parallel: "all",
        min_healthy: "0",
        trouble: Trouble::Nothing,
        outcome: Outcome::Converged,
    },
    Shape {
        name: "10 at once, 90% healthy",
        segments: "1",
        parallel: "10",
        min_healthy: "90%",
        trouble: Trouble::Nothing,
        outcome: Outcome::Converged,
    },
    Shape {
        name: "rollback in the middle",
        segments: "4",
        parallel: "all",
        min_healthy: "0",
        trouble: Trouble::Middle,
        outcome: Outcome::RolledBack,
    },
    Shape {
        name: "a segment a node, and back",
        segments: "1,1",
        parallel: "all",
        min_healthy: "0",
        trouble: Trouble::EveryTenth,
        outcome: Outcome::RolledBack,
    },
    Shape {
        name: "paused, 50% healthy",
        segments: "1",
        parallel: "all",
        min_healthy: "50%",
        trouble: Trouble::Pause,
        outcome: Outcome::Converged,
    },
    Shape {
        name: "absent, waived, silent",
        segments: "4",
        parallel: "all",
        min_healthy: "0",
        trouble: Trouble::Silence,
        outcome: Outcome::Unproven,
    },
];

impl Shape {
    /// What is asked for, of `nodes` nodes.
    ///
    /// # Errors
    /// When the engine refuses the words of a shape.
    pub fn request(&self, nodes: usize) -> anyhow::Result<Request> {
        let waiver = Waiver { by: "alice".into(), reason: "rack moved".into(), until: START.after(PAUSE_DEADLINE) };
        let absent = (0..nodes).filter(|n| self.is_absent(*n));
        Ok(Request {
            service: "web".parse()?,
            environment: "prod".into(),
            kind: Kind::Rollout,
            target: release("bbbbbbbbbbbb")?,
            version: "2.0.0".parse()?,
            canary: Canary(0),
            segments: self.segments.parse::<Segments>()?,
            sequence: Sequence::Name,
            limit: String::new(),
            parallel: self.parallel.parse::<Parallel>()?,
            min_healthy: self.min_healthy.parse::<MinHealthy>()?,
            max_failures: match self.trouble {
                Trouble::Nothing | Trouble::Pause => Budget::Nodes(0),
                Trouble::Middle => Budget::Percent(5),
                // The same place in every fleet: after four fifths of it.
                Trouble::EveryTenth => Budget::Nodes((nodes * 8 / 100).saturating_sub(1)),
                Trouble::Silence => Budget::Percent(10),
            },
            bake: BAKE,
            gates: Vec::new(),
            pause_after: BTreeSet::new(),
            migration: None,
            confirm: Millis::from_secs(30),
            node_deadline: Millis::from_secs(300),
            absent_grace: Millis::from_secs(60),
            pause_deadline: PAUSE_DEADLINE,
            on_failure: OnFailure::Rollback,
            waivers: absent.map(|n| Ok((name(n)?, waiver.clone()))).collect::<anyhow::Result<_>>()?,
            waive_absent: None,
            actor: "alice".into(),
            message: "the spring release".into(),
        })
    }

    /// The fleet.
    ///
    /// # Errors
    /// When the engine refuses a name.
    pub fn candidates(&self, nodes: usize) -> anyhow::Result<Vec<Candidate>> {
        let holds = Previous { hold: release("aaaaaaaaaaaa")?, version: Some("1.0.0".parse()?) };
        (0..nodes)
            .map(|n| {
                let absent = self.is_absent(n);
                Ok(Candidate {
                    node: name(n)?,
                    labels: BTreeMap::from([("az".to_owned(), format!("az{}", n % 3))]),
                    presence: if absent { Presence::Absent("not in contact".into()) } else { Presence::Present },
                    condition: if absent { Condition::Unknown } else { Condition::Old },
                    holds: holds.clone(),
                    block: None,
                })
            })
            .collect()
    }

    /// What becomes of the node at a place in the order of the plan, of `nodes`.
    pub fn fate(&self, place: usize, nodes: usize) -> Fate {
        match self.trouble {
            Trouble::Middle if place >= nodes / 2 => Fate::Fails,
            Trouble::EveryTenth if place % 10 == 9 => Fate::Fails,
            Trouble::Silence if place % 20 == 7 => Fate::Silent,
            Trouble::Nothing | Trouble::Middle | Trouble::EveryTenth | Trouble::Pause | Trouble::Silence => Fate::Good,
        }
    }

    fn is_absent(&self, n: usize) -> bool {
        self.trouble == Trouble::Silence && n % 20 == 3
    }
}

fn name(n: usize) -> anyhow::Result<NodeName> {
    format!("web-{n:05}.fra1.example.net").parse().context("a node name")
}

fn release(digits: &str) -> anyhow::Result<Hold> {
    Ok(Hold::Release { release: format!("r-{digits}").parse()?, bundle: Digest([1; 32]), size: 5_400_000 })
}
