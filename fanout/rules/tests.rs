//! The rules on recorded facts of hosts that no test can make: what `ethtool` and the kernel said of them.

use super::{
    Level, Mend, Verdict,
    driver::{DRIVERS, Driver, named},
    host, interface, judge, listener, native,
};
use crate::{
    config::{Source, Xdp, ZeroCopy},
    facts::{
        downstream::{Downstream, Ingress},
        host::{Host, Needs},
        interface::{Interface, Kind, Peer, Program, Wanted},
        process::Process,
    },
    link::{IfIndex, Link, State},
    neighbor::{Neighbor, Path, Surveyed},
    sys::ethtool::{Channels, Flow, Offload},
    xdp_features::Features,
};

const ON: Option<Offload> = Some(Offload {
    on: true,
    fixed: false,
});
const FIXED: Option<Offload> = Some(Offload {
    on: true,
    fixed: true,
});

fn combined(now: u32, max: u32) -> Option<Channels> {
    let mut channels = Channels::default();
    (channels.max_combined, channels.combined_count) = (max, now);
    Some(channels)
}

fn separate(now: u32, max: u32) -> Channels {
    let mut channels = Channels::default();
    (channels.max_rx, channels.max_tx) = (max, max);
    (channels.rx_count, channels.tx_count) = (now, now);
    channels
}

/// A card as `ethtool -i`, `-l` and `ip link` show it, for an af_xdp listener with the defaults.
fn card(driver: &str, version: &str, mtu: u32, now: u32, max: u32) -> Interface {
    Interface {
        name: "ens5".to_owned(),
        wanted: Wanted {
            xdp: Some(Xdp::Auto),
            zero_copy: Some(ZeroCopy::Auto),
            ..Wanted::default()
        },
        driver: driver.to_owned(),
        version: version.to_owned(),
        state: State::Up,
        mtu,
        channels: combined(now, max),
        rx_queues: now,
        cpus: 2,
        features: Some(Features::new(true, false)),
        ..Interface::default()
    }
}

fn ena(mtu: u32, now: u32, max: u32) -> Interface {
    card("ena", "6.1.112-122.189.amzn2023", mtu, now, max)
}

fn judged(interface: &Interface, rule: &str) -> Option<Verdict> {
    let all = judge(&interface::RULES, interface);
    let mut all = all.chain(judge(&interface::NATIVE, interface));
    all.find(|&(name, _)| name == rule)
        .map(|(_, verdict)| verdict)
}

/// The rule's level, and the command or key that mends it.
fn outcome(interface: &Interface, rule: &str) -> (Option<Level>, String) {
    said(judged(interface, rule))
}

fn said(verdict: Option<Verdict>) -> (Option<Level>, String) {
    let mend = verdict.as_ref().and_then(|verdict| verdict.mend.clone());
    let mend = match mend {
        Some(Mend::Run(text) | Mend::Set(text)) => text,
        None => String::new(),
    };
    (verdict.map(|verdict| verdict.level), mend)
}

const OK: Option<Level> = Some(Level::Ok);
const WARN: Option<Level> = Some(Level::Warn);
const FAIL: Option<Level> = Some(Level::Fail);

fn nothing(level: Option<Level>) -> (Option<Level>, String) {
    (level, String::new())
}

