//! What the log says of downstreams: each change once.

use std::fmt;

use log::{debug, info, warn};

use crate::{
    config::{Downstream, Listener},
    in_kernel::Refused,
    neighbor::{Path, Paths},
};

/// Logs how the ways to the downstreams of `listeners` changed; at the `start` that none is known is
/// no news.
pub(super) fn changes(listeners: &[Listener], before: &Paths, after: &Paths, start: bool) {
    for listener in listeners {
        for downstream in &listener.downstreams {
            change(listener, downstream, before, after);
        }
        let (had, has) = (usable(listener, before), usable(listener, after));
        let name = &listener.name;
        if had > 0 && has == 0 {
            warn!("no downstream left, dropping what comes listener={name}");
        } else if had == 0 && has > 0 && !start {
            info!("downstreams are back, forwarding listener={name}");
        }
    }
}

fn usable(listener: &Listener, paths: &Paths) -> usize {
    let is_usable =
        |downstream: &&Downstream| matches!(paths.get(&downstream.address.ip()), Some(Ok(_)));
    listener.downstreams.iter().filter(is_usable).count()
}

fn change(listener: &Listener, downstream: &Downstream, before: &Paths, after: &Paths) {
    let ip = downstream.address.ip();
    let (before, after) = (before.get(&ip), after.get(&ip));
    if before == after {
        return;
    }
    let who = listener.who(downstream);
    match (before, after) {
        (_, Some(Ok(path))) => info!(
            "downstream {who} egress={} mac={}",
            path.link.name,
            Mac(path)
        ),
        (Some(Ok(_)), Some(Err(why))) => warn!("downstream is out of turn {who} reason=\"{why}\""),
        (_, Some(Err(why))) => debug!("downstream is not usable {who} reason=\"{why}\""),
        (_, None) => {}
    }
}

/// Logs which downstreams have a way that can't be taken, and which no longer.
pub(super) fn refused(before: &[Refused], after: &[Refused]) {
    for refused in after.iter().filter(|refused| !before.contains(refused)) {
        let reason = &refused.reason;
        warn!("downstream is out of turn {refused} reason=\"{reason}\"");
    }
    for refused in before.iter().filter(|refused| !after.contains(refused)) {
        info!("downstream is no longer refused {refused}");
    }
}

/// Names the downstreams that have no way after the time that a start waits for them.
pub(super) fn missing(listeners: &[Listener], paths: &Paths) {
    for listener in listeners {
        for downstream in &listener.downstreams {
            if let Some(Err(why)) = paths.get(&downstream.address.ip()) {
                warn!(
                    "downstream has no next hop yet {} reason=\"{why}\"",
                    listener.who(downstream)
                );
            }
        }
    }
}

/// The next hop's, or `none` if the kernel finds the way itself.
struct Mac<'a>(&'a Path);

impl fmt::Display for Mac<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(mac) = self.0.mac else {
            return f.write_str("none");
        };
        for (n, byte) in mac.iter().enumerate() {
            write!(f, "{}{byte:02x}", if n == 0 { "" } else { ":" })?;
        }
        Ok(())
    }
}
