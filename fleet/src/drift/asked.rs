//! The nonces of one node: which are out, and what became of those that are not. An answer counts only with one that is
//! out; what any other answer means is told apart here, because a slow agent must not be taken for a lying one.

use std::collections::VecDeque;

use crate::drift::Misdeed;
use crate::{Millis, Nonce, Timestamp};

/// Nonces out per node: a few rounds may be under way on a slow link; an older one than that is no proof of now.
const MOST_OUT: usize = 8;
/// Nonces remembered that are out no longer: some minutes of rounds. Whatever is older is taken for one that was never
/// drawn, which is as much of a finding.
const MOST_PAST: usize = 128;

/// What became of a nonce.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It was answered.
    Answered,
    /// A newer one of the same stream was answered first. An agent answers in the order of asking.
    Overtaken,
    /// So many newer ones were drawn that nobody waits for this one.
    GivenUp,
    /// Its stream ended.
    Ended,
}

/// The nonces of one node.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    /// Oldest first.
    out: VecDeque<(Nonce, Timestamp)>,
    /// Oldest first.
    past: VecDeque<(Nonce, Timestamp, Fate)>,
}

/// Why an answer does not count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Uncounted {
    /// The agent is slow: nobody waits for this answer any more. Its silence is a finding of its own if it lasts.
    Slow,
    /// No honest agent answers like this.
    Misdeed(Misdeed),
}

impl Asked {
    /// A nonce is drawn and sent.
    pub fn ask(&mut self, nonce: Nonce, at: Timestamp) {
        if self.out.len() == MOST_OUT
            && let Some((oldest, drawn)) = self.out.pop_front()
        {
            self.bury(oldest, drawn, Fate::GivenUp);
        }
        self.out.push_back((nonce, at));
    }

    /// The stream on which they were sent has ended.
    pub fn end(&mut self) {
        while let Some((nonce, drawn)) = self.out.pop_front() {
            self.bury(nonce, drawn, Fate::Ended);
        }
    }

    /// An answer has come: when its nonce was drawn, if it counts. `stale` is how long a node may show nothing.
    ///
    /// # Errors
    /// Why it does not count.
    pub fn answer(&mut self, nonce: &Nonce, now: Timestamp, stale: Millis) -> Result<Timestamp, Uncounted> {
        if let Some(at) = self.out.iter().position(|(out, _)| out == nonce) {
            for _ in 0..at {
                if let Some((overtaken, drawn)) = self.out.pop_front() {
                    self.bury(overtaken, drawn, Fate::Overtaken);
                }
            }
            let Some((answered, drawn)) = self.out.pop_front() else { return Err(Uncounted::Slow) };
            self.bury(answered, drawn, Fate::Answered);
            return Ok(drawn);
        }
        let Some((_, drawn, fate)) = self.past.iter().find(|(past, ..)| past == nonce) else {
            return Err(Uncounted::Misdeed(Misdeed::NeverAsked));
        };
        let after = now.since(*drawn);
        Err(match fate {
            Fate::Answered => Uncounted::Misdeed(Misdeed::AnsweredBefore { after }),
            Fate::Overtaken => Uncounted::Misdeed(Misdeed::Overtaken { after }),
            Fate::Ended => Uncounted::Misdeed(Misdeed::EarlierSession { after }),
            Fate::GivenUp if after > stale => Uncounted::Misdeed(Misdeed::Late { after }),
            Fate::GivenUp => Uncounted::Slow,
        })
    }

    /// Whether this nonce was drawn for this node, as far as it is remembered.
    pub fn knows(&self, nonce: &Nonce) -> bool {
        self.out.iter().any(|(out, _)| out == nonce) || self.past.iter().any(|(past, ..)| past == nonce)
    }

    fn bury(&mut self, nonce: Nonce, drawn: Timestamp, fate: Fate) {
        if self.past.len() == MOST_PAST {
            self.past.pop_front();
        }
        self.past.push_back((nonce, drawn, fate));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STALE: Millis = Millis(8_000);

    fn nonce(n: u128) -> Nonce {
        Nonce::from_random(n)
    }

    fn asked(count: u128) -> Asked {
        let mut asked = Asked::default();
        (0..count).for_each(|n| asked.ask(nonce(n), Timestamp(n as i64)));
        asked
    }

    fn misdeed(misdeed: Misdeed) -> Result<Timestamp, Uncounted> {
        Err(Uncounted::Misdeed(misdeed))
    }

    #[test]
    fn an_answer_that_crosses_a_newer_question_counts() {
        let mut asked = asked(3);
        assert_eq!(asked.answer(&nonce(1), Timestamp(9), STALE), Ok(Timestamp(1)));
        assert_eq!(asked.answer(&nonce(2), Timestamp(9), STALE), Ok(Timestamp(2)));
    }

    #[test]
    fn every_other_answer_is_told_apart() {
        let mut asked = asked(3);
        assert_eq!(asked.answer(&nonce(1), Timestamp(10), STALE), Ok(Timestamp(1)));
        let after = Millis(9);
        assert_eq!(asked.answer(&nonce(1), Timestamp(10), STALE), misdeed(Misdeed::AnsweredBefore { after }));
        let after = Millis(10);
        assert_eq!(asked.answer(&nonce(0), Timestamp(10), STALE), misdeed(Misdeed::Overtaken { after }));
        assert_eq!(asked.answer(&nonce(77), Timestamp(10), STALE), misdeed(Misdeed::NeverAsked));
        asked.end();
        let after = Millis(8);
        assert_eq!(asked.answer(&nonce(2), Timestamp(10), STALE), misdeed(Misdeed::EarlierSession { after }));
    }

    #[test]
    fn a_slow_agent_is_no_liar_and_one_that_held_its_answer_back_is() {
        let mut asked = asked(MOST_OUT as u128 + 1);
        assert_eq!(asked.answer(&nonce(0), Timestamp(8_000), STALE), Err(Uncounted::Slow));
        let after = Millis(8_001);
        assert_eq!(asked.answer(&nonce(0), Timestamp(8_001), STALE), misdeed(Misdeed::Late { after }));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let asked = asked(10_000);
        assert_eq!((asked.out.len(), asked.past.len()), (MOST_OUT, MOST_PAST));
        assert!(asked.knows(&nonce(9_999)) && !asked.knows(&nonce(1)));
    }
}
