//! How histories are made up: deployments of every kind, nodes good and bad, and what happens to them.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use crate::capacity::Parallel;
use crate::deployment::tests::history::{About, Calm, Fate, History, Says, Step, Wish};
use crate::deployment::tests::world::{Nature, SECOND, new, node, old, older, seconds, spec};
use crate::deployment::{AbortMode, Again, Budget, Gate, Migration, OnFailure, Place, Previous, Source, Spec, Waiver};
use crate::{Generation, Hold, Millis, NodeName, Timestamp};

/// The most nodes of a deployment.
pub(super) const NODES: usize = 30;
/// Nodes that may join later.
const JOINERS: usize = 4;
/// How many services are deployed at once.
pub(super) const SERVICES: usize = 3;

/// How the nodes of a world are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Climate {
    /// Most are good, so that the late phases are reached.
    Mild,
    /// Every third is not.
    Harsh,
}

/// Everything about one deployment that is made up, in numbers that shrink well.
#[derive(Debug, Clone)]
struct Asked {
    members: u32,
    sizes: Vec<usize>,
    absent: usize,
    unhealthy: u32,
    waived: u32,
    holds: u64,
    parallel: Parallel,
    floor: usize,
    budget: Budget,
    times: (u64, u64),
    gates: Vec<Option<usize>>,
    pauses: u8,
    migration: Option<(bool, usize)>,
    on_failure: OnFailure,
}

fn nature(climate: Climate) -> impl Strategy<Value = Nature> + Clone {
    let good = match climate {
        Climate::Mild => 160,
        Climate::Harsh => 40,
    };
    prop_oneof![
        good => (0u64..8).prop_map(Nature::Good),
        1 => Just(Nature::Broken),
        1 => (0u64..8).prop_map(Nature::Refuses),
        1 => Just(Nature::Lies),
        1 => Just(Nature::Silent),
        1 => (1u64..60).prop_map(Nature::FallsBack),
        1 => Just(Nature::Stuck),
        1 => (1u64..120).prop_map(Nature::Late),
        1 => Just(Nature::Crashes),
    ]
}

fn asked() -> impl Strategy<Value = Asked> {
    let shape = (
        prop_oneof![2 => any::<u32>(), 1 => Just(u32::MAX), 1 => 1u32..256],
        prop::collection::vec(1usize..9, 1..6),
        prop_oneof![3 => Just(0usize), 1 => 1usize..4],
        (any::<u32>(), any::<u32>(), any::<u32>()).prop_map(|(a, b, c)| a & b & c),
        (any::<u32>(), any::<u32>(), any::<u32>()).prop_map(|(a, b, c)| a & b & c & (c >> 1)),
        any::<u64>(),
    );
    let limits = (
        prop_oneof![
            1 => Just(Parallel::All),
            1 => (1usize..5).prop_map(Parallel::Count),
            1 => (1u8..101).prop_map(Parallel::Percent)
        ],
        prop_oneof![2 => Just(0usize), 1 => 1usize..24],
        prop_oneof![
            1 => Just(Budget::Nodes(0)),
            2 => (1usize..6).prop_map(Budget::Nodes),
            1 => (1u8..101).prop_map(Budget::Percent)
        ],
        (prop_oneof![Just(0u64), 1u64..12], prop_oneof![1 => Just(0u64), 1 => 5u64..40]),
    );
    let between = (
        prop::collection::vec(prop_oneof![1 => Just(None), 2 => (0usize..5).prop_map(Some)], 0..3),
        prop_oneof![2 => Just(0u8), 1 => any::<u8>()],
        prop_oneof![1 => Just(None), 1 => (any::<bool>(), 0usize..5).prop_map(Some)],
        prop_oneof![2 => Just(OnFailure::Rollback), 1 => Just(OnFailure::Stop), 2 => Just(OnFailure::Pause)],
    );
    (shape, limits, between).prop_map(|(shape, limits, between)| {
        let (members, sizes, absent, unhealthy, waived, holds) = shape;
        let (parallel, floor, budget, times) = limits;
        let (gates, pauses, migration, on_failure) = between;
        Asked {
            members,
            sizes,
            absent,
            unhealthy,
            waived,
            holds,
            parallel,
            floor,
            budget,
            times,
            gates,
            pauses,
            migration,
            on_failure,
        }
    })
}

