//! The flags that say what must hold between segments: tests, pauses, and the migration that is run once. Running a test
//! is left to `gates`, judging its answer to the controller.

use fleet::Millis;
use fleet::deployment::{Host, Place};
use fleet_proto::v1;

use super::some_time;
use crate::service_file::DeployDefaults;
use crate::wishes::MigrationPlace;

/// The name of the migration, for people.
const MIGRATION: &str = "migrate";

/// What is asked, waited for and run between segments.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Between segments")]
pub struct Checks {
    /// Run by this fleetctl after each segment; exit 0 passes, 75 or not being run is inconclusive; may be repeated
    #[arg(long, value_name = "CMD", value_parser = command_line)]
    test: Vec<String>,
    /// The same, run on the controller's host, where that is allowed
    #[arg(long, value_name = "CMD", value_parser = command_line)]
    test_on_controller: Vec<String>,
    /// How long the answer of a test is waited for [default: fleet.yaml's, else 10m]
    #[arg(long, value_name = "DUR", value_parser = some_time)]
    test_timeout: Option<Millis>,
    /// Wait for 'fleetctl promote' after these segments, counted from 1 [default: fleet.yaml's]
    #[arg(long, value_name = "N,...", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..))]
    pause_after: Vec<u32>,
    /// How long a person is waited for, then it is a failure [default: 1d]
    #[arg(long, value_name = "DUR", value_parser = some_time)]
    pause_timeout: Option<Millis>,
    /// Run once, on one node, in the new release's directory [default: fleet.yaml's hooks.migrate]
    #[arg(long, value_name = "CMD", value_parser = command_line)]
    migrate: Option<String>,
    /// before:N or after:N, segments counted from 1 [default: fleet.yaml's, else before:1]
    #[arg(long, value_name = "PLACE")]
    migrate_place: Option<MigrationPlace>,
    /// How long the migration may take [default: fleet.yaml's, else 10m]
    #[arg(long, value_name = "DUR", value_parser = some_time)]
    migrate_timeout: Option<Millis>,
}

impl Checks {
    /// Puts them into a request. Flags win over the file: one `--test` stands for all tests.
    pub fn add_to(&self, request: &mut v1::DeploymentRequest, file: &DeployDefaults) {
        request.gates = self.gates(file);
        request.pause_after =
            if self.pause_after.is_empty() { file.pause_after.clone() } else { self.pause_after.clone() };
        request.pause_deadline_ms = self.pause_timeout.unwrap_or_default().0;
        request.migration = self.migration(file);
    }

    /// Whether the tests are those of the command line, and not those of the service file.
    pub fn names_tests(&self) -> bool {
        !self.test.is_empty() || !self.test_on_controller.is_empty()
    }

    /// First those that run here, then those of the controller's host, each in the order written.
    fn gates(&self, file: &DeployDefaults) -> Vec<v1::Gate> {
        let here = self.test.iter().map(|command| (command, Host::Operator));
        let there = self.test_on_controller.iter().map(|command| (command, Host::Controller));
        let mut tests: Vec<(&String, Host)> = here.chain(there).collect();
        let mut timeout = self.test_timeout;
        if let (true, Some(test)) = (tests.is_empty(), &file.test) {
            tests.push((&test.run, test.from));
            timeout = timeout.or(test.timeout);
        }
        let gate = |(index, (command, from)): (usize, (&String, Host))| v1::Gate {
            name: if index == 0 { "test".to_owned() } else { format!("test-{}", index + 1) },
            source: Some(v1::gate::Source::Test(v1::GateTest {
                command: command.clone(),
                from: from.as_str().to_owned(),
            })),
            after: 0,
            deadline_ms: timeout.unwrap_or_default().0,
        };
        tests.into_iter().enumerate().map(gate).collect()
    }

