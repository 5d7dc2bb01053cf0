//! Starting a deployment exactly once, also when the controller dies while it is being asked.
//!
//! The controller saves before it says: if the connection breaks before the answer, the deployment either is in its
//! list afterwards, or was never accepted. So the list is looked at before anything is asked twice.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use fleet::outcome::exit;
use fleet_proto::v1;
use tonic::Status;

use super::Session;
use crate::client::{CALL_DEADLINE, Controller, Operator, Patience, answer, is_transport, status_failure};
use crate::failure::Failure;

/// How long planning and saving may take for a large fleet.
const START_DEADLINE: Duration = Duration::from_secs(30);
/// How long a controller that vanished while it was asked is waited for, unless `--timeout` says otherwise.
const RETURN_DEADLINE: Duration = Duration::from_secs(60);
/// Deployments of a service looked at to recognise the new one.
const RECENT: u32 = 50;

/// What to start.
#[derive(Debug, Clone)]
pub enum Start {
    /// A deployment of a release.
    Deployment(v1::DeploymentRequest),
    /// A deployment back.
    Rollback(v1::RollbackRequest),
}

impl Start {
    async fn ask(&self, client: &mut Operator) -> Result<v1::Deployment, Status> {
        let call = async {
            match self {
                Self::Deployment(request) => client.start_deployment(request.clone()).await,
                Self::Rollback(request) => client.start_rollback(request.clone()).await,
            }
        };
        match tokio::time::timeout(START_DEADLINE, call).await {
            Ok(reply) => reply.map(tonic::Response::into_inner),
            Err(_) => Err(Status::unavailable("the controller did not answer in time")),
        }
    }
}

/// Starts it, once.
///
/// # Errors
/// What the controller answered; 69 if it went away and did not come back in time.
pub async fn start(
    session: &Session,
    controller: &Controller,
    client: &mut Operator,
    service: &str,
    what: &Start,
) -> Result<v1::Deployment, Failure> {
    let known: BTreeSet<String> = recent(client, service).await?.into_iter().map(|d| d.id).collect();
    let give_up = Instant::now() + session.timeout().unwrap_or(RETURN_DEADLINE);
    let mut patience = Patience::new();
    loop {
        let status = match what.ask(client).await {
            Ok(deployment) => return Ok(deployment),
            Err(status) if is_transport(&status) => status,
            Err(status) => return Err(status_failure(&status)),
        };
        session.screen.say("the controller went away while it was asked; looking whether it had accepted");
        let deployments = loop {
            if Instant::now() >= give_up {
                return Err(Failure::new(
                    exit::UNAVAILABLE,
                    "the controller went away while it was asked, and it is not known whether the deployment started",
                )
                .because(status.message())
                .help(format!("when it is back: fleetctl history {service}")));
            }
            patience.pause().await;
            if let Ok(again) = controller.connect().await {
                *client = again;
                if let Ok(deployments) = recent(client, service).await {
                    break deployments;
                }
            }
        };
        if let Some(deployment) = deployments.into_iter().find(|d| !known.contains(&d.id)) {
            return Ok(deployment);
        }
    }
}

async fn recent(client: &mut Operator, service: &str) -> Result<Vec<v1::Deployment>, Failure> {
    let request = v1::ListDeploymentsRequest { service: service.to_owned(), limit: RECENT };
    Ok(answer(CALL_DEADLINE, client.list_deployments(request)).await?.deployments)
}
