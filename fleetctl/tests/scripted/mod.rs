//! A controller that follows a script: a real server over mutual TLS that remembers what it was asked. Only what the
//! tests of this folder need is in the script; the rest answers that it is not.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use fleet_certs::files::{IdentityFiles, IdentityPems};
use fleet_certs::{AllowList, Authority, Identity, KeyAndCsr, Limits, Role, ServerTls, Sessions, accept_loop};
use fleet_proto::v1;
use fleet_proto::v1::operator_server::{Operator, OperatorServer};
use tokio::sync::watch;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::WatchStream;
use tonic::{Request, Response, Status, Streaming};

type Answer<T> = Result<Response<T>, Status>;

/// What it was asked, in order.
#[derive(Debug, Default)]
pub struct Asked {
    pub planned: Vec<v1::DeploymentRequest>,
    pub started: Vec<v1::DeploymentRequest>,
    pub answers: Vec<v1::AnswerGateRequest>,
    pub told: Vec<v1::TellRequest>,
    pub locked: Vec<v1::HoldLockRequest>,
}

#[derive(Debug, Clone)]
pub struct Script {
    asked: Arc<Mutex<Asked>>,
    deployment: Arc<watch::Sender<v1::Deployment>>,
    blocks: Arc<Mutex<Vec<v1::PlanBlock>>>,
}

/// The controller, and a home for fleetctl in which it is the current context.
pub struct Scripted {
    pub home: tempfile::TempDir,
    pub script: Script,
    _runtime: tokio::runtime::Runtime,
}

impl Scripted {
    pub fn start() -> Self {
        fleet_certs::install_crypto_provider();
        let home = tempfile::tempdir().unwrap();
        let authority = Authority::create(&home.path().join("ca"), "test").unwrap();
        let issue = |role, name: &str, dns: &[String]| {
            let key = KeyAndCsr::generate().unwrap();
            let identity = Identity::new(role, name).unwrap();
            let day = Duration::from_secs(86_400);
            let issued = authority.issue(&key.csr_pem, &identity, dns, day, SystemTime::now()).unwrap();
            (identity, issued, key.key_pem)
        };
        let (_, server, server_key) = issue(Role::Controller, "controller", &["127.0.0.1".into(), "localhost".into()]);
        let (alice, cert, key) = issue(Role::Operator, "alice", &[]);
        let files = IdentityFiles::in_dir(home.path().join("identity"));
        let ca_pem = authority.ca_pem().to_owned();
        files.save(&IdentityPems { ca_pem: ca_pem.clone(), cert_pem: cert.pem, key_pem: key }).unwrap();

        let allowed = AllowList::default();
        allowed.grant(alice, cert.serial);
        let script = Script {
            asked: Arc::default(),
            deployment: Arc::new(watch::Sender::new(v1::Deployment::default())),
            blocks: Arc::default(),
        };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let address = runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let tls = ServerTls::new(&ca_pem, &server.pem, &server_key).unwrap();
            let incoming = accept_loop(listener, tls, Limits::default(), Sessions::new(allowed));
            let service = OperatorServer::new(script.clone());
            tokio::spawn(tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming));
            address
        });
        let config = format!(
            "current = \"x\"\n[contexts.x]\ncontroller = \"{address}\"\nca = {:?}\ncert = {:?}\nkey = {:?}\n",
            files.ca(),
            files.cert(),
            files.key()
        );
        std::fs::create_dir_all(home.path().join(".config/fleetctl")).unwrap();
        std::fs::write(home.path().join(".config/fleetctl/config.toml"), config).unwrap();
        Self { home, script, _runtime: runtime }
    }

    /// The program, in a directory of its own.
    pub fn fleetctl(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fleetctl"));
        command.args(arguments).env_clear().env("HOME", self.home.path()).env("PATH", "/usr/bin:/bin");
        command.current_dir(self.directory()).stdin(Stdio::null());
        command
    }

    pub fn directory(&self) -> PathBuf {
        let dir = self.home.path().join("work");
        std::fs::create_dir_all(&dir).unwrap();
        dir
    }

    /// Its exit code, standard output and standard error.
    pub fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        let output = self.fleetctl(arguments).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
    }

    pub fn asked<T>(&self, read: impl Fn(&Asked) -> T) -> T {
        read(&self.script.asked.lock().unwrap())
    }

    /// Lets d-1 run, and asks this command after its first segment.
    pub fn ask_for(&self, command: &str) {
        let gate = gate(command);
        self.script.deployment.send_replace(running(vec![gate]));
    }

    pub fn forbid(&self, why: &str) {
        let block = v1::PlanBlock { node: "n1".into(), why: why.into(), help: "bring it back".into() };
        self.script.blocks.lock().unwrap().push(block);
    }
}

