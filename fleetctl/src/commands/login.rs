//! `fleetctl login`: a token becomes an operator's certificate, and a context that uses it.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use fleet::outcome::exit;
use fleet_certs::files::{IdentityFiles, IdentityPems};
use fleet_certs::{Dialer, JoinToken, KeyAndCsr};
use fleet_proto::v1;
use fleet_proto::v1::enrolment_client::EnrolmentClient;

use super::session::Session;
use crate::client::{CALL_DEADLINE, answer, dial_failure};
use crate::config::{self, ConfigFile, Confirm, Context, host_of};
use crate::failure::Failure;

/// More than any token has; what is larger is another file.
const LARGEST_TOKEN_FILE: u64 = 4_096;

/// The key is made here and never leaves this machine.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  fleetctl login controller.example.com:7443 --token-file alice.token
  fleetctl login 10.0.0.5:7443 --server-name controller.example.com --token-file - --as prod

The token comes from: fleetctl tokens create --role operator")]
pub struct Args {
    /// The controller
    #[arg(value_name = "HOST:PORT")]
    address: String,
    /// The file with the token; - is standard input
    #[arg(long, value_name = "FILE")]
    token_file: PathBuf,
    /// Your name in the fleet [default: your user name]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// The name in the controller's certificate [default: the host above]
    #[arg(long, value_name = "HOST")]
    server_name: Option<String>,
    /// The name of the new context [default: --context, else the host above]
    #[arg(long = "as", value_name = "CONTEXT")]
    as_context: Option<String>,
}

pub(super) async fn run(session: &Session, args: Args) -> Result<u8, Failure> {
    let token: JoinToken = read_token(&args.token_file)?;
    let name = match args.name.or_else(|| std::env::var("USER").ok()).or_else(|| std::env::var("LOGNAME").ok()) {
        Some(name) => name,
        None => return Err(Failure::usage("your user name is not known").help("say --name NAME")),
    };
    let server_name = args.server_name.unwrap_or_else(|| host_of(&args.address).to_owned());
    let context_name =
        args.as_context.or_else(|| session.global.context.clone()).unwrap_or_else(|| host_of(&args.address).to_owned());
    // It becomes a directory's name.
    if context_name.is_empty() || context_name.starts_with('.') || context_name.contains('/') {
        return Err(Failure::usage(format!("'{context_name}' cannot be a context's name"))
            .help("use letters, digits, '.', '-' and '_'"));
    }
    // Whatever can go wrong on this machine goes wrong before the token is used up.
    let files = IdentityFiles::in_dir(config::data_home()?.join("fleetctl").join(&context_name));
    let path = config::path()?;
    let mut file = ConfigFile::load(&path)?;
    for place in [files.cert(), path.clone()] {
        config::can_be_written(&place)?;
    }
    let key = KeyAndCsr::generate().map_err(|e| Failure::config("cannot make a key").caused_by(&e))?;
    let dialer = Dialer::with_ca_hash(token.ca_hash()).map_err(|e| dial_failure(&e))?;
    let channel = dialer.channel(&args.address, &server_name).await.map_err(|e| dial_failure(&e))?;
    let request = v1::JoinRequest {
        token_id: token.id().to_owned(),
        token_secret: token.secret().to_owned(),
        csr_pem: key.csr_pem.clone(),
        name,
        labels: Default::default(),
    };
    let reply = answer(CALL_DEADLINE, EnrolmentClient::new(channel).join(request)).await?;
    // The authority is the one whose hash the token carries, whatever the reply says.
    let ca_pem =
        dialer.ca_pem().ok_or_else(|| Failure::config("the controller did not show its authority"))?.to_owned();

    let pems = IdentityPems { ca_pem, cert_pem: reply.certificate_pem, key_pem: key.key_pem };
    files.save(&pems).map_err(|e| Failure::config("cannot keep the certificate").caused_by(&e))?;
    let context = Context {
        controller: args.address.clone(),
        server_name: Some(server_name),
        ca: files.ca(),
        cert: files.cert(),
        key: files.key(),
        confirm: Confirm::OnTerminal,
    };
    file.contexts.insert(context_name.clone(), context);
    file.current = Some(context_name.clone());
    file.save(&path)?;
    session.screen.say(&format!(
        "You are {} at {}. Context \"{context_name}\" is now the current one.",
        reply.name, args.address
    ));
    session.screen.say("Next: fleetctl nodes list");
    Ok(exit::OK)
}

fn read_token(path: &Path) -> Result<JoinToken, Failure> {
    let cannot =
        |e: std::io::Error| Failure::data(format!("cannot read the token file {}", path.display())).caused_by(&e);
    let mut text = String::new();
    let reader: Box<dyn std::io::Read> = if path == Path::new("-") {
        Box::new(std::io::stdin())
    } else {
        Box::new(std::fs::File::open(path).map_err(cannot)?)
    };
    reader.take(LARGEST_TOKEN_FILE).read_to_string(&mut text).map_err(cannot)?;
    text.trim().parse().map_err(|e: fleet_certs::MalformedToken| Failure::data(e.to_string()))
}
