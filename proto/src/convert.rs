//! Between wire messages and the values of `fleet`, both ways. Whatever cannot be read is refused with the
//! field and the reason; nothing is guessed.

use fleet::evidence::{
    Attestation, Confirmation, DeviationKind, FileDeviation, Health, LinkState, Mapped, Owner, Package, Parentage,
    Place, Process, Progress, ServiceEvidence, Started, Stranger,
};
use fleet::{Generation, Hold, Millis, Order, Timestamp};

use crate::v1;

/// The most services, processes, deviations or mappings accepted in one message: ten times what a busy node has.
pub const MOST_ITEMS: usize = 10_000;
/// The longest free text accepted, in bytes: an agent cannot fill the controller's memory with one word.
pub const LONGEST_TEXT: usize = 16 << 10;

/// Why a message was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConvertError {
    /// A required field is absent.
    #[error("field '{0}' is missing")]
    Missing(&'static str),
    /// A field's value is not valid.
    #[error("field '{field}': {reason}")]
    Invalid {
        /// The field.
        field: &'static str,
        /// Why.
        reason: String,
    },
}

/// Reads a field that has a grammar.
///
/// # Errors
/// The field's name and the grammar's own reason.
pub fn parse<T>(field: &'static str, text: &str) -> Result<T, ConvertError>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    text.parse().map_err(|e: T::Err| ConvertError::Invalid { field, reason: e.to_string() })
}

fn parse_optional<T>(field: &'static str, text: Option<&String>) -> Result<Option<T>, ConvertError>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    text.map(|text| parse(field, text)).transpose()
}

/// Free text from the other side, made harmless: see [`text`].
pub fn clean(words: String) -> String {
    text(words)
}

/// Free text is shown to people: control characters go, and length is bounded.
pub(crate) fn text(text: String) -> String {
    if text.len() <= LONGEST_TEXT && !text.chars().any(|c| c.is_control() && c != '\n' && c != '\t') {
        return text;
    }
    let mut clean: String = text
        .chars()
        .map(|c| if c.is_control() && c != '\n' && c != '\t' { '\u{fffd}' } else { c })
        .take(LONGEST_TEXT)
        .collect();
    while clean.len() > LONGEST_TEXT {
        clean.pop();
    }
    clean
}

pub(crate) fn all<A, B>(
    field: &'static str,
    items: Vec<A>,
    convert: impl FnMut(A) -> Result<B, ConvertError>,
) -> Result<Vec<B>, ConvertError> {
    if items.len() > MOST_ITEMS {
        return Err(ConvertError::Invalid {
            field,
            reason: format!("{} items are more than {MOST_ITEMS}", items.len()),
        });
    }
    items.into_iter().map(convert).collect()
}

impl From<Order> for v1::Order {
    fn from(order: Order) -> Self {
        let hold = match order.hold {
            Hold::Release { release, bundle, size } => v1::order::Hold::Release(v1::ReleaseRef {
                release: release.to_string(),
                bundle: bundle.to_string(),
                size,
            }),
            Hold::Nothing => v1::order::Hold::Nothing(v1::Nothing {}),
        };
        Self {
            node: order.node.into(),
            service: order.service.into(),
            generation: order.generation.0,
            hold: Some(hold),
            confirm_ms: order.confirm.0,
        }
    }
}

impl TryFrom<v1::Order> for Order {
    type Error = ConvertError;
    fn try_from(order: v1::Order) -> Result<Self, ConvertError> {
        let hold = match order.hold.ok_or(ConvertError::Missing("hold"))? {
            v1::order::Hold::Release(r) => Hold::Release {
                release: parse("release", &r.release)?,
                bundle: parse("bundle", &r.bundle)?,
                size: r.size,
            },
            v1::order::Hold::Nothing(v1::Nothing {}) => Hold::Nothing,
        };
        Ok(Self {
            node: parse("node", &order.node)?,
            service: parse("service", &order.service)?,
            generation: Generation(order.generation),
            hold,
            confirm: Millis(order.confirm_ms.min(fleet::time::LONGEST.0)),
        })
    }
}

