//! `fleetctl statements`: the signed statements that the controller keeps, taken away, and their chain checked; the check
//! of a folder or a file needs no controller.

use std::path::{Path, PathBuf};

use fleet::outcome::exit;
use fleet::statement::chain::{self, Link};
use fleet_certs::files::Existing;
use fleet_proto::v1;

use super::session::Session;
use crate::client::{CALL_DEADLINE, Operator, answer};
use crate::failure::Failure;
use crate::output::documents::{ChainReport, Items, StatementReport, StatementSummary, document};
use crate::output::format::Format;
use crate::output::statement;
use crate::output::text::count;
use crate::statement::{Checked, check, check_file, check_folder, file_name, refusal, save};

/// What can be done with statements.
#[derive(Debug, clap::Subcommand)]
pub enum Verb {
    /// List the statements that the controller keeps, newest first
    #[command(after_help = "Examples:
  fleetctl statements list
  fleetctl statements list -o json")]
    List,
    /// Write one statement as it was signed
    #[command(after_help = "Examples:
  fleetctl statements get > newest.dsse.json
  fleetctl statements get 12 --save 12.dsse.json
  fleetctl statements get --deployment d-wqzf3j > deployment.dsse.json")]
    Get {
        /// Its number [default: the newest]
        #[arg(value_parser = clap::value_parser!(u64).range(1..))]
        number: Option<u64>,
        /// The one that was made when this deployment ended
        #[arg(long, value_name = "ID", conflicts_with = "number")]
        #[arg(value_parser = clap::builder::NonEmptyStringValueParser::new())]
        deployment: Option<String>,
        /// Into this file, in one step
        #[arg(long, value_name = "FILE")]
        save: Option<PathBuf>,
    },
    /// Save every statement that a folder does not have yet, and check the whole chain
    #[command(after_help = "Examples:
  fleetctl statements save /var/lib/audit/fleet
  fleetctl statements save /var/lib/audit/fleet --quiet    # cron: silent when the chain is whole

The controller keeps the newest 1,000 statements, 64 MiB at most; a folder that is filled by cron
keeps them all, and notices when the controller tells another history than before.

Exit codes: 0 the chain is whole, 65 it is not.")]
    Save {
        /// The folder
        folder: PathBuf,
    },
    /// Check that statements are signed and that their chain is whole
    #[command(after_help = "Examples:
  fleetctl statements check                                # what the controller keeps
  fleetctl statements check /var/lib/audit/fleet --ca ca.pem   # offline

Exit codes: 0 every one is signed and none is missing, edited, doubled or out of order; 65 if not.
What they state is not looked at: fleetctl verify --statement FILE.")]
    Check {
        /// A folder of *.dsse.json files [default: what the controller keeps]
        folder: Option<PathBuf>,
        /// The authority's certificate [default: the context's]
        #[arg(long, value_name = "FILE", requires = "folder")]
        ca: Option<PathBuf>,
    },
}

pub(super) async fn run(session: &Session, verb: Verb) -> Result<u8, Failure> {
    match verb {
        Verb::List => list(session).await,
        Verb::Get { number, deployment, save } => get(session, number, deployment, save.as_deref()).await,
        Verb::Save { folder } => fill(session, &folder).await,
        Verb::Check { folder: Some(folder), ca } => {
            let format = session.format(&[Format::Table, Format::Json], "statements check")?;
            let checked = check_folder(&folder, &session.authority(ca.as_deref())?)?;
            whole(session, format, &checked.iter().map(|(_, one)| one.link()).collect::<Vec<_>>())
        }
        Verb::Check { folder: None, ca: _ } => {
            let format = session.format(&[Format::Table, Format::Json], "statements check")?;
            let ca = session.authority(None)?;
            let mut client = session.connect().await?;
            let mut links = Vec::new();
            for sequence in kept(&mut client, 0).await? {
                links.push(fetch(&mut client, sequence, &ca).await?.1.link());
            }
            whole(session, format, &links)
        }
    }
}

/// `verify --statement FILE`: what it says, and the exit code of the round or deployment that it was made of.
pub(super) fn show_file(session: &Session, path: &Path, ca: Option<&Path>) -> Result<u8, Failure> {
    let format = session.format(&[Format::Table, Format::Wide, Format::Json], "verify --statement")?;
    let checked = check_file(path, &session.authority(ca)?)?;
    match format {
        Format::Json => session.screen.out(&document("StatementReport", StatementReport::of(&checked))),
        _ => session.screen.out(&statement::render(&checked)),
    }
    Ok(checked.predicate().verdict.exit_code())
}

