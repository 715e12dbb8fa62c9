//! A TC ingress filter on kernels without TCX, which can't outlive the process in effect.
//!
//! The kernel keeps a filter whoever attached it. So the filter's program is a stub that only tail-calls
//! what a program array holds, and the kernel clears such an array when the last descriptor of it is closed
//! (`bpf_fd_array_map_clear`, `kernel/bpf/arraymap.c`): from the end of the process on, however it ended, the
//! stub finds nothing and lets every packet on. The filter itself and the qdisc are removed by a clean
//! stop, or else by the next start, which knows a dead owner's filter by its name.
//!
//! Kernel: `net/sched/cls_api.c`, `net/sched/cls_bpf.c`, `net/sched/sch_ingress.c`.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
    time::{SystemTime, UNIX_EPOCH},
};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::tc::{TcHandle, TcHeader};

use crate::{
    claim::Claim,
    link::IfIndex,
    netlink::{Attributes, Connection, Described, Message, Refusal, attributes, text_in},
};

/// A qdisc, or a filter.
type TcMessage = Described<TcHeader>;

// linux/pkt_cls.h
const TCA_BPF_FD: u16 = 6;
const TCA_BPF_NAME: u16 = 7;
const TCA_BPF_FLAGS: u16 = 8;
const TCA_BPF_FLAG_ACT_DIRECT: u32 = 1;

/// What the names of our filters begin with; `tc filter show dev … ingress` shows them.
const NAME: &str = "fanout_tc";
/// Follows where the qdisc was added for the filter: it goes with the filter.
const WITH_QDISC: &str = "+clsact";

/// The priority that goes before all others. Filters of one kind can share it, and then the newest is the first.
const FIRST: u16 = 1;
/// The kernel chooses one.
const ANY: u16 = 0;

// linux/pkt_sched.h
const QDISC: TcHandle = TcHandle {
    major: TcHandle::CLSACT.major,
    minor: 0,
};
const INGRESS: TcHandle = TcHandle {
    major: TcHandle::CLSACT.major,
    minor: TcHandle::MIN_INGRESS,
};
const EGRESS: TcHandle = TcHandle {
    major: TcHandle::CLSACT.major,
    minor: TcHandle::MIN_EGRESS,
};

/// An attached filter; detached on drop.
#[derive(Debug)]
pub(super) struct Filter {
    /// By which the kernel finds it.
    header: TcHeader,
    with_qdisc: bool,
    /// Why another filter goes before it.
    pub(super) why_not_first: Option<Refusal>,
    /// The part of its name that no other filter has, claimed.
    _owner: Claim,
}

impl Filter {
    /// Attaches a program, before all other filters if it can.
    pub(super) fn attach(interface: IfIndex, program: BorrowedFd<'_>) -> Result<Self, Refusal> {
        let mut connection = Connection::open()?;
        let added_qdisc = add_qdisc(&mut connection, interface)?;
        let attached = Self::attach_to(&mut connection, interface, program, added_qdisc);
        if attached.is_err() && added_qdisc {
            let _ = remove_qdisc(&mut connection, interface);
        }
        attached
    }

    fn attach_to(
        connection: &mut Connection,
        interface: IfIndex,
        program: BorrowedFd<'_>,
        added_qdisc: bool,
    ) -> Result<Self, Refusal> {
        // The last one of ours takes it away.
        let with_qdisc = added_qdisc || ours(connection, interface)?.iter().any(Ours::with_qdisc);
        let (owner, id) = owner()?;
        let suffix = if with_qdisc { WITH_QDISC } else { "" };
        let name = format!("{NAME}{suffix}:{id}");
        let first = add(connection, interface, program, &name, FIRST);
        if first.is_err() {
            add(connection, interface, program, &name, ANY)?;
        }
        let mut ours = ours(connection, interface)?.into_iter();
        let added = ours.find(|filter| filter.name == name);
        let added = added.ok_or_else(|| io::Error::other("the filter is not there"))?;
        Ok(Self {
            header: added.header,
            with_qdisc,
            why_not_first: first.err(),
            _owner: owner,
        })
    }
}

impl Drop for Filter {
    fn drop(&mut self) {
        if let Ok(mut connection) = Connection::open() {
            // Refused where the interface is gone, and the filter with it; else the next start finds it.
            let _ = remove(&mut connection, &self.header, self.with_qdisc);
        }
    }
}

/// Removes the filters of processes that ended without doing so. Returns their names.
pub(super) fn sweep(interface: IfIndex) -> Result<Vec<String>, Refusal> {
    let mut connection = Connection::open()?;
    let mut removed = Vec::new();
    for filter in ours(&mut connection, interface)? {
        let id = filter.name.rsplit(':').next().unwrap_or_default();
        // Held for as long as it takes, so that two starts don't remove the same one.
        if let Some(_claim) = Claim::on(&claimed(id))? {
            remove(&mut connection, &filter.header, filter.with_qdisc())?;
            removed.push(filter.name);
        }
    }
    Ok(removed)
}