impl From<Attestation> for v1::Attestation {
    fn from(a: Attestation) -> Self {
        Self {
            node: a.node.into(),
            nonce: a.nonce.into(),
            boot_id: a.boot_id,
            services: a.services.into_iter().map(Into::into).collect(),
            disk_free: a.disk_free,
            migrations: a.migrations.into_iter().map(Into::into).collect(),
            up_ms: a.up.map(|up| up.0),
            clock_ms: a.clock.map(|clock| clock.0),
        }
    }
}

impl TryFrom<v1::Attestation> for Attestation {
    type Error = ConvertError;
    fn try_from(a: v1::Attestation) -> Result<Self, ConvertError> {
        Ok(Self {
            node: parse("node", &a.node)?,
            nonce: parse("nonce", &a.nonce)?,
            boot_id: text(a.boot_id),
            services: all("services", a.services, TryInto::try_into)?,
            disk_free: a.disk_free,
            migrations: all("migrations", a.migrations, TryInto::try_into)?,
            up: a.up_ms.map(Millis),
            clock: a.clock_ms.map(Timestamp),
        })
    }
}

impl From<ServiceEvidence> for v1::ServiceEvidence {
    fn from(s: ServiceEvidence) -> Self {
        use v1::service_evidence::{Health as H, Progress as P};
        let progress = match s.progress {
            Progress::Working { step, detail } => P::Working(v1::Working { step, detail }),
            Progress::Held => P::Held(v1::Held {}),
            Progress::Failed { step, reason } => P::Failed(v1::Failed { step, reason }),
            Progress::Fenced { reason } => P::Fenced(v1::Fenced { reason }),
        };
        let health = match s.health {
            Health::Healthy => H::Healthy(v1::Healthy {}),
            Health::Unhealthy { reason } => H::Unhealthy(v1::Unhealthy { reason }),
            Health::Unknown => H::HealthUnknown(v1::HealthUnknown {}),
        };
        let (stranger_address, stranger) = s.stranger.map(|found| (found.address, found.process)).unzip();
        Self {
            service: s.service.into(),
            generation: s.generation.0,
            progress: Some(progress),
            current: s.current.map(Into::into),
            files: s.files.into_iter().map(Into::into).collect(),
            files_omitted: s.files_omitted,
            compared: s.compared.map(Into::into),
            processes: s.processes.into_iter().map(Into::into).collect(),
            health: Some(health),
            unconfirmed: s.confirmation == Confirmation::Awaited,
            repair: s.repair.map(Into::into),
            looked: Some(s.looked.into()),
            stranger_address,
            stranger,
            hidden: s.hidden,
            outside: s.outside.into_iter().map(Into::into).collect(),
            outside_omitted: s.outside_omitted,
        }
    }
}

impl TryFrom<v1::ServiceEvidence> for ServiceEvidence {
    type Error = ConvertError;
    fn try_from(s: v1::ServiceEvidence) -> Result<Self, ConvertError> {
        use v1::service_evidence::{Health as H, Progress as P};
        let progress = match s.progress.ok_or(ConvertError::Missing("progress"))? {
            P::Working(w) => Progress::Working { step: text(w.step), detail: text(w.detail) },
            P::Held(v1::Held {}) => Progress::Held,
            P::Failed(f) => Progress::Failed { step: text(f.step), reason: text(f.reason) },
            P::Fenced(f) => Progress::Fenced { reason: text(f.reason) },
        };
        let health = match s.health.ok_or(ConvertError::Missing("health"))? {
            H::Healthy(v1::Healthy {}) => Health::Healthy,
            H::Unhealthy(u) => Health::Unhealthy { reason: text(u.reason) },
            H::HealthUnknown(v1::HealthUnknown {}) => Health::Unknown,
        };
        Ok(Self {
            service: parse("service", &s.service)?,
            generation: Generation(s.generation),
            progress,
            current: parse_optional("current", s.current.as_ref())?,
            files: all("files", s.files, TryInto::try_into)?,
            files_omitted: s.files_omitted,
            compared: parse_optional("compared", s.compared.as_ref())?,
            processes: all("processes", s.processes, TryInto::try_into)?,
            health,
            confirmation: if s.unconfirmed { Confirmation::Awaited } else { Confirmation::Given },
            repair: s.repair.map(TryInto::try_into).transpose()?,
            looked: s.looked.map(Into::into).unwrap_or_default(),
            stranger: s.stranger.map(|process| Stranger {
                address: text(s.stranger_address.unwrap_or_default()),
                process: text(process),
            }),
            hidden: s.hidden,
            outside: all("outside", s.outside, TryInto::try_into)?,
            outside_omitted: s.outside_omitted,
        })
    }
}

