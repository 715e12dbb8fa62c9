//! One contender in a network of its own, measured.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use super::{
    contender::{Contender, Part, Running},
    cpu::{Baselines, Load, Meter},
    generator::Generator,
    network::Network,
    programs,
};

/// Traffic before a flood counts.
const WARM_UP: Duration = Duration::from_millis(300);
/// When nothing more arrived for this long after the sender ended, nothing will.
const QUIET: Duration = Duration::from_millis(20);
/// The rate at which latency is measured.
const LATENCY_RATE: f64 = 10_000.0;
/// The search ends when the rates that lose and that don't are this close.
const CLOSE: f64 = 0.03;
/// A rate below which nothing is searched.
const LOWEST: f64 = 1_000.0;
/// Of its pace the generator must keep this much, or it is the limit.
const KEPT: f64 = 0.98;

/// How long each part takes.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub flood: Duration,
    pub trial: Duration,
    pub latency: Duration,
}

impl Plan {
    pub const WHOLE: Self = Self {
        flood: Duration::from_secs(1),
        trial: Duration::from_millis(400),
        latency: Duration::from_secs(1),
    };
    pub const QUICK: Self = Self {
        flood: Duration::from_millis(500),
        trial: Duration::from_millis(200),
        latency: Duration::from_millis(500),
    };
}

/// What one round showed; rates are datagrams a second, times nanoseconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sample {
    /// Delivered under flood.
    pub flood: f64,
    /// Sent under flood.
    pub offered: f64,
    /// The highest rate without a loss.
    pub loss_free: Option<f64>,
    /// CPU time of the whole machine for a datagram at that rate, without the generator's.
    pub cpu: Option<f64>,
    /// From the sender's interface to the sink, at the 50th, 99th and 99.9th percentile.
    pub latency: Option<[f64; 3]>,
}

/// A contender that runs, and its network.
struct Bench<'n> {
    network: &'n Network,
    generator: Generator,
    running: Box<dyn Running>,
}

/// Measures `contender` in a new network.
pub fn measure(contender: &Contender, plan: &Plan, baselines: &mut Baselines) -> Sample {
    let network = Network::new(contender.layout);
    let bench = Bench::new(contender, &network);
    let sample = bench.flood(contender.part, plan.flood);
    if contender.part != Part::Whole {
        return sample;
    }
    let best = bench.search(sample.flood, plan.trial);
    let latency = bench.latency(plan.latency);
    // A worker that spins would count as the baseline's.
    drop(bench);
    let cost = |best: Trial| {
        let baseline = baselines.of(contender.layout);
        baseline.cost(best.load, best.rate, plan.trial)
    };
    Sample {
        loss_free: Some(best.map_or(0.0, |best| best.rate)),
        cpu: best.map(cost),
        latency,
        ..sample
    }
}

/// Floods `contender` in a new network, and says each second what becomes of it.
pub fn watch(contender: &Contender, length: Duration, rate: Option<f64>) {
    let network = Network::new(contender.layout);
    let bench = Bench::new(contender, &network);
    let _sending =
        (contender.part != Part::Transmit).then(|| bench.generator.start(&network, rate));
    let end = Instant::now() + length;
    while Instant::now() < end {
        let Sample { flood, offered, .. } = bench.count(Duration::from_secs(1));
        println!(
            "{}: {:.3} M/s delivered of {:.3} M/s sent",
            contender.name,
            flood / 1e6,
            offered / 1e6
        );
    }
    println!("{}", bench.running.drops());
}

/// What came of sending at a pace.
#[derive(Clone, Copy)]
struct Trial {
    /// Datagrams a second.
    rate: f64,
    /// Whether any was lost.
    lost: bool,
    load: Load,
}

impl<'n> Bench<'n> {
    fn new(contender: &Contender, network: &'n Network) -> Self {
        Self {
            network,
            generator: Generator::new(network, contender.layout),
            running: contender.start(network),
        }
    }

    /// Sends as much as the generator can, and counts while it does.
    fn flood(&self, part: Part, length: Duration) -> Sample {
        let _sending = (part != Part::Transmit).then(|| self.generator.start(self.network, None));
        sleep(WARM_UP);
        self.count(length)
    }

    /// Counts for a while.
    fn count(&self, length: Duration) -> Sample {
        let (start, sent, delivered) = (Instant::now(), self.generator.sent(), self.delivered());
        sleep(length);
        let (delivered, sent) = (self.delivered() - delivered, self.generator.sent() - sent);
        let seconds = start.elapsed().as_secs_f64();
        Sample {
            flood: delivered as f64 / seconds,
            offered: sent.frames as f64 / seconds,
            ..Sample::default()
        }
    }

    /// The trial with the highest rate without a loss.
    fn search(&self, flood: f64, length: Duration) -> Option<Trial> {
        let (mut good, mut bad) = (LOWEST, flood * 1.2);
        let mut best: Option<Trial> = None;
        let mut rate = flood * 0.9;
        while bad - good > bad * CLOSE {
            let trial = self.trial(rate, length);
            let kept = trial.rate >= rate * KEPT;
            if trial.lost {
                bad = rate;
            } else {
                good = rate;
                if best.is_none_or(|best| best.rate < trial.rate) {
                    best = Some(trial);
                }
                if !kept {
                    break;
                }
            }
            rate = f64::midpoint(good, bad);
        }
        best
    }

    /// Sends at a pace, and waits until all has arrived that will.
    fn trial(&self, rate: f64, length: Duration) -> Trial {
        let (delivered, before) = (self.delivered(), self.generator.sent().frames);
        let sending = self.generator.start(self.network, Some(rate));
        let meter = Meter::start(&self.generator);
        sleep(length);
        let (load, time) = meter.stop();
        let sent_in_time = self.generator.sent().frames - before;
        drop(sending);
        let sent = self.generator.sent().frames - before;
        let mut arrived = self.delivered();
        loop {
            sleep(QUIET);
            let now = self.delivered();
            if now == arrived {
                break;
            }
            arrived = now;
        }
        Trial {
            rate: sent_in_time as f64 / time.as_secs_f64(),
            lost: arrived - delivered < sent,
            load,
        }
    }

    fn latency(&self, length: Duration) -> Option<[f64; 3]> {
        let before = self.network.sink.latencies();
        let sending = self.generator.start(self.network, Some(LATENCY_RATE));
        sleep(length);
        drop(sending);
        sleep(QUIET);
        let after = self.network.sink.latencies();
        let counts: Vec<_> = after
            .iter()
            .zip(before)
            .map(|(after, before)| after - before)
            .collect();
        percentiles(&counts)
    }

    fn delivered(&self) -> u64 {
        self.running.delivered(self.network)
    }
}

/// The 50th, 99th and 99.9th, in nanoseconds, of a count for each latency; `None` of nothing.
fn percentiles(counts: &[u64]) -> Option<[f64; 3]> {
    let total: u64 = counts.iter().sum();
    let at = |share: f64| {
        let mut left = (total as f64 * share) as u64;
        let place = counts.iter().position(|&count| {
            let here = count > left;
            left = left.saturating_sub(count);
            here
        });
        place.map(|place| (place as u64 * programs::LATENCY_STEP) as f64)
    };
    Some([at(0.5)?, at(0.99)?, at(0.999)?])
}
