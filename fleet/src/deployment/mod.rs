//! A deployment: moving one service's release through the fleet, segment by segment, under gates. It *is* its
//! journal: [`Deployment::apply`] folds history without opinion, [`Deployment::handle`] judges what arrives and
//! says what became true. Orders, wake-up time and the reason for waiting are derived from the state, so that
//! after a crash or a change of controller the driver just asks again.
//!
//! Left to others: journaling (before anything is said), sending, the clock, running tests and migrations, and
//! comparing evidence with orders ([`crate::drift::compare`]).

mod budget;
mod by_name;
mod cause;
mod command;
mod event;
mod fact;
mod fact_words;
mod gate;
mod judge;
mod migration;
mod nodes;
mod orders;
pub mod plan;
mod spec;
mod state;
mod waiting;
mod waiver;

pub use budget::{Budget, BudgetError};
pub use cause::{Cause, Halt};
pub use command::{AbortMode, Again, Command, CommandRefusal};
pub use event::{Event, Observation, Seen};
pub use fact::Fact;
pub use gate::{Asking, Gate, Host, HostError, Source, Verdict};
pub use migration::{Migration, MigrationOrder, MigrationReport, Place};
pub use nodes::{Baked, NodeState, Nodes};
pub use spec::{Kind, OnFailure, OnFailureError, PAUSE_DEADLINE, Previous, Spec};
pub use state::{Deployment, Halted, MigrationProgress, MigrationState, Paused, Phase, Promotion, SegmentState};
pub use waiting::WaitingOn;
pub use waiver::Waiver;

#[cfg(test)]
mod tests;
