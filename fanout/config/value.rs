//! One value: text → what it means, or what is wrong with it.

use std::{
    fmt::Display,
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::Duration,
};

use log::LevelFilter;

use super::{BusyPoll, Cpus, Mode, Source, Xdp, ZeroCopy};

/// The largest CPU number plus one that `sched_setaffinity`'s `cpu_set_t` holds.
const CPU_SETSIZE: u64 = 1024;
/// The kernel's size of an interface name, its final zero included.
const IFNAMSIZ: usize = 16;
/// The longest name of a listener or downstream.
const MAX_NAME: usize = 63;

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

impl Choice for Source {
    const WORDS: &'static [(&'static str, Self)] =
        &[("keep", Self::Keep), ("rewrite", Self::Rewrite)];
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

/// An address and port to send to.
pub(super) fn downstream(text: &str) -> Result<SocketAddr> {
    let downstream = address(text)?;
    let ip = downstream.ip();
    if ip.is_unspecified() {
        return Err(format!("{text:?} is any address, not one to send to"));
    }
    if let Some(kind) = not_one_host(ip) {
        return Err(format!("{text:?} is a {kind} address, not one receiver's"));
    }
    if matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local()) {
        return Err(format!(
            "{text:?} is a link-local address, which no route leads to without an interface"
        ));
    }
    Ok(downstream)
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
