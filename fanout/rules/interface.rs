//! What each interface must be like, and had better be.

use super::{Rule, Verdict, driver, native};
use crate::{
    config::{Xdp, ZeroCopy},
    facts::{
        interface::{Interface, Kind},
        process::Process,
    },
    link::State,
};

/// The rules, in the order in which they are told.
pub const RULES: [Rule<Interface>; 11] = [
    Rule {
        name: "driver",
        judge: what_it_is,
    },
    Rule {
        name: "ethernet",
        judge: ethernet,
    },
    Rule {
        name: "link",
        judge: link,
    },
    Rule {
        name: "attached",
        judge: attached,
    },
    Rule {
        name: "part-of",
        judge: part_of,
    },
    Rule {
        name: "zero-copy",
        judge: zero_copy,
    },
    Rule {
        name: "added-channels",
        judge: added_channels,
    },
    Rule {
        name: "spare-channels",
        judge: spare_channels,
    },
    Rule {
        name: "rss",
        judge: rss,
    },
    Rule {
        name: "rxvlan",
        judge: rx_vlan,
    },
    Rule {
        name: "skb",
        judge: skb,
    },
];

/// Those of native XDP, which a start that was refused also goes by.
pub const NATIVE: [Rule<Interface>; 7] = native::RULES;

fn what_it_is(interface: &Interface) -> Option<Verdict> {
    let Interface {
        driver,
        version,
        mtu,
        rx_queues,
        ..
    } = interface;
    let mut meaning = match driver.as_str() {
        "" => "no driver to speak of".to_owned(),
        driver => format!("{driver} {version}"),
    };
    meaning = format!("{meaning}, mtu {mtu}, RX queues {rx_queues}");
    for (key, value) in [
        ("mtu", interface.wanted.mtu),
        ("channels", interface.wanted.channels),
    ] {
        if let Some(value) = value {
            meaning = format!("{meaning}; the config sets {key} = {value} while fanout runs");
        }
    }
    Some(Verdict::ok(meaning))
}

/// What a start says, too.
pub const NO_ETHERNET: &str = "its packets have no Ethernet header (a tunnel, WireGuard, PPP), and fanout's programs would find nothing in them";

fn ethernet(interface: &Interface) -> Option<Verdict> {
    (interface.bare && interface.wanted.program)
        .then(|| Verdict::fail(NO_ETHERNET).set("mode = userspace"))
}

fn link(interface: &Interface) -> Option<Verdict> {
    let name = &interface.name;
    Some(match interface.state {
        State::Down => {
            Verdict::fail("it is down: nothing comes in").run(format!("ip link set dev {name} up"))
        }
        State::NoCarrier => Verdict::fail(
            "it is set up, but has no carrier: the cable, the switch, or its other end",
        ),
        State::Up => Verdict::ok("up"),
    })
}

fn attached(interface: &Interface) -> Option<Verdict> {
    interface.wanted.xdp?;
    let Some(program) = interface.programs.first() else {
        return Some(Verdict::ok("no XDP program is attached yet"));
    };
    let meaning = format!("XDP program {program} is on it");
    let is_ours = |(process, _): &(Process, bool)| process.name == env!("CARGO_PKG_NAME");
    Some(if program.holder.as_ref().is_some_and(is_ours) {
        Verdict::ok(meaning + ": an instance runs")
    } else {
        Verdict::fail(meaning + ", and fanout never replaces one")
            .run(program.removal(&interface.name))
    })
}

/// A bond hands its cards' frames up as its own; a bridge's have the bridge's MAC address.
fn part_of(interface: &Interface) -> Option<Verdict> {
    let (name, kind) = interface.master.as_ref()?;
    let meaning = format!("it is a part of {kind} {name}, to which what comes in belongs");
    Some(Verdict::warn(meaning).set(format!("interface = {name} in the listener")))
}

