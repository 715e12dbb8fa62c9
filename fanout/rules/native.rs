//! What an interface must be like for native XDP. Each rule is there once: `fanout check` says beforehand which is
//! broken, and a start that the kernel has refused says it after the kernel's own words.

use super::{
    Level, Mend, Rule, Verdict,
    driver::{self, BOND_MODES, Merging, VETH_PEER_MTU},
};
use crate::{
    config::Xdp,
    facts::interface::{Interface, Kind, Peer},
};

/// What a rule finds: `None` if it has nothing to say of such interfaces, or what holds, or what is broken.
type Found = Option<Result<String, Broken>>;

/// What keeps the kernel from taking the program, and what mends it.
struct Broken {
    what: String,
    mend: Option<Mend>,
    /// Whether it is so, and not just may be.
    certain: bool,
}

impl Broken {
    const fn new(what: String, mend: Option<Mend>) -> Self {
        Self {
            what,
            mend,
            certain: true,
        }
    }
}

fn broken(what: String, command: String) -> Found {
    Some(Err(Broken::new(what, Some(Mend::Run(command)))))
}

/// One rule.
pub struct Native {
    /// Its name.
    name: &'static str,
    /// Parts of what kernels say when it is broken, in lower case; each driver has its own words.
    words: &'static [&'static str],
    look: fn(&Interface) -> Found,
    /// What mends it, if only the kernel's words show that it is broken.
    otherwise: fn(&Interface, &str) -> Option<String>,
}

const PEER_MTU: Native = Native {
    name: "peer-mtu",
    words: &["peer mtu"],
    look: peer_mtu,
    otherwise: |_, _| None,
};
const MTU: Native = Native {
    name: "mtu",
    words: &["mtu", "frame size", "jumbo"],
    look: mtu,
    otherwise: |interface, words| {
        Some(format!(
            "ip link set dev {} mtu {}",
            interface.name,
            limit_in(words)
        ))
    },
};
const PEER_QUEUES: Native = Native {
    name: "peer-queues",
    words: &["peer tx queues"],
    look: peer_queues,
    otherwise: |_, _| None,
};
const CHANNELS: Native = Native {
    name: "channels",
    words: &["channel", "queue", "ring"],
    look: channels,
    otherwise: |interface, _| Some(interface.with_channels((interface.rx_queues / 2).max(1))),
};
const MERGING: Native = Native {
    name: "merging",
    words: &["lro", "gro_hw", "hw-gro", "rsc"],
    look: merging,
    otherwise: |interface, _| {
        Some(format!(
            "ethtool -K {} lro off rx-gro-hw off",
            interface.name
        ))
    },
};
const BOND: Native = Native {
    name: "bond-mode",
    words: &["bonding mode"],
    look: bond,
    otherwise: |_, _| None,
};
const DRIVER: Native = Native {
    name: "native-xdp",
    words: &[],
    look: supported,
    otherwise: |_, _| None,
};

/// The more special before the more general: the first whose words fit is the one that speaks.
const ALL: [Native; 7] = [DRIVER, PEER_MTU, MTU, PEER_QUEUES, CHANNELS, MERGING, BOND];

/// The same for `fanout check`.
pub(super) const RULES: [Rule<Interface>; 7] = [
    DRIVER.rule(|interface| DRIVER.judge(interface)),
    PEER_MTU.rule(|interface| PEER_MTU.judge(interface)),
    MTU.rule(|interface| MTU.judge(interface)),
    PEER_QUEUES.rule(|interface| PEER_QUEUES.judge(interface)),
    CHANNELS.rule(|interface| CHANNELS.judge(interface)),
    MERGING.rule(|interface| MERGING.judge(interface)),
    BOND.rule(|interface| BOND.judge(interface)),
];

impl Native {
    const fn rule(&self, judge: fn(&Interface) -> Option<Verdict>) -> Rule<Interface> {
        Rule {
            name: self.name,
            judge,
        }
    }

