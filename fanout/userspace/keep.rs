//! `source = keep`: the headers of a datagram that bears its sender's address. The kernel takes them
//! from a raw socket as they are; it fills in the checksum and the identification of IPv4 (raw(7)).

use std::net::SocketAddr;

use fanout_ebpf::checksum::pseudo_header;

use crate::wire::{Addresses, PROTOCOL_UDP, ipv4, ipv6, udp};

/// TTL and hop limit: what comes out of a socket is as new as any other (`IPDEFTTL`).
const HOPS: u8 = 64;

/// An IP and a UDP header.
pub(super) type Headers = heapless::Vec<u8, { ipv6::HEADER + udp::HEADER }>;

/// The headers in front of `payload`; none if the addresses are of two families, which the kernel refuses.
pub(super) fn headers(source: SocketAddr, destination: SocketAddr, payload: &[u8]) -> Headers {
    let mut headers = Headers::new();
    let udp_len = length(udp::HEADER + payload.len());
    // None of the pushes can fail: there is room for the longer ones.
    let mut push = |bytes: &[u8]| drop(headers.extend_from_slice(bytes));
    let addresses = match (source, destination) {
        (SocketAddr::V4(source), SocketAddr::V4(destination)) => {
            let addresses = Addresses {
                source: source.ip().octets(),
                destination: destination.ip().octets(),
            };
            let [high, low] = length(ipv4::HEADER + udp::HEADER + payload.len());
            push(&[0x45, 0, high, low, 0, 0, 0, 0, HOPS, PROTOCOL_UDP, 0, 0]);
            push(&addresses.source);
            push(&addresses.destination);
            addresses.sum()
        }
        (SocketAddr::V6(source), SocketAddr::V6(destination)) => {
            let addresses = Addresses {
                source: source.ip().octets(),
                destination: destination.ip().octets(),
            };
            let [high, low] = udp_len;
            push(&[0x60, 0, 0, 0, high, low, PROTOCOL_UDP, HOPS]);
            push(&addresses.source);
            push(&addresses.destination);
            addresses.sum()
        }
        _ => return headers,
    };
    let ports = [source, destination].map(|address| address.port().to_be_bytes());
    let checksum = pseudo_header(addresses, udp_len)
        .field(ports[0])
        .field(ports[1])
        .field(udp_len)
        .bytes(payload)
        .checksum();
    push(&ports[0]);
    push(&ports[1]);
    push(&udp_len);
    push(&udp::present(checksum));
    headers
}

/// As a header says it. What does not fit, the kernel has not received.
fn length(bytes: usize) -> [u8; 2] {
    u16::try_from(bytes).unwrap_or(u16::MAX).to_be_bytes()
}

#[cfg(test)]
#[expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]
mod tests;
