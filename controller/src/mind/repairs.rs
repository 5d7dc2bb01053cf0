//! Repairs: a person has the files of a release put back on one node. What was ordered is saved before the agent hears of
//! it, said again until its end has been reported, and told to the ledger then. It changes nothing of what the node shall
//! hold, so a deployment of the service goes before it and ends it.

use fleet::drift::Kind;
use fleet::evidence::{DeviationKind, Progress, ServiceEvidence};
use fleet::ledger::{Closing, LedgerEntry};
use fleet::repair::{Extras, MOST_PATHS, PutBack, RepairOrder, RepairState, Restart, loaded, restart_for};
use fleet::{Hold, NodeName, Order, RepairId, ServiceName, Timestamp};
use fleet_proto::{convert, v1};

use super::ask::Refusal;
use super::planning::no_bits;
use super::state::State;
use crate::random;
use crate::records::{Change, RepairEnd, RepairRecord};

/// Repairs that are remembered; their lines in the ledger stay.
const MOST_REMEMBERED: usize = 500;
/// The longest path of a release, in bytes.
const LONGEST_PATH: usize = 4_096;

impl State {
    /// Orders a repair; or says what it would do; or that there is nothing to put back.
    pub(super) fn start_repair(
        &mut self,
        by: &str,
        request: &v1::RepairRequest,
        now: Timestamp,
    ) -> Result<v1::Repair, Refusal> {
        let order = self.order_to_repair(request)?;
        let Hold::Release { release, bundle, size } = order.hold.clone() else {
            let what = format!("{} shall hold nothing of {}", order.node, order.service);
            return Err(Refusal::precheck(what, "deploy to it: fleetctl deploy"));
        };
        if let Some(refusal) = self.locked_by_another(&order.service, by, now) {
            return Err(refusal);
        }
        self.repair_is_possible(&order)?;
        let id = self.new_repair_id()?;
        let extras = if request.extras { Extras::Remove } else { Extras::Keep };
        let (node, service, generation) = (order.node.clone(), order.service.clone(), order.generation);
        let paths = request.paths.clone();
        let repair = RepairOrder { id, node, service, generation, release, bundle, size, paths, extras };
        let record = RepairRecord { order: repair, by: by.to_owned(), at: now, ended: None };
        let (files, restart) = self.planned(&record.order);
        let mut view = self.repair_view(&record, now);
        view.files = files.iter().map(file_view).collect();
        view.restarted = restart == Restart::Needed;
        if files.is_empty() || request.dry_run {
            view.id = String::new();
            view.state = if files.is_empty() { "done" } else { "planned" }.into();
            return Ok(view);
        }
        tracing::warn!(by, node = %record.order.node, service = %record.order.service, repair = %record.order.id, "repair ordered");
        self.save(Change::Repair(Box::new(record.clone())));
        self.repairs.insert(record.order.id.clone(), record);
        self.forget_old_repairs();
        self.say_desired(&order.node);
        Ok(view)
    }

    /// What the request means, if it can be meant.
    fn order_to_repair(&self, request: &v1::RepairRequest) -> Result<Order, Refusal> {
        let help = "see: fleetctl drift fix --help";
        let input = |e: convert::ConvertError| Refusal::input(e.to_string(), help);
        let node: NodeName = convert::parse("node", &request.node).map_err(input)?;
        if request.paths.len() > MOST_PATHS || request.paths.iter().any(|path| path.len() > LONGEST_PATH) {
            let what = format!("more than {MOST_PATHS} paths, or one that is longer than any of a release");
            return Err(Refusal::input(what, "name none: then everything is put back"));
        }
        if !self.nodes.contains_key(&node) {
            return Err(Refusal::unknown(format!("there is no node '{node}'"), "list them: fleetctl nodes list"));
        }
        let services: Vec<&Order> = self.orders_of(&node).collect();
        let named = |order: &&&Order| request.service.is_empty() || order.service.as_str() == request.service;
        let mut meant = services.iter().filter(named);
        match (meant.next(), meant.next()) {
            (Some(order), None) => Ok((*order).clone()),
            (Some(_), Some(_)) => {
                let names: Vec<_> = services.iter().map(|order| order.service.as_str()).collect();
                let what = format!("{node} holds {}: say which of them", names.join(", "));
                Err(Refusal::input(what, "name it: fleetctl drift fix NODE -s SERVICE"))
            }
            (None, _) if request.service.is_empty() => {
                Err(Refusal::unknown(format!("{node} holds no service"), "deploy to it: fleetctl deploy"))
            }
            (None, _) => {
                let what = format!("{node} holds no service '{}'", request.service.escape_default());
                Err(Refusal::unknown(what, format!("see what it holds: fleetctl nodes show {node}")))
            }
        }
    }

