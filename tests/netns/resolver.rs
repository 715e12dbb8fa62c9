//! Routes, next hops and news of them, asked of a real kernel by the library itself.

use std::{
    net::IpAddr,
    thread,
    time::{Duration, Instant},
};

use fanout::{
    events::Events,
    link::{self, Links},
    neighbor::{Path, Resolver, Unreachable},
    netlink::Connection,
};

use crate::{common::namespace::Namespace, harness::Suite};

pub fn register(suite: &mut Suite) {
    suite.test("resolver::neighbour_on_the_link", neighbour_on_the_link);
    suite.test("resolver::behind_routers", behind_routers);
    suite.test(
        "resolver::only_the_kernel_can_send",
        only_the_kernel_can_send,
    );
    suite.test("resolver::no_route", no_route);
    suite.test("resolver::link_down_and_up", link_down_and_up);
    suite.test("resolver::silent_change_of_mac", silent_change_of_mac);
    suite.test(
        "resolver::neighbour_dies_and_returns",
        neighbour_dies_and_returns,
    );
    suite.test("resolver::route_moves", route_moves);
    suite.test("resolver::managed_and_given_back", managed_and_given_back);
    suite.test(
        "resolver::somebodys_entries_are_untouched",
        somebodys_entries_are_untouched,
    );
    suite.test("resolver::two_instances", two_instances);
    suite.test(
        "resolver::quiet_while_nothing_changes",
        quiet_while_nothing_changes,
    );
    suite.test("resolver::a_thousand_destinations", a_thousand_destinations);
    suite.test_with("resolver::receive_queues", &["ethtool"], receive_queues);
}

/// What fanout promises.
const FOLLOWS: Duration = Duration::from_secs(2);
const HOST_V4: &str = "10.0.0.1";
const PEER_V4: &str = "10.0.0.2";
const PEER_V6: &str = "fd00::2";

/// A host whose bridge `br0` has one peer: no carrier tells when the peer goes.
struct Network {
    host: Namespace,
    peer: Namespace,
}

impl Network {
    fn new() -> Self {
        let (host, peer) = (Namespace::new("host"), Namespace::new("peer"));
        host.ip(&format!(
            "link add br0 type bridge\nlink set br0 up\n\
             link add p0 type veth peer name e0 netns {}\nlink set p0 master br0 up\n\
             addr add {HOST_V4}/24 dev br0\naddr add fd00::1/64 dev br0 nodad",
            peer.name()
        ));
        peer.ip(&format!(
            "link set e0 up\naddr add {PEER_V4}/24 dev e0\naddr add {PEER_V6}/64 dev e0 nodad"
        ));
        Self { host, peer }
    }

    fn peer_mac(&self) -> [u8; 6] {
        mac(&self.peer.interface("e0", "address"))
    }

    /// What `ip neigh` shows of one entry.
    fn entry(&self, address: &str) -> String {
        self.host
            .run("ip", &["neigh", "show", "nud", "all", "to", address])
    }
}

/// What the supervisor does: resolve, refresh, follow the news.
struct Follower {
    resolver: Resolver,
    events: Events,
    destinations: Vec<IpAddr>,
    paths: Vec<Result<Path, Unreachable>>,
    resolved: u32,
    due: Instant,
}

impl Follower {
    fn new(destinations: &[&str]) -> Self {
        let destinations = destinations.iter().map(|a| a.parse().expect("an address"));
        let mut follower = Self {
            events: Events::subscribe().expect("events"),
            resolver: Resolver::new().expect("a resolver"),
            destinations: destinations.collect(),
            paths: Vec::new(),
            resolved: 0,
            due: Instant::now(),
        };
        follower.resolve();
        follower
    }

    fn resolve(&mut self) {
        self.paths = self
            .resolver
            .resolve(&self.destinations)
            .expect("an answer");
        self.resolved += 1;
        self.due = Instant::now();
    }

    fn step(&mut self) {
        if self.events.drain(&mut self.resolver) {
            self.resolve();
        }
        if self.due <= Instant::now() {
            self.due = Instant::now() + self.resolver.refresh();
        }
        thread::sleep(Duration::from_millis(5));
    }

