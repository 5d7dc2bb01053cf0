//! What can be asked of the mind, and how it refuses.

use std::collections::BTreeMap;

use fleet::deployment::{Asking, Verdict};
use fleet::looked::Depth;
use fleet::outcome::exit;
use fleet::release::Descriptor;
use fleet::{DeploymentId, Digest, Generation, Millis, NodeName, ServiceName, Timestamp};
use fleet_certs::{Issued, Role, TokenRecord};
use fleet_proto::v1;
use tokio::sync::oneshot;

use crate::records::StatementRecord;

/// The way back to who asked.
pub type Reply<T> = oneshot::Sender<Result<T, Refusal>>;

/// Who asks, by certificate.
pub type Actor = String;

/// A question.
#[derive(Debug)]
pub enum Ask {
    /// Who is this.
    Version(Actor, Reply<v1::VersionReply>),
    /// A bundle was checked and kept: make it a release.
    AddRelease(Actor, Digest, u64, Box<Descriptor>, Reply<v1::Release>),
    /// Every release, of one service if named.
    ListReleases(String, Reply<Vec<v1::Release>>),
    /// One release by name.
    GetRelease(String, Reply<v1::GetReleaseReply>),
    /// How long agents may still take to come back after the start of this controller; nothing once all are back.
    Settling(Reply<Millis>),
    /// What a deployment would do.
    Plan(Actor, v1::DeploymentRequest, Reply<v1::Plan>),
    /// Start one.
    Start(Actor, v1::DeploymentRequest, Reply<v1::Deployment>),
    /// What a rollback would do.
    PlanRollback(Actor, v1::RollbackRequest, Reply<v1::Plan>),
    /// Start one.
    StartRollback(Actor, v1::RollbackRequest, Reply<v1::Deployment>),
    /// End one.
    Abort(Actor, v1::AbortRequest, Reply<v1::Deployment>),
    /// Pause, resume, promote, waive.
    Tell(Actor, v1::TellRequest, Reply<v1::Deployment>),
    /// An answer to a gate, and who gives it.
    AnswerGate(Actor, String, Asking, Verdict, Reply<v1::Deployment>),
    /// The plans that were kept, of one service if named.
    ListPlans(String, Reply<Vec<v1::Plan>>),
    /// Keep deployments of a service away.
    HoldLock(Actor, v1::HoldLockRequest, Reply<v1::Lock>),
    /// No longer.
    ReleaseLock(Actor, String, Reply<v1::Lock>),
    /// Who keeps deployments away.
    ListLocks(Reply<Vec<v1::Lock>>),
    /// Whether a node has proven that it holds an order; if not, why.
    Confirm(NodeName, ServiceName, Generation, Reply<Result<(), String>>),
    /// The same, answered when its proof arrives if that may still come.
    ConfirmWhenProven(NodeName, ServiceName, Generation, Reply<Result<(), String>>),
    /// One deployment by id or prefix, with its facts from an index on.
    GetDeployment(String, u64, Reply<(v1::Deployment, Vec<v1::Fact>)>),
    /// The newest deployments, of one service if named.
    ListDeployments(String, u32, Reply<Vec<v1::Deployment>>),
    /// The fleet at a glance.
    Status(Reply<v1::StatusReply>),
    /// Start a round now in which everyone looks so deep; answers when it was asked.
    Round(Depth, Reply<Timestamp>),
    /// The open findings.
    Drift(v1::DriftRequest, Reply<v1::DriftReport>),
    /// The proofs asked for since a time that rest on a look so deep, and who has still not answered.
    Proofs(String, Timestamp, Depth, Reply<Proofs>),
    /// The same, now, signed and kept: the answer to `verify`.
    Verify(Actor, String, Timestamp, Depth, Reply<v1::VerifyReply>),
    /// The statements that are kept, with a higher number than this.
    ListStatements(u64, Reply<Vec<StatementRecord>>),
    /// One of them, by number (0: the newest) or by its deployment.
    GetStatement(v1::GetStatementRequest, Reply<v1::GetStatementReply>),
    /// The roster.
    ListNodes(Reply<Vec<v1::Node>>),
    /// One node.
    GetNode(String, Reply<v1::GetNodeReply>),
    /// Take a node out of the roster.
    RemoveNode(Actor, NodeName, String, Reply<v1::RemoveNodeReply>),
    /// Names that are expected.
    ImportNodes(Actor, v1::ImportNodesRequest, Reply<v1::ImportNodesReply>),
    /// Keep a new token.
    AddToken(Box<TokenRecord>, Reply<()>),
    /// Redeem a token; `issue` signs the certificate once the name is known to be free.
    Join(Box<JoinAs>, Reply<Joined>),
}

