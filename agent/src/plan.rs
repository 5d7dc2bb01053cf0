//! What is left to do: from what shall be held and what is seen, the steps, each with its undo. Pure: it reads
//! nothing and does nothing, so that resuming after a crash is planning again from what is seen.

use std::fmt;

use fleet::{Digest, Hold, ReleaseId};
use serde::{Deserialize, Serialize};

/// One act of an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "kebab-case")]
pub enum Step {
    /// Bring the bundle here, whole and verified.
    Fetch {
        /// Its digest.
        bundle: Digest,
        /// Its size in bytes.
        size: u64,
    },
    /// Unpack it beside the release that runs, and make that survive a power loss.
    Stage {
        /// The release.
        release: ReleaseId,
        /// Its bundle.
        bundle: Digest,
    },
    /// Take this node out of the balancer and let open connections end.
    Drain,
    /// Stop every process of the service.
    Stop,
    /// Point `current` at a release, or remove it.
    Switch {
        /// The release; None removes the link.
        to: Option<ReleaseId>,
    },
    /// Start the main process.
    Start {
        /// The release.
        release: ReleaseId,
    },
    /// Wait until the service answers as it should.
    Probe {
        /// The release.
        release: ReleaseId,
    },
    /// Put this node back into the balancer.
    Allow,
}

impl Step {
    /// The step as shown to people and on the wire.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Fetch { .. } => "fetch",
            Self::Stage { .. } => "stage",
            Self::Drain => "drain",
            Self::Stop => "stop",
            Self::Switch { .. } => "switch",
            Self::Start { .. } => "start",
            Self::Probe { .. } => "probe",
            Self::Allow => "allow",
        }
    }

    /// Whether users of the service can notice it. Up to the first of these, failing costs nothing.
    pub fn disturbs(&self) -> bool {
        match self {
            Self::Fetch { .. } | Self::Stage { .. } | Self::Probe { .. } | Self::Allow => false,
            Self::Drain | Self::Stop | Self::Switch { .. } | Self::Start { .. } => true,
        }
    }

    /// Whether what runs or lies here is another after it.
    pub fn changes(&self) -> bool {
        match self {
            Self::Stop | Self::Switch { .. } | Self::Start { .. } => true,
            Self::Fetch { .. } | Self::Stage { .. } | Self::Drain | Self::Probe { .. } | Self::Allow => false,
        }
    }

    /// What takes this step back, where `from` was live before.
    pub fn undo(&self, from: Option<&ReleaseId>) -> Option<Self> {
        match self {
            // What was fetched and staged harms nobody, and is wanted when the order comes again.
            Self::Fetch { .. } | Self::Stage { .. } | Self::Probe { .. } | Self::Allow => None,
            Self::Drain => Some(Self::Allow),
            Self::Stop => from.map(|from| Self::Start { release: from.clone() }),
            Self::Switch { .. } => Some(Self::Switch { to: from.cloned() }),
            Self::Start { .. } => Some(Self::Stop),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fetch { bundle, .. } => write!(f, "fetch {}", bundle.short()),
            Self::Stage { release, .. } => write!(f, "stage {release}"),
            Self::Drain | Self::Stop | Self::Allow => f.write_str(self.name()),
            Self::Switch { to: Some(to) } => write!(f, "switch to {to}"),
            Self::Switch { to: None } => f.write_str("remove current"),
            Self::Start { release } => write!(f, "start {release}"),
            Self::Probe { release } => write!(f, "probe {release}"),
        }
    }
}

/// This node at its balancer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Traffic {
    /// No balancer is configured.
    NotBalanced,
    /// In rotation, as far as this agent ever said.
    Allowed,
    /// Taken out by this agent, which owes putting it back.
    Drained,
    /// Taking it out was begun before a restart: whether it was done is not known, putting it back is owed.
    Unsure,
}

/// Whether the bundle of the release in question is here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Supply {
    /// Neither the bundle nor the release is here.
    Absent,
    /// The bundle is here, whole.
    Fetched,
    /// The release is unpacked, whole and as its manifest says.
    Staged,
}

/// Whether the process that runs has answered its probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It has, since its start.
    Given,
    /// It has not yet.
    Outstanding,
}

/// What is seen of one service: read from the disk and from /proc, not remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scene {
    /// Where `current` points.
    pub current: Option<ReleaseId>,
    /// The release of the main process, if it lives.
    pub running: Option<ReleaseId>,
    /// How far the wanted release is here.
    pub supply: Supply,
    /// Whether the main process has answered.
    pub answer: Answer,
    /// The balancer.
    pub traffic: Traffic,
}

/// The steps from `scene` to `wanted`. None are left exactly when it is held.
pub fn steps(wanted: &Hold, scene: &Scene) -> Vec<Step> {
    match wanted {
        Hold::Release { release, bundle, size } => to_release(release, *bundle, *size, scene),
        Hold::Nothing => to_nothing(scene),
    }
}

