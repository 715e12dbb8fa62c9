//! Every error and its exact line, good configs, and mutated ones.

use std::{fs, path::Path, time::Duration};

use super::*;

mod errors;

const EXAMPLE: &str = include_str!("../../config.ini");

/// The smallest config.
const LEAST: &str =
    "[listener a]\ninterface = eth0\nbind = 10.0.0.1:514\ndownstream.x = 10.0.0.2:514\n";

fn good(text: &str) -> Config {
    parse("test.ini", text).unwrap_or_else(|errors| panic!("{errors:?}"))
}

fn addresses<const N: usize>(texts: [&str; N]) -> Vec<SocketAddr> {
    texts.map(|text| text.parse().unwrap()).to_vec()
}

#[test]
fn the_example_is_the_reference_deployment() {
    let config = good(EXAMPLE);
    assert_eq!(config.warnings, []);
    assert_eq!(config.interfaces[0].name, "ens5");
    let [listener] = &config.listeners[..] else {
        panic!("one listener: {config:?}")
    };
    assert_eq!(listener.name, "syslog");
    assert_eq!(listener.interface.as_deref(), Some("ens5"));
    assert_eq!(listener.binds, addresses(["172.31.25.200:514"]));
    let downstreams: Vec<_> = (listener.downstreams.iter())
        .map(|downstream| downstream.target.clone())
        .collect();
    let expected = ["10.42.0.21:5514", "10.42.0.22:5514", "10.42.0.27:5514"];
    let expected = addresses(expected).into_iter().map(Target::Address);
    assert_eq!(downstreams, expected.collect::<Vec<_>>());
}

/// The example with every key that it shows, but those that its mode does not take.
fn full_example() -> String {
    example_without(&["workers", "receive_buffer"])
}

fn example_without(keys: &[&str]) -> String {
    let is_shown = |key: &str| {
        key.starts_with(|c: char| c.is_ascii_lowercase())
            && !keys.iter().any(|without| key.starts_with(without))
    };
    let uncomment = |line: &str| match line.strip_prefix(';') {
        Some(rest) if is_shown(rest) => format!("{rest}\n"),
        _ => format!("{line}\n"),
    };
    EXAMPLE.lines().map(uncomment).collect()
}

/// What the example shows commented out is the default, but for those that have none.
#[test]
fn the_example_shows_every_key_and_its_default() {
    let full = full_example();
    let mut config = good(&full);
    assert_eq!(config.listeners[0].vlan.take(), Some(100));
    assert_eq!(config.listeners[0].max_packet_size.take(), Some(1500));
    assert_eq!(config.interfaces[0].mtu.take(), Some(3498));
    assert_eq!(config.interfaces[0].channels.take(), Some(1));
    assert_eq!(config, good(EXAMPLE));
    let keys = "log_level metrics_file metrics_interval xdp zero_copy busy_poll cpus mtu channels mode \
                interface bind vlan downstream.vector-1 weight.vector-1 policy source max_packet_size health \
                health_interval health_timeout health_failures resolve_interval";
    for key in keys.split(' ') {
        let begin = format!("\n{key} = ");
        assert_eq!(full.matches(&begin).count(), 1, "{key}");
    }
}

/// Each key that the example shows has its place in the manual.
#[test]
fn the_manual_has_every_key() {
    let manual = include_str!("../../deploy/fanout.8");
    let words: Vec<_> = manual
        .lines()
        .filter_map(|line| line.strip_prefix(".It Cm "))
        .flat_map(|line| line.split([' ', ',']))
        .collect();
    let mut count = 0;
    for (key, _) in full_example()
        .lines()
        .filter_map(|line| line.split_once(" = "))
    {
        if key.starts_with([';', '[']) || key.contains(' ') {
            continue;
        }
        let key = key.split_inclusive('.').next().unwrap_or(key);
        assert!(words.contains(&key), "no {key} in the manual");
        count += 1;
    }
    assert!(count > 20, "{count}");
}

