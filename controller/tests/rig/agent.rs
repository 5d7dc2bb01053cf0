//! An agent that says what the test tells it to say, and nothing else.

use fleet::Digest;
use fleet_proto::v1::link_client::LinkClient;
use fleet_proto::{PROTOCOL, v1};
use sha2::Digest as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;

pub struct Agent {
    pub name: String,
    /// The digest of the descriptor that it says it compared files with.
    pub compared: Option<String>,
    pub to_controller: mpsc::Sender<v1::FromAgent>,
    pub from_controller: Streaming<v1::ToAgent>,
}

impl Agent {
    pub async fn connect(channel: Channel, name: &str) -> Self {
        Self::try_connect(channel, name).await.unwrap()
    }

    pub async fn try_connect(channel: Channel, name: &str) -> Result<Self, tonic::Status> {
        Self::greet(channel, name, Self::hello()).await
    }

    /// What it says first.
    pub fn hello() -> v1::Hello {
        v1::Hello { agent_version: "test".into(), boot_id: "b".into(), protocol: PROTOCOL, ..Default::default() }
    }

    pub async fn greet(channel: Channel, name: &str, hello: v1::Hello) -> Result<Self, tonic::Status> {
        let (to_controller, outgoing) = mpsc::channel(16);
        to_controller.send(v1::FromAgent { message: Some(v1::from_agent::Message::Hello(hello)) }).await.unwrap();
        let from_controller = LinkClient::new(channel).session(ReceiverStream::new(outgoing)).await?.into_inner();
        Ok(Self { name: name.into(), compared: None, to_controller, from_controller })
    }

    /// The next challenge, and the orders that came before it, if any came.
    pub async fn challenge(&mut self) -> (String, Option<Vec<v1::Order>>) {
        let mut orders = None;
        loop {
            match self.from_controller.message().await.unwrap().unwrap().message.unwrap() {
                v1::to_agent::Message::Desired(desired) => orders = Some(desired.orders),
                v1::to_agent::Message::Challenge(challenge) => return (challenge.nonce, orders),
                v1::to_agent::Message::Plant(_)
                | v1::to_agent::Message::Remove(_)
                | v1::to_agent::Message::Repair(_)
                | v1::to_agent::Message::Reveal(_) => {}
            }
        }
    }

    pub async fn attest(&self, node: &str, nonce: &str, order: &v1::Order, executable: &[u8]) {
        let Some(v1::order::Hold::Release(release)) = &order.hold else { panic!("an order to hold a release") };
        let executable = Digest(sha2::Sha256::digest(executable).into()).to_string();
        let evidence = v1::ServiceEvidence {
            compared: self.compared.clone(),
            ..held(&order.service, order.generation, &release.release, executable)
        };
        self.say(node, nonce, evidence).await;
    }

    /// Says anything of one service.
    pub async fn say(&self, node: &str, nonce: &str, evidence: v1::ServiceEvidence) {
        self.state(v1::Attestation { services: vec![evidence], ..statement(node, nonce) }).await;
    }

    /// Says anything.
    pub async fn state(&self, attestation: v1::Attestation) {
        let message = Some(v1::from_agent::Message::Attestation(attestation));
        self.to_controller.send(v1::FromAgent { message }).await.unwrap();
    }

    /// Waits for the order of a generation after `after`, and the nonce that follows it.
    pub async fn order_after(&mut self, after: u64) -> (v1::Order, String) {
        loop {
            let (nonce, orders) = self.challenge().await;
            if let Some(order) = orders.unwrap_or_default().into_iter().find(|order| order.generation > after) {
                return (order, nonce);
            }
        }
    }
}

/// A statement of nothing.
pub fn statement(node: &str, nonce: &str) -> v1::Attestation {
    v1::Attestation { node: node.into(), nonce: nonce.into(), boot_id: "b".into(), ..Default::default() }
}

/// What a healthy service that runs a release looks like, but for what its files were compared with.
pub fn held(service: &str, generation: u64, release: &str, executable: String) -> v1::ServiceEvidence {
    let mapped = v1::Mapped {
        path: "/opt/web/bin/web".into(),
        digest: Some(executable),
        release: Some(release.into()),
        inside: true,
        deleted: false,
        package: None,
    };
    let process = v1::Process {
        pid: 1,
        parentage: v1::Parentage::Supervised.into(),
        executable: Some(mapped),
        marker: Some(release.into()),
        cwd: Some(release.into()),
        started: v1::Started::AfterActivation.into(),
        command: "web".into(),
        age_ms: 3_600_000,
        ..Default::default()
    };
    v1::ServiceEvidence {
        service: service.into(),
        generation,
        progress: Some(v1::service_evidence::Progress::Held(v1::Held {})),
        current: Some(release.into()),
        processes: vec![process],
        health: Some(v1::service_evidence::Health::Healthy(v1::Healthy {})),
        ..Default::default()
    }
}