fn to_release(release: &ReleaseId, bundle: Digest, size: u64, scene: &Scene) -> Vec<Step> {
    let mut steps = Vec::new();
    let live = scene.current.as_ref() == Some(release);
    if live && scene.running.as_ref() == Some(release) && scene.supply == Supply::Staged {
        // It runs what it should, from files that are what they should be: nothing is restarted.
        if scene.answer == Answer::Outstanding {
            steps.push(Step::Probe { release: release.clone() });
        }
        if matches!(scene.traffic, Traffic::Drained | Traffic::Unsure) {
            steps.push(Step::Allow);
        }
        return steps;
    }
    // Everything that can fail without anyone noticing comes first.
    match scene.supply {
        Supply::Absent => {
            steps.extend([Step::Fetch { bundle, size }, Step::Stage { release: release.clone(), bundle }])
        }
        Supply::Fetched => steps.push(Step::Stage { release: release.clone(), bundle }),
        Supply::Staged => {}
    }
    if matches!(scene.traffic, Traffic::Allowed | Traffic::Unsure) {
        steps.push(Step::Drain);
    }
    // Also where no main process is known: workers may have outlived it, and they hold its port.
    steps.push(Step::Stop);
    if !live {
        steps.push(Step::Switch { to: Some(release.clone()) });
    }
    steps.extend([Step::Start { release: release.clone() }, Step::Probe { release: release.clone() }]);
    if scene.traffic != Traffic::NotBalanced {
        steps.push(Step::Allow);
    }
    steps
}

