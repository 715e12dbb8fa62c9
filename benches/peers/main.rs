//! fanout against its peers: every contender in the same network, in turn, under the same traffic.
//! Needs root, Linux 6.6, two CPUs, iproute2 and ethtool.
//!
//! The generator has CPU 0 and a contender's own threads CPU 1. What a contender does in the kernel's receive
//! path runs on CPU 0 too, beside the generator, because a veth's NAPI runs where its frames were sent.
//! Elsewhere it is slower: with RPS to CPU 1 nftables delivered less than half, with a NAPI thread there less
//! than a third, as the page of each frame then goes from core to core and back.
#![allow(unreachable_pub, reason = "pub marks what a file offers the others")]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "counts of datagrams fit whatever holds them"
)]

mod asm;
mod bpf;
#[path = "../../tests/common/mod.rs"]
mod common;
mod contender;
mod cpu;
mod generator;
mod measure;
mod network;
mod options;
mod programs;
mod relay;
mod report;
mod rings;
mod sink;

use std::process::ExitCode;

use cpu::Baselines;
use options::Options;
use report::Report;

/// As much may others use of the CPUs without a warning, of 1.
const QUIET: f64 = 0.05;

fn main() -> ExitCode {
    let options = Options::from_arguments();
    if common::sys::effective_user() != 0 {
        eprintln!("peers: needs root, to make network namespaces");
        return ExitCode::FAILURE;
    }
    common::namespace::sweep();
    bpf::note_interrupts();
    let (contenders, missing): (Vec<_>, Vec<_>) = options
        .contenders
        .iter()
        .copied()
        .partition(|contender| contender.is_there());
    if let Some(length) = options.flood {
        for contender in contenders {
            measure::watch(contender, length, options.rate);
        }
        return ExitCode::SUCCESS;
    }
    let others = cpu::used_by_others();
    if others > QUIET {
        eprintln!(
            "peers: not a quiet machine: others use {:.0} % of its CPUs",
            others * 100.0
        );
    }
    let mut baselines = Baselines::new();
    let mut samples: Vec<_> = contenders
        .iter()
        .map(|&contender| (contender, Vec::new()))
        .collect();
    for round in 1..=options.rounds {
        for (contender, samples) in &mut samples {
            eprintln!("round {round} of {}: {}", options.rounds, contender.name);
            samples.push(measure::measure(contender, &options.plan, &mut baselines));
        }
    }
    let missing = missing
        .iter()
        .map(|contender| (contender.name, contender.needs.unwrap_or_default()));
    let report = Report::new(&samples, missing.collect());
    println!("{}", report.text());
    if let Some(folder) = options.output
        && let Err(error) = report.write(&folder)
    {
        eprintln!("peers: {}: {error}", folder.display());
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
