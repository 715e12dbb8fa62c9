//! One value: text → what it means, or what is wrong with it.

use std::{
    fmt::Display,
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::Duration,
};

use log::LevelFilter;

use super::{BusyPoll, Check, Cpus, Mode, Policy, Source, Target, Xdp, ZeroCopy};

/// The largest CPU number plus one that `sched_setaffinity`'s `cpu_set_t` holds.
const CPU_SETSIZE: u64 = 1024;
/// The kernel's size of an interface name, its final zero included.
const IFNAMSIZ: usize = 16;
/// The longest name of a listener or downstream.
const MAX_NAME: usize = 63;
/// The longest DNS name, without a final dot, and the longest part of one (RFC 1035, section 2.3.4).
const MAX_HOST: usize = 253;
const MAX_LABEL: usize = 63;

type Result<T> = std::result::Result<T, String>;

/// A value that is one of a few words.
pub(super) trait Choice: Copy + 'static {
    /// Each word and its meaning.
    const WORDS: &'static [(&'static str, Self)];
}

impl Choice for LevelFilter {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("error", Self::Error),
        ("warn", Self::Warn),
        ("info", Self::Info),
        ("debug", Self::Debug),
        ("trace", Self::Trace),
    ];
}

impl Choice for Xdp {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("auto", Self::Auto),
        ("native", Self::Native),
        ("skb", Self::Skb),
    ];
}

impl Choice for ZeroCopy {
    const WORDS: &'static [(&'static str, Self)] =
        &[("auto", Self::Auto), ("on", Self::On), ("off", Self::Off)];
}

impl Choice for BusyPoll {
    const WORDS: &'static [(&'static str, Self)] =
        &[("adaptive", Self::Adaptive), ("always", Self::Always)];
}

impl Choice for Mode {
    const WORDS: &'static [(&'static str, Self)] = &[
        (Self::AfXdp.name(), Self::AfXdp),
        (Self::TcEbpf.name(), Self::TcEbpf),
        (Self::Xdp.name(), Self::Xdp),
        (Self::Userspace.name(), Self::Userspace),
    ];
}

impl Choice for Policy {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("round_robin", Self::RoundRobin),
        ("source_hash", Self::SourceHash),
        ("replicate", Self::Replicate),
    ];
}

impl Choice for Source {
    const WORDS: &'static [(&'static str, Self)] =
        &[("keep", Self::Keep), ("rewrite", Self::Rewrite)];
}

impl Choice for Check {
    const WORDS: &'static [(&'static str, Self)] =
        &[("off", Self::Off), ("icmp", Self::Icmp), ("udp", Self::Udp)];
}

pub(super) fn choice<T: Choice>(text: &str) -> Result<T> {
    let found = T::WORDS.iter().find(|&&(word, _)| word == text);
    found.map(|&(_, value)| value).ok_or_else(|| {
        let words: Vec<_> = T::WORDS.iter().map(|&(word, _)| word).collect();
        format!("{text:?} is not one of: {}", words.join(", "))
    })
}

/// The name of a listener or downstream.
pub(super) fn name(text: &str) -> Result<String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    if (1..=MAX_NAME).contains(&text.len()) && text.bytes().all(allowed) {
        return Ok(text.to_owned());
    }
    Err(format!(
        "{text:?} is not a name: 1 to {MAX_NAME} of A-Z a-z 0-9 _ . -"
    ))
}

/// What the kernel's `dev_valid_name` takes.
pub(super) fn interface_name(text: &str) -> Result<String> {
    let wrong = |reason: &str| Err(format!("{text:?} is not an interface name: {reason}"));
    if text.len() >= IFNAMSIZ {
        wrong("longer than 15 bytes")
    } else if text.contains(['/', ':']) || text.contains(char::is_whitespace) {
        wrong("it has a slash, a colon or white space")
    } else if ["", ".", ".."].contains(&text) {
        wrong("the kernel takes no such name")
    } else {
        Ok(text.to_owned())
    }
}

pub(super) fn number<T>(text: &str, range: RangeInclusive<T>) -> Result<T>
where
    T: TryFrom<u64> + PartialOrd + Display,
{
    digits(text)
        .and_then(|number| T::try_from(number).ok())
        .filter(|number| range.contains(number))
        .ok_or_else(|| {
            let (from, to) = range.into_inner();
            format!("{text:?} is not a number from {from} to {to}")
        })
}

/// Digits alone: `parse` takes a sign as well.
fn digits(text: &str) -> Option<u64> {
    let signed = text.starts_with('+');
    text.parse().ok().filter(|_| !signed)
}

pub(super) fn duration(text: &str, range: RangeInclusive<Duration>) -> Result<Duration> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit());
    let (count, unit) = text.split_at(unit_at.unwrap_or(text.len()));
    let unit = UNITS.iter().find(|&&(word, _)| word == unit);
    let value = unit
        .zip(digits(count))
        .and_then(|(&(_, unit), count)| count.checked_mul(unit))
        .map(Duration::from_millis)
        .ok_or_else(|| format!("{text:?} is not a duration such as 250ms, 5s or 2m"))?;
    if range.contains(&value) {
        return Ok(value);
    }
    let [from, to] = [range.start(), range.end()].map(|&limit| show(limit));
    Err(format!("{text:?} is not within {from} to {to}"))
}

/// In milliseconds, the longest first.
const UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

