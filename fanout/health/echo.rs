//! ICMP echo (RFC 792, RFC 4443): one socket for a family, whoever is asked.

use std::{
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    os::fd::{AsFd, BorrowedFd},
};

use fanout_ebpf::checksum::Sum;

use crate::sys::icmp;

/// Type, code, checksum, identifier, sequence number; then the token and the number of the request.
const MESSAGE: usize = 8 + 8 + 4;
/// Room for the longest IPv4 header and a message, and for some more, so that a longer one is known as such.
const ROOM: usize = 60 + MESSAGE + 1;

/// Sends echo requests, and gets the replies.
#[derive(Debug)]
pub(super) struct Echo {
    socket: UdpSocket,
    messages: Messages,
}

/// How messages look.
#[derive(Clone, Copy, Debug)]
struct Messages {
    ipv6: bool,
    /// Whether what is received begins with an IPv4 header.
    with_header: bool,
    /// Tells this process's from all others.
    token: u64,
}

impl Echo {
    /// Opens it.
    ///
    /// # Errors
    /// `EPERM` without `CAP_NET_RAW` and without a group in the range of `net.ipv4.ping_group_range`.
    pub(super) fn open(ipv6: bool, token: u64) -> io::Result<Self> {
        let (socket, raw) = match icmp::ping(ipv6) {
            Ok(socket) => (socket, false),
            Err(_) => (icmp::raw(ipv6)?, true),
        };
        let with_header = raw && !ipv6;
        let messages = Messages {
            ipv6,
            with_header,
            token,
        };
        Ok(Self { socket, messages })
    }

    /// Sends `to` the request number `number`.
    ///
    /// # Errors
    /// As sendto(2).
    pub(super) fn request(&self, to: IpAddr, number: u32) -> io::Result<()> {
        let message = self.messages.request(number);
        let sent = self.socket.send_to(&message, SocketAddr::new(to, 0));
        sent.map(drop)
    }

    /// Takes the replies that came: from whom, and to which request.
    pub(super) fn replies(&self) -> impl Iterator<Item = (IpAddr, u32)> {
        let mut room = [0; ROOM];
        let packets = std::iter::from_fn(move || {
            let (len, from) = self.socket.recv_from(&mut room).ok()?;
            let number = self.messages.replied_to(room.get(..len)?);
            Some(number.map(|number| (from.ip(), number)))
        });
        packets.flatten()
    }
}

impl AsFd for Echo {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Messages {
    /// The kernel computes the checksum itself but for a raw socket of IPv4, and writes an ICMP socket's identifier.
    fn request(self, number: u32) -> [u8; MESSAGE] {
        let mut message = [0; MESSAGE];
        message[0] = if self.ipv6 { 128 } else { 8 };
        message[6..8].copy_from_slice(&number.to_be_bytes()[2..]);
        message[8..16].copy_from_slice(&self.token.to_be_bytes());
        message[16..].copy_from_slice(&number.to_be_bytes());
        let checksum = Sum::default().bytes(&message).checksum();
        message[2..4].copy_from_slice(&checksum);
        message
    }

    /// The number of the request that `packet` is a reply to; `None` if it is none to one of this process's.
    fn replied_to(self, packet: &[u8]) -> Option<u32> {
        let header_len = match packet.first() {
            Some(first) if self.with_header => usize::from(first & 0xf) * 4,
            _ => 0,
        };
        let message: &[u8; MESSAGE] = packet.get(header_len..)?.try_into().ok()?;
        let is_ours = message[0] == if self.ipv6 { 129 } else { 0 }
            && message[8..16] == self.token.to_be_bytes();
        let number = message.last_chunk().copied().map(u32::from_be_bytes);
        number.filter(|_| is_ours)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: u64 = 0x0123_4567_89ab_cdef;

    fn messages(ipv6: bool, with_header: bool) -> Messages {
        Messages {
            ipv6,
            with_header,
            token: TOKEN,
        }
    }

    #[test]
    fn a_request_adds_up() {
        for ipv6 in [false, true] {
            let request = messages(ipv6, false).request(0x0001_ffff);
            assert_eq!(request[0], if ipv6 { 128 } else { 8 });
            assert_eq!(Sum::default().bytes(&request).fold(), [0xff, 0xff]);
        }
    }

    #[test]
    fn a_reply_names_its_request() {
        for (ipv6, with_header, reply) in [(false, false, 0), (false, true, 0), (true, false, 129)]
        {
            let messages = messages(ipv6, with_header);
            let mut packet = messages.request(70_000).to_vec();
            packet[0] = reply;
            if with_header {
                // Of 24 bytes: it has an option.
                packet.splice(..0, std::iter::once(0x46).chain([0; 23]));
            }
            assert_eq!(messages.replied_to(&packet), Some(70_000));
            for len in 0..packet.len() {
                assert_eq!(messages.replied_to(&packet[..len]), None);
            }
            packet.push(0);
            assert_eq!(
                messages.replied_to(&packet),
                None,
                "longer than any of ours"
            );
        }
    }

    #[test]
    fn what_others_asked_for_is_no_reply() {
        let other = Messages {
            token: TOKEN + 1,
            ..messages(false, false)
        };
        let mut packet = other.request(1);
        packet[0] = 0;
        assert_eq!(messages(false, false).replied_to(&packet), None);
        assert_eq!(other.replied_to(&packet), Some(1));
        packet[0] = 8;
        assert_eq!(other.replied_to(&packet), None, "a request");
    }
}
