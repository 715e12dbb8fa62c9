//! Why a packet was left to the kernel, and why a datagram went nowhere.

/// Why a packet that carried a listener's address and port went to the kernel.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PassReason {
    /// Not sent to the interface's own MAC address.
    OtherMac,
    /// Tagged with a VLAN that no listener names, or not tagged as the listener names it.
    OtherVlan,
    /// Any fragment of an IP packet.
    Fragment,
    /// IPv4 options.
    IpOptions,
    /// IPv6 extension headers.
    ExtensionHeaders,
    /// Lengths that contradict each other or the frame.
    Malformed,
    /// TTL or hop limit of 1 or less: the kernel answers.
    TtlExceeded,
    /// Larger than the listener takes.
    TooBig,
    /// Its RX queue has no AF_XDP socket.
    NoSocket,
}

impl PassReason {
    /// All reasons, in the order of their numbers.
    pub const ALL: [Self; 9] = [
        Self::OtherMac,
        Self::OtherVlan,
        Self::Fragment,
        Self::IpOptions,
        Self::ExtensionHeaders,
        Self::Malformed,
        Self::TtlExceeded,
        Self::TooBig,
        Self::NoSocket,
    ];
    /// How many there are.
    pub const COUNT: usize = Self::ALL.len();

    /// The value of the metrics' `reason` label.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::OtherMac => "other_mac",
            Self::OtherVlan => "other_vlan",
            Self::Fragment => "fragment",
            Self::IpOptions => "ip_options",
            Self::ExtensionHeaders => "extension_headers",
            Self::Malformed => "malformed",
            Self::TtlExceeded => "ttl_exceeded",
            Self::TooBig => "too_big",
            Self::NoSocket => "no_socket",
        }
    }
}

/// Why a datagram that a listener received went nowhere.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropReason {
    /// No downstream is usable.
    NoDownstream,
    /// Larger than the egress takes.
    TooBig,
    /// The TX ring (or the socket's send buffer) is full.
    TxFull,
    /// The kernel refused to send it.
    SendFailed,
    /// A worker was too slow to empty its socket's receive buffer. The kernel drops these, and counts
    /// what it merged as one.
    ReceiveBufferFull,
}

impl DropReason {
    /// All reasons, in the order of their numbers.
    pub const ALL: [Self; 5] = [
        Self::NoDownstream,
        Self::TooBig,
        Self::TxFull,
        Self::SendFailed,
        Self::ReceiveBufferFull,
    ];
    /// How many there are.
    pub const COUNT: usize = Self::ALL.len();

    /// The value of the metrics' `reason` label.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoDownstream => "no_downstream",
            Self::TooBig => "too_big",
            Self::TxFull => "tx_full",
            Self::SendFailed => "send_failed",
            Self::ReceiveBufferFull => "receive_buffer_full",
        }
    }
}
