//! Configs and all the lines that they get for an answer: `errors.txt`, and here what is a sweep over
//! many values.

use super::{super::parse, LEAST};

const TABLE: &str = include_str!("errors.txt");

/// What the table's `+syslog` stands for.
const SYSLOG: &str = "[listener syslog]
interface = eth0
bind = 10.0.0.1:514
downstream.a = 10.0.0.2:5514
";

fn errors(text: &str) -> Vec<String> {
    let errors = parse("config.ini", text).expect_err(text);
    errors.iter().map(ToString::to_string).collect()
}

#[track_caller]
fn check(text: &str, expected: &[&str]) {
    let place = |error: &&str| {
        let of_a_line = error.starts_with(|c: char| c.is_ascii_digit());
        let gap = if of_a_line { "" } else { " " };
        format!("config.ini:{gap}{error}")
    };
    let expected: Vec<_> = expected.iter().map(place).collect();
    assert_eq!(errors(text), expected, "{text}");
}

#[test]
fn table() {
    let mut count = 0;
    for case in TABLE.split("\n== ").skip(1) {
        let (mut text, mut errors) = (String::new(), Vec::new());
        let (_name, lines) = case.split_once('\n').unwrap();
        for line in lines.trim_end_matches('\n').lines() {
            match line.strip_prefix("-> ") {
                Some(error) => errors.push(error),
                None if line == "+syslog" => text += SYSLOG,
                None => text = text + line + "\n",
            }
        }
        check(&text, &errors);
        count += 1;
    }
    assert_eq!(count, 27);
}

/// Each value of `key` in `section` gets the same answer.
#[track_caller]
fn refused(section: &str, key: &str, values: &[&str], answer: &str) {
    for value in values {
        check(
            &format!("{LEAST}{section}\n{key} = {value}\n"),
            &[&format!("6: {section} {key}: {value:?} {answer}")],
        );
    }
}

#[test]
fn numbers() {
    let no_duration = "is not a duration such as 250ms, 5s or 2m";
    let wrong = [
        "5", "s", "5 s", "+5s", "-5s", "1.5s", "5d", "5S", "0x5s", "٣s",
    ];
    refused("[fanout]", "metrics_interval", &wrong, no_duration);
    let huge = ["9999999999999999h", "99999999999999999999s"];
    refused("[fanout]", "metrics_interval", &huge, no_duration);
    let outside = ["999ms", "0s", "61m", "2h"];
    let answer = "is not within 1s to 1h";
    refused("[fanout]", "metrics_interval", &outside, answer);

    let files = ["/a/b.txt", "/a/.prom", "a.prom/", "prom", "a.PROM"];
    let answer = "does not end in NAME.prom: node_exporter reads no other file";
    refused("[fanout]", "metrics_file", &files, answer);

    let cpus = [
        "1024",
        "1,",
        "1,,2",
        "-1",
        "1-2",
        "1 2",
        "auto,1",
        "99999999999999999999",
    ];
    let answer = "is not auto, none or a list of CPUs such as 2,3 (0 to 1023)";
    refused("[interface eth0]", "cpus", &cpus, answer);
    let answer = "is not a number from 68 to 65535";
    refused(
        "[interface eth0]",
        "mtu",
        &["0", "67", "65536", "-1", "1500b"],
        answer,
    );
    let answer = "is not a number from 1 to 64";
    refused("[interface eth0]", "channels", &["0", "65", "max"], answer);
}

/// The same for a key of the listener.
#[track_caller]
fn refused_in_listener(key: &str, values: &[&str], answer: &str) {
    for value in values {
        check(
            &format!("{SYSLOG}{key} = {value}\n"),
            &[&format!("5: [listener syslog] {key}: {value:?} {answer}")],
        );
    }
}