pub(crate) fn deviation_kind(kind: DeviationKind) -> v1::DeviationKind {
    match kind {
        DeviationKind::File => v1::DeviationKind::File,
        DeviationKind::Mode => v1::DeviationKind::Mode,
        DeviationKind::Owner => v1::DeviationKind::Owner,
        DeviationKind::Missing => v1::DeviationKind::Missing,
        DeviationKind::Extra => v1::DeviationKind::Extra,
        DeviationKind::Symlink => v1::DeviationKind::Symlink,
        DeviationKind::Unreadable => v1::DeviationKind::Unreadable,
    }
}

pub(crate) fn read_deviation_kind(kind: v1::DeviationKind) -> Result<DeviationKind, ConvertError> {
    Ok(match kind {
        v1::DeviationKind::File => DeviationKind::File,
        v1::DeviationKind::Mode => DeviationKind::Mode,
        v1::DeviationKind::Owner => DeviationKind::Owner,
        v1::DeviationKind::Missing => DeviationKind::Missing,
        v1::DeviationKind::Extra => DeviationKind::Extra,
        v1::DeviationKind::Symlink => DeviationKind::Symlink,
        v1::DeviationKind::Unreadable => DeviationKind::Unreadable,
        v1::DeviationKind::Unspecified => return Err(ConvertError::Missing("kind")),
    })
}

impl From<FileDeviation> for v1::FileDeviation {
    fn from(d: FileDeviation) -> Self {
        let kind = deviation_kind(d.kind);
        Self {
            path: d.path,
            kind: kind.into(),
            expected: d.expected,
            found: d.found,
            by: d.by,
            changed_ms: d.changed.map(|age| age.0),
            content: d.content.map(Into::into),
        }
    }
}

impl TryFrom<v1::FileDeviation> for FileDeviation {
    type Error = ConvertError;
    fn try_from(d: v1::FileDeviation) -> Result<Self, ConvertError> {
        let kind = read_deviation_kind(d.kind())?;
        Ok(Self {
            path: text(d.path),
            kind,
            expected: text(d.expected),
            found: text(d.found),
            by: d.by.map(text),
            changed: d.changed_ms.map(Millis),
            content: parse_optional("content", d.content.as_ref())?,
        })
    }
}

impl From<Process> for v1::Process {
    fn from(p: Process) -> Self {
        let parentage = match p.parentage {
            Parentage::Supervised => v1::Parentage::Supervised,
            Parentage::Stray => v1::Parentage::Stray,
        };
        let started = match p.started {
            Started::AfterActivation => v1::Started::AfterActivation,
            Started::BeforeActivation => v1::Started::BeforeActivation,
            Started::Unknown => v1::Started::Unknown,
        };
        Self {
            pid: p.pid,
            parentage: parentage.into(),
            age_ms: p.age.0,
            executable: Some(p.executable.into()),
            mappings: p.mappings.into_iter().map(Into::into).collect(),
            open: p.open.into_iter().map(Into::into).collect(),
            named: p.named.into_iter().map(Into::into).collect(),
            open_omitted: p.open_omitted,
            outside: p.outside,
            marker: p.marker.map(Into::into),
            cwd: p.cwd.map(Into::into),
            started: started.into(),
            command: p.command,
            by: p.by,
        }
    }
}

