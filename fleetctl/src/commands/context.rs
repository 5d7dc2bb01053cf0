//! `fleetctl context`: which fleet commands talk to.

use fleet::outcome::exit;

use super::session::Session;
use crate::config::{self, ConfigFile};
use crate::failure::Failure;
use crate::output::documents::{Context, Items, document};
use crate::output::format::Format;
use crate::output::table::Columns;

/// What can be done with contexts.
#[derive(Debug, clap::Subcommand)]
pub enum Verb {
    /// List contexts
    #[command(after_help = "Examples:
  fleetctl context list
  fleetctl context list -o name")]
    List,
    /// Make a context the current one
    #[command(after_help = "Examples:
  fleetctl context use prod
  fleetctl context use dev && fleetctl status")]
    Use {
        /// The context
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Show a context
    #[command(after_help = "Examples:
  fleetctl context show
  fleetctl context show prod -o json")]
    Show {
        /// The context [default: the current one]
        #[arg(value_name = "NAME")]
        name: Option<String>,
    },
}

pub(super) fn run(session: &Session, verb: Verb) -> Result<u8, Failure> {
    let path = config::path()?;
    let mut file = ConfigFile::load(&path)?;
    match verb {
        Verb::List => {
            let format = session.format(&[Format::Table, Format::Json, Format::Name], "context list")?;
            match format {
                Format::Json => {
                    let items = file.contexts.iter().map(|(name, context)| Context::of(&file, name, context)).collect();
                    session.screen.out(&document("ContextList", Items { items }));
                }
                Format::Name => session.screen.out(&file.contexts.keys().map(|n| format!("{n}\n")).collect::<String>()),
                _ => session.screen.out(&table(&file)),
            }
        }
        Verb::Use { name } => {
            if !file.contexts.contains_key(&name) {
                return Err(file.unknown_context(&name));
            }
            file.current = Some(name.clone());
            file.save(&path)?;
            session.screen.say(&format!("Context \"{name}\" is now the current one."));
        }
        Verb::Show { name } => {
            let format = session.format(&[Format::Table, Format::Json], "context show")?;
            let name = name
                .or_else(|| session.global.context.clone())
                .or_else(|| file.current.clone())
                .ok_or_else(|| file.unknown_context(""))?;
            let context = file.contexts.get(&name).ok_or_else(|| file.unknown_context(&name))?;
            match format {
                Format::Json => session.screen.out(&document("Context", Context::of(&file, &name, context))),
                _ => {
                    let mut rows = Columns::new(&[]);
                    let server_name = context.server_name.clone().unwrap_or_default();
                    let files = [("ca", &context.ca), ("certificate", &context.cert), ("key", &context.key)];
                    for (what, value) in
                        [("name", name), ("controller", context.controller.clone()), ("server name", server_name)]
                    {
                        rows.row([what.to_owned(), value]);
                    }
                    for (what, path) in files {
                        rows.row([what.to_owned(), path.display().to_string()]);
                    }
                    session.screen.out(&rows.to_rows(""));
                }
            }
        }
    }
    Ok(exit::OK)
}

fn table(file: &ConfigFile) -> String {
    let mut rows = Columns::new(&["CURRENT", "NAME", "CONTROLLER"]);
    for (name, context) in &file.contexts {
        let current = if file.current.as_ref() == Some(name) { "*" } else { "" };
        rows.row([current.to_owned(), name.clone(), context.controller.clone()]);
    }
    if rows.is_empty() {
        "no contexts yet: 'fleetctl dev up' or 'fleetctl login' make one\n".to_owned()
    } else {
        rows.to_text()
    }
}
