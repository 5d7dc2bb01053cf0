//! Breaks of what a deployment remembers (`state.rs`, `nodes.rs`), of what it says to nodes (`orders.rs`), and of the words
//! it is asked with: commands, budgets, waivers, the spec.

use crate::Break;

const BUDGET: &str = "fleet/src/deployment/budget.rs";
const NODES: &str = "fleet/src/deployment/nodes.rs";
const ORDERS: &str = "fleet/src/deployment/orders.rs";
const SPEC: &str = "fleet/src/deployment/spec.rs";
const STATE: &str = "fleet/src/deployment/state.rs";

pub(crate) const BREAKS: &[Break] = &[
    Break {
        what: "Replaying the journal forgets the pause",
        file: STATE,
        rule: "            deployment.apply(fact);\n",
        broken: "            deployment.apply(fact);\n            deployment.paused = None;\n",
        caught_by: &["replaying_the_journal_gives_the_same_deployment", "PausedBeginsNothing", "SuccessorIsEqual"],
    },
    Break {
        what: "Who takes it up keeps the old agenda",
        file: STATE,
        rule: "        for index in 0..self.nodes.entries().len() {\n            self.schedule(index);\n        }\n    }\n\n    /// Folds",
        broken: "    }\n\n    /// Folds",
        caught_by: &["SuccessorIsEqual"],
    },
    Break {
        what: "Who joins is not expected",
        file: STATE,
        rule: "Fact::NodeJoined { at, node, previous } => self.join(node, previous, *at),",
        broken: "Fact::NodeJoined { .. } => {}",
        caught_by: &["who_joined_is_expected_and_who_left_is_not", "ConvergedIsTrue", "NewestFirst"],
    },
    Break {
        what: "An interrupted migration is run again by itself",
        file: STATE,
        rule: "self.unresolved = Some(Halt::Interrupted { name: self.migration_name(), reason: reason.clone() });",
        broken: "drop(reason.clone());",
        caught_by: &[
            "a_migration_runs_again_by_a_persons_wish_only",
            "silence_ends_every_phase_in_bounded_time",
            "MigratedOnce",
        ],
    },
    Break {
        what: "A gate that says no is passed without a person",
        file: STATE,
        rule: "self.failing = Some(Cause::GateFailed { asking: *asking, name, detail });",
        broken: "drop((name, detail));\n                self.pass_gate(*asking);",
        caught_by: &[
            "a_gate_without_a_yes_is_passed_by_a_person_only",
            "no_segment_starts_before_all_before_it_are_through",
            "GatesHold",
        ],
    },
    Break {
        what: "The way back has the generation of the way forward",
        file: ORDERS,
        rule: "(spec.rollback_generation, previous.hold.clone(), Millis(0))",
        broken: "(spec.generation, previous.hold.clone(), Millis(0))",
        caught_by: &["an_order_is_forward_or_back_to_what_the_node_held", "GenerationsGrow"],
    },
    Break {
        what: "The migration is told to another node under the same number",
        file: ORDERS,
        rule: "node: self.migration.node.clone()?,",
        broken: "node: self.spec.segments.first()?.last()?.clone(),",
        caught_by: &["a_migration_is_told_to_one_node_under_one_number", "story_the_migration_runs_once_in_its_place"],
    },
    Break {
        what: "The time to be woken forgets the nodes",
        file: ORDERS,
        rule: "own.into_iter().chain(agenda).chain(self.decision_due()).min()",
        broken: "own.into_iter().chain(agenda.filter(|_| false)).chain(self.decision_due()).min()",
        caught_by: &[
            "whoever_waits_is_woken_and_not_without_end",
            "silence_ends_every_phase_in_bounded_time",
            "WaitsSayWhy",
        ],
    },
    Break {
        what: "What differs on a node that is at work on its order is called drift",
        file: ORDERS,
        rule: "Some(NodeState::Ordered { .. } | NodeState::Restoring { .. }) => true,",
        broken: "Some(NodeState::Ordered { .. } | NodeState::Restoring { .. }) => false,",
        caught_by: &["who_is_at_work_on_an_order_has_not_drifted"],
    },
    Break {
        what: "A node whose failure is waived counts against the budget",
        file: NODES,
        rule: "matches!(entry.state, NodeState::Failed { .. }) && entry.waiver.is_none();",
        broken: "matches!(entry.state, NodeState::Failed { .. });",
        caught_by: &[
            "counts_are_what_a_recount_gives",
            "story_a_waiver_is_the_only_way_past_a_node_and_is_in_the_outcome",
        ],
    },
    Break {
        what: "One failure more than the budget is allowed",
        file: BUDGET,
        rule: "Self::Nodes(allowed) => failed > allowed,",
        broken: "Self::Nodes(allowed) => failed > allowed + 1,",
        caught_by: &["silence_ends_every_phase_in_bounded_time", "BudgetHolds"],
    },
    Break {
        what: "A budget in percent is rounded up to whole nodes",
        file: BUDGET,
        rule: "failed.saturating_mul(100) > usize::from(percent).saturating_mul(total)",
        broken: "failed > usize::from(percent).saturating_mul(total).div_ceil(100)",
        caught_by: &["ansible_max_fail_percentage", "budgets_turn_back_when_exceeded_not_when_reached"],
    },
    Break {
        what: "Without a bake the confirmation is not waited for",
        file: SPEC,
        rule: "self.bake > Millis(0) || self.confirm > Millis(0)",
        broken: "self.bake > Millis(0)",
        caught_by: &["nothing_follows_a_segment_that_may_undo_itself", "BakedBefore"],
    },
];
