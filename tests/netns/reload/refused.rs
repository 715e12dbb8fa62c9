//! Configs that are refused as a whole.

use std::net::SocketAddr;

use super::{never_backwards, traffic, while_sending};
use crate::{
    common::{
        fanout::{Fanout, Reloaded},
        topology::{self, Family, INTERFACE, Shape},
    },
    harness::Suite,
};

pub fn register(suite: &mut Suite) {
    suite.test("reload::wrong_configs", wrong_configs);
    suite.test("reload::refused_by_the_host", refused_by_the_host);
}

/// Wrong ones in a run.
const WRONG: usize = 200;

/// The right one with something wrong in it: most of what an editor's slip can do.
fn wrong_configs() {
    let network = topology::k3s(Shape::default());
    let right = network.config(Family::V4);
    let fanout = Fanout::start(&network.host, &right);
    let mut slips = Slips::new(&right);
    let mut metrics = fanout.metrics();
    let mut refused = 0;
    let traffic = traffic(network.target(Family::V4));
    let delivery = while_sending(&network, &traffic, |_| {
        if refused == WRONG {
            std::thread::sleep(std::time::Duration::from_millis(50));
            return;
        }
        let wrong = slips.next();
        assert_eq!(fanout.reload(&wrong), Reloaded::Refused, "{wrong}");
        refused += 1;
        if refused % 20 == 0 {
            let now = fanout.metrics();
            assert_eq!(now.sum("fanout_config_last_reload_successful", &[]), 0);
            never_backwards(&metrics, &now);
            metrics = now;
        }
    });
    while refused < WRONG {
        let wrong = slips.next();
        assert_eq!(fanout.reload(&wrong), Reloaded::Refused, "{wrong}");
        refused += 1;
    }
    delivery.assert_perfect();
    assert_eq!(fanout.reload(&right), Reloaded::Done);
    let metrics = fanout.metrics();
    assert_eq!(metrics.sum("fanout_config_last_reload_successful", &[]), 1);
    fanout.stop();
}

/// Makes wrong configs out of a right one, the same ones in each run.
struct Slips {
    lines: Vec<String>,
    made: usize,
}

impl Slips {
    fn new(right: &str) -> Self {
        let lines = right.lines().filter(|line| !line.is_empty());
        Self {
            lines: lines.map(ToOwned::to_owned).collect(),
            made: 0,
        }
    }

    fn next(&mut self) -> String {
        let mut lines = self.lines.clone();
        // The section's header stays: without it all the rest would be keys of [fanout].
        let place = 1 + self.made % (lines.len() - 1);
        let line = lines[place].clone();
        let (key, value) = line.split_once(" = ").expect("a key");
        let junk = ["!", "é", "@", "9:9", "::"][self.made / lines.len() % 5];
        match self.made % 7 {
            0 => lines[place] = format!("{key}{junk} = {value}"),
            1 => lines[place] = format!("{key} = {value}{junk}.{junk}"),
            2 => lines[place] = format!("{key} = "),
            3 => lines.push(line.clone()),
            4 => key.clone_into(&mut lines[place]),
            5 => lines.push(format!("{junk}.{key} = {value}")),
            _ => lines.insert(place, format!("[listener {junk} {junk}]")),
        }
        self.made += 1;
        lines.join("\n") + "\n"
    }
}

/// Right as a text, but not to be had on this host.
fn refused_by_the_host() {
    let network = topology::k3s(Shape::default());
    let right = network.config(Family::V4);
    let fanout = Fanout::start(&network.host, &right);
    let elsewhere = SocketAddr::new(network.vip.of(Family::V4), 1514);
    let listener = |keys: &str| {
        let text = network.listener("second", &elsewhere.to_string(), Family::V4);
        right.clone() + &text + keys
    };
    let no_interface = listener("").replace(
        &format!("second]\ninterface = {INTERFACE}"),
        "second]\ninterface = nowhere0",
    );
    let taken = network
        .host
        .enter(|| std::net::UdpSocket::bind(("127.0.0.1", 1514)));
    let taken = taken.expect("a socket");
    let port_taken = format!(
        "{right}\n[listener second]\nmode = userspace\nbind = 127.0.0.1:1514\ndownstream.a = {}\n",
        network.downstream(0, Family::V4)
    );
    let traffic = traffic(network.target(Family::V4));
    let mut rounds = 0;
    let delivery = while_sending(&network, &traffic, |round| {
        let config = [&no_interface, &port_taken][round % 2];
        assert_eq!(fanout.reload(config), Reloaded::Refused, "{config}");
        rounds = round;
        std::thread::sleep(std::time::Duration::from_millis(100));
    });
    assert!(rounds > 1, "{rounds}");
    delivery.assert_perfect();
    drop(taken);
    fanout.wait_for_log("nowhere0 does not exist");
    assert_eq!(fanout.reload(&port_taken), Reloaded::Done);
    fanout.stop();
}
