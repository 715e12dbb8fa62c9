//! What watches fanout: node_exporter reads its metrics while they are rewritten under load, Prometheus' tools take
//! them and the alert rules.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use crate::{
    common::{
        delivery,
        fanout::{Fanout, Folder, PATIENCE, wait_for},
        metrics::Metrics,
        mode::{AF_XDP, TC, XDP},
        namespace::Namespace,
        sender::Traffic,
        topology::{self, Family, Shape, Topology},
    },
    harness::Suite,
    reload::{USERSPACE, never_backwards, while_sending},
};

const EXPORTER: &str = "prometheus-node-exporter";

pub fn register(suite: &mut Suite) {
    suite.test_with("monitoring::node_exporter", &[EXPORTER], node_exporter);
    suite.test_with("monitoring::promtool", &["promtool", "ethtool"], promtool);
    suite.test_with("monitoring::alerts", &["promtool"], alerts);
    suite.test_with(
        "monitoring::dashboard",
        &[EXPORTER, "prometheus", "ethtool"],
        dashboard,
    );
}

/// The real collector, in the host's namespace; killed on drop.
struct Exporter(Child);

impl Exporter {
    const ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9100);

    fn start(namespace: &Namespace, folder: &Path) -> Self {
        let child = namespace
            .command(EXPORTER)
            .args(["--collector.disable-defaults", "--collector.textfile"])
            .arg(format!(
                "--collector.textfile.directory={}",
                folder.display()
            ))
            .arg(format!("--web.listen-address={}", Self::ADDRESS))
            .stderr(Stdio::null())
            .spawn()
            .expect("node_exporter");
        Self(child)
    }

    fn scrape(namespace: &Namespace) -> String {
        get(namespace, Self::ADDRESS, "/metrics")
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What is at a path, once there is an answer.
fn get(namespace: &Namespace, from: SocketAddr, path: &str) -> String {
    let ask = || {
        let mut stream = TcpStream::connect_timeout(&from, PATIENCE).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        let request = format!("GET {path} HTTP/1.0\r\n\r\n");
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        head.contains("200 OK").then(|| body.to_owned())
    };
    wait_for(|| namespace.enter(ask)).unwrap_or_else(|| panic!("no {path} at {from}"))
}

/// No error, nothing torn, no counter backwards, while the file is written each second and on demand.
fn node_exporter() {
    let network = topology::k3s(Shape::default());
    network.host.ip("link set lo up");
    let fanout = Fanout::start(&network.host, &network.config(Family::V4));
    let file = fanout.metrics_file();
    let _exporter = Exporter::start(&network.host, file.parent().expect("a folder"));
    let traffic = Traffic {
        rate: 10_000,
        ..Traffic::new(network.target(Family::V4), 50_000)
    };
    let scrape = || {
        let text = Exporter::scrape(&network.host);
        assert!(text.contains("\nnode_textfile_scrape_error 0\n"), "{text}");
        let own = text.lines().filter(|line| line.starts_with("fanout_"));
        own.map(whole).collect::<String>()
    };
    wait_for(|| scrape().contains("fanout_build_info").then_some(())).expect("the file is read");
    let mut before = Metrics::parse(scrape());
    let mut scrapes = 0;
    let delivery = while_sending(&network, &traffic, |_| {
        fanout.signal(libc::SIGUSR1);
        let now = Metrics::parse(scrape());
        never_backwards(&before, &now);
        before = now;
        scrapes += 1;
        std::thread::sleep(Duration::from_millis(20));
    });
    delivery.assert_perfect();
    println!("{scrapes} scrapes");
    let all = || {
        let metrics = Metrics::parse(scrape());
        (metrics.forwarded("syslog") == delivery.sent.count()).then_some(())
    };
    wait_for(all).expect("the last counts");
    fanout.stop();
}

/// The line with its number as fanout wrote it: what the collector passes on is a float's shortest form.
fn whole(line: &str) -> String {
    let (series, value) = line.rsplit_once(' ').expect("a sample");
    let value: f64 = value.parse().expect("a number");
    format!("{series} {}\n", value as u64)
}

/// What each mode writes, with traffic.
fn promtool() {
    let in_mode = |network: &Topology, keys: &str| {
        let fanout = Fanout::start(&network.host, &(network.config(Family::V4) + keys));
        let traffic = Traffic::new(network.target(Family::V4), 300);
        let sent = delivery::of(network, Family::V4, &traffic).sent.count();
        let metrics = fanout.metrics_at_rest("syslog", sent);
        let mut promtool = Command::new("promtool");
        let promtool = promtool.args(["check", "metrics"]).stdin(Stdio::piped());
        let mut promtool = promtool.stderr(Stdio::piped()).spawn().expect("promtool");
        let mut stdin = promtool.stdin.take().expect("piped");
        stdin
            .write_all(metrics.text.as_bytes())
            .expect("to promtool");
        drop(stdin);
        let output = promtool.wait_with_output().expect("promtool");
        let words = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success() && words.is_empty(),
            "{keys}: {words}"
        );
        for family in FAMILIES {
            let line = format!("# TYPE fanout_{family} ");
            assert!(metrics.text.contains(&line), "{keys}: no {family}");
        }
        fanout.stop();
    };
    let network = topology::other_interface(Shape::default()).with_gro();
    for keys in [AF_XDP.keys, TC.keys, XDP.keys, USERSPACE] {
        in_mode(&network, keys);
    }
}

