//! Waiting until a service that was just started answers as its release says it should, or until it is clear that it
//! will not. One question is `probe`'s; asking on, once it is held, is `supervise`'s.

use std::time::Duration;

use fleet::Order;
use fleet::evidence::Health;
use fleet::release::Descriptor;
use tokio::time::Instant;

use crate::attempt::{Halt, Way};
use crate::environment;
use crate::execute::{failed, until_newer};
use crate::keeper::Keeper;
use crate::plan::Step;
use crate::probe::{Answerer, BadAnswer, Question, Respondent};
use crate::service_log::with_tail;

/// A process that is alive for so long after its start has got past the errors of the first moment: a bad argument,
/// a port in use. Waited for only where it cannot be seen who answers; otherwise whoever else answers on the port
/// would be taken for it.
const ALIVE_WHEN_ASSUMED: Duration = Duration::from_millis(200);
/// The same, where being alive is all that can be asked.
const ALIVE_WHEN_NOT_PROBED: Duration = Duration::from_millis(500);
/// The pause after the first bad answer; it doubles up to the probe's interval.
const FIRST_PROBE_PAUSE: Duration = Duration::from_millis(20);
impl Keeper {
    /// Waits until the service answers as its release says it should.
    pub(crate) async fn probe(&mut self, order: &Order, step: &Step, way: Way) -> Result<(), Halt> {
        let Some(running) = self.record.running.clone() else {
            return Err(failed(step, "the main process has ended".to_owned()));
        };
        let descriptor = self
            .describe(&running.release)
            .ok_or_else(|| failed(step, format!("release {} is not on this node's disk", running.release)))?;
        let answering = self.answering(&descriptor, step, way);
        let supervisor = self.tools.supervisor.clone();
        let gone = supervisor.gone(&running);
        let answer = until_newer(self.wish.clone(), order, async {
            tokio::select! {
                biased;
                () = gone => Err("the main process ended soon after its start".to_owned()),
                answer = answering => answer,
            }
        })
        .await?;
        if let Err(reason) = answer {
            self.tell_health(Health::Unhealthy { reason: reason.clone() });
            return Err(failed(step, with_tail(reason, Some(&running), self.log.tail(self.log_from))));
        }
        self.record.answered = true;
        self.tell_health(Health::Healthy);
        self.save_or(step, way)
    }

    async fn answering(&self, descriptor: &Descriptor, step: &Step, way: Way) -> Result<(), String> {
        let begun = Instant::now();
        let Some(probe) = &descriptor.health else {
            tokio::time::sleep(ALIVE_WHEN_NOT_PROBED).await;
            return self.still_alive();
        };
        let environment = environment::environment(&descriptor.run, &self.tools.config.environment);
        let question = Question::new(probe, &environment)?;
        let Some(running) = &self.record.running else { return self.still_alive() };
        let whom = Respondent { supervisor: &self.tools.supervisor, place: self.releases.place(), running };
        let mut assumed = false;
        let deadline = begun + probe.timeout.to_std();
        let (mut tries, mut in_a_row) = (0u32, 0);
        let mut eager = FIRST_PROBE_PAUSE;
        loop {
            let last = question.ask(&whom).await;
            tries += 1;
            match last {
                Ok(answerer) => {
                    in_a_row += 1;
                    assumed |= answerer == Answerer::Assumed;
                }
                Err(BadAnswer { reason, .. }) => {
                    in_a_row = 0;
                    self.tell_step(step, way, &format!("{reason}, try {tries}"));
                    if Instant::now() >= deadline {
                        return Err(format!("not healthy within {}, {tries} tries: {reason}", probe.timeout));
                    }
                }
            }
            if in_a_row >= probe.successes.max(1) {
                if assumed {
                    tokio::time::sleep_until(begun + ALIVE_WHEN_ASSUMED).await;
                }
                return self.still_alive();
            }
            if Instant::now() >= deadline {
                return Err(format!(
                    "not healthy within {}: {in_a_row} good answers in a row of {} wanted",
                    probe.timeout, probe.successes
                ));
            }
            // A service that has just been started answers soon or takes its time: asked often at first, then as told.
            let pause = if in_a_row == 0 { eager.min(probe.interval.to_std()) } else { probe.interval.to_std() };
            eager = eager.saturating_mul(2);
            tokio::time::sleep(pause).await;
        }
    }

    fn still_alive(&self) -> Result<(), String> {
        if self.main_alive() { Ok(()) } else { Err("the main process ended soon after its start".to_owned()) }
    }
}
