//! Tests of the real program in network namespaces that they make and remove. They need root.
//!
//! One at a time unless `--test-threads` says otherwise: each fills the machine with traffic.
//! `FANOUT_TEST_LONG=1` sends a million datagrams where the default is 50,000.
//! `FANOUT_TEST_STRICT=1` makes a test fail that can't run here, instead of being ignored.
#![allow(unreachable_pub, reason = "pub marks what a file offers the others")]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "counts of datagrams fit whatever holds them"
)]

use std::process::ExitCode;

use common::harness::{self, Suite};
use libtest_mimic::Arguments;

mod allocations;
mod changes;
mod check;
#[path = "../common/mod.rs"]
mod common;
mod container;
mod footprint;
mod forwarding;
mod golden;
mod ground;
mod health;
mod hotpath;
mod lifecycle;
mod listeners;
mod modes;
mod monitoring;
mod mutation;
mod names;
mod overload;
mod pass;
mod policies;
mod prober;
mod program;
mod queues;
mod reload;
mod resolver;
mod rsyslog;
mod service;
mod status;
mod tc;
mod tuned;
mod userspace;
mod xdp;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = arguments.test_threads.or(Some(1));
    if !arguments.list {
        common::namespace::sweep();
    }
    let mut suite = Suite::default();
    for register in [
        ground::register,
        forwarding::register,
        golden::register,
        listeners::register,
        queues::register,
        policies::register,
        xdp::register,
        tc::register,
        hotpath::register,
        overload::register,
        userspace::register,
        modes::register,
        rsyslog::register,
        program::register,
        pass::register,
        lifecycle::register,
        tuned::register,
        check::register,
        status::register,
        monitoring::register,
        resolver::register,
        prober::register,
        names::register,
        health::register,
        changes::register,
        reload::register,
        footprint::register,
        mutation::register,
        container::register,
        service::register,
    ] {
        register(&mut suite);
    }
    libtest_mimic::run(&arguments, suite.trials).exit_code()
}
