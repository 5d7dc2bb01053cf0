//! A real controller in this process, over real sockets with mutual TLS, and two kinds of agents: those that a test
//! speaks for word by word ([`Agent`]), and those that do by themselves what they are told, or what a test makes of it
//! ([`Puppet`]).
#![allow(clippy::unwrap_used, missing_docs, dead_code, unused_imports)]

mod agent;
mod puppet;

use std::collections::BTreeMap;
use std::io::Cursor;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fleet::Digest;
use fleet::manifest::{Entry, EntryKind, Manifest};
use fleet::release::{DESCRIPTOR_FORMAT, Descriptor, Grade, Run};
use fleet_certs::{Dialer, JoinToken, KeyAndCsr};
use fleet_controller::config::{Backend, Config};
use fleet_controller::{init, serve};
use fleet_proto::v1;
use fleet_proto::v1::enrolment_client::EnrolmentClient;
use fleet_proto::v1::operator_client::OperatorClient;
use sha2::Digest as _;
use tokio::sync::watch;
use tonic::transport::Channel;
use tonic::{Code, Status};

pub use agent::{Agent, held, statement};
pub use puppet::{Act, Life, Puppet};

/// So long is waited for what must happen, before a test fails instead of hanging. Nothing is asserted by it.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// What an agent must know of a release to prove it.
#[derive(Debug, Clone)]
pub struct Known {
    /// The digest of its descriptor.
    pub compared: String,
    /// The digest of its executable.
    pub executable: String,
}

pub struct Controller {
    pub dir: tempfile::TempDir,
    pub address: String,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    served: Option<tokio::task::JoinHandle<anyhow::Result<()>>>,
    /// How often it has come up: puppets dial again when it does.
    ups: watch::Sender<u64>,
    /// By release id.
    known: Arc<Mutex<BTreeMap<String, Known>>>,
}

/// A refusal as `fleetctl` reads it.
#[derive(Debug)]
pub struct Refused {
    pub exit: u8,
    pub what: String,
    pub help: String,
}

impl Controller {
    pub async fn start() -> Self {
        fleet_certs::install_crypto_provider();
        let dir = tempfile::tempdir().unwrap();
        init::init(dir.path(), &["localhost".into(), "127.0.0.1".into()]).await.unwrap();
        let (ups, known) = (watch::Sender::new(0), Arc::default());
        let mut controller = Self { dir, address: "127.0.0.1:0".into(), stop: None, served: None, ups, known };
        controller.up().await;
        controller
    }

    pub async fn up(&mut self) {
        self.up_with(|_| {}).await;
    }

    /// Whoever dials before the controller is ready waits at its listener, which is bound here. The second time at the
    /// port of the first: it is free in the moment in which `serve` has returned.
    pub async fn up_with(&mut self, change: impl FnOnce(&mut Config)) {
        let listener = tokio::net::TcpListener::bind(&self.address).await.unwrap();
        let listen = listener.local_addr().unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let mut config = Config {
            run_tests: true,
            data_dir: self.dir.path().into(),
            listen,
            store: Backend::Sled,
            observe_every: fleet::Millis(200),
            permit: fleet::Millis(60_000),
        };
        change(&mut config);
        self.address = listen.to_string();
        self.stop = Some(stop);
        let served = async move { serve::serve_on(listener, &config, async { drop(stopped.await) }).await };
        self.served = Some(tokio::spawn(served));
        self.ups.send_modify(|ups| *ups += 1);
        self.operator().await;
    }

    pub async fn down(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
        self.served.take().unwrap().await.unwrap().unwrap();
    }

    pub async fn restart(&mut self) {
        self.down().await;
        self.up().await;
    }

    pub async fn try_operator(&self) -> Result<OperatorClient<Channel>, fleet_certs::DialError> {
        let admin = init::Layout(self.dir.path()).admin().load().unwrap();
        let dialer = Dialer::new(&admin.ca_pem, Some((&admin.cert_pem, &admin.key_pem)))?;
        Ok(OperatorClient::new(dialer.channel(&self.address, "localhost").await?))
    }

    /// The first operator, whose name is admin.
    pub async fn operator(&self) -> OperatorClient<Channel> {
        self.try_operator().await.unwrap()
    }