    fn run(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.step();
        }
    }

    /// Goes on until `expected` holds of all paths, which must be soon.
    fn until(&mut self, what: &str, expected: impl Fn(&Result<Path, Unreachable>) -> bool) {
        self.within(FOLLOWS, what, expected);
    }

    fn within(
        &mut self,
        limit: Duration,
        what: &str,
        expected: impl Fn(&Result<Path, Unreachable>) -> bool,
    ) {
        let start = Instant::now();
        loop {
            self.step();
            if self.paths.iter().all(&expected) {
                println!("{what}: after {:?}", start.elapsed());
                return;
            }
            assert!(
                start.elapsed() < limit,
                "{what}: not in {limit:?}: {:#?}",
                self.paths
            );
        }
    }
}

fn mac(text: &str) -> [u8; 6] {
    let bytes = text
        .split(':')
        .map(|byte| u8::from_str_radix(byte, 16).expect("hex"));
    bytes.collect::<Vec<_>>().try_into().expect("six bytes")
}

fn sent_to(mac: [u8; 6]) -> impl Fn(&Result<Path, Unreachable>) -> bool {
    move |path| path.as_ref().is_ok_and(|path| path.mac == Some(mac))
}

fn silent(path: &Result<Path, Unreachable>) -> bool {
    matches!(path, Err(Unreachable::NoNeighbor(..)))
}

/// Nothing is known at first, and all that a frame needs soon after.
fn neighbour_on_the_link() {
    let network = Network::new();
    let (mac, own) = (network.peer_mac(), network.host.interface("br0", "address"));
    network.host.enter(|| {
        let mut follower = Follower::new(&[PEER_V4, PEER_V6, PEER_V4]);
        assert!(follower.paths.iter().all(silent), "{:?}", follower.paths);
        follower.until("resolved", sent_to(mac));
        let sources = [HOST_V4, "fd00::1", HOST_V4].map(|a| Some(a.parse().expect("an address")));
        for (path, source) in follower.paths.iter().zip(sources) {
            let path = path.as_ref().expect("a way");
            assert_eq!(path.source, source);
            assert_eq!((path.link.name.as_str(), path.mtu), ("br0", 1500));
            assert_eq!(path.link.mac, self::mac(&own));
        }
    });
}

/// IPv4 over IPv4, IPv6 over a link-local router, IPv4 over an IPv6 router; the route's own MTU.
fn behind_routers() {
    let network = Network::new();
    let mac = network.peer_mac();
    network.peer.ip("addr add fe80::aa/64 dev e0 nodad");
    network.host.ip(&format!(
        "route add 192.0.2.0/24 via {PEER_V4} mtu 1400\nroute add 2001:db8::/32 via fe80::aa dev br0\n\
         route add 198.51.100.0/24 via inet6 fe80::aa dev br0"
    ));
    network.host.enter(|| {
        let mut follower = Follower::new(&["192.0.2.9", "2001:db8::9", "198.51.100.9"]);
        follower.until("resolved", sent_to(mac));
        let mtus = follower
            .paths
            .iter()
            .map(|p| p.as_ref().expect("a way").mtu);
        assert_eq!(mtus.collect::<Vec<_>>(), [1400, 1500, 1500]);
        let own = HOST_V4.parse().ok();
        assert_eq!(follower.paths[2].as_ref().expect("a way").source, own);
    });
}

/// An address of the host itself, and an interface where nobody asks for MAC addresses.
fn only_the_kernel_can_send() {
    let network = Network::new();
    network.host.ip(
        "link add x0 type veth peer name x1\nlink set x0 arp off up\nlink set x1 up\n\
         addr add 10.7.0.1/24 dev x0",
    );
    network.host.enter(|| {
        let mut follower = Follower::new(&[HOST_V4, "127.0.0.1", "fd00::1", "10.7.0.9"]);
        follower.until("a way at once", |path| {
            path.as_ref().is_ok_and(|path| path.mac.is_none())
        });
        let links = follower
            .paths
            .iter()
            .map(|p| p.as_ref().expect("a way").link.name.as_str());
        assert_eq!(links.collect::<Vec<_>>(), ["lo", "lo", "lo", "x0"]);
    });
    assert_eq!(network.entry("10.7.0.9"), "", "asked for, in vain");
}

