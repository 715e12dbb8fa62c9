//! Paced UDP traffic out of a namespace, through the kernel's own stack with its offloads as they are.

use std::{
    io::ErrorKind,
    net::{IpAddr, SocketAddr, UdpSocket},
    ops::RangeInclusive,
    os::fd::AsFd,
    panic::resume_unwind,
    sync::atomic::Ordering::Relaxed,
    thread,
    time::{Duration, Instant},
};

use fanout::sys::process;

use super::{
    flight::Flight,
    namespace::Namespace,
    payload::{self, Label},
    sys,
};

/// `linux/udp.h`; not in `libc` for Linux.
const UDP_SEGMENT: i32 = 103;
/// A sender that is this far behind its pace lets the time go: no burst makes up for a pause.
const BEHIND: u32 = 128;

/// What to send.
#[derive(Clone, Debug)]
pub struct Traffic {
    /// Where to.
    pub to: SocketAddr,
    /// Datagrams, over all flows.
    pub count: u32,
    /// Flows, each with a source port of its own.
    pub flows: u32,
    /// Datagrams a second, at most.
    pub rate: u32,
    /// Payload lengths, walked through datagram by datagram.
    pub sizes: RangeInclusive<usize>,
    /// Many at a time as one message that the kernel cuts (`UDP_SEGMENT`); for one size only.
    pub segmented: bool,
}

/// What was sent.
#[derive(Debug)]
pub struct Sent {
    /// Datagrams of each flow.
    pub flows: Vec<u32>,
    /// The source address of each flow.
    pub sources: Vec<SocketAddr>,
    /// How long it took.
    pub elapsed: Duration,
}

impl Sent {
    /// Datagrams, over all flows.
    pub fn count(&self) -> u64 {
        self.flows.iter().map(|&n| u64::from(n)).sum()
    }

    /// Datagrams a second.
    pub fn rate(&self) -> f64 {
        self.count() as f64 / self.elapsed.as_secs_f64()
    }
}

impl Traffic {
    /// One flow of `count` datagrams at something over 50,000 a second, of even and odd lengths.
    pub fn new(to: SocketAddr, count: u32) -> Self {
        Self {
            to,
            count,
            flows: 1,
            rate: 60_000,
            sizes: payload::SHORTEST..=151,
            segmented: false,
        }
    }

    /// Sends all of it from `namespace`, whether it arrives or not.
    pub fn send(&self, namespace: &Namespace) -> Sent {
        self.send_watching(namespace, &Flight::default())
    }

    /// Sends all of it, or what goes out before Ctrl-C, no faster than it arrives.
    pub fn send_watching(&self, namespace: &Namespace, flight: &Flight) -> Sent {
        let thread = || {
            stay_on_one_cpu();
            self.run(flight)
        };
        namespace.enter(|| {
            thread::scope(|scope| scope.spawn(thread).join())
                .unwrap_or_else(|panic| resume_unwind(panic))
        })
    }

    fn run(&self, flight: &Flight) -> Sent {
        let sockets: Vec<_> = (0..self.flows).map(|_| connected(self.to)).collect();
        if self.segmented {
            for socket in &sockets {
                self.segment(socket);
            }
        }
        let mut sent = Sent {
            flows: vec![0; sockets.len()],
            sources: sockets
                .iter()
                .map(|s| s.local_addr().expect("bound"))
                .collect(),
            elapsed: Duration::ZERO,
        };
        let mut datagrams = [const { Vec::new() }; sys::BATCH];
        let start = Instant::now();
        let mut pace = Pace::new(self.rate);
        let (mut total, mut turn) = (0, 0);
        while total < self.count && !sys::INTERRUPTED.load(Relaxed) {
            flight.wait();
            let batch = pace.wait(sys::BATCH as u32).min(self.count - total) as usize;
            let flow = turn % sockets.len();
            for (datagram, i) in datagrams[..batch].iter_mut().zip(0..) {
                let label = Label {
                    flow: flow as u32,
                    sequence: sent.flows[flow] + i,
                };
                payload::write(label, &self.sizes, datagram);
            }
            let gone = if self.segmented {
                send(&sockets[flow], &[datagrams[..batch].concat()]) * batch as u32
            } else {
                send(&sockets[flow], &datagrams[..batch])
            };
            sent.flows[flow] += gone;
            total += gone;
            turn += 1;
            pace.sent(gone);
            flight.send(gone);
        }
        sent.elapsed = start.elapsed();
        sent
    }

    /// Has the kernel cut what `socket` sends into datagrams of the one size.
    fn segment(&self, socket: &UdpSocket) {
        assert_eq!(self.sizes.start(), self.sizes.end(), "of one size");
        let size = i32::try_from(*self.sizes.start()).expect("a datagram");
        sys::set_option(socket.as_fd(), libc::SOL_UDP, UDP_SEGMENT, size).expect("UDP_SEGMENT");
    }
}

/// Says how many may go now.
#[derive(Debug)]
pub struct Pace {
    rate: u32,
    start: Instant,
    sent: u32,
}

impl Pace {
    /// From now on, `rate` a second.
    pub fn new(rate: u32) -> Self {
        Self {
            rate,
            start: Instant::now(),
            sent: 0,
        }
    }

    /// Waits until at least one is due; returns how many are, up to `most`.
    pub fn wait(&mut self, most: u32) -> u32 {
        loop {
            let due = self.start.elapsed().as_nanos() * u128::from(self.rate) / 1_000_000_000;
            let behind = (due as u32).saturating_sub(self.sent);
            if behind > BEHIND {
                self.start += self.duration(behind - BEHIND);
            }
            if behind > 0 {
                return behind.min(most);
            }
            thread::sleep(self.duration(8));
        }
    }

    /// Counts what went.
    pub fn sent(&mut self, count: u32) {
        self.sent += count;
    }

    fn duration(&self, datagrams: u32) -> Duration {
        Duration::from_secs_f64(f64::from(datagrams) / f64::from(self.rate))
    }
}

/// Where a sender moves between CPUs, its veth may change the order.
fn stay_on_one_cpu() {
    let cpus = process::allowed_cpus().expect("CPUs");
    let last = cpus.last().expect("a CPU");
    process::pin_to_cpu(*last).expect("an allowed CPU");
}

fn connected(to: SocketAddr) -> UdpSocket {
    let any: IpAddr = if to.is_ipv4() {
        [0, 0, 0, 0].into()
    } else {
        [0u16; 8].into()
    };
    let socket = UdpSocket::bind((any, 0)).expect("bind");
    socket
        .connect(to)
        .unwrap_or_else(|e| panic!("connect to {to}: {e}"));
    socket
}

/// A refusal is an ICMP error that answered an earlier datagram; this one was not sent.
fn send(socket: &UdpSocket, datagrams: &[Vec<u8>]) -> u32 {
    match sys::send_batch(socket.as_fd(), datagrams) {
        Ok(sent) => sent as u32,
        Err(e) if e.kind() == ErrorKind::ConnectionRefused => 0,
        Err(e) => panic!("sendmmsg: {e}"),
    }
}
