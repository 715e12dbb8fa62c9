//! What a kernel's description of an interface becomes.

use super::*;

const ETH_P_8021Q_BE: [u8; 2] = [0x81, 0x00];

fn message(kind: LinkLayerType, flags: LinkFlags, attributes: Attributes) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = 7;
    message.header.link_layer_type = kind;
    message.header.flags = flags;
    message.attributes = attributes;
    message
}

fn none() -> Attributes {
    Attributes::default()
}

fn vlan_device(protocol: Option<[u8; 2]>) -> LinkMessage {
    let id = none().with(IFLA_VLAN_ID, 42_u16.to_ne_bytes());
    let data = match protocol {
        Some(protocol) => id.with(IFLA_VLAN_PROTOCOL, protocol),
        None => id,
    };
    let info = none()
        .with(libc::IFLA_INFO_KIND, *b"vlan\0")
        .with_nested(libc::IFLA_INFO_DATA, data);
    let attributes = none()
        .with(libc::IFLA_LINK, 3_u32.to_ne_bytes())
        .with_nested(libc::IFLA_LINKINFO, info);
    message(LinkLayerType::Ether, LinkFlags::empty(), attributes)
}

#[test]
fn an_ethernet_interface() {
    let info = none().with(libc::IFLA_INFO_KIND, *b"veth\0");
    let attributes = none()
        .with(libc::IFLA_IFNAME, *b"eth0\0")
        .with(libc::IFLA_MTU, 1500_u32.to_ne_bytes())
        .with(libc::IFLA_ADDRESS, [2, 0, 0, 0, 0, 9])
        .with(libc::IFLA_NUM_RX_QUEUES, 4_u32.to_ne_bytes())
        .with_nested(libc::IFLA_LINKINFO, info);
    let up = LinkFlags::Up | LinkFlags::LowerUp | LinkFlags::Running;
    let link = Link::from(&message(LinkLayerType::Ether, up, attributes));
    let expected = Link {
        index: IfIndex(7),
        name: "eth0".to_owned(),
        mac: [2, 0, 0, 0, 0, 9],
        ethernet: true,
        neighbors: true,
        mtu: 1500,
        state: State::Up,
        vlan: None,
        veth: true,
        allocated_rx_queues: 4,
    };
    assert_eq!(link, expected);
}

#[test]
fn up_takes_an_operator_a_carrier_and_a_working_link() {
    let all = LinkFlags::Up | LinkFlags::LowerUp | LinkFlags::Running;
    for (missing, state) in [
        (LinkFlags::Up, State::Down),
        (LinkFlags::LowerUp, State::NoCarrier),
        (LinkFlags::Running, State::NoCarrier),
        (LinkFlags::empty(), State::Up),
    ] {
        let link = Link::from(&message(LinkLayerType::Ether, all - missing, none()));
        assert_eq!(link.state, state, "without {missing:?}");
    }
}

#[test]
fn neighbours_are_found_on_ethernet_with_arp_only() {
    let cases = [
        (LinkLayerType::Ether, LinkFlags::empty(), [true, true]),
        (LinkLayerType::Ether, LinkFlags::Noarp, [true, false]),
        (LinkLayerType::Loopback, LinkFlags::Loopback, [true, false]),
        (LinkLayerType::None, LinkFlags::Pointopoint, [false, false]),
    ];
    for (kind, flags, expected) in cases {
        let link = Link::from(&message(kind, flags, none()));
        let found = [link.ethernet, link.neighbors];
        assert_eq!(found, expected, "{kind:?} {flags:?}");
    }
}

#[test]
fn a_vlan_device_names_its_parent_and_id() {
    let expected = Some(Vlan {
        parent: IfIndex(3),
        id: 42,
    });
    for protocol in [None, Some(ETH_P_8021Q_BE)] {
        assert_eq!(Link::from(&vlan_device(protocol)).vlan, expected);
    }
}

#[test]
fn a_tag_of_another_kind_or_a_parent_elsewhere_is_no_vlan_of_ours() {
    let service = vlan_device(Some(ETH_P_8021AD_BE));
    assert_eq!(Link::from(&service).vlan, None);
    let mut moved = vlan_device(None);
    moved.attributes = moved.attributes.with(libc::IFLA_LINK_NETNSID, [0; 4]);
    assert_eq!(Link::from(&moved).vlan, None);
}

#[test]
fn only_what_differs_is_news() {
    let mtu = |mtu: u32| {
        let attributes = none().with(libc::IFLA_MTU, mtu.to_ne_bytes());
        message(LinkLayerType::Ether, LinkFlags::Up, attributes)
    };
    let links = Links(vec![Link::from(&mtu(1500))]);
    assert!(links.know(&mtu(1500)));
    assert!(!links.know(&mtu(1400)));
    let mut port = mtu(1400);
    port.header.interface_family = AddressFamily::Bridge;
    assert!(links.know(&port));
    assert!(!Links::default().know(&mtu(1500)));
}