fn zero_copy(interface: &Interface) -> Option<Verdict> {
    let wanted = interface.wanted.zero_copy?;
    let is_native = interface.wanted.xdp != Some(Xdp::Skb) && native::holds(interface);
    let has = interface.features.map(|features| features.zero_copy());
    let name = &interface.name;
    let lacks = match has {
        Some(true) if is_native => None,
        Some(true) => Some("zero copy takes native XDP"),
        Some(false) => Some("its driver has no zero copy"),
        None => return None,
    };
    Some(match (wanted, lacks) {
        (ZeroCopy::Off, _) => Verdict::ok("off: the kernel copies each packet"),
        (ZeroCopy::On, Some(why)) => Verdict::fail(format!("{why}, and zero_copy = on insists"))
            .set(format!("zero_copy = auto in [interface {name}]")),
        (ZeroCopy::Auto, Some(why)) => Verdict::ok(format!("{why}: the kernel copies each packet")),
        (_, None) => {
            let segments = interface.features.and_then(|f| f.zero_copy_segments);
            Verdict::ok(match segments {
                Some(most @ 2..) => {
                    format!("its driver has zero copy, up to {most} frames a packet")
                }
                _ => "its driver has zero copy, one frame a packet".to_owned(),
            })
        }
    })
}

fn added_channels(interface: &Interface) -> Option<Verdict> {
    interface
        .wanted
        .zero_copy
        .filter(|&wanted| wanted != ZeroCopy::Off)?;
    let with = driver::named(&interface.driver).with_added_channels(interface)?;
    let max = interface.channels?.max_receiving();
    let meaning = format!(
        "{} goes from {} to {with} channels for an XDP program and takes them away with it: no \
         zero copy, and fewer queues send by themselves",
        interface.driver,
        interface.planned_queues()
    );
    Some(Verdict::warn(meaning).run(interface.with_channels(max)))
}

fn spare_channels(interface: &Interface) -> Option<Verdict> {
    let xdp = interface.wanted.xdp.filter(|_| interface.wanted.sends)?;
    let (meaning, command) = crash(interface)?;
    let verdict = match xdp {
        Xdp::Skb => return None,
        Xdp::Auto => Verdict::warn(meaning + "; skb mode then, which is slower"),
        Xdp::Native => Verdict::fail(meaning),
    };
    Some(verdict.run(command))
}

/// Why the host would not survive a program that sends natively, and the command that mends it. A driver that would
/// take channels for what the program sends, and has none, does without; but not with more channels than CPUs, when
/// it takes one beyond the last (`virtnet_xdp_get_sq`).
#[must_use]
pub fn crash(interface: &Interface) -> Option<(String, String)> {
    let (queues, cpus) = (interface.planned_queues(), interface.cpus);
    let lacks = driver::named(&interface.driver).lacks_channels(interface);
    (lacks && queues > cpus).then(|| {
        let meaning = format!(
            "{queues} channels are more than the {cpus} CPUs, and there are none for an XDP program: in mode \
             xdp the kernel would crash in {} (Linux 5.10 and 6.1 did)",
            interface.driver
        );
        (meaning, interface.with_channels(cpus))
    })
}

fn rss(interface: &Interface) -> Option<Verdict> {
    let queues = interface.planned_queues();
    if queues < 2 || interface.hashes_ports.is_empty() {
        return None;
    }
    let name = &interface.name;
    let lacking = interface.hashes_ports.iter().filter(|(_, hashes)| !hashes);
    let commands: Vec<_> = lacking
        .map(|(flow, _)| format!("ethtool -N {name} rx-flow-hash {} sdfn", flow.name()))
        .collect();
    Some(if commands.is_empty() {
        Verdict::ok(format!("UDP ports choose among the {queues} RX queues"))
    } else {
        let meaning = format!(
            "only UDP addresses choose among the {queues} RX queues: all of one sender's datagrams \
             for an address come by the same one"
        );
        Verdict::warn(meaning).run(commands.join(" && "))
    })
}

fn rx_vlan(interface: &Interface) -> Option<Verdict> {
    let offload = interface.rx_vlan?;
    if !interface.wanted.tags || matches!(interface.kind, Kind::Veth(_)) {
        return None;
    }
    if !offload.on {
        return Some(Verdict::ok("tags stay in the frames"));
    }
    let meaning = "the card takes VLAN tags out of frames: the program does not see them";
    let name = &interface.name;
    let fixed = format!("mode = userspace, on the VLAN device of {name}");
    Some(if offload.fixed {
        Verdict::fail(meaning).set(fixed)
    } else {
        Verdict::fail(meaning).run(format!("ethtool -K {name} rxvlan off"))
    })
}

fn skb(interface: &Interface) -> Option<Verdict> {
    (interface.wanted.xdp? == Xdp::Skb)
        .then(|| Verdict::ok("xdp = skb: on any interface, and slower than native"))
}
