//! Judging one service on one node: is every process that should run there, and no other, provably the release?

use crate::drift::{Catalogue, Finding, FindingKey, Kind};
use crate::evidence::{
    Confirmation, DeviationKind, Health, LinkState, Mapped, Owner, Parentage, Place, Process, Progress,
    ServiceEvidence, Started,
};
use crate::release::{Descriptor, Grade, Pin};
use crate::{Generation, Hold, Millis, Order, ReleaseId};

/// Where a node stands with an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Everything matches, with evidence of this grade (the weakest among its processes).
    Proven {
        /// The weakest grade.
        grade: Grade,
        /// How long the service has been up without its main process starting anew; without end for "nothing".
        up: Millis,
        /// Whether the agent may still undo it by itself.
        confirmation: Confirmation,
    },
    /// The agent is at work on this order.
    Working {
        /// Its step.
        step: String,
        /// What is known of the step.
        detail: String,
    },
    /// The agent has not taken in this order yet.
    Behind {
        /// What it holds instead.
        generation: Option<Generation>,
    },
    /// The agent could not carry out the order.
    Failed {
        /// The step that failed, and why.
        reason: String,
    },
    /// The service may not start yet.
    Fenced {
        /// Why.
        reason: String,
    },
    /// The agent says it holds the order, and what is seen says otherwise: see the findings.
    Differs,
}

/// The result of comparing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comparison {
    /// Where the node stands.
    pub standing: Standing,
    /// Every difference. Empty while the agent is at work: then nothing can be said yet.
    pub findings: Vec<Finding>,
}

impl Comparison {
    /// Whether a statement about drift can be made: not while the node is being changed.
    pub fn is_settled(&self) -> bool {
        match self.standing {
            Standing::Proven { .. } | Standing::Failed { .. } | Standing::Fenced { .. } | Standing::Differs => true,
            Standing::Working { .. } | Standing::Behind { .. } => false,
        }
    }

    /// The findings in one sentence.
    pub fn summary(&self) -> String {
        const SHOWN: usize = 3;
        let mut text = self.findings.iter().take(SHOWN).map(ToString::to_string).collect::<Vec<_>>().join("; ");
        if self.findings.len() > SHOWN {
            text.push_str(&format!("; and {} more", self.findings.len() - SHOWN));
        }
        text
    }
}

/// Compares an order with the evidence of the node it was given to.
pub fn compare(order: &Order, evidence: Option<&ServiceEvidence>, catalogue: &Catalogue) -> Comparison {
    let unsettled = |standing| Comparison { standing, findings: Vec::new() };
    let Some(evidence) = evidence else {
        return unsettled(Standing::Behind { generation: None });
    };
    if evidence.generation < order.generation {
        return unsettled(Standing::Behind { generation: Some(evidence.generation) });
    }
    let scene = Scene { order, evidence, catalogue };
    if evidence.generation > order.generation {
        let found = format!("generation {}: was the controller restored from an old backup?", evidence.generation);
        let finding = scene.finding(Kind::Agent, "order", &format!("generation {}", order.generation), found);
        return Comparison { standing: Standing::Differs, findings: vec![finding] };
    }
    match &evidence.progress {
        Progress::Working { step, detail } => {
            unsettled(Standing::Working { step: step.clone(), detail: detail.clone() })
        }
        Progress::Failed { step, reason } => {
            let reason = format!("{step}: {reason}");
            let mut findings = vec![scene.version_finding(format!("{}, after {reason}", scene.current()))];
            findings.extend(scene.old_process_findings());
            Comparison { standing: Standing::Failed { reason }, findings }
        }
        Progress::Fenced { reason } => {
            let mut findings =
                vec![scene.finding(Kind::Process, order.service.as_str(), "running", format!("fenced: {reason}"))];
            findings.extend(scene.old_process_findings());
            Comparison { standing: Standing::Fenced { reason: reason.clone() }, findings }
        }
        Progress::Held => scene.judge(),
    }
}

