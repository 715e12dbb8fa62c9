//! What a contender costs: CPU time of the whole machine beside that of the same traffic dropped at once.
//!
//! The generator spins, so CPU 0 never idles; what a contender takes of it shows as spins that are missing.

use std::{
    fs,
    thread::sleep,
    time::{Duration, Instant},
};

use super::{
    bpf::{Attached, Kind, Program, Words},
    contender::STRAIGHT,
    generator::Generator,
    network::{self, Layout, Network},
    programs,
};
use crate::common::{
    sys,
    topology::{INTERFACE, PORT},
};

/// Next to none.
const ALMOST_IDLE: f64 = 1_000.0;
const WARM_UP: Duration = Duration::from_millis(50);
const CALIBRATION: Duration = Duration::from_millis(300);

/// What the machine did in each second.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// CPU time that was not idle, of all CPUs, in nanoseconds.
    busy: f64,
    /// Frames that the generator made and dropped.
    spins: f64,
}

/// A moment, to measure the load from then on.
#[derive(Debug)]
pub struct Meter<'g> {
    generator: &'g Generator,
    start: Instant,
    idle: Duration,
    cpus: u32,
    spun: u64,
}

impl<'g> Meter<'g> {
    /// Starts to measure.
    pub fn start(generator: &'g Generator) -> Self {
        let (idle, cpus) = idle();
        Self {
            start: Instant::now(),
            idle,
            cpus,
            spun: generator.sent().spun,
            generator,
        }
    }

    /// The load since then, and for how long it was.
    pub fn stop(self) -> (Load, Duration) {
        let time = self.start.elapsed();
        let busy = (time * self.cpus).saturating_sub(idle().0.saturating_sub(self.idle));
        let spins = self.generator.sent().spun - self.spun;
        let load = Load {
            busy: busy.as_nanos() as f64 / time.as_secs_f64(),
            spins: spins as f64 / time.as_secs_f64(),
        };
        (load, time)
    }
}

/// How long the CPUs together have not run anything, and how many they are. What a CPU does, the kernel samples; that it
/// idles, it measures.
fn idle() -> (Duration, u32) {
    let stat = fs::read_to_string("/proc/stat").expect("/proc/stat");
    let of_each = stat.lines().filter(|line| line.starts_with("cpu")).skip(1);
    let (mut sum, mut cpus) = (0, 0);
    for line in of_each {
        // After the name: user, nice, system, idle, iowait, irq, softirq, steal (proc_stat(5)).
        let ticks = |field| line.split_whitespace().nth(field)?.parse::<u64>().ok();
        sum += [4, 5, 8].into_iter().filter_map(ticks).sum::<u64>();
        cpus += 1;
    }
    (Duration::from_millis(sum * 1000 / sys::clock_ticks()), cpus)
}

/// How much of the CPUs others use now, of 1.
pub fn used_by_others() -> f64 {
    const LOOK: Duration = Duration::from_millis(500);
    let (before, cpus) = idle();
    sleep(LOOK);
    let unused = idle().0.saturating_sub(before).as_secs_f64();
    (1.0 - unused / LOOK.as_secs_f64() / f64::from(cpus)).max(0.0)
}

/// A network in which the contenders' interface drops all traffic.
pub struct Baseline {
    network: Network,
    generator: Generator,
    _drops: (Words, Attached),
    /// Nanoseconds.
    spin: f64,
}

/// Those that were needed by now.
pub struct Baselines(Vec<(Layout, Baseline)>);

impl Baselines {
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// The one for the traffic of a layout.
    pub fn of(&mut self, layout: Layout) -> &Baseline {
        let layout = Layout {
            queues: layout.queues,
            spread: layout.spread,
            ..STRAIGHT
        };
        let made = self.0.iter().position(|(other, _)| *other == layout);
        let place = made.unwrap_or_else(|| {
            self.0.push((layout, Baseline::new(layout)));
            self.0.len() - 1
        });
        &self.0[place].1
    }
}

impl Baseline {
    fn new(layout: Layout) -> Self {
        let network = Network::new(layout);
        let words = Words::new(programs::SINK_WORDS).expect("a map");
        let code = programs::sink(Kind::Xdp, PORT, &words);
        let program = Program::load(Kind::Xdp, &code).unwrap_or_else(|e| panic!("baseline: {e}"));
        let attached = network::attach(&program, &network.topology.host, INTERFACE);
        let mut baseline = Self {
            generator: Generator::new(&network, layout),
            network,
            _drops: (words, attached),
            spin: 0.0,
        };
        baseline.spin = 1e9 / baseline.load(ALMOST_IDLE, CALIBRATION).spins;
        baseline
    }

    fn load(&self, rate: f64, length: Duration) -> Load {
        let _sending = self.generator.start(&self.network, Some(rate));
        sleep(WARM_UP);
        let meter = Meter::start(&self.generator);
        sleep(length);
        meter.stop().0
    }

    /// What each datagram costs, in nanoseconds, if `rate` of them a second make this load.
    pub fn cost(&self, load: Load, rate: f64, length: Duration) -> f64 {
        let dropped = self.load(rate, length);
        let taken = (dropped.spins - load.spins) * self.spin;
        (load.busy - dropped.busy + taken) / rate
    }
}
