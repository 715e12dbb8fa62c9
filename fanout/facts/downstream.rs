//! The way to one downstream, as the kernel has it now.

use std::net::SocketAddr;

use crate::{config::Source, neighbor::Surveyed};

/// One downstream, and the way to it.
#[derive(Clone, Debug)]
pub struct Downstream {
    /// Its address.
    pub address: SocketAddr,
    /// What becomes of the source address of what goes there.
    pub source: Source,
    /// Where that comes in; `None`: anywhere.
    pub ingress: Option<Ingress>,
    /// The way there.
    pub way: Surveyed,
    /// Why the listener's mode can't take that way.
    pub refused: Option<String>,
}

/// Where the datagrams for a downstream come in.
#[derive(Clone, Debug)]
pub struct Ingress {
    /// The interface.
    pub name: String,
    /// Its driver.
    pub driver: String,
    /// The largest packets that the listener takes from it.
    pub largest: u32,
}

/// A downstream that is a DNS name.
#[derive(Clone, Debug)]
pub struct Name {
    /// It.
    pub host: String,
    /// How many addresses it stands for, or why for none.
    pub addresses: Result<usize, String>,
}
