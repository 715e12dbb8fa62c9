//! DNS names that stand for downstreams: asked again and again, each with the last answer that it had.
//!
//! A look-up blocks for as long as libc pleases (`/etc/resolv.conf`: `timeout`, `attempts`), so each has a thread that
//! ends with it. One that hangs holds up neither other names nor the end of the process, and there is never another
//! for the same name.

mod name;

use std::{
    collections::BTreeMap,
    ffi::CString,
    fmt,
    io::{self, PipeReader, PipeWriter, Read, Write},
    net::IpAddr,
    os::fd::{AsFd, BorrowedFd},
    sync::mpsc::{self, Receiver, Sender},
    thread,
    time::{Duration, Instant},
};

use self::name::Name;
use crate::sys::names::{self, NoAddress};

/// Most look-ups under way; others wait until one ends.
const MAX_LOOK_UPS: usize = 32;
/// libc takes some tens of KiB.
const STACK: usize = 256 << 10;

/// What is asked for: a host's addresses of one family.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Question {
    /// As the config has it; `/etc/resolv.conf` may complete it.
    pub host: String,
    /// Addresses of IPv6, or else of IPv4.
    pub ipv6: bool,
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let family = if self.ipv6 { "IPv6" } else { "IPv4" };
        write!(f, "host={} family={family}", self.host)
    }
}

/// What a look-up came to.
type Outcome = Result<Vec<IpAddr>, NoAddress>;

/// All names in use.
#[derive(Debug)]
pub struct Names {
    known: BTreeMap<Question, Name>,
    answers: Receiver<(Question, Outcome)>,
    answer: Sender<(Question, Outcome)>,
    /// Holds a byte for each answer.
    bell: PipeReader,
    ring: PipeWriter,
}

impl Names {
    /// Without names.
    ///
    /// # Errors
    /// As pipe(2).
    pub fn new() -> io::Result<Self> {
        let (bell, ring) = io::pipe()?;
        let (answer, answers) = mpsc::channel();
        Ok(Self {
            known: BTreeMap::new(),
            answers,
            answer,
            bell,
            ring,
        })
    }

    /// From now on these are asked for, each at such intervals; those that were before keep their last answers.
    /// Where a question comes twice, the shorter interval holds.
    pub fn follow(&mut self, questions: impl Iterator<Item = (Question, Duration)>, now: Instant) {
        let mut before = std::mem::take(&mut self.known);
        for (question, interval) in questions {
            if let Some(name) = self.known.get_mut(&question) {
                name.hasten(interval);
                continue;
            }
            let name = match before.remove(&question) {
                Some(name) => name.every(interval),
                None => Name::new(interval, now),
            };
            self.known.insert(question, name);
        }
    }

    /// Takes the answers that came, and asks for what is due. Whether an answer differs from the one before.
    pub fn step(&mut self, now: Instant) -> bool {
        let mut changed = false;
        while let Ok((question, outcome)) = self.answers.try_recv() {
            // It was there before the answer.
            let _ = self.bell.read(&mut [0]);
            if let Some(name) = self.known.get_mut(&question) {
                changed |= name.take(&question, outcome, now);
            }
        }
        let mut under_way = self.under_way();
        for (question, name) in &mut self.known {
            if name.is_asked() {
                name.look_at_clock(question, now);
            } else if name.deadline() <= Some(now) && under_way < MAX_LOOK_UPS {
                under_way += 1;
                name.ask(now);
                let started = start_look_up(question, &self.answer, &self.ring);
                if let Err(error) = started {
                    name.take(question, Err(NoAddress::Io(error)), now);
                }
            }
        }
        changed
    }

    /// When [`step`](Self::step) has something to do, if no answer comes before.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let full = self.under_way() >= MAX_LOOK_UPS;
        let names = self.known.values();
        names
            .filter(|name| name.is_asked() || !full)
            .filter_map(Name::deadline)
            .min()
    }

    /// The addresses of the last answer, ascending; none if it had none, or there was none yet.
    #[must_use]
    pub fn addresses(&self, question: &Question) -> &[IpAddr] {
        self.known.get(question).map_or(&[], Name::addresses)
    }

    /// Names whose first look-up has not ended yet, with an answer or without.
    pub fn untried(&self) -> impl Iterator<Item = &Question> {
        let untried = self.known.iter().filter(|(_, name)| !name.is_tried());
        untried.map(|(question, _)| question)
    }

    fn under_way(&self) -> usize {
        self.known.values().filter(|name| name.is_asked()).count()
    }
}

impl AsFd for Names {
    /// Readable while there are answers to take.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}

fn start_look_up(
    question: &Question,
    answer: &Sender<(Question, Outcome)>,
    ring: &PipeWriter,
) -> io::Result<()> {
    let (question, answer, mut ring) = (question.clone(), answer.clone(), ring.try_clone()?);
    let host = CString::new(question.host.as_str())?;
    let look_up = move || {
        let outcome = names::look_up(&host, question.ipv6);
        // The other end of both is gone only when the process is.
        let _ = ring.write(&[0]);
        let _ = answer.send((question, outcome));
    };
    let thread = thread::Builder::new().name("look-up".to_owned());
    thread.stack_size(STACK).spawn(look_up).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::socket;

    const HOUR: Duration = Duration::from_secs(3600);

    fn question(host: &str, ipv6: bool) -> Question {
        let host = host.to_owned();
        Question { host, ipv6 }
    }

    /// Waits for all look-ups; whether an answer was new.
    fn wait(names: &mut Names) -> bool {
        let mut changed = names.step(Instant::now());
        while names.under_way() > 0 {
            socket::wait_readable([names.as_fd()], HOUR).unwrap();
            changed |= names.step(Instant::now());
        }
        changed
    }

    /// Numbers are names that nobody has to be asked for.
    #[test]
    fn asks_each_name_on_a_thread_and_keeps_the_answers() {
        let mut names = Names::new().unwrap();
        let questions = [question("192.0.2.7", false), question("fd00::7", true)];
        let follow = |names: &mut Names| {
            let questions = questions.iter().cloned();
            names.follow(questions.map(|question| (question, HOUR)), Instant::now());
        };
        follow(&mut names);
        assert_eq!(names.untried().count(), 2);
        assert!(names.deadline() <= Some(Instant::now()));
        assert!(wait(&mut names));
        for question in &questions {
            assert_eq!(
                names.addresses(question),
                [question.host.parse::<IpAddr>().unwrap()]
            );
        }
        assert_eq!(names.untried().next(), None);
        follow(&mut names);
        assert!(!wait(&mut names), "asked again before the time");
        assert_eq!(names.addresses(&questions[0]).len(), 1);
        names.follow(std::iter::empty(), Instant::now());
        assert_eq!(
            (names.addresses(&questions[0]).len(), names.deadline()),
            (0, None)
        );
    }

    #[test]
    fn more_names_than_threads_wait_for_each_other() {
        let mut names = Names::new().unwrap();
        let questions = (0..100).map(|n| (question(&format!("192.0.2.{n}"), false), HOUR));
        names.follow(questions.clone(), Instant::now());
        names.step(Instant::now());
        assert_eq!(names.under_way(), MAX_LOOK_UPS);
        let overdue = names.deadline().unwrap();
        assert!(overdue > Instant::now(), "nothing to do but to wait");
        wait(&mut names);
        assert_eq!(names.untried().next(), None);
        assert!(
            questions
                .into_iter()
                .all(|(question, _)| names.addresses(&question).len() == 1)
        );
    }
}