    /// That nothing is in the way of a repair.
    fn repair_is_possible(&self, order: &Order) -> Result<(), Refusal> {
        let (node, service) = (&order.node, &order.service);
        if let Some((id, _)) = self.running().find(|(_, j)| j.deployment.spec().service == *service) {
            let what = format!("{id} deploys {service}: its orders would undo a repair, or be undone by it");
            return Err(Refusal::busy(
                what,
                format!("wait for it (fleetctl wait {id}); it puts right what it touches"),
            ));
        }
        let open = self
            .repairs
            .values()
            .find(|record| record.ended.is_none() && record.order.node == *node && record.order.service == *service);
        if let Some(open) = open {
            let what = format!("{} repairs {service} on {node} already ({})", open.by, open.order.id);
            return Err(Refusal::busy(what, "wait for its end: fleetctl history"));
        }
        if self.seen.get(node).is_none_or(|seen| seen.link.is_none()) {
            let what = format!("the agent of {node} is not in contact: nothing can be put back there now");
            return Err(Refusal::precheck(what, format!("look at the machine, then: fleetctl drift {node} --fresh")));
        }
        let refuse = |why: &str| {
            let what = format!("{node} does not hold {service}: {why}");
            Err(Refusal::precheck(what, "a repair puts back what was held; deploy again instead: fleetctl deploy"))
        };
        match self.evidence(node, service) {
            None => refuse("it was not observed yet"),
            Some(evidence) if evidence.generation != order.generation => refuse("it has not taken the last order in"),
            Some(ServiceEvidence { progress: Progress::Held, .. }) => Ok(()),
            Some(ServiceEvidence { progress: Progress::Working { step, .. }, .. }) => {
                refuse(&format!("its agent is at work ({step})"))
            }
            Some(ServiceEvidence { progress: Progress::Failed { reason, .. }, .. }) => {
                refuse(&format!("its last order failed: {reason}"))
            }
            Some(ServiceEvidence { progress: Progress::Fenced { reason }, .. }) => {
                refuse(&format!("it is fenced: {reason}"))
            }
        }
    }

    /// What a repair would put back by what was seen last, and whether the service would be started anew.
    fn planned(&self, repair: &RepairOrder) -> (Vec<PutBack>, Restart) {
        let (mut files, mut restart) = (Vec::new(), Restart::NotNeeded);
        let Some(evidence) = self.evidence(&repair.node, &repair.service) else { return (files, restart) };
        let descriptor = self.catalogue.get(&repair.release);
        for deviation in evidence.files.iter().filter(|its| repair.covers(&its.path, its.kind)) {
            let loaded = descriptor.map_or(fleet::repair::Loaded::Perhaps, |descriptor| {
                loaded(&deviation.path, &repair.release, &descriptor.manifest, &evidence.processes)
            });
            if restart_for(deviation.kind, loaded) == Restart::Needed {
                restart = Restart::Needed;
            }
            files.push(PutBack { path: deviation.path.clone(), kind: deviation.kind });
        }
        if evidence.current.as_ref() != Some(&repair.release) && repair.covers_current() {
            files.push(PutBack { path: fleet::repair::CURRENT.into(), kind: DeviationKind::Symlink });
        }
        (files, restart)
    }

    /// Ends what the node's latest statement reports as over; why findings are gone that it shows no longer.
    pub(super) fn repairs_reported(&mut self, node: &NodeName, service: &ServiceName, now: Timestamp) -> Closing {
        let Some(report) = self.evidence(node, service).and_then(|evidence| evidence.repair.clone()) else {
            return Closing::Gone;
        };
        let is_open = |record: &&RepairRecord| {
            record.ended.is_none() && record.order.node == *node && record.order.service == *service
        };
        if !report.state.is_over() || self.repairs.get(&report.id).filter(is_open).is_none() {
            return Closing::Gone;
        }
        let why = match &report.state {
            RepairState::Done { .. } => Closing::Fixed,
            RepairState::Working { .. } | RepairState::Failed { .. } => Closing::Gone,
        };
        self.end_repair(&report.id, report.state, now);
        why
    }

    /// A node that is gone repairs nothing.
    pub(super) fn end_repairs_of(&mut self, node: &NodeName, now: Timestamp) {
        let open = |record: &&RepairRecord| record.ended.is_none() && record.order.node == *node;
        let ids: Vec<RepairId> = self.repairs.values().filter(open).map(|record| record.order.id.clone()).collect();
        for id in ids {
            self.end_repair(&id, RepairState::Failed { reason: "its node was removed".into() }, now);
        }
    }

    fn end_repair(&mut self, id: &RepairId, state: RepairState, now: Timestamp) {
        let Some(record) = self.repairs.get_mut(id) else { return };
        let what = in_words(&state);
        record.ended = Some(RepairEnd { at: now, state });
        let record = record.clone();
        let (node, service) = (record.order.node.clone(), record.order.service.clone());
        let entry = LedgerEntry::Repaired { at: now, node, service, by: record.by.clone(), what };
        self.save(Change::Repair(Box::new(record)));
        self.save_ledger(vec![entry]);
    }

    fn forget_old_repairs(&mut self) {
        while self.repairs.len() > MOST_REMEMBERED {
            let ended = self.repairs.values().filter(|record| record.ended.is_some());
            let Some(oldest) = ended.min_by_key(|record| record.at).map(|record| record.order.id.clone()) else {
                return;
            };
            self.repairs.remove(&oldest);
            self.save(Change::ForgetRepair(oldest));
        }
    }

