//! Tests with the drivers of real network cards: fanout and all that it needs run in a virtual machine
//! of a kernel that is not the host's. They need root, QEMU, and kernels that `.ci/setup-vm.sh` fetches.
//!
//! By default on one kernel; `FANOUT_TEST_VM=all` takes all of the matrix in `cases.rs`.
//! `FANOUT_TEST_STRICT=1` makes a test fail that can't run here, instead of being ignored.
//!
//! ```text
//!   host                              guest, this very binary runs as `vm guest …`
//!   cases ──▶ machine ──▶ QEMU ──────▶ init.sh ──▶ guest ──▶ tests/common, fanout
//!    └ kernel, initramfs                                       └ two cards in namespaces of their own
//! ```
#![allow(unreachable_pub, reason = "pub marks what a file offers the others")]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "counts of datagrams fit whatever holds them"
)]

use std::{env, process::ExitCode};

use card::Card;
use common::harness::Suite;
use libtest_mimic::Arguments;

mod card;
mod cases;
#[path = "../common/mod.rs"]
mod common;
mod guest;
mod initramfs;
mod kernel;
mod machine;

fn main() -> ExitCode {
    let words: Vec<_> = env::args().skip(1).collect();
    if let Some((guest::WORD, card)) = words
        .split_first()
        .map(|(word, rest)| (word.as_str(), rest))
    {
        guest::run(Card::parse(card));
        return ExitCode::SUCCESS;
    }
    let mut arguments = Arguments::from_args();
    arguments.test_threads = arguments.test_threads.or(Some(1));
    if !arguments.list {
        common::namespace::sweep();
    }
    let mut suite = Suite::default();
    cases::register(&mut suite);
    libtest_mimic::run(&arguments, suite.trials).exit_code()
}
