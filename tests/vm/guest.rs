//! What runs in the guest: fanout on one card, and behind the other a switch with a sender and receivers.
//!
//! ```text
//!  sender           switch                     host
//!  eth0 ───────────┤ br0 ├── card 2 ══ card 1 ◀ fanout
//!                    │ │ │
//!                receivers eth0
//! ```

use std::{
    fs,
    process::{self, Command},
    thread,
    time::Duration,
};

use crate::{
    card::Card,
    common::{
        delivery::{self, Delivery},
        fanout::{self, Fanout, Folder, wait_for},
        metrics::Metrics,
        mode::{Mode, TC, XDP},
        report::Report,
        sender::Traffic,
        topology::{self, Cable, Family, INTERFACE, Shape, Topology},
    },
};

/// The first argument of this binary in the guest; those of [`Card::parse`] follow.
pub const WORD: &str = "guest";
/// The result of a guest whose virtio sends no more.
pub const STALLED: i32 = 3;
/// As the kernel names them.
const CARDS: [&str; 2] = ["eth0", "eth1"];
/// So many flows that each queue gets some, whatever the hash.
const FLOWS: u32 = 64;
const DATAGRAMS: u32 = 10_000;
/// An emulated machine that has to share may pause for longer than a receiver waits.
const PAUSE: Duration = Duration::from_secs(5);
/// What an emulated machine keeps up with.
const RATE: u32 = 20_000;

/// Runs all that makes sense with `card`.
pub fn run(card: Card) {
    for name in CARDS {
        // Room for all that may be under way, whatever queue it takes: this sender loses a datagram now
        // and then when its card's TX queue stops and starts. Cards that can't be told have it.
        let mut ethtool = Command::new("ethtool");
        let _ = ethtool
            .args(["-G", name, "rx", "1024", "tx", "1024"])
            .output();
    }
    let network = network(topology::same_interface, CARDS);
    if card.grows {
        step("queues that come with the program");
        card.copies_where_queues_come_with_the_program(&network);
    }
    card.use_all_queues(&network);
    for (setting, zero_copy) in [("auto", card.zero_copy), ("off", false)] {
        step(&format!("zero_copy = {setting}"));
        let fanout = card.start(&network, setting, zero_copy);
        for family in [Family::V4, Family::V6] {
            card.deliver(&network, &fanout, family);
        }
        stop(fanout, &network);
    }
    step("zero_copy = on");
    if card.zero_copy {
        stop(card.start(&network, "on", true), &network);
    } else {
        let config = config(&network, "zero_copy = on", "");
        refused(&network, &config, "zero_copy = on can't be had");
    }
    for mode in [XDP, TC] {
        step(mode.keys.trim_end());
        card.forwards_in_the_kernel(&network, mode);
    }
    step("killed and started again");
    card.survives_a_kill(&network);
    drop(network);
    step("receivers behind a bridge of the host");
    card.reaches_a_bridge(&self::network(topology::k3s, [INTERFACE, "up0"]));
}

impl Card {
    /// The driver may take such queues away under the sockets: see `fanout/af_xdp/zero_copy.rs`.
    fn copies_where_queues_come_with_the_program(self, network: &Topology) {
        let fanout = self.start(network, "auto", false);
        let warnings = fanout.logged("WARN").join("\n");
        assert!(warnings.contains("ethtool -L"), "{}", fanout.log());
        self.deliver(network, &fanout, Family::V4);
        stop(fanout, network);
        let config = config(network, "zero_copy = on", "");
        refused(network, &config, &format!("ethtool -L {INTERFACE} "));
        // Killed, the program goes and the queues with it, before the sockets are gone.
        let fanout = self.start(network, "auto", false);
        kill(fanout);
    }

    /// Has the card use all its queues, and choose among them by ports too, as `fanout check` says.
    fn use_all_queues(self, network: &Topology) {
        let Some(queues) = self.queues else { return };
        let queues = queues.to_string();
        network
            .host
            .run("ethtool", &["-L", INTERFACE, "combined", &queues]);
        let broken = check(network).broken("rss");
        // For virtio_net the host chooses, by ports too.
        assert_eq!(broken.is_none(), self.grows, "{broken:?}");
        if let Some(command) = broken.and_then(|finding| finding.command) {
            network.host.run("sh", &["-c", &command]);
        }
        assert_eq!(check(network).broken("rss"), None);
    }

