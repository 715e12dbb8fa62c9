//! The XDP program by itself, through `fanout::bpf`: what it counts, and what becomes of it.

use std::{net::SocketAddr, thread::sleep, time::Duration};

use aya::programs::loaded_programs;
use fanout::{
    bpf::{Error, Loader, Mode, Programs},
    config::Xdp,
    link::{Link, Links},
    netlink::Connection,
    wire::ethernet::EthernetHeader,
};
use fanout_ebpf::{
    abi::{Bind, BindKey, DropReason, Egress, NextHop, PassReason, Policy, Way},
    frame,
    parse::parse,
    words::{number, words},
};

use crate::{
    common::{
        fanout::wait_for,
        frame::{Frame, mac},
        namespace::Namespace,
        wire::Wire,
    },
    harness::Suite,
};

pub fn register(suite: &mut Suite) {
    suite.test(
        "program::counts_as_the_parser_says",
        counts_as_the_parser_says,
    );
    suite.test("program::puts_and_takes_tags", puts_and_takes_tags);
    suite.test("program::interface_is_gone", interface_is_gone);
    suite.test("program::goes_with_its_owner", goes_with_its_owner);
    suite.test("program::is_never_replaced", is_never_replaced);
    suite.test(
        "program::refused_in_the_kernels_words",
        refused_in_the_kernels_words,
    );
}

const HERE: &str = "here0";
const THERE: &str = "there0";
const FRAMES: u32 = 20_000;
const MAX_PACKET_SIZE: u32 = 300;

/// A veth pair between two namespaces, of which the first runs the program.
fn pair() -> [Namespace; 2] {
    let [here, there] = ["program", "peer"].map(Namespace::new);
    here.ip(&format!(
        "link add {HERE} type veth peer name {THERE} netns {}\nlink set {HERE} up",
        there.name()
    ));
    there.ip(&format!("link set {THERE} up"));
    [here, there]
}

fn link(name: &str) -> Link {
    let mut connection = Connection::open().expect("netlink");
    let links = Links::read(&mut connection).expect("the links");
    links.by_name(name).expect("the interface").clone()
}

fn load() -> Programs {
    Loader::new()
        .load(&link(HERE), 0)
        .unwrap_or_else(|error| panic!("{error}"))
}

/// How a program is attached, and which one, as `ip` shows it.
fn xdp(namespace: &Namespace) -> String {
    let text = namespace.run("ip", &["-d", "link", "show", "dev", HERE]);
    let mode = text.split_whitespace().find(|word| word.starts_with("xdp"));
    let program = text.lines().find(|line| line.contains("prog/xdp"));
    format!("{} {}", mode.unwrap_or("no"), program.unwrap_or("program"))
}

/// Listener, and what it binds.
fn binds() -> Vec<(BindKey, Bind)> {
    let bind = |listener, address: &str, vlan| {
        let address: SocketAddr = address.parse().expect("an address");
        let bind = Bind {
            listener,
            max_packet_size: MAX_PACKET_SIZE,
            way: Way::AfXdp,
            policy: Policy::RoundRobin,
        };
        (BindKey::new(address, vlan), bind)
    };
    vec![
        bind(0, "10.0.0.9:514", None),
        bind(1, "[2001:db8::9]:514", None),
        bind(2, "10.0.0.9:514", Some(100)),
        bind(3, "0.0.0.0:515", None),
        bind(4, "[::]:515", Some(7)),
    ]
}

