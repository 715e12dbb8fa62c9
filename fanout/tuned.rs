//! What the config sets of an interface itself, its MTU and its channels: while this lives, and as it was before
//! afterwards. After SIGKILL it stays.

use std::{
    fmt, io, thread,
    time::{Duration, Instant},
};

use log::{info, warn};

use crate::{
    config,
    sys::{
        ethtool::{self, Channels},
        netdev,
    },
};

/// How long sockets and programs that are closed may take to let go of the queues that go away.
const PATIENCE: Duration = Duration::from_secs(1);
const RETRY: Duration = Duration::from_millis(20);

/// What the kernel did not set, of which interface.
#[derive(Debug)]
pub struct Error {
    interface: String,
    what: String,
    cause: io::Error,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            interface,
            what,
            cause,
        } = self;
        write!(f, "interface {interface}: can't set {what}: {cause}")
    }
}

/// Puts back what it changed when it is dropped.
#[derive(Debug)]
pub struct Tuned {
    interface: String,
    /// What it was, if it was changed.
    mtu: Option<u32>,
    channels: Option<Channels>,
}

impl Tuned {
    /// Sets what `settings` say. Nothing that uses the interface should be open yet: drivers take the link down
    /// for it, or refuse.
    ///
    /// # Errors
    /// The kernel's; whatever was changed is put back.
    pub fn new(settings: &config::Interface) -> Result<Self, Error> {
        let mut tuned = Self {
            interface: settings.name.clone(),
            mtu: None,
            channels: None,
        };
        if let Some(mtu) = settings.mtu {
            tuned
                .set_mtu(mtu)
                .map_err(|cause| tuned.error(format!("mtu = {mtu}"), cause))?;
        }
        if let Some(count) = settings.channels {
            tuned
                .set_channels(count)
                .map_err(|cause| tuned.error(format!("channels = {count}"), cause))?;
        }
        Ok(tuned)
    }

    /// Whether it is this interface that it set.
    #[must_use]
    pub fn is_of(&self, interface: &str) -> bool {
        self.interface == interface
    }

    fn set_channels(&mut self, count: u32) -> io::Result<()> {
        let name = &self.interface;
        let was = ethtool::channels(name)?;
        let wanted = was.with(count);
        if wanted != was {
            ethtool::set_channels(name, wanted)?;
            self.channels = Some(was);
            info!(
                "set interface={name} channels={count} was={}",
                was.receiving()
            );
        }
        Ok(())
    }

    fn set_mtu(&mut self, mtu: u32) -> io::Result<()> {
        let name = &self.interface;
        let was = netdev::mtu(name)?;
        if mtu != was {
            netdev::set_mtu(name, mtu)?;
            self.mtu = Some(was);
            info!("set interface={name} mtu={mtu} was={was}");
        }
        Ok(())
    }

    fn error(&self, what: String, cause: io::Error) -> Error {
        Error {
            interface: self.interface.clone(),
            what,
            cause,
        }
    }

    fn put_back(&self, what: &str, value: u32, set: impl Fn() -> io::Result<()>) {
        let name = &self.interface;
        let until = Instant::now() + PATIENCE;
        loop {
            match set() {
                Ok(()) => return info!("put back interface={name} {what}={value}"),
                // Gone, and its settings with it.
                Err(error) if error.raw_os_error() == Some(libc::ENODEV) => return,
                Err(error) if Instant::now() >= until => {
                    return warn!("not put back interface={name} {what}={value} error=\"{error}\"");
                }
                Err(_) => thread::sleep(RETRY),
            }
        }
    }
}

impl Drop for Tuned {
    fn drop(&mut self) {
        let name = &self.interface;
        if let Some(was) = self.channels {
            self.put_back("channels", was.receiving(), || {
                ethtool::set_channels(name, was)
            });
        }
        if let Some(was) = self.mtu {
            self.put_back("mtu", was, || netdev::set_mtu(name, was));
        }
    }
}
