//! What the kernel must be like, and what the process must be allowed to do.

use caps::Capability;

use super::{Rule, Verdict, driver::version};
use crate::{facts::host::Host, xsk::umem};

/// The rules, in the order in which they are told.
pub const RULES: [Rule<Host>; 7] = [
    Rule {
        name: "kernel",
        judge: kernel,
    },
    Rule {
        name: "af_xdp",
        judge: xdp_sockets,
    },
    Rule {
        name: "jit",
        judge: jit,
    },
    Rule {
        name: "btf",
        judge: btf,
    },
    Rule {
        name: "capabilities",
        judge: capabilities,
    },
    Rule {
        name: "open-files",
        judge: open_files,
    },
    Rule {
        name: "irqbalance",
        judge: irqbalance,
    },
];

fn kernel(host: &Host) -> Option<Verdict> {
    let (release, needs) = (&host.release, &host.needs);
    let at_least = if needs.xdp || needs.tc {
        (5, 10)
    } else if needs.af_xdp {
        (5, 9)
    } else {
        (0, 0)
    };
    let is = version(release);
    Some(if is < at_least {
        let (major, minor) = at_least;
        let meaning = format!("Linux {release}; these modes need {major}.{minor}");
        Verdict::fail(meaning).set("mode = userspace")
    } else if needs.programs() && is < (5, 16) {
        Verdict::ok(format!(
            "Linux {release}: next hops are asked for again and again; from 5.16 on the kernel keeps them"
        ))
    } else {
        Verdict::ok(format!("Linux {release}"))
    })
}

fn xdp_sockets(host: &Host) -> Option<Verdict> {
    let can = host.xdp_sockets.filter(|_| host.needs.af_xdp)?;
    Some(if can {
        Verdict::ok("the kernel has AF_XDP sockets")
    } else {
        Verdict::fail("the kernel gives no AF_XDP socket (CONFIG_XDP_SOCKETS)")
            .set("mode = tc_ebpf")
    })
}

fn jit(host: &Host) -> Option<Verdict> {
    let on = host.jit.filter(|_| host.needs.programs())?;
    (!on).then(|| {
        Verdict::warn("eBPF programs are interpreted, which is slow")
            .run("sysctl -w net.core.bpf_jit_enable=1")
    })
}

fn btf(host: &Host) -> Option<Verdict> {
    (host.needs.xdp && !host.btf).then(|| {
        Verdict::warn(
            "no BTF (/sys/kernel/btf/vmlinux): redirects that fail count as forwarded only",
        )
    })
}

/// What the modes in the config take, and by which words the file of the program can be given it.
fn needed(host: &Host) -> Vec<Capability> {
    let needs = &host.needs;
    let mut needed = Vec::new();
    if needs.programs() {
        needed.extend(if version(&host.release) >= (5, 8) {
            [Capability::CAP_BPF, Capability::CAP_PERFMON]
        } else {
            [Capability::CAP_SYS_ADMIN, Capability::CAP_SYS_RESOURCE]
        });
    }
    if needs.programs() || needs.tuning {
        needed.push(Capability::CAP_NET_ADMIN);
    }
    if needs.programs() || needs.raw_sockets {
        needed.push(Capability::CAP_NET_RAW);
    }
    if needs
        .lowest_port
        .is_some_and(|port| port < host.unprivileged_port)
    {
        needed.push(Capability::CAP_NET_BIND_SERVICE);
    }
    // Both lift the limit.
    let pinned = u64::from(needs.queues) * umem::SIZE as u64;
    let may_lift = host.capabilities.contains(&Capability::CAP_SYS_RESOURCE);
    if needs.af_xdp && host.memlock < pinned && !may_lift {
        needed.push(Capability::CAP_IPC_LOCK);
    }
    needed
}

fn capabilities(host: &Host) -> Option<Verdict> {
    let needed = needed(host);
    let lacks = |capability: &&Capability| !host.capabilities.contains(*capability);
    let missing: Vec<_> = needed
        .iter()
        .filter(lacks)
        .map(ToString::to_string)
        .collect();
    if missing.is_empty() {
        return Some(Verdict::ok(
            "has all that the config needs, memory to pin included",
        ));
    }
    let mut meaning = format!("lacks {}", missing.join(", "));
    if missing.iter().any(|name| name == "CAP_IPC_LOCK") {
        let [limit, pinned] = [
            host.memlock,
            u64::from(host.needs.queues) * umem::SIZE as u64,
        ];
        let mib = |bytes: u64| bytes >> 20;
        meaning = format!(
            "{meaning} (may pin {} MiB, needs {}: or a higher limit, LimitMEMLOCK=)",
            mib(limit),
            mib(pinned)
        );
    }
    meaning += "; under systemd: AmbientCapabilities=";
    let all: Vec<_> = needed
        .iter()
        .map(|c| c.to_string().to_lowercase())
        .collect();
    let program = host.program.display();
    Some(Verdict::fail(meaning).run(format!("setcap {}+ep {program}", all.join(","))))
}

/// Files that are open beside the sockets of userspace mode: programs, maps, rings, netlink; some to spare.
const OTHER_FILES: u64 = 100;

fn open_files(host: &Host) -> Option<Verdict> {
    let sockets = host.needs.sockets;
    (sockets > 0).then(|| {
        too_many_sockets(sockets, host.file_limit)
            .unwrap_or_else(|| Verdict::ok("may open all the sockets of userspace mode"))
    })
}

/// What it means that userspace mode needs so many sockets, with this limit on open files; `None`: nothing.
#[must_use]
pub fn too_many_sockets(sockets: u64, file_limit: u64) -> Option<Verdict> {
    let files = sockets + OTHER_FILES;
    (files > file_limit).then(|| {
        Verdict::fail(format!(
            "userspace mode takes a socket for each worker and downstream, {sockets} in all, and at most {file_limit} \
             files may be open: set workers to less, or a higher limit, under systemd LimitNOFILE={files}"
        ))
        .run(format!("ulimit -n {files}"))
    })
}

fn irqbalance(host: &Host) -> Option<Verdict> {
    let process = host.irqbalance.as_ref()?;
    (host.needs.queues > 1).then(|| {
        Verdict::warn(format!(
            "{process} moves the queues' interrupts away from their workers' CPUs"
        ))
        .run("systemctl stop irqbalance")
    })
}
