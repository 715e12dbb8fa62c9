//! One name: when it is asked for, and what the log says of the answers.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use log::{info, warn};

use super::{Outcome, Question};
use crate::sys::names::NoAddress;

/// How soon a look-up that found nothing is followed by another: at first, then twice as long each time, up to
/// the interval.
const RETRY: Duration = Duration::from_secs(1);
/// How long a look-up may take before it counts as failed.
const LIMIT: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Name {
    interval: Duration,
    /// Of the last answer.
    addresses: Vec<IpAddr>,
    state: State,
    /// How long after a look-up that finds nothing there is another.
    retry: Duration,
    turn: Turn,
}

#[derive(Clone, Copy, Debug)]
enum Turn {
    /// To be asked then.
    Due(Instant),
    /// Asked since then.
    Asked(Instant),
    /// Asked since then, and no longer waited for.
    GivenUp(Instant),
}

/// What the last look-up came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Untried,
    Found,
    /// The answer is that there is none.
    Empty,
    /// There is no answer.
    Failing,
}

impl Name {
    pub(super) fn new(interval: Duration, now: Instant) -> Self {
        Self {
            interval,
            addresses: Vec::new(),
            state: State::Untried,
            retry: RETRY,
            turn: Turn::Due(now),
        }
    }

    /// The same with another interval.
    pub(super) fn every(self, interval: Duration) -> Self {
        Self { interval, ..self }
    }

    /// Shortens the interval.
    pub(super) fn hasten(&mut self, interval: Duration) {
        self.interval = self.interval.min(interval);
    }

    pub(super) fn addresses(&self) -> &[IpAddr] {
        &self.addresses
    }

    pub(super) fn is_asked(&self) -> bool {
        !matches!(self.turn, Turn::Due(_))
    }

    pub(super) fn is_tried(&self) -> bool {
        self.state != State::Untried
    }

