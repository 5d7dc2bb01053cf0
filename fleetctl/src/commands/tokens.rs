//! `fleetctl tokens`: join tokens. The token alone goes to standard output, so that it can be piped and nothing else is.

use std::collections::HashMap;

use clap::ValueEnum;
use fleet::Millis;
use fleet::outcome::exit;
use fleet_proto::v1;

use super::session::Session;
use super::some_time;
use crate::client::{CALL_DEADLINE, answer};
use crate::failure::Failure;
use crate::output::documents::{Token, document};
use crate::output::format::Format;
use crate::output::text::rfc3339;

/// What can be done with tokens.
#[derive(Debug, clap::Subcommand)]
pub enum Verb {
    /// Make a join token
    #[command(after_help = "Examples:
  fleetctl tokens create
  fleetctl tokens create --ttl 2h --uses 40 --label role=web
  fleetctl tokens create --role operator --name alice > alice.token")]
    Create(Create),
}

/// Only a salted hash of the token is kept by the controller: it is shown once.
#[derive(Debug, clap::Args)]
pub struct Create {
    /// How long it can be used
    #[arg(long, value_name = "DUR", default_value = "1h", value_parser = some_time)]
    ttl: Millis,
    /// How often it can be used
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    uses: u32,
    /// Given to every node that joins with it; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_label)]
    label: Vec<(String, String)>,
    /// Who joins with it
    #[arg(long, value_name = "ROLE", value_enum, default_value = "node")]
    role: Role,
    /// Only for this name
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    name: String,
}

/// Who may join with a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// A node's agent.
    Node,
    /// A person or program that may change what is desired.
    Operator,
}

impl Role {
    fn as_str(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Operator => "operator",
        }
    }
}

fn parse_label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("'{text}' is not a label: write KEY=VALUE, such as role=web")),
    }
}

pub(super) async fn run(session: &Session, verb: Verb) -> Result<u8, Failure> {
    let Verb::Create(args) = verb;
    let format = session.format(&[Format::Table, Format::Json], "tokens create")?;
    let controller = session.controller()?;
    let mut client = controller.connect().await?;
    let labels: HashMap<String, String> = args.label.into_iter().collect();
    let request = v1::CreateTokenRequest {
        ttl_ms: args.ttl.0,
        uses: args.uses,
        labels,
        role: args.role.as_str().to_owned(),
        name: args.name,
    };
    let reply = answer(CALL_DEADLINE, client.create_token(request)).await?;
    let until = rfc3339(reply.expires_at_ms);
    if format == Format::Json {
        session.screen.out(&document("Token", Token { token: reply.token, expires_at: until, uses: reply.uses }));
        return Ok(exit::OK);
    }
    session.screen.out(&format!("{}\n", reply.token));
    session.screen.say(&format!(
        "valid until {until}, {} to use. It is shown only now; keep it in a file with mode 0600.",
        times(reply.uses)
    ));
    let address = &controller.target().controller;
    match args.role {
        Role::Node => session.screen.say(&format!("On each node:  fleet-agent join {address} --token-file FILE")),
        Role::Operator => session.screen.say(&format!("The operator:  fleetctl login {address} --token-file FILE")),
    }
    Ok(exit::OK)
}

fn times(uses: u32) -> String {
    if uses == 1 { "once".to_owned() } else { format!("{uses} times") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_have_a_key() {
        assert_eq!(parse_label("role=web=x"), Ok(("role".to_owned(), "web=x".to_owned())));
        assert!(parse_label("role").is_err() && parse_label("=web").is_err());
    }
}