#[test]
fn mtus_of_drivers() {
    for (driver, version, most) in [
        ("ena", "2.14.0g", 3498),
        ("virtio_net", "1.0.0", 3506),
        ("mlx5_core", "6.8.0-45-generic", 3498),
        ("ixgbe", "6.1.0-26-amd64", 3046),
        ("i40e", "6.1.0-26-amd64", 3046),
        ("ice", "6.8.0-45-generic", 3046),
        ("igb", "5.10.0-32-amd64", 3046),
    ] {
        let fits = card(driver, version, most, 1, 8);
        assert_eq!(outcome(&fits, "mtu"), nothing(OK), "{driver}");
        let mut larger = card(driver, version, 9001, 1, 8);
        let mend = format!("ip link set dev ens5 mtu {most}");
        assert_eq!(outcome(&larger, "mtu"), (WARN, mend.clone()), "{driver}");
        larger.wanted.xdp = Some(Xdp::Native);
        assert_eq!(outcome(&larger, "mtu"), (FAIL, mend), "{driver}");
        larger.wanted.xdp = Some(Xdp::Skb);
        assert_eq!(outcome(&larger, "mtu"), nothing(None), "{driver}");
        larger.wanted.xdp = None;
        assert_eq!(outcome(&larger, "mtu"), nothing(None), "{driver}");
    }
    let unknown = card("e1000e", "6.1.0-26-amd64", 9000, 1, 1);
    assert_eq!(outcome(&unknown, "mtu"), nothing(None));
}

/// A t3.medium, on which the project began: as it comes, native XDP is refused twice.
#[test]
fn an_instance_of_aws() {
    let as_it_comes = ena(9001, 2, 2);
    assert_eq!(
        outcome(&as_it_comes, "channels"),
        (WARN, "ethtool -L ens5 combined 1".to_owned())
    );
    assert!(!native::holds(&as_it_comes));
    assert!(native::holds(&ena(3498, 1, 2)));
    // With the config's help.
    let mut helped = as_it_comes;
    helped.wanted.mtu = Some(3498);
    helped.wanted.channels = Some(1);
    assert!(native::holds(&helped));
    for (version, level) in [
        ("2.13.0g", WARN),
        ("2.16.1g", WARN),
        ("2.17.0g", OK),
        ("2.20.1g", OK),
        ("6.18.2", WARN),
    ] {
        let instance = card("ena", version, 1500, 8, 8);
        assert_eq!(outcome(&instance, "channels").0, level, "{version}");
    }
}

#[test]
fn virtio_without_a_channel_to_spare() {
    let spare_in = |xdp, driver, now, max| {
        let mut interface = card(driver, "1.0.0", 1500, now, max);
        interface.wanted.xdp = Some(xdp);
        interface.wanted.sends = true;
        outcome(&interface, "spare-channels")
    };
    let mend = "ethtool -L ens5 combined 2".to_owned();
    assert_eq!(
        spare_in(Xdp::Native, "virtio_net", 4, 4),
        (FAIL, mend.clone())
    );
    assert_eq!(spare_in(Xdp::Skb, "virtio_net", 4, 4), nothing(None));
    let mut in_skb_mode = card("virtio_net", "1.0.0", 1500, 4, 4);
    in_skb_mode.wanted.xdp = Some(Xdp::Skb);
    assert_eq!(outcome(&in_skb_mode, "skb"), nothing(OK));
    let spare = |driver, now, max| spare_in(Xdp::Auto, driver, now, max);
    assert_eq!(spare("virtio_net", 4, 4), (WARN, mend));
    let only_received = card("virtio_net", "1.0.0", 1500, 4, 4);
    assert_eq!(outcome(&only_received, "spare-channels"), nothing(None));
    assert_eq!(spare("virtio_net", 2, 2), nothing(None), "as many as CPUs");
    assert_eq!(spare("virtio_net", 4, 8), nothing(None), "room for more");
    assert_eq!(spare("igb", 4, 4), nothing(None));
}

#[test]
fn virtio_adds_channels_for_a_program() {
    let mut guest = card("virtio_net", "1.0.0", 1500, 2, 4);
    let mend = "ethtool -L ens5 combined 4".to_owned();
    assert_eq!(outcome(&guest, "added-channels"), (WARN, mend));
    guest.wanted.channels = Some(4);
    assert_eq!(outcome(&guest, "added-channels"), nothing(None));
    let has_no_more = card("virtio_net", "1.0.0", 1500, 2, 2);
    assert_eq!(outcome(&has_no_more, "added-channels"), nothing(None));
    let other = card("igb", "6.1.0", 1500, 2, 8);
    assert_eq!(outcome(&other, "added-channels"), nothing(None));
}

