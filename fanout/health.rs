//! Health checks: each downstream of a listener that wants them is sent a probe now and then, and is out of turn after
//! so many that failed in a row.
//!
//! `icmp` sends an echo request, which has to be answered; `udp` an empty datagram to the port, which must not be
//! refused: syslog receivers make nothing of an empty one. The kernel finds the way, as it would for any process.
//! Whatever the number of downstreams, there is one socket for each way and family, and none of them blocks.

mod echo;
mod probe;

use std::{
    collections::HashMap,
    io,
    net::{SocketAddr, UdpSocket},
    os::fd::{AsFd, BorrowedFd},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use self::{echo::Echo, probe::Probe};
use crate::{
    config::{Check, Health},
    sys::udp,
};

/// What is due is done together so often at most.
const TICK: Duration = Duration::from_millis(5);
/// After the kernel had no room for a probe.
const NO_ROOM: Duration = Duration::from_millis(50);

/// Whose probes: those of a downstream's address for a listener, by its slot. In the order of addresses, for that is
/// what an answer names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Where the downstream is.
    pub address: SocketAddr,
    /// The listener's slot.
    pub listener: u32,
}

/// Probes all downstreams.
#[derive(Debug)]
pub struct Prober {
    /// In the order of the keys.
    probes: Vec<(Key, Probe)>,
    /// IPv4, IPv6.
    echo: [Option<Echo>; 2],
    udp: [Option<UdpSocket>; 2],
    /// Of the last probe.
    number: u32,
    token: u64,
}

impl Default for Prober {
    fn default() -> Self {
        let time = SystemTime::now().duration_since(UNIX_EPOCH);
        #[expect(clippy::cast_possible_truncation, reason = "the lower bits differ")]
        let nanoseconds = time.unwrap_or_default().as_nanos() as u64;
        Self {
            probes: Vec::new(),
            echo: [None, None],
            udp: [None, None],
            number: 0,
            token: nanoseconds ^ u64::from(std::process::id()) << 48,
        }
    }
}

impl Prober {
    /// Opens what `check` of a family needs, if it is not open yet.
    ///
    /// # Errors
    /// `EPERM` or `EACCES` if the process may not send echo requests.
    pub fn open(&mut self, check: Check, ipv6: bool) -> io::Result<()> {
        let family = usize::from(ipv6);
        match check {
            Check::Icmp if self.echo[family].is_none() => {
                self.echo[family] = Some(Echo::open(ipv6, self.token)?);
            }
            Check::Udp if self.udp[family].is_none() => {
                let socket = udp::open(ipv6)?;
                udp::keep_answers(socket.as_fd(), ipv6)?;
                let socket = UdpSocket::from(socket);
                socket.set_nonblocking(true)?;
                self.udp[family] = Some(socket);
            }
            _ => {}
        }
        Ok(())
    }

    /// From now on these are probed. What is known of those that were before stays; the others are in turn until
    /// probes fail. First probes are spread over an interval.
    pub fn follow(&mut self, wanted: impl Iterator<Item = (Key, Health)>, now: Instant) {
        let before = std::mem::take(&mut self.probes);
        let mut before: HashMap<_, _> = before.into_iter().collect();
        let mut wanted: Vec<_> = wanted
            .filter(|(_, health)| health.check != Check::Off)
            .collect();
        wanted.sort_unstable_by_key(|&(key, _)| key);
        wanted.dedup_by_key(|&mut (key, _)| key);
        let count = u32::try_from(wanted.len()).unwrap_or(u32::MAX);
        let probes = (0..).zip(wanted).map(|(place, (key, health))| {
            let probe = match before.remove(&key) {
                Some(probe) if probe.check() == health.check => probe.with(health),
                _ => Probe::new(health, now + health.interval / count * place),
            };
            (key, probe)
        });
        self.probes = probes.collect();
    }