    /// When there is something to do: to ask, or to stop waiting.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.turn {
            Turn::Due(due) => Some(due),
            Turn::Asked(since) => Some(since + LIMIT),
            Turn::GivenUp(_) => None,
        }
    }

    pub(super) fn ask(&mut self, now: Instant) {
        self.turn = Turn::Asked(now);
    }

    /// Stops waiting if it took too long. When the answer comes, it is taken all the same.
    pub(super) fn look_at_clock(&mut self, question: &Question, now: Instant) {
        if let Turn::Asked(since) = self.turn
            && now >= since + LIMIT
        {
            self.turn = Turn::GivenUp(since);
            self.fail(question, &format!("no answer in {} s", LIMIT.as_secs()));
        }
    }

    /// Takes the answer, or that there is none. Whether it differs from the one before.
    pub(super) fn take(&mut self, question: &Question, outcome: Outcome, now: Instant) -> bool {
        let asked = match self.turn {
            Turn::Asked(since) | Turn::GivenUp(since) => since,
            Turn::Due(_) => now,
        };
        let before = std::mem::take(&mut self.addresses);
        let wait = match outcome {
            Ok(mut addresses) => {
                addresses.sort_unstable();
                addresses.dedup();
                self.addresses = addresses;
                self.find(question);
                self.interval
            }
            Err(why) => {
                let wait = self.retry.min(self.interval);
                self.retry = wait.saturating_mul(2);
                if let NoAddress::None = why {
                    self.lose(question, before.len(), &why.to_string());
                } else {
                    self.addresses.clone_from(&before);
                    self.fail(question, &why.to_string());
                }
                wait
            }
        };
        // So often, however long the answers take.
        self.turn = Turn::Due((asked + wait).max(now));
        self.addresses != before
    }

    fn find(&mut self, question: &Question) {
        self.retry = RETRY;
        let count = self.addresses.len();
        match self.enter(State::Found) {
            State::Failing | State::Empty => {
                info!("name resolves again {question} addresses={count}");
            }
            _ => {}
        }
    }

    /// To send on to addresses that the name has no longer would be to send to whoever has them next.
    fn lose(&mut self, question: &Question, before: usize, why: &str) {
        if self.enter(State::Empty) != State::Empty {
            warn!("name has no address {question} before={before} reason=\"{why}\"");
        }
    }

    fn fail(&mut self, question: &Question, why: &str) {
        if self.enter(State::Failing) != State::Failing {
            let count = self.addresses.len();
            warn!(
                "name can't be resolved, its addresses stay {question} addresses={count} reason=\"{why}\""
            );
        }
    }

    /// The state before.
    fn enter(&mut self, state: State) -> State {
        std::mem::replace(&mut self.state, state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(30);

    fn asked(name: &mut Name, outcome: Outcome, now: Instant) -> (bool, Duration) {
        let host = "vector".to_owned();
        let question = Question { host, ipv6: false };
        name.ask(now);
        let changed = name.take(&question, outcome, now);
        (changed, name.deadline().unwrap() - now)
    }

    fn addresses(last: &[u8]) -> Vec<IpAddr> {
        last.iter().map(|&last| [10, 42, 0, last].into()).collect()
    }

    #[test]
    fn answers_are_sorted_and_each_address_counts_once() {
        let now = Instant::now();
        let mut name = Name::new(INTERVAL, now);
        assert_eq!(
            asked(&mut name, Ok(addresses(&[3, 1, 3, 2])), now),
            (true, INTERVAL)
        );
        assert_eq!(name.addresses, addresses(&[1, 2, 3]));
        assert_eq!(
            asked(&mut name, Ok(addresses(&[2, 1, 3])), now),
            (false, INTERVAL)
        );
        assert_eq!(asked(&mut name, Ok(addresses(&[1])), now), (true, INTERVAL));
    }

    #[test]
    fn without_an_answer_the_last_one_stays_and_it_is_asked_again_soon() {
        let now = Instant::now();
        let mut name = Name::new(INTERVAL, now);
        asked(&mut name, Ok(addresses(&[1])), now);
        for seconds in [1, 2, 4, 8, 16, 30, 30] {
            let failed = asked(&mut name, Err(NoAddress::NoAnswer), now);
            assert_eq!(failed, (false, Duration::from_secs(seconds)));
            assert_eq!(name.state, State::Failing);
        }
        assert_eq!(
            asked(&mut name, Ok(addresses(&[1])), now),
            (false, INTERVAL)
        );
        assert_eq!(name.state, State::Found);
        let failed = asked(&mut name, Err(NoAddress::Refused), now);
        assert_eq!(failed, (false, RETRY), "from the beginning");
    }

    #[test]
    fn that_there_is_no_address_is_an_answer() {
        let now = Instant::now();
        let mut name = Name::new(INTERVAL, now);
        asked(&mut name, Ok(addresses(&[1])), now);
        assert_eq!(asked(&mut name, Err(NoAddress::None), now), (true, RETRY));
        assert_eq!((name.addresses.len(), name.state), (0, State::Empty));
        let again = asked(&mut name, Err(NoAddress::None), now);
        assert_eq!(again, (false, 2 * RETRY));
        assert!(asked(&mut name, Ok(addresses(&[1])), now).0);
    }

    /// Slow answers don't make it rarer, but none is asked for before the last came.
    #[test]
    fn a_look_up_that_hangs_is_given_up_and_its_answer_taken() {
        let (start, host) = (Instant::now(), "vector".to_owned());
        let question = Question { host, ipv6: false };
        let mut name = Name::new(INTERVAL, start);
        name.ask(start);
        assert_eq!(name.deadline(), Some(start + LIMIT));
        name.look_at_clock(&question, start + LIMIT / 2);
        assert!(!name.is_tried());
        name.look_at_clock(&question, start + LIMIT);
        assert_eq!((name.state, name.deadline()), (State::Failing, None));
        assert!(name.is_asked() && name.is_tried());
        let late = start + 2 * INTERVAL;
        assert!(name.take(&question, Ok(addresses(&[1])), late));
        assert_eq!((name.state, name.deadline()), (State::Found, Some(late)));
    }
}