/// A name that no other process uses, and the claim on it.
fn owner() -> io::Result<(Claim, String)> {
    loop {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let id = format!("{:x}", now.unwrap_or_default().as_nanos());
        if let Some(claim) = Claim::on(&claimed(&id))? {
            return Ok((claim, id));
        }
    }
}

fn claimed(id: &str) -> String {
    format!("{NAME}:{id}")
}

/// Says whether there was none.
fn add_qdisc(connection: &mut Connection, interface: IfIndex) -> Result<bool, Refusal> {
    let request = Message::NewQdisc(qdisc(interface));
    match connection.change(request, NLM_F_CREATE | NLM_F_EXCL) {
        Ok(()) => Ok(true),
        // An ingress qdisc, which sits in its place, does as well.
        Err(refusal) if refusal.error.raw_os_error() == Some(libc::EEXIST) => Ok(false),
        Err(refusal) => Err(refusal),
    }
}

fn add(
    connection: &mut Connection,
    interface: IfIndex,
    program: BorrowedFd<'_>,
    name: &str,
    priority: u16,
) -> Result<(), Refusal> {
    let options = Attributes::default()
        .with(TCA_BPF_FD, program.as_raw_fd().to_ne_bytes())
        .with(TCA_BPF_NAME, zero_terminated(name))
        // The program's return value is the verdict.
        .with(TCA_BPF_FLAGS, TCA_BPF_FLAG_ACT_DIRECT.to_ne_bytes());
    let mut message = message(interface, INGRESS);
    message.header.info = u32::from(priority) << 16 | u32::from(protocol_all_be());
    message.attributes = kind("bpf").with_nested(libc::TCA_OPTIONS, options);
    let request = Message::NewFilter(message);
    connection.change(request, NLM_F_CREATE | NLM_F_EXCL)
}

/// Removes a filter and, if it came with it and serves nobody else, the qdisc.
fn remove(connection: &mut Connection, header: &TcHeader, with_qdisc: bool) -> Result<(), Refusal> {
    let filter = TcMessage {
        header: header.clone(),
        attributes: kind("bpf"),
    };
    connection.change(Message::DelFilter(filter), 0)?;
    let interface = IfIndex(header.index.cast_unsigned());
    let mut unused =
        |hook| filters(connection, interface, hook).is_ok_and(|others| others.is_empty());
    if with_qdisc && unused(INGRESS) && unused(EGRESS) {
        remove_qdisc(connection, interface)?;
    }
    Ok(())
}

fn remove_qdisc(connection: &mut Connection, interface: IfIndex) -> Result<(), Refusal> {
    connection.change(Message::DelQdisc(qdisc(interface)), 0)
}

/// A filter of an instance of fanout, this one or another.
struct Ours {
    name: String,
    header: TcHeader,
}

impl Ours {
    fn with_qdisc(&self) -> bool {
        self.name.contains(WITH_QDISC)
    }
}

fn ours(connection: &mut Connection, interface: IfIndex) -> Result<Vec<Ours>, Refusal> {
    let filters = filters(connection, interface, INGRESS)?;
    let ours = filters.into_iter().filter_map(|filter| {
        // Filters of other kinds have their own meaning of this number, and no such name.
        let options = filter.attributes.iter();
        let name = options
            .filter(|&(kind, _)| kind == libc::TCA_OPTIONS)
            .flat_map(|(_, options)| attributes(options))
            .find(|&(kind, _)| kind == TCA_BPF_NAME)
            .map(|(_, name)| text_in(name))
            .filter(|name| name.starts_with(NAME))?;
        Some(Ours {
            name,
            header: filter.header,
        })
    });
    Ok(ours.collect())
}

/// All filters of one direction; none where there is no qdisc.
fn filters(
    connection: &mut Connection,
    interface: IfIndex,
    parent: TcHandle,
) -> Result<Vec<TcMessage>, Refusal> {
    let request = Message::GetFilter(message(interface, parent));
    let answers = match connection.dump(request) {
        // A kernel without filters.
        Err(refusal) if refusal.error.raw_os_error() == Some(libc::EOPNOTSUPP) => Vec::new(),
        answers => answers?,
    };
    let filters = answers.into_iter().filter_map(|answer| match answer {
        Message::NewFilter(filter) => Some(filter),
        _ => None,
    });
    Ok(filters.collect())
}

fn qdisc(interface: IfIndex) -> TcMessage {
    let mut message = message(interface, TcHandle::CLSACT);
    message.header.handle = QDISC;
    message.attributes = kind("clsact");
    message
}

fn message(IfIndex(interface): IfIndex, parent: TcHandle) -> TcMessage {
    let mut message = TcMessage::default();
    message.header.index = interface.cast_signed();
    message.header.parent = parent;
    message
}

fn kind(name: &str) -> Attributes {
    Attributes::default().with(libc::TCA_KIND, zero_terminated(name))
}

fn zero_terminated(text: &str) -> Vec<u8> {
    [text.as_bytes(), &[0]].concat()
}

/// Every protocol, as the kernel wants it in the lower half of a filter's info.
#[expect(clippy::cast_possible_truncation, reason = "16 bits")]
const fn protocol_all_be() -> u16 {
    (libc::ETH_P_ALL as u16).to_be()
}