/// What one process turned out to be.
enum Verdict {
    /// The release's, with this grade.
    Current(Grade),
    /// An older (or at least another) release's.
    Old(ReleaseId),
    /// Neither can be shown.
    Unproven(String),
}

struct Scene<'a> {
    order: &'a Order,
    evidence: &'a ServiceEvidence,
    catalogue: &'a Catalogue,
}

impl Scene<'_> {
    fn judge(&self) -> Comparison {
        let mut findings = Vec::new();
        let grade = match &self.order.hold {
            Hold::Nothing => {
                self.expect_nothing(&mut findings);
                Grade::Digest
            }
            Hold::Release { release, .. } => match self.catalogue.get(release) {
                Some(descriptor) => self.expect_release(release, descriptor, &mut findings),
                None => {
                    findings.push(
                        self.version_finding(format!("{}, and the controller has lost its manifest", self.current())),
                    );
                    Grade::SelfReport
                }
            },
        };
        let standing = if findings.is_empty() {
            Standing::Proven { grade, up: self.up(), confirmation: self.evidence.confirmation }
        } else {
            Standing::Differs
        };
        Comparison { standing, findings }
    }

    /// The age of the oldest process of the tree: workers come and go, the main process should not.
    fn up(&self) -> Millis {
        let supervised = self.evidence.processes.iter().filter(|process| process.parentage == Parentage::Supervised);
        supervised.map(|process| process.age).max().unwrap_or(Millis(u64::MAX))
    }

    fn expect_nothing(&self, findings: &mut Vec<Finding>) {
        if self.evidence.current.is_some() {
            findings.push(self.version_finding(self.current()));
        }
        for process in &self.evidence.processes {
            let found = self
                .release_of(process)
                .map_or_else(|| process.command.clone(), |release| self.catalogue.describe(&release));
            findings.push(Finding {
                by: process.by.clone(),
                ..self.finding(Kind::OldProcess, &name(process), "no process of this service", found)
            });
        }
    }

    fn expect_release(&self, release: &ReleaseId, descriptor: &Descriptor, findings: &mut Vec<Finding>) -> Grade {
        if self.evidence.current.as_ref() != Some(release) {
            findings.push(self.version_finding(self.current()));
        }
        for deviation in &self.evidence.files {
            let kind = match deviation.kind {
                DeviationKind::File | DeviationKind::Unreadable => Kind::File,
                DeviationKind::Mode => Kind::Mode,
                DeviationKind::Owner => Kind::Owner,
                DeviationKind::Missing => Kind::Missing,
                DeviationKind::Extra => Kind::Extra,
                DeviationKind::Symlink => Kind::Symlink,
            };
            findings.push(Finding {
                content: deviation.content,
                by: deviation.by.clone(),
                changed: deviation.changed,
                ..self.finding(kind, &deviation.path, &deviation.expected, deviation.found.clone())
            });
        }
        let compared = self.evidence.compared.as_ref();
        if compared != self.catalogue.descriptor_digest(release) {
            let found = if compared.is_some() { "compared with another manifest" } else { "not compared" };
            findings.push(self.finding(
                Kind::File,
                "(all files)",
                "compared with the manifest of the release",
                found.into(),
            ));
        }
        if let Some(found) = self.evidence.looked.too_old() {
            findings.push(self.finding(Kind::Stale, "files", "looked at lately", found));
        }
        if self.evidence.files_omitted > 0 {
            findings.push(self.finding(
                Kind::File,
                "(more)",
                "as released",
                format!("{} more files differ", self.evidence.files_omitted),
            ));
        }
        self.pins(descriptor, findings);
        let mut grade = Grade::Digest;
        for process in &self.evidence.processes {
            match self.weigh(process, release, descriptor) {
                Verdict::Current(its) => grade = grade.min(its),
                Verdict::Old(old) => findings.push(self.old_process_finding(process, &old)),
                Verdict::Unproven(found) => findings.push(Finding {
                    by: process.by.clone(),
                    ..self.finding(Kind::Process, &name(process), &self.catalogue.describe(release), found)
                }),
            }
        }
        if !self.evidence.processes.iter().any(|process| process.parentage == Parentage::Supervised) {
            findings.push(self.finding(Kind::Process, self.order.service.as_str(), "running", "not running".into()));
        }
        let foreign = self.foreign(descriptor);
        let grade = if foreign.is_some() { grade.min(Grade::Context) } else { grade };
        if grade < descriptor.minimum_grade {
            let because =
                foreign.map(|mapped| format!(": {} is executed, and is of no release and no package", mapped.path));
            let found = format!("evidence of grade {grade}{}", because.unwrap_or_default());
            findings.push(self.finding(
                Kind::Process,
                "evidence",
                &format!("at least grade {}", descriptor.minimum_grade),
                found,
            ));
        }
        if let Some(stranger) = &self.evidence.stranger {
            let expected = format!("only {} listens", self.order.service);
            findings.push(self.finding(Kind::Port, &stranger.address, &expected, stranger.process.clone()));
        }
        match &self.evidence.health {
            Health::Healthy => {}
            Health::Unhealthy { reason } => {
                findings.push(self.finding(Kind::Health, self.order.service.as_str(), "healthy", reason.clone()))
            }
            Health::Unknown => findings.push(self.finding(
                Kind::Health,
                self.order.service.as_str(),
                "healthy",
                "no answer yet".into(),
            )),
        }
        grade
    }

    /// The heart of it. Digests speak first, then the marks a process was started with; nothing is taken for
    /// granted because a path or an inode looks right.
    fn weigh(&self, process: &Process, release: &ReleaseId, descriptor: &Descriptor) -> Verdict {
        let own = |mapped: &Mapped| mapped.digest.is_some_and(|digest| descriptor.manifest.has_digest(&digest));
        let marks = [process.marker.as_ref(), process.cwd.as_ref(), process.executable.release.as_ref()];
        if let Some(other) = marks.into_iter().flatten().find(|marked| *marked != release) {
            // Same bytes, but started from another release: its configuration, its other files are that release's.
            return Verdict::Old(other.clone());
        }
        for mapped in process.mappings.iter().chain([&process.executable]) {
            if own(mapped) {
                continue;
            }
            if let Some(old) = self.owner(mapped) {
                return Verdict::Old(old);
            }
            // A library of the distribution that was upgraded under the process is reported, and is no finding.
            let vanished = mapped.link == LinkState::Deleted && !mapped.is_distribution();
            let pinned = descriptor.pins.iter().any(|pin| pin.covers(&mapped.path));
            if mapped.place == Place::Inside || (vanished && !pinned) {
                return Verdict::Unproven(format!("executes {}, which is in no release", shown(mapped)));
            }
        }
        for read in &process.open {
            if own(read) {
                continue;
            }
            if let Some(old) = self.owner(read).or_else(|| read.release.clone().filter(|lies_in| lies_in != release)) {
                return Verdict::Old(old);
            }
            // A log, a cache, a temporary file: no release has ever had a file of that name.
            if below_release(read, release).is_some_and(|path| descriptor.manifest.get(path).is_some()) {
                return Verdict::Unproven(format!("reads {}, which is in no release", shown(read)));
            }
        }
        if let Some(old) = process.named.iter().filter(|named| !own(named)).find_map(|named| self.owner(named)) {
            return Verdict::Old(old);
        }
        let early = || format!("{} was started before this release was activated", process.executable.path);
        if own(&process.executable) {
            // A library that is overwritten in place is the new file in every process that has mapped the old one: what
            // such a process still has of the old one in its memory, no digest tells. A copy started by hand is none of
            // the agent's starts, and is judged by its bytes alone.
            let of_the_agent = process.marker.is_some() || process.parentage == Parentage::Supervised;
            return match process.started {
                Started::BeforeActivation if of_the_agent => Verdict::Unproven(early()),
                Started::BeforeActivation | Started::AfterActivation | Started::Unknown => {
                    Verdict::Current(Grade::Digest)
                }
            };
        }
        // An interpreter, or a tool of the distribution started by the service: its files and its context must speak.
        if process.started != Started::AfterActivation {
            return Verdict::Unproven(early());
        }
        if process.marker.is_none() || process.cwd.is_none() {
            return Verdict::Unproven(format!("{} carries no mark of this release", process.executable.path));
        }
        // What it was told to run is still open, so what is hashed is what runs. A data file that is open says nothing
        // of the code, and a script that was read and closed may have been another one at that time.
        let runs = |named: &Mapped| process.open.iter().any(|read| read.digest == named.digest);
        if process.open_omitted == 0 && process.named.iter().any(|named| own(named) && runs(named)) {
            return Verdict::Current(Grade::OpenFile);
        }
        Verdict::Current(Grade::Context)
    }

    /// The newest release of the service that contains a file.
    fn owner(&self, mapped: &Mapped) -> Option<ReleaseId> {
        mapped.digest.and_then(|digest| self.catalogue.owners(&self.order.service, &digest).last().cloned())
    }

    /// Code of supervised processes for which nobody vouches: neither release nor package nor pin. With `LD_PRELOAD` or
    /// `dlopen` it may do anything under the name of a program whose digest is right. Where packages are pinned, it is not
    /// enough to lie where packages are installed.
    fn foreign(&self, descriptor: &Descriptor) -> Option<&Mapped> {
        let strict = pins_packages(descriptor);
        self.evidence.outside.iter().find(|mapped| {
            let packaged = match &mapped.owner {
                // Elsewhere than where packages are installed, a name is not enough.
                Owner::Package(package) => package.intact == Some(true) || mapped.is_distribution(),
                Owner::Nobody if strict => false,
                Owner::Nobody | Owner::Unknown => mapped.is_distribution(),
            };
            mapped.link == LinkState::Linked && !packaged && !descriptor.pins.iter().any(|pin| pin.covers(&mapped.path))
        })
    }

    /// Pinned files of the distribution that are others than those pinned.
    fn pins(&self, descriptor: &Descriptor, findings: &mut Vec<Finding>) {
        for pin in &descriptor.pins {
            for mapped in &self.evidence.outside {
                let Some((expected, found)) = breach(pin, mapped) else { continue };
                let finding = self.finding(Kind::Process, &mapped.path, &expected, found);
                // Two pins may speak of one file, and one name may be two files.
                if findings.iter().all(|earlier| earlier.key != finding.key) {
                    findings.push(finding);
                }
            }
        }
        if let Some(reason) = self.why_pins_are_not_compared(descriptor) {
            findings.push(self.finding(Kind::Process, "(pins)", "every mapped file compared with the pins", reason));
        }
    }

    /// Not to know is not to be right.
    fn why_pins_are_not_compared(&self, descriptor: &Descriptor) -> Option<String> {
        let omitted = self.evidence.outside_omitted;
        if omitted > 0 && !descriptor.pins.is_empty() {
            return Some(format!("{omitted} more files outside the release, not listed"));
        }
        let covered = |mapped: &Mapped| descriptor.pins.iter().any(|pin| pin.covers(&mapped.path));
        let unknown = |mapped: &&Mapped| mapped.owner == Owner::Unknown && !covered(mapped);
        let mapped = self.evidence.outside.iter().filter(|_| pins_packages(descriptor)).find(unknown)?;
        let gone = if mapped.link == LinkState::Deleted { " (deleted)" } else { "" };
        Some(format!("the node cannot tell which package brought {}{gone}; it asks dpkg's database only", mapped.path))
    }

    /// Old code is worth saying even when the order failed or the service is fenced.
    fn old_process_findings(&self) -> Vec<Finding> {
        let allowed = self.evidence.current.as_ref();
        let old = |process: &Process| self.release_of(process).filter(|release| Some(release) != allowed);
        self.evidence
            .processes
            .iter()
            .filter_map(|process| old(process).map(|release| self.old_process_finding(process, &release)))
            .collect()
    }

    /// The release a process belongs to, as well as it can be told.
    fn release_of(&self, process: &Process) -> Option<ReleaseId> {
        process
            .marker
            .clone()
            .or_else(|| process.executable.release.clone())
            .or_else(|| self.owner(&process.executable))
            .or_else(|| process.cwd.clone())
    }

    fn current(&self) -> String {
        self.evidence.current.as_ref().map_or_else(|| "no release".into(), |id| self.catalogue.describe(id))
    }

    fn version_finding(&self, found: String) -> Finding {
        let expected = self.order.hold.release().map_or_else(|| "no release".into(), |id| self.catalogue.describe(id));
        self.finding(Kind::Version, self.order.service.as_str(), &expected, found)
    }

    fn old_process_finding(&self, process: &Process, old: &ReleaseId) -> Finding {
        let expected = self.order.hold.release().map_or_else(|| "no release".into(), |id| self.catalogue.describe(id));
        let gone = if process.executable.link == LinkState::Deleted { " (deleted)" } else { "" };
        let found = format!("{}{gone}, running for {}", self.catalogue.describe(old), process.age);
        Finding { by: process.by.clone(), ..self.finding(Kind::OldProcess, &name(process), &expected, found) }
    }

    fn finding(&self, kind: Kind, what: &str, expected: &str, found: String) -> Finding {
        let key = FindingKey {
            node: self.order.node.clone(),
            service: Some(self.order.service.clone()),
            kind,
            what: what.into(),
        };
        Finding::new(key, expected, found)
    }
}

