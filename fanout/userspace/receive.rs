//! The sockets that a listener receives by.

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
};

use log::{info, warn};

use super::Error;
use crate::{config::Listener, metrics::Counter, sys::udp};

/// A socket of one worker and one bind.
#[derive(Debug)]
pub(super) struct Receiver {
    /// What the worker reads.
    pub(super) socket: Arc<OwnedFd>,
    /// What the kernel could not put into it. Written by whoever samples.
    dropped: Counter,
}

/// Fails if somebody else, another fanout of the same user included, has one of the listener's binds: with
/// `SO_REUSEPORT` that would go unnoticed, and each would get a part. To be asked for all listeners
/// before the first of them opens its sockets, which would be in the way, as those are that are `ours`.
pub(super) fn probe(listener: &Listener, ours: impl Fn(&SocketAddr) -> bool) -> Result<(), Error> {
    for &bind in listener.binds.iter().filter(|bind| !ours(bind)) {
        socket(listener, bind)
            .and_then(|socket| udp::bind(socket.as_fd(), bind))
            .map_err(|error| Error::Bind(listener.name.clone(), bind, error))?;
    }
    Ok(())
}

fn socket(listener: &Listener, bind: SocketAddr) -> io::Result<OwnedFd> {
    let socket = udp::open(bind.is_ipv6())?;
    if let Some(interface) = &listener.interface {
        udp::bind_to_interface(socket.as_fd(), interface)?;
    }
    Ok(socket)
}

/// Opens the sockets of `workers` workers, one for each bind. What the host does not give is said once.
pub(super) fn open(listener: &Listener, workers: usize) -> Result<Vec<Vec<Receiver>>, Error> {
    let mut grants = Grants::default();
    let mut open_one = |&bind| {
        let socket = open_shared(listener, bind, &mut grants)
            .map_err(|error| Error::Bind(listener.name.clone(), bind, error))?;
        Ok(Receiver {
            socket: Arc::new(socket),
            dropped: Counter::default(),
        })
    };
    let all = (0..workers)
        .map(|_| listener.binds.iter().map(&mut open_one).collect())
        .collect::<Result<_, _>>()?;
    grants.report(listener);
    Ok(all)
}

/// What the host does not give.
#[derive(Debug, Default)]
struct Grants {
    less_room: bool,
    no_merging: Option<io::Error>,
}

fn open_shared(listener: &Listener, bind: SocketAddr, grants: &mut Grants) -> io::Result<OwnedFd> {
    let socket = socket(listener, bind)?;
    let fd = socket.as_fd();
    udp::share_port(fd)?;
    grants.less_room |= !udp::make_receive_room(fd, listener.receive_buffer)?;
    if let Err(error) = udp::merge_received(fd) {
        grants.no_merging = Some(error);
    }
    udp::bind(fd, bind)?;
    Ok(socket)
}

impl Grants {
    fn report(&self, listener: &Listener) {
        let name = &listener.name;
        if self.less_room {
            warn!(
                "receive buffer is smaller than asked for: raise net.core.rmem_max or grant CAP_NET_ADMIN \
                 listener={name} asked={}",
                listener.receive_buffer
            );
        }
        if let Some(error) = &self.no_merging {
            info!(
                "receiving datagrams one by one, without UDP_GRO listener={name} reason=\"{error}\""
            );
        }
    }
}

impl Receiver {
    /// Datagrams that came and found no room, until now. (The kernel counts with them what has a wrong
    /// checksum, and what it merged as one.)
    pub(super) fn dropped(&self) -> u64 {
        let seen = self.dropped.read();
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the kernel's count has 32 bits"
        )]
        let seen = seen as u32;
        if let Ok(now) = udp::dropped(self.socket.as_fd()) {
            self.dropped.add(now.wrapping_sub(seen).into());
        }
        self.dropped.read()
    }
}
