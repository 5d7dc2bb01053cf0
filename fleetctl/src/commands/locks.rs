//! `fleetctl locks`: one person keeps deployments of a service away for a while, and says why. A lock is a lease: it ends
//! by itself.

use fleet::outcome::exit;
use fleet::{Millis, ServiceName};
use fleet_proto::v1;

use super::exceptions::reason;
use super::session::Session;
use super::some_time;
use crate::client::{CALL_DEADLINE, answer};
use crate::failure::Failure;
use crate::output::documents::{Items, Lock, document};
use crate::output::format::Format;
use crate::output::locks;

/// What can be done with locks.
#[derive(Debug, clap::Subcommand)]
pub enum Verb {
    /// Keep deployments of a service away: whoever else begins one is refused (75), with your reason
    #[command(after_help = "Examples:
  fleetctl locks hold shop -m \"Black Friday\"
  fleetctl locks hold shop -m \"database moves, OPS-40\" --for 2h")]
    Hold {
        /// The service
        service: ServiceName,
        /// Why
        #[arg(short, long, value_name = "REASON", value_parser = reason)]
        message: String,
        /// How long it lasts, unless it is released before [default: 8h]
        #[arg(long = "for", value_name = "DUR", value_parser = some_time)]
        lasts: Option<Millis>,
    },
    /// Let deployments of a service begin again
    #[command(after_help = "Examples:
  fleetctl locks release shop
  fleetctl locks release shop -o json")]
    Release {
        /// The service
        service: ServiceName,
    },
    /// List the locks that hold now
    #[command(after_help = "Examples:
  fleetctl locks list
  fleetctl locks list -o name")]
    List,
}

pub(super) async fn run(session: &Session, verb: Verb) -> Result<u8, Failure> {
    match verb {
        Verb::Hold { service, message, lasts } => hold(session, service, message, lasts).await,
        Verb::Release { service } => release(session, service).await,
        Verb::List => list(session).await,
    }
}

async fn hold(session: &Session, service: ServiceName, reason: String, lasts: Option<Millis>) -> Result<u8, Failure> {
    let format = session.format(&[Format::Table, Format::Json, Format::Name], "locks hold")?;
    let mut client = session.connect().await?;
    let request = v1::HoldLockRequest { service: service.to_string(), reason, for_ms: lasts.unwrap_or_default().0 };
    let lock = answer(CALL_DEADLINE, client.hold_lock(request)).await?;
    let said = format!(
        "{service} is locked until {}: only {} can deploy it. Give it back with: fleetctl locks release {service}",
        locks::until(&lock, session.screen.zone),
        lock.by
    );
    show(session, format, lock, &said);
    Ok(exit::OK)
}

async fn release(session: &Session, service: ServiceName) -> Result<u8, Failure> {
    let format = session.format(&[Format::Table, Format::Json, Format::Name], "locks release")?;
    let mut client = session.connect().await?;
    let request = v1::ReleaseLockRequest { service: service.to_string() };
    let lock = answer(CALL_DEADLINE, client.release_lock(request)).await?;
    let said = format!("{service} is free; {} had locked it: {}", lock.by, lock.reason);
    show(session, format, lock, &said);
    Ok(exit::OK)
}

fn show(session: &Session, format: Format, lock: v1::Lock, said: &str) {
    match format {
        Format::Json => session.screen.out(&document("Lock", Lock::from(lock))),
        Format::Name => session.screen.out(&format!("{}\n", lock.service)),
        _ => session.screen.say(&crate::output::text::plain(said)),
    }
}

async fn list(session: &Session) -> Result<u8, Failure> {
    let format = session.format(&[Format::Table, Format::Json, Format::Name], "locks list")?;
    let mut client = session.connect().await?;
    let list = answer(CALL_DEADLINE, client.list_locks(v1::ListLocksRequest {})).await?.locks;
    match format {
        Format::Json => session.screen.out(&document("LockList", Items::<Lock>::of(list))),
        Format::Name => session.screen.out(&list.iter().map(|l| format!("{}\n", l.service)).collect::<String>()),
        _ => session.screen.out(&locks::list(&list, session.local_ms(), session.screen.zone)),
    }
    Ok(exit::OK)
}
