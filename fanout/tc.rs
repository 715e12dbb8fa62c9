//! By which ways the TC program can send: all that the kernel has, for the kernel does it.

use fanout_ebpf::abi::Egress;

use crate::{config::Source, in_kernel::Way, neighbor::Path};

/// How `path` is taken by datagrams whose source address becomes `source`.
///
/// # Errors
/// Why it can't be, and what mends that.
pub fn choose(path: &Path, source: Source) -> Result<Way, String> {
    if path.encapsulated {
        return Err(
            "the route encapsulates, which only the kernel's own routing does: that takes mode af_xdp or \
             userspace"
                .to_owned(),
        );
    }
    let egress = match path.local {
        true if path.next_hop.is_loopback() => Egress::Loopback,
        true => return Way::up(path, source),
        false => Egress::OtherInterface,
    };
    Ok(Way {
        egress,
        interface: path.link.index,
        vlan: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::{IfIndex, Link, State};

    fn path(to: &str) -> Path {
        Path {
            link: Link {
                index: IfIndex(3),
                name: "ens6".to_owned(),
                mac: [2, 0, 0, 0, 0, 3],
                ethernet: true,
                neighbors: true,
                mtu: 1500,
                state: State::Up,
                vlan: None,
                veth: false,
                allocated_rx_queues: 1,
            },
            mac: None,
            next_hop: to.parse().unwrap(),
            local: false,
            encapsulated: false,
            mtu: 1500,
            source: None,
        }
    }

    /// With a MAC address or without one, as into a tunnel.
    #[test]
    fn the_kernel_finds_the_neighbour() {
        for mac in [None, Some([2, 0, 0, 0, 1, 1])] {
            let path = Path {
                mac,
                ..path("10.0.0.1")
            };
            let way = choose(&path, Source::Rewrite).unwrap();
            assert_eq!(way.egress, Egress::OtherInterface);
            assert_eq!((way.interface, way.vlan), (IfIndex(3), None));
        }
    }

    #[test]
    fn addresses_of_the_host_are_reached_as_far_as_the_kernel_lets_them() {
        for (to, source, egress) in [
            ("10.0.0.9", Source::Keep, Some(Egress::Local)),
            ("10.0.0.9", Source::Rewrite, None),
            ("127.0.0.1", Source::Keep, Some(Egress::Loopback)),
            ("127.0.0.1", Source::Rewrite, Some(Egress::Loopback)),
            ("::1", Source::Keep, Some(Egress::Loopback)),
        ] {
            let path = Path {
                local: true,
                ..path(to)
            };
            let way = choose(&path, source).map(|way| way.egress);
            assert_eq!(way.ok(), egress, "{to} {source:?}");
        }
    }

    #[test]
    fn a_route_that_encapsulates_is_refused() {
        let path = Path {
            encapsulated: true,
            ..path("10.0.0.1")
        };
        let reason = choose(&path, Source::Keep).unwrap_err();
        assert!(reason.contains("userspace"), "{reason}");
    }
}
