//! Turning a join token into an identity: the one call that needs no certificate. The authority signs here; whether
//! the token is good and the name is free is the mind's to say, in one turn, so that a token is never used twice.

use std::sync::Arc;
use std::time::Duration;

use fleet::id::LONGEST_NAME;
use fleet_certs::{Authority, Identity, Peer, Role};
use fleet_proto::v1;
use tonic::{Request, Response, Status};

use crate::api::status;
use crate::clock;
use crate::mind::{Ask, JoinAs, Mind, Refusal, check_labels};

/// How long a node's certificate lives.
const NODE_LIFETIME: Duration = Duration::from_secs(90 * 24 * 3_600);
/// How long an operator's certificate lives. Shorter ones need renewal by use, which is later work.
const OPERATOR_LIFETIME: Duration = Duration::from_secs(30 * 24 * 3_600);
/// The largest signing request; one with a P-256 key has about 400 bytes.
const LARGEST_CSR: usize = 16 << 10;

/// The service that newcomers call.
pub struct EnrolmentService {
    mind: Mind,
    authority: Arc<Authority>,
}

impl EnrolmentService {
    /// Signs with `authority` what `mind` grants.
    pub fn new(mind: Mind, authority: Arc<Authority>) -> Self {
        Self { mind, authority }
    }
}

#[tonic::async_trait]
impl v1::enrolment_server::Enrolment for EnrolmentService {
    async fn join(&self, request: Request<v1::JoinRequest>) -> Result<Response<v1::JoinReply>, Status> {
        let from = request.extensions().get::<Peer>().map(|peer| peer.address.to_string()).unwrap_or_default();
        let request = request.into_inner();
        if request.csr_pem.len() > LARGEST_CSR {
            let what = format!("the signing request is larger than {LARGEST_CSR} bytes");
            return Err(status(Refusal::input(what, "join again with a fresh key")));
        }
        // Anyone may come here, and the name is written to the log.
        if request.name.len() > LONGEST_NAME {
            let what = format!("a name may have {LONGEST_NAME} characters, this one has {}", request.name.len());
            return Err(status(Refusal::input(what, "choose another name (--name)")));
        }
        check_labels(request.labels.iter()).map_err(|why| {
            status(Refusal::input(format!("the node's labels: {why}"), "use short labels: --label role=web"))
        })?;
        let authority = self.authority.clone();
        let (name, csr_pem) = (request.name.clone(), request.csr_pem);
        let issue = move |role: Role| {
            let lifetime = match role {
                Role::Node => NODE_LIFETIME,
                Role::Operator | Role::Controller => OPERATOR_LIFETIME,
            };
            let refuse = |e: fleet_certs::Error| {
                Refusal::input(format!("no certificate is issued: {e}"), "join again with a fresh key")
            };
            let identity = Identity::new(role, name).map_err(refuse)?;
            authority.issue(&csr_pem, &identity, &[], lifetime, clock::system_now()).map_err(refuse)
        };
        let wish = JoinAs {
            token_id: request.token_id,
            token_secret: request.token_secret,
            name: request.name.clone(),
            labels: request.labels.into_iter().collect(),
            issue: Box::new(issue),
        };
        match self.mind.ask(|to| Ask::Join(Box::new(wish), to)).await {
            Ok(joined) => Ok(Response::new(v1::JoinReply {
                certificate_pem: joined.issued.pem,
                ca_pem: self.authority.ca_pem().to_owned(),
                name: request.name,
            })),
            Err(refusal) => {
                tracing::warn!(from, name = request.name, reason = refusal.what, "joining refused");
                Err(status(refusal))
            }
        }
    }
}
