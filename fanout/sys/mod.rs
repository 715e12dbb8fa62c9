//! Every libc call, as a safe function that returns `io::Result`. Nothing here decides anything:
//! no retry, no logging, no policy.

mod address;
pub mod clock;
pub mod datagram;
pub mod ethtool;
pub mod icmp;
pub mod names;
pub mod netdev;
pub mod process;
pub mod socket;
pub mod udp;
pub mod xdp;

use std::io;

/// The usual shape of a system call's answer: -1 is the error in `errno`.
fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}
