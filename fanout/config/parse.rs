//! Sections → [`Config`]: which keys each section takes. One line a key.

use std::{collections::HashMap, ops::RangeInclusive, time::Duration};

use fanout_ebpf::abi::MAX_QUEUES;

use super::{
    Config, Downstream, Health, Interface, Listener, Mode, Source, check,
    error::Errors,
    ini::Section,
    keys::Keys,
    nearest::nearest,
    value::{self, choice, duration, number},
};

/// The kinds of section, as they are written.
const SECTIONS: [(&str, &str); 3] = [
    ("fanout", "[fanout]"),
    ("interface", "[interface NAME]"),
    ("listener", "[listener NAME]"),
];

/// The smallest is an IPv4 and a UDP header without a payload.
const PACKET_SIZES: RangeInclusive<u32> = 28..=65_535;
/// From what every IPv4 host takes (RFC 791) to what an IP header can say.
const MTUS: RangeInclusive<u32> = 68..=65_535;
const WEIGHTS: RangeInclusive<u8> = 0..=255;
const WORKERS: RangeInclusive<u32> = 1..=256;
/// From what holds the largest datagram to what the kernel can double in an `int`.
const RECEIVE_BUFFERS: RangeInclusive<u32> = 65_536..=1_073_741_823;
const RECEIVE_BUFFER: u32 = 4 << 20;
const HEALTH_INTERVALS: RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_secs(3600);
const HEALTH_TIMEOUTS: RangeInclusive<Duration> =
    Duration::from_millis(10)..=Duration::from_secs(3600);
const HEALTH_FAILURES: RangeInclusive<u32> = 1..=100;
const RESOLVE_INTERVAL: Duration = Duration::from_secs(30);
/// Of the metrics file, and of looking names up.
const INTERVALS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3600);