#[test]
fn offloads_that_a_driver_minds() {
    let with = |driver, lro, gro_hw| Interface {
        lro,
        gro_hw,
        ..card(driver, "6.1.0", 1500, 1, 8)
    };
    let mend = |offload| (WARN, format!("ethtool -K ens5 {offload} off"));
    assert_eq!(
        outcome(&with("mlx5_core", ON, None), "merging"),
        mend("lro")
    );
    assert_eq!(
        outcome(&with("mlx5_core", None, ON), "merging"),
        mend("rx-gro-hw")
    );
    assert_eq!(outcome(&with("ixgbe", ON, None), "merging"), mend("lro"));
    assert_eq!(outcome(&with("ixgbe", None, None), "merging").0, OK);
    assert_eq!(outcome(&with("i40e", ON, ON), "merging").0, None);
    // The driver turns off what it may.
    assert_eq!(outcome(&with("virtio_net", None, ON), "merging").0, None);
    let fixed = with("virtio_net", None, FIXED);
    let verdict = judged(&fixed, "merging").unwrap();
    assert!(verdict.meaning.contains("ctrl_guest_offloads=on"));
    assert_eq!(verdict.level, Level::Warn);
}

#[test]
fn a_veth_minds_its_other_end() {
    let veth = |mtu, tx_queues, here| Interface {
        kind: Kind::Veth(Some(Peer {
            name: "eth0".to_owned(),
            here,
            mtu,
            tx_queues,
        })),
        channels: Some(separate(1, 4)),
        ..card("veth", "1.0", 1500, 1, 0)
    };
    assert_eq!(outcome(&veth(3506, 1, true), "peer-mtu").0, OK);
    assert_eq!(
        outcome(&veth(3507, 1, true), "peer-mtu"),
        (WARN, "ip link set dev eth0 mtu 3506".to_owned())
    );
    let there = judged(&veth(9000, 1, false), "peer-mtu").unwrap();
    assert!(there.meaning.contains("another network namespace"));
    assert_eq!(
        outcome(&veth(1500, 2, true), "peer-queues"),
        (WARN, "ethtool -L ens5 rx 2".to_owned())
    );
    assert_eq!(
        outcome(&veth(1500, 8, true), "peer-queues"),
        (WARN, "ethtool -L eth0 tx 1".to_owned()),
        "more than it can have"
    );
    let mut there = veth(1500, 8, false);
    there.wanted.xdp = Some(Xdp::Native);
    assert_eq!(
        outcome(&there, "peer-queues").0,
        WARN,
        "as it may use fewer"
    );
}

#[test]
fn bonds_vlans_and_their_parts() {
    for (mode, level) in [
        (0, OK),
        (1, OK),
        (2, OK),
        (3, WARN),
        (4, OK),
        (5, WARN),
        (6, WARN),
    ] {
        let bond = Interface {
            kind: Kind::Bond(mode),
            ..card("bonding", "6.1.0", 1500, 1, 0)
        };
        assert_eq!(outcome(&bond, "bond-mode").0, level, "{mode}");
    }
    let vlan = Interface {
        kind: Kind::Vlan("ens5".to_owned(), 7),
        ..card("802.1Q VLAN Support", "1.8", 1500, 1, 0)
    };
    let mend = "interface = ens5 and vlan = 7 in the listener".to_owned();
    assert_eq!(outcome(&vlan, "native-xdp"), (WARN, mend));
    let bridge = Interface {
        kind: Kind::Other("bridge".to_owned()),
        features: Some(Features::new(false, false)),
        ..card("bridge", "2.3", 1500, 1, 0)
    };
    assert_eq!(outcome(&bridge, "native-xdp").0, WARN);
    let part = Interface {
        master: Some(("bond0".to_owned(), "bond".to_owned())),
        ..card("ice", "6.8.0", 1500, 4, 8)
    };
    let mend = "interface = bond0 in the listener".to_owned();
    assert_eq!(outcome(&part, "part-of"), (WARN, mend));
}

