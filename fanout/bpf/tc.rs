//! Attaching the TC program to an interface's ingress, before whatever else is there: what is a listener's is
//! nobody else's business, and all other packets go on to the next program untouched.
//!
//! By TCX, a `bpf_link` that goes with the process (Linux 6.6, `kernel/bpf/tcx.c`), else as a
//! [filter](super::clsact) of a clsact qdisc.

use std::{fmt, io, os::fd::AsFd};

use aya::programs::{LinkOrder, TcAttachType, links::FdLink, tc::TcAttachOptions};

use super::{Error, Programs, clsact, error::Cause, once, os_error};
use crate::netlink::Refusal;

/// What forwards.
pub(super) const PROGRAM: &str = "fanout_tc";
/// What a filter of clsact calls it by.
pub(super) const STUB: &str = "fanout_tc_stub";

/// How the TC program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TcMode {
    /// By a `bpf_link`.
    Tcx,
    /// By a filter.
    Clsact,
}

impl fmt::Display for TcMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcx => "tcx",
            Self::Clsact => "clsact",
        })
    }
}

/// What keeps it attached.
#[derive(Debug)]
pub(super) enum Attachment {
    Tcx(#[expect(dead_code, reason = "held, not used")] FdLink),
    Clsact(#[expect(dead_code, reason = "held, not used")] clsact::Filter),
}

/// What came of it.
#[derive(Debug)]
pub struct AttachedTc {
    /// How it is attached.
    pub mode: TcMode,
    /// Why another program goes before it, in the kernel's words.
    pub why_not_first: Option<String>,
    /// Filters that killed instances had left behind, and that are gone now.
    pub removed: Vec<String>,
}

pub(super) fn attach(programs: &mut Programs) -> Result<AttachedTc, Error> {
    try_attach(programs).map_err(|cause| Error::AttachTc {
        interface: programs.interface.clone(),
        cause,
    })
}

fn try_attach(programs: &mut Programs) -> Result<AttachedTc, Cause> {
    let mut attached = AttachedTc {
        mode: TcMode::Tcx,
        why_not_first: None,
        removed: clsact::sweep(programs.ifindex)?,
    };
    match tcx(programs) {
        Ok(link) => programs.tc = Some(Attachment::Tcx(link)),
        // What a kernel says that has no such attachment.
        Err(cause) if os_error(&*cause).and_then(io::Error::raw_os_error) == Some(libc::EINVAL) => {
            let filter = filter(programs)?;
            attached.mode = TcMode::Clsact;
            attached.why_not_first = filter.why_not_first.as_ref().map(Refusal::to_string);
            programs.tc = Some(Attachment::Clsact(filter));
        }
        Err(cause) => return Err(cause),
    }
    Ok(attached)
}

fn filter(programs: &mut Programs) -> Result<clsact::Filter, Cause> {
    let ifindex = programs.ifindex;
    let forwarder = programs.classifier(PROGRAM)?.fd()?.try_clone()?;
    programs.tc_program.set(0, &forwarder, 0)?;
    let stub = programs.classifier(STUB)?;
    once(stub.load())?;
    Ok(clsact::Filter::attach(ifindex, stub.fd()?.as_fd())?)
}

fn tcx(programs: &mut Programs) -> Result<FdLink, Cause> {
    let interface = programs.interface.clone();
    let tc = programs.classifier(PROGRAM)?;
    let id = tc.attach_with_options(
        &interface,
        TcAttachType::Ingress,
        TcAttachOptions::TcxOrder(LinkOrder::first()),
    )?;
    Ok(tc.take_link(id)?.try_into()?)
}