/// The same for the keys that only another mode takes.
#[test]
fn the_example_shows_the_keys_of_userspace_mode() {
    let mode = "mode = af_xdp";
    let userspace = |text: &str| text.replace(mode, "mode = userspace");
    let full = userspace(&example_without(&[
        "vlan",
        "max_packet_size",
        "source",
        "mtu",
        "channels",
    ]));
    let mut config = good(&full);
    assert_eq!(config.listeners[0].workers.take(), Some(2));
    assert_eq!(
        config,
        good(&userspace(&EXAMPLE.replace(&format!(";{mode}"), mode)))
    );
    assert_eq!(config.listeners[0].source, Source::Rewrite);
    for key in ["workers", "receive_buffer"] {
        let begin = format!("\n{key} = ");
        assert_eq!(full.matches(&begin).count(), 1, "{key}");
    }
}

#[test]
fn defaults() {
    let config = good(LEAST);
    let expected = Config {
        log_level: log::LevelFilter::Info,
        metrics_file: None,
        metrics_interval: Duration::from_secs(15),
        interfaces: vec![Interface {
            name: "eth0".to_owned(),
            xdp: Xdp::Auto,
            zero_copy: ZeroCopy::Auto,
            busy_poll: BusyPoll::Adaptive,
            cpus: Cpus::Auto,
            mtu: None,
            channels: None,
        }],
        listeners: vec![Listener {
            name: "a".to_owned(),
            mode: Mode::AfXdp,
            interface: Some("eth0".to_owned()),
            binds: addresses(["10.0.0.1:514"]),
            vlan: None,
            downstreams: vec![Downstream {
                name: "x".to_owned(),
                target: Target::Address("10.0.0.2:514".parse().unwrap()),
                weight: 1,
            }],
            policy: Policy::RoundRobin,
            source: Source::Keep,
            max_packet_size: None,
            workers: None,
            receive_buffer: 4 << 20,
            health: Health {
                check: Check::Off,
                interval: Duration::from_secs(5),
                timeout: Duration::from_secs(2),
                failures: 3,
            },
            resolve_interval: Duration::from_secs(30),
        }],
        warnings: Vec::new(),
    };
    assert_eq!(config, expected);
}

#[test]
fn every_key() {
    let config = good(
        "[fanout]
         log_level = trace
         metrics_file = /tmp/a b.prom
         metrics_interval = 60m
[interface eth0]
         xdp = skb
         zero_copy = off
         busy_poll = always
         cpus = 2, 3,1023
         mtu = 3498
         channels = 64
[listener A.b_c-9]
         mode = af_xdp
         interface = eth0
         bind = [fd00::1]:514, [::]:515
         vlan = 4094
         downstream.x.y = [fd00::2]:514
         downstream.B = [::1]:514
         weight.B = 255
         source = rewrite
         max_packet_size = 65535
         health = icmp
         health_interval = 1h
         health_timeout = 10ms
         health_failures = 100
         resolve_interval = 1s",
    );
    assert_eq!(config.log_level, log::LevelFilter::Trace);
    assert_eq!(
        config.metrics_file.as_deref(),
        Some(Path::new("/tmp/a b.prom"))
    );
    assert_eq!(config.metrics_interval, Duration::from_secs(3600));
    let interface = &config.interfaces[0];
    assert_eq!(interface.xdp, Xdp::Skb);
    assert_eq!(interface.zero_copy, ZeroCopy::Off);
    assert_eq!(interface.busy_poll, BusyPoll::Always);
    assert_eq!(interface.cpus, Cpus::List(vec![2, 3, 1023]));
    assert_eq!((interface.mtu, interface.channels), (Some(3498), Some(64)));
    let listener = &config.listeners[0];
    assert_eq!(listener.name, "A.b_c-9");
    assert_eq!(listener.binds, addresses(["[fd00::1]:514", "[::]:515"]));
    assert_eq!(listener.vlan, Some(4094));
    let names: Vec<_> = (listener.downstreams.iter())
        .map(|downstream| downstream.name.as_str())
        .collect();
    assert_eq!(names, ["x.y", "B"], "in the order of the file");
    let weights: Vec<_> = (listener.downstreams.iter())
        .map(|downstream| downstream.weight)
        .collect();
    assert_eq!(weights, [1, 255]);
    assert_eq!(listener.source, Source::Rewrite);
    assert_eq!(listener.max_packet_size, Some(65_535));
    let health = Health {
        check: Check::Icmp,
        interval: Duration::from_secs(3600),
        timeout: Duration::from_millis(10),
        failures: 100,
    };
    assert_eq!(listener.health, health);
    assert_eq!(listener.resolve_interval, Duration::from_secs(1));
}