/// A wish to join.
pub struct JoinAs {
    /// The token's id.
    pub token_id: String,
    /// The token's secret.
    pub token_secret: String,
    /// The name wished for.
    pub name: String,
    /// The node's own labels; the token's win.
    pub labels: BTreeMap<String, String>,
    /// Signs the certificate for the role that the token gives.
    pub issue: Box<dyn FnOnce(Role) -> Result<Issued, Refusal> + Send>,
}

impl std::fmt::Debug for JoinAs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JoinAs").field("token_id", &self.token_id).field("name", &self.name).finish_non_exhaustive()
    }
}

/// A wish granted.
#[derive(Debug)]
pub struct Joined {
    /// What it is now.
    pub role: Role,
    /// Its certificate.
    pub issued: Issued,
}

/// The answers to a round.
#[derive(Debug)]
pub struct Proofs {
    /// What was proven.
    pub proofs: Vec<v1::Proof>,
    /// What was not.
    pub findings: Vec<v1::Finding>,
    /// Connected nodes that have not answered this round, or are still at work.
    pub outstanding: Vec<NodeName>,
}

/// Why something was refused: what, why, what to do, and the exit code that `fleetctl` ends with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct Refusal {
    /// What is wrong and why.
    pub what: String,
    /// What to do next.
    pub help: String,
    /// The exit code.
    pub exit: u8,
}

impl Refusal {
    /// An input that is wrong.
    pub fn input(what: impl Into<String>, help: impl Into<String>) -> Self {
        Self { what: what.into(), help: help.into(), exit: exit::DATA }
    }

    /// Something that does not exist.
    pub fn unknown(what: impl Into<String>, help: impl Into<String>) -> Self {
        Self { what: what.into(), help: help.into(), exit: exit::FAILED }
    }

    /// A pre-check that failed.
    pub fn precheck(what: impl Into<String>, help: impl Into<String>) -> Self {
        Self { what: what.into(), help: help.into(), exit: exit::FAILED }
    }

    /// Something that is in the way now.
    pub fn busy(what: impl Into<String>, help: impl Into<String>) -> Self {
        Self { what: what.into(), help: help.into(), exit: exit::BUSY }
    }

    /// Something that the caller may not do.
    pub fn not_allowed(what: impl Into<String>, help: impl Into<String>) -> Self {
        Self { what: what.into(), help: help.into(), exit: exit::NOT_ALLOWED }
    }

    /// The controller is ending.
    pub fn stopping() -> Self {
        Self {
            what: "the controller is stopping".into(),
            help: "try again in a moment".into(),
            exit: exit::UNAVAILABLE,
        }
    }
}

/// A deployment named by its id or a unique prefix.
pub(super) fn find_by_prefix<'a>(
    ids: impl Iterator<Item = &'a DeploymentId>,
    name: &str,
) -> Result<DeploymentId, Refusal> {
    if name.is_empty() {
        return Err(Refusal::input("no deployment is named", "list them: fleetctl history"));
    }
    let mut matches = ids.filter(|id| {
        id.as_str().starts_with(name) || id.as_str().strip_prefix("d-").is_some_and(|rest| rest.starts_with(name))
    });
    match (matches.next(), matches.next()) {
        (Some(id), None) => Ok(id.clone()),
        (Some(_), Some(_)) => Err(Refusal::unknown(
            format!("more than one deployment begins with '{}'", name.escape_default()),
            "write more of the id: fleetctl history",
        )),
        (None, _) => Err(Refusal::unknown(
            format!("there is no deployment '{}'", name.escape_default()),
            "list them: fleetctl history",
        )),
    }
}
