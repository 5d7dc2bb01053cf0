//! Breaks of planning (`plan/`) and of its arithmetic: capacity, segments, order.

use crate::Break;

const PLAN: &str = "fleet/src/deployment/plan/mod.rs";

pub(crate) const BREAKS: &[Break] = &[
    Break {
        what: "A floor that lets nobody go does not block the plan",
        file: PLAN,
        rule: "if must_be_taken && present.len() <= floor {",
        broken: "if must_be_taken && present.len() < floor {",
        caught_by: &[
            "a_floor_that_lets_nobody_go_blocks_the_plan",
            "a_plan_is_for_the_fleet_after_its_parent_and_keeps_its_blocks",
        ],
    },
    Break {
        what: "A plan gives both ways the same generation",
        file: PLAN,
        rule: "rollback_generation: Generation(generation.0 + 1),",
        broken: "rollback_generation: generation,",
        caught_by: &["a_plan_becomes_the_deployment_that_was_shown"],
    },
];
