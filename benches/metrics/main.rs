//! What the largest metrics file costs: 64 listeners with 1024 downstreams each.
//!
//! The supervisor's work between two looks at its events, step by step: gather what two workers count, render it,
//! replace the file for the collector and the one for `fanout status`; then what status does with that. The workers go
//! on meanwhile: their counters are only read.

use std::{
    collections::HashMap,
    env,
    fmt::Write as _,
    fs::{self, File},
    hint::black_box,
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use fanout::{
    config::{self, MAX_DOWNSTREAMS},
    health::Prober,
    metrics::{
        self, DownstreamCounters, ListenerCounters, ListenerSample, MetricsFile, Past, Reload,
        Snapshot, Totals, render,
    },
    names::Names,
    roster::{Roster, Served},
};
use fanout_ebpf::abi::MAX_LISTENERS;

/// Of which the median counts.
const ROUNDS: usize = 11;
const WORKERS: usize = 2;

fn main() {
    let folder = env::temp_dir().join(format!("fanout-bench-{}", std::process::id()));
    fs::create_dir(&folder).expect("a folder");
    let path = folder.join("fanout.prom");
    let config = folder.join("config.ini");
    fs::write(&config, largest_config(&path)).expect("a config");
    measure(&config, &path);
    fs::remove_dir_all(&folder).expect("nothing left");
}

fn measure(config: &Path, path: &Path) {
    let parsed = config::load(config).expect("no errors");
    let roster = Roster::new(
        &parsed,
        &Names::new().expect("a pipe"),
        &Prober::default(),
        &Roster::default(),
    );
    let listeners: Vec<_> = roster.iter().map(Listener::new).collect();
    let past = Past::default();
    let snapshot = snapshot(&listeners, &past);
    let mut text = String::new();
    render(&snapshot, &mut text);
    let series = text.lines().filter(|line| !line.starts_with('#')).count();
    println!(
        "{series} series, {} bytes; medians of {ROUNDS}\n",
        text.len()
    );

    show("gather", || {
        drop(black_box(self::snapshot(&listeners, &past)));
    });
    show("render", || render(&snapshot, &mut text));
    let mut file = MetricsFile::new(path.to_owned());
    show("render, write, flush, rename", || file.update(&snapshot));
    let beside = path.with_file_name("plain");
    show("(plain write and flush of it)", || {
        use std::io::Write as _;
        let mut file = File::create(&beside).expect("a file");
        file.write_all(text.as_bytes()).expect("written");
        file.sync_all().expect("flushed");
    });
    show("the file of each third second", || {
        file.update_now(&snapshot);
    });
    status(config, &metrics::now(path));
}

/// `fanout status`, which waits for the file to be written again, as it seems to be all the time.
fn status(config: &Path, file: &Path) {
    let done = Arc::new(AtomicBool::new(false));
    let touching = {
        let (done, file) = (
            Arc::clone(&done),
            File::options().write(true).open(file).expect("it"),
        );
        thread::spawn(move || {
            while !done.load(Relaxed) {
                file.set_modified(SystemTime::now()).expect("its owner");
                thread::sleep(Duration::from_millis(5));
            }
        })
    };
    for json in [&[][..], &["--json"]] {
        let name = ["status, of which 50 ms waits", "the same with --json"][json.len()];
        show(name, || {
            let mut status = Command::new(env!("CARGO_BIN_EXE_fanout"));
            let status = status.args(["status", "-c"]).arg(config).args(json);
            let status = status.stdout(Stdio::null()).status().expect("fanout");
            assert!(status.success());
        });
    }
    done.store(true, Relaxed);
    touching.join().expect("no panic");
}

fn show(what: &str, mut step: impl FnMut()) {
    let time = |_| {
        let start = Instant::now();
        step();
        start.elapsed()
    };
    let mut times: Vec<_> = (0..ROUNDS).map(time).collect();
    times.sort();
    println!(
        "{what:<32}{:>10.1} ms",
        times[ROUNDS / 2].as_secs_f64() * 1000.0
    );
}

fn largest_config(metrics_file: &Path) -> String {
    let mut text = format!("[fanout]\nmetrics_file = {}\n", metrics_file.display());
    for listener in 0..MAX_LISTENERS {
        let _ = writeln!(text, "[listener syslog-{listener}]\nmode = userspace");
        let _ = writeln!(text, "bind = 192.0.2.1:{}", 1000 + listener);
        for number in 0..MAX_DOWNSTREAMS {
            let (high, low) = (number / 250, number % 250 + 1);
            let _ = writeln!(
                text,
                "downstream.vector-{number} = 10.{listener}.{high}.{low}:5514"
            );
        }
    }
    text
}

/// What the modes with workers have of one.
struct Listener<'a> {
    served: &'a Served,
    counters: Vec<Arc<ListenerCounters>>,
    forwarded: HashMap<&'a str, Vec<Arc<DownstreamCounters>>>,
}

impl<'a> Listener<'a> {
    /// One that has forwarded more than a year's worth.
    fn new(served: &'a Served) -> Self {
        let counted = |name: usize| {
            let counters = DownstreamCounters::default();
            counters
                .forwarded
                .count_all(123_456_789_012 + name, 98_765_432_101_234);
            Arc::new(counters)
        };
        let names = served.config.downstreams.iter().enumerate();
        Self {
            served,
            counters: (0..WORKERS).map(|_| Arc::default()).collect(),
            forwarded: names
                .map(|(number, of)| {
                    (
                        &of.name[..],
                        (0..WORKERS).map(|_| counted(number)).collect(),
                    )
                })
                .collect(),
        }
    }

    fn sample(&self) -> ListenerSample<'_> {
        let forwarded = |name: &str| {
            let counters = self.forwarded.get(name).into_iter().flatten();
            Totals::forwarded(counters.map(Arc::as_ref))
        };
        let mut sample = self.served.sample(|_| true, forwarded);
        sample.count_workers(self.counters.iter().map(Arc::as_ref));
        sample
    }
}

fn snapshot<'a>(listeners: &'a [Listener<'a>], past: &'a Past) -> Snapshot<'a> {
    let now = SystemTime::now();
    let mut listeners = listeners.iter().map(Listener::sample).collect();
    past.add_to(&mut listeners);
    Snapshot {
        started: now,
        reload: Reload {
            successful: true,
            last_success: now,
        },
        listeners,
        queues: Vec::new(),
        interfaces: Vec::new(),
        redirects: Vec::new(),
    }
}
