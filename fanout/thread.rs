//! The threads of workers.

use std::{
    io,
    thread::{Builder, JoinHandle},
};

use log::warn;

use crate::sys;

/// Starts a worker called `name`, on `cpu` if one is given.
///
/// # Errors
/// If a thread can't be had.
pub fn spawn(
    name: String,
    cpu: Option<usize>,
    run: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    Builder::new().name(name.clone()).spawn(move || {
        if let Some(cpu) = cpu
            && let Err(error) = sys::process::pin_to_cpu(cpu)
        {
            warn!("worker is not pinned worker={name} cpu={cpu} error=\"{error}\"");
        }
        run();
    })
}