async fn list(session: &Session) -> Result<u8, Failure> {
    let format = session.format(&[Format::Table, Format::Json, Format::Name], "statements list")?;
    let mut client = session.connect().await?;
    let request = v1::ListStatementsRequest { after: 0 };
    let list = answer(CALL_DEADLINE, client.list_statements(request)).await?.statements;
    match format {
        Format::Json => session.screen.out(&document("StatementList", Items::<StatementSummary>::of(list))),
        Format::Name => session.screen.out(&list.iter().map(|one| format!("{}\n", one.sequence)).collect::<String>()),
        _ => session.screen.out(&statement::list(&list, session.screen.zone)),
    }
    Ok(exit::OK)
}

async fn get(
    session: &Session,
    number: Option<u64>,
    deployment: Option<String>,
    into: Option<&Path>,
) -> Result<u8, Failure> {
    let ca = session.authority(None)?;
    let mut client = session.connect().await?;
    let request = v1::GetStatementRequest { sequence: number.unwrap_or(0), deployment: deployment.unwrap_or_default() };
    let envelope = answer(CALL_DEADLINE, client.get_statement(request)).await?.envelope;
    // What is handed on was looked at first.
    let checked = check(&envelope, &ca).map_err(|refused| refusal("what the controller keeps", &refused))?;
    match into {
        Some(path) => {
            save(path, &envelope, Existing::Replace)?;
            let sequence = checked.predicate().sequence;
            session.screen.say(&format!("statement {sequence} is in {}", path.display()));
        }
        None => session.screen.out(&String::from_utf8_lossy(&envelope)),
    }
    Ok(exit::OK)
}

/// The numbers of what the controller keeps, oldest first.
async fn kept(client: &mut Operator, after: u64) -> Result<Vec<u64>, Failure> {
    let list = answer(CALL_DEADLINE, client.list_statements(v1::ListStatementsRequest { after })).await?;
    Ok(list.statements.iter().rev().map(|one| one.sequence).collect())
}

async fn fetch(client: &mut Operator, sequence: u64, ca: &str) -> Result<(Vec<u8>, Checked), Failure> {
    let request = v1::GetStatementRequest { sequence, deployment: String::new() };
    let envelope = answer(CALL_DEADLINE, client.get_statement(request)).await?.envelope;
    let what = format!("statement {sequence} of the controller");
    let checked = check(&envelope, ca).map_err(|refused| refusal(&what, &refused))?;
    if checked.predicate().sequence != sequence {
        return Err(Failure::data(format!("{what} is statement {} instead", checked.predicate().sequence)));
    }
    Ok((envelope, checked))
}

async fn fill(session: &Session, folder: &Path) -> Result<u8, Failure> {
    let format = session.format(&[Format::Table, Format::Json], "statements save")?;
    let ca = session.authority(None)?;
    std::fs::create_dir_all(folder)
        .map_err(|e| Failure::config(format!("cannot make {}", folder.display())).because(e))?;
    let mut links: Vec<Link> = check_folder(folder, &ca)?.iter().map(|(_, one)| one.link()).collect();
    let mut client = session.connect().await?;
    let newest = links.last().map_or(0, |link| link.sequence);
    // The newest that is here is asked for again: if the controller tells another history now, it begins there at the
    // latest to differ.
    let mut saved = 0;
    for sequence in kept(&mut client, newest.saturating_sub(1)).await? {
        let (envelope, checked) = fetch(&mut client, sequence, &ca).await?;
        match links.last() {
            Some(last) if last.sequence == sequence && last.digest == checked.digest => continue,
            Some(last) if last.sequence == sequence => {
                return Err(broken(chain::ChainError::Fork { sequence })
                    .because("the controller keeps another one than the folder"));
            }
            Some(_) | None => {}
        }
        // What does not fit is not put beside what does.
        let pair: Vec<Link> = links.last().copied().into_iter().chain([checked.link()]).collect();
        chain::check(&pair).map_err(broken)?;
        save(&folder.join(file_name(sequence)), &envelope, Existing::Keep)?;
        links.push(checked.link());
        saved += 1;
    }
    if newest > 0 && kept(&mut client, newest - 1).await?.is_empty() {
        return Err(Failure::data(format!(
            "the controller knows nothing of statement {newest}, which is in {}",
            folder.display()
        ))
        .because("it was restored from an older backup, or it is another one"));
    }
    session.screen.say(&format!("{} saved", count(saved, "statement")));
    whole(session, format, &links)
}

fn broken(error: chain::ChainError) -> Failure {
    Failure::data("the chain of statements is not whole").because(error)
}

fn whole(session: &Session, format: Format, links: &[Link]) -> Result<u8, Failure> {
    let run = chain::check(links).map_err(broken)?;
    match format {
        Format::Json => session.screen.out(&document("ChainReport", ChainReport::of(&run))),
        _ => {
            let before = match run.first {
                1 => String::new(),
                first => format!("; what came before statement {first} was not looked at"),
            };
            session.screen.say(&format!(
                "statements {} to {} are signed and follow one another{before}\nnewest: {}",
                run.first, run.head.sequence, run.head.digest
            ));
        }
    }
    Ok(exit::OK)
}