/// A file for people: its path, whether that is gone, and what it is.
fn shown(mapped: &Mapped) -> String {
    let gone = if mapped.link == LinkState::Deleted { " (deleted)" } else { "" };
    let what = mapped.digest.map_or_else(|| "unreadable".into(), |digest| format!("sha256 {}", digest.short()));
    format!("{}{gone}, {what}", mapped.path)
}

/// The path of a file relative to the directory of this release.
fn below_release<'a>(mapped: &'a Mapped, release: &ReleaseId) -> Option<&'a str> {
    mapped.release.as_ref().filter(|lies_in| *lies_in == release)?;
    let (_, below) = mapped.path.split_once(&format!("/releases/{release}/"))?;
    Some(below)
}

fn pins_packages(descriptor: &Descriptor) -> bool {
    descriptor.pins.iter().any(|pin| matches!(pin, Pin::Package { .. }))
}

/// What a pin that speaks of a file expects and what was found, if that is something else.
fn breach(pin: &Pin, mapped: &Mapped) -> Option<(String, String)> {
    let gone = if mapped.link == LinkState::Deleted { " (deleted)" } else { "" };
    match (pin, &mapped.owner) {
        (Pin::File { digests, .. }, _) if pin.covers(&mapped.path) => {
            if mapped.digest.is_some_and(|digest| digests.contains(&digest)) {
                return None;
            }
            let allowed = digests.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or ");
            let found = mapped.digest.map_or_else(|| "unreadable".into(), |digest| digest.to_string());
            Some((format!("pinned to {allowed}"), format!("mapped{gone}: {found}")))
        }
        (Pin::Package { package, versions }, Owner::Package(brought)) if brought.name == *package => {
            let expected = || format!("pinned to package {package} {}", versions.join(" or "));
            if !versions.contains(&brought.version) {
                return Some((expected(), format!("mapped{gone}: of package {package} {}", brought.version)));
            }
            let bytes = match brought.intact {
                Some(true) => return None,
                // Replaced under the running service, or changed: its name is the package's, its bytes are not.
                Some(false) => "other bytes than those",
                None => "bytes that cannot be compared with those",
            };
            Some((expected(), format!("mapped{gone}: {bytes} of package {package} {}", brought.version)))
        }
        (Pin::File { .. } | Pin::Package { .. }, _) => None,
    }
}

fn name(process: &Process) -> String {
    format!("pid {} {}", process.pid, process.command.split(' ').next().unwrap_or_default())
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
