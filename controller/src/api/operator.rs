//! The operators' calls. Each reads its message, asks the mind, and answers; streams follow the mind's pulse.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use fleet::looked::Depth;
use fleet::{Digest, NodeName, Timestamp};
use fleet_certs::{Authority, JoinToken, Peer, Role, TokenGrant};
use fleet_proto::{convert, rollout, v1};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::api::status;
use crate::artifacts::{ArtifactError, Artifacts};
use crate::clock;
use crate::mind::{Actor, Ask, Mind, Refusal, check_labels};
use crate::records::StatementRecord;

/// How long a fresh round is waited for when nothing is said, and at most.
const ROUND_PATIENCE: Duration = Duration::from_secs(5);
const LONGEST_ROUND: Duration = Duration::from_secs(120);
/// How often a watcher is told of a deployment at most: enough for a live view.
const WATCH_EVERY: Duration = Duration::from_millis(50);
/// The life of a token when nothing is said, and at most.
const TOKEN_LIFETIME_MS: u64 = 3_600_000;
const LONGEST_TOKEN_MS: u64 = 30 * 24 * 3_600_000;
/// The most uses of one token.
const MOST_USES: u32 = 10_000;

/// The service that operators call.
pub struct OperatorService {
    mind: Mind,
    artifacts: Artifacts,
    authority: Arc<Authority>,
}

impl OperatorService {
    /// Asks `mind` what operators ask.
    pub fn new(mind: Mind, artifacts: Artifacts, authority: Arc<Authority>) -> Self {
        Self { mind, artifacts, authority }
    }

    async fn ask<T>(&self, question: impl FnOnce(crate::mind::Reply<T>) -> Ask) -> Result<Response<T>, Status> {
        self.mind.ask(question).await.map(Response::new).map_err(status)
    }

    /// Right after a start of the controller, waits for the agents to come back: a deployment that is asked for in that
    /// moment is not refused because nobody is there yet.
    async fn settle(&self) -> Result<(), Status> {
        let mut pulse = self.mind.pulse();
        loop {
            pulse.mark_unchanged();
            let left = self.mind.ask(Ask::Settling).await.map_err(status)?;
            if left == fleet::Millis(0) {
                return Ok(());
            }
            // A beat or the end of the time, whichever is first: then it is asked again.
            let _ = tokio::time::timeout(left.to_std(), pulse.changed()).await;
        }
    }

    /// Starts a round and waits until every connected node has answered it, or patience ends.
    async fn round(
        &self,
        service: &str,
        depth: Depth,
        patience: Duration,
    ) -> Result<(Timestamp, crate::mind::Proofs), Status> {
        let mut pulse = self.mind.pulse();
        let since = self.mind.ask(|to| Ask::Round(depth, to)).await.map_err(status)?;
        let until = Instant::now() + patience;
        loop {
            pulse.mark_unchanged();
            let proofs = self.mind.ask(|to| Ask::Proofs(service.to_owned(), since, depth, to)).await.map_err(status)?;
            if proofs.outstanding.is_empty() || tokio::time::timeout_at(until, pulse.changed()).await.is_err() {
                return Ok((since, proofs));
            }
        }
    }
}

fn actor<T>(request: &Request<T>) -> Actor {
    let identity = request.extensions().get::<Peer>().and_then(|peer| peer.identity.as_ref());
    identity.map_or_else(|| "unknown".into(), |identity| identity.name().to_owned())
}

fn summary(record: StatementRecord) -> v1::StatementSummary {
    v1::StatementSummary {
        sequence: record.sequence,
        digest: record.digest.to_string(),
        made_at_ms: record.made_at.0,
        occasion: record.occasion.as_str().into(),
        about: record.about,
        actor: record.actor,
        verdict: record.verdict.as_str().into(),
        proven: record.proven,
        nodes: record.nodes,
        size: record.size,
    }
}

fn refuse_artifact(error: ArtifactError) -> Status {
    match &error {
        ArtifactError::Io { .. } => {
            status(Refusal::precheck(format!("the bundle was not kept: {error}"), "look at the controller's disk"))
        }
        ArtifactError::WrongDigest { .. } | ArtifactError::TooLarge { .. } | ArtifactError::Bundle(_) => {
            status(Refusal::input(error.to_string(), "pack the release again: fleetctl releases create"))
        }
    }
}

