//! Showing files that differ: the node is asked on demand, and whoever waits is answered when it has shown them. Nothing
//! of what files hold is kept or logged here; masking is the agent's first and the API's again.

use fleet::drift::Kind;
use fleet::{Hold, NodeName, ServiceName};
use fleet_proto::v1;

use super::ask::{Refusal, Reply, ToShow};
use super::state::State;
use crate::random;

/// Files of one service that are shown at once; who has more to look at names a service or puts them back.
const MOST_SHOWN: usize = 20;

/// A question to a node that is not answered yet.
pub(super) struct Revealing {
    node: NodeName,
    to: Reply<Vec<v1::RevealedFile>>,
}

impl State {
    /// The files of a node that differ and can be shown, by service.
    pub(super) fn files_to_show(&self, node: &str, service: &str) -> Result<Vec<ToShow>, Refusal> {
        let unknown =
            || Refusal::unknown(format!("there is no node '{}'", node.escape_default()), "fleetctl nodes list");
        let node: NodeName = node.parse().map_err(|_| unknown())?;
        if !self.nodes.contains_key(&node) {
            return Err(unknown());
        }
        let orders = self.orders_of(&node).filter(|order| service.is_empty() || order.service.as_str() == service);
        let shown = orders.filter_map(|order| match &order.hold {
            Hold::Nothing => None,
            Hold::Release { release, bundle, .. } => {
                let files = self.differing(&node, &order.service);
                let (release, bundle) = (release.clone(), *bundle);
                (!files.is_empty()).then(|| ToShow { service: order.service.clone(), release, bundle, files })
            }
        });
        Ok(shown.collect())
    }

    fn differing(&self, node: &NodeName, service: &ServiceName) -> Vec<(String, Kind)> {
        let keys = self.ledger.open().map(|open| &open.finding.key);
        let shown = keys.filter(|key| {
            key.node == *node
                && key.service.as_ref() == Some(service)
                && match key.kind {
                    Kind::File | Kind::Missing | Kind::Extra | Kind::Symlink => true,
                    Kind::Mode
                    | Kind::Owner
                    | Kind::Process
                    | Kind::OldProcess
                    | Kind::Version
                    | Kind::Health
                    | Kind::Unmanaged
                    | Kind::Unreachable
                    | Kind::Stale
                    | Kind::Agent
                    | Kind::Port
                    | Kind::Certificate
                    | Kind::Clock => false,
                }
        });
        shown.map(|key| (key.what.clone(), key.kind)).take(MOST_SHOWN).collect()
    }

    /// Asks a node to show files.
    pub(super) fn reveal(&mut self, node: NodeName, files: ToShow, to: Reply<Vec<v1::RevealedFile>>) {
        // Whoever gave up waiting is not answered any more.
        self.reveals.retain(|_, asked| !asked.to.is_closed());
        if self.seen.get(&node).is_none_or(|seen| seen.link.is_none()) {
            let what = format!("the agent of {node} is not in contact: what lies there cannot be shown");
            return self.reply(to, Err(Refusal::precheck(what, "see what is known: fleetctl drift")));
        }
        let id = match random::bits() {
            Ok(bits) => format!("{bits:032x}"),
            Err(_) => return self.reply(to, Err(Refusal::stopping())),
        };
        let reveal = v1::Reveal {
            id: id.clone(),
            service: files.service.to_string(),
            release: files.release.to_string(),
            paths: files.files.into_iter().map(|(path, _)| path).collect(),
        };
        self.reveals.insert(id, Revealing { node: node.clone(), to });
        self.say_reveal(node, reveal);
    }

    /// A node has shown files; only the one that was asked can answer.
    pub(super) fn revealed(&mut self, node: &NodeName, mut revealed: v1::Revealed) {
        let Some(asked) = self.reveals.remove(&revealed.id) else { return };
        if asked.node != *node {
            tracing::warn!(%node, "shows files that another node was asked for: ignored");
            self.reveals.insert(revealed.id, asked);
            return;
        }
        revealed.files.truncate(MOST_SHOWN);
        self.reply(asked.to, Ok(revealed.files));
    }
}
