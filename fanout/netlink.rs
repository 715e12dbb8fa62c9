//! Requests to the kernel's routing netlink (rtnetlink(7)): one socket, one request at a time.

mod message;

use std::{fmt, io};

use log::debug;
use netlink_packet_core::{
    DecodeError, NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage,
    NetlinkPayload,
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

pub use self::message::{Attributes, Described, Message, attributes, text_in, u32_in};

/// The kernel's "no", with its own words where it has some.
#[derive(Debug)]
pub struct Refusal {
    /// Its error number.
    pub error: io::Error,
    /// The extended acknowledgement.
    pub words: Option<String>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.words {
            Some(words) => write!(f, "{words} ({})", self.error),
            None => write!(f, "{}", self.error),
        }
    }
}

impl std::error::Error for Refusal {}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self { error, words: None }
    }
}

/// A socket for requests.
#[derive(Debug)]
pub struct Connection {
    socket: Socket,
    sequence: u32,
}

impl Connection {
    /// Opens it, in the network namespace of the calling thread.
    ///
    /// # Errors
    /// As socket(2).
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        // Before Linux 4.12 there were no words to ask for.
        let _ = socket.set_ext_ack(true);
        let _ = socket.set_cap_ack(true);
        Ok(Self {
            socket,
            sequence: 0,
        })
    }

    /// All objects that the kernel has of the kind asked for.
    ///
    /// # Errors
    /// The kernel's.
    pub fn dump(&mut self, message: Message) -> Result<Vec<Message>, Refusal> {
        self.exchange(message, NLM_F_DUMP)
    }

    /// Asks for one object.
    ///
    /// # Errors
    /// The kernel's.
    pub fn get(&mut self, message: Message) -> Result<Vec<Message>, Refusal> {
        self.exchange(message, NLM_F_ACK)
    }

    /// Changes something; `flags` say whether to create or to replace.
    ///
    /// # Errors
    /// The kernel's.
    pub fn change(&mut self, message: Message, flags: u16) -> Result<(), Refusal> {
        self.exchange(message, NLM_F_ACK | flags).map(drop)
    }

    fn exchange(&mut self, message: Message, flags: u16) -> Result<Vec<Message>, Refusal> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let mut request = NetlinkMessage::new(header, NetlinkPayload::from(message));
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;
        let mut answers = Vec::new();
        loop {
            let (datagram, _) = self.socket.recv_from_full()?;
            // What can't be decoded holds something newer than this program: the others are no worse for it.
            for answer in messages(&datagram).flatten() {
                if answer.header.sequence_number != self.sequence {
                    continue;
                }
                match answer.payload {
                    NetlinkPayload::InnerMessage(inner) => answers.push(inner),
                    NetlinkPayload::Done(done) if done.code == 0 => return Ok(answers),
                    NetlinkPayload::Done(done) => {
                        return Err(io::Error::from_raw_os_error(-done.code).into());
                    }
                    NetlinkPayload::Error(error) if error.code.is_none() => return Ok(answers),
                    NetlinkPayload::Error(error) => {
                        return Err(Refusal {
                            error: error.to_io(),
                            words: words(&error.header),
                        });
                    }
                    _ => {}
                }
            }
        }
    }
}

/// The messages in a datagram, each on its own: one that can't be decoded does not end them.
pub(crate) fn messages(
    mut bytes: &[u8],
) -> impl Iterator<Item = Result<NetlinkMessage<Message>, DecodeError>> {
    const HEADER: usize = 16;
    std::iter::from_fn(move || {
        let len = u32::from_ne_bytes(*bytes.first_chunk()?) as usize;
        let message = bytes.get(..len).filter(|_| len >= HEADER)?;
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some(
            NetlinkMessage::deserialize(message)
                .inspect_err(|error| debug!("netlink message not understood error=\"{error}\"")),
        )
    })
}

/// The text in an error's attributes, which follow the header of the request (`NETLINK_CAP_ACK`).
fn words(after_code: &[u8]) -> Option<String> {
    const REQUEST_HEADER: usize = 16;
    const NLMSGERR_ATTR_MSG: u16 = 1;
    let mut attributes = attributes(after_code.get(REQUEST_HEADER..)?);
    let (_, value) = attributes.find(|&(kind, _)| kind == NLMSGERR_ATTR_MSG)?;
    Some(text_in(value))
}