#[tonic::async_trait]
impl v1::operator_server::Operator for OperatorService {
    async fn version(&self, request: Request<v1::VersionRequest>) -> Result<Response<v1::VersionReply>, Status> {
        let actor = actor(&request);
        self.ask(|to| Ask::Version(actor, to)).await
    }

    async fn upload_release(
        &self,
        request: Request<Streaming<v1::UploadReleaseRequest>>,
    ) -> Result<Response<v1::Release>, Status> {
        let actor = actor(&request);
        let mut parts = request.into_inner();
        let input = |what: &str| status(Refusal::input(what, "use a fleetctl of this controller's version"));
        let header = match parts.message().await? {
            Some(v1::UploadReleaseRequest { part: Some(v1::upload_release_request::Part::Header(header)) }) => header,
            Some(_) | None => return Err(input("an upload begins with its header")),
        };
        let digest: Digest = convert::parse("digest", &header.digest).map_err(|e| input(&e.to_string()))?;
        let artifacts = self.artifacts.clone();
        let blocking = |e: tokio::task::JoinError| Status::internal(format!("the upload was interrupted: {e}"));
        let descriptor = if self.artifacts.has(&digest) {
            tokio::task::spawn_blocking(move || artifacts.describe(&digest))
                .await
                .map_err(blocking)?
                .map_err(refuse_artifact)?
        } else {
            let mut incoming = self.artifacts.receive(digest, header.size).map_err(refuse_artifact)?;
            while let Some(part) = parts.message().await? {
                let Some(v1::upload_release_request::Part::Data(data)) = part.part else {
                    return Err(input("an upload has one header"));
                };
                incoming = tokio::task::spawn_blocking(move || incoming.write(&data).map(|()| incoming))
                    .await
                    .map_err(blocking)?
                    .map_err(refuse_artifact)?;
            }
            tokio::task::spawn_blocking(move || incoming.finish()).await.map_err(blocking)?.map_err(refuse_artifact)?
        };
        // What is kept decides, not what was announced: agents fetch by this size.
        let size = self.artifacts.size(&digest).map_err(refuse_artifact)?;
        self.ask(|to| Ask::AddRelease(actor, digest, size, Box::new(descriptor), to)).await
    }

    async fn list_releases(
        &self,
        request: Request<v1::ListReleasesRequest>,
    ) -> Result<Response<v1::ListReleasesReply>, Status> {
        let releases = self.ask(|to| Ask::ListReleases(request.into_inner().service, to)).await?.into_inner();
        Ok(Response::new(v1::ListReleasesReply { releases }))
    }

    async fn get_release(
        &self,
        request: Request<v1::GetReleaseRequest>,
    ) -> Result<Response<v1::GetReleaseReply>, Status> {
        self.ask(|to| Ask::GetRelease(request.into_inner().name, to)).await
    }

    async fn plan_deployment(&self, request: Request<v1::DeploymentRequest>) -> Result<Response<v1::Plan>, Status> {
        let actor = actor(&request);
        self.settle().await?;
        self.ask(|to| Ask::Plan(actor, request.into_inner(), to)).await
    }

    async fn start_deployment(
        &self,
        request: Request<v1::DeploymentRequest>,
    ) -> Result<Response<v1::Deployment>, Status> {
        let actor = actor(&request);
        self.settle().await?;
        self.ask(|to| Ask::Start(actor, request.into_inner(), to)).await
    }

    async fn plan_rollback(&self, request: Request<v1::RollbackRequest>) -> Result<Response<v1::Plan>, Status> {
        let actor = actor(&request);
        self.settle().await?;
        self.ask(|to| Ask::PlanRollback(actor, request.into_inner(), to)).await
    }

    async fn start_rollback(&self, request: Request<v1::RollbackRequest>) -> Result<Response<v1::Deployment>, Status> {
        let actor = actor(&request);
        self.settle().await?;
        self.ask(|to| Ask::StartRollback(actor, request.into_inner(), to)).await
    }

    async fn abort_deployment(&self, request: Request<v1::AbortRequest>) -> Result<Response<v1::Deployment>, Status> {
        let actor = actor(&request);
        self.ask(|to| Ask::Abort(actor, request.into_inner(), to)).await
    }

    async fn tell_deployment(&self, request: Request<v1::TellRequest>) -> Result<Response<v1::Deployment>, Status> {
        let actor = actor(&request);
        self.ask(|to| Ask::Tell(actor, request.into_inner(), to)).await
    }

