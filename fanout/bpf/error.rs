//! What can go wrong with the programs of an interface, in one line: where, at what, why, and what mends it.

use std::{
    error, fmt,
    io::{self, ErrorKind},
};

use super::{Mode, PROGRAM};
use crate::facts::interface::Program;

/// `CAP_PERFMON` since the place of a UDP header behind options is not a constant.
const NEEDED: &str =
    "; it takes CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN (before Linux 5.8: CAP_SYS_ADMIN)";

/// One of the library's errors.
pub(super) type Cause = Box<dyn error::Error + Send + Sync>;

/// What the kernel did not do.
#[derive(Debug)]
pub enum Error {
    /// Load the program and make its maps.
    Load {
        /// For which interface.
        interface: String,
        /// The kernel's or the library's reason.
        cause: Cause,
    },
    /// Attach the program: another one is there.
    Occupied {
        /// Where.
        interface: String,
        /// The other.
        program: Program,
    },
    /// Attach the program.
    Attach {
        /// Where.
        interface: String,
        /// How.
        mode: Mode,
        /// The kernel's reason, and what mends it.
        reason: String,
    },
    /// Attach the TC program.
    AttachTc {
        /// Where.
        interface: String,
        /// The kernel's reason.
        cause: Cause,
    },
    /// Attach the program so that it can't outlive the process.
    OldKernel(String),
    /// Read or write a map.
    Map {
        /// Of the program on which interface.
        interface: String,
        /// What for.
        operation: &'static str,
        /// The kernel's reason.
        cause: Cause,
    },
    /// Count the frames that the kernel drops of those that it is to redirect.
    Uncounted {
        /// From which interface.
        interface: String,
        /// The kernel's or the library's reason.
        cause: Cause,
    },
    /// Read what each CPU has counted of an interface: how many there can be, only `/sys` tells.
    NoSys(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Load { interface, cause } => {
                write!(
                    f,
                    "{interface}: cannot load the eBPF programs: {}",
                    Chain(&**cause)
                )?;
                if os_error(&**cause).is_some_and(|e| e.kind() == ErrorKind::PermissionDenied) {
                    f.write_str(NEEDED)?;
                }
                Ok(())
            }
            Self::Occupied { interface, program } => {
                write!(f, "{interface} already carries XDP program {program}: ")?;
                if program.name.as_deref() == Some(PROGRAM) {
                    f.write_str("another fanout serves this interface; one has to go, or take another interface")
                } else {
                    let command = program.removal(interface);
                    write!(f, "fanout never replaces one; this takes it off: {command}")
                }
            }
            Self::Attach {
                interface,
                mode,
                reason,
            } => write!(
                f,
                "{interface}: cannot attach the XDP program in {mode} mode: {reason}"
            ),
            Self::AttachTc { interface, cause } => write!(
                f,
                "{interface}: cannot attach the TC program: {}",
                Chain(&**cause)
            ),
            Self::OldKernel(interface) => write!(
                f,
                "{interface}: cannot attach the XDP program so that it goes with this process: needs Linux 5.9"
            ),
            Self::Map {
                interface,
                operation,
                cause,
            } => write!(f, "{interface}: cannot {operation}: {}", Chain(&**cause)),
            Self::Uncounted { interface, cause } => write!(
                f,
                "{interface}: cannot trace what the kernel does not redirect: {}",
                Chain(&**cause)
            ),
            Self::NoSys(interface) => write!(
                f,
                "{interface}: cannot read what its programs count: /sys is not mounted"
            ),
        }
    }
}

impl error::Error for Error {}

/// An error and its causes; the library's own text leaves most of them out.
struct Chain<'a>(&'a (dyn error::Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.0.to_string();
        let mut next = self.0.source();
        while let Some(cause) = next {
            let cause_text = cause.to_string();
            if !text.contains(&cause_text) {
                text = format!("{text}: {cause_text}");
            }
            next = cause.source();
        }
        f.write_str(&one_line(&text))
    }
}

/// A verifier's log has many lines, an event has one: of the log, the last before its statistics.
fn one_line(text: &str) -> String {
    const STATISTICS: [&str; 3] = ["processed ", "stack depth ", "verification time "];
    let (what, log) = text.split_once(" Verifier output: ").unwrap_or((text, ""));
    let why = log
        .lines()
        .rfind(|line| !line.is_empty() && !STATISTICS.iter().any(|s| line.starts_with(s)));
    let what = what.lines().next().unwrap_or_default();
    why.map_or_else(|| what.to_owned(), |why| format!("{what} {why}"))
}

/// The operating system's error among the causes.
pub(super) fn os_error<'a>(error: &'a (dyn error::Error + 'static)) -> Option<&'a io::Error> {
    let mut next = Some(error);
    while let Some(cause) = next {
        if let Some(cause) = cause.downcast_ref::<io::Error>() {
            return Some(cause);
        }
        next = cause.source();
    }
    None
}

/// Its number.
pub(super) fn os_code(error: &(dyn error::Error + 'static)) -> Option<i32> {
    os_error(error)?.raw_os_error()
}

#[cfg(test)]
mod tests {
    use super::one_line;

    #[test]
    fn an_error_is_one_line_with_the_verifiers_last_word() {
        let log = "0: R1=ctx()\n1: (0f) r0 += r2\nR0 prohibited for !root\nverification time 9 usec\n\
                   stack depth 112\nprocessed 59 insns (limit 1000000)\n";
        assert_eq!(
            one_line(&format!(
                "BPF_PROG_LOAD returned EACCES. Verifier output: {log}"
            )),
            "BPF_PROG_LOAD returned EACCES. R0 prohibited for !root"
        );
        assert_eq!(one_line("EPERM. Verifier output: "), "EPERM.");
        assert_eq!(one_line("no such map"), "no such map");
    }
}
