//! Instructions counted by valgrind's callgrind, which needs no counter in the processor: this program
//! runs itself under it with more passes and with fewer, and the difference is the passes'.

use std::{env, process::Command};

use super::batch::{self, Batch, CASES, Case};

/// The first argument of the runs under valgrind; then the case, whether to forward, and how many passes.
pub const INSIDE: &str = "--inside-valgrind";
const PASSES: [u64; 2] = [10, 110];

/// Of one datagram.
pub fn instructions(case: &Case) -> f64 {
    let case = CASES
        .iter()
        .position(|other| std::ptr::eq(other, case))
        .expect("one of them");
    let of_passes = |forward: bool| {
        let [few, many] = PASSES
            .map(|passes| counted(&[case.to_string(), forward.to_string(), passes.to_string()]));
        (many - few) as f64
    };
    let datagrams = (PASSES[1] - PASSES[0]) * batch::LEN as u64;
    (of_passes(true) - of_passes(false)) / datagrams as f64
}

/// All instructions of a run with these arguments.
fn counted(arguments: &[String]) -> u64 {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(env::current_exe().expect("this program"))
        .arg(INSIDE)
        .args(arguments)
        .output()
        .unwrap_or_else(|e| panic!("valgrind: {e}"));
    let text = String::from_utf8_lossy(&output.stderr);
    let total = text
        .lines()
        .find_map(|line| line.split_once("Collected : ")?.1.trim().parse().ok());
    total.unwrap_or_else(|| panic!("valgrind: {text}"))
}

/// What runs under valgrind.
pub fn inside(arguments: &[String]) {
    let [case, forward, passes] = arguments else {
        panic!("three arguments, not {arguments:?}");
    };
    let mut batch = Batch::new(&CASES[case.parse::<usize>().expect("a case")]);
    for _ in 0..passes.parse::<u64>().expect("a count") {
        if forward == "true" {
            batch.forward();
        } else {
            batch.put_back();
        }
    }
}