impl TryFrom<v1::Process> for Process {
    type Error = ConvertError;
    fn try_from(p: v1::Process) -> Result<Self, ConvertError> {
        let parentage = match p.parentage() {
            v1::Parentage::Supervised => Parentage::Supervised,
            v1::Parentage::Stray => Parentage::Stray,
            v1::Parentage::Unspecified => return Err(ConvertError::Missing("parentage")),
        };
        let started = match p.started() {
            v1::Started::AfterActivation => Started::AfterActivation,
            v1::Started::BeforeActivation => Started::BeforeActivation,
            v1::Started::Unknown => Started::Unknown,
            v1::Started::Unspecified => return Err(ConvertError::Missing("started")),
        };
        Ok(Self {
            pid: p.pid,
            parentage,
            age: Millis(p.age_ms),
            executable: p.executable.ok_or(ConvertError::Missing("executable"))?.try_into()?,
            mappings: all("mappings", p.mappings, TryInto::try_into)?,
            open: all("open", p.open, TryInto::try_into)?,
            named: all("named", p.named, TryInto::try_into)?,
            open_omitted: p.open_omitted,
            outside: p.outside,
            marker: parse_optional("marker", p.marker.as_ref())?,
            cwd: parse_optional("cwd", p.cwd.as_ref())?,
            started,
            command: text(p.command),
            by: p.by.map(text),
        })
    }
}

impl From<Mapped> for v1::Mapped {
    fn from(m: Mapped) -> Self {
        Self {
            path: m.path,
            digest: m.digest.map(Into::into),
            release: m.release.map(Into::into),
            inside: m.place == Place::Inside,
            deleted: m.link == LinkState::Deleted,
            package: match m.owner {
                Owner::Unknown => None,
                Owner::Nobody => Some(v1::Package::default()),
                Owner::Package(Package { name, version, intact }) => Some(v1::Package { name, version, intact }),
            },
        }
    }
}

