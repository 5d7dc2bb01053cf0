//! `fleet-agent status`: what the state on the disk says, and whether an agent works on it. It asks nobody and
//! disturbs nobody; what really runs is proven by attestations, not here.

use std::collections::BTreeMap;

use fleet::ServiceName;
use serde::Serialize;

use crate::config::Config;
use crate::join;
use crate::layout::{Layout, Lock, Presence};
use crate::orders::{self, Orders};
use crate::record::{Outcome, Record};
use crate::switch;

/// The whole answer.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentStatus {
    /// `fleet/v1`.
    pub api_version: &'static str,
    /// `AgentStatus`.
    pub kind: &'static str,
    /// The node's name, if it has joined.
    pub node: Option<String>,
    /// Whether an agent runs: true, false, or null where that cannot be told.
    pub running: Option<bool>,
    /// Where the controller is.
    pub controller: String,
    /// What stands in the way of knowing more.
    pub problems: Vec<String>,
    /// Each service.
    pub services: BTreeMap<ServiceName, ServiceStatus>,
}

/// One service.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceStatus {
    /// The newest order.
    pub generation: Option<u64>,
    /// What it says to hold.
    pub wanted: Option<String>,
    /// Where `current` points.
    pub current: Option<String>,
    /// `working`, `held`, `failed` or `fenced`.
    pub state: &'static str,
    /// Why, if it failed or is fenced.
    pub reason: Option<String>,
    /// The main process on record.
    pub pid: Option<u32>,
    /// Whether the node was taken out of the balancer.
    pub drained: bool,
}

impl AgentStatus {
    /// Reads the state on the disk.
    pub fn read(config: &Config) -> Self {
        let layout = Layout::new(&config.state_dir);
        let mut status = Self {
            api_version: "fleet/v1",
            kind: "AgentStatus",
            node: None,
            running: None,
            controller: config.controller.clone(),
            problems: Vec::new(),
            services: BTreeMap::new(),
        };
        match Lock::look(&layout) {
            Ok(presence) => status.running = Some(presence == Presence::Running),
            Err(error) => status.problems.push(error.to_string()),
        }
        if !join::is_joined(&layout) {
            status
                .problems
                .push("this node has not joined a fleet: fleet-agent join HOST:PORT --token-file FILE".to_owned());
            return status;
        }
        let name = match join::load_identity(&layout) {
            Ok((name, _)) => name,
            Err(error) => {
                status.problems.push(error.to_string());
                return status;
            }
        };
        status.node = Some(name.to_string());
        match Orders::load(layout.orders(), name) {
            Ok(orders) => {
                status.services = orders
                    .held()
                    .iter()
                    .map(|(service, order)| (service.clone(), one(config, &layout, service, order.as_ref())))
                    .collect()
            }
            Err(error) => status.problems.push(error.to_string()),
        }
        status
    }

    /// As systemd's status programs: 0 running, 3 not running, 4 unknown.
    pub fn exit_code(&self) -> u8 {
        match self.running {
            Some(true) => 0,
            Some(false) => 3,
            None => 4,
        }
    }

    /// For people.
    pub fn to_text(&self) -> String {
        let node = self.node.as_deref().unwrap_or("(not joined)");
        let running = match self.running {
            Some(true) => "running",
            Some(false) => "not running",
            None => "unknown",
        };
        let mut text = format!("node {node}: agent {running}, controller {}\n", self.controller);
        for problem in &self.problems {
            text.push_str(&format!("  ! {problem}\n"));
        }
        for (service, status) in &self.services {
            let of = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
            let pid = status.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string());
            let generation = status.generation.map_or_else(|| "-".to_owned(), |generation| generation.to_string());
            let drained = if status.drained { ", out of the balancer" } else { "" };
            text.push_str(&format!(
                "  {service}  {}  order {generation}: {}  current {}  pid {pid}{drained}\n",
                status.state,
                of(&status.wanted),
                of(&status.current)
            ));
            if let Some(reason) = &status.reason {
                text.push_str(&format!("      {}\n", reason.replace('\n', "\n      ")));
            }
        }
        text
    }
}

fn one(
    config: &Config,
    layout: &Layout,
    service: &ServiceName,
    order: Result<&fleet::Order, &String>,
) -> ServiceStatus {
    let current = switch::current(&config.place(service)).ok().flatten().map(|release| release.to_string());
    let mut status = ServiceStatus {
        generation: None,
        wanted: None,
        current,
        state: "fenced",
        reason: None,
        pid: None,
        drained: false,
    };
    let order = match order {
        Ok(order) => order,
        Err(reason) => {
            status.reason = Some(reason.clone());
            return status;
        }
    };
    status.generation = Some(order.generation.0);
    status.wanted = Some(orders::describe(&order.hold));
    match Record::load(&layout.record(service)) {
        Ok(record) => {
            status.pid = record.running.as_ref().map(|running| running.pid);
            status.drained = record.drained;
            (status.state, status.reason) = match record.outcome(order.generation) {
                None => ("working", None),
                Some(Outcome::Held) => ("held", None),
                Some(Outcome::Failed { step, reason }) => ("failed", Some(format!("{step}: {reason}"))),
            };
        }
        Err(error) => status.reason = Some(error.to_string()),
    }
    status
}
