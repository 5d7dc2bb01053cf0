//! A world for one agent: a host in memory, a disk in a temporary directory, and a controller's store of bundles.

#![allow(clippy::unwrap_used, dead_code)]

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::sync::{Arc, Mutex};

use fleet::evidence::{Confirmation, Progress};
use fleet::manifest::{Entry, EntryKind, Manifest};
use fleet::release::{Descriptor, Grade, Probe, Run};
use fleet::{Digest, Generation, Hold, Millis, Order, ReleaseId, ServiceName};
use fleet_agent::config::Config;
use fleet_agent::confirm::{Confirmer, Question, Reply};
use fleet_agent::environment::Rights;
use fleet_agent::failpoint::{FailPoints, Interrupted};
use fleet_agent::fetch::{Chunks, Source, SourceError};
use fleet_agent::keeper::{AgentState, Keeper, Status, Tools, Wish};
use fleet_agent::layout::Layout;
use fleet_agent::permit::{Contact, Permit};
use fleet_agent::platform::Observer;
use fleet_agent::platform::fake::FakeHost;
use fleet_agent::service_log::{Cause, Start};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A release as the controller has it.
#[derive(Debug, Clone)]
pub struct Made {
    pub hold: Hold,
    pub bytes: Vec<u8>,
}

impl Made {
    pub fn release(&self) -> ReleaseId {
        self.hold.release().unwrap().clone()
    }
    pub fn bundle(&self) -> Digest {
        match &self.hold {
            Hold::Release { bundle, .. } => *bundle,
            Hold::Nothing => unreachable!(),
        }
    }
}

/// Packs a release whose program has this content.
pub fn release(service: &str, program: &str, health: Option<Probe>) -> Made {
    let content = program.as_bytes().to_vec();
    let (sha256, size) = fleet_bundle::digest(&mut &content[..]).unwrap();
    let entry = Entry { path: "bin/app".parse().unwrap(), mode: 0o755, kind: EntryKind::File { sha256, size } };
    let descriptor = Descriptor {
        format: fleet::release::DESCRIPTOR_FORMAT,
        service: service.parse().unwrap(),
        version: "1".parse().unwrap(),
        nodes: BTreeMap::new(),
        run: Run {
            command: vec!["bin/app".into()],
            environment: BTreeMap::new(),
            user: None,
            stop_timeout: Millis(1_000),
        },
        health,
        minimum_grade: Grade::Digest,
        pins: Vec::new(),
        manifest: Manifest::new(vec![entry]).unwrap(),
    };
    let mut bytes = Vec::new();
    fleet_bundle::pack(
        &descriptor,
        |_| Ok(Box::new(std::io::Cursor::new(content.clone())) as Box<dyn Read>),
        &mut bytes,
    )
    .unwrap();
    let (bundle, size) = fleet_bundle::digest(&mut &bytes[..]).unwrap();
    Made { hold: Hold::Release { release: ReleaseId::of(&bundle), bundle, size }, bytes }
}

/// A probe that nobody will ever answer: port 1 of this machine.
pub fn dead_probe() -> Probe {
    Probe {
        http: "http://127.0.0.1:1/healthz".into(),
        status: 200,
        interval: Millis(10),
        successes: 1,
        timeout: Millis(50),
    }
}

/// Bundles by digest.
#[derive(Debug, Default, Clone)]
pub struct Shelf {
    bundles: Arc<Mutex<BTreeMap<Digest, Vec<u8>>>>,
    pub fetched: Arc<Mutex<u32>>,
}

impl Shelf {
    pub fn put(&self, made: &Made) {
        self.bundles.lock().unwrap().insert(made.bundle(), made.bytes.clone());
    }
    pub fn spoil(&self, made: &Made) {
        let mut bytes = made.bytes.clone();
        bytes[10] ^= 1;
        self.bundles.lock().unwrap().insert(made.bundle(), bytes);
    }
}