fn gate(command: &str) -> v1::Gate {
    let test = v1::GateTest { command: command.into(), from: "operator".into() };
    v1::Gate { name: "test".into(), source: Some(v1::gate::Source::Test(test)), after: 0, deadline_ms: 60_000 }
}

fn release() -> v1::Release {
    v1::Release { id: "r-9f2c1e7ab310".into(), service: "shop".into(), version: "2.3.1".into(), ..Default::default() }
}

/// d-1 after its only segment; its first gate, if it has one, is asked.
fn running(gates: Vec<v1::Gate>) -> v1::Deployment {
    let node = |name: &str| v1::DeploymentNode { node: name.into(), state: "proven".into(), ..Default::default() };
    let nodes = vec![node("n1"), node("n2")];
    let asked = |gate| v1::GateAsked {
        asking: Some(v1::GateAsking { segment: 0, gate: 0, attempt: 1 }),
        gate: Some(gate),
        nodes: vec!["n1".into(), "n2".into()],
    };
    v1::Deployment {
        id: "d-1".into(),
        service: "shop".into(),
        release: Some(release()),
        phase: "gating".into(),
        segments: vec![v1::DeploymentSegment { nodes, state: "baked".into(), ..Default::default() }],
        gate: gates.into_iter().next().map(asked),
        started_at_ms: 1_795_252_443_000,
        started_by: "alice".into(),
        ..Default::default()
    }
}

fn not_in_the_script() -> Status {
    Status::unimplemented("it is not in the script")
}

impl Script {
    fn asked(&self) -> std::sync::MutexGuard<'_, Asked> {
        self.asked.lock().unwrap()
    }

    fn now(&self) -> v1::Deployment {
        self.deployment.borrow().clone()
    }
}

#[tonic::async_trait]
impl Operator for Script {
    type WatchDeploymentStream =
        std::pin::Pin<Box<dyn tokio_stream::Stream<Item = Result<v1::DeploymentUpdate, Status>> + Send>>;

