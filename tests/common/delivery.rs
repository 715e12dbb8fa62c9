//! Traffic through a topology, and what became of every datagram.

use std::{net::SocketAddr, num::NonZero, thread};

use super::{
    flight::Flight,
    mode::Mode,
    namespace::Namespace,
    receiver::{Received, Receiver},
    sender::{Sent, Traffic},
    topology::{Family, Topology},
};

/// What was sent, what each receiver got, and what the receivers' kernels threw away.
#[derive(Debug)]
pub struct Delivery {
    /// The sender's book.
    pub sent: Sent,
    /// The receivers' books.
    pub received: Vec<Received>,
    /// Datagrams with a wrong checksum, by the receivers' kernels.
    pub bad_checksums: u64,
    /// Datagrams for which a receiver's buffer had no room.
    pub no_room: u64,
}

/// Sends `traffic` from the topology's sender, with all its receivers listening.
pub fn of(network: &Topology, family: Family, traffic: &Traffic) -> Delivery {
    let all = network.downstreams(family);
    between(&network.sender.namespace, &all, traffic)
}

/// Sends `traffic` from `sender`, with a receiver at each of `addresses`.
pub fn between(
    sender: &Namespace,
    addresses: &[(&Namespace, SocketAddr)],
    traffic: &Traffic,
) -> Delivery {
    with(addresses, |flight| traffic.send_watching(sender, flight))
}

/// Has a receiver at each of `addresses` while `traffic` runs.
pub fn with(
    addresses: &[(&Namespace, SocketAddr)],
    traffic: impl FnOnce(&Flight) -> Sent,
) -> Delivery {
    let faults = || Faults::of(addresses);
    let before = faults();
    let listen =
        |&(namespace, address): &(&Namespace, SocketAddr)| Receiver::start(namespace, address);
    let receivers: Vec<_> = addresses.iter().map(listen).collect();
    let sent = traffic(&Flight::new(&receivers));
    let received = receivers.into_iter().map(Receiver::finish).collect();
    let after = faults();
    Delivery {
        sent,
        received,
        bad_checksums: after.bad_checksums - before.bad_checksums,
        no_room: after.no_room - before.no_room,
    }
}

struct Faults {
    bad_checksums: u64,
    no_room: u64,
}

impl Faults {
    /// Of all receivers; two in one namespace count double, which is no matter where 0 is right.
    fn of(addresses: &[(&Namespace, SocketAddr)]) -> Self {
        let sum = |name: &str| {
            let count = |&(namespace, address): &(&Namespace, SocketAddr)| {
                namespace.counter(if address.is_ipv4() { "Udp" } else { "Udp6" }, name)
            };
            addresses.iter().map(count).sum()
        };
        Self {
            bad_checksums: sum("InCsumErrors"),
            no_room: sum("RcvbufErrors"),
        }
    }
}

impl Delivery {
    /// Datagrams of the right payload, each counted once.
    pub fn arrived(&self) -> u64 {
        self.received.iter().map(|r| r.count - r.duplicates).sum()
    }

    /// Datagrams that reached no receiver.
    pub fn lost(&self) -> u64 {
        let came = |flow, sequence| self.takers(flow, sequence).next().is_some();
        let missing =
            |(&count, flow): (&u32, u32)| (0..count).filter(|&s| !came(flow, s)).count() as u64;
        self.sent.flows.iter().zip(0..).map(missing).sum()
    }

    /// Which receivers got a datagram.
    pub fn takers(&self, flow: u32, sequence: u32) -> impl Iterator<Item = usize> {
        let got = move |r: &Received| r.flows.get(&flow).is_some_and(|f| f.contains(sequence));
        (0..self.received.len()).filter(move |&i| got(&self.received[i]))
    }

    /// Nothing lost, nothing twice, nothing changed, every source kept, and on to the next receiver
    /// with each datagram. For one flow.
    pub fn assert_perfect(&self) {
        self.assert_whole();
        self.assert_source_kept();
        self.assert_in_turn();
    }

    /// The same, but that each CPU may have taken turns by itself: where the sender went from one to another,
    /// the last ones of the first may come after the first ones of the other.
    pub fn assert_perfect_on_each_cpu(&self) {
        self.assert_complete();
        self.assert_source_kept();
        let cpus = thread::available_parallelism().map_or(1, NonZero::get) as u64;
        let counts = self.received.iter().map(|r| r.count);
        let (least, most) = (counts.clone().min(), counts.max());
        assert!(
            most.zip(least).is_some_and(|(m, l)| m - l <= cpus),
            "not even on {cpus} CPUs: {self}"
        );
    }

    /// [`assert_perfect`](Self::assert_perfect), as `mode` takes turns.
    pub fn assert_perfect_in(&self, mode: &Mode) {
        if mode.turns_by_cpu {
            self.assert_perfect_on_each_cpu();
        } else {
            self.assert_perfect();
        }
    }

    /// Nothing lost, nothing twice, nothing changed, and each flow in its order.
    pub fn assert_whole(&self) {
        self.assert_complete();
        for (i, receiver) in self.received.iter().enumerate() {
            assert_eq!(receiver.reordered, 0, "at receiver {i}: {self}");
        }
    }

    /// Nothing lost, nothing twice, nothing changed. Where a sender moves between CPUs, its veth may
    /// change the order.
    pub fn assert_complete(&self) {
        println!("{self}");
        assert_eq!(
            (self.bad_checksums, self.no_room),
            (0, 0),
            "refused by a receiver's kernel: {self}"
        );
        for (i, receiver) in self.received.iter().enumerate() {
            let Received {
                duplicates,
                corrupt,
                ..
            } = receiver;
            assert_eq!((*duplicates, *corrupt), (0, 0), "at receiver {i}: {self}");
        }
        assert_eq!(self.lost(), 0, "lost: {self}");
        assert_eq!(
            self.arrived(),
            self.sent.count(),
            "at two receivers: {self}"
        );
    }

    /// Every datagram came with its sender's address and port.
    pub fn assert_source_kept(&self) {
        for source in self.received.iter().flat_map(|r| r.sources.keys()) {
            assert!(
                self.sent.sources.contains(source),
                "source {source}, not of {:?}",
                self.sent.sources
            );
        }
    }

    /// Receivers' counts differ by at most one, and they take turns datagram by datagram. For one flow.
    pub fn assert_in_turn(&self) {
        let counts: Vec<_> = self.received.iter().map(|r| r.count).collect();
        let (least, most) = (counts.iter().min(), counts.iter().max());
        assert!(
            most.zip(least).is_some_and(|(m, l)| m - l <= 1),
            "not even: {counts:?}"
        );
        let takers: Vec<_> = (0..self.sent.flows[0])
            .filter_map(|s| self.takers(0, s).next())
            .collect();
        let turn = takers.windows(self.received.len()).position(|turn| {
            let mut turn = turn.to_vec();
            turn.sort_unstable();
            turn.windows(2).any(|pair| pair[0] == pair[1])
        });
        assert_eq!(turn, None, "out of turn at this datagram");
    }
}

impl std::fmt::Display for Delivery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let counts: Vec<_> = self.received.iter().map(|r| r.count).collect();
        write!(
            f,
            "sent {} at {:.0}/s, received {counts:?}, {} wrong checksums, {} without room",
            self.sent.count(),
            self.sent.rate(),
            self.bad_checksums,
            self.no_room
        )
    }
}