#[test]
fn listener_numbers() {
    let tags = ["0", "4095", "65537", "+7", "0x1", "1.0"];
    refused_in_listener("vlan", &tags, "is not a number from 1 to 4094");
    let sizes = ["27", "65536", "1k", "-28", "4294967296"];
    refused_in_listener(
        "max_packet_size",
        &sizes,
        "is not a number from 28 to 65535",
    );
}

#[test]
fn living_numbers() {
    for (key, values, answer) in [
        (
            "health_interval",
            ["99ms", "61m"],
            "is not within 100ms to 1h",
        ),
        ("health_timeout", ["9ms", "2h"], "is not within 10ms to 1h"),
        (
            "health_failures",
            ["0", "101"],
            "is not a number from 1 to 100",
        ),
    ] {
        refused_in_listener(key, &values, answer);
    }
}

#[test]
fn userspace_numbers() {
    for (key, values, answer) in [
        (
            "workers",
            ["0", "257", "-1"],
            "is not a number from 1 to 256",
        ),
        (
            "receive_buffer",
            ["65535", "1073741824", "4M"],
            "is not a number from 65536 to 1073741823",
        ),
    ] {
        for value in values {
            check(
                &format!("{SYSLOG}mode = userspace\n{key} = {value}\n"),
                &[&format!("6: [listener syslog] {key}: {value:?} {answer}")],
            );
        }
    }
}

#[test]
fn interface_names() {
    for (name, reason) in [
        ("abcdefghijklmnop", "longer than 15 bytes"),
        ("a b", "it has a slash, a colon or white space"),
        ("eth0:1", "it has a slash, a colon or white space"),
        ("..", "the kernel takes no such name"),
    ] {
        let what = format!("{name:?} is not an interface name: {reason}");
        check(
            &SYSLOG.replace("eth0", name),
            &[&format!("2: [listener syslog] interface: {what}")],
        );
        check(
            &format!("[interface {name}]\n{LEAST}"),
            &[&format!("1: [interface {name}] {what}")],
        );
    }
}

#[test]
fn listener_names() {
    let long = "a".repeat(64);
    for name in [&long, "a b", "sys/log", "ü", "a:b"] {
        let what = format!("{name:?} is not a name: 1 to 63 of A-Z a-z 0-9 _ . -");
        check(
            &SYSLOG.replace(" syslog", &format!(" {name}")),
            &[&format!("1: [listener {name}] {what}")],
        );
    }
    assert!(parse("", &SYSLOG.replace("syslog", &long[1..])).is_ok());
}

