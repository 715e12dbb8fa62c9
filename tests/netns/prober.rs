//! Health checks of real neighbours, by the library itself.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use fanout::{
    config::{Check, Health},
    health::{Key, Prober},
    sys::socket::PollSet,
};

use crate::{common::namespace::Namespace, harness::Suite};

pub fn register(suite: &mut Suite) {
    suite.test("prober::echo_by_raw_socket", || echo("1 0"));
    suite.test("prober::echo_by_icmp_socket", || echo("0 2147483647"));
    suite.test("prober::closed_ports", closed_ports);
    suite.test("prober::a_thousand", a_thousand);
}

const HEALTH: Health = Health {
    check: Check::Icmp,
    interval: Duration::from_millis(400),
    timeout: Duration::from_millis(200),
    failures: 3,
};
/// Beyond what is promised, for a machine that has other things to do.
const SLACK: Duration = Duration::from_secs(3);

/// A host, and a peer that has 2 and all addresses from 10.1.0.0 on.
fn network() -> (Namespace, Namespace) {
    let (host, peer) = (Namespace::new("host"), Namespace::new("peer"));
    host.ip(&format!(
        "link add p0 type veth peer name e0 netns {}\nlink set p0 up\naddr add 10.0.0.1/24 dev p0\n\
         addr add fd00::1/64 dev p0 nodad\nroute add 10.1.0.0/16 via 10.0.0.2",
        peer.name()
    ));
    peer.ip(
        "link set e0 up\naddr add 10.0.0.2/24 dev e0\naddr add fd00::2/64 dev e0 nodad\n\
         route add local 10.1.0.0/16 dev lo",
    );
    (host, peer)
}

struct Probing {
    prober: Prober,
    keys: Vec<Key>,
}

impl Probing {
    fn start(addresses: impl Iterator<Item = SocketAddr>, health: Health) -> Self {
        let listener = 0;
        let keys: Vec<_> = addresses.map(|address| Key { address, listener }).collect();
        let mut prober = Prober::default();
        for key in &keys {
            let ipv6 = key.address.is_ipv6();
            prober.open(health.check, ipv6).expect("a socket");
        }
        let wanted = keys.iter().map(|&key| (key, health));
        prober.follow(wanted, Instant::now());
        Self { prober, keys }
    }

    fn down(&self) -> usize {
        let down = |key: &&Key| self.prober.down(**key).is_some();
        self.keys.iter().filter(down).count()
    }

    fn step(&mut self) {
        self.prober.step(Instant::now());
        let now = Instant::now();
        let wait = self.prober.deadline(now).expect("something to do") - now;
        let mut poll = PollSet::new(self.prober.fds());
        poll.wait(wait).expect("poll").for_each(drop);
    }

    fn run(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.step();
        }
    }

    /// Goes on until so many are out of turn, for as long as that may take.
    fn until(&mut self, down: usize, limit: Duration) {
        let start = Instant::now();
        while self.down() != down {
            assert!(start.elapsed() < limit + SLACK, "{} of {down}", self.down());
            self.step();
        }
        println!("{down} down after {:?}", start.elapsed());
    }
}

fn echo(group_range: &str) {
    let (host, peer) = network();
    host.sysctl("net/ipv4/ping_group_range", group_range);
    let addresses = ["10.0.0.2:514", "10.1.0.7:514", "[fd00::2]:514"];
    let addresses = addresses.map(|address| address.parse().expect("an address"));
    host.enter(|| {
        let mut probing = Probing::start(addresses.into_iter(), HEALTH);
        // Somebody else's replies must not count as ours.
        let ping = || {
            let count = ["-c", "50", "-i", "0.02", "-W", "0.1", "-q"];
            let mut ping = host.command("ping");
            ping.args(count).arg("10.0.0.2").output().expect("ping");
        };
        std::thread::scope(|scope| {
            scope.spawn(ping);
            probing.run(HEALTH.interval * 5);
        });
        assert_eq!(probing.down(), 0, "all answer");
        peer.sysctl("net/ipv4/icmp_echo_ignore_all", "1");
        probing.until(2, HEALTH.interval * 3);
        peer.sysctl("net/ipv6/icmp/echo_ignore_all", "1");
        probing.until(3, HEALTH.interval * 3);
        for key in &probing.keys {
            assert_eq!(probing.prober.down(*key), Some("no echo reply"));
        }
        peer.sysctl("net/ipv4/icmp_echo_ignore_all", "0");
        peer.sysctl("net/ipv6/icmp/echo_ignore_all", "0");
        probing.until(0, HEALTH.interval);
        peer.ip("link set e0 down");
        probing.until(3, HEALTH.interval * 3);
        peer.ip("link set e0 up\naddr replace fd00::2/64 dev e0 nodad");
        probing.until(0, HEALTH.interval);
    });
}

fn closed_ports() {
    let (host, peer) = network();
    let addresses = ["10.0.0.2:514", "[fd00::2]:514"];
    let addresses = addresses.map(|address| address.parse::<SocketAddr>().expect("an address"));
    let bind = |address: SocketAddr| std::net::UdpSocket::bind(address).expect("bind");
    // Not more often than the peer's kernel says so (icmp_ratelimit).
    let health = Health {
        check: Check::Udp,
        interval: Duration::from_millis(1_500),
        timeout: Duration::from_millis(200),
        failures: 2,
    };
    let sockets = peer.enter(|| addresses.map(bind));
    host.enter(|| {
        let mut probing = Probing::start(addresses.into_iter(), health);
        probing.run(health.interval * 2);
        assert_eq!(probing.down(), 0, "somebody listens");
        drop(sockets);
        probing.until(2, health.interval * 2);
        for key in &probing.keys {
            assert_eq!(probing.prober.down(*key), Some("port unreachable"));
        }
        probing.run(health.interval * 2);
        assert_eq!(probing.down(), 2, "still nobody");
        let _sockets = peer.enter(|| addresses.map(bind));
        probing.until(0, health.interval);
    });
}

/// All of them die at once, and return.
fn a_thousand() {
    let (host, peer) = network();
    let addresses = (0..1024u16).map(|n| {
        let [high, low] = n.to_be_bytes();
        SocketAddr::from(([10, 1, high, low], 514))
    });
    let health = Health {
        interval: Duration::from_secs(1),
        timeout: Duration::from_millis(500),
        ..HEALTH
    };
    host.enter(|| {
        let mut probing = Probing::start(addresses, health);
        probing.run(health.interval * 3);
        assert_eq!(probing.down(), 0, "all answer");
        peer.sysctl("net/ipv4/icmp_echo_ignore_all", "1");
        probing.until(1024, health.interval * 3);
        peer.sysctl("net/ipv4/icmp_echo_ignore_all", "0");
        probing.until(0, health.interval);
    });
}