    /// Why a downstream is out of turn, if it is.
    #[must_use]
    pub fn down(&self, key: Key) -> Option<&str> {
        let place = self.probes.binary_search_by_key(&key, |&(key, _)| key);
        self.probes.get(place.ok()?)?.1.down()
    }

    /// Takes the answers that came, and sends what is due. Whether a downstream goes out of turn, or back.
    pub fn step(&mut self, now: Instant) -> bool {
        let mut changed = self.take_answers(now);
        for place in 0..self.probes.len() {
            let (key, probe) = &mut self.probes[place];
            changed |= probe.look_at_clock(now);
            if !probe.is_due(now) {
                continue;
            }
            self.number = self.number.wrapping_add(1);
            let (to, check, number) = (key.address, probe.check(), self.number);
            let sent = self.send(check, to, number);
            let (_, probe) = &mut self.probes[place];
            match sent {
                Ok(()) => probe.sent(number, now),
                Err(error) if is_ours(&error) => probe.put_off(now + NO_ROOM),
                Err(error) => changed |= probe.fail(&words(&error), now),
            }
        }
        changed
    }

    /// When [`step`](Self::step) has something to do, if no answer comes before.
    #[must_use]
    pub fn deadline(&self, now: Instant) -> Option<Instant> {
        let deadlines = self.probes.iter().map(|(_, probe)| probe.deadline());
        Some(deadlines.min()?.max(now + TICK))
    }

    /// What becomes readable when an answer comes.
    pub fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let echo = self.echo.iter().flatten().map(AsFd::as_fd);
        echo.chain(self.udp.iter().flatten().map(AsFd::as_fd))
    }

    fn send(&self, check: Check, to: SocketAddr, number: u32) -> io::Result<()> {
        let family = usize::from(to.is_ipv6());
        match (check, &self.echo[family], &self.udp[family]) {
            (Check::Icmp, Some(echo), _) => echo.request(to.ip(), number),
            // An error may be that of a datagram which went before: then trying again helps.
            (Check::Udp, _, Some(socket)) => (socket.send_to(&[], to))
                .or_else(|_| socket.send_to(&[], to))
                .map(drop),
            _ => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn take_answers(&mut self, now: Instant) -> bool {
        let mut changed = false;
        for echo in self.echo.iter().flatten() {
            for (from, number) in echo.replies() {
                let probes = of(&mut self.probes, SocketAddr::new(from, 0), u16::MAX);
                for probe in probes.filter(|probe| probe.awaits(number)) {
                    changed |= probe.succeed(now);
                }
            }
        }
        for socket in self.udp.iter().flatten() {
            for (to, error) in udp::answers(socket.as_fd()) {
                let Some(to) = to else { continue };
                let probes = of(&mut self.probes, to, to.port());
                let udp =
                    probes.filter(|probe| probe.check() == Check::Udp && probe.is_under_way());
                for probe in udp {
                    changed |= probe.fail(&words(&error), now);
                }
            }
            // What a downstream says to an empty datagram is of no interest.
            while socket.recv(&mut [0]).is_ok() {}
        }
        changed
    }
}

/// The probes of `first` and the ports up to `last`.
fn of(
    probes: &mut [(Key, Probe)],
    first: SocketAddr,
    last: u16,
) -> impl Iterator<Item = &mut Probe> {
    let begin = probes.partition_point(|(key, _)| key.address < first);
    let is_one = move |(key, _): &&mut (Key, Probe)| {
        key.address.ip() == first.ip() && key.address.port() <= last
    };
    let probes = probes[begin..].iter_mut().take_while(is_one);
    probes.map(|(_, probe)| probe)
}

/// Whether it is the host that has no room, and not the downstream that can't be reached.
fn is_ours(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOBUFS | libc::ENOMEM))
        || error.kind() == io::ErrorKind::WouldBlock
}

/// What the log says of a failure.
fn words(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::ECONNREFUSED) => "port unreachable".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests;
