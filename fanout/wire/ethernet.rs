//! Ethernet II, untagged or with one IEEE 802.1Q tag.

/// Bytes of an untagged header.
pub const HEADER: usize = 14;
/// Bytes of an 802.1Q tag.
pub const TAG: usize = 4;
/// `EtherType` of IPv4.
pub const IPV4: [u8; 2] = [0x08, 0x00];
/// `EtherType` of IPv6.
pub const IPV6: [u8; 2] = [0x86, 0xdd];
/// `EtherType` of an 802.1Q tag.
pub const VLAN: [u8; 2] = [0x81, 0x00];

const TYPE: usize = 12;
const TAGGED_HEADER: usize = HEADER + TAG;
const TAG_CONTROL: usize = 14;
const TAGGED_TYPE: usize = 16;
/// The part of a tag that is the VLAN id; the others are priority and drop eligibility.
const VLAN_ID: u16 = 0x0fff;

/// What the header of a received frame says that matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ethernet {
    /// VLAN id, 0 for untagged frames and for those whose tag carries a priority only.
    pub vlan: u16,
    /// What the payload is.
    pub ethertype: [u8; 2],
    /// Bytes of the header.
    pub len: usize,
}

impl Ethernet {
    /// Reads the header of `frame`. `None` if it is cut short.
    #[must_use]
    #[inline]
    pub fn new_checked(frame: &[u8]) -> Option<Self> {
        let header = frame.first_chunk::<HEADER>()?;
        let ethertype = [header[TYPE], header[TYPE + 1]];
        if ethertype != VLAN {
            return Some(Self {
                vlan: 0,
                ethertype,
                len: HEADER,
            });
        }
        let header = frame.first_chunk::<TAGGED_HEADER>()?;
        Some(Self {
            vlan: u16::from_be_bytes([header[TAG_CONTROL], header[TAG_CONTROL + 1]]) & VLAN_ID,
            ethertype: [header[TAGGED_TYPE], header[TAGGED_TYPE + 1]],
            len: TAGGED_HEADER,
        })
    }
}

/// A header ready to be laid in front of an IP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EthernetHeader {
    /// Without a tag.
    Untagged([u8; HEADER]),
    /// With one.
    Tagged([u8; TAGGED_HEADER]),
}

impl EthernetHeader {
    /// The header of an IP packet from and to these MAC addresses, tagged or not.
    #[must_use]
    pub fn new(source: [u8; 6], destination: [u8; 6], vlan: Option<u16>, ipv6: bool) -> Self {
        let [s0, s1, s2, s3, s4, s5] = source;
        let [d0, d1, d2, d3, d4, d5] = destination;
        let [e0, e1] = if ipv6 { IPV6 } else { IPV4 };
        match vlan {
            None => Self::Untagged([d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, e0, e1]),
            Some(id) => {
                let ([v0, v1], [i0, i1]) = (VLAN, (id & VLAN_ID).to_be_bytes());
                Self::Tagged([
                    d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, v0, v1, i0, i1, e0, e1,
                ])
            }
        }
    }

    /// Its bytes.
    #[must_use]
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Untagged(header) => header,
            Self::Tagged(header) => header,
        }
    }

    /// Lays the header in front of the packet that begins where `room` ends. Writes nothing if there is
    /// too little room.
    #[inline]
    pub fn write_to_end(&self, room: &mut [u8]) {
        // One copy for each length: a few moves, where a length known only at run time is a call.
        match self {
            Self::Untagged(header) => write(header, room.last_chunk_mut()),
            Self::Tagged(header) => write(header, room.last_chunk_mut()),
        }
    }
}

#[inline]
fn write<const N: usize>(header: &[u8; N], room: Option<&mut [u8; N]>) {
    if let Some(room) = room {
        *room = *header;
    }
}
