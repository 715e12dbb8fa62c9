//! Frames onto an interface and off it by `AF_PACKET`: what the kernel's own stack would never send, and
//! what it sees of the traffic after XDP.

use std::{io::ErrorKind, net::UdpSocket, os::fd::AsFd, time::Duration};

use super::{fanout::PATIENCE, flight::Flight, namespace::Namespace, sender::Pace, sys};

/// Long enough to see a frame that should not be there.
const QUIET: Duration = Duration::from_millis(20);
const BUFFER: i32 = 32 << 20;

/// Sends frames out of an interface. The socket type only lends its plain send and receive.
#[derive(Debug)]
pub struct Wire(UdpSocket);

impl Wire {
    /// For frames as they go out.
    pub fn open(namespace: &Namespace, interface: &str) -> Self {
        Self(packet_socket(namespace, interface, 0))
    }

    /// For frames that begin with a `virtio_net_hdr`.
    pub fn open_with_offload(namespace: &Namespace, interface: &str) -> Self {
        let wire = Self::open(namespace, interface);
        sys::set_option(wire.0.as_fd(), libc::SOL_PACKET, libc::PACKET_VNET_HDR, 1)
            .expect("PACKET_VNET_HDR");
        wire
    }

    /// Sends one frame; says if the kernel took it: one without a whole Ethernet header it does not.
    pub fn send(&self, frame: &[u8]) -> bool {
        self.0.send(frame).is_ok()
    }

    /// Sends them all, at most `rate` a second and no faster than they arrive; returns how many the kernel took.
    pub fn send_paced(
        &self,
        rate: u32,
        flight: &Flight,
        frames: impl Iterator<Item = Vec<u8>>,
    ) -> u32 {
        let mut pace = Pace::new(rate);
        let mut taken = 0;
        for frame in frames {
            flight.wait();
            pace.wait(1);
            taken += u32::from(self.send(&frame));
            flight.send(1);
            pace.sent(1);
        }
        taken
    }
}

/// Receives what the kernel's stack receives on an interface.
#[derive(Debug)]
pub struct Capture(UdpSocket);

impl Capture {
    /// From now on.
    pub fn start(namespace: &Namespace, interface: &str) -> Self {
        let socket = packet_socket(namespace, interface, libc::ETH_P_ALL as u16);
        for (level, name, value) in [
            (libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, 1),
            (libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, BUFFER),
        ] {
            sys::set_option(socket.as_fd(), level, name, value).expect("a packet socket's option");
        }
        Self(socket)
    }

    /// The next frames that `wanted` accepts: waits until there are `count`, then for what else may come.
    pub fn frames(&self, count: usize, wanted: impl Fn(&[u8]) -> bool) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        let mut buffer = vec![0; 1 << 16];
        loop {
            let patience = if frames.len() < count {
                PATIENCE
            } else {
                QUIET
            };
            self.0.set_read_timeout(Some(patience)).expect("timeout");
            match self.0.recv(&mut buffer) {
                Ok(length) if wanted(&buffer[..length]) => frames.push(buffer[..length].to_vec()),
                Ok(_) => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => return frames,
                Err(e) => panic!("recv: {e}"),
            }
        }
    }
}

fn packet_socket(namespace: &Namespace, interface: &str, protocol: u16) -> UdpSocket {
    let index = namespace
        .interface(interface, "ifindex")
        .parse()
        .expect("an index");
    let socket = namespace.enter(|| sys::packet_socket(protocol, index));
    socket.expect("AF_PACKET").into()
}
