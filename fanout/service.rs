//! What the service manager is told, `sd_notify(3)`: so `systemctl start` ends when fanout forwards, and
//! `systemctl status` says how it is. Where none asked, nothing is said.

use log::warn;
use sd_notify::NotifyState::{self, Ready, Status, Stopping};

/// It forwards; `status` is for people.
pub fn ready(status: &str) {
    tell(&[Ready, Status(status)]);
}

/// It ends.
pub fn stopping() {
    tell(&[Stopping]);
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        warn!("the service manager can't be told error=\"{error}\"");
    }
}
