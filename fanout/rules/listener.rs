//! What a listener binds, where it sends, and where its counters go.

use super::{Rule, Verdict, driver};
use crate::{
    config::{Mode, Source},
    facts::{
        downstream::{Downstream, Name},
        metrics::{Exporter, Metrics},
        port::Port,
    },
    neighbor::{Neighbor, Path, Unreachable},
};

/// Of a bind.
pub const PORT: [Rule<Port>; 2] = [
    Rule {
        name: "address",
        judge: address,
    },
    Rule {
        name: "port",
        judge: port,
    },
];

/// Of a downstream that is a DNS name.
pub const NAME: [Rule<Name>; 1] = [Rule {
    name: "name",
    judge: name,
}];

/// Of a downstream, or of each address that it stands for.
pub const DOWNSTREAM: [Rule<Downstream>; 5] = [
    Rule {
        name: "route",
        judge: route,
    },
    Rule {
        name: "mode",
        judge: mode,
    },
    Rule {
        name: "next-hop",
        judge: next_hop,
    },
    Rule {
        name: "path-mtu",
        judge: path_mtu,
    },
    Rule {
        name: "source-check",
        judge: source_check,
    },
];

/// Of the metrics file.
pub const METRICS: [Rule<Metrics>; 2] = [
    Rule {
        name: "folder",
        judge: folder,
    },
    Rule {
        name: "node_exporter",
        judge: node_exporter,
    },
];

fn address(port: &Port) -> Option<Verdict> {
    let ip = port.address.ip();
    let device = port.interface.as_deref().unwrap_or("lo");
    let length = if ip.is_ipv4() { 32 } else { 128 };
    Some(if ip.is_unspecified() {
        Verdict::ok(format!("{}: any address", port.address))
    } else if port.local {
        Verdict::ok(format!("{}: an address of this host", port.address))
    } else if port.mode == Mode::Userspace {
        let meaning = format!("{ip} is not this host's, and a socket can't bind it");
        Verdict::fail(meaning).run(format!("ip addr add {ip}/{length} dev {device}"))
    } else {
        Verdict::ok(format!(
            "{}: not this host's address; a virtual one, if the network sends it here",
            port.address
        ))
    })
}

fn port(port: &Port) -> Option<Verdict> {
    if port.served {
        return Some(Verdict::ok("an instance of fanout serves it"));
    }
    let Some(socket) = &port.socket else {
        return Some(Verdict::ok("no other socket has the port"));
    };
    let bound = socket.address;
    let (owner, command) = match &socket.owner {
        Some(owner) => (owner.to_string(), format!("kill {}", owner.id)),
        None => (
            "a process that this user may not see".to_owned(),
            format!("ss -ulpn sport = :{}", bound.port()),
        ),
    };
    Some(if port.mode == Mode::Userspace {
        Verdict::fail(format!("{owner} has {bound}")).run(command)
    } else {
        let meaning = format!("{owner} has {bound} and gets nothing while fanout runs");
        Verdict::warn(meaning).run(command)
    })
}

fn name(name: &Name) -> Option<Verdict> {
    let host = &name.host;
    Some(match &name.addresses {
        Ok(count) => Verdict::ok(format!("{host} stands for {count} addresses")),
        Err(why) => Verdict::fail(format!("{host}: {why}")).run(format!("getent ahosts {host}")),
    })
}

fn path(downstream: &Downstream) -> Option<&Path> {
    downstream.way.path.as_ref().ok()
}

fn route(downstream: &Downstream) -> Option<Verdict> {
    let address = downstream.address;
    let ip = address.ip();
    let ingress = downstream.ingress.as_ref();
    Some(match &downstream.way.path {
        Ok(path) => {
            let name = &path.link.name;
            let mut meaning = if path.local {
                format!("{address} is an address of this host")
            } else if path.next_hop == ip {
                format!("{address} by {name}")
            } else {
                format!("{address} by {name} and router {}", path.next_hop)
            };
            if path.encapsulated {
                meaning += ", encapsulated";
            }
            Verdict::ok(meaning)
        }
        Err(Unreachable::LinkDown(name)) => {
            Verdict::fail(format!("{address}: the way is by {name}, which is down"))
                .run(format!("ip link set dev {name} up"))
        }
        Err(Unreachable::NoCarrier(name)) => Verdict::fail(format!(
            "{address}: the way is by {name}, which has no carrier: the cable, the switch, or its other end"
        )),
        Err(why) => {
            let device = ingress.map_or("...", |ingress| ingress.name.as_str());
            let meaning =
                format!("{address}: {why}; or by a router: 'via ROUTER' for 'dev {device}'");
            Verdict::fail(meaning).run(format!("ip route add {ip} dev {device}"))
        }
    })
}

