//! Orders on disk before they are acted on: one file per service. Which order wins is `fleet::order`'s rule;
//! carrying one out is `attempt`'s work.

use std::collections::BTreeMap;
use std::path::PathBuf;

use fleet::order::{Reception, receive};
use fleet::{NodeName, Order, ServiceName};
use serde::{Deserialize, Serialize};

use crate::durable::{self, FileError};

/// The version of the files.
const VERSION: u32 = 1;
/// More services than this on one node are a mistake of somebody else.
pub const MOST_SERVICES: usize = 256;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    version: u32,
    order: Order,
}

/// Why an order was not taken.
#[derive(Debug, thiserror::Error)]
pub enum OrderError {
    /// It is meant for another node.
    #[error(
        "order for service {service} is meant for node {meant}, and this is {own}: two agents may share one identity"
    )]
    OtherNode {
        /// The service.
        service: ServiceName,
        /// Whom it is meant for.
        meant: NodeName,
        /// Who this is.
        own: NodeName,
    },
    /// The same generation with another content.
    #[error(
        "service {service}: order {generation} arrived with another content than the one held; \
         two controllers may be at work, nothing is done: {held} is held, {arriving} arrived"
    )]
    Contradiction {
        /// The service.
        service: ServiceName,
        /// The generation.
        generation: fleet::Generation,
        /// What is held.
        held: String,
        /// What arrived.
        arriving: String,
    },
    /// What is held cannot be read, so nothing can be weighed against it.
    #[error("service {service} is fenced: {reason}")]
    Fenced {
        /// The service.
        service: ServiceName,
        /// Why, and what to do.
        reason: String,
    },
    /// Too many services.
    #[error("order for service {0} refused: this node already holds orders for {MOST_SERVICES} services")]
    TooMany(ServiceName),
    /// It could not be saved, so it is not acted on.
    #[error("order not taken: {0}")]
    NotSaved(#[from] FileError),
}

/// Every order of this node, as saved.
#[derive(Debug)]
pub struct Orders {
    directory: PathBuf,
    node: NodeName,
    held: BTreeMap<ServiceName, Result<Order, String>>,
}

impl Orders {
    /// Reads what is on the disk. A file that cannot be read fences its service and harms no other.
    ///
    /// # Errors
    /// Only if the directory itself cannot be read.
    pub fn load(directory: PathBuf, node: NodeName) -> Result<Self, FileError> {
        let mut held = BTreeMap::new();
        for entry in std::fs::read_dir(&directory).map_err(FileError::at("read", &directory))? {
            let entry = entry.map_err(FileError::at("read", &directory))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with('.') {
                continue;
            }
            let Some(service) = name.strip_suffix(".json").and_then(|name| name.parse::<ServiceName>().ok()) else {
                tracing::warn!(file = %entry.path().display(), "not an order; ignored");
                continue;
            };
            let order = read(&entry.path(), &service, &node);
            if let Err(reason) = &order {
                tracing::error!(%service, "the saved order cannot be used, the service is fenced: {reason}");
            }
            held.insert(service, order);
        }
        Ok(Self { directory, node, held })
    }

    /// What is held for each service: its order, or why it is fenced.
    pub fn held(&self) -> &BTreeMap<ServiceName, Result<Order, String>> {
        &self.held
    }

    /// Weighs an arriving order and, if it is newer, saves it. What returns `Newer` survives a power loss.
    ///
    /// # Errors
    /// Why it was refused. Nothing has changed then.
    pub fn receive(&mut self, arriving: &Order) -> Result<Reception, OrderError> {
        let service = arriving.service.clone();
        if arriving.node != self.node {
            return Err(OrderError::OtherNode { service, meant: arriving.node.clone(), own: self.node.clone() });
        }
        let held = match self.held.get(&service) {
            None if self.held.len() >= MOST_SERVICES => return Err(OrderError::TooMany(service)),
            None => None,
            Some(Ok(order)) => Some(order),
            Some(Err(reason)) => return Err(OrderError::Fenced { service, reason: reason.clone() }),
        };
        match receive(held, arriving) {
            Reception::Newer => {
                durable::write_json(&self.path(&service), &Saved { version: VERSION, order: arriving.clone() })?;
                self.held.insert(service, Ok(arriving.clone()));
                Ok(Reception::Newer)
            }
            Reception::Contradiction => Err(OrderError::Contradiction {
                service,
                generation: arriving.generation,
                held: held.map(|order| describe(&order.hold)).unwrap_or_default(),
                arriving: describe(&arriving.hold),
            }),
            calm @ (Reception::Same | Reception::Older) => Ok(calm),
        }
    }

