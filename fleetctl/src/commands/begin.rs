//! What `deploy` and `rollback` share: whether somebody is asked before it begins, and whether they stay to the end.

use fleet::outcome::exit;
use fleet_proto::v1;

use super::gates::Tests;
use super::report::Report;
use super::session::Session;
use super::watch::{Until, watch_to};
use crate::client::{Controller, Operator};
use crate::config::Confirm;
use crate::failure::Failure;
use crate::output::documents::{Deployment, document};
use crate::output::format::Format;
use crate::output::{frame, junit, tally};

/// How a deployment is begun.
#[derive(Debug, Clone, clap::Args)]
pub struct Begin {
    /// Print the id and leave; the deployment goes on
    #[arg(long)]
    pub detach: bool,
    /// Only show the plan
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
    /// If another deployment of the service runs: wait for it to end, and begin then
    #[arg(long, conflicts_with = "supersede")]
    pub queue: bool,
    /// If another deployment of the service runs: end it where it is, and take its place
    #[arg(long)]
    pub supersede: bool,
    /// Write a report for CI into this file when it ends, also when it fails
    #[arg(long, value_name = "junit=FILE")]
    pub report: Option<Report>,
}

impl Begin {
    /// Puts what happens to a deployment in the way into a request.
    pub fn add_to(&self, request: &mut v1::DeploymentRequest) {
        request.queue = self.queue;
        request.supersede = self.supersede;
    }

    /// Whether a person is asked first: the context says so, and nobody has said yes. Without a terminal it simply
    /// runs; who may deploy is decided at the controller.
    pub fn asks(&self, controller: &Controller) -> bool {
        !self.yes && controller.target().confirm == Confirm::OnTerminal
    }

    /// Tries whether the report can be written, before anything is begun.
    ///
    /// # Errors
    /// As [`Report::prepare`].
    pub fn prepare(&self) -> Result<(), Failure> {
        self.report.as_ref().map_or(Ok(()), Report::prepare)
    }

    /// Reports a deployment that has not begun.
    ///
    /// # Errors
    /// Why it has not.
    pub fn not_begun(&self, session: &Session, failure: Failure) -> Result<u8, Failure> {
        self.reported(session, &v1::Deployment::default(), Err(failure))
    }

    /// Writes the report, if one is wanted, and hands the result on.
    fn reported(
        &self,
        session: &Session,
        deployment: &v1::Deployment,
        result: Result<u8, Failure>,
    ) -> Result<u8, Failure> {
        let Some(report) = &self.report else { return result };
        let why = match &result {
            Ok(exit::DETACHED | exit::OK) => "it goes on, and nobody watched it to its end".to_owned(),
            Ok(exit::TIMED_OUT) => "it goes on after --timeout ran out".to_owned(),
            Ok(code) => format!("it ended with {code}"),
            Err(failure) => failure.what.clone(),
        };
        report.end(session, &junit::deployment(deployment, Some(&why), session.local_ms()), result)
    }

    /// What happens after a deployment was accepted: it is left alone, or watched to its outcome.
    ///
    /// # Errors
    /// What the controller answered, unless it was only away.
    pub async fn go_on(
        &self,
        session: &Session,
        controller: &Controller,
        client: Operator,
        deployment: v1::Deployment,
        tests: Tests,
        format: Format,
    ) -> Result<u8, Failure> {
        let id = deployment.id.clone();
        if self.detach {
            let left = deployment.clone();
            match format {
                Format::Json | Format::Jsonl => {
                    session.screen.out(&document("Deployment", Deployment::from(deployment)));
                }
                _ => session.screen.out(&format!("{id}\n")),
            }
            let result = self.reported(session, &left, Ok(exit::OK));
            session
                .screen
                .say(&format!("detached; {id} goes on. Come back with: fleetctl wait {id}{}", tests.farewell(&id)));
            return result;
        }
        if session.screen.is_live() && format != Format::Jsonl {
            session.screen.say(&frame::head(&deployment, session.screen.glyphs));
            session.screen.say(&format!(
                "{id} started by {}. Ctrl-C detaches; stop with: fleetctl abort {id}\n",
                deployment.started_by
            ));
        }
        tracing::info!(%id, nodes = tally::expected(&deployment).len(), "watching");
        let (seen, result) = watch_to(session, controller, client, deployment, Until::Done, tests, format).await;
        self.reported(session, &seen, result)
    }
}