/// A duration as the config would say it.
fn show(duration: Duration) -> String {
    let milliseconds = duration.as_millis();
    let mut in_units = UNITS.iter().map(|&(word, unit)| (word, u128::from(unit)));
    match in_units.find(|&(_, unit)| milliseconds.is_multiple_of(unit)) {
        Some((word, unit)) => format!("{}{word}", milliseconds / unit),
        None => format!("{milliseconds}ms"),
    }
}

pub(super) fn metrics_file(text: &str) -> Result<PathBuf> {
    let path = Path::new(text);
    if path.extension().is_some_and(|end| end == "prom") && !text.ends_with('/') {
        return Ok(path.to_owned());
    }
    Err(format!(
        "{text:?} does not end in NAME.prom: node_exporter reads no other file"
    ))
}

pub(super) fn cpus(text: &str) -> Result<Cpus> {
    match text {
        "auto" => return Ok(Cpus::Auto),
        "none" => return Ok(Cpus::None),
        _ => {}
    }
    let cpu = |item: &str| {
        let number = digits(item).filter(|&number| number < CPU_SETSIZE)?;
        usize::try_from(number).ok()
    };
    let list = text.split(',').map(|item| cpu(item.trim()));
    list.collect::<Option<_>>().map(Cpus::List).ok_or_else(|| {
        let most = CPU_SETSIZE - 1;
        format!("{text:?} is not auto, none or a list of CPUs such as 2,3 (0 to {most})")
    })
}

/// An address and port to listen on.
pub(super) fn bind(text: &str) -> Result<SocketAddr> {
    let bind = address(text)?;
    match not_one_host(bind.ip()) {
        Some(kind) => Err(format!(
            "{text:?} is a {kind} address: fanout leaves those to the kernel"
        )),
        None => Ok(bind),
    }
}

/// An address or name, and port, to send to.
pub(super) fn downstream(text: &str) -> Result<Target> {
    if let Some((host, port)) = text.rsplit_once(':')
        && may_be_name(host)
    {
        return named(text, host, port);
    }
    let address = address(text)?;
    match not_a_receiver(address.ip()) {
        Some(kind) => Err(format!("{text:?} is {kind}")),
        None => Ok(Target::Address(address)),
    }
}

/// Why an address is not one to send to.
pub(crate) fn not_a_receiver(ip: IpAddr) -> Option<String> {
    if ip.is_unspecified() {
        return Some("any address, not one to send to".to_owned());
    }
    if let Some(kind) = not_one_host(ip) {
        return Some(format!("a {kind} address, not one receiver's"));
    }
    let link_local = matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local());
    let what = "a link-local address, which no route leads to without an interface";
    link_local.then(|| what.to_owned())
}

/// Whether it is meant to be a name and not an address: that ends in a number, if it is one of IPv4 (also in a form
/// of old such as 0x7f.1, which libc would take), and has a colon or a bracket, if it is one of IPv6.
fn may_be_name(host: &str) -> bool {
    let last = last_label(host);
    let digits = last.strip_prefix("0x").or(last.strip_prefix("0X"));
    let is_number = match digits {
        Some(digits) => digits.bytes().all(|byte| byte.is_ascii_hexdigit()),
        None => last.bytes().all(|byte| byte.is_ascii_digit()),
    };
    !is_number && !host.contains([':', '[', ']', '%', '/'])
}

/// That of a name may have a dot behind it, which says that nothing is to be added.
fn last_label(host: &str) -> &str {
    let host = host.strip_suffix('.').unwrap_or(host);
    host.rsplit('.').next().unwrap_or_default()
}

fn named(text: &str, host: &str, port: &str) -> Result<Target> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    let is_label = |label: &str| {
        (1..=MAX_LABEL).contains(&label.len())
            && label.bytes().all(allowed)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let labels = host.strip_suffix('.').unwrap_or(host);
    if labels.len() > MAX_HOST || !labels.split('.').all(is_label) {
        return Err(format!(
            "{text:?} is neither an address and port nor a DNS name and port"
        ));
    }
    match digits(port).map(u16::try_from) {
        Some(Ok(0)) => Err(format!("{text:?} has port 0, which no datagram carries")),
        Some(Ok(port)) => {
            let host = host.to_ascii_lowercase();
            Ok(Target::Name { host, port })
        }
        _ => Err(format!("{text:?} is not a DNS name and port (1 to 65535)")),
    }
}

fn not_one_host(ip: IpAddr) -> Option<&'static str> {
    match ip {
        _ if ip.is_multicast() => Some("multicast"),
        IpAddr::V4(v4) if v4.is_broadcast() => Some("broadcast"),
        _ => None,
    }
}

fn address(text: &str) -> Result<SocketAddr> {
    if text.contains('%') {
        return Err(format!(
            "{text:?} has a zone (%), which fanout does not take: routes choose the interface"
        ));
    }
    let address: SocketAddr = text.parse().map_err(|_| {
        let bare_ipv6 = text.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv6())
            || text.matches(':').count() > 1 && !text.starts_with('[');
        let hint = if bare_ipv6 {
            " (IPv6: [address]:port)"
        } else {
            ""
        };
        format!("{text:?} is not an address and port{hint}")
    })?;
    if address.port() == 0 {
        return Err(format!("{text:?} has port 0, which no datagram carries"));
    }
    if let IpAddr::V6(v6) = address.ip()
        && let Some(v4) = v6.to_ipv4_mapped()
    {
        let port = address.port();
        return Err(format!("{text:?} is an IPv4 address: write {v4}:{port}"));
    }
    Ok(address)
}