    /// Starts fanout, and waits until it forwards to all receivers.
    fn start(self, network: &Topology, setting: &str, zero_copy: bool) -> Fanout {
        let config = config(network, &format!("zero_copy = {setting}"), "");
        let fanout = Fanout::start(&network.host, &config);
        let mode = if self.native { "native" } else { "skb" };
        fanout.wait_for_log(&format!(
            "attached XDP program interface={INTERFACE} mode={mode} "
        ));
        if !self.native {
            fanout.wait_for_log("native XDP refused");
        }
        if let Some(queues) = self.queues {
            fanout.wait_for_log(&format!(
                "receive queues interface={INTERFACE} queues={queues} "
            ));
        }
        let sockets = fanout.wait_for_log("AF_XDP sockets");
        assert!(
            sockets.ends_with(&format!(" zero_copy={zero_copy}")),
            "{}",
            fanout.log()
        );
        let metrics = all_up(&fanout);
        let (mode, zero_copy) = (("xdp", mode), zero_copy.to_string());
        assert_eq!(
            metrics.sum("fanout_listener_info", &[mode, ("zero_copy", &zero_copy)]),
            2,
            "{}",
            metrics.text
        );
        fanout
    }

    /// Sends through it: nothing is missing, every queue had its share and took turns.
    fn deliver(self, network: &Topology, fanout: &Fanout, family: Family) {
        let delivery = send(network, family);
        let zero_copy = [("zero_copy", "true")];
        let zero_copy = fanout
            .metrics()
            .samples("fanout_listener_info", &zero_copy)
            .count()
            > 0;
        if self.grows && zero_copy && delivery.lost() > 0 {
            // Known of QEMU's virtio under these kernels: every frame completes, none reaches the tap.
            println!(
                "zero-copy TX of virtio_net stalled: {delivery}\n{}",
                fanout.metrics().text
            );
            process::exit(STALLED);
        }
        delivery.assert_complete();
        delivery.assert_source_kept();
        let listener = name(family);
        let metrics = fanout.metrics_at_rest(listener, delivery.sent.count());
        assert_eq!(metrics.dropped(listener), 0, "{}", metrics.text);
        for queue in 0..self.queues.unwrap_or(0) {
            let labels = [("listener", listener), ("queue", &queue.to_string())];
            let received = metrics.sum("fanout_received_packets_total", &labels);
            assert!(received > 0, "queue {queue} got nothing: {}", metrics.text);
        }
        // Each queue's worker takes turns by itself.
        let workers = workers(fanout);
        let counts = delivery.received.iter().map(|r| r.count);
        let (least, most) = (counts.clone().min(), counts.max());
        assert!(
            most.zip(least).is_some_and(|(m, l)| m - l <= workers),
            "not even over {workers} workers: {delivery}"
        );
    }

    /// The next one finds queues that the kernel has not let go of, and datagrams under way.
    fn survives_a_kill(self, network: &Topology) {
        thread::scope(|scope| {
            let fanout = self.start(network, "auto", self.zero_copy);
            let sender =
                scope.spawn(|| traffic(network, Family::V4).send(&network.sender.namespace));
            thread::sleep(Duration::from_millis(100));
            kill(fanout);
            let fanout = self.start(network, "auto", self.zero_copy);
            sender.join().expect("the sender");
            self.deliver(network, &fanout, Family::V6);
            fanout.metrics_balanced(name(Family::V4));
            stop(fanout, network);
        });
    }

    /// A bridge has no zero copy, and its only queue takes no second UMEM: what has no ring goes by
    /// raw socket.
    fn reaches_a_bridge(self, network: &Topology) {
        let fanout = self.start(network, "auto", self.zero_copy);
        let by_raw_socket = fanout.log().matches("sending by raw socket").count();
        let workers = workers(&fanout) as usize;
        let expected = if self.zero_copy { workers } else { workers - 1 };
        assert_eq!(by_raw_socket, expected, "{}", fanout.log());
        for family in [Family::V4, Family::V6] {
            self.deliver(network, &fanout, family);
        }
        stop(fanout, network);
    }

