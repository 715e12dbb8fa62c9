//! The messages of rtnetlink that fanout speaks and understands.
//!
//! Routes, neighbours and headers are netlink-packet-route's. Its types of whole links and filters know
//! every kind that there is, which makes half a megabyte of code, and fanout wants a handful of their
//! attributes: these are read from [`Attributes`] by number.

use netlink_packet_core::{
    DecodeError, DefaultNla, Emitable, NLA_TYPE_MASK, NetlinkDeserializable, NetlinkHeader,
    NetlinkPayload, NetlinkSerializable, NlasIterator, Parseable,
};
use netlink_packet_route::{
    link::LinkHeader, neighbour::NeighbourMessage, route::RouteMessage, tc::TcHeader,
};

/// One message: what is asked for or told, and of what.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "rtnetlink(7) has these names")]
pub enum Message {
    GetLink(Described<LinkHeader>),
    SetLink(Described<LinkHeader>),
    NewLink(Described<LinkHeader>),
    GetNeighbor(NeighbourMessage),
    NewNeighbor(NeighbourMessage),
    DelNeighbor(NeighbourMessage),
    GetRoute(RouteMessage),
    NewRoute(RouteMessage),
    DelRoute(RouteMessage),
    NewQdisc(Described<TcHeader>),
    DelQdisc(Described<TcHeader>),
    GetFilter(Described<TcHeader>),
    NewFilter(Described<TcHeader>),
    DelFilter(Described<TcHeader>),
    /// Of another type: it came, and that is all that is known of it.
    Other(u16),
}

/// A header and attributes that are read where they are needed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Described<H> {
    /// What every message of the type has.
    pub header: H,
    /// What this one has.
    pub attributes: Attributes,
}

/// Attributes (`struct nlattr`) as they lie in a message, one after the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes(Vec<u8>);

impl Attributes {
    /// With one more; its kind is one of the message's, a libc constant.
    #[must_use]
    pub fn with(mut self, kind: u16, value: impl Into<Vec<u8>>) -> Self {
        let attribute = DefaultNla::new(kind, value.into());
        let start = self.0.len();
        self.0.resize(start + attribute.buffer_len(), 0);
        attribute.emit(&mut self.0[start..]);
        self
    }

    /// With one more, which has attributes itself.
    #[must_use]
    pub fn with_nested(self, kind: u16, Self(value): Self) -> Self {
        self.with(kind, value)
    }

    /// The value of each, with its kind.
    pub fn iter(&self) -> impl Iterator<Item = (u16, &[u8])> {
        attributes(&self.0)
    }
}

/// Kind and value of each attribute in `bytes`; ends where they make no sense.
pub fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    NlasIterator::new(bytes)
        .map_while(Result::ok)
        .map(|attribute| {
            let kind = attribute.kind() & NLA_TYPE_MASK;
            let len = usize::from(attribute.length());
            (kind, attribute.into_inner().get(4..len).unwrap_or_default())
        })
}

/// The number in a value; `None` if the value is shorter.
#[must_use]
pub fn u32_in(value: &[u8]) -> Option<u32> {
    value.first_chunk().copied().map(u32::from_ne_bytes)
}