    fn migration(&self, file: &DeployDefaults) -> Option<v1::Migration> {
        let of_file = file.migrate.as_ref();
        let command = self.migrate.clone().or_else(|| of_file.map(|m| m.run.clone()))?;
        let MigrationPlace(place) = self.migrate_place.or(of_file.map(|m| m.place)).unwrap_or_default();
        let timeout = self.migrate_timeout.or(of_file.and_then(|m| m.timeout)).unwrap_or_default();
        Some(v1::Migration {
            name: MIGRATION.to_owned(),
            command,
            place: match place {
                Place::Before(_) => "before".to_owned(),
                Place::After(_) => "after".to_owned(),
            },
            segment: u32::try_from(place.segment()).unwrap_or(u32::MAX).saturating_add(1),
            timeout_ms: timeout.0,
        })
    }
}

/// A command that is not blank.
fn command_line(text: &str) -> Result<String, String> {
    match text.trim() {
        "" => Err("it is empty: write a command".to_owned()),
        _ => Ok(text.to_owned()),
    }
}

/// Whether a gate is a test that some fleetctl has to run.
pub fn runs_here(gate: &v1::Gate) -> bool {
    matches!(&gate.source, Some(v1::gate::Source::Test(test)) if test.from == Host::Operator.as_str())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::service_file::{FileMigration, FileTest};
    use clap::Parser as _;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        checks: Checks,
    }

    fn request(line: &[&str], file: &DeployDefaults) -> v1::DeploymentRequest {
        let mut request = v1::DeploymentRequest::default();
        Line::try_parse_from(std::iter::once(&"x").chain(line)).unwrap().checks.add_to(&mut request, file);
        request
    }

    fn shown(request: &v1::DeploymentRequest) -> Vec<String> {
        let one = |gate: &v1::Gate| match &gate.source {
            Some(v1::gate::Source::Test(test)) => format!("{}: {} ({})", gate.name, test.command, test.from),
            other => panic!("{other:?}"),
        };
        request.gates.iter().map(one).collect()
    }

    fn file() -> DeployDefaults {
        DeployDefaults {
            pause_after: vec![1],
            test: Some(FileTest { run: "smoke".into(), from: Host::Controller, timeout: Some(Millis(5_000)) }),
            migrate: Some(FileMigration {
                run: "bin/migrate".into(),
                timeout: Some(Millis(60_000)),
                place: "after:2".parse().unwrap(),
            }),
            ..DeployDefaults::default()
        }
    }

    #[test]
    fn tests_of_flags_take_the_place_of_the_files() {
        let of_file = request(&[], &file());
        assert_eq!(shown(&of_file), ["test: smoke (controller)"]);
        assert_eq!((of_file.gates[0].deadline_ms, of_file.gates[0].after), (5_000, 0));
        let flags =
            request(&["--test-on-controller", "c d", "--test", "a", "--test", "b", "--test-timeout", "1m"], &file());
        assert_eq!(shown(&flags), ["test: a (operator)", "test-2: b (operator)", "test-3: c d (controller)"]);
        assert_eq!(flags.gates[2].deadline_ms, 60_000);
        assert!(runs_here(&flags.gates[0]) && !runs_here(&flags.gates[2]));
        assert!(Line::try_parse_from(["x", "--test", " "]).is_err());
    }

    #[test]
    fn pauses_are_a_list_or_repeated() {
        assert_eq!(request(&[], &file()).pause_after, [1]);
        assert_eq!(request(&["--pause-after", "2,3", "--pause-after", "5"], &file()).pause_after, [2, 3, 5]);
        assert!(Line::try_parse_from(["x", "--pause-after", "0"]).is_err());
    }

    #[test]
    fn a_migration_is_the_flags_or_the_files() {
        assert_eq!(request(&[], &DeployDefaults::default()).migration, None);
        let shown = |m: v1::Migration| (m.command, m.place, m.segment, m.timeout_ms);
        assert_eq!(
            shown(request(&[], &file()).migration.unwrap()),
            ("bin/migrate".to_owned(), "after".to_owned(), 2, 60_000)
        );
        let flags = ["--migrate", "x", "--migrate-place", "before:3", "--migrate-timeout", "2s"];
        assert_eq!(shown(request(&flags, &file()).migration.unwrap()), ("x".to_owned(), "before".to_owned(), 3, 2_000));
        let alone = request(&["--migrate", "x"], &DeployDefaults::default()).migration.unwrap();
        assert_eq!(shown(alone), ("x".to_owned(), "before".to_owned(), 1, 0));
    }
}