    /// The repairs that a node has not reported the end of.
    pub(super) fn open_repairs(&self, node: &NodeName) -> Vec<RepairOrder> {
        let open = |record: &&RepairRecord| record.ended.is_none() && record.order.node == *node;
        self.repairs.values().filter(open).map(|record| record.order.clone()).collect()
    }

    /// One repair.
    pub(super) fn get_repair(&self, id: &str, now: Timestamp) -> Result<v1::Repair, Refusal> {
        let found = id.parse::<RepairId>().ok().and_then(|id| self.repairs.get(&id));
        let unknown = || Refusal::unknown(format!("there is no repair '{}'", id.escape_default()), "fleetctl history");
        found.map(|record| self.repair_view(record, now)).ok_or_else(unknown)
    }

    /// The newest repairs, of one service if named.
    pub(super) fn list_repairs(&self, service: &str, limit: u32, now: Timestamp) -> Vec<v1::Repair> {
        let asked = |record: &&RepairRecord| service.is_empty() || record.order.service.as_str() == service;
        let mut found: Vec<&RepairRecord> = self.repairs.values().filter(asked).collect();
        found.sort_by_key(|record| std::cmp::Reverse(record.at));
        let limit = if limit == 0 { usize::MAX } else { limit as usize };
        found.into_iter().take(limit).map(|record| self.repair_view(record, now)).collect()
    }

    fn repair_view(&self, record: &RepairRecord, now: Timestamp) -> v1::Repair {
        let order = &record.order;
        let reported = self.evidence(&order.node, &order.service).and_then(|evidence| evidence.repair.as_ref());
        let reported = reported.filter(|report| report.id == order.id).map(|report| &report.state);
        let (state, detail) = match record.ended.as_ref().map(|ended| &ended.state).or(reported) {
            None => ("working", "its agent has not begun".to_owned()),
            // Saved before it is said: what is over here is over in the ledger.
            Some(RepairState::Working { detail }) => ("working", detail.clone()),
            Some(state @ RepairState::Done { .. }) => ("done", in_words(state)),
            Some(RepairState::Failed { reason }) => ("failed", reason.clone()),
        };
        let (files, restarted) = match record.ended.as_ref().map(|ended| &ended.state) {
            Some(RepairState::Done { put_back, restart }) => {
                (put_back.iter().map(file_view).collect(), *restart == Restart::Needed)
            }
            Some(RepairState::Working { .. } | RepairState::Failed { .. }) | None => (Vec::new(), false),
        };
        // Killing what nobody started by this system is a person's decision; who and what is said.
        let left = self.ledger.open().filter(|open| {
            let key = &open.finding.key;
            key.node == order.node
                && key.service.as_ref() == Some(&order.service)
                && matches!(key.kind, Kind::OldProcess | Kind::Process)
        });
        v1::Repair {
            id: order.id.to_string(),
            node: order.node.to_string(),
            service: order.service.to_string(),
            release: order.release.to_string(),
            version: self.releases.get(&order.release).map(|known| known.version.to_string()).unwrap_or_default(),
            by: record.by.clone(),
            started_at_ms: record.at.0,
            ended_at_ms: record.ended.as_ref().map(|ended| ended.at.0),
            state: state.into(),
            detail,
            files,
            restarted,
            left: left.map(|open| self.finding_view(open, now)).collect(),
        }
    }

    fn new_repair_id(&self) -> Result<RepairId, Refusal> {
        loop {
            let id = RepairId::from_random(random::bits().map_err(no_bits)? as u64);
            if !self.repairs.contains_key(&id) {
                return Ok(id);
            }
        }
    }
}

fn file_view(file: &PutBack) -> v1::RepairedFile {
    v1::RepairedFile { path: file.path.clone(), kind: word(file.kind).into() }
}

fn word(kind: DeviationKind) -> &'static str {
    match kind {
        DeviationKind::File | DeviationKind::Unreadable => Kind::File.as_str(),
        DeviationKind::Mode => Kind::Mode.as_str(),
        DeviationKind::Owner => Kind::Owner.as_str(),
        DeviationKind::Missing => Kind::Missing.as_str(),
        DeviationKind::Extra => Kind::Extra.as_str(),
        DeviationKind::Symlink => Kind::Symlink.as_str(),
    }
}

/// What came of a repair, in one sentence.
fn in_words(state: &RepairState) -> String {
    const SHOWN: usize = 5;
    match state {
        RepairState::Working { detail } => detail.clone(),
        RepairState::Failed { reason } => format!("failed: {reason}"),
        RepairState::Done { put_back, restart } => {
            let mut files: Vec<String> =
                put_back.iter().take(SHOWN).map(|file| format!("{} ({})", file.path, word(file.kind))).collect();
            if put_back.len() > SHOWN {
                files.push(format!("and {} more", put_back.len() - SHOWN));
            }
            let files = if files.is_empty() { "nothing was left to put back".to_owned() } else { files.join(", ") };
            match restart {
                Restart::Needed => format!("{files}; restarted"),
                Restart::NotNeeded => format!("{files}; not restarted"),
            }
        }
    }
}