impl Asked {
    /// Some are over before the deployment is.
    fn waiver(&self) -> Waiver {
        let until = Timestamp((self.holds % 3_000_000) as i64);
        Waiver { by: "carol".into(), reason: "disk".into(), until }
    }

    /// The spec of the deployment, the how-many-eth of its world.
    fn spec(&self, service: usize) -> Spec {
        let chosen = |bits: u32, n: usize| bits & (1 << (n % 32)) != 0;
        let mut members: Vec<NodeName> = (0..NODES).filter(|n| chosen(self.members, *n)).map(node).collect();
        if members.is_empty() {
            members.push(node(0));
        }
        let absent = members.split_off(members.len() - self.absent.min(members.len() - 1));
        let mut segments: Vec<Vec<NodeName>> = Vec::new();
        let mut rest = members.iter().cloned().peekable();
        let sizes = self.sizes.iter().chain(std::iter::repeat(self.sizes.last().unwrap_or(&1)));
        for size in sizes {
            segments.push(rest.by_ref().take(*size).collect());
            if rest.peek().is_none() {
                break;
            }
        }
        let of =
            |bits: u32| members.iter().enumerate().filter(move |(n, _)| chosen(bits, *n)).map(|(_, node)| node.clone());
        let previous = |n: usize| match (self.holds >> (2 * (n % 32))) & 3 {
            0 | 1 => old(),
            2 => older(),
            _ if self.holds & 1 == 0 => Hold::Nothing,
            _ => new(),
        };
        let expected: Vec<NodeName> = members.iter().chain(&absent).cloned().collect();
        let last = segments.len() - 1;
        Spec {
            id: format!("d-{service}").parse().unwrap(),
            service: format!("s{service}").parse().unwrap(),
            previous: expected
                .iter()
                .enumerate()
                .map(|(n, node)| (node.clone(), Previous { hold: previous(n), version: None }))
                .collect(),
            unhealthy: of(self.unhealthy).collect(),
            waivers: of(self.waived).map(|node| (node, self.waiver())).collect::<BTreeMap<_, _>>(),
            generation: Generation(10 * (service as u64 + 1)),
            rollback_generation: Generation(10 * (service as u64 + 1) + 1),
            parallel: self.parallel,
            floor: self.floor.min(expected.len()),
            max_failures: self.budget,
            bake: seconds(self.times.0),
            confirm: seconds(self.times.1),
            gates: self.gates.iter().map(|after| gate(after.map(|after| after.min(last)))).collect(),
            pause_after: (0..=last).filter(|n| chosen(u32::from(self.pauses), *n)).collect::<BTreeSet<_>>(),
            migration: self.migration.map(|(before, at)| migration(before, at.min(last))),
            on_failure: self.on_failure,
            segments,
            absent,
            ..spec(&[1], 0)
        }
    }
}

pub(super) fn gate(after: Option<usize>) -> Gate {
    Gate { name: "errors".into(), source: Source::Metric { query: "errors".into() }, after, deadline: seconds(30) }
}

fn migration(before: bool, at: usize) -> Migration {
    let place = if before { Place::Before(at) } else { Place::After(at) };
    Migration { name: "migrate".into(), command: "bin/migrate".into(), place, timeout: seconds(40) }
}

