//! One downstream's probes: when each is due, and what they come to.
//!
//! What the config promises, with the interval I, the timeout T and n failures: out of turn n × I after the downstream
//! died, back in turn I after it returned. It dies right after a probe was answered, at worst. An echo request that
//! stays unanswered is known as such after T, so n of them have to begin within n × I - T: one each I - T / n. A
//! datagram that is not refused is known as such after T, so one has to begin within I - T of the return.

use std::time::{Duration, Instant};

use crate::config::{Check, Health};

/// The probes of one downstream.
#[derive(Debug)]
pub(super) struct Probe {
    health: Health,
    turn: Turn,
    /// In a row.
    failures: u32,
    /// Why it is out of turn.
    down: Option<String>,
}

#[derive(Clone, Copy, Debug)]
enum Turn {
    /// The next probe is due then.
    Due(Instant),
    /// This one was sent then.
    Sent(u32, Instant),
}

impl Probe {
    /// In turn until probes fail, the first of which is due at `first`.
    pub(super) fn new(health: Health, first: Instant) -> Self {
        Self {
            health,
            turn: Turn::Due(first),
            failures: 0,
            down: None,
        }
    }

    /// The same with other settings.
    pub(super) fn with(self, health: Health) -> Self {
        Self { health, ..self }
    }

    pub(super) fn check(&self) -> Check {
        self.health.check
    }

    /// Why the downstream is out of turn, if it is.
    pub(super) fn down(&self) -> Option<&str> {
        self.down.as_deref()
    }

    /// From one probe to the next.
    fn period(&self) -> Duration {
        let Health {
            check,
            interval,
            timeout,
            failures,
        } = self.health;
        let sooner = match check {
            Check::Udp => timeout,
            Check::Icmp | Check::Off => timeout / failures,
        };
        interval.saturating_sub(sooner.min(interval / 2))
    }

    /// When there is something to do.
    pub(super) fn deadline(&self) -> Instant {
        match self.turn {
            Turn::Due(due) => due,
            Turn::Sent(_, since) => since + self.health.timeout,
        }
    }

    /// Whether a probe is to be sent.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        matches!(self.turn, Turn::Due(due) if due <= now)
    }

    /// Whether that probe is under way.
    pub(super) fn awaits(&self, number: u32) -> bool {
        matches!(self.turn, Turn::Sent(sent, _) if sent == number)
    }

    /// Whether any is.
    pub(super) fn is_under_way(&self) -> bool {
        matches!(self.turn, Turn::Sent(..))
    }

    /// Notes that the probe `number` was sent.
    pub(super) fn sent(&mut self, number: u32, now: Instant) {
        self.turn = Turn::Sent(number, now);
    }

    /// Notes that none could be sent, through no fault of the downstream's.
    pub(super) fn put_off(&mut self, until: Instant) {
        self.turn = Turn::Due(until);
    }

    /// Notes that the time of the probe under way is over, if it is. Whether the downstream goes out of turn, or
    /// back.
    pub(super) fn look_at_clock(&mut self, now: Instant) -> bool {
        match (self.turn, self.health.check) {
            (Turn::Sent(..), _) if now < self.deadline() => false,
            (Turn::Sent(..), Check::Udp) => self.succeed(now),
            (Turn::Sent(..), _) => self.fail("no echo reply", now),
            _ => false,
        }
    }

    /// Notes a success. Whether the downstream goes back into turn.
    pub(super) fn succeed(&mut self, now: Instant) -> bool {
        self.end(now);
        self.failures = 0;
        self.down.take().is_some()
    }

    /// Notes a failure. Whether the downstream goes out of turn.
    pub(super) fn fail(&mut self, why: &str, now: Instant) -> bool {
        self.end(now);
        self.failures = self.failures.saturating_add(1);
        let goes = self.failures >= self.health.failures && self.down.is_none();
        if goes {
            self.down = Some(why.to_owned());
        }
        goes
    }

    fn end(&mut self, now: Instant) {
        let since = match self.turn {
            Turn::Sent(_, since) => since,
            Turn::Due(_) => now,
        };
        self.turn = Turn::Due(since + self.period());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const DEFAULT: Health = Health {
        check: Check::Icmp,
        interval: Duration::from_secs(5),
        timeout: Duration::from_secs(2),
        failures: 3,
    };

    /// How long it takes from the end of a good probe on until the downstream, which is dead then, goes out; and
    /// how long from the end of a bad one until it is back, alive again.
    fn out_and_back(health: Health) -> [Duration; 2] {
        let start = Instant::now();
        let mut probe = Probe::new(health, start);
        let run = |probe: &mut Probe, mut now: Instant, alive: bool| {
            let begin = now;
            loop {
                now = now.max(probe.deadline());
                if probe.is_due(now) {
                    probe.sent(7, now);
                    assert!(probe.awaits(7) && !probe.awaits(8));
                }
                let changed = match (health.check, alive) {
                    (Check::Icmp, true) => probe.succeed(now),
                    (Check::Udp, false) => probe.fail("port unreachable", now),
                    _ => {
                        now = probe.deadline();
                        probe.look_at_clock(now)
                    }
                };
                if changed {
                    return (now, now - begin);
                }
            }
        };
        probe.sent(1, start);
        probe.succeed(start);
        let (now, out) = run(&mut probe, start, false);
        assert!(probe.down().is_some());
        let (_, back) = run(&mut probe, now, true);
        assert_eq!(probe.down(), None);
        // A third of a second is less than that by a nanosecond.
        [out, back].map(|time| time.saturating_sub(Duration::from_micros(1)))
    }

    #[test]
    fn out_and_back_in_the_promised_time() {
        for check in [Check::Icmp, Check::Udp] {
            for failures in [1, 2, 3, 10] {
                for timeout in [Duration::from_millis(10), SECOND, 2 * SECOND] {
                    let health = Health {
                        check,
                        timeout,
                        failures,
                        ..DEFAULT
                    };
                    let [out, back] = out_and_back(health);
                    assert!(out <= health.interval * failures, "{health:?}: {out:?}");
                    assert!(
                        out > health.interval * (failures - 1) / 2,
                        "{health:?}: {out:?}"
                    );
                    assert!(back <= health.interval, "{health:?}: {back:?}");
                }
            }
        }
    }

    #[test]
    fn a_success_in_between_begins_the_count_anew() {
        let now = Instant::now();
        let mut probe = Probe::new(DEFAULT, now);
        for _ in 0..10 {
            assert!(!probe.fail("no echo reply", now));
            assert!(!probe.fail("no echo reply", now));
            assert!(!probe.succeed(now));
        }
        assert!(!probe.fail("a", now) && !probe.fail("b", now) && probe.fail("c", now));
        assert!(!probe.fail("d", now), "said once");
        assert_eq!(probe.down(), Some("c"));
        assert!(probe.succeed(now) && !probe.succeed(now));
    }

    /// A timeout longer than the interval: one probe waits for the other.
    #[test]
    fn never_two_at_once() {
        let start = Instant::now();
        let health = Health {
            timeout: 10 * SECOND,
            ..DEFAULT
        };
        let mut probe = Probe::new(health, start);
        probe.sent(1, start);
        assert!(!probe.is_due(start + 9 * SECOND) && probe.is_under_way());
        assert!(!probe.look_at_clock(start + 9 * SECOND));
        assert!(probe.is_under_way());
        probe.look_at_clock(start + 10 * SECOND);
        assert!(probe.is_due(start + 10 * SECOND));
    }
}
