//! What an agent does for a self-test of the alarm: it plants a decoy when it is asked to, says which process that is, and
//! takes it away again. One at a time, and none outlives the session in which it was asked for.

use std::sync::Arc;

use fleet::Millis;
use fleet_proto::v1::{DecoyPlanted, DecoyRefused, DecoyReport, Nothing, PlantDecoy, RemoveDecoy, decoy_report};

use crate::decoy::{self, Planted};
use crate::node::Node;

/// No decoy lives longer, whoever asks for it.
const LONGEST_LIFE: Millis = Millis::from_secs(3_600);

/// What the controller wishes.
#[derive(Debug)]
pub enum Wish {
    /// A decoy.
    Plant(PlantDecoy),
    /// None any more.
    Remove(RemoveDecoy),
}

/// The decoy of one session, while there is one.
pub struct Decoys {
    node: Arc<Node>,
    standing: Option<Planted>,
}

impl Decoys {
    /// None yet.
    pub fn new(node: Arc<Node>) -> Self {
        Self { node, standing: None }
    }

    /// Does what is wished, and says what became of it.
    pub async fn carry_out(&mut self, wish: Wish) -> DecoyReport {
        let (test, state) = match wish {
            Wish::Plant(PlantDecoy { test, life_ms }) => {
                self.remove();
                let state = match self.plant(Millis(life_ms).min(LONGEST_LIFE)).await {
                    Ok(planted) => decoy_report::State::Planted(planted),
                    Err(reason) => decoy_report::State::Refused(DecoyRefused { reason }),
                };
                (test, state)
            }
            Wish::Remove(RemoveDecoy { test }) => {
                self.remove();
                (test, decoy_report::State::Removed(Nothing {}))
            }
        };
        DecoyReport { test, state: Some(state) }
    }

    async fn plant(&mut self, life: Millis) -> Result<DecoyPlanted, String> {
        if !self.node.volunteers() {
            return Err("this node does not volunteer: set selftest = true in its agent.toml".to_owned());
        }
        let (root, grounds) = (self.node.services_root(), self.node.grounds());
        let planting = tokio::task::spawn_blocking(move || decoy::plant(&root, &grounds, life));
        let planted = planting.await.map_err(|stopped| stopped.to_string())??;
        tracing::info!(pid = planted.decoy.pid, service = %planted.service, release = %planted.release, "a decoy stands, to see whether the alarm fires");
        self.node.know_made(planted.made.map(|digest| (planted.service.clone(), digest, planted.release.clone())));
        let said = DecoyPlanted {
            service: planted.service.to_string(),
            release: planted.release.to_string(),
            pid: planted.decoy.pid,
            born_ms: planted.decoy.born.0,
            made: planted.made.map(|digest| digest.to_string()),
        };
        self.standing = Some(planted);
        Ok(said)
    }

    fn remove(&mut self) {
        if let Some(planted) = self.standing.take() {
            let pid = planted.decoy.pid;
            drop(planted);
            tracing::info!(pid, "the decoy is gone");
        }
        self.node.know_made(None);
    }
}

impl Drop for Decoys {
    fn drop(&mut self) {
        self.remove();
    }
}
