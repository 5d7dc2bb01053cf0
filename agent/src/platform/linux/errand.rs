//! Running something once to its end: a shell in a session of its own, apart from every service. Nothing of it is left
//! when its end is told. When to run what is decided elsewhere.

use std::collections::BTreeSet;
use std::time::Duration;

use rustix::process::Signal;
use tokio::time::Instant;

use super::identity::{gone, signal};
use super::lineage::{Glimpse, Snapshot};
use super::proc::{self, Identity};
use super::start;
use crate::platform::{Errand, ErrandEnd, ProcessError, SeenErrand};

/// Between SIGTERM and SIGKILL.
const TERM_PATIENCE: Duration = Duration::from_secs(5);
/// SIGKILL takes effect at once unless the kernel itself is stuck.
const KILL_PATIENCE: Duration = Duration::from_secs(5);
/// How often to look whether a session that was told to end has done so.
const POLL: Duration = Duration::from_millis(20);

/// Runs it to its end, or until its time is up; then everything of its session is ended.
///
/// # Errors
/// It could not be started: nothing of it ever ran.
pub(super) async fn run(errand: &Errand) -> Result<ErrandEnd, ProcessError> {
    let command = start::errand(errand)?;
    let mut child = tokio::process::Command::from(command)
        .kill_on_drop(false)
        .spawn()
        .map_err(|cause| ProcessError::Start { program: start::SHELL.to_owned(), reason: cause.to_string() })?;
    // Until it is waited for, its number and its session's cannot go to others, however soon it ends.
    let Some(leader) = child.id().and_then(proc::stat).map(|stat| stat.identity) else {
        return Ok(ErrandEnd::Unknown { reason: "/proc does not show the process just started".to_owned() });
    };
    let in_time = tokio::time::timeout(errand.timeout.to_std(), gone(leader)).await;
    if in_time.is_ok() && !members(leader).is_empty() {
        tracing::warn!(name = errand.name, "it has ended and left processes running; they are ended");
    }
    end(leader).await;
    let status = tokio::time::timeout(KILL_PATIENCE, child.wait()).await;
    Ok(match (in_time, status) {
        (Err(_), _) => ErrandEnd::TimedOut,
        (Ok(()), Ok(Ok(status))) if status.success() => ErrandEnd::Succeeded,
        (Ok(()), Ok(Ok(status))) => ErrandEnd::Failed { status: status.to_string() },
        (Ok(()), Ok(Err(cause))) => ErrandEnd::Unknown { reason: format!("its end cannot be read: {cause}") },
        (Ok(()), Err(_)) => ErrandEnd::Unknown { reason: "its end cannot be read: it hangs in the kernel".to_owned() },
    })
}

/// Every process of the machine that carries the mark of an errand.
pub(super) fn seen() -> Vec<SeenErrand> {
    let seen = |pid: u32| {
        let stat = proc::stat(pid).filter(proc::Stat::executes)?;
        let (deployment, attempt) = proc::errand_mark(&stat.details())?;
        Some(SeenErrand { pid, deployment, attempt })
    };
    proc::numbers().unwrap_or_default().into_iter().filter_map(seen).collect()
}

/// The numbers of the errands that this very agent runs, with their sessions and descendants. Only a child of the agent
/// with the mark and without a service's is one: another program cannot hide by carrying the mark, and what an agent of
/// before has left shows as what it is.
pub(super) fn own(snapshot: &Snapshot) -> BTreeSet<u32> {
    let leaders: BTreeSet<u32> = snapshot.values().filter(|glimpse| is_own(glimpse)).map(leader_number).collect();
    if leaders.is_empty() {
        return leaders;
    }
    let mut own: BTreeSet<u32> = snapshot
        .values()
        .filter(|glimpse| leaders.contains(&glimpse.stat.session) || leaders.contains(&leader_number(glimpse)))
        .map(leader_number)
        .collect();
    // Children come after their parents only by chance, so this goes on until nothing is new.
    loop {
        let found: Vec<u32> = snapshot
            .values()
            .filter(|glimpse| own.contains(&glimpse.stat.parent) && !own.contains(&leader_number(glimpse)))
            .map(leader_number)
            .collect();
        if found.is_empty() {
            return own;
        }
        own.extend(found);
    }
}

/// Whether it is an errand that this agent has started.
pub(super) fn is_own(glimpse: &Glimpse) -> bool {
    glimpse.stat.parent == std::process::id()
        && glimpse.marks.is_none()
        && proc::errand_mark(&glimpse.details).is_some()
}

fn leader_number(glimpse: &Glimpse) -> u32 {
    glimpse.stat.identity.pid
}

/// Ends everything of the session: asked, and after a while killed.
async fn end(leader: Identity) {
    for (what, patience) in [(Signal::TERM, TERM_PATIENCE), (Signal::KILL, KILL_PATIENCE)] {
        let until = Instant::now() + patience;
        let mut asked = BTreeSet::new();
        loop {
            let left = members(leader);
            if left.is_empty() {
                return;
            }
            if Instant::now() >= until {
                break;
            }
            for identity in left {
                // What is forked meanwhile is asked too, and each once.
                if asked.insert(identity) {
                    for signal_number in [what, Signal::CONT] {
                        if let Err(cause) = signal(identity, signal_number) {
                            tracing::warn!(pid = identity.pid, "cannot signal: {cause}");
                        }
                    }
                }
            }
            tokio::time::sleep(POLL).await;
        }
    }
    tracing::error!(session = leader.pid, "something of it outlives SIGKILL: it hangs in the kernel");
}

/// What runs in the session.
fn members(leader: Identity) -> Vec<Identity> {
    let member = |pid| {
        let stat = proc::stat(pid)?;
        let belongs = stat.session == leader.pid && stat.executes() && stat.identity.start_ticks >= leader.start_ticks;
        belongs.then_some(stat.identity)
    };
    proc::numbers().unwrap_or_default().into_iter().filter_map(member).collect()
}