#[test]
fn addresses() {
    let no_address = "is not an address and port";
    let bare_ipv6 = "is not an address and port (IPv6: [address]:port)";
    let port_0 = "has port 0, which no datagram carries";
    let zone = "has a zone (%), which fanout does not take: routes choose the interface";
    let to_the_kernel = "address: fanout leaves those to the kernel";
    let any = "is any address, not one to send to";
    let not_one = "address, not one receiver's";
    let neither = "is neither an address and port nor a DNS name and port";
    let no_name = "is not a DNS name and port (1 to 65535)";
    let long_label = "a".repeat(64) + ":514";
    let long_host = "a.".repeat(126) + "ab:514";
    let both = [
        ("10.42.0.300:5514", no_address),
        ("10.42.0.3", no_address),
        ("10.42.0.3:65536", no_address),
        ("10.42.0.3.:514", no_address),
        ("vector.7:5514", no_address),
        ("0x7f.1.0X1f:514", no_address),
        (":514", no_address),
        ("vector", no_address),
        ("[fd00::1]", no_address),
        ("[vector]:514", no_address),
        ("fd00::1:514", bare_ipv6),
        ("fd00::1", bare_ipv6),
        ("10.0.0.9:0", port_0),
        ("[fd00::1]:0", port_0),
        ("[fe80::1%eth0]:514", zone),
        ("[fe80::1%2]:514", zone),
        (
            "[::ffff:10.0.0.3]:514",
            "is an IPv4 address: write 10.0.0.3:514",
        ),
    ];
    let binds = [
        (
            "224.0.0.1:514",
            &format!("is a multicast {to_the_kernel}")[..],
        ),
        ("[ff02::1]:514", &format!("is a multicast {to_the_kernel}")),
        (
            "255.255.255.255:514",
            &format!("is a broadcast {to_the_kernel}"),
        ),
        ("vector:514", no_address),
    ];
    for (text, what) in both.into_iter().chain(binds) {
        check(
            &SYSLOG.replace("10.0.0.1:514", text),
            &[&format!("3: [listener syslog] bind: {text:?} {what}")],
        );
    }
    let downstreams = [
        ("0.0.0.0:514", any),
        ("[::]:514", any),
        ("239.1.2.3:514", &format!("is a multicast {not_one}")),
        ("[ff02::1]:514", &format!("is a multicast {not_one}")),
        ("255.255.255.255:514", &format!("is a broadcast {not_one}")),
        (
            "[fe80::1]:514",
            "is a link-local address, which no route leads to without an interface",
        ),
        ("vector:0", port_0),
        ("vector.local:65536", no_name),
        ("vector:syslog", no_name),
        ("vector:", no_name),
        ("vec tor:514", neither),
        ("vector..local:514", neither),
        (".vector:514", neither),
        ("-vector:514", neither),
        ("vector-.local:514", neither),
        ("v\u{fc}:514", neither),
        (&long_label, neither),
        (&long_host, neither),
    ];
    for (text, what) in both.into_iter().chain(downstreams) {
        check(
            &SYSLOG.replace("10.0.0.2:5514", text),
            &[&format!(
                "4: [listener syslog] downstream.a: {text:?} {what}"
            )],
        );
    }
}

#[test]
fn odd_texts() {
    let no_listener = "no listener: a [listener NAME] section is needed";
    check("", &[no_listener]);
    check(
        &format!("{LEAST}[fan\u{1b}out]"),
        &[r"5: [fan\u{1b}out] unknown section, did you mean [fanout]?"],
    );
    check(
        &format!("{LEAST}\r\n\r\nl\u{2028}og = x\r\n"),
        &[r"7: [listener a] l\u{2028}og: unknown key"],
    );
}

#[test]
fn limits() {
    let repeat =
        |count: u32, one: &dyn Fn(u32) -> String| -> String { (0..count).map(one).collect() };

    let listeners = |count| {
        repeat(count, &|n| {
            let listener = LEAST.replace("[listener a]", &format!("[listener l{n}]"));
            listener.replace("10.0.0.1:514", &format!("10.1.0.{n}:514"))
        })
    };
    assert!(parse("", &listeners(64)).is_ok());
    let too_many = "257: [listener l64] one too many: at most 64 listeners";
    check(&listeners(66), &[too_many]);

    let downstreams = |count| {
        let more = repeat(count, &|n| {
            format!("downstream.n{n} = 10.0.0.2:{}\n", n + 1)
        });
        format!("{SYSLOG}{more}")
    };
    assert!(parse("", &downstreams(1023)).is_ok());
    let too_many = "1028: [listener syslog] downstream.n1023: one too many: at most 1024 downstreams a listener";
    check(&downstreams(1025), &[too_many]);

    let binds = |count| {
        let more = repeat(count, &|n| format!(", 10.0.0.1:{}", n + 1000));
        SYSLOG.replace("10.0.0.1:514", &format!("10.0.0.1:514{more}"))
    };
    assert!(parse("", &binds(1023)).is_ok());
    let too_many = "3: [listener syslog] bind: too many: at most 1024 binds on interface eth0";
    // Said once for an interface; another one has its own count.
    let others = LEAST.to_owned() + &SYSLOG.replace("syslog", "b").replace("eth0", "eth1");
    let others = others.replace("10.0.0.1:514", "10.0.0.3:514");
    check(&(binds(1024) + &others), &[too_many]);
}
