//! Rules that span several keys or several listeners.

use std::{
    collections::{HashMap, hash_map::Entry},
    net::SocketAddr,
};

use fanout_ebpf::abi::{MAX_BINDS, MAX_LISTENERS};

use super::{Listener, Mode, Policy, Target, error::Errors, ini::Section};

/// Most downstreams of one listener, and most addresses that they stand for.
pub const MAX_DOWNSTREAMS: usize = 1024;
/// An IPv6 and a UDP header without a payload.
const MIN_IPV6_PACKET: u32 = 48;

/// A listener and where it stands.
type Placed<'a> = (&'a Section<'a>, Listener);

pub(super) fn listeners(listeners: &[Placed<'_>], errors: &mut Errors) {
    if listeners.is_empty() {
        errors.add_file("no listener: a [listener NAME] section is needed");
    }
    if let Some((section, _)) = listeners.get(MAX_LISTENERS) {
        let what = format!("one too many: at most {MAX_LISTENERS} listeners");
        errors.add_section(section, &what);
    }
    for (section, listener) in listeners {
        count_downstreams(section, listener, errors);
        one_family(section, listener, errors);
        mode_can_copy(section, listener, errors);
    }
    no_shared_bind(listeners, errors);
    count_binds(listeners, errors);
    no_loop(listeners, errors);
}

fn count_downstreams(section: &Section<'_>, listener: &Listener, errors: &mut Errors) {
    if let Some(downstream) = listener.downstreams.get(MAX_DOWNSTREAMS) {
        let what = format!("one too many: at most {MAX_DOWNSTREAMS} downstreams a listener");
        errors.add_key(section, &key(&downstream.name), &what);
    }
}

fn mode_can_copy(section: &Section<'_>, listener: &Listener, errors: &mut Errors) {
    let why = match listener.mode {
        Mode::Xdp => "an XDP program can send a frame once, not copy it",
        Mode::TcEbpf => {
            "the kernel sends a program's copies past routing and neighbours, and none up to this host"
        }
        Mode::AfXdp | Mode::Userspace => return,
    };
    if listener.policy == Policy::Replicate {
        let mode = listener.mode.name();
        let what =
            format!("replicate is not for mode {mode}: {why}; modes af_xdp and userspace can");
        errors.add_key(section, "policy", &what);
    }
}

/// The first bind says of which family all the rest must be.
fn one_family(section: &Section<'_>, listener: &Listener, errors: &mut Errors) {
    let Some(first) = listener.binds.first() else {
        return;
    };
    let mut judge = |key: &str, address: &SocketAddr| {
        if address.is_ipv4() != first.is_ipv4() {
            let [is, must] = [address, first].map(family);
            let what = format!(
                "{address} is {is}, but the listener's first bind is {must}: one listener, one family"
            );
            errors.add_key(section, key, &what);
        }
    };
    for bind in &listener.binds {
        judge("bind", bind);
    }
    for downstream in &listener.downstreams {
        // Of a name, addresses of the other family are not asked for.
        if let Target::Address(address) = &downstream.target {
            judge(&key(&downstream.name), address);
        }
    }
    if let Some(size) = listener.max_packet_size
        && first.is_ipv6()
        && size < MIN_IPV6_PACKET
    {
        let what = format!("{size} is less than an empty datagram over IPv6 ({MIN_IPV6_PACKET})");
        errors.add_key(section, "max_packet_size", &what);
    }
}

fn family(address: &SocketAddr) -> &'static str {
    if address.is_ipv4() { "IPv4" } else { "IPv6" }
}

/// A datagram has one listener. An exact bind beside a wildcard one is fine: it goes first, and so
/// does one on an interface beside one on any.
fn no_shared_bind(listeners: &[Placed<'_>], errors: &mut Errors) {
    let mut owners = HashMap::new();
    for (section, listener) in listeners {
        // Reported already; and what was meant is not known.
        let is_wrong = |value_is_none, key| value_is_none && section.entry(key).is_some();
        let interface_is_missing =
            listener.interface.is_none() && !listener.mode.takes_any_interface();
        if interface_is_missing
            || is_wrong(listener.interface.is_none(), "interface")
            || is_wrong(listener.vlan.is_none(), "vlan")
        {
            continue;
        }
        for bind in &listener.binds {
            match owners.entry((&listener.interface, listener.vlan, bind)) {
                Entry::Vacant(free) => {
                    free.insert(*section);
                }
                Entry::Occupied(taken) => {
                    let what = shared(bind, taken.get(), section, listener.interface.as_deref());
                    errors.add_key(section, "bind", &what);
                }
            }
        }
    }
}

fn shared(
    bind: &SocketAddr,
    owner: &Section<'_>,
    section: &Section<'_>,
    interface: Option<&str>,
) -> String {
    if owner.line == section.line {
        return format!("{bind} is given twice");
    }
    let line = owner.line;
    let on = match interface {
        Some(name) => format!("interface {name}"),
        None => "any interface".to_owned(),
    };
    format!("{bind} is a bind of {owner} on line {line} too, both on {on}")
}

/// The map of an interface's eBPF program has a fixed size.
fn count_binds(listeners: &[Placed<'_>], errors: &mut Errors) {
    let mut counts = HashMap::new();
    for (section, listener) in listeners {
        let Some(on) = (listener.interface.as_ref()).filter(|_| listener.mode != Mode::Userspace)
        else {
            continue;
        };
        let count = counts.entry(on).or_insert(0);
        let had_room = *count <= MAX_BINDS as usize;
        *count += listener.binds.len();
        if had_room && *count > MAX_BINDS as usize {
            let what = format!("too many: at most {MAX_BINDS} binds on interface {on}");
            errors.add_key(section, "bind", &what);
        }
    }
}

/// A datagram for a downstream must not come back to a listener. What a name stands for is not known yet.
fn no_loop(listeners: &[Placed<'_>], errors: &mut Errors) {
    let owners: HashMap<SocketAddr, &Section<'_>> = listeners
        .iter()
        .rev() // the first owner of a bind stays
        .flat_map(|(section, listener)| listener.binds.iter().map(move |&bind| (bind, *section)))
        .collect();
    for (section, listener) in listeners {
        for downstream in &listener.downstreams {
            if let Target::Address(address) = &downstream.target
                && let Some(owner) = owners.get(address)
            {
                let what = format!(
                    "{address} is a bind of {owner} on line {}: a loop",
                    owner.line
                );
                errors.add_key(section, &key(&downstream.name), &what);
            }
        }
    }
}

/// The key that a downstream stands under.
fn key(downstream: &str) -> String {
    format!("downstream.{downstream}")
}
