//! `fleetctl drift ignore`: extra files that may lie in a service's releases. They are counted in every report and
//! listed in none; nothing but an extra file is ever ignored.

use fleet::ServiceName;
use fleet::drift::Glob;
use fleet::outcome::exit;
use fleet_proto::v1;

use crate::client::{CALL_DEADLINE, answer};
use crate::commands::exceptions::reason;
use crate::commands::session::Session;
use crate::failure::Failure;
use crate::output::documents::{IgnoreRule, Items, document};
use crate::output::format::Format;
use crate::output::ledger;
use crate::output::text::plain;

/// What can be done with rules.
#[derive(Debug, clap::Subcommand)]
pub enum Verb {
    /// Ignore extra files: * and ? stay within a name, ** crosses directories
    #[command(after_help = "Examples:
  fleetctl drift ignore add \"**/__pycache__/**\" -s shop --reason \"Python writes them\"
  fleetctl drift ignore add \"*.log\" -s shop --reason \"OPS-12, until it logs elsewhere\"")]
    Add {
        /// The pattern, for paths below the release
        glob: Glob,
        /// The service
        #[arg(short, long, value_name = "NAME")]
        service: ServiceName,
        /// Why
        #[arg(long, value_name = "TEXT", value_parser = reason)]
        reason: String,
    },
    /// List the rules, and how many files each hides
    #[command(after_help = "Examples:
  fleetctl drift ignore list
  fleetctl drift ignore list -s shop -o json")]
    List {
        /// Only this service
        #[arg(short, long, value_name = "NAME")]
        service: Option<ServiceName>,
    },
    /// Ignore them no longer
    #[command(after_help = "Examples:
  fleetctl drift ignore remove \"*.log\" -s shop
  fleetctl drift ignore remove \"**/__pycache__/**\" -s shop -o json")]
    Remove {
        /// The pattern, as it was written
        glob: Glob,
        /// The service
        #[arg(short, long, value_name = "NAME")]
        service: ServiceName,
    },
}

pub(super) async fn run(session: &Session, verb: Verb) -> Result<u8, Failure> {
    let format = session.format(&[Format::Table, Format::Json], "drift ignore")?;
    let mut client = session.connect().await?;
    let rule = |service: ServiceName, glob: Glob, reason: String| v1::IgnoreRule {
        service: service.into(),
        glob: glob.into(),
        reason,
        ..v1::IgnoreRule::default()
    };
    let (rules, said) = match verb {
        Verb::Add { glob, service, reason } => {
            let added = answer(CALL_DEADLINE, client.add_ignore_rule(rule(service, glob, reason))).await?;
            let said = format!("extra files '{}' of {} are ignored ({} now)", added.glob, added.service, added.ignored);
            (vec![added], Some(said))
        }
        Verb::List { service } => {
            let request = v1::ListIgnoreRulesRequest { service: service.map(String::from).unwrap_or_default() };
            (answer(CALL_DEADLINE, client.list_ignore_rules(request)).await?.rules, None)
        }
        Verb::Remove { glob, service } => {
            let removed = answer(CALL_DEADLINE, client.remove_ignore_rule(rule(service, glob, String::new()))).await?;
            let said = format!("extra files '{}' of {} are findings again", removed.glob, removed.service);
            (vec![removed], Some(said))
        }
    };
    match (format, said) {
        (Format::Json, _) => session.screen.out(&document("IgnoreRuleList", Items::<IgnoreRule>::of(rules))),
        (_, None) => session.screen.out(&ledger::rules(&rules, session.screen.zone)),
        (_, Some(said)) => session.screen.say(&plain(&said)),
    }
    Ok(exit::OK)
}