    pub async fn token(&self, role: &str) -> JoinToken {
        let request = v1::CreateTokenRequest { uses: 1, role: role.into(), ..Default::default() };
        self.operator().await.create_token(request).await.unwrap().into_inner().token.parse().unwrap()
    }

    /// Joins and returns a channel under the new identity.
    pub async fn join(&self, role: &str, name: &str) -> Channel {
        self.dial(&self.join_as(role, name).await).await
    }

    pub async fn dial(&self, dialer: &Dialer) -> Channel {
        dialer.channel(&self.address, "localhost").await.unwrap()
    }

    pub async fn join_as(&self, role: &str, name: &str) -> Dialer {
        let token = self.token(role).await;
        let (key, reply) = self.try_join(&token, token.secret(), name).await;
        let reply = reply.unwrap();
        Dialer::new(&reply.ca_pem, Some((&reply.certificate_pem, &key.key_pem))).unwrap()
    }

    pub async fn try_join(
        &self,
        token: &JoinToken,
        secret: &str,
        name: &str,
    ) -> (KeyAndCsr, Result<v1::JoinReply, Status>) {
        let key = KeyAndCsr::generate().unwrap();
        let dialer = Dialer::with_ca_hash(token.ca_hash()).unwrap();
        let channel = dialer.channel(&self.address, "localhost").await.unwrap();
        let request = v1::JoinRequest {
            token_id: token.id().into(),
            token_secret: secret.into(),
            csr_pem: key.csr_pem.clone(),
            name: name.into(),
            labels: [("role".to_owned(), "web".to_owned())].into(),
        };
        let reply = EnrolmentClient::new(channel).join(request).await.map(tonic::Response::into_inner);
        (key, reply)
    }

    /// A node whose agent does what it is told, once it has been observed.
    pub async fn puppet(&self, name: &str) -> Puppet {
        let dialer = self.join_as("node", name).await;
        let puppet = Puppet::new(name, dialer, self.address.clone(), self.ups.subscribe(), Arc::clone(&self.known));
        self.until_node(name, |node| node.last_observation_ms.is_some()).await;
        puppet
    }

    /// Nodes n1, n2, ... with such agents.
    pub async fn puppets(&self, count: usize) -> Vec<Puppet> {
        let mut puppets = Vec::with_capacity(count);
        for i in 1..=count {
            puppets.push(self.puppet(&format!("n{i}")).await);
        }
        puppets
    }

    pub async fn release(&self, version: &str) -> v1::Release {
        self.release_of("web", version).await
    }

    /// A release with one executable, for every node with the label `role=web`.
    pub async fn release_of(&self, service: &str, version: &str) -> v1::Release {
        let content = if service == "web" { version.to_owned() } else { format!("{service} {version}") }.into_bytes();
        let sha256 = Digest(sha2::Sha256::digest(&content).into());
        let file = Entry {
            path: "bin/web".parse().unwrap(),
            mode: 0o755,
            kind: EntryKind::File { sha256, size: content.len() as u64 },
        };
        let descriptor = Descriptor {
            format: DESCRIPTOR_FORMAT,
            service: service.parse().unwrap(),
            version: version.parse().unwrap(),
            nodes: BTreeMap::from([("role".into(), "web".into())]),
            run: Run {
                command: vec!["bin/web".into()],
                environment: BTreeMap::new(),
                user: None,
                stop_timeout: fleet::Millis(1),
            },
            health: None,
            minimum_grade: Grade::Digest,
            pins: Vec::new(),
            manifest: Manifest::new(vec![file]).unwrap(),
        };
        let mut bytes = Vec::new();
        let packed =
            fleet_bundle::pack(&descriptor, |_| Ok(Box::new(Cursor::new(content.clone()))), &mut bytes).unwrap();
        let release = self.upload(packed.digest, bytes).await.unwrap();
        let known = Known { compared: self.compared(&release).await.unwrap(), executable: sha256.to_string() };
        self.known.lock().unwrap().insert(release.id.clone(), known);
        release
    }

    /// What an agent must know to prove a release.
    pub fn known(&self, release: &str) -> Known {
        self.known.lock().unwrap()[release].clone()
    }

    /// What an agent that compared files with this release says.
    pub async fn compared(&self, release: &v1::Release) -> Option<String> {
        let request = v1::GetReleaseRequest { name: release.id.clone() };
        let descriptor = self.operator().await.get_release(request).await.unwrap().into_inner().descriptor;
        Some(Digest(sha2::Sha256::digest(descriptor).into()).to_string())
    }