impl TryFrom<v1::Mapped> for Mapped {
    type Error = ConvertError;
    fn try_from(m: v1::Mapped) -> Result<Self, ConvertError> {
        Ok(Self {
            path: text(m.path),
            digest: parse_optional("digest", m.digest.as_ref())?,
            release: parse_optional("release", m.release.as_ref())?,
            place: if m.inside { Place::Inside } else { Place::Outside },
            link: if m.deleted { LinkState::Deleted } else { LinkState::Linked },
            owner: match m.package {
                None => Owner::Unknown,
                Some(package) if package.name.is_empty() => Owner::Nobody,
                Some(v1::Package { name, version, intact }) => {
                    Owner::Package(Package { name: text(name), version: text(version), intact })
                }
            },
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use fleet::Digest;

    #[test]
    fn an_attestation_survives_the_wire() {
        let mapped = Mapped {
            path: "/opt/web/releases/r-aaaaaaaaaaaa/bin/web".into(),
            digest: Some(Digest([1; 32])),
            release: Some("r-aaaaaaaaaaaa".parse().unwrap()),
            place: Place::Inside,
            link: LinkState::Deleted,
            owner: Owner::Nobody,
        };
        let packaged = Owner::Package(Package { name: "libc6".into(), version: "2.36-9".into(), intact: Some(true) });
        let process = Process {
            pid: 7,
            parentage: Parentage::Stray,
            age: Millis(9),
            executable: mapped.clone(),
            mappings: vec![mapped.clone()],
            open: vec![mapped.clone(), mapped.clone()],
            named: vec![Mapped { digest: None, owner: Owner::Unknown, ..mapped.clone() }],
            open_omitted: 4,
            outside: 3,
            marker: Some("r-aaaaaaaaaaaa".parse().unwrap()),
            cwd: None,
            started: Started::BeforeActivation,
            command: "web --port 1".into(),
            by: Some("bash (pid 6), root via alice".into()),
        };
        let kinds = [
            DeviationKind::File,
            DeviationKind::Mode,
            DeviationKind::Owner,
            DeviationKind::Missing,
            DeviationKind::Extra,
            DeviationKind::Symlink,
            DeviationKind::Unreadable,
        ];
        let evidence = |progress, health| ServiceEvidence {
            service: "web".parse().unwrap(),
            generation: Generation(4),
            progress,
            current: None,
            files: kinds
                .iter()
                .map(|&kind| FileDeviation {
                    path: "a".into(),
                    kind,
                    expected: "x".into(),
                    found: "y".into(),
                    content: Some(Digest([4; 32])),
                    by: Some("vim (pid 123), root via alice".into()),
                    changed: Some(Millis(6)),
                })
                .collect(),
            files_omitted: 2,
            compared: Some(Digest([3; 32])),
            processes: vec![process.clone()],
            health,
            confirmation: Confirmation::Awaited,
            repair: None,
            looked: fleet::looked::Looked {
                basis: fleet::looked::Depth::Events,
                swept: Millis(11),
                hashed: Some(Millis(12)),
                unwatched: Some("no watches left".into()),
            },
            stranger: Some(Stranger { address: "127.0.0.1:80".into(), process: "pid 9 x".into() }),
            hidden: 5,
            outside: vec![Mapped { place: Place::Outside, owner: packaged.clone(), ..mapped.clone() }],
            outside_omitted: 6,
        };
        let attestation = Attestation {
            node: "n1".parse().unwrap(),
            nonce: fleet::Nonce::from_random(5),
            boot_id: "b".into(),
            disk_free: Some(7),
            migrations: Vec::new(),
            up: Some(Millis(12)),
            clock: Some(Timestamp(-3)),
            services: vec![
                evidence(Progress::Held, Health::Healthy),
                evidence(Progress::Working { step: "fetch".into(), detail: "1 of 2".into() }, Health::Unknown),
                evidence(
                    Progress::Failed { step: "probe".into(), reason: "503".into() },
                    Health::Unhealthy { reason: "503".into() },
                ),
                evidence(Progress::Fenced { reason: "no permit".into() }, Health::Unknown),
            ],
        };
        assert_eq!(Attestation::try_from(v1::Attestation::from(attestation.clone())).unwrap(), attestation);
    }

    #[test]
    fn orders_survive_the_wire_and_nonsense_does_not() {
        for hold in [
            Hold::Nothing,
            Hold::Release { release: "r-aaaaaaaaaaaa".parse().unwrap(), bundle: Digest([2; 32]), size: 9 },
        ] {
            let order = Order {
                node: "n1".parse().unwrap(),
                service: "web".parse().unwrap(),
                generation: Generation(3),
                hold,
                confirm: Millis(4),
            };
            assert_eq!(Order::try_from(v1::Order::from(order.clone())).unwrap(), order);
            let mut wrong = v1::Order::from(order);
            wrong.service = "../etc".into();
            assert!(matches!(Order::try_from(wrong), Err(ConvertError::Invalid { field: "service", .. })));
        }
        assert!(
            Order::try_from(v1::Order {
                node: "n".into(),
                service: "s".into(),
                generation: 1,
                hold: None,
                confirm_ms: 0
            })
            .is_err()
        );
    }

    #[test]
    fn terminal_escapes_do_not_survive() {
        assert_eq!(text("a\u{1b}[31mb".into()), "a\u{fffd}[31mb");
        assert!(text("x".repeat(1 << 20)).len() <= LONGEST_TEXT);
        assert!(text("ä".repeat(1 << 20)).len() <= LONGEST_TEXT);
    }
}