/// Who is told of a frame, and why it was passed; without a socket all are.
fn expected(frame: &[u8], own: [u8; 6], binds: &[(BindKey, Bind)]) -> Option<(u32, PassReason)> {
    let flow = parse(frame::Frame::from(frame))?;
    let find = |wanted: &dyn Fn(&BindKey) -> bool| {
        let found = binds.iter().find(|(key, _)| wanted(key))?;
        Some(found.1)
    };
    let place = |key: &BindKey| (key.address, key.port_be);
    let exact = flow.key;
    let any = exact.wildcard();
    let hit = find(&|key| *key == exact).or_else(|| find(&|key| *key == any));
    let other = || {
        find(&|key| place(key) == place(&exact)).or_else(|| find(&|key| place(key) == place(&any)))
    };
    let bind = hit.or_else(other)?;
    let reason = if flow.mac != number(words(&own)) {
        PassReason::OtherMac
    } else if hit.is_none() {
        PassReason::OtherVlan
    } else if let Some(reason) = flow.irregular {
        reason
    } else if flow.ip_len > bind.max_packet_size as usize {
        PassReason::TooBig
    } else {
        PassReason::NoSocket
    };
    Some((bind.listener, reason))
}

fn counts_as_the_parser_says() {
    let [here, there] = pair();
    let own = mac(&here.interface(HERE, "address"));
    let binds = binds();
    let mut program = here.enter(|| {
        let mut program = load();
        program
            .attach_xdp(Xdp::Native)
            .unwrap_or_else(|error| panic!("{error}"));
        program
    });
    // By a detour: what is not wanted any more must be gone, what stays must have stayed.
    let mut others = binds.clone();
    others.truncate(2);
    others[1].1.listener = 9;
    others.push((
        BindKey::new("[2001:db8::9]:516".parse().expect("an address"), None),
        others[0].1,
    ));
    for binds in [&others, &binds] {
        program
            .set_binds(binds)
            .unwrap_or_else(|error| panic!("{error}"));
    }

    let wire = Wire::open(&there, THERE);
    let mut random = Random(0x5eed_0eb9);
    let mut wanted = [[0; PassReason::COUNT]; 10];
    for number in 0..FRAMES {
        let frame = mutated(own, number, &mut random);
        if wire.send(&frame)
            && let Some((listener, reason)) = expected(&frame, own, &binds)
        {
            wanted[listener as usize][reason as usize] += 1;
        }
    }
    sleep(Duration::from_millis(100));
    let counted = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9].map(|listener| {
        program
            .passed(listener)
            .unwrap_or_else(|error| panic!("{error}"))
    });
    assert_eq!(counted, wanted);
    for reason in PassReason::ALL {
        let count: u64 = wanted
            .iter()
            .map(|of_listener| of_listener[reason as usize])
            .sum();
        assert!(count > 0, "no frame is {}", reason.name());
    }
}

/// A sound frame to a place where somebody may listen, with a few faults.
fn mutated(own: [u8; 6], number: u32, random: &mut Random) -> Vec<u8> {
    let [from, to] = [
        ["10.0.0.1:40000", "[2001:db8::1]:40000"],
        ["10.0.0.9:514", "[2001:db8::9]:514"],
    ]
    .map(|addresses| {
        addresses[(number % 2) as usize]
            .parse()
            .expect("an address")
    });
    let mut frame = Frame::new([2, 0, 0, 0, 0, 2], own, from, to);
    frame.to.set_port(514 + random.below(8) as u16 / 4);
    frame.vlan = [None, None, None, Some(0), Some(7), Some(100)][random.below(6)];
    if random.below(8) == 0 {
        // A destination options header: as IPv4 options, two no-operations and what they end.
        frame.options = vec![libc::IPPROTO_UDP as u8, 0, 0, 0, 0, 0, 0, 0];
        frame.next_header = libc::IPPROTO_DSTOPTS as u8;
    }
    let mut bytes = frame.bytes(&vec![0xaa; random.below(400)]);
    for _ in 0..random.below(3) {
        let at = random.below(bytes.len().min(frame.udp() + 8));
        match random.below(4) {
            0 => bytes[at] = random.below(256) as u8,
            1 => bytes[at] ^= 1 << random.below(8),
            2 => bytes[at] = [0, 1, 6, 17, 44, 60][random.below(6)],
            _ => bytes.truncate(at.max(14)),
        }
    }
    bytes
}

/// `xorshift64`: the same frames on every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 32) as usize % limit
    }
}

