//! The cost of the pure forward function: parse, look up, choose, rewrite; no ring, no system call.
//!
//! A batch of 64 datagrams in the cache, as a worker takes them, over and over. Their headers are put back before each
//! pass; what that costs is measured alone and taken off.
#![allow(unreachable_pub, reason = "pub marks what a file offers the others")]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "counts fit whatever holds them"
)]

mod batch;
mod counter;
#[path = "../../tests/common/frame.rs"]
#[allow(dead_code, reason = "this bench uses its part")]
mod frame;
mod valgrind;

use std::time::Instant;

use batch::{Batch, CASES, Case};
use counter::Counter;

/// Passes of one measurement, and measurements, of which the fastest counts: whatever comes between
/// only makes one slower.
const PASSES: u32 = 2_000;
const MEASUREMENTS: u32 = 50;

const USAGE: &str = "\
cargo bench --bench rewrite -- [OPTIONS]
  --callgrind   count instructions with valgrind, where the machine has no counter for them";

fn main() {
    let mut callgrind = false;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            valgrind::INSIDE => return valgrind::inside(&arguments.collect::<Vec<_>>()),
            "--callgrind" => callgrind = true,
            // cargo bench says so.
            "--bench" => {}
            _ => {
                eprintln!("{USAGE}");
                std::process::exit(2);
            }
        }
    }
    let counter = Counter::open();
    if let (Err(error), false) = (&counter, callgrind) {
        println!("this machine counts no instructions ({error}): try -- --callgrind\n");
    }
    println!(
        "{:<32}{:>10}{:>14}",
        "a datagram of 64 bytes", "ns", "instructions"
    );
    for case in CASES {
        let instructions = if callgrind {
            Some(valgrind::instructions(case))
        } else {
            counter
                .as_ref()
                .ok()
                .map(|counter| instructions(case, counter))
        };
        let instructions = instructions.map_or_else(|| "–".to_owned(), |n| format!("{n:.0}"));
        println!(
            "{:<32}{:>10.1}{instructions:>14}",
            case.name(),
            nanoseconds(case)
        );
    }
}

fn nanoseconds(case: &Case) -> f64 {
    let time = |pass: &dyn Fn(&mut Batch)| {
        let mut batch = Batch::new(case);
        let measure = |_| {
            let start = Instant::now();
            for _ in 0..PASSES {
                pass(&mut batch);
            }
            start.elapsed()
        };
        (0..MEASUREMENTS)
            .map(measure)
            .min()
            .expect("some")
            .as_nanos() as f64
    };
    (time(&Batch::forward) - time(&Batch::put_back)) / f64::from(PASSES) / batch::LEN as f64
}

fn instructions(case: &Case, counter: &Counter) -> f64 {
    let count = |pass: &dyn Fn(&mut Batch)| {
        let mut batch = Batch::new(case);
        let before = counter.read();
        for _ in 0..PASSES {
            pass(&mut batch);
        }
        (counter.read() - before) as f64
    };
    (count(&Batch::forward) - count(&Batch::put_back)) / f64::from(PASSES) / batch::LEN as f64
}
