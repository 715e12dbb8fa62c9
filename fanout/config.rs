//! The config file: INI text → [`Config`], with every error and its line.
//!
//! Pure: it looks at the text alone. Whether an interface, a CPU or a folder is there is for those
//! who use it to find out. A new key is a field here and a line in `parse.rs`; what it may hold is
//! in `value.rs`; rules that span keys or listeners are in `check.rs`.

mod check;
mod error;
mod ini;
mod keys;
mod nearest;
mod parse;
#[cfg(test)]
mod tests;
mod value;

use std::{
    fmt,
    fs::File,
    io::{self, Read as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

pub use check::MAX_DOWNSTREAMS;
pub use error::ConfigError;
use error::Errors;
pub use fanout_ebpf::abi::Policy;
pub(crate) use value::not_a_receiver;

/// Far beyond 64 listeners of 1024 downstreams; stops `-c /dev/zero`.
const MAX_FILE_SIZE: u64 = 16 << 20;

/// Reads the config file.
///
/// # Errors
/// Every error of [`parse`]; or the one that the file can't be read or is not UTF-8.
pub fn load(path: &Path) -> Result<Config, Vec<ConfigError>> {
    let file_name = path.display().to_string();
    let error = |line, what: &str| vec![ConfigError::new(&file_name, line, what)];
    let bytes = read(path).map_err(|cause| error(None, &format!("can't be read: {cause}")))?;
    if bytes.len() as u64 > MAX_FILE_SIZE {
        return Err(error(None, &format!("larger than {MAX_FILE_SIZE} bytes")));
    }
    match str::from_utf8(&bytes) {
        Ok(text) => parse(&file_name, text),
        Err(cause) => {
            let good = bytes.iter().take(cause.valid_up_to());
            let line = 1 + good.filter(|&&byte| byte == b'\n').count();
            Err(error(line.try_into().ok(), "not UTF-8 text"))
        }
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = File::open(path)?;
    file.take(MAX_FILE_SIZE + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Reads a config from text; `file_name` is for the errors.
///
/// # Errors
/// All that is wrong, in the order of the lines.
pub fn parse(file_name: &str, text: &str) -> Result<Config, Vec<ConfigError>> {
    let mut errors = Errors::new(file_name);
    let sections = ini::sections(text, &mut errors);
    let config = parse::config(&sections, &mut errors);
    errors.or(config)
}

/// A whole, valid config.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// `[fanout] log_level`.
    pub log_level: log::LevelFilter,
    /// `[fanout] metrics_file`; `None`: no file.
    pub metrics_file: Option<PathBuf>,
    /// `[fanout] metrics_interval`.
    pub metrics_interval: Duration,
    /// One for each interface that listeners name, in the order in which they first do, with the
    /// defaults where it has no `[interface NAME]`.
    pub interfaces: Vec<Interface>,
    /// `[listener NAME]`, in the order of the file.
    pub listeners: Vec<Listener>,
    /// What is allowed but can hardly be meant, for the log: an `[interface NAME]` without listeners.
    pub warnings: Vec<ConfigError>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            log_level: log::LevelFilter::Info,
            metrics_file: None,
            metrics_interval: Duration::from_secs(15),
            interfaces: Vec::new(),
            listeners: Vec::new(),
            warnings: Vec::new(),
        }
    }
}

/// Settings of one network interface.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Interface {
    /// The kernel's name of it.
    pub name: String,
    /// How the XDP program is attached.
    pub xdp: Xdp,
    /// Whether the AF_XDP sockets share memory with the driver.
    pub zero_copy: ZeroCopy,
    /// When the workers sleep.
    pub busy_poll: BusyPoll,
    /// Where the workers run.
    pub cpus: Cpus,
    /// Its MTU while fanout runs; `None`: as it is.
    pub mtu: Option<u32>,
    /// How many channels it has while fanout runs; `None`: as many as it has.
    pub channels: Option<u32>,
}

/// `xdp = …`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Xdp {
    /// Native, else skb with a warning.
    #[default]
    Auto,
    /// In the driver, or not at all.
    Native,
    /// The kernel's generic XDP, after the skb is built.
    Skb,
}

/// `zero_copy = …`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ZeroCopy {
    /// Where the driver can.
    #[default]
    Auto,
    /// Or not at all.
    On,
    /// Always copy.
    Off,
}