/// What comes untagged leaves with the next hop's tag, and the other way round; the program at the other end
/// tells what it sees by what it counts.
fn puts_and_takes_tags() {
    const COUNT: u32 = 100;
    let [here, there] = pair();
    let [own, other] = [(&here, HERE), (&there, THERE)]
        .map(|(namespace, name)| mac(&namespace.interface(name, "address")));
    let bind = |listener, address: &str, vlan, way| {
        let address: SocketAddr = address.parse().expect("an address");
        let bind = Bind {
            listener,
            max_packet_size: MAX_PACKET_SIZE,
            way,
            policy: Policy::RoundRobin,
        };
        (BindKey::new(address, vlan), bind)
    };
    let attached = |namespace: &Namespace, name, downstreams, binds: &[(BindKey, Bind)]| {
        namespace.enter(|| {
            let mut programs = Loader::new().load(&link(name), downstreams).expect("load");
            programs.attach_xdp(Xdp::Native).expect("attach");
            programs.set_binds(binds).expect("binds");
            programs
        })
    };
    let hop = |downstream, vlan| {
        let ethernet = EthernetHeader::new(own, other, vlan, false);
        let mut header = [0; 18];
        header[..ethernet.as_bytes().len()].copy_from_slice(ethernet.as_bytes());
        NextHop {
            header: words(&header),
            header_len: ethernet.as_bytes().len() as u8,
            egress: Egress::SameInterface,
            mtu: 1500,
            downstream,
            ..NextHop::to("10.0.0.7:514".parse().expect("an address"))
        }
    };
    let binds = [
        bind(0, "10.0.0.9:514", None, Way::Xdp),
        bind(1, "10.0.0.9:514", Some(7), Way::Xdp),
    ];
    let mut programs = attached(&here, HERE, 2, &binds);
    programs.set_turns(0, &[hop(0, Some(9))]).expect("turns");
    programs.set_turns(1, &[hop(1, None)]).expect("turns");
    let binds = [
        bind(0, "10.0.0.7:514", Some(9), Way::AfXdp),
        bind(1, "10.0.0.7:514", None, Way::AfXdp),
    ];
    let witness = attached(&there, THERE, 0, &binds);

    let wire = Wire::open(&there, THERE);
    let [from, to] = ["10.0.0.1:40000", "10.0.0.9:514"].map(|a| a.parse().expect("an address"));
    let mut frame = Frame::new(other, own, from, to);
    for vlan in [None, Some(7)] {
        frame.vlan = vlan;
        for _ in 0..COUNT {
            assert!(wire.send(&frame.bytes(b"a message")));
        }
    }
    for listener in [0, 1] {
        let seen = || witness.passed(listener).expect("counts")[PassReason::NoSocket as usize];
        let all = wait_for(|| (seen() == COUNT.into()).then_some(()));
        assert!(all.is_some(), "listener {listener}: {} seen", seen());
        let received = programs.received(listener).expect("counts");
        assert_eq!(received.queues[0].packets, COUNT.into());
        assert_eq!(received.dropped, [0; DropReason::COUNT]);
        let forwarded = programs.forwarded(listener).expect("counts");
        assert_eq!(forwarded, received.queues[0]);
    }
}

