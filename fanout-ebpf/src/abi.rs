//! The contract between the eBPF programs and user space: map names, keys, values and limits.
//!
//! Every struct is `repr(C)` without implicit padding (the kernel hashes a key byte by byte), and
//! its size is asserted at compile time.

mod counts;
mod hop;
mod reason;

use core::{mem::offset_of, net::SocketAddr, num::NonZero};

use crate::words::{number, words};

pub use self::{
    counts::{ListenerCounts, Traffic},
    hop::{Egress, NextHop, mapped},
    reason::{DropReason, PassReason},
};

/// Most listeners in one config.
pub const MAX_LISTENERS: usize = 64;
/// Most listeners at one moment: while one config takes over from another, those of both.
pub const MAX_SLOTS: usize = 2 * MAX_LISTENERS;
/// Most binds on one interface.
pub const MAX_BINDS: u32 = 1024;
/// Most RX queues of one interface that get an AF_XDP socket.
pub const MAX_QUEUES: u32 = 64;
/// Most interfaces that one interface's frames are redirected to.
pub const MAX_EGRESSES: u32 = 1024;

/// Not a VLAN id (they have 12 bits). Each bind stands in [`BINDS`] a second time under this one, so
/// that a packet which only its tag keeps from a listener is counted.
pub const ANY_VLAN: u16 = u16::MAX;

/// Hash map, [`BindKey`] → [`Bind`]: what the interface's listeners take.
pub const BINDS: &str = "BINDS";
/// XSKMAP, RX queue → AF_XDP socket.
pub const XSKS: &str = "XSKS";
/// Per-CPU array, `listener * PassReason::COUNT + reason` → u64: see [`passed_index`].
pub const PASSED: &str = "PASSED";
/// Per-CPU array of one [`Last`]: whom the CPU's last datagram was for.
pub const LAST: &str = "LAST";
/// Array of one [`Interface`].
pub const INTERFACE: &str = "INTERFACE";
/// Array of arrays, listener → turn → [`NextHop`]: whose turn it is after whose. A listener's is replaced
/// as a whole; one that has no usable downstream has one turn, of [`Egress::Nowhere`]. Entries of one
/// inner array are as many as the cycle has turns (`BPF_F_INNER_MAP`, Linux 5.10).
pub const TURNS: &str = "TURNS";
/// Per-CPU array, listener → [`ListenerCounts`].
pub const COUNTS: &str = "COUNTS";
/// Per-CPU array, [`NextHop::downstream`] → [`Traffic`] that was sent there. As many entries as user space
/// asks for at the load.
pub const FORWARDED: &str = "FORWARDED";
/// Per-CPU hash map, ifindex → u64: frames that were redirected there, or sent back there, and that the kernel
/// dropped.
pub const FAILED: &str = "FAILED";

/// Program array of one TC program: what a filter of clsact calls.
pub const TC_PROGRAM: &str = "TC_PROGRAM";

/// The upper 96 bits of the IPv4-mapped addresses, `::ffff:0:0/96`.
pub const IPV4_MAPPED: u128 = 0xffff;

/// A destination that a listener binds, as seen on the wire.
#[repr(C, align(4))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BindKey {
    /// IPv6, or IPv4 as `::ffff:a.b.c.d`. The wildcards are `::` and `::ffff:0.0.0.0`.
    pub address: [u8; 16],
    /// UDP destination port, big-endian.
    pub port_be: u16,
    /// VLAN id, 0 for untagged; or [`ANY_VLAN`].
    pub vlan: u16,
}
const _: () = assert!(size_of::<BindKey>() == 20);
const _: () = assert!(offset_of!(BindKey, port_be) == 16);
const _: () = assert!(offset_of!(BindKey, vlan) == 18);

impl BindKey {
    /// The key of a configured bind.
    #[must_use]
    pub const fn new(bind: SocketAddr, vlan: Option<u16>) -> Self {
        let vlan = match vlan {
            Some(id) => id,
            None => 0,
        };
        Self {
            address: mapped(bind.ip()),
            port_be: bind.port().to_be(),
            vlan,
        }
    }

    /// The key under which a bind to any address of this family stands.
    #[must_use]
    pub const fn wildcard(self) -> Self {
        let any = if self.is_ipv4() { IPV4_MAPPED << 32 } else { 0 };
        Self {
            address: any.to_be_bytes(),
            ..self
        }
    }

    /// Whether this is the key of a bind to any address.
    #[must_use]
    pub fn is_wildcard(self) -> bool {
        self == self.wildcard()
    }

    /// The key under which the bind is found whatever the packet's tag.
    #[must_use]
    pub const fn any_vlan(self) -> Self {
        Self {
            vlan: ANY_VLAN,
            ..self
        }
    }

    /// Address and port as a [`number`], if it is one of IPv4 and untagged.
    #[must_use]
    #[inline]
    pub const fn plain(&self) -> Option<NonZero<u64>> {
        if !self.is_ipv4() || self.vlan != 0 {
            return None;
        }
        let [.., high, low]: [u16; 8] = words(&self.address);
        NonZero::new(number([high, low, self.port_be]))
    }

