//! From what a keeper says and what is seen to the evidence for one service. What is seen is taken as it is: judging
//! it is the controller's work, and an agent that could not look says so.

use std::path::PathBuf;

use fleet::evidence::{Confirmation, DeviationKind, FileDeviation, Health, Progress, ServiceEvidence};
use fleet::looked::Depth;
use fleet::{Generation, ServiceName};

use crate::keeper::Status;
use crate::known::Known;
use crate::platform::{Look, Observer, Seen, ServicePlace};

/// Looks as deep as asked, and puts together what one service shows. `neighbours` are the roots of the node's other services with an
/// order. Blocking: it reads /proc and files.
pub fn evidence(
    observer: &dyn Observer,
    depth: Depth,
    place: &ServicePlace,
    neighbours: &[PathBuf],
    ordered: Generation,
    status: &Status,
) -> ServiceEvidence {
    let look = Look {
        place,
        held: status.live.as_ref().map(|live| (&live.release, &live.descriptor.manifest)),
        running: status.running.as_ref(),
        known: &status.known,
        neighbours,
        activated: status.activated.as_ref().map(|moment| (moment.boot_id.as_str(), moment.ticks)),
    };
    let seen = observer.look_to(depth, &look).unwrap_or_else(|cause| unseen(place, &cause));
    let progress = if status.generation == ordered {
        status.progress.clone()
    } else {
        Progress::Working { step: "fetch".to_owned(), detail: "the order has just arrived".to_owned() }
    };
    let confirmation = if status.generation == ordered { status.confirmation } else { Confirmation::Given };
    let compared = status.live.as_ref().map(|live| live.digest);
    let stranger = status.stranger.clone();
    ServiceEvidence {
        compared,
        confirmation,
        stranger,
        repair: status.repair.clone(),
        ..gather(&place.service, ordered, progress, status.health.clone(), seen)
    }
}

/// The evidence for a service that is fenced because the agent cannot read what it knew of it: what is seen, and why.
pub fn evidence_without_order(
    observer: &dyn Observer,
    depth: Depth,
    place: &ServicePlace,
    neighbours: &[PathBuf],
    ordered: Generation,
    reason: &str,
) -> ServiceEvidence {
    let known = Known::default();
    let look = Look { place, held: None, running: None, known: &known, neighbours, activated: None };
    let seen = observer.look_to(depth, &look).unwrap_or_else(|cause| unseen(place, &cause));
    gather(&place.service, ordered, Progress::Fenced { reason: reason.to_owned() }, Health::Unknown, seen)
}

/// The same evidence without what changes by itself: two of these differ only if something happened.
pub fn without_ages(mut services: Vec<ServiceEvidence>) -> Vec<ServiceEvidence> {
    for process in services.iter_mut().flat_map(|service| &mut service.processes) {
        process.age = fleet::Millis(0);
    }
    for service in &mut services {
        service.looked = std::mem::take(&mut service.looked).without_ages();
        service.files.iter_mut().for_each(|file| file.changed = None);
    }
    services
}

fn gather(
    service: &ServiceName,
    generation: Generation,
    progress: Progress,
    health: Health,
    seen: Seen,
) -> ServiceEvidence {
    ServiceEvidence {
        service: service.clone(),
        generation,
        progress,
        current: seen.current,
        files: seen.files,
        files_omitted: seen.files_omitted,
        compared: None,
        processes: seen.processes,
        hidden: seen.hidden,
        outside: seen.outside,
        outside_omitted: seen.outside_omitted,
        health,
        confirmation: Confirmation::Given,
        repair: None,
        looked: seen.looked,
        stranger: None,
    }
}

/// A look that failed is a finding of its own, never "nothing there".
fn unseen(place: &ServicePlace, cause: &std::io::Error) -> Seen {
    tracing::error!(service = %place.service, "cannot look: {cause}");
    let deviation = FileDeviation {
        path: ".".to_owned(),
        kind: DeviationKind::Unreadable,
        expected: "a look at files and processes".to_owned(),
        found: cause.to_string(),
        content: None,
        by: None,
        changed: None,
    };
    Seen { files: vec![deviation], ..Seen::default() }
}
