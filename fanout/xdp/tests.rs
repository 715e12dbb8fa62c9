//! Ways for paths. The interfaces have numbers that no kernel gives: it knows nothing of what they take.

use super::*;
use crate::link::{State, Vlan};

const INGRESS: u32 = u32::MAX - 8;
const OTHER: u32 = INGRESS + 1;
/// On [`INGRESS`].
const OWN_VLAN: u32 = INGRESS + 2;
/// On [`OTHER`].
const OTHER_VLAN: u32 = INGRESS + 3;

fn link(index: u32, parent: Option<u32>) -> Link {
    Link {
        index: IfIndex(index),
        name: format!("eth{index}"),
        mac: [2, 0, 0, 0, 0, 1],
        ethernet: true,
        neighbors: true,
        mtu: 1500,
        state: State::Up,
        vlan: parent.map(|parent| Vlan {
            parent: IfIndex(parent),
            id: 9,
        }),
        veth: false,
        allocated_rx_queues: 1,
    }
}

fn links() -> Links {
    [
        (INGRESS, None),
        (OTHER, None),
        (OWN_VLAN, Some(INGRESS)),
        (OTHER_VLAN, Some(OTHER)),
    ]
    .map(|(index, parent)| link(index, parent))
    .into_iter()
    .collect()
}

fn path(by: &Link, to: &str) -> Path {
    Path {
        link: by.clone(),
        mac: Some([2, 0, 0, 0, 1, 1]),
        next_hop: to.parse().unwrap(),
        local: false,
        encapsulated: false,
        mtu: 1500,
        source: None,
    }
}

/// How a path by `interface` is taken, and the interfaces that frames are then redirected to.
fn choose(mode: Mode, ingress: &Link, interface: u32) -> (Egress, u32, Option<u16>, Vec<u32>) {
    let (links, mut features) = (links(), XdpFeatures::default());
    let by = links.by_index(IfIndex(interface)).unwrap();
    let mut egresses = Egresses::new(ingress, mode, &links, &mut features);
    let way = egresses
        .choose(&path(by, "10.0.0.1"), Source::Keep)
        .unwrap();
    let devices = egresses
        .into_devices()
        .into_iter()
        .map(|IfIndex(index)| index);
    let IfIndex(index) = way.interface;
    (way.egress, index, way.vlan, devices.collect())
}

#[test]
fn each_interface_in_its_way() {
    use Egress::{OtherInterface, SameInterface};
    let ingress = link(INGRESS, None);
    for mode in [Mode::Native, Mode::Skb] {
        let chosen = |interface| choose(mode, &ingress, interface);
        assert_eq!(chosen(INGRESS), (SameInterface, INGRESS, None, vec![]));
        assert_eq!(chosen(OTHER), (OtherInterface, OTHER, None, vec![OTHER]));
        assert_eq!(chosen(OWN_VLAN), (SameInterface, INGRESS, Some(9), vec![]));
    }
    let native = choose(Mode::Native, &ingress, OTHER_VLAN);
    assert_eq!(native, (OtherInterface, OTHER, Some(9), vec![OTHER]));
    let skb = choose(Mode::Skb, &ingress, OTHER_VLAN);
    assert_eq!(skb, (OtherInterface, OTHER_VLAN, None, vec![OTHER_VLAN]));
}

#[test]
fn a_veth_redirects_to_itself() {
    let veth = Link {
        veth: true,
        ..link(INGRESS, None)
    };
    let (links, mut features) = ([veth.clone()].into_iter().collect(), XdpFeatures::default());
    for (mode, egress) in [
        (Mode::Native, Egress::OtherInterface),
        (Mode::Skb, Egress::SameInterface),
    ] {
        let mut egresses = Egresses::new(&veth, mode, &links, &mut features);
        let way = egresses
            .choose(&path(&veth, "10.0.0.1"), Source::Keep)
            .unwrap();
        assert_eq!((way.egress, way.interface), (egress, veth.index));
    }
}

#[test]
fn what_only_the_kernel_can_do_is_refused_with_the_mend() {
    let (links, mut features) = (links(), XdpFeatures::default());
    let ingress = link(INGRESS, None);
    let mut egresses = Egresses::new(&ingress, Mode::Native, &links, &mut features);
    let mut choose = |mac, local, to: &str, source| {
        let path = Path {
            mac,
            local,
            ..path(&ingress, to)
        };
        egresses.choose(&path, source).map(|way| way.egress)
    };
    let own = "10.0.0.9";
    assert_eq!(choose(None, true, own, Source::Keep), Ok(Egress::Local));
    for (local, to, source, mend) in [
        (false, "10.0.0.1", Source::Keep, "mode af_xdp or userspace"),
        (true, "127.0.0.1", Source::Keep, "another mode"),
        (true, "::1", Source::Keep, "another mode"),
        (true, own, Source::Rewrite, "source = keep"),
    ] {
        let reason = choose(None, local, to, source).unwrap_err();
        assert!(reason.contains(mend), "{to}: {reason}");
    }
}
