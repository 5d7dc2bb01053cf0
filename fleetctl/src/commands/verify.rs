//! `fleetctl verify`: a fresh round over every expected node, now, and the proof each of them gave.

use std::time::Duration;

use fleet::ServiceName;
use fleet::outcome::exit;
use fleet_proto::v1;

use super::session::Session;
use crate::client::answer;
use crate::failure::Failure;
use crate::output::documents::{VerifyReport, document};
use crate::output::format::Format;
use crate::output::junit;
use crate::output::verify::render;

/// How long nodes may take to prove themselves, unless `--timeout` says otherwise.
const ROUND: Duration = Duration::from_secs(30);
/// What the controller gets on top of that to put the answer together.
const GRACE: Duration = Duration::from_secs(10);

/// Every node looks at what it really runs and at every file, and answers with this round's nonce. Silence is a finding.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  fleetctl verify
  fleetctl verify shop --timeout 60s
  fleetctl verify shop --rehash
  fleetctl verify shop -o json
  fleetctl verify -o junit > verify.xml

Exit codes: 0 every node proved what it shall run, 2 something differs, 1 UNKNOWN: nothing was
proven at all, 69 controller unreachable.")]
pub struct Args {
    /// Only this service
    service: Option<ServiceName>,
    /// Have every node read every file again, instead of only those that do not look as they did when they were read
    #[arg(long)]
    rehash: bool,
}

pub(super) async fn run(session: &Session, args: Args) -> Result<u8, Failure> {
    let format = session.format(&[Format::Table, Format::Wide, Format::Json, Format::Junit], "verify")?;
    let reply = match ask(session, args).await {
        Ok(reply) => reply,
        Err(failure) => {
            // Kept and shown without what is said on standard error: it must say itself that nothing is proven.
            if format == Format::Junit {
                let nothing = v1::VerifyReply { made_at_ms: session.local_ms(), ..v1::VerifyReply::default() };
                session.screen.out(&junit::verify(&nothing, &failure.what));
            }
            return Err(failure);
        }
    };
    let code = verdict(&reply);
    match format {
        Format::Json => session.screen.out(&document("VerifyReport", VerifyReport::from(reply))),
        Format::Junit => session.screen.out(&junit::verify(&reply, "no node proved anything")),
        _ => session.screen.out(&render(&reply)),
    }
    if code == exit::FAILED {
        session.screen.insist("UNKNOWN: no node proved anything, so nothing is known");
    }
    Ok(code)
}

async fn ask(session: &Session, args: Args) -> Result<v1::VerifyReply, Failure> {
    let mut client = session.connect().await?;
    let round = session.timeout().unwrap_or(ROUND);
    let request = v1::VerifyRequest {
        service: args.service.map(String::from).unwrap_or_default(),
        timeout_ms: u64::try_from(round.as_millis()).unwrap_or(u64::MAX),
        rehash: args.rehash,
    };
    answer(round + GRACE, client.verify(request)).await
}

fn verdict(reply: &v1::VerifyReply) -> u8 {
    match (reply.findings.is_empty(), reply.proofs.is_empty()) {
        (false, _) => exit::DIFFERENCES,
        (true, true) => exit::FAILED,
        (true, false) => exit::OK,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_proof_is_no_success() {
        let mut reply = v1::VerifyReply::default();
        assert_eq!(verdict(&reply), 1);
        reply.proofs.push(v1::Proof::default());
        assert_eq!(verdict(&reply), 0);
        reply.findings.push(v1::Finding::default());
        assert_eq!(verdict(&reply), 2);
    }
}
