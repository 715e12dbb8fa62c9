//! What the kernel's routing says of one destination (`RTM_GETROUTE`, `net/ipv4/route.c`,
//! `net/ipv6/route.c`): rules, tables, metrics and path MTU are the kernel's business.

use std::net::IpAddr;

use netlink_packet_route::{
    AddressFamily,
    route::{
        RouteAddress, RouteAttribute, RouteLwEnCapType, RouteMessage, RouteMetric, RouteType,
        RouteVia,
    },
};

use crate::{
    link::IfIndex,
    netlink::{Connection, Message},
};

/// The route to a destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Route {
    /// By which interface.
    pub(super) interface: IfIndex,
    /// Over which router; `None`: the destination is on the link.
    pub(super) gateway: Option<IpAddr>,
    /// Whether it leads to an address of this host.
    pub(super) local: bool,
    /// Whether it has an encapsulation of its own (MPLS, segment routing, IP in IP).
    pub(super) encapsulated: bool,
    /// The source address that the kernel would choose.
    pub(super) source: Option<IpAddr>,
    /// The path MTU, where it is not just the interface's.
    pub(super) mtu: Option<u32>,
}

impl Route {
    /// Whether only the kernel can send there.
    pub(super) fn is_kernel_only(&self) -> bool {
        self.local || self.encapsulated
    }
}

/// The route to `destination`, or why there is none, in the kernel's words.
pub(super) fn look_up(connection: &mut Connection, destination: IpAddr) -> Result<Route, String> {
    let mut request = RouteMessage::default();
    (
        request.header.address_family,
        request.header.destination_prefix_length,
    ) = match destination {
        IpAddr::V4(_) => (AddressFamily::Inet, 32),
        IpAddr::V6(_) => (AddressFamily::Inet6, 128),
    };
    request
        .attributes
        .push(RouteAttribute::Destination(destination.into()));
    let answers = connection
        .get(Message::GetRoute(request))
        .map_err(|refusal| refusal.to_string())?;
    let message = answers.into_iter().find_map(|answer| match answer {
        Message::NewRoute(message) => Some(message),
        _ => None,
    });
    Route::try_from(message.ok_or("no answer")?)
}

impl TryFrom<RouteMessage> for Route {
    type Error = String;

    /// IPv4 refuses a lookup that ends in an unreachable route; IPv6 answers with that route.
    fn try_from(message: RouteMessage) -> Result<Self, String> {
        let kind = message.header.kind;
        let local = matches!(kind, RouteType::Local | RouteType::Anycast);
        if !local && kind != RouteType::Unicast {
            return Err(format!("the route's type is {kind:?}").to_lowercase());
        }
        let mut route = Self {
            interface: IfIndex(0),
            gateway: None,
            local,
            encapsulated: false,
            source: None,
            mtu: None,
        };
        for attribute in message.attributes {
            match attribute {
                RouteAttribute::Oif(index) => route.interface = IfIndex(index),
                RouteAttribute::Gateway(gateway) => route.gateway = ip(&gateway),
                // An IPv4 route over an IPv6 router.
                RouteAttribute::Via(RouteVia::Inet(via)) => route.gateway = Some(via.into()),
                RouteAttribute::Via(RouteVia::Inet6(via)) => route.gateway = Some(via.into()),
                RouteAttribute::PrefSource(source) => route.source = ip(&source),
                RouteAttribute::EncapType(encapsulation) => {
                    route.encapsulated |= encapsulation != RouteLwEnCapType::None;
                }
                RouteAttribute::Metrics(metrics) => {
                    route.mtu = metrics.iter().find_map(|metric| match metric {
                        RouteMetric::Mtu(mtu) => Some(*mtu),
                        _ => None,
                    });
                }
                _ => {}
            }
        }
        Ok(route)
    }
}

