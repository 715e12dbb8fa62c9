//! What a kernel's description of an interface becomes.

use super::*;

fn message(kind: LinkLayerType, flags: LinkFlags, attributes: &[LinkAttribute]) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = 7;
    message.header.link_layer_type = kind;
    message.header.flags = flags;
    message.attributes = attributes.to_vec();
    message
}

fn vlan_device(protocol: Option<VlanProtocol>, more: &[LinkAttribute]) -> LinkMessage {
    let mut data = vec![InfoVlan::Id(42)];
    data.extend(protocol.map(InfoVlan::Protocol));
    let info = vec![
        LinkInfo::Kind(InfoKind::Vlan),
        LinkInfo::Data(InfoData::Vlan(data)),
    ];
    let mut attributes = vec![LinkAttribute::Link(3), LinkAttribute::LinkInfo(info)];
    attributes.extend_from_slice(more);
    message(LinkLayerType::Ether, LinkFlags::empty(), &attributes)
}

#[test]
fn an_ethernet_interface() {
    let attributes = [
        LinkAttribute::IfName("eth0".to_owned()),
        LinkAttribute::Mtu(1500),
        LinkAttribute::Address(vec![2, 0, 0, 0, 0, 9]),
        LinkAttribute::NumRxQueues(4),
        LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Veth)]),
    ];
    let up = LinkFlags::Up | LinkFlags::LowerUp | LinkFlags::Running;
    let link = Link::from(message(LinkLayerType::Ether, up, &attributes));
    let expected = Link {
        index: IfIndex(7),
        name: "eth0".to_owned(),
        mac: [2, 0, 0, 0, 0, 9],
        neighbors: true,
        mtu: 1500,
        up: true,
        vlan: None,
        veth: true,
        allocated_rx_queues: 4,
    };
    assert_eq!(link, expected);
}

#[test]
fn up_takes_an_operator_a_carrier_and_a_working_link() {
    let all = LinkFlags::Up | LinkFlags::LowerUp | LinkFlags::Running;
    for missing in [LinkFlags::Up, LinkFlags::LowerUp, LinkFlags::Running] {
        let link = Link::from(message(LinkLayerType::Ether, all - missing, &[]));
        assert!(!link.up, "without {missing:?}");
    }
}

#[test]
fn neighbours_are_found_on_ethernet_with_arp_only() {
    let cases = [
        (LinkLayerType::Ether, LinkFlags::empty(), true),
        (LinkLayerType::Ether, LinkFlags::Noarp, false),
        (LinkLayerType::Loopback, LinkFlags::Loopback, false),
        (LinkLayerType::None, LinkFlags::Pointopoint, false),
    ];
    for (kind, flags, expected) in cases {
        let link = Link::from(message(kind, flags, &[]));
        assert_eq!(link.neighbors, expected, "{kind:?} {flags:?}");
    }
}

#[test]
fn a_vlan_device_names_its_parent_and_id() {
    let expected = Some(Vlan {
        parent: IfIndex(3),
        id: 42,
    });
    for protocol in [None, Some(VlanProtocol::Ieee8021Q)] {
        assert_eq!(Link::from(vlan_device(protocol, &[])).vlan, expected);
    }
}

#[test]
fn a_tag_of_another_kind_or_a_parent_elsewhere_is_no_vlan_of_ours() {
    let service = vlan_device(Some(VlanProtocol::Ieee8021Ad), &[]);
    assert_eq!(Link::from(service).vlan, None);
    let moved = vlan_device(None, &[LinkAttribute::LinkNetNsId(0)]);
    assert_eq!(Link::from(moved).vlan, None);
}

#[test]
fn only_what_differs_is_news() {
    let mtu = |mtu| {
        message(
            LinkLayerType::Ether,
            LinkFlags::Up,
            &[LinkAttribute::Mtu(mtu)],
        )
    };
    let links = Links(vec![Link::from(mtu(1500))]);
    assert!(links.know(mtu(1500)));
    assert!(!links.know(mtu(1400)));
    let mut port = mtu(1400);
    port.header.interface_family = AddressFamily::Bridge;
    assert!(links.know(port));
    assert!(!Links::default().know(mtu(1500)));
}