/// `busy_poll = …`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum BusyPoll {
    /// Spin while traffic flows, sleep after an idle spell.
    #[default]
    Adaptive,
    /// Spin.
    Always,
}

/// `cpus = …`
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Cpus {
    /// One core for each queue.
    #[default]
    Auto,
    /// Not pinned.
    None,
    /// Worker of queue q on the q-th of these, in turn.
    List(Vec<usize>),
}

/// One `[listener NAME]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Its name, the metrics' `listener` label.
    pub name: String,
    /// By which way its datagrams go.
    pub mode: Mode,
    /// The interface it listens on; `None`, in userspace mode alone: any.
    pub interface: Option<String>,
    /// What it takes: one or more, all of one address family.
    pub binds: Vec<SocketAddr>,
    /// Only datagrams with this tag; `None`: only untagged ones.
    pub vlan: Option<u16>,
    /// One or more, in the order of the file.
    pub downstreams: Vec<Downstream>,
    /// Whose turn a datagram is.
    pub policy: Policy,
    /// What becomes of the source address.
    pub source: Source,
    /// Largest IP packet taken, in bytes; `None`: what the interface allows.
    pub max_packet_size: Option<u32>,
    /// How many threads take its datagrams, in userspace mode; `None`: one for each core.
    pub workers: Option<u32>,
    /// What the kernel may hold of its datagrams for each worker, in bytes, in userspace mode.
    pub receive_buffer: u32,
    /// How its downstreams are probed.
    pub health: Health,
    /// How often the names among its downstreams are looked up.
    pub resolve_interval: Duration,
}

impl Listener {
    /// Whether its addresses are of IPv6: all are of one family.
    #[must_use]
    pub fn is_ipv6(&self) -> bool {
        self.binds.iter().any(SocketAddr::is_ipv6)
    }
}

/// `mode = …`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Mode {
    /// XDP program → AF_XDP socket → worker.
    #[default]
    AfXdp,
    /// TC ingress program → out.
    TcEbpf,
    /// XDP program → out.
    Xdp,
    /// UDP sockets.
    Userspace,
}

impl Mode {
    /// Those that are served on an interface by eBPF programs.
    pub const ON_INTERFACE: [Self; 3] = [Self::AfXdp, Self::TcEbpf, Self::Xdp];

    /// Its word in the config, the metrics and the log.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AfXdp => "af_xdp",
            Self::TcEbpf => "tc_ebpf",
            Self::Xdp => "xdp",
            Self::Userspace => "userspace",
        }
    }

    /// Whether a listener of this mode may do without an interface.
    #[must_use]
    pub const fn takes_any_interface(self) -> bool {
        matches!(self, Self::Userspace)
    }
}

/// `source = …`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The sender's address stays.
    Keep,
    /// The address that the kernel would use towards the downstream; the port stays, but in userspace
    /// mode, where it is a port of fanout's own.
    Rewrite,
}

impl Source {
    /// Where a listener of `mode` does not say.
    #[must_use]
    pub const fn default_of(mode: Mode) -> Self {
        match mode {
            // Keeping it takes privileges there.
            Mode::Userspace => Self::Rewrite,
            Mode::AfXdp | Mode::TcEbpf | Mode::Xdp => Self::Keep,
        }
    }
}

/// How the downstreams of a listener are probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Health {
    /// `health`.
    pub check: Check,
    /// `health_interval`: from one probe to the next, at most.
    pub interval: Duration,
    /// `health_timeout`: how long an answer may take.
    pub timeout: Duration,
    /// `health_failures`: so many in a row take a downstream out of turn.
    pub failures: u32,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            check: Check::Off,
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(2),
            failures: 3,
        }
    }
}

/// `health = …`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Check {
    /// None.
    #[default]
    Off,
    /// An echo request, which has to be answered.
    Icmp,
    /// A datagram to the port, which must not be refused.
    Udp,
}

/// `downstream.NAME = …`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Downstream {
    /// The metrics' `downstream` label.
    pub name: String,
    /// Where its datagrams go.
    pub target: Target,
    /// `weight.NAME`, its share: so many turns where one of weight 1 has one.
    pub weight: u8,
}

/// Where the datagrams of a downstream go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// `address:port`
    Address(SocketAddr),
    /// `dns-name:port`, which stands for all addresses of the name.
    Name {
        /// In lower case.
        host: String,
        /// Of each address.
        port: u16,
    },
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Name { host, port } => write!(f, "{host}:{port}"),
        }
    }
}
