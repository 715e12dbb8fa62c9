//! Attaching the programs of an interface: what came of it, for the log, and what other instances must not do
//! meanwhile.

use log::{info, warn};

use super::{Error, Listeners};
use crate::{
    bpf::{Mode, Programs},
    claim::Claim,
    config,
    link::{IfIndex, Link},
};

pub(super) fn xdp(
    programs: &mut Programs,
    settings: &config::Interface,
    link: &Link,
) -> Result<Mode, Error> {
    let attached = programs.attach_xdp(settings.xdp)?;
    if let Some(why) = attached.why_not_native {
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

/// Claims all that `listeners` bind on an interface: of two instances that bind the same, one would never see a
/// datagram.
pub(super) fn claim(link: &Link, listeners: &Listeners) -> Result<Vec<Claim>, Error> {
    let mut claims = Vec::new();
    for (_, listener) in listeners {
        for bind in &listener.binds {
            let IfIndex(interface) = link.index;
            let vlan = listener.vlan.unwrap_or_default();
            let claim = Claim::on(&format!("fanout:{interface}:{vlan}:{bind}"));
            let claim = claim.map_err(|error| {
                Error::Io("can't claim what it binds", link.name.clone(), error)
            })?;
            claims.push(claim.ok_or_else(|| Error::Taken(link.name.clone(), *bind))?);
        }
    }
    Ok(claims)
}