    /// As it lies in memory.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 20] {
        let mut bytes = [0; 20];
        bytes[..16].copy_from_slice(&self.address);
        bytes[16..18].copy_from_slice(&self.port_be.to_ne_bytes());
        bytes[18..].copy_from_slice(&self.vlan.to_ne_bytes());
        bytes
    }

    /// Whether it is one of IPv4, else of IPv6.
    #[must_use]
    #[inline]
    pub const fn is_ipv4(&self) -> bool {
        u128::from_be_bytes(self.address) >> 32 == IPV4_MAPPED
    }
}

/// What a bind stands for.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bind {
    /// The listener's slot, below [`MAX_SLOTS`].
    pub listener: u32,
    /// Largest IP packet that the listener takes, in bytes.
    pub max_packet_size: u32,
    /// Which program forwards its datagrams.
    pub way: Way,
    /// Who is next.
    pub policy: Policy,
}
const _: () = assert!(size_of::<Bind>() == 16);
const _: () = assert!(offset_of!(Bind, max_packet_size) == 4);
const _: () = assert!(offset_of!(Bind, way) == 8);
const _: () = assert!(offset_of!(Bind, policy) == 12);

impl Bind {
    /// As it lies in memory.
    #[must_use]
    pub const fn to_words(self) -> [u32; 4] {
        [
            self.listener,
            self.max_packet_size,
            self.way as u32,
            self.policy as u32,
        ]
    }
}

/// Whose a datagram was. Most that follow are the same listener's, which saves a look into the hash map.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug)]
pub struct Last {
    /// Where it went.
    pub key: BindKey,
    /// In which edition of [`BINDS`] that was looked up; 0: never.
    pub binds: u32,
    /// What was found.
    pub bind: Bind,
    /// [`BindKey::plain`], if [plain](crate::plain) datagrams that go there take the XDP program's short way.
    pub plain: Option<NonZero<u64>>,
}
const _: () = assert!(size_of::<Last>() == 48);

/// Which of a listener's turns a datagram takes.
#[repr(u32)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// The one after that of the datagram before.
    #[default]
    RoundRobin,
    /// That at its [sender's place](crate::sender).
    SourceHash,
    /// All of them.
    Replicate,
}

/// By which way a listener's datagrams go. The programs share the binds, and each leaves alone what is not
/// its own.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The XDP program hands them to AF_XDP sockets.
    AfXdp,
    /// The XDP program forwards them itself.
    Xdp,
    /// The XDP program passes them to the TC program, which forwards them.
    Tc,
}

/// What the programs need to know of the interface they sit on.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its own [MAC address](crate::words::number): frames to any other are not for this host.
    pub mac: u64,
    /// 1 if a bind on it is the wildcard address, else 0: saves foreign datagrams a lookup.
    pub any_wildcard: u8,
    /// 1 if a bind on it names a VLAN, else 0: saves untagged foreign datagrams a lookup.
    pub any_tagged: u8,
    /// 1 if the XDP program is attached in skb mode, else 0: there a partial checksum must stay partial.
    pub skb_mode: u8,
    /// Zero.
    pub reserved: u8,
    /// Its number.
    pub ifindex: u32,
    /// Where the running kernel's `struct net_device` has the number of an interface.
    pub ifindex_offset: u32,
    /// Which edition of [`BINDS`] this is, from 1 on.
    pub binds: u32,
}
const _: () = assert!(size_of::<Interface>() == 24);
const _: () = assert!(offset_of!(Interface, ifindex) == 12);
const _: () = assert!(offset_of!(Interface, ifindex_offset) == 16);
const _: () = assert!(offset_of!(Interface, any_wildcard) == 8);
const _: () = assert!(offset_of!(Interface, any_tagged) == 9);
const _: () = assert!(offset_of!(Interface, skb_mode) == 10);
const _: () = assert!(offset_of!(Interface, binds) == 20);

impl Interface {
    /// As it lies in memory.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 24] {
        let mut bytes = [0; 24];
        bytes[..8].copy_from_slice(&self.mac.to_ne_bytes());
        bytes[8] = self.any_wildcard;
        bytes[9] = self.any_tagged;
        bytes[10] = self.skb_mode;
        bytes[12..16].copy_from_slice(&self.ifindex.to_ne_bytes());
        bytes[16..20].copy_from_slice(&self.ifindex_offset.to_ne_bytes());
        bytes[20..].copy_from_slice(&self.binds.to_ne_bytes());
        bytes
    }
}

/// Where [`PASSED`] counts `reason` for `listener`.
#[must_use]
pub const fn passed_index(listener: u32, reason: PassReason) -> u32 {
    listener * PASS_REASONS + reason as u32
}

/// Entries of [`COUNTS`].
pub const COUNTS_ENTRIES: u32 = MAX_SLOTS_U32;
/// Entries of [`PASSED`].
pub const PASSED_ENTRIES: u32 = MAX_SLOTS_U32 * PASS_REASONS;

#[expect(clippy::cast_possible_truncation, reason = "a handful")]
const PASS_REASONS: u32 = PassReason::COUNT as u32;
#[expect(clippy::cast_possible_truncation, reason = "128")]
const MAX_SLOTS_U32: u32 = MAX_SLOTS as u32;