/// The text in a value, which may end with a zero.
#[must_use]
pub fn text_in(value: &[u8]) -> String {
    let text = value.split(|&byte| byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}

impl NetlinkSerializable for Message {
    fn message_type(&self) -> u16 {
        match self {
            Self::GetLink(_) => libc::RTM_GETLINK,
            Self::SetLink(_) => libc::RTM_SETLINK,
            Self::NewLink(_) => libc::RTM_NEWLINK,
            Self::GetNeighbor(_) => libc::RTM_GETNEIGH,
            Self::NewNeighbor(_) => libc::RTM_NEWNEIGH,
            Self::DelNeighbor(_) => libc::RTM_DELNEIGH,
            Self::GetRoute(_) => libc::RTM_GETROUTE,
            Self::NewRoute(_) => libc::RTM_NEWROUTE,
            Self::DelRoute(_) => libc::RTM_DELROUTE,
            Self::NewQdisc(_) => libc::RTM_NEWQDISC,
            Self::DelQdisc(_) => libc::RTM_DELQDISC,
            Self::GetFilter(_) => libc::RTM_GETTFILTER,
            Self::NewFilter(_) => libc::RTM_NEWTFILTER,
            Self::DelFilter(_) => libc::RTM_DELTFILTER,
            Self::Other(kind) => *kind,
        }
    }

    fn buffer_len(&self) -> usize {
        self.body().map_or(0, Emitable::buffer_len)
    }

    fn serialize(&self, buffer: &mut [u8]) {
        if let Some(body) = self.body() {
            body.emit(buffer);
        }
    }
}

impl Message {
    fn body(&self) -> Option<&dyn Emitable> {
        match self {
            Self::GetLink(link) | Self::SetLink(link) | Self::NewLink(link) => Some(link),
            Self::GetNeighbor(entry) | Self::NewNeighbor(entry) | Self::DelNeighbor(entry) => {
                Some(entry)
            }
            Self::GetRoute(route) | Self::NewRoute(route) | Self::DelRoute(route) => Some(route),
            Self::NewQdisc(tc)
            | Self::DelQdisc(tc)
            | Self::GetFilter(tc)
            | Self::NewFilter(tc)
            | Self::DelFilter(tc) => Some(tc),
            Self::Other(_) => None,
        }
    }
}

impl NetlinkDeserializable for Message {
    type Error = DecodeError;

    fn deserialize(header: &NetlinkHeader, payload: &[u8]) -> Result<Self, DecodeError> {
        Ok(match header.message_type {
            libc::RTM_NEWLINK => Self::NewLink(Described::parse(payload, LinkHeader::parse)?),
            libc::RTM_NEWNEIGH => Self::NewNeighbor(NeighbourMessage::parse(payload)?),
            libc::RTM_DELNEIGH => Self::DelNeighbor(NeighbourMessage::parse(payload)?),
            libc::RTM_NEWROUTE => Self::NewRoute(RouteMessage::parse(payload)?),
            libc::RTM_DELROUTE => Self::DelRoute(RouteMessage::parse(payload)?),
            libc::RTM_NEWTFILTER => Self::NewFilter(Described::parse(payload, TcHeader::parse)?),
            other => Self::Other(other),
        })
    }
}

impl From<Message> for NetlinkPayload<Message> {
    fn from(message: Message) -> Self {
        Self::InnerMessage(message)
    }
}

impl<H: Emitable> Described<H> {
    fn parse(
        payload: &[u8],
        header: impl FnOnce(&[u8]) -> Result<H, DecodeError>,
    ) -> Result<Self, DecodeError> {
        let header = header(payload)?;
        let attributes = payload.get(header.buffer_len()..).unwrap_or_default();
        Ok(Self {
            attributes: Attributes(attributes.to_vec()),
            header,
        })
    }
}

impl<H: Emitable> Emitable for Described<H> {
    fn buffer_len(&self) -> usize {
        self.header.buffer_len() + self.attributes.0.len()
    }

    fn emit(&self, buffer: &mut [u8]) {
        let (header, attributes) = buffer.split_at_mut(self.header.buffer_len());
        self.header.emit(header);
        attributes.copy_from_slice(&self.attributes.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_come_back_as_they_were_put() {
        let inner = Attributes::default().with(1, *b"eth0\0").with(2, [7]);
        let all = Attributes::default()
            .with(libc::IFLA_MTU, 1500_u32.to_ne_bytes())
            .with_nested(libc::IFLA_LINKINFO | 0x8000, inner);
        let mut found = all.iter();
        let (kind, mtu) = found.next().unwrap();
        assert_eq!((kind, u32_in(mtu)), (libc::IFLA_MTU, Some(1500)));
        let (kind, nested) = found.next().unwrap();
        assert_eq!(kind, libc::IFLA_LINKINFO);
        let nested: Vec<_> = attributes(nested).collect();
        assert_eq!(nested, [(1, &b"eth0\0"[..]), (2, &[7])]);
        assert_eq!(text_in(nested[0].1), "eth0");
        assert_eq!(found.next(), None);
    }

    #[test]
    fn what_makes_no_sense_ends_the_attributes() {
        let whole = Attributes::default().with(1, [1; 4]).with(2, [2; 4]);
        for len in 0..whole.0.len() {
            assert_eq!(attributes(&whole.0[..len]).count(), len / 8);
        }
        assert_eq!(attributes(&[3, 0, 1, 0]).count(), 0);
        assert_eq!(u32_in(&[1, 2, 3]), None);
        assert_eq!(text_in(&[]), "");
    }

    #[test]
    fn a_message_is_read_as_it_is_written() {
        let mut link = Described::<LinkHeader>::default();
        link.header.index = 7;
        link.attributes = Attributes::default().with(libc::IFLA_IFNAME, *b"eth0\0");
        let message = Message::NewLink(link);
        let mut bytes = vec![0xff; message.buffer_len()];
        message.serialize(&mut bytes);
        let mut header = NetlinkHeader::default();
        header.message_type = message.message_type();
        assert_eq!(Message::deserialize(&header, &bytes).unwrap(), message);
        assert!(Message::deserialize(&header, &bytes[..15]).is_err());
    }
}
