//! Programs and processes that are in fanout's way, or seem to be.

use std::{
    fs,
    net::UdpSocket,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::fs::PermissionsExt,
    },
    process::{Child, Command, Stdio},
};

use fanout::netlink::{Attributes, Connection, Described, Message};
use netlink_packet_route::link::LinkHeader;

use crate::common::{fanout::Folder, namespace::Namespace, sys};

const IFLA_XDP_FD: u16 = 1;
const IFLA_XDP_FLAGS: u16 = 3;

/// Puts an XDP program that passes everything on an interface of `host`, as ip(8) would: by netlink, so that no
/// process has it open afterwards. `flags` is one of `XDP_FLAGS_*`.
pub fn attach_foreign(host: &Namespace, interface: &str, flags: u32) {
    let index: u32 = host
        .interface(interface, "ifindex")
        .parse()
        .expect("a number");
    let program = sys::load_xdp_pass("foreign").expect("a program");
    let xdp = Attributes::default()
        .with(IFLA_XDP_FD, program.as_raw_fd().to_ne_bytes())
        .with(IFLA_XDP_FLAGS, flags.to_ne_bytes());
    let mut message = Described::<LinkHeader>::default();
    message.header.index = index;
    message.attributes = Attributes::default().with_nested(libc::IFLA_XDP, xdp);
    host.enter(|| {
        let mut connection = Connection::open().expect("netlink");
        let attached = connection.change(Message::SetLink(message), 0);
        attached.expect("attach");
    });
}

/// A child; killed on drop.
pub struct Impostor(Child);

impl Impostor {
    /// Holds `socket` and does nothing else.
    pub fn with_socket(socket: UdpSocket) -> Self {
        let mut command = Command::new("sleep");
        command.arg("600").stdin(OwnedFd::from(socket));
        Self(command.spawn().expect("sleep"))
    }

    /// Has the name and the options of a node_exporter that reads `folders`.
    pub fn node_exporter(home: &Folder, folders: &[&str]) -> Self {
        let script = home.path("node_exporter");
        fs::write(&script, "#!/bin/sh\nread line\n").expect("a script");
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("chmod");
        let mut command = Command::new(script);
        command
            .args(
                folders
                    .iter()
                    .map(|folder| format!("--collector.textfile.directory={folder}")),
            )
            .stdin(Stdio::piped());
        Self(command.spawn().expect("a process"))
    }
}

impl Drop for Impostor {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
