//! One member of a listener, as the supervisor sees it: its sockets, and whether it is in turn.

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use super::table::{News, NextHop, Way};
use crate::{
    config::Source,
    metrics::DownstreamCounters,
    neighbor::Path,
    roster::Member,
    sys::{datagram, socket, udp},
};

/// How long a downstream that refused is out of turn, and how long it must not refuse to be trusted again.
const TRIAL: Duration = Duration::from_secs(2);
/// What may be on its way to a downstream, in bytes: a batch, as the kernel counts it.
const SEND_BUFFER: u32 = 4 << 20;
/// How long a call waits for a part of that to leave.
const SEND_WAIT_MS: u32 = 10;

#[derive(Debug)]
pub(super) struct Downstream {
    member: Member,
    source: Source,
    state: State,
    /// The way that was taken, or refused for good.
    path: Option<Path>,
    /// One for each worker.
    sides: Vec<Side>,
}

/// Its part in one worker.
#[derive(Debug)]
struct Side {
    socket: Option<Arc<OwnedFd>>,
    news: Arc<News>,
    counters: Arc<DownstreamCounters>,
}

/// What it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing, as it should.
    Fine,
    /// Nobody listens there; out of turn since then.
    Refused(Instant),
    /// In turn again since then.
    OnTrial(Instant),
}

/// What is to be said of a downstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// It refuses.
    Refuses,
    /// It refuses no longer.
    Accepts,
}

impl Downstream {
    pub(super) fn new(
        member: Member,
        source: Source,
        counters: &[Arc<DownstreamCounters>],
    ) -> Self {
        let side = |counters: &Arc<DownstreamCounters>| Side {
            socket: None,
            news: Arc::default(),
            counters: counters.clone(),
        };
        Self {
            member,
            source,
            state: State::Fine,
            path: None,
            sides: counters.iter().map(side).collect(),
        }
    }

    pub(super) fn member(&self) -> &Member {
        &self.member
    }

    /// The same after the member changed: its address is what it was.
    pub(super) fn with(self, member: &Member) -> Self {
        let member = member.clone();
        Self { member, ..self }
    }

    /// Looks anew at the next path, be it the same.
    pub(super) fn forget_path(&mut self) {
        self.path = None;
    }

    /// Takes `path`, if there is one and it is another than before: sockets know their source address
    /// from when they are connected. The kernel finds the next hop's MAC address itself. `everywhere` are the binds of this process to any address.
    ///
    /// # Errors
    /// Why datagrams can't go there.
    pub(super) fn route(
        &mut self,
        path: Option<&Path>,
        everywhere: &[SocketAddr],
    ) -> Result<(), String> {
        let path = path.map(|path| Path {
            mac: None,
            ..path.clone()
        });
        if self.path == path {
            return Ok(());
        }
        self.path.clone_from(&path);
        for side in &mut self.sides {
            side.socket = None;
        }
        let Some(path) = path else {
            return Ok(());
        };
        let to = self.member.address;
        let is_same =
            |bind: &SocketAddr| (bind.is_ipv4(), bind.port()) == (to.is_ipv4(), to.port());
        if everywhere.iter().any(is_same) && self.is_local(&path) {
            return Err("fanout itself has that port of this host: a loop".to_owned());
        }
        for side in &mut self.sides {
            match open(to, self.source) {
                Ok(socket) => side.socket = Some(socket.into()),
                Err(error) => {
                    // The next time may be another story.
                    self.path = None;
                    return Err(format!("no socket: {error}"));
                }
            }
        }
        Ok(())
    }

    /// The kernel sends to a local address from that address.
    fn is_local(&self, path: &Path) -> bool {
        let ip = self.member.address.ip();
        ip.is_loopback() || path.source == Some(ip)
    }

    /// Whether datagrams go there.
    pub(super) fn is_up(&self) -> bool {
        let is_open = self.sides.iter().all(|side| side.socket.is_some());
        self.member.healthy && is_open && !matches!(self.state, State::Refused(_))
    }

    /// What worker number `worker` needs to send there, if datagrams go there.
    pub(super) fn next_hop(&self, worker: usize, overhead: usize) -> Option<NextHop> {
        let side = self.sides.get(worker).filter(|_| self.is_up())?;
        let socket = side.socket.clone()?;
        let way = match self.source {
            Source::Keep => Way::Raw(self.member.address),
            Source::Rewrite => Way::Udp {
                overhead,
                largest_segment: if udp::can_segment(socket.as_fd()).is_ok() {
                    datagram::LARGEST
                } else {
                    0
                },
            },
        };
        Some(NextHop {
            socket,
            way,
            counters: side.counters.clone(),
            news: side.news.clone(),
            count: 0,
            place: 0,
        })
    }

    /// Looks at what the workers heard of it. What changed, and whether that is worth a line.
    pub(super) fn look(&mut self, now: Instant) -> (bool, Option<Change>) {
        let refused = self.any_heard(|news| &news.refused);
        let (state, change) = match self.state {
            State::Fine if refused => (State::Refused(now), Some(Change::Refuses)),
            State::OnTrial(_) if refused => (State::Refused(now), None),
            State::Refused(since) if now.duration_since(since) >= TRIAL => {
                self.forget_errors();
                (State::OnTrial(now), None)
            }
            State::OnTrial(since) if now.duration_since(since) >= TRIAL => {
                (State::Fine, Some(Change::Accepts))
            }
            same => (same, None),
        };
        let before = self.is_up();
        self.state = state;
        (before != self.is_up(), change)
    }

    /// Whether, since it was last asked, a worker heard that the way there can't do segmentation.
    pub(super) fn lost_segmentation(&self) -> bool {
        self.any_heard(|news| &news.unsegmented)
    }

    /// Takes one piece of news from all workers.
    fn any_heard(&self, of: impl Fn(&News) -> &AtomicBool) -> bool {
        let heard = |side: &&Side| of(&side.news).swap(false, Relaxed);
        self.sides.iter().filter(heard).count() > 0
    }

    /// A late answer must not fail the trial.
    fn forget_errors(&self) {
        for socket in self.sides.iter().filter_map(|side| side.socket.as_ref()) {
            udp::answers(socket.as_fd()).for_each(drop);
        }
    }
}

/// A socket connected to `address`: the kernel looks for the way once, and tells of answers.
fn open(address: SocketAddr, source: Source) -> io::Result<OwnedFd> {
    let ipv6 = address.is_ipv6();
    let (socket, to) = match source {
        Source::Rewrite => {
            let socket = udp::open(ipv6)?;
            udp::keep_answers(socket.as_fd(), ipv6)?;
            (socket, address)
        }
        Source::Keep => (socket::raw_ip(ipv6)?, SocketAddr::new(address.ip(), 0)),
    };
    let fd = socket.as_fd();
    // What the host does not give is no fault: less is on its way then.
    udp::make_send_room(fd, SEND_BUFFER)?;
    // Nobody reads what a downstream sends; an answer of the network has room.
    udp::make_receive_room(fd, 0)?;
    udp::limit_send_wait(fd, SEND_WAIT_MS)?;
    udp::connect(fd, to)?;
    Ok(socket)
}
