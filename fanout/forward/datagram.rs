//! A UDP datagram in its chunk: read once, then redirected to a next hop.

use std::{
    net::{IpAddr, SocketAddr},
    ops::Range,
};

use fanout_ebpf::{
    abi::{BindKey, IPV4_MAPPED},
    sender,
};

use super::NextHop;
use crate::{
    metrics::DropReason,
    wire::{
        Addresses,
        ethernet::{self, Ethernet},
        ipv4::{self, Ipv4},
        ipv6::{self, Ipv6},
        udp::Udp,
    },
};

/// A datagram that the XDP program would let through.
#[derive(Debug)]
pub(super) struct Datagram<'c> {
    /// All of the chunk that lies in front of the IP packet.
    room: &'c mut [u8],
    vlan: u16,
    ip: Ip<'c>,
    ip_len: usize,
    udp: Udp<'c>,
}

#[derive(Debug)]
enum Ip<'c> {
    V4(Ipv4<'c>),
    V6(Ipv6<'c>),
}

impl<'c> Datagram<'c> {
    /// The datagram in the frame at `frame`. `None` if the frame holds anything else.
    #[inline]
    pub(super) fn new_checked(chunk: &'c mut [u8], frame: Range<usize>) -> Option<Self> {
        let ethernet = Ethernet::new_checked(chunk.get(frame.clone())?)?;
        let (room, ip) = chunk
            .get_mut(..frame.end)?
            .split_at_mut_checked(frame.start + ethernet.len)?;
        let (ip, header, ttl, payload) = match ethernet.ethertype {
            ethernet::IPV4 => {
                let (ip, payload) = Ipv4::new_checked(ip)?;
                let ttl = ip.ttl();
                (Ip::V4(ip), ipv4::HEADER, ttl, payload)
            }
            ethernet::IPV6 => {
                let (ip, payload) = Ipv6::new_checked(ip)?;
                let ttl = ip.hop_limit();
                // No such address is on any wire, and as a key it would be an IPv4 one.
                if u128::from_be_bytes(ip.addresses().destination) >> 32 == IPV4_MAPPED {
                    return None;
                }
                (Ip::V6(ip), ipv6::HEADER, ttl, payload)
            }
            _ => return None,
        };
        // The kernel has to answer it.
        if ttl <= 1 {
            return None;
        }
        Some(Self {
            room,
            vlan: ethernet.vlan,
            ip,
            ip_len: header + payload.len(),
            udp: Udp::new_checked(payload)?,
        })
    }

    /// Where the IP packet lies in the chunk.
    #[inline]
    pub(super) fn ip(&self) -> Range<usize> {
        let start = self.room.len();
        start..start + self.ip_len
    }

    /// Where it goes.
    #[inline]
    pub(super) fn key(&self) -> BindKey {
        let address = match &self.ip {
            Ip::V4(ip) => {
                let address = u32::from_be_bytes(ip.addresses().destination);
                (IPV4_MAPPED << 32 | u128::from(address)).to_be_bytes()
            }
            Ip::V6(ip) => ip.addresses().destination,
        };
        BindKey {
            address,
            port_be: u16::from_ne_bytes(self.udp.destination_port()),
            vlan: self.vlan,
        }
    }

    /// The place of who sent it.
    #[inline]
    pub(super) fn place(&self) -> u32 {
        match &self.ip {
            Ip::V4(ip) => sender::place_v4(ip.addresses().source),
            Ip::V6(ip) => sender::place_v6(ip.addresses().source),
        }
    }

    /// Rewrites it for `next_hop`, or leaves it as it is. Returns where it lies in the chunk, with its new
    /// Ethernet header.
    #[inline]
    pub(super) fn redirect(&mut self, next_hop: &NextHop) -> Result<Range<usize>, DropReason> {
        let ip = self.ip();
        if ip.len() > next_hop.mtu {
            return Err(DropReason::TooBig);
        }
        let ethernet = &next_hop.ethernet;
        let Some(start) = ip.start.checked_sub(ethernet.as_bytes().len()) else {
            return Err(DropReason::TooBig);
        };
        let (received, sent) = match (&mut self.ip, next_hop.destination) {
            (Ip::V4(ip), SocketAddr::V4(destination)) => {
                let received = ip.addresses();
                let sent = Addresses {
                    source: match next_hop.source {
                        Some(IpAddr::V4(source)) => source.octets(),
                        _ => received.source,
                    },
                    destination: destination.ip().octets(),
                };
                ip.redirect(&sent);
                (received.sum(), sent.sum())
            }
            (Ip::V6(ip), SocketAddr::V6(destination)) => {
                let received = ip.addresses();
                let sent = Addresses {
                    source: match next_hop.source {
                        Some(IpAddr::V6(source)) => source.octets(),
                        _ => received.source,
                    },
                    destination: destination.ip().octets(),
                };
                ip.redirect(&sent);
                (received.sum(), sent.sum())
            }
            // The config lets no listener mix the families.
            _ => return Err(DropReason::NoDownstream),
        };
        let port = next_hop.destination.port().to_be_bytes();
        self.udp.redirect(port, received, sent);
        ethernet.write_to_end(self.room);
        Ok(start..ip.end)
    }
}
