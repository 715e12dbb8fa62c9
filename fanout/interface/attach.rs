//! Attaching the programs of an interface: what came of it, for the log, and what other instances must not do
//! meanwhile.

use std::{collections::BTreeMap, net::SocketAddr};

use log::{info, warn};

use super::Error;
use crate::{
    bpf::{self, Mode, Programs},
    claim::{self, Claim},
    config::{self, Xdp},
    facts::interface as facts,
    link::Link,
    netlink::Connection,
    roster::Served,
    rules,
};

pub(super) fn xdp(
    programs: &mut Programs,
    settings: &config::Interface,
    link: &Link,
    crash: Option<String>,
) -> Result<Mode, Error> {
    let (wanted, why_not_native) = match (settings.xdp, crash) {
        (Xdp::Native, Some(reason)) => return Err(refused(link, reason)),
        (Xdp::Auto, Some(reason)) => (Xdp::Skb, Some(reason)),
        (wanted, _) => (wanted, None),
    };
    let attached = programs.attach_xdp(wanted)?;
    if let Some(why) = why_not_native.or(attached.why_not_native) {
        warn!(
            "native XDP refused, going on in skb mode, which is slower interface={} reason=\"{why}\"",
            link.name
        );
    }
    info!(
        "attached XDP program interface={} mode={}",
        link.name, attached.mode
    );
    Ok(attached.mode)
}

/// Why the program must not send natively, though the kernel would let it, and what mends that.
pub(super) fn crash(link: &Link) -> Option<String> {
    let mut connection = Connection::open().ok()?;
    let facts = facts::Interface::read(&mut connection, link, facts::Wanted::default()).ok()?;
    let (meaning, command) = rules::interface::crash(&facts)?;
    Some(format!("{meaning}: {command}"))
}

pub(super) fn refused(link: &Link, reason: String) -> Error {
    Error::Program(bpf::Error::Attach {
        interface: link.name.clone(),
        mode: Mode::Native,
        reason,
    })
}

pub(super) fn tc(programs: &mut Programs, link: &Link) -> Result<(), Error> {
    let (name, attached) = (&link.name, programs.attach_tc()?);
    for filter in attached.removed {
        info!("removed TC filter of an instance that was killed interface={name} filter={filter}");
    }
    info!(
        "attached TC program interface={name} mode={}",
        attached.mode
    );
    if let Some(why) = attached.why_not_first {
        warn!("another TC filter sees the packets first interface={name} reason=\"{why}\"");
    }
    Ok(())
}

/// Claims all that `listeners` bind on an interface and that is not among `claims` yet: of two instances that
/// bind the same, one would never see a datagram.
pub(super) fn claim(
    claims: &mut BTreeMap<String, Claim>,
    link: &Link,
    listeners: &[Served],
) -> Result<(), Error> {
    for (name, bind) in listeners.iter().flat_map(|served| claimed(link, served)) {
        if claims.contains_key(&name) {
            continue;
        }
        let claim = Claim::on(&name)
            .map_err(|error| Error::Io("can't claim what it binds", link.name.clone(), error))?;
        let claim = claim.ok_or_else(|| Error::Taken(link.name.clone(), bind))?;
        claims.insert(name, claim);
    }
    Ok(())
}

/// What a listener claims, and for which bind.
pub(super) fn claimed(link: &Link, served: &Served) -> impl Iterator<Item = (String, SocketAddr)> {
    let (index, vlan) = (link.index, served.config.vlan);
    let binds = served.config.binds.iter();
    binds.map(move |&bind| (claim::name(index, vlan, bind), bind))
}
