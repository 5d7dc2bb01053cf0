//! Who may call what: one table, and one layer that holds every call against it before anything is parsed. What is
//! not in the table is refused.

use std::task::{Context, Poll};

use fleet_certs::{Peer, Role};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http;
use tower::{Layer, Service};

use crate::api::status;
use crate::mind::Refusal;

/// Every method, and the roles that may call it. An empty list means that no certificate is needed.
pub const TABLE: &[(&str, &[Role])] = &[
    ("/fleet.v1.Enrolment/Join", &[]),
    ("/fleet.v1.Link/Session", &[Role::Node]),
    ("/fleet.v1.Link/FetchBundle", &[Role::Node]),
    ("/fleet.v1.Link/Confirm", &[Role::Node]),
    ("/fleet.v1.Operator/Version", &[Role::Operator]),
    ("/fleet.v1.Operator/UploadRelease", &[Role::Operator]),
    ("/fleet.v1.Operator/ListReleases", &[Role::Operator]),
    ("/fleet.v1.Operator/GetRelease", &[Role::Operator]),
    ("/fleet.v1.Operator/PlanDeployment", &[Role::Operator]),
    ("/fleet.v1.Operator/StartDeployment", &[Role::Operator]),
    ("/fleet.v1.Operator/PlanRollback", &[Role::Operator]),
    ("/fleet.v1.Operator/StartRollback", &[Role::Operator]),
    ("/fleet.v1.Operator/AbortDeployment", &[Role::Operator]),
    ("/fleet.v1.Operator/TellDeployment", &[Role::Operator]),
    ("/fleet.v1.Operator/AnswerGate", &[Role::Operator]),
    ("/fleet.v1.Operator/ListPlans", &[Role::Operator]),
    ("/fleet.v1.Operator/HoldLock", &[Role::Operator]),
    ("/fleet.v1.Operator/ReleaseLock", &[Role::Operator]),
    ("/fleet.v1.Operator/ListLocks", &[Role::Operator]),
    ("/fleet.v1.Operator/GetDeployment", &[Role::Operator]),
    ("/fleet.v1.Operator/ListDeployments", &[Role::Operator]),
    ("/fleet.v1.Operator/WatchDeployment", &[Role::Operator]),
    ("/fleet.v1.Operator/Status", &[Role::Operator]),
    ("/fleet.v1.Operator/Drift", &[Role::Operator]),
    ("/fleet.v1.Operator/Verify", &[Role::Operator]),
    ("/fleet.v1.Operator/ListStatements", &[Role::Operator]),
    ("/fleet.v1.Operator/GetStatement", &[Role::Operator]),
    ("/fleet.v1.Operator/ListNodes", &[Role::Operator]),
    ("/fleet.v1.Operator/GetNode", &[Role::Operator]),
    ("/fleet.v1.Operator/RemoveNode", &[Role::Operator]),
    ("/fleet.v1.Operator/ImportNodes", &[Role::Operator]),
    ("/fleet.v1.Operator/CreateToken", &[Role::Operator]),
];

/// Whether this peer may call this method.
fn check(method: &str, peer: Option<&Peer>) -> Result<(), Refusal> {
    let Some((_, roles)) = TABLE.iter().find(|(name, _)| *name == method) else {
        return Err(Refusal::not_allowed(
            format!("there is no method '{}'", method.escape_default()),
            "use a fleetctl of this controller's version",
        ));
    };
    if roles.is_empty() {
        return Ok(());
    }
    let allowed = roles.iter().map(|role| role.as_str()).collect::<Vec<_>>().join(" or ");
    match peer.and_then(|peer| peer.identity.as_ref()) {
        Some(identity) if roles.contains(&identity.role()) => Ok(()),
        Some(identity) => Err(Refusal::not_allowed(
            format!(
                "{method} may be called by {allowed} certificates only, this is {} '{}'",
                identity.role().as_str(),
                identity.name()
            ),
            "use an operator's certificate: fleetctl login, or --context",
        )),
        None => Err(Refusal::not_allowed(
            format!("{method} needs an {allowed} certificate, none was presented"),
            "get one: fleetctl login HOST:PORT --token-file FILE",
        )),
    }
}

/// Puts the check in front of every service.
#[derive(Debug, Clone, Copy)]
pub struct AccessLayer;

impl<S> Layer<S> for AccessLayer {
    type Service = Access<S>;
    fn layer(&self, inner: S) -> Access<S> {
        Access { inner }
    }
}

/// A service behind the check.
#[derive(Debug, Clone)]
pub struct Access<S> {
    inner: S,
}

impl<S> Service<http::Request<Body>> for Access<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let peer = request.extensions().get::<Peer>();
        match check(request.uri().path(), peer) {
            Ok(()) => Box::pin(self.inner.call(request)),
            Err(refusal) => {
                tracing::warn!(method = request.uri().path(), address = ?peer.map(|peer| peer.address), reason = refusal.what, "call refused");
                let refused: Status = status(refusal);
                Box::pin(async move { Ok(refused.into_http()) })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use fleet_certs::Identity;

    fn peer(role: Role) -> Peer {
        Peer {
            identity: Some(Identity::new(role, "x").unwrap()),
            serial: Some("1".into()),
            address: "127.0.0.1:1".parse().unwrap(),
        }
    }

    /// Every method of the .proto files is in the table: a forgotten one would be refused, never open.
    #[test]
    fn the_table_is_complete() {
        let mut methods = Vec::new();
        for text in
            [include_str!("../../../proto/fleet/v1/link.proto"), include_str!("../../../proto/fleet/v1/operator.proto")]
        {
            let mut service = "";
            for line in text.lines().map(str::trim) {
                if let Some(rest) = line.strip_prefix("service ") {
                    service = rest.trim_end_matches(" {");
                }
                if let Some(rest) = line.strip_prefix("rpc ") {
                    methods.push(format!("/fleet.v1.{service}/{}", rest.split('(').next().unwrap()));
                }
            }
        }
        let mut table: Vec<_> = TABLE.iter().map(|(method, _)| (*method).to_owned()).collect();
        methods.sort();
        table.sort();
        assert_eq!(methods, table);
    }

    #[test]
    fn no_role_calls_what_is_not_its_own() {
        for (method, roles) in TABLE {
            assert_eq!(check(method, None).is_ok(), roles.is_empty(), "{method}");
            for role in [Role::Node, Role::Operator, Role::Controller] {
                assert_eq!(
                    check(method, Some(&peer(role))).is_ok(),
                    roles.is_empty() || roles.contains(&role),
                    "{method} {role:?}"
                );
            }
        }
        assert!(check("/fleet.v1.Operator/Nothing", Some(&peer(Role::Operator))).is_err());
        assert!(check("", Some(&peer(Role::Operator))).is_err());
    }
}