    async fn get_release(&self, _: Request<v1::GetReleaseRequest>) -> Answer<v1::GetReleaseReply> {
        Ok(Response::new(v1::GetReleaseReply { release: Some(release()), ..Default::default() }))
    }
    async fn plan_deployment(&self, request: Request<v1::DeploymentRequest>) -> Answer<v1::Plan> {
        let request = request.into_inner();
        let node = |name: &str| v1::PlanNode { node: name.into(), condition: "old".into(), ..Default::default() };
        let segments = vec![v1::PlanSegment { nodes: vec![node("n1"), node("n2")] }];
        let named = request.keep_plan || !request.plan.is_empty();
        let plan = v1::Plan {
            service: "shop".into(),
            environment: "prod".into(),
            release: Some(release()),
            segments,
            to_change: 2,
            id: if named { "p-3f9a".into() } else { String::new() },
            blocks: self.blocks.lock().unwrap().clone(),
            ..Default::default()
        };
        self.asked().planned.push(request);
        Ok(Response::new(plan))
    }
    async fn start_deployment(&self, request: Request<v1::DeploymentRequest>) -> Answer<v1::Deployment> {
        let request = request.into_inner();
        let mut deployment = running(request.gates.clone());
        if deployment.gate.is_none() {
            deployment.outcome = "converged".into();
        }
        self.asked().started.push(request);
        self.deployment.send_replace(deployment.clone());
        Ok(Response::new(deployment))
    }
    async fn list_deployments(&self, _: Request<v1::ListDeploymentsRequest>) -> Answer<v1::ListDeploymentsReply> {
        Ok(Response::new(v1::ListDeploymentsReply::default()))
    }
    async fn get_deployment(&self, _: Request<v1::GetDeploymentRequest>) -> Answer<v1::Deployment> {
        Ok(Response::new(self.now()))
    }
    async fn watch_deployment(&self, _: Request<v1::WatchDeploymentRequest>) -> Answer<Self::WatchDeploymentStream> {
        let update = |deployment| Ok(v1::DeploymentUpdate { deployment: Some(deployment), facts: vec![] });
        Ok(Response::new(Box::pin(WatchStream::new(self.deployment.subscribe()).map(update))))
    }
    async fn answer_gate(&self, request: Request<v1::AnswerGateRequest>) -> Answer<v1::Deployment> {
        let answer = request.into_inner();
        let mut deployment = self.now();
        deployment.gate = None;
        match answer.verdict.as_str() {
            "passed" => deployment.outcome = "converged".into(),
            "inconclusive" => deployment.halted = "gate test after segment 1 is inconclusive".into(),
            _ => {
                deployment.outcome = "rolled-back".into();
                deployment.exit_code = 3;
            }
        }
        self.asked().answers.push(answer);
        self.deployment.send_replace(deployment.clone());
        Ok(Response::new(deployment))
    }
    async fn tell_deployment(&self, request: Request<v1::TellRequest>) -> Answer<v1::Deployment> {
        self.asked().told.push(request.into_inner());
        Ok(Response::new(self.now()))
    }
    async fn list_nodes(&self, _: Request<v1::ListNodesRequest>) -> Answer<v1::ListNodesReply> {
        let node = |name: &str, role: &str| v1::Node {
            name: name.into(),
            labels: [("role".to_owned(), role.to_owned()), ("az".to_owned(), "a".to_owned())].into(),
            ..Default::default()
        };
        let nodes = vec![node("n1", "web"), node("n2", "web"), node("db1", "db")];
        Ok(Response::new(v1::ListNodesReply { nodes }))
    }
    async fn hold_lock(&self, request: Request<v1::HoldLockRequest>) -> Answer<v1::Lock> {
        let request = request.into_inner();
        let lock = v1::Lock { service: request.service.clone(), by: "alice".into(), ..Default::default() };
        self.asked().locked.push(request);
        Ok(Response::new(lock))
    }
    async fn release_lock(&self, _: Request<v1::ReleaseLockRequest>) -> Answer<v1::Lock> {
        let mut status = Status::not_found("nobody holds a lock on shop");
        status.metadata_mut().insert("fleet-exit", tonic::metadata::MetadataValue::from_static("1"));
        Err(status)
    }
    async fn list_locks(&self, _: Request<v1::ListLocksRequest>) -> Answer<v1::ListLocksReply> {
        Ok(Response::new(v1::ListLocksReply::default()))
    }
    async fn list_plans(&self, _: Request<v1::ListPlansRequest>) -> Answer<v1::ListPlansReply> {
        let plans = vec![v1::Plan { id: "p-3f9a".into(), service: "shop".into(), ..Default::default() }];
        Ok(Response::new(v1::ListPlansReply { plans }))
    }
    async fn version(&self, _: Request<v1::VersionRequest>) -> Answer<v1::VersionReply> {
        Err(not_in_the_script())
    }
    async fn upload_release(&self, _: Request<Streaming<v1::UploadReleaseRequest>>) -> Answer<v1::Release> {
        Err(not_in_the_script())
    }
    async fn list_releases(&self, _: Request<v1::ListReleasesRequest>) -> Answer<v1::ListReleasesReply> {
        Err(not_in_the_script())
    }
    async fn plan_rollback(&self, _: Request<v1::RollbackRequest>) -> Answer<v1::Plan> {
        Err(not_in_the_script())
    }
    async fn start_rollback(&self, _: Request<v1::RollbackRequest>) -> Answer<v1::Deployment> {
        Err(not_in_the_script())
    }
    async fn abort_deployment(&self, _: Request<v1::AbortRequest>) -> Answer<v1::Deployment> {
        Err(not_in_the_script())
    }
    async fn status(&self, _: Request<v1::StatusRequest>) -> Answer<v1::StatusReply> {
        Err(not_in_the_script())
    }
    async fn drift(&self, _: Request<v1::DriftRequest>) -> Answer<v1::DriftReport> {
        Err(not_in_the_script())
    }
    async fn verify(&self, _: Request<v1::VerifyRequest>) -> Answer<v1::VerifyReply> {
        Err(not_in_the_script())
    }
    async fn list_statements(&self, _: Request<v1::ListStatementsRequest>) -> Answer<v1::ListStatementsReply> {
        Err(not_in_the_script())
    }
    async fn get_statement(&self, _: Request<v1::GetStatementRequest>) -> Answer<v1::GetStatementReply> {
        Err(not_in_the_script())
    }
    async fn get_node(&self, _: Request<v1::GetNodeRequest>) -> Answer<v1::GetNodeReply> {
        Err(not_in_the_script())
    }
    async fn remove_node(&self, _: Request<v1::RemoveNodeRequest>) -> Answer<v1::RemoveNodeReply> {
        Err(not_in_the_script())
    }
    async fn import_nodes(&self, _: Request<v1::ImportNodesRequest>) -> Answer<v1::ImportNodesReply> {
        Err(not_in_the_script())
    }
    async fn create_token(&self, _: Request<v1::CreateTokenRequest>) -> Answer<v1::CreateTokenReply> {
        Err(not_in_the_script())
    }
}

/// Waits until a file is there: the sign of a test that runs.
pub fn wait_for(path: &Path) {
    let give_up = std::time::Instant::now() + Duration::from_secs(60);
    while !path.exists() {
        assert!(std::time::Instant::now() < give_up, "{} never came", path.display());
        std::thread::yield_now();
    }
}