#[test]
fn names_stand_for_addresses() {
    let longest = "a.".repeat(126) + "a";
    for (text, host) in [
        ("vector", "vector"),
        (
            "Vector.Logging.svc.cluster.local",
            "vector.logging.svc.cluster.local",
        ),
        ("vector.local.", "vector.local."),
        ("1.2.3.4.in-addr.arpa", "1.2.3.4.in-addr.arpa"),
        ("7.vector_1", "7.vector_1"),
        ("0xg", "0xg"),
        (&longest, &longest),
    ] {
        let config = good(&LEAST.replace("10.0.0.2", text));
        let target = &config.listeners[0].downstreams[0].target;
        let (host, port) = (host.to_owned(), 514);
        assert_eq!(*target, Target::Name { host, port });
    }
}

/// Of a short interval, an answer has half by default.
#[test]
fn health_timeout_follows_the_interval() {
    for (interval, timeout) in [("1s", 500), ("4s", 2000), ("1m", 2000)] {
        let text = format!("{LEAST}health = udp\nhealth_interval = {interval}\n");
        let health = good(&text).listeners[0].health;
        assert_eq!(health.timeout, Duration::from_millis(timeout), "{interval}");
    }
}

#[test]
fn every_key_of_userspace_mode() {
    let config = good(
        "[listener a]
         mode = userspace
         interface = eth1
         bind = 10.0.0.1:514
         downstream.x = 10.0.0.2:514
         source = keep
         max_packet_size = 1500
         workers = 256
         receive_buffer = 65536",
    );
    let listener = &config.listeners[0];
    assert_eq!(listener.mode, Mode::Userspace);
    assert_eq!(listener.interface.as_deref(), Some("eth1"));
    assert_eq!(listener.source, Source::Keep);
    assert_eq!(listener.max_packet_size, Some(1500));
    assert_eq!(listener.workers, Some(256));
    assert_eq!(listener.receive_buffer, 65_536);
}

#[test]
fn how_a_line_may_look() {
    let plain = good(LEAST);
    let spaced = "  # a = b\n\t; [c]\n\n   \n[listener   a]  \n interface=eth0\t
bind\t=  10.0.0.1:514\ndownstream.x =10.0.0.2:514";
    for text in [
        spaced.to_owned(),
        LEAST.replace('\n', "\r\n"),
        LEAST.replace(" = ", "="),
        LEAST.trim_end().to_owned(),
        format!("\u{feff}{LEAST}"),
    ] {
        assert_eq!(good(&text), plain, "{text:?}");
    }
}

