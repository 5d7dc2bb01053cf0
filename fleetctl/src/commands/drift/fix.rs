//! `fleetctl drift fix`: the files of a release are put back on a node, and what is proven then decides the exit code.

use std::time::Duration;

use fleet::outcome::exit;
use fleet::{NodeName, ServiceName};
use fleet_proto::v1;

use crate::client::{CALL_DEADLINE, Operator, answer};
use crate::commands::session::{Answer, Session};
use crate::failure::Failure;
use crate::output::documents::{Repair, document};
use crate::output::format::Format;
use crate::output::text::plain;
use crate::output::{drift, ledger};

/// How long a repair may take: a bundle is fetched, and a service stopped and started.
const REPAIR: Duration = Duration::from_secs(600);
/// How long one question for its end waits at the controller.
const PIECE: Duration = Duration::from_secs(30);
/// How long the round after it may take, and the answer on top of that.
const ROUND: Duration = Duration::from_secs(30);
const GRACE: Duration = Duration::from_secs(10);

/// Puts files back from the release, each in one step, and restarts the service only if a process may have loaded what
/// was wrong. Processes that are not the service's are never killed: they are named, with what to do.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  fleetctl drift fix web-12
  fleetctl drift fix web-12 -s shop --path etc/shop.toml --dry-run
  fleetctl drift fix web-12 --extra --yes

Exit codes: 0 the node is proven now, 2 something still differs, 1 the repair failed, 6 --timeout
ran out and the repair goes on, 75 a deployment of the service runs. With --dry-run: 0 nothing is
to be put back, 2 something is.")]
pub struct Args {
    /// The node
    node: NodeName,
    /// The service, if the node holds more than one
    #[arg(short, long, value_name = "NAME")]
    service: Option<ServiceName>,
    /// Only this path, and what lies below it ('current' is the link); may be repeated
    #[arg(long = "path", value_name = "PATH")]
    paths: Vec<String>,
    /// Remove files that no release brought, too
    #[arg(long)]
    extra: bool,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

pub(super) async fn run(session: &Session, args: Args) -> Result<u8, Failure> {
    let format = session.format(&[Format::Table, Format::Json], "drift fix")?;
    let mut client = session.connect().await?;
    let request = v1::RepairRequest {
        node: args.node.to_string(),
        service: args.service.map(String::from).unwrap_or_default(),
        paths: args.paths,
        extras: args.extra,
        dry_run: true,
    };
    let plan = answer(CALL_DEADLINE, client.start_repair(request.clone())).await?;
    if args.dry_run {
        let code = if plan.files.is_empty() { exit::OK } else { exit::DIFFERENCES };
        show(session, format, &plan, None, code);
        return Ok(code);
    }
    if !plan.files.is_empty() && !args.yes {
        session.screen.insist(ledger::repair(&plan).trim_end());
        match session.ask(&format!("Put back {} on {}?", plan.service, plan.node)) {
            Answer::Yes => {}
            Answer::No => return Err(Failure::failed("not confirmed; nothing was changed")),
            Answer::NobodyThere => {
                return Err(Failure::usage("putting files back needs --yes when nobody can be asked")
                    .help(format!("fleetctl drift fix {} --yes", plan.node)));
            }
        }
    }
    let repair = answer(CALL_DEADLINE, client.start_repair(v1::RepairRequest { dry_run: false, ..request })).await?;
    let repair = wait(session, &mut client, repair).await?;
    let verified = verify(&mut client, &repair).await?;
    let code = verdict(&repair, &verified);
    show(session, format, &repair, Some(&verified), code);
    Ok(code)
}

/// Until it is over; one that never began, since nothing was to be put back, is over already.
async fn wait(session: &Session, client: &mut Operator, mut repair: v1::Repair) -> Result<v1::Repair, Failure> {
    let until = tokio::time::Instant::now() + session.timeout().unwrap_or(REPAIR);
    while !repair.id.is_empty() && repair.ended_at_ms.is_none() {
        let left = until.saturating_duration_since(tokio::time::Instant::now());
        if left.is_zero() {
            let what = format!("{} is not over: {}", repair.id, repair.detail);
            return Err(Failure::new(exit::TIMED_OUT, what).help("it goes on; see: fleetctl history"));
        }
        let piece = left.min(PIECE);
        let timeout_ms = u64::try_from(piece.as_millis()).unwrap_or(u64::MAX).max(1);
        let request = v1::WaitForRepairRequest { id: repair.id.clone(), timeout_ms };
        repair = answer(piece + GRACE, client.wait_for_repair(request)).await?;
    }
    Ok(repair)
}

/// A fresh round: what of it is about this node and service.
async fn verify(client: &mut Operator, repair: &v1::Repair) -> Result<v1::VerifyReply, Failure> {
    let timeout_ms = u64::try_from(ROUND.as_millis()).unwrap_or(u64::MAX);
    let request = v1::VerifyRequest { service: repair.service.clone(), timeout_ms, rehash: false };
    let mut reply = answer(ROUND + GRACE, client.verify(request)).await?;
    reply.proofs.retain(|proof| proof.node == repair.node);
    reply.findings.retain(|finding| finding.node == repair.node);
    Ok(reply)
}

/// Only a proof of now ends with 0.
fn verdict(repair: &v1::Repair, verified: &v1::VerifyReply) -> u8 {
    match (repair.state.as_str(), verified.findings.is_empty(), verified.proofs.is_empty()) {
        ("failed", _, _) => exit::FAILED,
        (_, true, false) => exit::OK,
        (_, false, _) => exit::DIFFERENCES,
        (_, true, true) => exit::FAILED,
    }
}

fn show(session: &Session, format: Format, repair: &v1::Repair, verified: Option<&v1::VerifyReply>, code: u8) {
    if format == Format::Json {
        let proven = verified.map(|_| code == exit::OK);
        session.screen.out(&document("Repair", Repair { proven, ..Repair::from(repair.clone()) }));
        return;
    }
    let mut text = ledger::repair(repair);
    if repair.files.is_empty() {
        text += "nothing is to be put back\n";
    }
    if repair.state == "failed" {
        text += &format!("the repair failed: {}\n", plain(&repair.detail));
    }
    if let Some(verified) = verified {
        text += &drift::findings(&verified.findings, verified.made_at_ms);
        let said = match code {
            exit::OK => format!("{} proves {} {}", repair.node, repair.service, repair.version),
            _ => format!("{} is not proven", repair.node),
        };
        text += &format!("{}   (exit {code})\n", plain(&said));
    }
    session.screen.out(&text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_proof_of_now_ends_with_zero() {
        let repair = |state: &str| v1::Repair { state: state.into(), ..v1::Repair::default() };
        let mut verified = v1::VerifyReply::default();
        assert_eq!(verdict(&repair("done"), &verified), 1, "nothing is known");
        verified.proofs.push(v1::Proof::default());
        assert_eq!(verdict(&repair("done"), &verified), 0);
        assert_eq!(verdict(&repair("failed"), &verified), 1);
        verified.findings.push(v1::Finding::default());
        assert_eq!(verdict(&repair("done"), &verified), 2, "a stray is left");
    }
}