#[tonic::async_trait]
impl Source for Shelf {
    async fn open(&self, bundle: &Digest, offset: u64) -> Result<Chunks, SourceError> {
        *self.fetched.lock().unwrap() += 1;
        let bytes = self.bundles.lock().unwrap().get(bundle).cloned().ok_or_else(|| SourceError("not here".into()))?;
        let chunks: Vec<_> = bytes[offset as usize..].chunks(64).map(|chunk| Ok(chunk.to_vec())).collect();
        Ok(Box::pin(tokio_stream::iter(chunks)))
    }
}

/// What the controller answers when it is asked to confirm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Says {
    /// What it is asked.
    #[default]
    Confirmed,
    /// That it has seen no proof yet.
    NotYet,
    /// That it confirms, with the nonce of another question.
    Stale,
    /// Nothing: it cannot be reached.
    Nothing,
}

/// The controller's word.
#[derive(Debug, Clone, Default)]
pub struct Word {
    says: Arc<Mutex<Says>>,
    asked: Arc<Mutex<Vec<Question>>>,
}

impl Word {
    pub fn says(&self, what: Says) {
        *self.says.lock().unwrap() = what;
    }
    pub fn asked(&self) -> Vec<Question> {
        self.asked.lock().unwrap().clone()
    }
}

#[tonic::async_trait]
impl Confirmer for Word {
    async fn ask(&self, question: &Question) -> Result<Reply, String> {
        self.asked.lock().unwrap().push(question.clone());
        let reply =
            |nonce: &str, confirmed| Reply { nonce: nonce.to_owned(), confirmed, reason: "no proof yet".into() };
        match *self.says.lock().unwrap() {
            Says::Confirmed => Ok(reply(question.nonce.as_str(), true)),
            Says::NotYet => Ok(reply(question.nonce.as_str(), false)),
            Says::Stale => Ok(reply(fleet::Nonce::from_random(1).as_str(), true)),
            Says::Nothing => Err("connection refused".into()),
        }
    }
}

/// A bound against hanging, far above what anything takes by the clock of these tests.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(600);

/// One node with one service.
pub struct World {
    pub dir: tempfile::TempDir,
    pub host: FakeHost,
    pub shelf: Shelf,
    pub word: Word,
    pub service: ServiceName,
    /// More lines of agent.toml.
    pub more: String,
}

/// An agent's keeper at work.
pub struct Working {
    pub wish: watch::Sender<Wish>,
    pub status: watch::Receiver<Status>,
    pub work: JoinHandle<Result<(), Interrupted>>,
}