/// Each in the kernel's words, which name the kind where there is one.
fn no_route() {
    let network = Network::new();
    network.host.ip(
        "route add unreachable 10.1.0.0/24\nroute add prohibit 10.2.0.0/24\n\
         route add blackhole 10.3.0.0/24\nroute add unreachable fd01::/64",
    );
    let cases = [
        ("203.0.113.1", "unreachable"),
        ("2001:db8::1", "unreachable"),
        ("10.1.0.1", "No route to host"),
        ("10.2.0.1", "Permission denied"),
        ("10.3.0.1", "Invalid argument"),
        ("fd01::1", "No route to host"),
        ("10.0.0.255", "broadcast"),
        ("239.1.1.1", "unreachable"),
    ];
    network.host.enter(|| {
        for (destination, words) in cases {
            let follower = Follower::new(&[destination]);
            match &follower.paths[0] {
                Err(Unreachable::NoRoute(why)) if why.contains(words) => {}
                other => panic!("{destination}: {other:?} is not {words}"),
            }
        }
    });
}

/// By the operator's hand, and by the cable.
fn link_down_and_up() {
    let network = Network::new();
    let mac = network.peer_mac();
    let down = |path: &Result<Path, Unreachable>| {
        path == &Err(Unreachable::LinkDown("br0".to_owned()))
            || matches!(path, Err(Unreachable::NoRoute(_)))
    };
    network.host.enter(|| {
        let mut follower = Follower::new(&[PEER_V4]);
        follower.until("resolved", sent_to(mac));
        network.host.ip("link set br0 down");
        follower.until("down", down);
        network.host.ip("link set br0 up");
        follower.until("up", sent_to(mac));
        network.peer.ip("link set e0 down");
        let no_carrier = Unreachable::NoCarrier("br0".to_owned());
        follower.until("no carrier", |path| path.as_ref() == Err(&no_carrier));
        network.peer.ip("link set e0 up");
        follower.until("carrier", sent_to(mac));
    });
}

/// The peer tells nobody: no gratuitous ARP, no unsolicited advertisement.
fn silent_change_of_mac() {
    let network = Network::new();
    let mac = network.peer_mac();
    network.host.enter(|| {
        let mut follower = Follower::new(&[PEER_V4, PEER_V6]);
        follower.until("resolved", sent_to(mac));
        for last in 1..4 {
            let mac = [2, 0, 0, 0, 0, last];
            follower.run(Duration::from_millis(u64::from(last) * 300));
            network
                .peer
                .ip(&format!("link set e0 address 02:00:00:00:00:0{last}"));
            let stays = |path: &Result<Path, Unreachable>| path.is_ok();
            assert!(follower.paths.iter().all(stays));
            follower.until("another MAC address", sent_to(mac));
        }
    });
}

/// The bridge stays up. The peer is noticed to be gone, and noticed as soon as it is back.
fn neighbour_dies_and_returns() {
    let network = Network::new();
    let mac = network.peer_mac();
    // A second port keeps the bridge's carrier.
    network
        .host
        .ip("link add q0 type veth peer name q1\nlink set q0 master br0 up\nlink set q1 up");
    network.host.enter(|| {
        let mut follower = Follower::new(&[PEER_V4, PEER_V6]);
        follower.until("resolved", sent_to(mac));
        for pause in [0, 1_500, 4_000] {
            network.peer.ip("link set e0 down");
            follower.within(Duration::from_secs(6), "gone", silent);
            follower.run(Duration::from_millis(pause));
            network.peer.ip(&format!(
                "link set e0 up\naddr replace {PEER_V6}/64 dev e0 nodad"
            ));
            follower.until("back", sent_to(mac));
        }
    });
}