/// Those that are promised.
const FAMILIES: [&str; 18] = [
    "build_info",
    "start_time_seconds",
    "listener_info",
    "received_packets_total",
    "received_bytes_total",
    "forwarded_packets_total",
    "forwarded_bytes_total",
    "dropped_packets_total",
    "passed_packets_total",
    "downstream_up",
    "xsk_rx_dropped_total",
    "xsk_rx_invalid_descs_total",
    "xsk_tx_invalid_descs_total",
    "xsk_rx_ring_full_total",
    "xsk_rx_fill_ring_empty_descs_total",
    "xsk_tx_ring_empty_descs_total",
    "umem_free_frames",
    "config_last_reload_successful",
];

/// They are right as rules, and tell what their tests say.
fn alerts() {
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy");
    for (verb, file) in [
        ("check", "prometheus-alerts.yml"),
        ("test", "prometheus-alerts_test.yml"),
    ] {
        let mut promtool = Command::new("promtool");
        let promtool = promtool.args([verb, "rules", file]).current_dir(&deploy);
        let output = promtool.output().expect("promtool");
        let words = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{words}{errors}");
    }
}

/// A real Prometheus, in the host's namespace; killed on drop.
struct Prometheus(Child, Folder);

impl Prometheus {
    const ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9090);

    fn start(namespace: &Namespace) -> Self {
        let folder = Folder::new();
        let config = folder.path("prometheus.yml");
        let text = format!(
            "global: {{ scrape_interval: 1s }}\nscrape_configs:\n- job_name: node\n  static_configs:\n  \
             - targets: ['{}']\n",
            Exporter::ADDRESS
        );
        fs::write(&config, text).expect("a config");
        let child = namespace
            .command("prometheus")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                folder.path("data").display()
            ))
            .arg(format!("--web.listen-address={}", Self::ADDRESS))
            .stderr(Stdio::null())
            .spawn()
            .expect("prometheus");
        Self(child, folder)
    }

    /// The answer to a query, as JSON.
    fn query(namespace: &Namespace, query: &str) -> String {
        let mut path = "/api/v1/query?query=".to_owned();
        for byte in query.bytes() {
            std::fmt::Write::write_fmt(&mut path, format_args!("%{byte:02X}")).expect("a string");
        }
        get(namespace, Self::ADDRESS, &path)
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Each query of the dashboard has an answer from what the real ones scrape.
fn dashboard() {
    let network = topology::other_interface(Shape::default()).with_gro();
    network.host.ip("link set lo up");
    // In mode xdp there are the counts of redirects that failed.
    let bind = SocketAddr::new(network.vip.of(Family::V4), 6343);
    let other = network.listener("sflow", &bind.to_string(), Family::V4) + XDP.keys;
    let config = network.config(Family::V4) + &other;
    let fanout = Fanout::start(&network.host, &config);
    let file = fanout.metrics_file();
    let _exporter = Exporter::start(&network.host, file.parent().expect("a folder"));
    let prometheus = Prometheus::start(&network.host);
    let traffic = Traffic {
        rate: 5000,
        ..Traffic::new(network.target(Family::V4), 40_000)
    };
    let delivery = delivery::of(&network, Family::V4, &traffic);
    delivery.assert_perfect();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/grafana-dashboard.json");
    let text = fs::read_to_string(path).expect("the dashboard");
    let queries: Vec<_> = text.lines().filter_map(expression).collect();
    assert_eq!(queries.len(), 17);
    for query in &queries {
        let answered = || {
            let answer = Prometheus::query(&network.host, query);
            let is_full =
                answer.contains("\"status\":\"success\"") && answer.contains("\"metric\"");
            is_full.then_some(())
        };
        wait_for(answered).unwrap_or_else(|| {
            panic!("{query}: {}", Prometheus::query(&network.host, query));
        });
    }
    let rate = "sum(increase(fanout_received_packets_total[30s]))";
    println!("{}", Prometheus::query(&network.host, rate));
    assert!(prometheus.1.path("data").exists());
    fanout.stop();
}

/// A query of the dashboard, with its variables as Grafana would have them.
fn expression(line: &str) -> Option<String> {
    let value = line.trim().strip_prefix("\"expr\": \"")?;
    let value = value.trim_end_matches(',').strip_suffix('"')?;
    let query = value.replace("\\\"", "\"");
    let query = query.replace("$instance", ".*").replace("$listener", ".*");
    let query = query.replace("$__rate_interval", "15s");
    Some(query.replace("$__range", "1m"))
}