    async fn answer_gate(&self, request: Request<v1::AnswerGateRequest>) -> Result<Response<v1::Deployment>, Status> {
        let actor = actor(&request);
        let request = request.into_inner();
        let input = |what: String| status(Refusal::input(what, "use a fleetctl of this controller's version"));
        let verdict = rollout::verdict(&request.verdict, request.detail).map_err(|e| input(e.to_string()))?;
        let asking = request.asking.ok_or_else(|| input("the answer names no asking".into()))?;
        self.ask(|to| Ask::AnswerGate(actor, request.deployment, asking.into(), verdict, to)).await
    }

    async fn list_plans(&self, request: Request<v1::ListPlansRequest>) -> Result<Response<v1::ListPlansReply>, Status> {
        let plans = self.ask(|to| Ask::ListPlans(request.into_inner().service, to)).await?.into_inner();
        Ok(Response::new(v1::ListPlansReply { plans }))
    }

    async fn hold_lock(&self, request: Request<v1::HoldLockRequest>) -> Result<Response<v1::Lock>, Status> {
        let actor = actor(&request);
        self.ask(|to| Ask::HoldLock(actor, request.into_inner(), to)).await
    }

    async fn release_lock(&self, request: Request<v1::ReleaseLockRequest>) -> Result<Response<v1::Lock>, Status> {
        let actor = actor(&request);
        self.ask(|to| Ask::ReleaseLock(actor, request.into_inner().service, to)).await
    }

    async fn list_locks(
        &self,
        _request: Request<v1::ListLocksRequest>,
    ) -> Result<Response<v1::ListLocksReply>, Status> {
        let locks = self.ask(Ask::ListLocks).await?.into_inner();
        Ok(Response::new(v1::ListLocksReply { locks }))
    }

    async fn get_deployment(
        &self,
        request: Request<v1::GetDeploymentRequest>,
    ) -> Result<Response<v1::Deployment>, Status> {
        let name = request.into_inner().deployment;
        let (deployment, _) = self.ask(|to| Ask::GetDeployment(name, u64::MAX, to)).await?.into_inner();
        Ok(Response::new(deployment))
    }

    async fn list_deployments(
        &self,
        request: Request<v1::ListDeploymentsRequest>,
    ) -> Result<Response<v1::ListDeploymentsReply>, Status> {
        let request = request.into_inner();
        let deployments = self.ask(|to| Ask::ListDeployments(request.service, request.limit, to)).await?.into_inner();
        Ok(Response::new(v1::ListDeploymentsReply { deployments }))
    }

    type WatchDeploymentStream = Pin<Box<dyn Stream<Item = Result<v1::DeploymentUpdate, Status>> + Send>>;

