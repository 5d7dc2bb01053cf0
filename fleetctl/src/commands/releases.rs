//! `fleetctl releases`: what the controller has, what is in it, and bringing it a new one.

use fleet::ServiceName;
use fleet::outcome::exit;
use fleet::release::Descriptor;
use fleet_proto::v1;

use super::release_source;
use super::session::Session;
use crate::client::{CALL_DEADLINE, answer};
use crate::failure::Failure;
use crate::output::documents::{Items, Release, ReleaseDetail, document};
use crate::output::format::Format;
use crate::output::history;

/// What can be done with releases.
#[derive(Debug, clap::Subcommand)]
pub enum Verb {
    /// List releases
    #[command(after_help = "Examples:
  fleetctl releases list
  fleetctl releases list shop -o name")]
    List {
        /// Only this service
        service: Option<ServiceName>,
    },
    /// Show a release, its files and who holds it
    #[command(after_help = "Examples:
  fleetctl releases show shop@2.3.1
  fleetctl releases show r-9f2c1e7 -o json")]
    Show {
        /// Release id, unique prefix, or SERVICE@VERSION
        release: String,
    },
    /// Pack and upload a release without deploying it
    #[command(after_help = "Examples:
  fleetctl releases create examples/hello
  fleetctl releases create shop-2.3.1.fleet.tar.zst -o name")]
    Create {
        /// A directory with a fleet.yaml, or a bundle [default: the directory here]
        #[arg(value_name = "DIR|BUNDLE")]
        source: Option<String>,
    },
}

pub(super) async fn run(session: &Session, verb: Verb) -> Result<u8, Failure> {
    match verb {
        Verb::List { service } => list(session, service.map(String::from).unwrap_or_default()).await,
        Verb::Show { release } => show(session, release).await,
        Verb::Create { source } => create(session, source).await,
    }
}

async fn list(session: &Session, service: String) -> Result<u8, Failure> {
    let format = session.format(&[Format::Table, Format::Json, Format::Name], "releases list")?;
    let mut client = session.connect().await?;
    let list = answer(CALL_DEADLINE, client.list_releases(v1::ListReleasesRequest { service })).await?.releases;
    match format {
        Format::Json => session.screen.out(&document("ReleaseList", Items::<Release>::of(list))),
        Format::Name => session.screen.out(&list.iter().map(|r| format!("{}\n", r.id)).collect::<String>()),
        _ => session.screen.out(&history::releases(&list, session.screen.zone)),
    }
    Ok(exit::OK)
}

async fn show(session: &Session, name: String) -> Result<u8, Failure> {
    let format = session.format(&[Format::Table, Format::Json], "releases show")?;
    let mut client = session.connect().await?;
    let reply = answer(CALL_DEADLINE, client.get_release(v1::GetReleaseRequest { name })).await?;
    let unreadable = |e: &dyn std::error::Error| {
        Failure::failed("the controller's description of the release cannot be read").caused_by(e)
    };
    if format == Format::Json {
        let descriptor = serde_json::from_slice(&reply.descriptor).map_err(|e| unreadable(&e))?;
        let detail =
            ReleaseDetail { release: reply.release.unwrap_or_default().into(), descriptor, held_by: reply.held_by };
        session.screen.out(&document("Release", detail));
        return Ok(exit::OK);
    }
    let descriptor = Descriptor::from_json(&reply.descriptor).map_err(|e| unreadable(&e))?;
    session.screen.out(&history::release(&reply, &descriptor, session.screen.zone));
    Ok(exit::OK)
}

async fn create(session: &Session, source: Option<String>) -> Result<u8, Failure> {
    let format = session.format(&[Format::Table, Format::Json, Format::Name], "releases create")?;
    let controller = session.controller()?;
    let mut client = controller.connect().await?;
    let release = release_source::provide(session, &controller, &mut client, source.as_deref()).await?.release;
    match format {
        Format::Json => session.screen.out(&document("Release", Release::from(release))),
        _ => {
            session.screen.out(&format!("{}\n", release.id));
            session.screen.say(&format!("Deploy it with: fleetctl deploy {}", release.id));
        }
    }
    Ok(exit::OK)
}