impl World {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Layout::new(dir.path().join("state")).make().unwrap();
        Self {
            dir,
            host: FakeHost::new(),
            shelf: Shelf::default(),
            word: Word::default(),
            service: "web".parse().unwrap(),
            more: String::new(),
        }
    }

    pub fn root(&self) -> std::path::PathBuf {
        self.dir.path().join("services/web")
    }

    pub fn tools(&self, points: &str) -> Tools {
        let dir = self.dir.path().display();
        let text = format!(
            "controller = \"c:1\"\nstate_dir = \"{dir}/state\"\nservices_root = \"{dir}/services\"\n{}",
            self.more
        );
        let config = Config::parse(Path::new("agent.toml"), &text).unwrap();
        Tools {
            supervisor: Arc::new(self.host.clone()),
            observer: Arc::new(self.host.clone()),
            source: Arc::new(self.shelf.clone()),
            confirmer: Arc::new(self.word.clone()),
            yard: Arc::default(),
            balancer: config.balancer.as_ref().map(fleet_agent::balancer::Haproxy::new),
            layout: Layout::new(&config.state_dir),
            config: Arc::new(config),
            rights: Rights::Ordinary,
            points: Arc::new(FailPoints::parse(points).unwrap()),
        }
    }

    pub fn order(&self, generation: u64, hold: &Hold) -> Order {
        Order {
            node: "n1".parse().unwrap(),
            service: self.service.clone(),
            generation: Generation(generation),
            hold: hold.clone(),
            confirm: Millis(0),
        }
    }

    pub fn permit(&self, order: &Order) -> Permit {
        let now = fleet_agent::permit::Moment { boot_id: self.host.boot_id(), ticks: self.host.ticks_now() };
        Permit { order: order.clone(), until: now.after(Millis(60_000)) }
    }

    /// A wish the controller stands by.
    pub fn wish(&self, generation: u64, hold: &Hold) -> Wish {
        let order = self.order(generation, hold);
        Wish { permit: Some(self.permit(&order)), order, contact: Contact::Made, agent: AgentState::Working }
    }

    /// The same, undone unless it is confirmed within half a minute.
    pub fn wish_to_confirm(&self, generation: u64, hold: &Hold) -> Wish {
        let order = Order { confirm: Millis(30_000), ..self.order(generation, hold) };
        Wish { permit: Some(self.permit(&order)), order, ..self.wish(generation, hold) }
    }

    /// The same wish before the controller has said anything.
    pub fn unconfirmed(&self, generation: u64, hold: &Hold) -> Wish {
        let since = fleet_agent::permit::Moment { boot_id: self.host.boot_id(), ticks: self.host.ticks_now() };
        Wish { permit: None, contact: Contact::Lost { since }, ..self.wish(generation, hold) }
    }

    /// Brings an agent up.
    pub fn up(&self, wish: Wish, points: &str) -> Working {
        Self::up_with(self.tools(points), wish)
    }

    /// Brings an agent up that works with these tools.
    pub fn up_with(tools: Tools, wish: Wish) -> Working {
        let (wish, wishes) = watch::channel(wish);
        let (keeper, status) = Keeper::open(tools, wishes).unwrap();
        Working { wish, status, work: tokio::spawn(keeper.run()) }
    }

    /// The agent forgets what it knew of the service; what lies under the service's root stays.
    pub fn forget_record(&self) {
        let layout = self.tools("").layout;
        std::fs::remove_file(layout.record(&self.service)).unwrap();
    }

    pub fn current(&self) -> Option<ReleaseId> {
        let target = std::fs::read_link(self.root().join("current")).ok()?;
        target.file_name().unwrap().to_str().unwrap().parse().ok()
    }

    pub fn starts(&self) -> Vec<Start> {
        let text = std::fs::read_to_string(self.root().join(".fleet/starts.log")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// How often the service was started for an order of this generation, and because of that.
    pub fn starts_of(&self, generation: u64, cause: Cause) -> usize {
        let starts = self.starts();
        starts.iter().filter(|start| start.generation == Generation(generation) && start.cause == cause).count()
    }

    /// Comes to where `made` is held at generation 1.
    pub async fn hold(&self, made: &Made) {
        self.shelf.put(made);
        let mut agent = self.up(self.wish(1, &made.hold), "");
        assert_eq!(agent.end(1).await, Some(Progress::Held));
        agent.kill().await;
    }
}

impl Working {
    /// Waits until the order of this generation is held for good or has failed; None if the agent was ended before.
    pub async fn end(&mut self, generation: u64) -> Option<Progress> {
        let mut status = self.status.clone();
        let ended = status.wait_for(|status| {
            status.generation == Generation(generation)
                && status.confirmation == Confirmation::Given
                && matches!(status.progress, Progress::Held | Progress::Failed { .. })
        });
        tokio::select! {
            biased;
            status = ended => status.ok().map(|status| status.progress.clone()),
            () = tokio::time::sleep(PATIENCE) => panic!("order {generation} does not end: {:?}", self.status.borrow().progress),
            result = &mut self.work => {
                assert_eq!(result.unwrap(), Err(Interrupted));
                None
            }
        }
    }

    pub async fn until(&self, what: impl FnMut(&Status) -> bool) -> Status {
        let mut status = self.status.clone();
        let waiting = tokio::time::timeout(PATIENCE, status.wait_for(what));
        waiting.await.expect("nothing happened for ten minutes").unwrap().clone()
    }

    /// Ends the agent as a fail point would: nothing is told to it.
    pub async fn kill(self) {
        self.work.abort();
        let _ = self.work.await;
    }
}
