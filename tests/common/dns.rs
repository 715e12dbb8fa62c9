//! A DNS server with answers that change: dnsmasq in a namespace, whose `/etc/resolv.conf` names it.

use std::{
    fmt::Write,
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
    process::{Child, Stdio},
};

use super::{
    fanout::{Folder, wait_for},
    namespace::Namespace,
    sys,
};

/// What completes names.
const DOMAIN: &str = "test";
const ADDRESS: &str = "127.0.0.53";

/// A running server; killed on drop, and its `resolv.conf` removed.
#[derive(Debug)]
pub struct Dns {
    server: Child,
    folder: Folder,
    /// `/etc/netns/NAME`: `ip netns exec` lays what is in it over `/etc`.
    etc: PathBuf,
}

impl Dns {
    /// Starts one that knows no name, and has the programs of `namespace` ask it. Look-ups are tried once, for a
    /// second.
    pub fn start(namespace: &Namespace) -> Self {
        let folder = Folder::new();
        let etc = Path::new("/etc/netns").join(namespace.name());
        fs::create_dir_all(&etc).expect("a folder");
        let conf = format!("nameserver {ADDRESS}\nsearch {DOMAIN}\noptions timeout:1 attempts:1\n");
        fs::write(etc.join("resolv.conf"), conf).expect("resolv.conf");
        let hosts = folder.path("hosts");
        fs::write(&hosts, "").expect("hosts");
        let mut command = namespace.command("dnsmasq");
        command.args([
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--user=root",
        ]);
        command.args([
            "--no-resolv",
            "--no-hosts",
            "--bind-interfaces",
            "--pid-file",
        ]);
        command.arg(format!("--listen-address={ADDRESS}"));
        // There is nobody else to ask about any domain.
        command.arg("--local=/#/");
        command.arg(format!("--addn-hosts={}", hosts.display()));
        let server = command.stdin(Stdio::null()).spawn().expect("dnsmasq");
        let listening = wait_for(|| namespace.listens(53).then_some(()));
        listening.expect("dnsmasq listens");
        Self {
            server,
            folder,
            etc,
        }
    }

    /// Has it answer with `addresses` from now on, each for a name: names without any are unknown.
    pub fn set(&self, names: &[(&str, &[IpAddr])]) {
        let mut text = String::new();
        for (name, addresses) in names {
            for address in *addresses {
                writeln!(text, "{address} {name}.{DOMAIN}").expect("a string grows");
            }
        }
        let (hosts, new) = (self.folder.path("hosts"), self.folder.path("new"));
        fs::write(&new, text).expect("hosts");
        fs::rename(new, hosts).expect("hosts");
        self.signal(libc::SIGHUP);
    }

    /// Has it answer no more, or again.
    pub fn pause(&self, pause: bool) {
        self.signal(if pause { libc::SIGSTOP } else { libc::SIGCONT });
    }

    /// Where its `resolv.conf` is.
    pub fn resolv_conf(&self) -> PathBuf {
        self.etc.join("resolv.conf")
    }

    fn signal(&self, signal: i32) {
        sys::signal(&self.server, signal).expect("dnsmasq runs");
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
        let _ = fs::remove_dir_all(&self.etc);
    }
}