    fn judge(&self, interface: &Interface) -> Option<Verdict> {
        // In skb mode none of it matters.
        let wanted = interface.wanted.xdp.filter(|&xdp| xdp != Xdp::Skb)?;
        if interface.bare {
            return None;
        }
        let (level, meaning, mend) = match (self.look)(interface)? {
            Ok(holds) => (Level::Ok, holds, None),
            Err(Broken {
                what,
                mend,
                certain: false,
            }) => {
                let meaning =
                    format!("{what}, which can't be seen from here: native XDP is refused if so");
                (Level::Warn, meaning, mend)
            }
            Err(Broken { what, mend, .. }) if wanted == Xdp::Auto => {
                let meaning = format!("{what}: skb mode then, which is slower");
                (Level::Warn, meaning, mend)
            }
            Err(Broken { what, mend, .. }) => {
                let meaning = format!("{what}, and xdp = native insists");
                (Level::Fail, meaning, mend)
            }
        };
        Some(Verdict {
            level,
            meaning,
            mend,
        })
    }
}

/// Whether the program can be attached natively, as far as the rules know.
#[must_use]
pub fn holds(interface: &Interface) -> bool {
    let mut found = ALL.iter().filter_map(|rule| (rule.look)(interface));
    !found.any(|found| found.is_err_and(|broken| broken.certain))
}

/// What to say after the kernel's `words`, with which it refused the program on `interface`.
#[must_use]
pub fn explain(interface: &Interface, words: &str) -> Option<String> {
    let lower = words.to_ascii_lowercase();
    let fits = |rule: &&Native| rule.words.iter().any(|part| lower.contains(part));
    let said = ALL.iter().find(fits);
    // Drivers that say nothing, or only to dmesg, break one of the rules all the same.
    let look = |rule: &Native| (rule.look)(interface)?.err();
    let broken = said.and_then(look).or_else(|| ALL.iter().find_map(look));
    match (broken, said) {
        (Some(Broken { what, mend, .. }), _) => Some(match mend {
            Some(Mend::Run(command)) => format!("{what}: {command}"),
            Some(Mend::Set(key)) => format!("{what}: {key}"),
            None => what,
        }),
        (None, Some(rule)) => {
            let command = (rule.otherwise)(interface, words)?;
            Some(format!("that may mend it: {command}"))
        }
        (None, None) => None,
    }
}

fn supported(interface: &Interface) -> Found {
    let name = &interface.name;
    let what = match (&interface.kind, &interface.features) {
        (Kind::Vlan(parent, id), _) => {
            let what = format!("{name} is a VLAN device, which has no native XDP");
            let mend = format!("interface = {parent} and vlan = {id} in the listener");
            let mend = Some(Mend::Set(mend));
            return Some(Err(Broken::new(what, mend)));
        }
        (_, Some(features)) if features.native() => {
            return Some(Ok(match interface.driver.as_str() {
                "" => "its driver has native XDP".to_owned(),
                driver => format!("driver {driver} has native XDP"),
            }));
        }
        (_, None) => return None,
        (Kind::Other(kind), _) => format!("{name} is a {kind}, which has no native XDP"),
        // A bond of cards that have it has it, and some drivers as soon as no rule is broken.
        _ => match interface.driver.as_str() {
            "" => "its driver has no native XDP".to_owned(),
            driver => format!("driver {driver} has no native XDP, as it is set up"),
        },
    };
    let mend = Some(Mend::Set(format!("xdp = skb in [interface {name}]")));
    Some(Err(Broken::new(what, mend)))
}

fn mtu(interface: &Interface) -> Found {
    let (name, driver) = (&interface.name, driver::named(&interface.driver));
    let (mtu, max) = (interface.planned_mtu(), driver.max_mtu?);
    let driver = driver.name;
    if mtu <= max {
        return Some(Ok(format!(
            "{mtu}; {driver} takes up to {max} with native XDP"
        )));
    }
    broken(
        format!("mtu {mtu} is more than the {max} that {driver} takes with native XDP"),
        format!("ip link set dev {name} mtu {max}"),
    )
}

fn peer(interface: &Interface) -> Option<(&Peer, String)> {
    let Kind::Veth(Some(peer)) = &interface.kind else {
        return None;
    };
    let place = if peer.here {
        String::new()
    } else {
        " in another network namespace".to_owned()
    };
    Some((peer, format!("its other end ({}{place})", peer.name)))
}