#[test]
fn what_is_wanted_of_zero_copy() {
    let with = |wanted, has, mtu| Interface {
        wanted: Wanted {
            xdp: Some(Xdp::Auto),
            zero_copy: Some(wanted),
            ..Wanted::default()
        },
        features: Some(Features::new(true, has)),
        ..card("ice", "6.8.0", mtu, 1, 8)
    };
    let mend = "zero_copy = auto in [interface ens5]".to_owned();
    for (wanted, has, mtu, expected) in [
        (ZeroCopy::Auto, true, 1500, nothing(OK)),
        (ZeroCopy::Auto, false, 1500, nothing(OK)),
        (ZeroCopy::On, true, 1500, nothing(OK)),
        (ZeroCopy::On, false, 1500, (FAIL, mend.clone())),
        (ZeroCopy::On, true, 9000, (FAIL, mend)),
        (ZeroCopy::Off, true, 1500, nothing(OK)),
    ] {
        let interface = with(wanted, has, mtu);
        let what = format!("{wanted:?} {has} {mtu}");
        assert_eq!(outcome(&interface, "zero-copy"), expected, "{what}");
    }
}

#[test]
fn links_queues_and_tags() {
    let fine = card("ice", "6.8.0", 1500, 4, 8);
    assert_eq!(outcome(&fine, "link").0, OK);
    let down = Interface {
        state: State::Down,
        ..fine.clone()
    };
    let mend = "ip link set dev ens5 up".to_owned();
    assert_eq!(outcome(&down, "link"), (FAIL, mend));
    let unplugged = Interface {
        state: State::NoCarrier,
        ..fine.clone()
    };
    assert_eq!(outcome(&unplugged, "link"), nothing(FAIL));
    let mut tunnel = Interface {
        bare: true,
        ..fine.clone()
    };
    assert_eq!(outcome(&tunnel, "ethernet"), nothing(None));
    tunnel.wanted.program = true;
    assert_eq!(
        outcome(&tunnel, "ethernet"),
        (FAIL, "mode = userspace".to_owned())
    );
    assert_eq!(outcome(&tunnel, "native-xdp"), nothing(None));
    let [udp4, udp6] =
        ["udp4", "udp6"].map(|flow| format!("ethtool -N ens5 rx-flow-hash {flow} sdfn"));
    let both = format!("{udp4} && {udp6}");
    for (hashes_ports, expected) in [
        (vec![(Flow::Udp4, false)], (WARN, udp4.clone())),
        (vec![(Flow::Udp4, false), (Flow::Udp6, false)], (WARN, both)),
        (vec![(Flow::Udp4, false), (Flow::Udp6, true)], (WARN, udp4)),
        (vec![(Flow::Udp6, false)], (WARN, udp6)),
        (vec![(Flow::Udp6, true)], nothing(OK)),
        (vec![], nothing(None)),
    ] {
        let interface = Interface {
            hashes_ports,
            ..fine.clone()
        };
        assert_eq!(outcome(&interface, "rss"), expected);
    }
    let mut tagged = Interface {
        rx_vlan: ON,
        ..fine
    };
    assert_eq!(outcome(&tagged, "rxvlan"), nothing(None));
    tagged.wanted.tags = true;
    let mend = "ethtool -K ens5 rxvlan off".to_owned();
    assert_eq!(outcome(&tagged, "rxvlan"), (FAIL, mend));
}

