//! `fanout status` as a person runs it.

use std::{
    fs,
    process::{Command, Output},
    thread,
    time::Duration,
};

use crate::{
    common::{
        delivery,
        fanout::{self, Fanout, Folder, wait_for},
        mode::XDP,
        sender::Traffic,
        topology::{self, Family, Shape},
    },
    harness::Suite,
};

pub fn register(suite: &mut Suite) {
    suite.test_with("status::under_load", &["setpriv"], under_load);
    suite.test_with("status::lost_redirects", &["ethtool"], lost_redirects);
    suite.test("status::nothing_runs", nothing_runs);
    suite.test("status::no_metrics_file", no_metrics_file);
}

fn status(config: &std::path::Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(fanout::binary());
    let command = command.arg("status").arg("-c").arg(config).args(arguments);
    command.output().expect("fanout status")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

/// The number that follows a name in the table, rate or total.
fn number(table: &str, name: &str, column: usize) -> u64 {
    let line = table
        .lines()
        .find(|line| line.trim_start().starts_with(name));
    let line = line.unwrap_or_else(|| panic!("no {name} in\n{table}"));
    let word = line.split_whitespace().nth(column).expect("a column");
    let digits: String = word.chars().filter(char::is_ascii_digit).collect();
    digits.parse().expect("a number")
}

/// Rates are those of now, totals grow, nothing is wider than 80 columns, and nobody's privileges are needed.
fn under_load() {
    let network = topology::k3s(Shape::default());
    let fanout = Fanout::start(&network.host, &network.config(Family::V4));
    let traffic = Traffic {
        rate: 6000,
        ..Traffic::new(network.target(Family::V4), 36_000)
    };
    thread::scope(|scope| {
        let sending = scope.spawn(|| delivery::of(&network, Family::V4, &traffic));
        let flows = wait_for(|| {
            let output = status(&fanout.config(), &[]);
            assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
            let table = text(&output.stdout);
            (number(&table, "received", 1) > 3000).then_some(table)
        });
        let table = flows.expect("a rate");
        println!("{table}");
        assert!(
            table.contains("syslog: af_xdp on ens5, XDP native, copying"),
            "{table}"
        );
        assert!(number(&table, "received", 1) < 9000, "{table}");
        let shares: u64 = (1..=3)
            .map(|i| number(&table, &format!("receiver-{i}"), 3))
            .sum();
        assert!((98..=102).contains(&shares), "{table}");
        assert!(
            table.lines().all(|line| line.chars().count() <= 80),
            "{table}"
        );

        let mut nobody = Command::new("setpriv");
        let nobody = nobody.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
        let nobody = nobody.arg(fanout::binary()).arg("status").arg("--json");
        let json = nobody
            .arg("-c")
            .arg(fanout.config())
            .output()
            .expect("setpriv");
        let json = text(&json.stdout);
        assert!(
            json.contains(r#""listeners":[{"name":"syslog","mode":"af_xdp""#),
            "{json}"
        );
        let mut watch = Command::new(fanout::binary());
        let watch = watch.args(["status", "--watch", "-c"]).arg(fanout.config());
        let mut watch = watch
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("watch");
        thread::sleep(Duration::from_millis(3500));
        watch.kill().expect("kill");
        let watched = text(&watch.wait_with_output().expect("output").stdout);
        assert!(watched.matches("syslog: af_xdp").count() >= 2, "{watched}");
        sending.join().expect("sent").assert_perfect();
    });
    let sent = u64::from(traffic.count);
    let done = wait_for(|| {
        let table = text(&status(&fanout.config(), &[]).stdout);
        // The second that the last of it fell into has a rate yet.
        let at_rest = number(&table, "received", 1) == 0;
        (number(&table, "received", 2) == sent && at_rest).then_some(())
    });
    done.expect("all of it, and rest");
    fanout.stop();
}

/// What an egress does not take counts as forwarded, and has a line of its own.
fn lost_redirects() {
    let network = topology::other_interface(Shape::default()).with_gro();
    let fanout = Fanout::start(&network.host, &network.config_in(&XDP, Family::V4));
    let all_went = text(&status(&fanout.config(), &[]).stdout);
    assert!(!all_went.contains("not sent"), "{all_went}");
    let json = text(&status(&fanout.config(), &["--json"]).stdout);
    let none = r#"{"interface":"ens5","egress":"ens6","failed":{"total":0,"rate":0}}"#;
    assert!(json.contains(none), "{json}");
    network.gro("off");
    let traffic = Traffic::new(network.target(Family::V4), 300);
    assert_eq!(delivery::of(&network, Family::V4, &traffic).arrived(), 0);
    let lost = wait_for(|| {
        let table = text(&status(&fanout.config(), &[]).stdout);
        table.contains("not sent").then_some(table)
    });
    let lost = lost.expect("what was lost");
    assert!(
        lost.contains("\nens5 to ens6: forwarded, but then not sent\n  lost:"),
        "{lost}"
    );
    assert!(number(&lost, "lost:", 2) > 0, "{lost}");
    assert!(
        lost.lines().all(|line| line.chars().count() <= 80),
        "{lost}"
    );
    fanout.stop();
}

/// Not started, stopped, and killed.
fn nothing_runs() {
    let network = topology::k3s(Shape::default());
    let fanout = Fanout::start(&network.host, &network.config(Family::V4));
    let folder = Folder::new();
    let config = folder.path("config.ini");
    fs::copy(fanout.config(), &config).expect("a copy");
    assert_eq!(status(&config, &[]).status.code(), Some(0));
    fanout.signal(libc::SIGSTOP);
    let old = wait_for(|| {
        let output = status(&config, &[]);
        (output.status.code() == Some(1)).then(|| text(&output.stderr))
    });
    let old = old.expect("an answer");
    assert!(old.contains("it was killed, or it hangs"), "{old}");
    fanout.signal(libc::SIGCONT);
    fanout.stop();
    let output = status(&config, &[]);
    assert_eq!(output.status.code(), Some(1));
    let words = text(&output.stderr);
    assert!(
        words.contains("no fanout with this config is running"),
        "{words}"
    );
}

fn no_metrics_file() {
    let folder = Folder::new();
    let config = folder.path("config.ini");
    let listener =
        "[listener a]\ninterface = ens5\nbind = 192.0.2.1:1\ndownstream.a = 192.0.2.2:1\n";
    fs::write(&config, listener).expect("a config");
    let output = status(&config, &[]);
    assert_eq!(output.status.code(), Some(1));
    let words = text(&output.stderr);
    assert!(words.contains("\nmetrics_file = /"), "{words}");
    assert_eq!(status(&folder.path("none.ini"), &[]).status.code(), Some(2));
}