fn peer_mtu(interface: &Interface) -> Found {
    let (peer, end) = peer(interface)?;
    let (mtu, name) = (peer.mtu, &peer.name);
    if mtu <= VETH_PEER_MTU {
        return Some(Ok(format!(
            "{mtu} at {end}; native XDP takes up to {VETH_PEER_MTU}"
        )));
    }
    broken(
        format!("mtu {mtu} of {end} is more than the {VETH_PEER_MTU} that native XDP takes"),
        format!("ip link set dev {name} mtu {VETH_PEER_MTU}"),
    )
}

fn peer_queues(interface: &Interface) -> Found {
    let (peer, end) = peer(interface)?;
    let (rx, tx, name) = (interface.planned_queues(), peer.tx_queues, &peer.name);
    if rx >= tx {
        return Some(Ok(format!("{rx} RX queues, {end} sends by {tx}")));
    }
    let max = interface
        .channels
        .map_or(rx, |channels| channels.max_receiving());
    let what = if peer.here {
        format!("{rx} RX queues are fewer than the {tx} that {end} sends by")
    } else {
        format!("{rx} RX queues are fewer than the {tx} that {end} may send by")
    };
    let mut found = if interface.wanted.channels.is_none() && max >= tx {
        broken(what, format!("ethtool -L {} rx {tx}", interface.name))
    } else {
        broken(what, format!("ethtool -L {name} tx {rx}"))
    };
    if let Some(Err(broken)) = &mut found {
        broken.certain = peer.here;
    }
    found
}

fn channels(interface: &Interface) -> Found {
    let driver = driver::named(&interface.driver);
    let (now, max) = (
        interface.planned_queues(),
        interface.channels?.max_receiving(),
    );
    let Some(most) = driver.most_channels(interface) else {
        return Some(Ok(format!("{now} of {max}")));
    };
    let driver = driver.name;
    if now <= most {
        return Some(Ok(format!(
            "{now} of {max}; {driver} takes up to half of them with native XDP"
        )));
    }
    broken(
        format!(
            "{now} of {max} channels are in use, and {driver} takes half of them with native XDP"
        ),
        interface.with_channels(most),
    )
}

fn merging(interface: &Interface) -> Found {
    let (name, driver) = (&interface.name, driver::named(&interface.driver));
    let all = [("lro", interface.lro), ("rx-gro-hw", interface.gro_hw)];
    let on = |fixed: bool| {
        let mut all = all.iter();
        let found = all.find(|(_, offload)| offload.is_some_and(|o| o.on && (o.fixed || !fixed)));
        found.map(|&(offload, _)| offload)
    };
    match driver.merging {
        Merging::Fine => None,
        Merging::Refused => match on(false) {
            Some(offload) => broken(
                format!(
                    "{offload} is on, and {} takes no XDP program then",
                    driver.name
                ),
                format!("ethtool -K {name} {offload} off"),
            ),
            None => Some(Ok("lro and rx-gro-hw are off".to_owned())),
        },
        Merging::RefusedIfFixed => {
            let offload = on(true)?;
            let what = format!(
                "{offload} is on and can't be turned off here: the hypervisor has to offer \
                 control of guest offloads (QEMU: ctrl_guest_offloads=on), or turn them off \
                 (guest_tso4=off,guest_tso6=off,guest_ufo=off,guest_csum=off)"
            );
            Some(Err(Broken::new(what, None)))
        }
    }
}

fn bond(interface: &Interface) -> Found {
    let Kind::Bond(mode) = interface.kind else {
        return None;
    };
    if BOND_MODES.contains(&mode) {
        return Some(Ok(
            "the bond's mode takes native XDP, if all its cards do".to_owned()
        ));
    }
    let name = &interface.name;
    // A bond changes its mode only while it is down and empty.
    let what = format!("{name} is a bond whose mode takes no native XDP");
    let mend = Some(Mend::Set(format!("xdp = skb in [interface {name}]")));
    Some(Err(Broken::new(what, mend)))
}

/// The MTU that the kernel says would do, or one that every driver takes.
fn limit_in(words: &str) -> u32 {
    let named = words.to_ascii_lowercase();
    let last = words.rsplit(|c: char| !c.is_ascii_digit());
    let number = last
        .filter_map(|n| n.parse().ok())
        .find(|n| (576..9000).contains(n));
    number.filter(|_| named.contains("max")).unwrap_or(1500)
}
