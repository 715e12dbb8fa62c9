//! Counting what the kernel dropped of what it was to redirect.

use aya::programs::{ProgramError, RawTracePoint};
use fanout_ebpf::abi::Interface;

use super::{Error, Programs, error::os_code, nothing};
use crate::{btf, link::IfIndex};

/// Each tracepoint, and its program: the first of these that the kernel takes.
const TRACEPOINTS: [(&str, &[&str]); 3] = [
    ("xdp_devmap_xmit", &["fanout_xmit"]),
    (
        "xdp_redirect_err",
        &["fanout_redirect", "fanout_redirect_old"],
    ),
    ("xdp_exception", &["fanout_exception"]),
];

/// `linux/bpf.h`: only where there is none.
const BPF_NOEXIST: u64 = 1;

impl Programs {
    /// Has frames counted that are redirected from this interface and that the kernel drops.
    ///
    /// # Errors
    /// [`Error::Uncounted`]; what had been done by then does no harm.
    pub fn count_failures(&mut self) -> Result<(), Error> {
        let uncounted = |interface: &str, cause| Error::Uncounted {
            interface: interface.to_owned(),
            cause,
        };
        let offset = btf::offset_of("net_device", "ifindex")
            .map_err(|cause| uncounted(&self.interface, cause.into()))?;
        self.set(Interface {
            ifindex_offset: offset,
            ..self.settings
        })?;
        for (tracepoint, programs) in TRACEPOINTS {
            let mut traced = Err(ProgramError::NotLoaded);
            for program in programs {
                traced = traced.or_else(|_| self.trace(program, tracepoint));
            }
            traced.map_err(|cause| uncounted(&self.interface, cause.into()))?;
        }
        Ok(())
    }

    fn trace(&mut self, program: &str, tracepoint: &str) -> Result<(), ProgramError> {
        let program = self.ebpf.program_mut(program);
        let program: &mut RawTracePoint = program.ok_or(ProgramError::NotLoaded)?.try_into()?;
        program.load()?;
        // It stays as long as the program is not dropped.
        program.attach(tracepoint)?;
        Ok(())
    }

    /// Begins to count what fails towards `egress`, at 0, or goes on.
    ///
    /// # Errors
    /// [`Error::Map`]
    pub fn count_failures_of(&mut self, egress: IfIndex) -> Result<(), Error> {
        let begun = nothing(0).and_then(|zeros| self.failures.insert(egress.0, zeros, BPF_NOEXIST));
        match begun {
            Err(cause) if os_code(&cause) != Some(libc::EEXIST) => {
                Err(self.failed("count what an interface does not take", cause))
            }
            _ => Ok(()),
        }
    }

    /// Frames that were to leave by `egress` and that the kernel dropped.
    #[must_use]
    pub fn failures_of(&self, egress: IfIndex) -> u64 {
        let of_each_cpu = self.failures.get(&egress.0, 0);
        of_each_cpu.map_or(0, |counts| counts.iter().sum())
    }
}
