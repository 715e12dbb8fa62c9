//! The peers that relay in user space, with a socket for those who send and one for each receiver.

use std::{
    fs,
    process::{Child, Command, Stdio},
};

use super::{
    contender::{self, Running},
    network::Network,
};
use crate::common::{
    fanout::{Folder, wait_for},
    topology::{Family, PORT},
};

/// Enough for 20 ms of the fastest.
const RECEIVE_BUFFER: usize = 4 << 20;

/// A relay at work; killed on drop.
#[derive(Debug)]
struct Relay {
    child: Child,
    _folder: Folder,
}

impl Running for Relay {}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// nginx as one process that takes each datagram for a session of its own, and so for the next receiver.
pub fn nginx(network: &Network) -> Box<dyn Running> {
    let folder = Folder::new();
    let [config, pid] = ["nginx.conf", "nginx.pid"].map(|file| folder.path(file));
    let target = network.topology.target(Family::V4);
    let servers: Vec<_> = network
        .receivers()
        .map(|receiver| format!("server {receiver};"))
        .collect();
    let servers = servers.concat();
    let text = format!(
        "load_module modules/ngx_stream_module.so;
        daemon off;
        master_process off;
        error_log stderr crit;
        pid {};
        events {{ worker_connections 65536; }}
        stream {{
            upstream receivers {{ {servers} }}
            server {{
                listen {target} udp reuseport rcvbuf={RECEIVE_BUFFER};
                proxy_pass receivers;
                proxy_requests 1;
                proxy_responses 0;
            }}
        }}",
        pid.display()
    );
    fs::write(&config, text).expect("nginx's config");
    start(network, folder, |taskset| {
        taskset
            .args(["nginx", "-p", "/usr/share/nginx", "-c"])
            .arg(config);
    })
}

/// socat from one socket to one other. All go to the first receiver: it can't spread, and what it does
/// is the least that a relay of one thread has to do.
pub fn socat(network: &Network) -> Box<dyn Running> {
    let receiver = network.topology.downstream(0, Family::V4);
    start(network, Folder::new(), |taskset| {
        taskset.args(["socat", "-u"]).args([
            format!("UDP4-RECV:{PORT},rcvbuf={RECEIVE_BUFFER}"),
            format!("UDP4-SENDTO:{receiver}"),
        ]);
    })
}

/// Starts what `command` adds to taskset(1), and waits until it listens.
fn start(
    network: &Network,
    folder: Folder,
    command: impl FnOnce(&mut Command),
) -> Box<dyn Running> {
    let host = &network.topology.host;
    let mut taskset = host.command("taskset");
    taskset.args(["--cpu-list", &contender::CPU.to_string()]);
    command(&mut taskset);
    let child = taskset.stdin(Stdio::null()).spawn();
    let relay = Relay {
        child: child.expect("taskset"),
        _folder: folder,
    };
    wait_for(|| host.listens(PORT).then_some(())).expect("it listens");
    Box::new(relay)
}