#[test]
fn other_programs() {
    let with = |name: &str, attaches| Interface {
        programs: vec![Program {
            id: 12,
            name: Some("xdp_pass".to_owned()),
            mode: "xdpgeneric",
            holder: Some((
                Process {
                    id: 34,
                    name: name.to_owned(),
                },
                attaches,
            )),
        }],
        ..card("ice", "6.8.0", 1500, 4, 8)
    };
    let kill = (FAIL, "kill 34".to_owned());
    assert_eq!(outcome(&with("xdp-loader", true), "attached"), kill);
    let off = (FAIL, "ip link set dev ens5 xdpgeneric off".to_owned());
    assert_eq!(outcome(&with("bpftool", false), "attached"), off);
    assert_eq!(outcome(&with("fanout", true), "attached"), nothing(OK));
}

/// What kernels said, and what a start adds.
#[test]
fn a_refusal_is_explained() {
    let guest = Interface {
        gro_hw: FIXED,
        ..card("virtio_net", "1.0.0", 1500, 2, 4)
    };
    let other = card("atlantic", "6.1.0", 9000, 8, 8);
    for (interface, words, said) in [
        (
            ena(9001, 1, 2),
            "Failed to set xdp program, the current MTU is larger than the maximum allowed MTU. \
             Check the dmesg for more info",
            "mtu 9001 is more than the 3498 that ena takes with native XDP: ip link set dev ens5 mtu 3498",
        ),
        (
            ena(1500, 2, 2),
            "Failed to set xdp program, there is no enough space for allocating XDP queues, Check \
             the dmesg for more info",
            "ethtool -L ens5 combined 1",
        ),
        (
            guest,
            "virtio_net: Can't set XDP while host is implementing GRO_HW/CSUM, disable GRO_HW/CSUM first",
            "ctrl_guest_offloads=on",
        ),
        // It says nothing but to dmesg.
        (
            card("mlx5_core", "6.8.0", 9000, 8, 8),
            "Invalid argument (os error 22)",
            "ip link set dev ens5 mtu 3498",
        ),
        // Of others only the words are known.
        (
            other.clone(),
            "MTU (9000) is larger than maximum allowed MTU (3400)",
            "that may mend it: ip link set dev ens5 mtu 3400",
        ),
        (
            other.clone(),
            "prog does not support XDP frags, MTU too large",
            "that may mend it: ip link set dev ens5 mtu 1500",
        ),
        (
            other.clone(),
            "not enough channels for XDP",
            "that may mend it: ethtool -L ens5 combined 4",
        ),
        (
            other.clone(),
            "XDP is not supported with LRO",
            "that may mend it: ethtool -K ens5 lro off rx-gro-hw off",
        ),
    ] {
        let explained = native::explain(&interface, words).unwrap_or_default();
        assert!(explained.contains(said), "{words}: {explained}");
    }
    let mystery = "Operation not supported (os error 95)";
    assert_eq!(native::explain(&other, mystery), None);
}

#[test]
fn each_driver_is_there_once() {
    for driver in &DRIVERS {
        assert!(std::ptr::eq(named(driver.name), driver), "{}", driver.name);
    }
    assert_eq!(named("8139too").max_mtu, None);
}

fn told(host: &Host, rule: &str) -> (Option<Level>, String) {
    let mut all = judge(&host::RULES, host);
    said(
        all.find(|&(name, _)| name == rule)
            .map(|(_, verdict)| verdict),
    )
}

