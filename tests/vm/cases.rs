//! Which cards on which kernels, and what is expected of them there.

use std::env;

use crate::{
    card::Card,
    common::harness::Suite,
    kernel::Kernel,
    machine::{self, Nic},
};

/// The kernel that is tested by default: it has zero copy for all cards that ever have it.
const DEFAULT: &str = "6.18";

/// A card on a kernel.
struct Case {
    kernel: &'static str,
    nic: Nic,
    card: Card,
}

const fn case(kernel: &'static str, nic: Nic, native: bool, zero_copy: bool) -> Case {
    let card = Card {
        queues: nic.queues(),
        grows: matches!(nic, Nic::Virtio),
        native,
        zero_copy,
    };
    Case { kernel, nic, card }
}

const CASES: &[Case] = &[
    case("5.10", Nic::Virtio, true, false),
    case("5.10", Nic::Igb, true, false),
    case("5.10", Nic::E1000e, false, false),
    case("6.1", Nic::Virtio, true, false),
    case("6.12", Nic::Igb, true, false),
    case("6.12", Nic::E1000e, false, false),
    case("6.18", Nic::Virtio, true, true),
    case("6.18", Nic::Igb, true, true),
    case("7.3", Nic::Virtio, true, true),
    case("7.3", Nic::Igb, true, true),
];

pub fn register(suite: &mut Suite) {
    let all = env::var_os("FANOUT_TEST_VM").is_some_and(|value| value == "all");
    for case in CASES.iter().filter(|case| all || case.kernel == DEFAULT) {
        let name = format!("{}::linux_{}", case.nic.driver(), case.kernel);
        suite.test_when(
            &name,
            machine::PROGRAMS,
            || Kernel::find(case.kernel).map(drop),
            || {
                let kernel = Kernel::find(case.kernel).expect("looked for before");
                machine::run(&kernel, case.nic, case.card);
            },
        );
    }
}
