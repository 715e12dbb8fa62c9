//! Probes of sockets on the loopback interface, where any process may send datagrams.

use super::*;
use crate::sys::socket::PollSet;

const HEALTH: Health = Health {
    check: Check::Udp,
    interval: Duration::from_millis(100),
    timeout: Duration::from_millis(50),
    failures: 3,
};

fn key(address: SocketAddr, listener: u32) -> Key {
    Key { address, listener }
}

/// What the supervisor does, until a downstream goes out or comes back.
fn wait(prober: &mut Prober) {
    while !prober.step(Instant::now()) {
        let now = Instant::now();
        let deadline = prober.deadline(now).expect("something to probe");
        let mut poll = PollSet::new(prober.fds());
        poll.wait(deadline - now).unwrap().for_each(drop);
    }
}

#[test]
fn a_port_that_nobody_listens_on_is_out_of_turn_until_somebody_does() {
    let bind = || UdpSocket::bind("127.0.0.1:0").unwrap();
    let (listens, closed) = (bind(), bind());
    let [open, address] = [&listens, &closed].map(|socket| socket.local_addr().unwrap());
    drop(closed);
    let mut prober = Prober::default();
    prober.open(Check::Udp, false).unwrap();
    let other = Health {
        failures: 100,
        ..HEALTH
    };
    let wanted = [
        (key(open, 0), HEALTH),
        (key(address, 0), HEALTH),
        (key(address, 1), other),
    ];
    prober.follow(wanted.into_iter(), Instant::now());
    wait(&mut prober);
    assert_eq!(prober.down(key(address, 0)), Some("port unreachable"));
    assert_eq!(prober.down(key(open, 0)), None);
    assert_eq!(prober.down(key(address, 1)), None, "more patient");
    // A verdict outlives a change of the others.
    prober.follow(wanted.into_iter().take(2), Instant::now());
    assert!(prober.down(key(address, 0)).is_some());
    let _listens = UdpSocket::bind(address).unwrap();
    wait(&mut prober);
    assert_eq!(prober.down(key(address, 0)), None);
    // What it gets is empty.
    assert_eq!(listens.recv(&mut [0; 8]).unwrap(), 0);
}

#[test]
fn who_is_not_to_be_probed_is_not() {
    let mut prober = Prober::default();
    let address = "127.0.0.1:9".parse().unwrap();
    let off = Health {
        check: Check::Off,
        ..HEALTH
    };
    prober.follow([(key(address, 0), off)].into_iter(), Instant::now());
    let now = Instant::now();
    assert_eq!((prober.deadline(now), prober.step(now)), (None, false));
    assert_eq!(prober.fds().count(), 0);
}

#[test]
fn first_probes_are_spread() {
    let mut prober = Prober::default();
    let now = Instant::now();
    let keys = (1..=100).map(|port| (key(([127, 0, 0, 1], port).into(), 0), HEALTH));
    prober.follow(keys, now);
    let due = |at| {
        prober
            .probes
            .iter()
            .filter(|(_, probe)| probe.is_due(at))
            .count()
    };
    let half = due(now + HEALTH.interval / 2);
    assert_eq!((due(now), half, due(now + HEALTH.interval)), (1, 51, 100));
}

#[test]
fn answers_find_their_probes() {
    let mut prober = Prober::default();
    let addresses = ["10.0.0.1:1", "10.0.0.1:2", "10.0.0.2:1", "[fd00::1]:1"];
    let addresses = addresses.map(|address| address.parse().unwrap());
    let keys = addresses.iter().flat_map(|&to| [key(to, 0), key(to, 1)]);
    prober.follow(keys.map(|key| (key, HEALTH)), Instant::now());
    let [first, second, other, v6] = addresses;
    let mut count = |first, last| of(&mut prober.probes, first, last).count();
    assert_eq!(count(SocketAddr::new(first.ip(), 0), u16::MAX), 4);
    assert_eq!(
        [first, second, other, v6].map(|to| count(to, to.port())),
        [2; 4]
    );
    assert_eq!(count("10.0.0.3:1".parse().unwrap(), 1), 0);
}