#[test]
fn kernels_and_what_they_lack() {
    let host = |release: &str, needs| Host {
        release: release.to_owned(),
        jit: Some(false),
        btf: false,
        xdp_sockets: Some(false),
        capabilities: caps::all(),
        memlock: u64::MAX,
        file_limit: 1024,
        unprivileged_port: 1024,
        program: "/usr/bin/fanout".into(),
        irqbalance: Some(Process {
            id: 7,
            name: "irqbalance".to_owned(),
        }),
        needs,
    };
    let af_xdp = Needs {
        af_xdp: true,
        queues: 2,
        ..Needs::default()
    };
    let xdp = Needs {
        xdp: true,
        ..Needs::default()
    };
    for (release, needs, level) in [
        ("5.4.0-190-generic", af_xdp, FAIL),
        ("5.9.1", af_xdp, OK),
        ("5.9.1", xdp, FAIL),
        ("5.10.0-32-amd64", xdp, OK),
        ("4.19.0", Needs::default(), OK),
        ("6.18.44", af_xdp, OK),
    ] {
        assert_eq!(told(&host(release, needs), "kernel").0, level, "{release}");
    }
    let lacking = host("6.1.0", af_xdp);
    assert_eq!(told(&lacking, "af_xdp").0, FAIL);
    let mend = "sysctl -w net.core.bpf_jit_enable=1".to_owned();
    assert_eq!(told(&lacking, "jit"), (WARN, mend));
    assert_eq!(told(&lacking, "btf").0, None);
    assert_eq!(told(&host("6.1.0", xdp), "btf").0, WARN);
    let mend = "systemctl stop irqbalance".to_owned();
    assert_eq!(told(&lacking, "irqbalance"), (WARN, mend));
    assert_eq!(told(&lacking, "capabilities").0, OK);
    let unprivileged = Host {
        capabilities: caps::CapsHashSet::new(),
        memlock: 8 << 20,
        ..lacking
    };
    let mend =
        "setcap cap_bpf,cap_perfmon,cap_net_admin,cap_net_raw,cap_ipc_lock+ep /usr/bin/fanout";
    assert_eq!(told(&unprivileged, "capabilities"), (FAIL, mend.to_owned()));
    let ports = Host {
        needs: Needs {
            lowest_port: Some(514),
            ..Needs::default()
        },
        ..unprivileged
    };
    let mend = "setcap cap_net_bind_service+ep /usr/bin/fanout".to_owned();
    assert_eq!(told(&ports, "capabilities"), (FAIL, mend));
    assert_eq!(told(&ports, "open-files").0, None);
    for (sockets, expected) in [
        (924, (OK, String::new())),
        (925, (FAIL, "ulimit -n 1025".to_owned())),
    ] {
        let needs = Needs {
            sockets,
            ..Needs::default()
        };
        assert_eq!(told(&host("6.1.0", needs), "open-files"), expected);
    }
}

#[test]
fn networks_that_check_sources() {
    let sent = |driver: &Driver, source, egress: &str| {
        let link = Link {
            index: IfIndex(2),
            name: egress.to_owned(),
            mac: [2, 0, 0, 0, 0, 2],
            ethernet: true,
            neighbors: true,
            mtu: 9001,
            state: State::Up,
            vlan: None,
            veth: false,
            allocated_rx_queues: 1,
        };
        let downstream = Downstream {
            address: "172.31.9.1:5514".parse().unwrap(),
            source,
            ingress: Some(Ingress {
                name: "ens5".to_owned(),
                driver: driver.name.to_owned(),
                largest: 9001,
            }),
            way: Surveyed {
                path: Ok(Path {
                    mtu: link.mtu,
                    link,
                    mac: Some([0; 6]),
                    next_hop: "172.31.0.1".parse().unwrap(),
                    local: false,
                    encapsulated: false,
                    source: None,
                }),
                neighbor: Some(Neighbor::Answered),
            },
            refused: None,
        };
        let mut all = judge(&listener::DOWNSTREAM, &downstream);
        all.find(|&(name, _)| name == "source-check")
            .map(|(_, verdict)| (verdict.level, verdict.mend))
    };
    let mend = Some(Mend::Set("source = rewrite".to_owned()));
    let aws = named("ena");
    assert_eq!(sent(aws, Source::Keep, "ens5"), Some((Level::Warn, mend)));
    assert_eq!(sent(aws, Source::Rewrite, "ens5"), None);
    assert_eq!(sent(aws, Source::Keep, "cni0"), None);
    assert_eq!(sent(named("ice"), Source::Keep, "ens5"), None);
}