    async fn watch_deployment(
        &self,
        request: Request<v1::WatchDeploymentRequest>,
    ) -> Result<Response<Self::WatchDeploymentStream>, Status> {
        let request = request.into_inner();
        let mind = self.mind.clone();
        let (updates, stream) = mpsc::channel(4);
        // Asked once before the stream opens, so that an unknown id is refused as an error of the call.
        let mut last = mind
            .ask(|to| Ask::GetDeployment(request.deployment.clone(), request.from_fact, to))
            .await
            .map_err(status)?;
        tokio::spawn(async move {
            let mut pulse = mind.pulse();
            loop {
                let (deployment, facts) = last.clone();
                let next = deployment.facts;
                let over = !deployment.outcome.is_empty();
                if updates.send(Ok(v1::DeploymentUpdate { deployment: Some(deployment), facts })).await.is_err() || over
                {
                    return;
                }
                loop {
                    tokio::select! {
                        changed = pulse.changed() => if changed.is_err() { return },
                        () = updates.closed() => return,
                    }
                    match mind.ask(|to| Ask::GetDeployment(request.deployment.clone(), next, to)).await {
                        Ok(now) if now.1.is_empty() && now.0 == last.0 => {}
                        Ok(now) => {
                            last = now;
                            break;
                        }
                        Err(refusal) => return drop(updates.send(Err(status(refusal))).await),
                    }
                    tokio::time::sleep(WATCH_EVERY).await;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    async fn status(&self, _request: Request<v1::StatusRequest>) -> Result<Response<v1::StatusReply>, Status> {
        self.ask(Ask::Status).await
    }

    async fn drift(&self, request: Request<v1::DriftRequest>) -> Result<Response<v1::DriftReport>, Status> {
        let request = request.into_inner();
        if request.fresh {
            self.round(&request.service, Depth::Sweep, ROUND_PATIENCE).await?;
        }
        self.ask(|to| Ask::Drift(request, to)).await
    }

    async fn verify(&self, request: Request<v1::VerifyRequest>) -> Result<Response<v1::VerifyReply>, Status> {
        let actor = actor(&request);
        let request = request.into_inner();
        let patience = if request.timeout_ms == 0 {
            ROUND_PATIENCE
        } else {
            Duration::from_millis(request.timeout_ms).min(LONGEST_ROUND)
        };
        let depth = if request.rehash { Depth::Hash } else { Depth::Sweep };
        let (since, _) = self.round(&request.service, depth, patience).await?;
        self.ask(|to| Ask::Verify(actor, request.service, since, depth, to)).await
    }

    async fn list_statements(
        &self,
        request: Request<v1::ListStatementsRequest>,
    ) -> Result<Response<v1::ListStatementsReply>, Status> {
        let list = self.ask(|to| Ask::ListStatements(request.into_inner().after, to)).await?.into_inner();
        Ok(Response::new(v1::ListStatementsReply { statements: list.into_iter().map(summary).collect() }))
    }

    async fn get_statement(
        &self,
        request: Request<v1::GetStatementRequest>,
    ) -> Result<Response<v1::GetStatementReply>, Status> {
        self.ask(|to| Ask::GetStatement(request.into_inner(), to)).await
    }

    async fn list_nodes(
        &self,
        _request: Request<v1::ListNodesRequest>,
    ) -> Result<Response<v1::ListNodesReply>, Status> {
        let nodes = self.ask(Ask::ListNodes).await?.into_inner();
        Ok(Response::new(v1::ListNodesReply { nodes }))
    }

    async fn get_node(&self, request: Request<v1::GetNodeRequest>) -> Result<Response<v1::GetNodeReply>, Status> {
        self.ask(|to| Ask::GetNode(request.into_inner().name, to)).await
    }

    async fn remove_node(
        &self,
        request: Request<v1::RemoveNodeRequest>,
    ) -> Result<Response<v1::RemoveNodeReply>, Status> {
        let actor = actor(&request);
        let request = request.into_inner();
        let name: NodeName = convert::parse("name", &request.name)
            .map_err(|e| status(Refusal::input(e.to_string(), "list them: fleetctl nodes list")))?;
        self.ask(|to| Ask::RemoveNode(actor, name, request.reason.chars().take(1_000).collect(), to)).await
    }

    async fn import_nodes(
        &self,
        request: Request<v1::ImportNodesRequest>,
    ) -> Result<Response<v1::ImportNodesReply>, Status> {
        let actor = actor(&request);
        self.ask(|to| Ask::ImportNodes(actor, request.into_inner(), to)).await
    }

    async fn create_token(
        &self,
        request: Request<v1::CreateTokenRequest>,
    ) -> Result<Response<v1::CreateTokenReply>, Status> {
        let created_by = actor(&request);
        let request = request.into_inner();
        let input = |what: String| status(Refusal::input(what, "see: fleetctl tokens create --help"));
        let role = match request.role.as_str() {
            "" | "node" => Role::Node,
            "operator" => Role::Operator,
            other => return Err(input(format!("'{}' is not a role: use node or operator", other.escape_default()))),
        };
        let uses = request.uses.max(1);
        if uses > MOST_USES {
            return Err(input(format!("{uses} uses are more than the {MOST_USES} a token may have")));
        }
        let lifetime = if request.ttl_ms == 0 { TOKEN_LIFETIME_MS } else { request.ttl_ms };
        if lifetime > LONGEST_TOKEN_MS {
            return Err(input("a token may live 30 days at most".into()));
        }
        let expires_at_ms = clock::now().after(fleet::Millis(lifetime)).0;
        check_labels(request.labels.iter()).map_err(|why| input(format!("the token's labels: {why}")))?;
        let name = Some(request.name).filter(|name| !name.is_empty());
        let grant =
            TokenGrant { role, uses, expires_at_ms, name, labels: request.labels.into_iter().collect(), created_by };
        let (token, record) = JoinToken::mint(self.authority.ca_hash(), grant).map_err(|e| input(e.to_string()))?;
        self.mind.ask(|to| Ask::AddToken(Box::new(record), to)).await.map_err(status)?;
        Ok(Response::new(v1::CreateTokenReply { token: token.reveal(), expires_at_ms, uses }))
    }
}