    /// The programs load on this kernel, run in the card's driver, and forward by themselves.
    fn forwards_in_the_kernel(self, network: &Topology, mode: Mode) {
        // virtio_net has more queues than CPUs here, and none to spare.
        let crashes = self.grows && mode.keys == XDP.keys;
        let config = |xdp| config(network, &format!("xdp = {xdp}"), mode.keys);
        if crashes {
            refused(network, &config("native"), "would crash in virtio_net");
        }
        let fanout = Fanout::start(&network.host, &config("auto"));
        let warnings = fanout.logged("WARN").join("\n");
        assert_eq!(
            warnings.contains("would crash"),
            crashes,
            "{}",
            fanout.log()
        );
        assert!(
            !warnings.contains("counted as forwarded only"),
            "{warnings}"
        );
        all_up(&fanout);
        for family in [Family::V4, Family::V6] {
            let delivery = send(network, family);
            delivery.assert_complete();
            delivery.assert_source_kept();
            let metrics = fanout.metrics_at_rest(name(family), delivery.sent.count());
            assert_eq!(metrics.dropped(name(family)), 0, "{}", metrics.text);
        }
        stop(fanout, network);
    }
}

/// What becomes of datagrams of many flows.
fn send(network: &Topology, family: Family) -> Delivery {
    let traffic = traffic(network, family);
    let listening = (0..network.receivers.len()).map(|i| {
        let namespace = &network.receivers[i].namespace;
        (namespace, network.downstream(i, family))
    });
    delivery::with(&listening.collect::<Vec<_>>(), |flight| {
        let sent = traffic.send_watching(&network.sender.namespace, flight);
        flight.land(PAUSE);
        sent
    })
}

/// The metrics once all receivers are reached: a card loses its link for a while when a program comes.
fn all_up(fanout: &Fanout) -> Metrics {
    let all_up = || {
        let metrics = fanout.metrics();
        let is_up = metrics
            .samples("fanout_downstream_up", &[])
            .all(|sample| sample.value > 0.0);
        is_up.then_some(metrics)
    };
    wait_for(all_up).unwrap_or_else(|| panic!("not up:\n{}", fanout.log()))
}

/// One with the two cards in place of a cable.
fn network(shape: fn(Shape) -> Topology, [card, other]: [&'static str; 2]) -> Topology {
    shape(Shape {
        cable: Cable::Cards(card, other),
        ..Shape::default()
    })
}

fn name(family: Family) -> &'static str {
    match family {
        Family::V4 => "v4",
        Family::V6 => "v6",
    }
}

/// A listener for each family, with more `keys`, and one `setting` of the interface.
fn config(network: &Topology, setting: &str, keys: &str) -> String {
    let listener = |family| {
        let bind = network.target(family).to_string();
        network.listener(name(family), &bind, family) + keys
    };
    let [v4, v6] = [Family::V4, Family::V6].map(listener);
    format!("log_level = debug\n[interface {INTERFACE}]\n{setting}\n{v4}{v6}")
}

/// What `fanout check` says of the host.
fn check(network: &Topology) -> Report {
    let folder = Folder::new();
    let file = folder.path("config.ini");
    let config = format!("[fanout]\n{}", config(network, "", ""));
    fs::write(&file, config).expect("config");
    let mut check = network.host.command(fanout::binary());
    let output = check.arg("check").arg("-c").arg(file).output();
    Report::of(&output.expect("fanout"))
}

fn workers(fanout: &Fanout) -> u64 {
    let ready = fanout.wait_for_log(" ready ");
    let workers = ready.rsplit_once("workers=").map(|(_, number)| number);
    workers.expect("a number").parse().expect("a number")
}

fn traffic(network: &Topology, family: Family) -> Traffic {
    Traffic {
        flows: FLOWS,
        rate: RATE,
        ..Traffic::new(network.target(family), DATAGRAMS)
    }
}

/// With `config` it does not start, and says `why`.
fn refused(network: &Topology, config: &str, why: &str) {
    let mut fanout = Fanout::spawn(&network.host, config);
    assert_eq!(fanout.wait().code(), Some(1), "{}", fanout.log());
    let errors = fanout.logged("ERROR").join("\n");
    assert!(errors.contains(why), "{errors}");
    println!("{errors}");
    assert_no_program(network);
}

fn stop(fanout: Fanout, network: &Topology) {
    fanout.stop();
    assert_no_program(network);
}

fn kill(mut fanout: Fanout) {
    fanout.signal(libc::SIGKILL);
    fanout.wait();
}

fn assert_no_program(network: &Topology) {
    let link = network.host.run("ip", &["link", "show", INTERFACE]);
    assert!(!link.contains("xdp"), "{link}");
}

fn step(what: &str) {
    println!("== {what}");
}