    fn path(&self, service: &ServiceName) -> PathBuf {
        self.directory.join(format!("{service}.json"))
    }
}

/// What shall be held, for people.
pub fn describe(hold: &fleet::Hold) -> String {
    hold.release().map_or_else(|| "nothing".to_owned(), ToString::to_string)
}

fn read(path: &std::path::Path, service: &ServiceName, node: &NodeName) -> Result<Order, String> {
    let way_out = "the service is left as it is; move the file away to take orders again";
    let saved: Saved = match durable::read_json(path) {
        Ok(Some(saved)) => saved,
        Ok(None) => return Err(format!("{} vanished while it was read", path.display())),
        Err(error) => return Err(format!("{error}; {way_out}")),
    };
    if saved.version != VERSION {
        return Err(format!(
            "{} has version {}, this agent knows {VERSION}: run the agent that wrote it; {way_out}",
            path.display(),
            saved.version
        ));
    }
    if saved.order.service != *service || saved.order.node != *node {
        let (s, n) = (&saved.order.service, &saved.order.node);
        return Err(format!("{} is about service {s} on node {n}: it was copied here; {way_out}", path.display()));
    }
    Ok(saved.order)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use fleet::{Digest, Generation, Hold};

    fn order(generation: u64, byte: u8) -> Order {
        let bundle = Digest([byte; 32]);
        let hold = Hold::Release { release: fleet::ReleaseId::of(&bundle), bundle, size: 7 };
        Order {
            node: "n1".parse().unwrap(),
            service: "web".parse().unwrap(),
            generation: Generation(generation),
            hold,
            confirm: fleet::Millis(0),
        }
    }

    fn open(dir: &tempfile::TempDir) -> Orders {
        Orders::load(dir.path().to_owned(), "n1".parse().unwrap()).unwrap()
    }

    #[test]
    fn an_order_is_on_the_disk_before_anyone_acts_on_it() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(open(&dir).receive(&order(3, 1)).unwrap(), Reception::Newer);
        let mut orders = open(&dir);
        assert_eq!(orders.held()[&"web".parse().unwrap()].as_ref().unwrap(), &order(3, 1));
        assert_eq!(orders.receive(&order(3, 1)).unwrap(), Reception::Same);
        assert_eq!(orders.receive(&order(2, 2)).unwrap(), Reception::Older);
        assert!(matches!(orders.receive(&order(3, 2)), Err(OrderError::Contradiction { .. })));
        assert_eq!(open(&dir).held()[&"web".parse().unwrap()].as_ref().unwrap(), &order(3, 1));
    }

    #[test]
    fn a_file_that_cannot_be_read_fences_its_service_and_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("web.json");
        open(&dir).receive(&order(3, 1)).unwrap();
        let whole = std::fs::read_to_string(&path).unwrap();
        let cases = [
            String::new(),
            whole[..whole.len() / 2].to_owned(),
            whole.replace("\"version\": 1", "\"version\": 2"),
            whole.replace("\"web\"", "\"other\""),
            whole.replace("\"n1\"", "\"n2\""),
            "\0\0\0\0".to_owned(),
        ];
        for broken in cases {
            std::fs::write(&path, &broken).unwrap();
            let mut orders = open(&dir);
            let reason = orders.held()[&"web".parse().unwrap()].as_ref().unwrap_err();
            assert!(reason.contains("web.json"), "{reason}");
            assert!(matches!(orders.receive(&order(9, 1)), Err(OrderError::Fenced { .. })));
            assert_eq!(std::fs::read_to_string(&path).unwrap(), broken, "nothing overwrites what a person must see");
            let mut other = order(1, 1);
            other.service = "api".parse().unwrap();
            assert_eq!(orders.receive(&other).unwrap(), Reception::Newer);
            std::fs::remove_file(dir.path().join("api.json")).unwrap();
        }
    }

    #[test]
    fn orders_for_others_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let mut foreign = order(1, 1);
        foreign.node = "n2".parse().unwrap();
        assert!(matches!(open(&dir).receive(&foreign), Err(OrderError::OtherNode { .. })));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
