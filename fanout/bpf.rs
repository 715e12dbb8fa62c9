//! The eBPF programs of one interface and their maps: load, attach, fill, read.
//!
//! It logs nothing and decides nothing: what is bound, where the sockets are and where datagrams go, its
//! owner says. The programs go when their [`Programs`] is dropped or the process ends, however it ends
//! (`bpf_link`, and what [`clsact`] does where there is none).
//!
//! Kernel: `Documentation/bpf/`, `net/core/dev.c` (`dev_xdp_attach`).

mod attach;
mod clsact;
mod error;
mod failed;
mod forwarding;
mod tc;

use std::{
    collections::HashMap,
    fmt,
    io::{self, ErrorKind},
    os::fd::BorrowedFd,
};

use aya::{
    Ebpf, EbpfLoader, Pod,
    maps::{self, Map, MapData, MapError, PerCpuArray, PerCpuValues, ProgramArray, XskMap},
    programs::{ProgramError, SchedClassifier, Xdp, links::FdLink},
    util::nr_cpus,
};
use fanout_ebpf::{
    abi::{self, Bind, BindKey, Interface, PassReason},
    words::{number, words},
};

pub use self::{
    attach::{Attached, Mode},
    error::Error,
    forwarding::Received,
    tc::{AttachedTc, TcMode},
};
use self::{
    error::{Cause, os_error},
    forwarding::Forwarding,
};
use crate::{
    config,
    link::{IfIndex, Link, QueueId},
};

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/fanout.bpf.o"));

/// The program's name: what `bpftool net` and another instance's error show.
const PROGRAM: &str = "fanout_xdp";