fn step(climate: Climate) -> impl Strategy<Value = Step> {
    let service = 0..SERVICES;
    let node = 0..NODES + JOINERS;
    // How often everybody is asked, and how fast time passes meanwhile: in a harsh world nodes run out of patience.
    let (looks, nap, sleep) = match climate {
        Climate::Mild => (24, 4 * SECOND, 5..15u64),
        Climate::Harsh => (10, 9 * SECOND, 10..90),
    };
    let about = prop_oneof![4 => Just(About::TheQuestion), 1 => Just(About::SomethingElse)];
    let says = prop_oneof![
        5 => Just(Says::Yes), 2 => Just(Says::No), 1 => Just(Says::NobodyKnows), 2 => Just(Says::StillAtIt)
    ];
    let fate = prop_oneof![
        8 => Just(Fate::Arrives),
        2 => Just(Fate::Lost),
        2 => Just(Fate::Unconfirmed),
        2 => (1..20 * SECOND).prop_map(|ago| Fate::Slow(Millis(ago))),
    ];
    let wish = prop_oneof![
        6 => Just(Wish::Pause),
        12 => Just(Wish::Resume),
        12 => Just(Wish::Promote(Again::Skip)),
        8 => Just(Wish::Promote(Again::Retry)),
        1 => Just(Wish::Abort(AbortMode::RollBack)),
        1 => Just(Wish::Abort(AbortMode::Leave)),
        1 => Just(Wish::Supersede),
        8 => (0u64..300).prop_map(|lasts| Wish::Waive(seconds(lasts))),
    ];
    prop_oneof![
        24 => (service.clone(), 0..NODES, fate).prop_map(|(service, node, fate)| Step::Look { service, node, fate }),
        looks => service.clone().prop_map(|service| Step::LookAround { service }),
        8 => (service.clone(), 0usize..60).prop_map(|(service, back)| Step::Again { service, back }),
        14 => (0..nap).prop_map(|span| Step::Pass(Millis(span))),
        1 => sleep.clone().prop_map(|span| Step::Pass(seconds(span))),
        4 => (service.clone(), Just(seconds(sleep.end))).prop_map(|(service, at_most)| Step::Wake { service, at_most }),
        6 => (service.clone(), wish, node.clone()).prop_map(|(service, wish, node)| Step::Tell { service, wish, node }),
        7 => (service.clone(), says.clone(), about.clone())
            .prop_map(|(service, says, about)| Step::Answer { service, says, about }),
        7 => (service.clone(), says, about).prop_map(|(service, says, about)| Step::Report { service, says, about }),
        1 => (node.clone(), nature(climate)).prop_map(|(node, nature)| Step::Join { node, nature }),
        1 => (node.clone(), nature(climate)).prop_map(|(node, nature)| Step::Replace { node, nature }),
        1 => node.clone().prop_map(|node| Step::Leave { node }),
        2 => (node, 1u64..90).prop_map(|(node, lasts)| Step::CutOff { node, lasts: seconds(lasts) }),
        2 => (service.clone(), 0usize..4).prop_map(|(service, written)| Step::Die { service, written }),
        4 => service.prop_map(|service| Step::SayAgain { service }),
    ]
}

/// Histories of so many steps; each is one event or more.
pub(super) fn history(climate: Climate, steps: std::ops::Range<usize>) -> impl Strategy<Value = History> {
    let natures = prop::collection::vec(nature(climate), SERVICES * NODES);
    let calm = prop_oneof![3 => Just(Calm::Helpful), 1 => Just(Calm::Absent)];
    (prop::collection::vec(asked(), SERVICES), natures, prop::collection::vec(step(climate), steps), calm).prop_map(
        |(asked, natures, steps, calm)| {
            let natures_of = |service: usize| (0..NODES).map(move |n| (node(n), service * NODES + n));
            let deployments = asked.iter().enumerate().map(|(service, asked)| {
                let natures: BTreeMap<_, _> = natures_of(service).map(|(node, at)| (node, natures[at])).collect();
                let mut spec = asked.spec(service);
                // Every second deployment knows its bad nodes before it begins.
                if asked.holds % 2 == 0 {
                    let bad = spec.expected().filter(|node| !matches!(natures[node], Nature::Good(_)));
                    let known: Vec<_> = bad.map(|node| (node.clone(), asked.waiver())).collect();
                    spec.waivers.extend(known);
                }
                (spec, natures)
            });
            History { deployments: deployments.collect(), nodes: (0..NODES + JOINERS).map(node).collect(), steps, calm }
        },
    )
}
