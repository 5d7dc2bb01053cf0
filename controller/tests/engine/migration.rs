//! The step that happens once per deployment: told to one node until it has reported, and never again by itself.

use fleet_proto::v1;
use fleet_proto::v1::migration_report::Report;

use crate::rig::{Controller, Puppet, refused, to};

fn migrating(release: &v1::Release, place: &str, segment: u32) -> v1::DeploymentRequest {
    let migration = v1::Migration {
        name: "schema".into(),
        command: "bin/web migrate".into(),
        place: place.into(),
        segment,
        timeout_ms: 90_000,
    };
    v1::DeploymentRequest { segments: "2".into(), migration: Some(migration), ..to(release) }
}

async fn two_nodes(controller: &Controller) -> (Vec<Puppet>, v1::Release, v1::Release) {
    let puppets = controller.puppets(2).await;
    let (old, new) = (controller.release("1.0.0").await, controller.release("2.0.0").await);
    controller.converge(&old).await;
    (puppets, old, new)
}

fn interrupted() -> Report {
    Report::Interrupted(v1::MigrationInterrupted { reason: "the machine stopped".into() })
}

async fn promote(controller: &Controller, id: &str, retry: bool) -> v1::Deployment {
    let command = v1::tell_request::Command::Promote(v1::Promote { retry });
    controller.tell(id, command).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_node_is_told_until_it_has_reported() {
    let mut controller = Controller::start().await;
    let (puppets, old, new) = two_nodes(&controller).await;
    let id = controller.deploy(migrating(&new, "before", 1)).await.id;
    let told = puppets[0].until(|life| !life.told_now.is_empty()).await;
    let order = told.told_now[0].clone();
    assert_eq!((order.deployment.as_str(), order.attempt, order.node.as_str()), (id.as_str(), 1, "n1"));
    assert_eq!((order.service.as_str(), order.name.as_str()), ("web", "schema"));
    assert_eq!((order.command.as_str(), order.timeout_ms), ("bin/web migrate", 90_000));
    assert_eq!(order.release.as_ref().unwrap().release, new.id, "in the new release's directory");
    let waiting = controller.until_phase(&id, "migrating").await;
    assert!(waiting.waiting_on.contains("the migration schema on n1"), "{}", waiting.waiting_on);
    assert_eq!(puppets[0].ordered("web"), Some(old.id.clone()), "nothing is ordered before it has ended");

    puppets[0].report(&id, 1, Report::Running(v1::MigrationRunning { detail: "table 3 of 9".into() }));
    controller.until(&id, |deployment| deployment.waiting_on.contains("table 3 of 9")).await;
    controller.restart().await;
    let before = puppets[0].life().told;
    puppets[0].until(|life| life.told >= before && life.migrations.len() >= 2).await;
    controller.until(&id, |deployment| deployment.waiting_on.contains("table 3 of 9")).await;
    let life = puppets[0].life();
    assert!(life.migrations.iter().all(|again| *again == order), "the same one is said again: {:#?}", life.migrations);
    assert_eq!(controller.count_facts(&id, "migration-started").await, 1);

    // Reports of another attempt, of another deployment, and of the other node are none.
    puppets[0].report(&id, 2, Report::Succeeded(v1::MigrationSucceeded {}));
    puppets[1].report(&id, 1, Report::Failed(v1::MigrationFailed { reason: "not me".into() }));
    for puppet in &puppets {
        controller.seen_again(&puppet.name).await;
    }
    assert_eq!(controller.get(&id).await.phase, "migrating");
    puppets[0].report(&id, 1, Report::Succeeded(v1::MigrationSucceeded {}));
    assert_eq!(controller.ended(&id).await.outcome, "converged");
    assert!(puppets[1].life().migrations.is_empty(), "one node only");
    assert!(puppets[0].until(|life| life.orders["web"].generation > 2).await.told_now.is_empty(), "not told any more");
    assert_eq!(controller.count_facts(&id, "migration-succeeded").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_have_run_is_run_again_only_by_a_persons_wish() {
    let mut controller = Controller::start().await;
    let (puppets, _, new) = two_nodes(&controller).await;
    let id = controller.deploy(migrating(&new, "after", 1)).await.id;
    puppets[0].until(|life| !life.told_now.is_empty()).await;
    puppets[0].report(&id, 1, interrupted());
    let halted = controller.until_phase(&id, "halted").await;
    let words = "nobody can tell whether the migration schema ran: the machine stopped";
    assert_eq!(halted.halted, words);
    assert!(halted.waiting_on.contains(&format!("fleetctl promote {id}")), "{}", halted.waiting_on);
    controller.restart().await;
    controller.seen_again("n1").await;
    assert_eq!(controller.get(&id).await.halted, words, "it is not run again by itself");
    assert_eq!(controller.count_facts(&id, "migration-started").await, 1);

    promote(&controller, &id, true).await;
    let life = puppets[0].until(|life| life.told_now.iter().any(|order| order.attempt == 2)).await;
    assert_eq!(life.told_now.len(), 1);
    // The report of the first attempt is still said, and is no answer to the second.
    controller.seen_again("n1").await;
    assert_eq!(controller.get(&id).await.phase, "migrating");
    controller.restart().await;
    let (told, first) = (puppets[0].life().told, life.told_now[0].clone());
    let life = puppets[0].until(|life| life.told >= told && !life.told_now.is_empty()).await;
    assert_eq!(life.told_now, [first], "the second attempt, again");
    puppets[0].report(&id, 2, Report::Succeeded(v1::MigrationSucceeded {}));
    assert_eq!(controller.ended(&id).await.outcome, "converged");
    let started: Vec<_> = controller.facts(&id).await.into_iter().filter(|f| f.kind == "migration-started").collect();
    assert_eq!(started.len(), 2);
    assert!(started[1].text.contains("attempt 2"), "{started:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_may_say_that_it_is_done() {
    let controller = Controller::start().await;
    let (puppets, _, new) = two_nodes(&controller).await;
    let id = controller.deploy(migrating(&new, "before", 2)).await.id;
    puppets[1].until(|life| !life.told_now.is_empty()).await;
    puppets[1].report(&id, 1, interrupted());
    controller.until_phase(&id, "halted").await;
    promote(&controller, &id, false).await;
    assert_eq!(controller.ended(&id).await.outcome, "converged");
    assert_eq!(controller.count_facts(&id, "migration-started").await, 1);
    assert!(puppets[0].life().migrations.is_empty(), "it is tied to the second segment, whose first node is n2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_that_failed_turns_it_back() {
    let mut controller = Controller::start().await;
    let (puppets, old, new) = two_nodes(&controller).await;
    let id = controller.deploy(migrating(&new, "after", 1)).await.id;
    puppets[0].until(|life| !life.told_now.is_empty()).await;
    controller.restart().await;
    puppets[0].report(&id, 1, Report::Failed(v1::MigrationFailed { reason: "no such column".into() }));
    let end = controller.ended(&id).await;
    assert_eq!(end.outcome, "rolled-back");
    assert_eq!(end.cause, "the migration schema failed: no such column");
    assert!(puppets.iter().all(|puppet| puppet.life().holds["web"] == old.id));
    assert!(puppets[1].life().history.iter().all(|order| !format!("{order:?}").contains(&new.id)));
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_is_refused_before_anything_begins() {
    let controller = Controller::start().await;
    let (_puppets, _, new) = two_nodes(&controller).await;
    controller.deploy_refused(migrating(&new, "during", 1)).await.says(65, &["before or after"]);
    controller.deploy_refused(migrating(&new, "before", 0)).await.says(65, &["from 1"]);
    controller.deploy_refused(migrating(&new, "before", 3)).await.says(1, &["the migration names segment 3"]);
    let mut empty = migrating(&new, "before", 1);
    empty.migration.as_mut().unwrap().command = " ".into();
    controller.deploy_refused(empty).await.says(65, &["empty"]);
    let mut long = migrating(&new, "before", 1);
    long.migration.as_mut().unwrap().command = "x".repeat(4_097);
    controller.deploy_refused(long.clone()).await.says(65, &["4097 bytes"]);
    refused(controller.operator().await.plan_deployment(long).await).says(65, &["longer than 4096"]);
}
