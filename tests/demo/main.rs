//! `cargo demo`: the k3s case of the README in network namespaces, with the real binary and a million
//! datagrams; it shows what it does and removes what it made.

#![allow(unreachable_pub, reason = "pub marks what a file offers the others")]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "counts of datagrams fit whatever holds them"
)]

use std::{
    error::Error, io::IsTerminal, process::ExitCode, sync::atomic::Ordering::Relaxed, thread,
    time::Duration,
};

use common::{
    fanout::Fanout,
    flight::Flight,
    namespace,
    receiver::{Received, Receiver},
    sender::{Sent, Traffic},
    sys,
    topology::{self, Family, RECEIVER_PORT, Topology},
};
use screen::{Screen, thousands};

#[path = "../common/mod.rs"]
mod common;
mod screen;

const HELP: &str = "\
cargo demo [--count N] [--rate N]

    --count N    datagrams to send (1000000)
    --rate N     datagrams a second, at most (100000)
";

fn main() -> ExitCode {
    let (count, rate) = match arguments() {
        Ok(Some(arguments)) => arguments,
        Ok(None) => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprint!("{error}\n\n{HELP}");
            return ExitCode::from(2);
        }
    };
    if sys::effective_user() != 0 {
        eprintln!(
            "The demo makes network namespaces, which needs root. It is built; run it with\n"
        );
        eprintln!("    sudo {}\n", command_line());
        return ExitCode::FAILURE;
    }
    sys::note_interrupts();
    namespace::sweep();
    if show(&Screen::new(), count, rate) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Count and rate, or nothing if help is wanted.
fn arguments() -> Result<Option<(u32, u32)>, Box<dyn Error>> {
    use lexopt::prelude::{Long, Short, ValueExt};
    let (mut count, mut rate) = (1_000_000, 100_000);
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("count") => count = parser.value()?.parse()?,
            Long("rate") => rate = parser.value()?.parse::<u32>()?.max(1),
            Long("help") | Short('h') => return Ok(None),
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(Some((count, rate)))
}

fn command_line() -> String {
    let words = std::env::args_os().map(|word| word.to_string_lossy().into_owned());
    words.collect::<Vec<_>>().join(" ")
}

/// The whole show; false if a datagram was lost, came twice or was changed.
fn show(screen: &Screen, count: u32, rate: u32) -> bool {
    let network = topology::k3s(topology::Shape::default());
    let target = network.target(Family::V4);
    screen
        .title("The network: a sender, a host with a virtual IP, three pods behind a bridge on it");
    draw(&network);

    let fanout = Fanout::start(&network.host, &network.config(Family::V4));
    screen.title("The config");
    screen.quote(&std::fs::read_to_string(fanout.config()).expect("the config"));
    screen.title("fanout starts");
    screen.quote(&fanout.log());

    let traffic = Traffic {
        rate,
        ..Traffic::new(target, count)
    };
    let (low, high) = (traffic.sizes.start(), traffic.sizes.end());
    screen.title(&format!(
        "{} datagrams to {target}, one flow, {low} to {high} bytes each",
        thousands(count.into())
    ));
    let receivers: Vec<_> = (0..network.receivers.len())
        .map(|i| {
            Receiver::start(
                &network.receivers[i].namespace,
                network.downstream(i, Family::V4),
            )
        })
        .collect();
    let cpu_before = fanout.cpu_time();
    let sent = send(screen, &network, &traffic, &Flight::new(&receivers));
    let received: Vec<_> = receivers.into_iter().map(Receiver::finish).collect();
    let cpu = fanout.cpu_time().saturating_sub(cpu_before);
    if sys::INTERRUPTED.load(Relaxed) {
        println!("\nInterrupted.");
        return false;
    }
    let perfect = table(screen, &sent, &received, cpu);

    screen.title("The metrics file, without its comments");
    let metrics = fanout.metrics().text;
    let samples = metrics.lines().filter(|line| !line.starts_with('#'));
    screen.quote(&samples.collect::<Vec<_>>().join("\n"));
    fanout.stop();
    if perfect {
        println!(
            "\nOne sender, one flow, and every pod has its share. What was made is removed again."
        );
    }
    perfect
}

fn draw(network: &Topology) {
    let pod = |i: usize| format!("receiver-{}  {}", i + 1, network.receivers[i].addresses.v4);
    println!("    sender ───────── ens5 ▶ fanout ▶ cni0 ─┬─ {}", pod(0));
    println!(
        "    {:<17}{:<22}├─ {}",
        network.sender.addresses.v4,
        network.vip.v4,
        pod(1)
    );
    println!("    {:39}└─ {}", "", pod(2));
    println!("    each in a network namespace of its own; the pods listen on port {RECEIVER_PORT}");
}

/// Sends on a thread of its own and shows how far it is.
fn send(screen: &Screen, network: &Topology, traffic: &Traffic, flight: &Flight) -> Sent {
    let step = Duration::from_millis(if std::io::stdout().is_terminal() {
        50
    } else {
        10
    });
    thread::scope(|scope| {
        let sender = scope.spawn(|| traffic.send_watching(&network.sender.namespace, flight));
        let mut bar = screen.bar(traffic.count.into());
        while !sender.is_finished() {
            bar.show(flight.sent(), flight.arrived());
            thread::sleep(step);
        }
        // The last ones are still on their way.
        thread::sleep(Duration::from_millis(100));
        bar.show(flight.sent(), flight.arrived());
        bar.end();
        sender.join().expect("the sender")
    })
}

fn table(screen: &Screen, sent: &Sent, received: &[Received], cpu: Duration) -> bool {
    let count = sent.count();
    let arrived: u64 = received.iter().map(|r| r.count - r.duplicates).sum();
    let lost = count.saturating_sub(arrived);
    let spoiled: u64 = received.iter().map(|r| r.duplicates + r.corrupt).sum();
    screen.title("What became of them");
    screen.row("sent", &thousands(count), "");
    for (i, receiver) in received.iter().enumerate() {
        let name = format!("receiver-{}", i + 1);
        let sources: Vec<_> = receiver.sources.keys().map(ToString::to_string).collect();
        screen.row(
            &name,
            &thousands(receiver.count),
            &format!("from {}", sources.join(", ")),
        );
    }
    screen.row("lost", &thousands(lost), "");
    screen.row("twice or changed", &thousands(spoiled), "");
    let (seconds, cpu) = (sent.elapsed.as_secs_f64(), cpu.as_secs_f64());
    screen.row("time", &format!("{seconds:.1} s"), &magnitude(sent.rate()));
    let share = format!("{:.0} % of a core", 100.0 * cpu / seconds);
    screen.row("fanout's CPU", &format!("{cpu:.1} s"), &share);
    lost == 0 && spoiled == 0
}

/// The order of magnitude is all that a shared machine can tell.
fn magnitude(rate: f64) -> String {
    let tens = rate.max(1.0).log10().round() as i32;
    format!(
        "in the order of {} datagrams a second",
        thousands(10f64.powi(tens) as u64)
    )
}