fn to_nothing(scene: &Scene) -> Vec<Step> {
    let mut steps = Vec::new();
    if scene.running.is_some() || scene.current.is_some() {
        if matches!(scene.traffic, Traffic::Allowed | Traffic::Unsure) {
            steps.push(Step::Drain);
        }
        steps.push(Step::Stop);
    }
    if scene.current.is_some() {
        steps.push(Step::Switch { to: None });
    }
    // A node that holds nothing stays out of rotation: there is nobody to answer.
    steps
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn hold(n: u8) -> Hold {
        let bundle = Digest([n; 32]);
        Hold::Release { release: ReleaseId::of(&bundle), bundle, size: 9 }
    }
    fn id(n: u8) -> ReleaseId {
        ReleaseId::of(&Digest([n; 32]))
    }
    fn scene(current: Option<u8>, running: Option<u8>, supply: Supply, answer: Answer, traffic: Traffic) -> Scene {
        Scene { current: current.map(id), running: running.map(id), supply, answer, traffic }
    }
    fn told(wanted: &Hold, scene: &Scene) -> String {
        steps(wanted, scene).iter().map(Step::name).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_table() {
        use Answer::{Given, Outstanding};
        use Supply::{Absent, Fetched, Staged};
        use Traffic::{Allowed, Drained, NotBalanced, Unsure};
        for (current, running, supply, answer, traffic, expected) in [
            (None, None, Absent, Outstanding, NotBalanced, "fetch stage stop switch start probe"),
            (None, None, Absent, Outstanding, Allowed, "fetch stage drain stop switch start probe allow"),
            (Some(1), Some(1), Absent, Given, Allowed, "fetch stage drain stop switch start probe allow"),
            (Some(1), Some(1), Fetched, Given, Allowed, "stage drain stop switch start probe allow"),
            (Some(1), Some(1), Staged, Given, Allowed, "drain stop switch start probe allow"),
            (Some(1), Some(1), Staged, Given, Drained, "stop switch start probe allow"),
            (Some(1), Some(1), Staged, Given, Unsure, "drain stop switch start probe allow"),
            (Some(2), Some(2), Staged, Given, Unsure, "allow"),
            (Some(1), None, Staged, Outstanding, Drained, "stop switch start probe allow"),
            (Some(2), None, Staged, Outstanding, Drained, "stop start probe allow"),
            (Some(2), Some(1), Staged, Given, Drained, "stop start probe allow"),
            (Some(1), Some(2), Staged, Given, Drained, "stop switch start probe allow"),
            (Some(2), Some(2), Staged, Outstanding, Drained, "probe allow"),
            (Some(2), Some(2), Staged, Given, Drained, "allow"),
            (Some(2), Some(2), Staged, Given, Allowed, ""),
            (Some(2), Some(2), Staged, Given, NotBalanced, ""),
            // What is live was tampered with: it is put right and started from what was released.
            (Some(2), Some(2), Absent, Given, NotBalanced, "fetch stage stop start probe"),
            (Some(2), Some(2), Fetched, Given, Allowed, "stage drain stop start probe allow"),
        ] {
            assert_eq!(told(&hold(2), &scene(current, running, supply, answer, traffic)), expected);
        }
        for (current, running, traffic, expected) in [
            (Some(1), Some(1), Allowed, "drain stop switch"),
            (Some(1), None, Drained, "stop switch"),
            (None, Some(1), NotBalanced, "stop"),
            (None, None, Allowed, ""),
        ] {
            assert_eq!(told(&Hold::Nothing, &scene(current, running, Absent, Given, traffic)), expected);
        }
    }

    /// What a step does to a world in which nothing fails.
    fn perform(scene: &mut Scene, step: &Step, wanted: &ReleaseId) {
        match step {
            Step::Fetch { .. } => scene.supply = Supply::Fetched,
            Step::Stage { .. } => scene.supply = Supply::Staged,
            Step::Drain => scene.traffic = Traffic::Drained,
            Step::Stop => scene.running = None,
            Step::Switch { to } => scene.current = to.clone(),
            Step::Start { release } => {
                assert_eq!(scene.running, None, "a second start");
                assert_eq!(scene.current.as_ref(), Some(release), "what starts is what current says");
                assert!(release != wanted || scene.supply == Supply::Staged || scene.supply == Supply::Absent);
                scene.running = Some(release.clone());
                scene.answer = Answer::Outstanding;
            }
            Step::Probe { .. } => scene.answer = Answer::Given,
            Step::Allow => {
                assert_eq!(scene.answer, Answer::Given, "traffic only for what answered");
                scene.traffic = Traffic::Allowed;
            }
        }
    }

    fn any_scene() -> impl Strategy<Value = Scene> {
        let release = || prop::option::of(1u8..4);
        let supply = prop_oneof![Just(Supply::Absent), Just(Supply::Fetched), Just(Supply::Staged)];
        let answer = prop_oneof![Just(Answer::Given), Just(Answer::Outstanding)];
        let traffic = prop_oneof![
            Just(Traffic::NotBalanced),
            Just(Traffic::Allowed),
            Just(Traffic::Drained),
            Just(Traffic::Unsure)
        ];
        (release(), release(), supply, answer, traffic).prop_map(|(c, r, s, a, t)| scene(c, r, s, a, t))
    }

    proptest! {
        #[test]
        fn wherever_it_is_cut_planning_again_ends_the_same(start in any_scene(), cuts in prop::collection::vec(0usize..9, 0..4)) {
            let wanted = hold(2);
            let mut world = start;
            let mut starts = 0;
            for cut in cuts.into_iter().chain([usize::MAX]) {
                for step in steps(&wanted, &world).into_iter().take(cut) {
                    starts += usize::from(matches!(step, Step::Start { .. }));
                    perform(&mut world, &step, &id(2));
                }
            }
            prop_assert_eq!(steps(&wanted, &world), vec![], "nothing is left to do");
            prop_assert_eq!(world.current, Some(id(2)));
            prop_assert_eq!(world.running, Some(id(2)));
            prop_assert!(matches!(world.traffic, Traffic::NotBalanced | Traffic::Allowed));
            prop_assert!(starts <= 1, "{} starts", starts);
        }

        #[test]
        fn undoing_each_step_and_planning_back_agree(cut in 0usize..9, traffic in prop_oneof![Just(Traffic::NotBalanced), Just(Traffic::Allowed)]) {
            let before = scene(Some(1), Some(1), Supply::Absent, Answer::Given, traffic);
            let mut world = before.clone();
            let done: Vec<Step> = steps(&hold(2), &world).into_iter().take(cut).collect();
            for step in &done {
                perform(&mut world, step, &id(2));
            }
            let stepwise: Vec<Step> = done.iter().rev().filter_map(|step| step.undo(Some(&id(1)))).collect();
            // What was held before is still on the disk.
            world.supply = Supply::Staged;
            let planned: Vec<Step> = steps(&hold(1), &world).into_iter().filter(|step| !matches!(step, Step::Probe { .. })).collect();
            let disturbing = |steps: &[Step]| steps.iter().filter(|s| s.disturbs()).map(Step::name).collect::<std::collections::BTreeSet<_>>();
            prop_assert!(disturbing(&stepwise).is_subset(&disturbing(&planned)), "{:?} against {:?}", stepwise, planned);
            for step in steps(&hold(1), &world) {
                perform(&mut world, &step, &id(1));
            }
            prop_assert_eq!((world.current, world.running, world.traffic), (before.current, before.running, before.traffic));
        }

        #[test]
        fn nobody_is_disturbed_before_the_release_is_here(start in any_scene()) {
            let plan = steps(&hold(2), &start);
            let first = plan.iter().position(Step::disturbs).unwrap_or(plan.len());
            let late = plan[first..].iter().any(|step| matches!(step, Step::Fetch { .. } | Step::Stage { .. }));
            prop_assert!(!late, "{:?}", plan);
        }
    }
}