    pub async fn upload(&self, digest: Digest, bytes: Vec<u8>) -> Result<v1::Release, Status> {
        let header = v1::UploadHeader { digest: digest.to_string(), size: bytes.len() as u64 };
        let parts = [v1::upload_release_request::Part::Header(header), v1::upload_release_request::Part::Data(bytes)];
        let parts = parts.map(|part| v1::UploadReleaseRequest { part: Some(part) });
        self.operator().await.upload_release(tokio_stream::iter(parts)).await.map(tonic::Response::into_inner)
    }

    pub async fn try_deploy(&self, request: v1::DeploymentRequest) -> Result<v1::Deployment, Status> {
        self.operator().await.start_deployment(request).await.map(tonic::Response::into_inner)
    }

    pub async fn deploy(&self, request: v1::DeploymentRequest) -> v1::Deployment {
        self.try_deploy(request).await.unwrap()
    }

    pub async fn deploy_refused(&self, request: v1::DeploymentRequest) -> Refused {
        refused(self.try_deploy(request).await)
    }

    /// Deploys a release everywhere, and waits until it is proven.
    pub async fn converge(&self, release: &v1::Release) -> v1::Deployment {
        let deployment = self.deploy(to(release)).await;
        let end = self.ended(&deployment.id).await;
        assert_eq!(end.outcome, "converged", "{end:?}");
        end
    }

    pub async fn plan(&self, request: v1::DeploymentRequest) -> v1::Plan {
        self.operator().await.plan_deployment(request).await.unwrap().into_inner()
    }

    pub async fn keep(&self, request: v1::DeploymentRequest) -> v1::Plan {
        let plan = self.plan(v1::DeploymentRequest { keep_plan: true, ..request }).await;
        assert!(!plan.id.is_empty());
        plan
    }

    pub async fn get(&self, id: &str) -> v1::Deployment {
        let request = v1::GetDeploymentRequest { deployment: id.into() };
        self.operator().await.get_deployment(request).await.unwrap().into_inner()
    }

    /// Watches a deployment until it is as wished.
    pub async fn until(&self, id: &str, is: impl Fn(&v1::Deployment) -> bool) -> v1::Deployment {
        let request = v1::WatchDeploymentRequest { deployment: id.into(), from_fact: 0 };
        let mut updates = self.operator().await.watch_deployment(request).await.unwrap().into_inner();
        let mut last = None;
        let watching = async {
            while let Some(update) = updates.message().await.unwrap() {
                let deployment = update.deployment.unwrap();
                if is(&deployment) {
                    return Some(deployment);
                }
                last = Some(deployment);
            }
            None
        };
        let found = tokio::time::timeout(PATIENCE, watching).await.ok().flatten();
        found.unwrap_or_else(|| panic!("it never came to that: {last:#?}"))
    }

    pub async fn until_phase(&self, id: &str, phase: &str) -> v1::Deployment {
        self.until(id, |deployment| deployment.phase == phase).await
    }

    pub async fn ended(&self, id: &str) -> v1::Deployment {
        self.until(id, |deployment| !deployment.outcome.is_empty()).await
    }

    /// The journal as it is shown: the kind of every fact and its sentence.
    pub async fn facts(&self, id: &str) -> Vec<v1::Fact> {
        let request = v1::WatchDeploymentRequest { deployment: id.into(), from_fact: 0 };
        let mut updates = self.operator().await.watch_deployment(request).await.unwrap().into_inner();
        updates.message().await.unwrap().unwrap().facts
    }

    pub async fn count_facts(&self, id: &str, kind: &str) -> usize {
        self.facts(id).await.iter().filter(|fact| fact.kind == kind).count()
    }

    /// Asks for a node until it is as wished: nodes cannot be watched.
    pub async fn until_node(&self, name: &str, is: impl Fn(&v1::Node) -> bool) -> v1::Node {
        let mut operator = self.operator().await;
        eventually(async || {
            let request = v1::GetNodeRequest { name: name.into() };
            let node = operator.get_node(request).await.unwrap().into_inner().node.unwrap();
            is(&node).then_some(node)
        })
        .await
    }