fn mode(downstream: &Downstream) -> Option<Verdict> {
    let why = downstream.refused.as_ref()?;
    Some(Verdict::fail(format!("fanout does not start: {why}")).set("mode = af_xdp"))
}

fn next_hop(downstream: &Downstream) -> Option<Verdict> {
    let path = path(downstream)?;
    let (hop, name) = (path.next_hop, &path.link.name);
    Some(match downstream.way.neighbor? {
        Neighbor::Answered => Verdict::ok(format!("{hop} answers on {name}")),
        Neighbor::Unknown => Verdict::ok(format!("{hop} was not asked of late; the start asks")),
        Neighbor::Asked => Verdict::warn(format!("{hop} is being asked on {name}")),
        Neighbor::Failed => Verdict::fail(format!(
            "{hop} did not answer on {name}: it is down, or not there; when it is up again:"
        ))
        .run(format!("ping -c 1 -W 2 {hop}")),
    })
}

fn path_mtu(downstream: &Downstream) -> Option<Verdict> {
    let (path, ingress) = (path(downstream)?, downstream.ingress.as_ref()?);
    let (mtu, largest) = (path.mtu, ingress.largest);
    if mtu >= largest {
        return None;
    }
    let meaning = format!(
        "the way takes packets of {mtu} bytes, {} brings up to {largest}: larger ones are dropped and counted",
        ingress.name
    );
    // What Ethernet brings unless somebody has changed it.
    Some(if mtu < largest.min(1500) {
        Verdict::warn(meaning).set(format!("max_packet_size = {mtu}"))
    } else {
        Verdict::ok(meaning)
    })
}

/// The uplink is where the datagrams came in: what leaves by it has an address that the network knows as
/// somebody else's.
fn source_check(downstream: &Downstream) -> Option<Verdict> {
    let (path, ingress) = (path(downstream)?, downstream.ingress.as_ref()?);
    if downstream.source == Source::Rewrite || path.local || path.link.name != ingress.name {
        return None;
    }
    let (network, unless) = driver::named(&ingress.driver).checks_sources?;
    let meaning = format!(
        "source = keep leaves by {}, and {network} drops packets with another's source address unless {unless}",
        ingress.name
    );
    Some(Verdict::warn(meaning).set("source = rewrite"))
}

fn folder(metrics: &Metrics) -> Option<Verdict> {
    let folder = metrics.folder.display();
    Some(if !metrics.exists {
        Verdict::fail(format!("{folder} does not exist: no metrics"))
            .run(format!("mkdir -p {folder}"))
    } else if !metrics.writable {
        Verdict::fail(format!(
            "user {} may not write in {folder}: no metrics",
            metrics.user
        ))
        .run(format!("chown {} {folder}", metrics.user))
    } else {
        Verdict::ok(format!("{folder} can be written"))
    })
}

fn node_exporter(metrics: &Metrics) -> Option<Verdict> {
    let mut exporters = metrics.exporters.iter();
    if let Some(exporter) = exporters.find(|exporter| exporter.reads_ours) {
        return Some(Verdict::ok(format!(
            "{} reads the folder",
            exporter.process
        )));
    }
    let ours = metrics.folder.display();
    Some(match metrics.exporters.first() {
        None => Verdict::warn("no node_exporter runs here: nobody reads the metrics")
            .run("systemctl start prometheus-node-exporter"),
        Some(Exporter {
            process, folders, ..
        }) if folders.is_empty() => Verdict::warn(format!(
            "{process} reads no files: it takes --collector.textfile.directory={ours}"
        )),
        Some(Exporter {
            process, folders, ..
        }) => {
            let theirs = folders.join(" and ");
            let verdict = Verdict::warn(format!("{process} reads {theirs}, not {ours}"));
            match folders
                .iter()
                .find(|folder| !folder.contains(['*', '?', '[']))
            {
                Some(folder) => verdict.set(format!("metrics_file = {folder}/fanout.prom")),
                None => verdict,
            }
        }
    })
}
