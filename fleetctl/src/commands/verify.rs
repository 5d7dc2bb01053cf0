//! `fleetctl verify`: a fresh round over every expected node, now, and the proof each of them gave.

use std::path::{Path, PathBuf};
use std::time::Duration;

use fleet::ServiceName;
use fleet::outcome::exit;
use fleet_proto::v1;

use super::report::Report;
use super::session::Session;
use super::statements::show_file;
use crate::client::answer;
use crate::failure::Failure;
use crate::output::documents::{StatementNote, VerifyReport, document};
use crate::output::format::Format;
use crate::output::junit;
use crate::output::verify::render;
use crate::statement::{Checked, check, refusal, save};
use fleet_certs::files::Existing;

/// How long nodes may take to prove themselves, unless `--timeout` says otherwise.
const ROUND: Duration = Duration::from_secs(30);
/// What the controller gets on top of that to put the answer together.
const GRACE: Duration = Duration::from_secs(10);

/// Every node looks at what it really runs and at every file, and answers with this round's nonce. Silence is a finding.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  fleetctl verify
  fleetctl verify shop --timeout 60s --save shop.dsse.json
  fleetctl verify shop --rehash
  fleetctl verify --report junit=verify.xml
  fleetctl verify --statement shop.dsse.json --ca ca.pem    # offline, years later

Every round makes one signed statement, in a chain with all before it. The controller keeps it
(fleetctl statements), --save writes it into a file.

Exit codes: 0 every node proved what it shall run, 2 something differs, 1 UNKNOWN: nothing was
proven at all, 69 controller unreachable. With --statement the same of what the file states, 7 when
all but waived nodes were proven, and 65 when it is not, byte for byte, what was signed.")]
pub struct Args {
    /// Only this service
    service: Option<ServiceName>,
    /// Have every node read every file again, instead of only those that do not look as they did when they were read
    #[arg(long)]
    rehash: bool,
    /// Write the signed statement into this file, in one step
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    /// Write a report for CI into this file, also when nothing was proven
    #[arg(long, value_name = "junit=FILE")]
    report: Option<Report>,
    /// Check this signed statement instead, without asking anybody
    #[arg(long, value_name = "FILE", conflicts_with_all = ["service", "rehash", "save", "report"])]
    statement: Option<PathBuf>,
    /// With --statement: the authority's certificate [default: the context's]
    #[arg(long, value_name = "FILE", requires = "statement")]
    ca: Option<PathBuf>,
}

pub(super) async fn run(session: &Session, args: Args) -> Result<u8, Failure> {
    if let Some(file) = &args.statement {
        return show_file(session, file, args.ca.as_deref());
    }
    let format = session.format(&[Format::Table, Format::Wide, Format::Json, Format::Junit], "verify")?;
    // Tried before anybody is asked: a round that cannot be kept as it was asked for is not begun.
    if let Some(path) = &args.save {
        crate::config::can_be_written(path)?;
    }
    if let Some(report) = &args.report {
        report.prepare()?;
    }
    let (result, text) = match ask(session, &args).await {
        Ok(reply) => {
            let text = junit::verify(&reply, "no node proved anything");
            (show(session, format, reply, args.save.as_deref(), &text), text)
        }
        Err(failure) => {
            // Kept and shown without what is said on standard error: it must say itself that nothing is proven.
            let nothing = v1::VerifyReply { made_at_ms: session.local_ms(), ..v1::VerifyReply::default() };
            let text = junit::verify(&nothing, &failure.what);
            if format == Format::Junit {
                session.screen.out(&text);
            }
            (Err(failure), text)
        }
    };
    match &args.report {
        Some(report) => report.end(session, &text, result),
        None => result,
    }
}

fn show(
    session: &Session,
    format: Format,
    reply: v1::VerifyReply,
    into: Option<&Path>,
    junit: &str,
) -> Result<u8, Failure> {
    let code = verdict(&reply);
    // What was proven is shown, whatever becomes of the statement.
    let kept = keep(session, &reply, into);
    match format {
        Format::Json => {
            let note = kept.as_ref().ok().map(|checked| StatementNote::of(checked, into));
            let report = VerifyReport { statement: note, ..VerifyReport::from(reply) };
            session.screen.out(&document("VerifyReport", report));
        }
        Format::Junit => session.screen.out(junit),
        _ => {
            session.screen.out(&render(&reply));
            if let Ok(checked) = &kept {
                session.screen.out(&noted(checked, into));
            }
        }
    }
    if code == exit::FAILED {
        session.screen.insist("UNKNOWN: no node proved anything, so nothing is known");
    }
    match (kept, code) {
        // The statement speaks of every expected node: what it does not call proven is not passed over.
        (Ok(checked), exit::OK) => Ok(checked.predicate().verdict.exit_code()),
        (Err(failure), exit::OK) => Err(failure),
        (Err(failure), code) => {
            session.screen.insist(failure.to_text().trim_end());
            Ok(code)
        }
        (Ok(_), code) => Ok(code),
    }
}

/// Checks the statement as whoever reads it later will, and saves it.
fn keep(session: &Session, reply: &v1::VerifyReply, into: Option<&Path>) -> Result<Checked, Failure> {
    if reply.statement.is_empty() {
        let why = match reply.no_statement.as_str() {
            "" => "this controller makes none; upgrade it",
            why => why,
        };
        return Err(Failure::failed("there is no statement of this round").because(crate::output::text::plain(why)));
    }
    let ca = fleet_certs::files::read(&session.controller()?.target().ca)
        .map_err(|e| Failure::config("cannot use the authority's certificate").caused_by(&e))?;
    let checked = check(&reply.statement, &ca).map_err(|refused| refusal("what the controller signed", &refused))?;
    if let Some(path) = into {
        save(path, &reply.statement, Existing::Replace)?;
    }
    Ok(checked)
}

fn noted(checked: &Checked, into: Option<&Path>) -> String {
    let sequence = checked.predicate().sequence;
    let place = match into {
        Some(path) => format!("saved in {}", path.display()),
        None => format!("kept by the controller: fleetctl statements get {sequence}"),
    };
    format!("Statement {sequence}, signed, {}, {place}\n", checked.digest)
}

async fn ask(session: &Session, args: &Args) -> Result<v1::VerifyReply, Failure> {
    let mut client = session.connect().await?;
    let round = session.timeout().unwrap_or(ROUND);
    let request = v1::VerifyRequest {
        service: args.service.as_ref().map(ToString::to_string).unwrap_or_default(),
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