/// To another router, away, and back by a rule.
fn route_moves() {
    let network = Network::new();
    let first = network.peer_mac();
    let second = Namespace::new("second");
    network.host.ip(&format!(
        "link add p1 type veth peer name e0 netns {}\nlink set p1 up\naddr add 10.8.0.1/24 dev p1\n\
         route add 192.0.2.1 via {PEER_V4}",
        second.name()
    ));
    second.ip("link set e0 up\naddr add 10.8.0.2/24 dev e0");
    let other = mac(&second.interface("e0", "address"));
    network.host.enter(|| {
        let mut follower = Follower::new(&["192.0.2.1"]);
        follower.until("first", sent_to(first));
        network.host.ip("route replace 192.0.2.1 via 10.8.0.2");
        follower.until("second", sent_to(other));
        assert!(
            !network.entry(PEER_V4).contains("managed"),
            "still managed: {}",
            network.entry(PEER_V4)
        );
        network.host.ip("route del 192.0.2.1");
        follower.until("none", |path| matches!(path, Err(Unreachable::NoRoute(_))));
        network.host.ip(&format!("route add default via {PEER_V4}"));
        follower.until("by default", sent_to(first));
        network
            .host
            .ip("route add 192.0.2.0/24 via 10.8.0.2 table 7\nrule add to 192.0.2.0/24 lookup 7");
        follower.until("by a rule", sent_to(other));
    });
}

fn managed_and_given_back() {
    let network = Network::new();
    let mac = network.peer_mac();
    let managed = |address| network.entry(address).contains(" managed");
    network.host.enter(|| {
        let mut follower = Follower::new(&[PEER_V4, PEER_V6]);
        follower.until("resolved", sent_to(mac));
        assert!(
            managed(PEER_V4) && managed(PEER_V6),
            "{}",
            network.entry(PEER_V4)
        );
        follower.run(Duration::from_millis(2_500));
        assert!(
            managed(PEER_V4) && managed(PEER_V6),
            "{}",
            network.entry(PEER_V4)
        );
        drop(follower);
        assert!(
            !managed(PEER_V4) && !managed(PEER_V6),
            "{}",
            network.entry(PEER_V4)
        );
        assert!(
            network.entry(PEER_V4).contains("lladdr"),
            "given back, not taken away"
        );

        // As if killed: nothing of it runs any more.
        let mut killed = Follower::new(&[PEER_V4]);
        killed.until("resolved", sent_to(mac));
        std::mem::forget(killed);
        assert!(managed(PEER_V4));
        let mut next = Follower::new(&[PEER_V4]);
        assert!(next.paths.iter().all(sent_to(mac)), "known from the start");
        next.run(Duration::from_millis(100));
        assert!(managed(PEER_V4));
        drop(next);
        assert!(!managed(PEER_V4), "{}", network.entry(PEER_V4));
    });
}

/// Permanent, learned by a control plane, managed by an operator: as they were, in use and after.
fn somebodys_entries_are_untouched() {
    let network = Network::new();
    let address = "02:00:00:00:00:99";
    network.host.ip(&format!(
        "neigh add 10.0.0.7 lladdr {address} dev br0 nud permanent\n\
         neigh add 10.0.0.8 lladdr {address} dev br0 extern_learn nud stale"
    ));
    let all = || ["10.0.0.7", "10.0.0.8"].map(|address| network.entry(address));
    let before = all();
    network.host.enter(|| {
        let mut follower = Follower::new(&["10.0.0.7", "10.0.0.8"]);
        follower.until("known", sent_to(mac(address)));
        follower.run(Duration::from_millis(2_500));
        assert_eq!(all(), before);
        drop(follower);
        assert_eq!(all(), before);

        // While it runs, an operator takes one over.
        let mut follower = Follower::new(&[PEER_V4]);
        follower.until("resolved", sent_to(network.peer_mac()));
        network.host.ip(&format!(
            "neigh replace {PEER_V4} lladdr {address} dev br0 nud permanent"
        ));
        follower.until("taken over", sent_to(mac(address)));
        let taken = network.entry(PEER_V4);
        assert!(taken.contains("PERMANENT"), "{taken}");
        follower.run(Duration::from_millis(2_500));
        assert_eq!(network.entry(PEER_V4), taken);
        drop(follower);
        assert_eq!(network.entry(PEER_V4), taken);

        network.host.ip(&format!(
            "neigh del {PEER_V4} dev br0\nneigh add {PEER_V4} dev br0 managed"
        ));
        let mut follower = Follower::new(&[PEER_V4]);
        follower.until("resolved", sent_to(network.peer_mac()));
        follower.run(Duration::from_millis(2_500));
        drop(follower);
        let entry = network.entry(PEER_V4);
        assert!(
            entry.contains(" managed") && !entry.contains("proto"),
            "{entry}"
        );
    });
}

