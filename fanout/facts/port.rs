//! What a listener binds: whose the address is, and who has the port already.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use super::process::Process;
use crate::{
    claim,
    config::{Listener, Mode},
    link::IfIndex,
};

/// One bind of a listener.
#[derive(Clone, Debug)]
pub struct Port {
    /// Its mode.
    pub mode: Mode,
    /// Where it listens.
    pub interface: Option<String>,
    /// What it binds.
    pub address: SocketAddr,
    /// Whether the address is one of this host's; any address is.
    pub local: bool,
    /// The socket that gets what is sent there, or would.
    pub socket: Option<Socket>,
    /// Whether an instance of fanout forwards what is sent there.
    pub served: bool,
}

/// A UDP socket of this network namespace.
#[derive(Clone, Debug)]
pub struct Socket {
    /// What it is bound to.
    pub address: SocketAddr,
    /// Whose it is, if this process may know.
    pub owner: Option<Process>,
}

impl Port {
    /// Looks at `address` of `listener`, which is on the interface number `interface`.
    #[must_use]
    pub fn read(
        listener: &Listener,
        address: SocketAddr,
        interface: Option<IfIndex>,
        local: bool,
    ) -> Self {
        let socket = sockets()
            .into_iter()
            .find(|&(bound, _)| collide(bound, address))
            .map(|(address, inode)| Socket {
                address,
                owner: Process::with_socket(inode),
            });
        let is_fanout = |socket: &Socket| {
            let owner = socket.owner.as_ref();
            owner.is_some_and(|owner| owner.name == env!("CARGO_PKG_NAME"))
        };
        let claimed = interface.is_some_and(|interface| {
            claim::is_held(&claim::name(interface, listener.vlan, address))
        });
        Self {
            mode: listener.mode,
            interface: listener.interface.clone(),
            address,
            local,
            served: claimed || socket.as_ref().is_some_and(is_fanout),
            socket,
        }
    }
}

/// Whether a socket on the one gets datagrams for the other.
fn collide(bound: SocketAddr, wanted: SocketAddr) -> bool {
    let any = |address: SocketAddr| address.ip().is_unspecified();
    let same_family = bound.is_ipv4() == wanted.is_ipv4();
    // One on [::] takes IPv4 too, unless it says otherwise, which /proc does not tell.
    let takes = same_family || bound.is_ipv6() && any(bound);
    bound.port() == wanted.port()
        && takes
        && (bound.ip() == wanted.ip() || any(bound) || any(wanted))
}

/// All UDP sockets, with their inodes.
fn sockets() -> Vec<(SocketAddr, u64)> {
    let read = |file: &str| fs::read_to_string(format!("/proc/self/net/{file}"));
    let tables = ["udp", "udp6"].map(|file| read(file).unwrap_or_default());
    let lines = tables.iter().flat_map(|table| table.lines().skip(1));
    lines.filter_map(socket).collect()
}

/// `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode …`
fn socket(line: &str) -> Option<(SocketAddr, u64)> {
    let mut fields = line.split_ascii_whitespace();
    let (ip, port) = fields.nth(1)?.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    // Words of 32 bits in network order, printed as numbers of this machine.
    let word = |text: &str| Some(u32::from_str_radix(text, 16).ok()?.to_ne_bytes());
    let ip: IpAddr = if ip.len() == 8 {
        Ipv4Addr::from(word(ip)?).into()
    } else {
        let mut bytes = [0; 16];
        for (place, at) in bytes.chunks_exact_mut(4).zip((0..32).step_by(8)) {
            place.copy_from_slice(&word(ip.get(at..at + 8)?)?);
        }
        Ipv6Addr::from(bytes).into()
    };
    let inode = fields.nth(7)?.parse().ok()?;
    Some((SocketAddr::new(ip, port), inode))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn sockets_are_read_from_proc() {
        let v4 = "  321: 0100007F:0202 00000000:0000 07 00000000:00000000 00:00000000 00000000     \
                  0        0 20613 2 0000000000000000 0";
        let v6 = " 1: 000000FD000000000000000001000000:0202 00000000000000000000000000000000:0000 07 \
                  00000000:00000000 00:00000000 00000000 0 0 7 2 0000000000000000 0";
        for (line, address, inode) in [(v4, "127.0.0.1:514", 20613), (v6, "[fd00::1]:514", 7)] {
            let expected = (address.parse().unwrap(), inode);
            assert_eq!(socket(line), Some(expected));
        }
        assert_eq!(socket("sl local_address rem_address st"), None);
    }

    #[test]
    fn who_gets_a_datagram() {
        for (bound, wanted, expected) in [
            ("10.0.0.1:514", "10.0.0.1:514", true),
            ("10.0.0.1:514", "10.0.0.1:515", false),
            ("10.0.0.2:514", "10.0.0.1:514", false),
            ("0.0.0.0:514", "10.0.0.1:514", true),
            ("10.0.0.2:514", "0.0.0.0:514", true),
            ("[::]:514", "10.0.0.1:514", true),
            ("[::]:514", "[fd00::1]:514", true),
            ("[fd00::1]:514", "10.0.0.1:514", false),
            ("0.0.0.0:514", "[fd00::1]:514", false),
        ] {
            let what = format!("{bound} {wanted}");
            let (bound, wanted) = (bound.parse().unwrap(), wanted.parse().unwrap());
            assert_eq!(collide(bound, wanted), expected, "{what}");
        }
    }
}