/// Loads programs. Making one costs tens of milliseconds (the library reads all the kernel's types, which
/// fanout has no use for): make one for all interfaces, beside other work.
#[derive(Debug)]
pub struct Loader(EbpfLoader<'static>);

impl Loader {
    /// A loader.
    #[must_use]
    pub fn new() -> Self {
        let mut loader = EbpfLoader::new();
        loader.btf(None);
        Self(loader)
    }

    /// Makes the programs and maps of an interface: nothing attached, no binds, no sockets, no next hops.
    /// `downstreams` is how many can be counted that the programs forward to by themselves.
    ///
    /// # Errors
    /// [`Error::Load`]
    pub fn load(&mut self, link: &Link, downstreams: u32) -> Result<Programs, Error> {
        self.try_load(link, downstreams)
            .map_err(|cause| Error::Load {
                interface: link.name.clone(),
                cause,
            })
    }

    fn try_load(&mut self, link: &Link, downstreams: u32) -> Result<Programs, Cause> {
        self.0.map_max_entries(abi::FORWARDED, downstreams.max(1));
        let mut ebpf = self.0.load(OBJECT)?;
        let mut programs = Programs {
            interface: link.name.clone(),
            ifindex: link.index,
            settings: Interface {
                mac: number(words(&link.mac)),
                any_wildcard: 0,
                any_tagged: 0,
                skb_mode: 0,
                reserved: 0,
                ifindex: link.index.0,
                ifindex_offset: 0,
                binds: 1,
            },
            present: HashMap::new(),
            binds: map(&mut ebpf, abi::BINDS)?,
            sockets: map(&mut ebpf, abi::XSKS)?,
            passed: map(&mut ebpf, abi::PASSED)?,
            settings_map: map(&mut ebpf, abi::INTERFACE)?,
            tc_program: map(&mut ebpf, abi::TC_PROGRAM)?,
            forwarding: Forwarding::new(&mut ebpf)?,
            failures: map(&mut ebpf, abi::FAILED)?,
            link: None,
            tc: None,
            ebpf,
        };
        let settings = programs.settings.to_bytes();
        programs.settings_map.set(0, settings, 0)?;
        Ok(programs)
    }
}

impl Default for Loader {
    fn default() -> Self {
        Self::new()
    }
}

fn map<M: TryFrom<Map, Error = MapError>>(ebpf: &mut Ebpf, name: &str) -> Result<M, MapError> {
    let map = ebpf.take_map(name).ok_or_else(|| MapError::InvalidName {
        name: name.to_owned(),
    })?;
    map.try_into()
}

/// The programs of one interface.
pub struct Programs {
    interface: String,
    ifindex: IfIndex,
    /// What keeps the XDP program attached.
    link: Option<FdLink>,
    /// What keeps the TC program attached.
    tc: Option<tc::Attachment>,
    ebpf: Ebpf,
    /// What `settings_map` holds.
    settings: Interface,
    /// What `binds` holds.
    present: HashMap<BindKey, Bind>,
    // Keys and values as they lie in memory: the library's trait for others takes `unsafe`.
    binds: maps::HashMap<MapData, [u8; size_of::<BindKey>()], [u32; 4]>,
    sockets: XskMap<MapData>,
    passed: PerCpuArray<MapData, u64>,
    settings_map: maps::Array<MapData, [u8; size_of::<Interface>()]>,
    tc_program: ProgramArray<MapData>,
    forwarding: Forwarding,
    failures: maps::PerCpuHashMap<MapData, u32, u64>,
}

impl Programs {
    /// Attaches the XDP program: natively or, if `wanted` allows, in skb mode. Some drivers take the link
    /// down for a moment, or change their number of queues.
    ///
    /// # Errors
    /// [`Error::Load`], [`Error::Occupied`], [`Error::Attach`], [`Error::OldKernel`], [`Error::Map`]
    pub fn attach_xdp(&mut self, wanted: config::Xdp) -> Result<Attached, Error> {
        self.xdp()
            .and_then(|program| once(program.load()))
            .map_err(|cause| Error::Load {
                interface: self.interface.clone(),
                cause: cause.into(),
            })?;
        let attached = attach::attach(self, wanted)?;
        self.set(Interface {
            skb_mode: (attached.mode == Mode::Skb).into(),
            ..self.settings
        })?;
        Ok(attached)
    }

    /// Takes the XDP program off.
    pub fn detach_xdp(&mut self) {
        self.link = None;
    }

    /// Takes the TC program off; says whether it was on.
    pub fn detach_tc(&mut self) -> bool {
        self.tc.take().is_some()
    }

    /// Whether the TC program is attached.
    #[must_use]
    pub fn has_tc(&self) -> bool {
        self.tc.is_some()
    }

    /// Attaches the TC program, after what killed instances left behind is gone.
    ///
    /// # Errors
    /// [`Error::Load`], [`Error::AttachTc`]
    pub fn attach_tc(&mut self) -> Result<AttachedTc, Error> {
        self.classifier(tc::PROGRAM)
            .and_then(|program| once(program.load()))
            .map_err(|cause| Error::Load {
                interface: self.interface.clone(),
                cause: cause.into(),
            })?;
        tc::attach(self)
    }

    /// The interface's MAC address has changed.
    ///
    /// # Errors
    /// [`Error::Map`]
    pub fn set_mac(&mut self, mac: [u8; 6]) -> Result<(), Error> {
        self.set(Interface {
            mac: number(words(&mac)),
            ..self.settings
        })
    }

    /// The AF_XDP socket that gets what this queue receives. When it is closed, the kernel takes it out.
    ///
    /// # Errors
    /// [`Error::Map`]
    pub fn set_socket(&mut self, queue: QueueId, socket: BorrowedFd<'_>) -> Result<(), Error> {
        self.sockets
            .set(queue.0, socket, 0)
            .map_err(|cause| self.failed("set the socket of a queue", cause))
    }

    /// Makes `binds` all that the program takes. New ones are there before old ones go, and one that stays
    /// is never missing.
    ///
    /// # Errors
    /// [`Error::Map`]; what had been done by then stays, and another call mends it.
    pub fn set_binds(&mut self, binds: &[(BindKey, Bind)]) -> Result<(), Error> {
        let mut wanted: HashMap<_, _> = binds.iter().copied().collect();
        let any_wildcard = binds.iter().any(|(key, _)| key.is_wildcard());
        let any_tagged = binds.iter().any(|(key, _)| key.vlan != 0);
        for (key, bind) in binds {
            // The first in the config is the one that is told of a wrong tag.
            wanted.entry(key.any_vlan()).or_insert(*bind);
        }

        self.set(Interface {
            any_wildcard: self.settings.any_wildcard | u8::from(any_wildcard),
            any_tagged: self.settings.any_tagged | u8::from(any_tagged),
            ..self.settings
        })?;
        for (key, bind) in &wanted {
            if self.present.get(key) != Some(bind) {
                self.binds
                    .insert(key.to_bytes(), bind.to_words(), 0)
                    .map_err(|cause| self.failed("add a bind", cause))?;
                self.present.insert(*key, *bind);
            }
        }
        let gone: Vec<_> = self
            .present
            .keys()
            .filter(|key| !wanted.contains_key(key))
            .copied()
            .collect();
        for key in gone {
            self.binds
                .remove(&key.to_bytes())
                .map_err(|cause| self.failed("remove a bind", cause))?;
            self.present.remove(&key);
        }
        // Never 0. What the programs remember is of the edition before, and void.
        let binds = self.settings.binds.checked_add(1).unwrap_or(1);
        self.set(Interface {
            any_wildcard: any_wildcard.into(),
            any_tagged: any_tagged.into(),
            binds,
            ..self.settings
        })
    }

    /// How many packets of a listener went to the kernel, by [`PassReason`].
    ///
    /// # Errors
    /// [`Error::Map`]; [`Error::NoSys`] where `/sys` is not mounted, which hurts nothing else.
    pub fn passed(&self, listener: u32) -> Result<[u64; PassReason::COUNT], Error> {
        let mut counts = [0; PassReason::COUNT];
        for reason in PassReason::ALL {
            let of_each_cpu = self
                .passed
                .get(&abi::passed_index(listener, reason), 0)
                .map_err(|cause| self.not_read("read what was passed", cause))?;
            counts[reason as usize] = of_each_cpu.iter().sum();
        }
        Ok(counts)
    }

    fn set(&mut self, settings: Interface) -> Result<(), Error> {
        if settings != self.settings {
            self.settings_map
                .set(0, settings.to_bytes(), 0)
                .map_err(|cause| self.failed("describe the interface", cause))?;
            self.settings = settings;
        }
        Ok(())
    }

    fn xdp(&mut self) -> Result<&mut Xdp, ProgramError> {
        self.ebpf
            .program_mut(PROGRAM)
            .ok_or(ProgramError::NotLoaded)?
            .try_into()
    }

    fn classifier(&mut self, name: &str) -> Result<&mut SchedClassifier, ProgramError> {
        self.ebpf
            .program_mut(name)
            .ok_or(ProgramError::NotLoaded)?
            .try_into()
    }

    /// What kept a map with an entry for each CPU from being read.
    fn not_read(&self, operation: &'static str, cause: MapError) -> Error {
        match os_error(&cause).map(io::Error::kind) {
            // Not the entry: the library's only file, which says what CPUs there can be.
            Some(ErrorKind::NotFound) => Error::NoSys(self.interface.clone()),
            _ => self.failed(operation, cause),
        }
    }

    fn failed(&self, operation: &'static str, cause: impl Into<Cause>) -> Error {
        Error::Map {
            interface: self.interface.clone(),
            operation,
            cause: cause.into(),
        }
    }
}

/// A program that was attached before is loaded already.
fn once(loaded: Result<(), ProgramError>) -> Result<(), ProgramError> {
    match loaded {
        Err(ProgramError::AlreadyLoaded) => Ok(()),
        other => other,
    }
}

/// Nothing, on each CPU.
fn nothing<V: Pod>(zero: V) -> Result<PerCpuValues<V>, MapError> {
    let cpus = nr_cpus().map_err(|(_, cause)| MapError::from(cause))?;
    Ok(PerCpuValues::try_from(vec![zero; cpus])?)
}

/// The maps have nothing to show.
impl fmt::Debug for Programs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Programs")
            .field("interface", &self.interface)
            .field("link", &self.link)
            .field("tc", &self.tc)
            .field("settings", &self.settings)
            .field("present", &self.present)
            .finish_non_exhaustive()
    }
}