/// One stops: the other has the entry managed again.
fn two_instances() {
    let network = Network::new();
    let mac = network.peer_mac();
    network.host.enter(|| {
        let [mut first, mut second] = [(); 2].map(|()| Follower::new(&[PEER_V4]));
        first.until("resolved", sent_to(mac));
        second.until("resolved", sent_to(mac));
        drop(first);
        second.run(FOLLOWS);
        assert!(
            network.entry(PEER_V4).contains(" managed"),
            "{}",
            network.entry(PEER_V4)
        );
        drop(second);
        assert!(
            !network.entry(PEER_V4).contains(" managed"),
            "{}",
            network.entry(PEER_V4)
        );
    });
}

/// Verifying changes nothing that matters, and neither does what others do.
fn quiet_while_nothing_changes() {
    let network = Network::new();
    let mac = network.peer_mac();
    network.host.enter(|| {
        let mut follower = Follower::new(&[PEER_V4, PEER_V6]);
        follower.until("resolved", sent_to(mac));
        follower.run(Duration::from_millis(500));
        let before = follower.resolved;
        network.host.ip(
            "neigh add 10.0.0.50 lladdr 02:00:00:00:00:50 dev br0\nneigh del 10.0.0.50 dev br0\n\
             route add 172.16.0.0/12 via 10.0.0.2\nroute add fd02::/64 via fd00::2\n\
             link set br0 promisc on\nlink set br0 promisc off",
        );
        follower.run(Duration::from_millis(3_500));
        assert_eq!(follower.resolved, before, "looked again for nothing");
        network.host.ip("link set br0 mtu 1300");
        follower.until("a new MTU", |path| {
            path.as_ref().is_ok_and(|path| path.mtu == 1300)
        });
    });
}

/// Behind one router, and each on the link.
fn a_thousand_destinations() {
    let network = Network::new();
    network.host.ip(&format!(
        "route add 10.200.0.0/16 via {PEER_V4}\nroute add 10.201.0.0/16 dev br0"
    ));
    network.host.enter(|| {
        for prefix in ["10.200", "10.201"] {
            let destinations: Vec<_> = (0..1000)
                .map(|i| format!("{prefix}.{}.{}", i / 250, i % 250 + 1))
                .collect();
            let destinations: Vec<_> = destinations.iter().map(String::as_str).collect();
            let mut follower = Follower::new(&destinations);
            let start = Instant::now();
            follower.resolve();
            let took = start.elapsed();
            println!("{prefix}: resolve took {took:?}");
            assert!(took < Duration::from_millis(500), "{prefix}: {took:?}");
            let start = Instant::now();
            let wait = follower.resolver.refresh();
            println!(
                "{prefix}: refresh took {:?}, next in {wait:?}",
                start.elapsed()
            );
        }
    });
}

/// Those that are used, not those that could be.
fn receive_queues() {
    let host = Namespace::new("host");
    host.ip(
        "link add v0 numrxqueues 4 type veth peer name v1 numrxqueues 3\nlink add br0 type bridge",
    );
    host.run("ethtool", &["-L", "v0", "rx", "2"]);
    host.enter(|| {
        let links = Links::read(&mut Connection::open().expect("a socket")).expect("links");
        let queues = |name| link::rx_queues(links.by_name(name).expect(name)).expect("queues");
        assert_eq!(["v0", "v1", "br0", "lo"].map(queues), [2, 3, 1, 1]);
    });
}