/// One that has vanished takes nothing more, and the count of failed redirects says so.
fn interface_is_gone() {
    const COUNT: u32 = 100;
    let [here, there] = pair();
    let [own, other] = [(&here, HERE), (&there, THERE)]
        .map(|(namespace, name)| mac(&namespace.interface(name, "address")));
    let [from, to] = ["10.0.0.1:40000", "10.0.0.9:514"].map(|a| a.parse().expect("an address"));
    let bind = Bind {
        listener: 0,
        max_packet_size: MAX_PACKET_SIZE,
        way: Way::Xdp,
        policy: Policy::RoundRobin,
    };
    for mode in [Xdp::Native, Xdp::Skb] {
        let (programs, gone) = here.enter(|| {
            let mut programs = Loader::new().load(&link(HERE), 1).expect("load");
            programs.attach_xdp(mode).expect("attach");
            programs
                .set_binds(&[(BindKey::new(to, None), bind)])
                .expect("binds");
            here.ip("link add gone0 type bridge");
            let gone = link("gone0").index;
            programs.count_failures().expect("traced");
            programs.count_failures_of(gone).expect("counted");
            let hop = NextHop {
                header_len: 14,
                egress: Egress::OtherInterface,
                ifindex: gone.0,
                mtu: 1500,
                ..NextHop::to("10.0.0.7:514".parse().expect("an address"))
            };
            programs.set_turns(0, &[hop]).expect("turns");
            here.ip("link del gone0");
            (programs, gone)
        });
        let wire = Wire::open(&there, THERE);
        for _ in 0..COUNT {
            assert!(wire.send(&Frame::new(other, own, from, to).bytes(b"a message")));
        }
        let failed = || programs.failures_of(gone);
        let all = wait_for(|| (failed() == COUNT.into()).then_some(()));
        assert!(all.is_some(), "{mode:?}: {} of {COUNT}", failed());
        let forwarded = programs.forwarded(0).expect("counts");
        assert_eq!(forwarded.packets, COUNT.into(), "{mode:?}");
    }
}

fn goes_with_its_owner() {
    let [here, _there] = pair();
    for (wanted, mode, shown) in [
        (Xdp::Auto, Mode::Native, "xdp "),
        (Xdp::Native, Mode::Native, "xdp "),
        (Xdp::Skb, Mode::Skb, "xdpgeneric "),
    ] {
        let program = here.enter(|| {
            let mut program = load();
            let attached = program
                .attach_xdp(wanted)
                .unwrap_or_else(|error| panic!("{error}"));
            assert_eq!((attached.mode, attached.why_not_native), (mode, None));
            let mut loaded = loaded_programs().filter_map(Result::ok);
            assert!(
                loaded.any(|program| program.name() == b"fanout_xdp" && program.btf_id().is_some()),
                "the kernel refused the object's BTF"
            );
            program
        });
        assert!(xdp(&here).starts_with(shown), "{wanted:?}: {}", xdp(&here));
        drop(program);
        assert_eq!(xdp(&here), "no program", "{wanted:?}");
    }
}

fn is_never_replaced() {
    let [here, _there] = pair();
    for first in [Xdp::Native, Xdp::Skb] {
        here.enter(|| {
            let mut owner = load();
            owner.attach_xdp(first).unwrap_or_else(|error| panic!("{error}"));
            let before = xdp(&here);
            for second in [Xdp::Auto, Xdp::Native, Xdp::Skb] {
                let error = load().attach_xdp(second).expect_err("it is occupied");
                assert!(
                    matches!(&error, Error::Occupied { program, .. } if program.name.as_deref() == Some("fanout_xdp")),
                    "{first:?}, then {second:?}: {error}"
                );
                assert!(
                    error.to_string().starts_with("here0 already carries XDP program \"fanout_xdp\" (id "),
                    "{error}"
                );
                assert_eq!(xdp(&here), before);
            }
        });
    }
}

fn refused_in_the_kernels_words() {
    let [here, there] = pair();
    there.ip(&format!("link set {THERE} mtu 9000"));
    here.enter(|| {
        let error = load()
            .attach_xdp(Xdp::Native)
            .expect_err("frames of several pages");
        let text = error.to_string();
        assert!(
            text.contains("MTU is too large")
                && text.contains(&format!("ip link set dev {THERE} mtu 3506")),
            "{text}"
        );
        assert_eq!(xdp(&here), "no program");

        let mut program = load();
        let attached = program
            .attach_xdp(Xdp::Auto)
            .unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(attached.mode, Mode::Skb);
        let why = attached.why_not_native.expect("a reason");
        assert!(why.contains("MTU is too large"), "{why}");
        assert!(xdp(&here).starts_with("xdpgeneric "), "{}", xdp(&here));
    });
}
