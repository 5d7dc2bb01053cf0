//! Every question and who answers it. Nothing is decided here: a decision is another file's, and what is shown comes
//! from the views.

use fleet::Timestamp;
use fleet::deployment::Kind;

use super::ask::Ask;
use super::state::State;

impl State {
    /// Answers one question.
    pub(super) fn answer(&mut self, ask: Ask, now: Timestamp) {
        match ask {
            Ask::Version(you, to) => {
                let version = self.version(you);
                self.reply(to, Ok(version));
            }
            Ask::AddRelease(by, bundle, size, descriptor, to) => {
                let answer = self.add_release(&by, bundle, size, *descriptor, now);
                self.reply(to, answer);
            }
            Ask::ListReleases(service, to) => {
                let releases = self.list_releases(&service);
                self.reply(to, Ok(releases));
            }
            Ask::GetRelease(name, to) => {
                let answer = self.get_release(&name);
                self.reply(to, answer);
            }
            Ask::Settling(to) => {
                let left = self.settling(now);
                self.reply(to, Ok(left));
            }
            Ask::Plan(actor, request, to) => {
                let answer = self.plan_deployment(&actor, &request, Kind::Rollout, now);
                self.reply(to, answer);
            }
            Ask::Start(actor, request, to) => {
                let answer = self.start(&actor, &request, Kind::Rollout, now);
                let answer = answer.and_then(|id| self.deployment_view(&id, now));
                self.reply(to, answer);
            }
            Ask::PlanRollback(actor, request, to) => {
                let answer = self
                    .rollback_request(request)
                    .and_then(|request| self.plan_deployment(&actor, &request, Kind::Rollback, now));
                self.reply(to, answer);
            }
            Ask::StartRollback(actor, request, to) => {
                let answer = self
                    .rollback_request(request)
                    .and_then(|request| self.start(&actor, &request, Kind::Rollback, now))
                    .and_then(|id| self.deployment_view(&id, now));
                self.reply(to, answer);
            }
            Ask::Abort(actor, request, to) => {
                let answer = self.abort(&actor, &request, now).and_then(|id| self.deployment_view(&id, now));
                self.reply(to, answer);
            }
            Ask::Tell(actor, request, to) => {
                let answer = self.tell(&actor, request, now).and_then(|id| self.deployment_view(&id, now));
                self.reply(to, answer);
            }
            Ask::AnswerGate(actor, name, asking, verdict, to) => {
                let answer = self.answer_gate(&actor, &name, asking, verdict, now);
                let answer = answer.and_then(|id| self.deployment_view(&id, now));
                self.reply(to, answer);
            }
            Ask::ListPlans(service, to) => {
                let plans = self.list_plans(&service, now);
                self.reply(to, Ok(plans));
            }
            Ask::HoldLock(actor, request, to) => {
                let answer = self.hold_lock(&actor, &request, now);
                self.reply(to, answer);
            }
            Ask::ReleaseLock(actor, service, to) => {
                let answer = self.release_lock(&actor, &service, now);
                self.reply(to, answer);
            }
            Ask::ListLocks(to) => {
                let locks = self.list_locks(now);
                self.reply(to, Ok(locks));
            }
            Ask::Confirm(node, service, generation, to) => {
                let answer = self.confirm(&node, &service, generation);
                self.reply(to, Ok(answer));
            }
            Ask::ConfirmWhenProven(node, service, generation, to) => {
                self.confirm_when_proven(node, service, generation, to);
            }
            Ask::GetDeployment(name, from, to) => {
                let answer = self.get_deployment(&name, from, now);
                self.reply(to, answer);
            }
            Ask::ListDeployments(service, limit, to) => {
                let views = self.list_deployments(&service, limit, now);
                self.reply(to, Ok(views));
            }
            Ask::Status(to) => {
                let status = self.status(now);
                self.reply(to, Ok(status));
            }
            Ask::Round(depth, to) => {
                self.ask_everyone(depth);
                self.reply(to, Ok(now));
            }
            Ask::Drift(request, to) => {
                let report = self.drift_report(&request, now);
                self.reply(to, Ok(report));
            }
            Ask::Proofs(service, since, depth, to) => {
                let proofs = self.proofs(&service, since, depth, now);
                self.reply(to, Ok(proofs));
            }
            Ask::Verify(actor, service, since, depth, to) => {
                let answer = self.verified(&actor, &service, since, depth, now);
                self.reply(to, Ok(answer));
            }
            Ask::ListStatements(after, to) => {
                let list = self.list_statements(after);
                self.reply(to, Ok(list));
            }
            Ask::GetStatement(request, to) => match self.find_statement(&request) {
                Ok(record) => self.hand_out(record, to),
                Err(refusal) => self.reply(to, Err(refusal)),
            },
            Ask::ListNodes(to) => {
                let nodes = self.nodes.keys().filter_map(|name| self.node_view(name, now)).collect();
                self.reply(to, Ok(nodes));
            }
            Ask::GetNode(name, to) => {
                let answer = self.get_node(&name, now);
                self.reply(to, answer);
            }
            Ask::RemoveNode(by, name, reason, to) => {
                let answer = self.remove_node(&by, &name, reason, now);
                self.reply(to, answer);
            }
            Ask::ImportNodes(by, request, to) => {
                let answer = self.import(&by, request);
                self.reply(to, answer);
            }
            Ask::AddToken(record, to) => {
                self.add_token(*record);
                self.reply(to, Ok(()));
            }
            Ask::Join(wish, to) => {
                let answer = self.join(*wish, now);
                self.reply(to, answer);
            }
        }
    }
}