    /// The open findings, as the drift report has them.
    pub async fn drift(&self) -> Vec<v1::Finding> {
        self.operator().await.drift(v1::DriftRequest::default()).await.unwrap().into_inner().findings
    }

    /// Asks for the drift report until it is as wished.
    pub async fn until_drift<T>(&self, mut is: impl FnMut(&[v1::Finding]) -> Option<T>) -> T {
        let mut operator = self.operator().await;
        eventually(async || is(&operator.drift(v1::DriftRequest::default()).await.unwrap().into_inner().findings)).await
    }

    /// Waits until a node has answered a challenge that was drawn after this call.
    pub async fn seen_again(&self, name: &str) {
        let now = fleet_controller::clock::now().0;
        self.until_node(name, |node| node.last_observation_ms.is_some_and(|at| at > now)).await;
    }

    /// Plans until the plan is as wished.
    pub async fn until_plan(&self, request: &v1::DeploymentRequest, is: impl Fn(&v1::Plan) -> bool) -> v1::Plan {
        let mut operator = self.operator().await;
        eventually(async || {
            let plan = operator.plan_deployment(request.clone()).await.unwrap().into_inner();
            is(&plan).then_some(plan)
        })
        .await
    }

    pub async fn tell(&self, id: &str, command: v1::tell_request::Command) -> Result<v1::Deployment, Status> {
        let request = v1::TellRequest { deployment: id.into(), command: Some(command), waive_for_ms: 0 };
        self.operator().await.tell_deployment(request).await.map(tonic::Response::into_inner)
    }

    pub async fn abort(&self, id: &str, leave: bool) -> Result<v1::Deployment, Status> {
        let request = v1::AbortRequest { deployment: id.into(), leave };
        self.operator().await.abort_deployment(request).await.map(tonic::Response::into_inner)
    }

    pub async fn remove(&self, name: &str, reason: &str) {
        let request = v1::RemoveNodeRequest { name: name.into(), reason: reason.into() };
        self.operator().await.remove_node(request).await.unwrap();
    }
}

/// A wish to deploy a release, with everything at its default.
pub fn to(release: &v1::Release) -> v1::DeploymentRequest {
    v1::DeploymentRequest { release: release.id.clone(), ..Default::default() }
}

/// Asks again and again for what nobody announces.
pub async fn eventually<T>(mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let looking = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, looking).await.expect("it never came to that")
}

pub fn code(result: Result<impl Sized, Status>) -> Code {
    result.err().map_or(Code::Ok, |status| status.code())
}

pub fn refused(result: Result<impl std::fmt::Debug, Status>) -> Refused {
    let status = result.expect_err("this is to be refused");
    let exit = status.metadata().get("fleet-exit").unwrap_or_else(|| panic!("{status:?}")).to_str().unwrap();
    let help = status.metadata().get_bin("fleet-help-bin").unwrap().to_bytes().unwrap();
    Refused {
        exit: exit.parse().unwrap(),
        what: status.message().to_owned(),
        help: String::from_utf8(help.to_vec()).unwrap(),
    }
}

impl Refused {
    /// It ends with this exit code, and says all of this.
    #[track_caller]
    pub fn says(&self, exit: u8, words: &[&str]) {
        assert_eq!(self.exit, exit, "{self:?}");
        for word in words {
            assert!(self.what.contains(word), "'{word}' is not said: {self:?}");
        }
        assert!(!self.help.is_empty(), "no way out is named: {self:?}");
    }
}

pub async fn finished(operator: &mut OperatorClient<Channel>, id: &str) -> v1::Deployment {
    let request = v1::WatchDeploymentRequest { deployment: id.into(), from_fact: 0 };
    let mut updates = operator.watch_deployment(request).await.unwrap().into_inner();
    loop {
        let deployment = updates.message().await.unwrap().unwrap().deployment.unwrap();
        if !deployment.outcome.is_empty() {
            return deployment;
        }
    }
}

/// The state of one node in a deployment, wherever it is listed.
#[track_caller]
pub fn of<'a>(deployment: &'a v1::Deployment, name: &str) -> &'a v1::DeploymentNode {
    let segments = deployment.segments.iter().flat_map(|segment| &segment.nodes);
    let mut all = segments.chain(&deployment.absent).chain(&deployment.joined);
    all.find(|node| node.node == name).unwrap_or_else(|| panic!("{name} takes no part: {deployment:#?}"))
}
