//! `deploy:` and `hooks:` of the service file: how its releases move through the fleet unless a flag says otherwise.

use fleet::Millis;
use fleet::deployment::{Host, OnFailure};
use fleet::segments::Segments;

use super::error::Problem;
use super::keys::{self, Section};
use super::scalar::{duration, integer, list, parsed, read, text, word};
use super::yaml::{Node, Value};
use super::{DeployDefaults, FileMigration, FileTest};
use crate::wishes::MigrationPlace;

/// No fleet is cut into more segments than `--segments` accepts.
const MOST_SEGMENTS: u32 = fleet::segments::MOST_SEGMENTS as u32;

pub(super) fn deploy(node: Node) -> Result<DeployDefaults, Problem> {
    let mut section = Section::open(node, &keys::DEPLOY)?;
    Ok(DeployDefaults {
        segments: section.take("segments")?.map(segments).transpose()?,
        order: of_word(&mut section, "order", "deploy.order")?,
        parallel: of_word(&mut section, "parallel", "deploy.parallel")?,
        min_healthy: of_word(&mut section, "min_healthy", "deploy.min_healthy")?,
        bake: section.take("bake")?.map(|node| duration(&node, "deploy.bake")).transpose()?,
        max_failures: of_word(&mut section, "max_failures", "deploy.max_failures")?,
        on_failure: section.take("on_failure")?.map(|node| on_failure(&node)).transpose()?,
        pause_after: section.take("pause_after")?.map(pause_after).transpose()?.unwrap_or_default(),
        test: section.take("test")?.map(test).transpose()?,
        confirm: of_word(&mut section, "confirm", "deploy.confirm")?,
        migrate: None,
    })
}

/// The one hook there is so far: what is run once per deployment.
pub(super) fn hooks(node: Node) -> Result<Option<FileMigration>, Problem> {
    let Some(node) = Section::open(node, &keys::HOOKS)?.take("migrate")? else { return Ok(None) };
    let items = list(node, "hooks.migrate", "- {run: bin/shop migrate, once: true, timeout: 10m}")?;
    let mut items = items.into_iter();
    match (items.next(), items.next()) {
        (None, _) => Ok(None),
        (Some(only), None) => migrate(only).map(Some),
        (Some(_), Some(second)) => {
            Err(Problem::new(second.place, "'hooks.migrate' has more than one step, and one is supported")
                .help("put the steps into one script"))
        }
    }
}

/// A value whose form says what it is, so that quotes do not matter.
fn of_word<T>(section: &mut Section, key: &str, what: &str) -> Result<Option<T>, Problem>
where
    T: std::str::FromStr<Err: std::fmt::Display>,
{
    section.take(key)?.map(|node| read(&word(&node, what)?, node.place, what)).transpose()
}

/// A list means its sizes, as Ansible's `serial` does: `[3]` is three nodes at a time, where `3` is three parts.
fn segments(node: Node) -> Result<Segments, Problem> {
    let place = node.place;
    let Value::List(items) = &node.value else {
        return read(&word(&node, "deploy.segments")?, place, "deploy.segments");
    };
    let sizes = items.iter().map(|item| word(item, "deploy.segments")).collect::<Result<Vec<_>, _>>()?;
    Segments::listed(sizes.iter().map(String::as_str))
        .map_err(|error| Problem::new(place, format!("'deploy.segments': {error}")))
}

fn on_failure(node: &Node) -> Result<OnFailure, Problem> {
    parsed(node, "deploy.on_failure")
}

/// One number, or several.
fn pause_after(node: Node) -> Result<Vec<u32>, Problem> {
    let numbers = match node.value {
        Value::List(_) => list(node, "deploy.pause_after", "- 1")?,
        _ => vec![node],
    };
    numbers.iter().map(|item| integer(item, "deploy.pause_after", 1..=MOST_SEGMENTS)).collect()
}

fn test(node: Node) -> Result<FileTest, Problem> {
    if !matches!(node.value, Value::Map(_)) {
        return Ok(FileTest { run: text(&node, "deploy.test")?, from: Host::Operator, timeout: None });
    }
    let mut section = Section::open(node, &keys::TEST)?;
    let run = text(&section.require("run", "run: tests/smoke.sh")?, "deploy.test.run")?;
    let from = section.take("from")?.map(|node| parsed(&node, "deploy.test.from")).transpose()?;
    Ok(FileTest { run, from: from.unwrap_or(Host::Operator), timeout: some_time(&mut section, "deploy.test.timeout")? })
}

fn migrate(node: Node) -> Result<FileMigration, Problem> {
    let place = node.place;
    let mut section = Section::open(node, &keys::MIGRATE)?;
    let run = text(&section.require("run", "run: bin/shop migrate")?, "hooks.migrate.run")?;
    // A hook of every node would be another thing, and this must not be taken for it.
    let once = section.take("once")?;
    if !once.as_ref().is_some_and(|node| matches!(&node.value, Value::Plain(word) if word == "true")) {
        let at = once.map_or(place, |node| node.place);
        return Err(Problem::new(at, "'hooks.migrate' is run on one node per deployment, and must say so")
            .help("write once: true"));
    }
    Ok(FileMigration {
        run,
        timeout: some_time(&mut section, "hooks.migrate.timeout")?,
        place: section
            .take("place")?
            .map(|node| read::<MigrationPlace>(&word(&node, "hooks.migrate.place")?, node.place, "hooks.migrate.place"))
            .transpose()?
            .unwrap_or_default(),
    })
}

/// A `timeout` that is not zero: that much time nothing could be done in.
fn some_time(section: &mut Section, what: &str) -> Result<Option<Millis>, Problem> {
    let Some(node) = section.take("timeout")? else { return Ok(None) };
    match duration(&node, what)? {
        Millis(0) => Err(Problem::new(node.place, format!("'{what}' is no time at all")).help("write 10m")),
        time => Ok(Some(time)),
    }
}