/// Whether a change of the route in `message` may change the way to `destination`.
pub(super) fn covers(message: &RouteMessage, destination: IpAddr) -> bool {
    let prefix = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RouteAttribute::Destination(prefix) => Some(ip(prefix)),
            _ => None,
        });
    let length = u32::from(message.header.destination_prefix_length);
    match (prefix, destination) {
        (Some(Some(IpAddr::V4(prefix))), IpAddr::V4(v4)) => {
            let differ = prefix.to_bits() ^ v4.to_bits();
            differ.leading_zeros() >= length
        }
        (Some(Some(IpAddr::V6(prefix))), IpAddr::V6(v6)) => {
            let differ = prefix.to_bits() ^ v6.to_bits();
            differ.leading_zeros() >= length
        }
        // A default route has no destination.
        (None, IpAddr::V4(_)) => message.header.address_family == AddressFamily::Inet,
        (None, IpAddr::V6(_)) => message.header.address_family == AddressFamily::Inet6,
        _ => false,
    }
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some((*v4).into()),
        RouteAddress::Inet6(v6) => Some((*v6).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: RouteType, prefix: Option<(&str, u8)>) -> RouteMessage {
        let mut message = RouteMessage::default();
        message.header.kind = kind;
        message.header.address_family = AddressFamily::Inet;
        if let Some((prefix, length)) = prefix {
            let prefix: IpAddr = prefix.parse().unwrap();
            if prefix.is_ipv6() {
                message.header.address_family = AddressFamily::Inet6;
            }
            message.header.destination_prefix_length = length;
            message
                .attributes
                .push(RouteAttribute::Destination(prefix.into()));
        }
        message
    }

    #[test]
    fn a_route_concerns_what_its_prefix_covers() {
        let cases = [
            (Some(("10.1.0.0", 16)), "10.1.255.255", true),
            (Some(("10.1.0.0", 16)), "10.2.0.0", false),
            (Some(("10.1.2.3", 32)), "10.1.2.3", true),
            (Some(("10.1.2.3", 32)), "10.1.2.2", false),
            (Some(("128.0.0.0", 1)), "127.0.0.1", false),
            (None, "192.0.2.1", true),
            (None, "2001:db8::1", false),
            (Some(("fd00::", 8)), "fdff::1", true),
            (Some(("fd00::", 8)), "fe80::1", false),
            (Some(("::", 1)), "10.0.0.1", false),
        ];
        for (prefix, destination, expected) in cases {
            let message = message(RouteType::Unicast, prefix);
            let destination: IpAddr = destination.parse().unwrap();
            assert_eq!(
                covers(&message, destination),
                expected,
                "{prefix:?} {destination}"
            );
        }
    }

    #[test]
    fn only_a_way_to_one_receiver_is_a_route() {
        for kind in [
            RouteType::Unreachable,
            RouteType::BlackHole,
            RouteType::Prohibit,
            RouteType::Broadcast,
            RouteType::Multicast,
        ] {
            let words = Route::try_from(message(kind, None)).unwrap_err();
            assert!(
                words.contains(&format!("{kind:?}").to_lowercase()),
                "{words}"
            );
        }
        for (kind, local) in [
            (RouteType::Unicast, false),
            (RouteType::Local, true),
            (RouteType::Anycast, true),
        ] {
            let route = Route::try_from(message(kind, None)).unwrap();
            assert_eq!(route.local, local, "{kind:?}");
        }
    }

    #[test]
    fn a_router_of_the_other_family_and_an_encapsulation_are_seen() {
        let mut message = message(RouteType::Unicast, None);
        let router = "fe80::1".parse().unwrap();
        message.attributes.extend([
            RouteAttribute::Oif(7),
            RouteAttribute::Via(RouteVia::Inet6(router)),
            RouteAttribute::Metrics(vec![RouteMetric::Hoplimit(3), RouteMetric::Mtu(1400)]),
            RouteAttribute::EncapType(RouteLwEnCapType::Mpls),
        ]);
        let expected = Route {
            interface: IfIndex(7),
            gateway: Some(router.into()),
            local: false,
            encapsulated: true,
            source: None,
            mtu: Some(1400),
        };
        assert_eq!(Route::try_from(message), Ok(expected));
    }
}