/// What the sections say, with the defaults in place of what is wrong.
pub(super) fn config(sections: &[Section<'_>], errors: &mut Errors) -> Config {
    let mut config = Config::default();
    let mut interfaces = Vec::new();
    let mut listeners = Vec::new();
    for section in sections {
        check_header(section, errors);
        let mut keys = Keys::new(section, errors);
        match section.kind {
            "fanout" => fanout(&mut keys, &mut config),
            "interface" => interfaces.push((section, interface(section, &mut keys))),
            "listener" => listeners.push((section, listener(section, &mut keys))),
            _ => continue,
        }
        keys.finish();
    }
    check::listeners(&listeners, errors);
    for (section, interface) in &interfaces {
        let name = Some(interface.name.as_str());
        if !(listeners.iter()).any(|(_, listener)| listener.interface.as_deref() == name) {
            let warning = errors.warning(section, "no listener is on this interface");
            config.warnings.push(warning);
        }
    }
    for (section, listener) in &listeners {
        let mut weights = listener
            .downstreams
            .iter()
            .map(|downstream| downstream.weight);
        if weights.len() > 0 && weights.all(|weight| weight == 0) {
            let warning = errors.warning(
                section,
                "all its downstreams have weight 0: it drops what comes",
            );
            config.warnings.push(warning);
        }
    }
    for (_, listener) in listeners {
        if let Some(name) = &listener.interface
            && !config.interfaces.iter().any(|used| used.name == *name)
        {
            let given = interfaces.iter().find(|(_, given)| given.name == *name);
            let defaults = Interface {
                name: name.clone(),
                ..Interface::default()
            };
            let interface = given.map_or(defaults, |(_, given)| given.clone());
            config.interfaces.push(interface);
        }
        config.listeners.push(listener);
    }
    config
}

/// The kind is known, and the name is there and right where the kind has one.
fn check_header(section: &Section<'_>, errors: &mut Errors) {
    let wrong = match (section.kind, section.name) {
        ("fanout", None) => None,
        ("fanout", Some(_)) => Some("takes no name: [fanout]".to_owned()),
        ("interface" | "listener", None) => Some(format!("has no name: [{} NAME]", section.kind)),
        ("interface", Some(name)) => value::interface_name(name).err(),
        ("listener", Some(name)) => value::name(name).err(),
        (kind, _) => Some(match nearest(kind, SECTIONS.into_iter()) {
            Some(near) => format!("unknown section, did you mean {near}?"),
            None => "unknown section".to_owned(),
        }),
    };
    if let Some(what) = wrong {
        errors.add_section(section, &what);
    }
}

fn fanout(keys: &mut Keys<'_>, config: &mut Config) {
    if let Some(level) = keys.value("log_level", choice) {
        config.log_level = level;
    }
    config.metrics_file = keys.value("metrics_file", value::metrics_file);
    let interval = |text: &str| duration(text, INTERVALS);
    if let Some(interval) = keys.value("metrics_interval", interval) {
        config.metrics_interval = interval;
    }
}

fn interface(section: &Section<'_>, keys: &mut Keys<'_>) -> Interface {
    Interface {
        name: section.name.unwrap_or_default().to_owned(),
        xdp: keys.value("xdp", choice).unwrap_or_default(),
        zero_copy: keys.value("zero_copy", choice).unwrap_or_default(),
        busy_poll: keys.value("busy_poll", choice).unwrap_or_default(),
        cpus: keys.value("cpus", value::cpus).unwrap_or_default(),
        mtu: keys.value("mtu", |text| number(text, MTUS)),
        channels: keys.value("channels", |text| number(text, 1..=MAX_QUEUES)),
    }
}

fn downstreams(keys: &mut Keys<'_>) -> Vec<Downstream> {
    let targets = keys.required_named("downstream.NAME", value::downstream);
    let weights = keys.named("weight.NAME", |text| number(text, WEIGHTS));
    for (name, _) in &weights {
        let downstream = format!("downstream.{name}");
        if !keys.has(&downstream) {
            keys.refuse(
                &format!("weight.{name}"),
                &format!("there is no {downstream}"),
            );
        }
    }
    let mut weights: HashMap<_, _> = weights.into_iter().collect();
    targets
        .into_iter()
        .map(|(name, target)| Downstream {
            weight: weights.remove(&name).unwrap_or(1),
            name,
            target,
        })
        .collect()
}

fn health(keys: &mut Keys<'_>) -> Health {
    let default = Health::default();
    let check = keys.value("health", choice).unwrap_or_default();
    let interval = keys.value("health_interval", |text| duration(text, HEALTH_INTERVALS));
    let interval = interval.unwrap_or(default.interval);
    let timeout = keys.value("health_timeout", |text| duration(text, HEALTH_TIMEOUTS));
    let failures = keys.value("health_failures", |text| number(text, HEALTH_FAILURES));
    Health {
        check,
        interval,
        timeout: timeout.unwrap_or(default.timeout.min(interval / 2)),
        failures: failures.unwrap_or(default.failures),
    }
}

fn listener(section: &Section<'_>, keys: &mut Keys<'_>) -> Listener {
    let given = keys.mode();
    let mode = given.unwrap_or_default();
    Listener {
        name: section.name.unwrap_or_default().to_owned(),
        mode,
        interface: if given.is_none_or(Mode::takes_any_interface) {
            keys.value("interface", value::interface_name)
        } else {
            keys.required("interface", value::interface_name)
        },
        binds: keys.required_list("bind", value::bind),
        vlan: keys.value_in(&Mode::ON_INTERFACE, "vlan", |text| number(text, 1..=4094)),
        downstreams: downstreams(keys),
        policy: keys.value("policy", choice).unwrap_or_default(),
        source: keys
            .value("source", choice)
            .unwrap_or(Source::default_of(mode)),
        max_packet_size: keys.value("max_packet_size", |text| number(text, PACKET_SIZES)),
        workers: keys.value_in(&[Mode::Userspace], "workers", |text| number(text, WORKERS)),
        receive_buffer: keys
            .value_in(&[Mode::Userspace], "receive_buffer", |text| {
                number(text, RECEIVE_BUFFERS)
            })
            .unwrap_or(RECEIVE_BUFFER),
        health: health(keys),
        resolve_interval: keys
            .value("resolve_interval", |text| duration(text, INTERVALS))
            .unwrap_or(RESOLVE_INTERVAL),
    }
}
