//! What a worker must not do for a datagram: allocate, or call the kernel.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use fanout::{config, supervisor};

use crate::{
    allocations,
    common::{
        delivery::{self, Delivery},
        fanout::{Fanout, thread_of, wait_for},
        sender::{Sent, Traffic},
        sys,
        topology::{self, Family, Shape, Topology},
    },
    harness::Suite,
};

pub fn register(suite: &mut Suite) {
    suite.test("hotpath::notices_an_allocation", notices_an_allocation);
    suite.test("hotpath::allocates_nothing", || {
        allocates_nothing("", "ens5-0", Delivery::assert_perfect);
    });
    suite.test("hotpath::userspace_allocates_nothing", || {
        for source in ["rewrite", "keep"] {
            let keys = format!("{USERSPACE}source = {source}\n");
            allocates_nothing(&keys, "syslog-0", Delivery::assert_whole);
        }
    });
    suite.test_with("hotpath::system_calls", &["strace"], || {
        system_calls("", "ens5-0");
    });
    suite.test_with("hotpath::userspace_system_calls", &["strace"], || {
        system_calls(USERSPACE, "syslog-0");
    });
}

const USERSPACE: &str = "mode = userspace\nworkers = 1\n";

/// The count must be able to be another than 0.
fn notices_an_allocation() {
    let (calls, _) = allocations::of_thread(allocations::this_thread(), || vec![0; 1000]);
    assert!(calls > 0);
}

/// The whole program runs in this process, so that its workers use this test's allocator; both ways out
/// are taken: a TX ring and the raw socket.
fn allocates_nothing(keys: &str, worker: &str, check: fn(&Delivery)) {
    let network = network();
    let own = topology::host_address().v4;
    let config = network.config(Family::V4) + &format!("downstream.own = {own}:5514\n") + keys;
    let config = config::parse("test.ini", &config).expect("a config");
    let (tell, told) = std::sync::mpsc::channel();
    let supervisor = network.host.spawn(move || {
        tell.send(allocations::this_thread())
            .expect("somebody listens");
        supervisor::run(Path::new("test.ini"), config)
    });
    let main = told.recv().expect("it starts");
    let worker = wait_for(|| thread_of(std::process::id(), worker)).expect("a worker");
    let calls = || {
        let mut to = network.downstreams(Family::V4);
        to.push((&network.host, (own, 5514).into()));
        let traffic = Traffic::new(network.target(Family::V4), 20_000);
        let run = || delivery::between(&network.sender.namespace, &to, &traffic);
        let (calls, delivery) = allocations::of_thread(worker, run);
        check(&delivery);
        calls
    };
    assert_eq!(calls(), 0, "calls of the allocator");
    sys::signal_thread(main, libc::SIGTERM).expect("the supervisor runs");
    let ended = supervisor.join().expect("the supervisor does not panic");
    ended.expect("a clean stop");
}

/// Calls that a worker makes for a batch at most, or while it has nothing to do.
const FOR_A_BATCH: [&str; 3] = ["sendto", "sendmmsg", "recvmmsg"];
const IDLE: [&str; 3] = ["poll", "sched_yield", "restart_syscall"];

fn system_calls(keys: &str, worker: &str) {
    let network = network();
    let fanout = Fanout::start(&network.host, &(network.config(Family::V4) + keys));
    let worker = fanout.thread(worker);
    let calls = Calls::of_thread(worker);
    // Somebody must listen: who answers that nobody does is left out.
    delivery::with(&network.downstreams(Family::V4), |_| flood(&network));
    let calls = calls.finish();
    println!("{calls:?}");
    let metrics = fanout.metrics_balanced("syslog");
    let received = metrics.received("syslog");
    let mut for_batches = 0;
    for (name, count) in &calls {
        if FOR_A_BATCH.contains(&name.as_str()) {
            for_batches += count;
        } else {
            assert!(IDLE.contains(&name.as_str()), "{name}: {calls:?}");
        }
    }
    // strace makes each call so slow that the batches behind it are full.
    assert!(received > 10_000, "{}", metrics.text);
    assert!(
        for_batches * 8 <= received,
        "{for_batches} calls for {received} datagrams"
    );
    fanout.stop();
}

/// The node, with the VIP, which sockets need.
fn network() -> Topology {
    let network = topology::k3s(Shape::default());
    network
        .host
        .ip(&format!("addr add {} dev lo", network.vip.v4));
    network
}

/// As fast as the sender's kernel takes them, so that some are lost.
fn flood(network: &Topology) -> Sent {
    let traffic = Traffic {
        rate: 2_000_000,
        ..Traffic::new(network.target(Family::V4), 300_000)
    };
    traffic.send(&network.sender.namespace)
}

/// strace, counting the calls of one thread.
struct Calls {
    strace: std::process::Child,
    output: PathBuf,
}

impl Calls {
    fn of_thread(thread: i32) -> Self {
        let output = std::env::temp_dir().join(format!("fanout-calls-{}", std::process::id()));
        let strace = Command::new("strace")
            .args(["-qq", "-c", "-U", "calls,name", "-o"])
            .arg(&output)
            .args(["-p", &thread.to_string()])
            .stdin(Stdio::null())
            .spawn()
            .expect("strace");
        let status = format!("/proc/{thread}/status");
        wait_for(|| {
            let status = fs::read_to_string(&status).ok()?;
            let tracer = status.lines().find(|line| line.starts_with("TracerPid:"))?;
            (!tracer.ends_with("\t0")).then_some(())
        })
        .expect("strace attaches");
        Self { strace, output }
    }

    /// Each call that was made, and how often.
    fn finish(mut self) -> Vec<(String, u64)> {
        // The last datagrams are still on their way.
        thread::sleep(Duration::from_millis(100));
        sys::signal(&self.strace, libc::SIGINT).expect("strace runs");
        self.strace.wait().expect("strace ends");
        let table = fs::read_to_string(&self.output).expect("strace's table");
        fs::remove_file(&self.output).expect("strace's table is there");
        let row = |line: &str| {
            let (count, name) = line.trim().split_once(char::is_whitespace)?;
            Some((name.trim().to_owned(), count.parse().ok()?))
        };
        let mut rows: Vec<(String, u64)> = table.lines().filter_map(row).collect();
        rows.retain(|(name, _)| name != "total");
        rows
    }
}
