//! What fanout costs: memory, time to start, CPU while nothing comes. Times are printed; they decide
//! nothing but whether something is wrong by an order of magnitude, for the machine is shared.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::{
    common::{
        delivery,
        fanout::Fanout,
        sender::Traffic,
        topology::{self, Family, Shape},
    },
    harness::Suite,
};

pub fn register(suite: &mut Suite) {
    suite.test("footprint::memory", memory);
    suite.test("footprint::start", start);
    suite.test("footprint::idle", idle);
}

/// 40 MB, less the 2 MB that the released binary may have, all of whose pages count. Those of a debug
/// build say nothing.
const MEMORY: u64 = 38_000_000;

fn memory() {
    let network = topology::k3s(Shape::default());
    let fanout = Fanout::start(&network.host, &network.config(Family::V4));
    let before = fanout.resident();
    let traffic = Traffic::new(network.target(Family::V4), 20_000);
    delivery::of(&network, Family::V4, &traffic).assert_perfect();
    let after = fanout.resident();
    println!("resident: {before} bytes when ready, {after} after traffic");
    assert!(before.max(after) <= MEMORY, "{before}, then {after} bytes");
    fanout.stop();
}

/// Next hops are there at once, so `ready` does not wait for its own time limit.
fn start() {
    let network = topology::k3s(Shape::default());
    let fanout = Fanout::start(&network.host, &network.config(Family::V4));
    println!("ready after {:?}", fanout.started().elapsed());
    assert_eq!(fanout.logged("WARN"), [""; 0], "{}", fanout.log());
    fanout.stop();
}

/// Before and after traffic: the worker goes back to sleep.
fn idle() {
    let network = topology::k3s(Shape::default());
    let fanout = Fanout::start(&network.host, &network.config(Family::V4));
    rests(&fanout, "before traffic");
    let traffic = Traffic::new(network.target(Family::V4), 20_000);
    delivery::of(&network, Family::V4, &traffic).assert_perfect();
    rests(&fanout, "after traffic");
    fanout.stop();
}

/// A worker that spins uses all of a core; a tenth is far from that, and far from the one percent promised.
pub fn rests(fanout: &Fanout, when: &str) {
    thread::sleep(Duration::from_millis(500));
    let (start, before) = (Instant::now(), fanout.cpu_time());
    thread::sleep(Duration::from_secs(3));
    let share =
        fanout.cpu_time().saturating_sub(before).as_secs_f64() / start.elapsed().as_secs_f64();
    println!("idle {when}: {:.2} % of a core", 100.0 * share);
    assert!(share < 0.1, "{when}: {share} of a core");
}
