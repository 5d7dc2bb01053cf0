//! `fleetctl version`: of this program, and of the controller if it can be asked.

use fleet::outcome::exit;
use fleet_proto::v1;

use super::session::Session;
use crate::client::{CALL_DEADLINE, answer};
use crate::failure::Failure;
use crate::output::documents::{Version, document};
use crate::output::format::Format;
use crate::output::text::{plain, rfc3339};

/// A controller that cannot be reached is told, and is no failure.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  fleetctl version
  fleetctl version -o json")]
pub struct Args {}

pub(super) async fn run(session: &Session, _: Args) -> Result<u8, Failure> {
    let format = session.format(&[Format::Table, Format::Json], "version")?;
    let reply = ask(session).await;
    let fleetctl = env!("CARGO_PKG_VERSION").to_owned();
    if format == Format::Json {
        let version = match reply {
            Ok(r) => Version {
                fleetctl,
                controller: Some(r.controller_version),
                fleet: Some(r.fleet),
                you: Some(r.you),
                started_at: Some(rfc3339(r.started_at_ms)),
            },
            Err(_) => Version { fleetctl, controller: None, fleet: None, you: None, started_at: None },
        };
        session.screen.out(&document("Version", version));
        return Ok(exit::OK);
    }
    session.screen.out(&format!("fleetctl    {fleetctl}\n"));
    match reply {
        Ok(r) => session.screen.out(&format!(
            "controller  {}, fleet {}, up since {}\nyou         {}\n",
            plain(&r.controller_version),
            plain(&r.fleet),
            rfc3339(r.started_at_ms),
            plain(&r.you)
        )),
        Err(failure) => session.screen.say(&format!("controller  not asked: {}", failure.what)),
    }
    Ok(exit::OK)
}

async fn ask(session: &Session) -> Result<v1::VersionReply, Failure> {
    let mut client = session.connect().await?;
    answer(CALL_DEADLINE, client.version(v1::VersionRequest {})).await
}