/// What looks like a conflict but is none.
#[test]
fn neighbours_that_get_along() {
    let config = good(
        "[interface eth9]
         cpus = none
[listener exact]
         interface = eth1
         bind = 10.0.0.1:514
         downstream.x = 10.0.0.2:514
[listener wildcard]
         interface = eth1
         bind = 0.0.0.0:514
         downstream.x = 10.0.0.2:514
[listener tagged]
         interface = eth1
         bind = 10.0.0.1:514
         vlan = 7
         downstream.x = 10.0.0.2:514
         downstream.again = 10.0.0.2:514
[listener other-interface]
         interface = eth0
         bind = 10.0.0.1:514, 10.0.0.1:515, 10.0.0.2:515
         downstream.x = 10.0.0.2:514
[listener any-interface]
         mode = userspace
         bind = 10.0.0.1:514
         downstream.x = 10.0.0.2:514",
    );
    let names: Vec<_> = (config.interfaces.iter())
        .map(|interface| interface.name.as_str())
        .collect();
    assert_eq!(names, ["eth1", "eth0"], "in the order of first use");
    let warnings: Vec<_> = config.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        warnings,
        ["test.ini:1: [interface eth9] no listener is on this interface"]
    );
}

#[test]
fn loads_a_file() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config.ini");
    assert_eq!(load(&path), Ok(good(EXAMPLE)));
}

#[test]
fn a_file_that_cannot_be_read() {
    let folder = std::env::temp_dir().join(format!("fanout-config-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let path = folder.join("bad.ini");
    let error = |path: &Path| {
        let errors = load(path).unwrap_err();
        let [error] = &errors[..] else {
            panic!("one error: {errors:?}")
        };
        let path = path.display().to_string();
        error.to_string().replace(&path, "FILE")
    };
    assert_eq!(
        error(&path),
        "FILE: can't be read: No such file or directory (os error 2)"
    );
    assert_eq!(
        error(&folder),
        "FILE: can't be read: Is a directory (os error 21)"
    );
    fs::write(&path, b"[fanout]\nlog_level = inf\xff").unwrap();
    assert_eq!(error(&path), "FILE:2: not UTF-8 text");
    assert_eq!(
        error(Path::new("/dev/zero")),
        "FILE: larger than 16777216 bytes"
    );
    fs::remove_dir_all(&folder).unwrap();
}

/// Whatever the text, an answer; and each error on one line of its own with a place in the file.
#[test]
fn mutated_configs_never_panic() {
    let full = full_example();
    let mut random = Random(0x5eed);
    let pieces = "[|]|[listener syslog]|=|\r|\n|\r\n|;|#|\0|\u{feff}|%|ü\u{2028}| |,|::|[::1]:0\
        |18446744073709551616|downstream.|bind = |bind = 0.0.0.0:514\n|vlan = 1\n|cpus = ,\n\
        |\u{1b}[2J|downstream.x = [fe80::1]:1\n";
    let pieces: Vec<_> = pieces.split('|').collect();
    for round in 0..5_000 {
        let mut text = full.clone();
        for _ in 0..=random.below(4) {
            let [from, to] = random.range(&text);
            let piece = pieces[random.below(pieces.len())];
            match random.below(3) {
                0 => text.insert_str(from, piece),
                1 => text.replace_range(from..to, piece),
                _ => text.replace_range(from..to, ""),
            }
        }
        let lines = 1 + text.matches(['\r', '\n']).count();
        for error in parse("x", &text).err().unwrap_or_default() {
            let error = error.to_string();
            assert!(
                !error.contains(char::is_control),
                "round {round}: {error:?}"
            );
            let line = error.strip_prefix("x:").unwrap().split(':').next().unwrap();
            let in_file = line.parse().is_ok_and(|line| (1..=lines).contains(&line));
            assert!(
                in_file || error.starts_with("x: no listener"),
                "round {round}: {error}"
            );
        }
    }
}

/// xorshift64: seeded, so that a failure can be repeated.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit as u64).unwrap()
    }

    /// Up to 24 bytes of `text`.
    fn range(&mut self, text: &str) -> [usize; 2] {
        let boundary = |mut at: usize| {
            while !text.is_char_boundary(at) {
                at -= 1;
            }
            at
        };
        let from = self.below(text.len() + 1);
        let to = text.len().min(from + self.below(24));
        [from, to].map(boundary)
    }
}
