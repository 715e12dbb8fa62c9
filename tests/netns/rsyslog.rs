//! Real input: `logger` to the VIP, three real rsyslog servers behind it.

use std::{
    fs,
    process::{Child, Command, Stdio},
};

use crate::{
    common::{
        fanout::{Fanout, Folder, wait_for},
        namespace::{Namespace, expect_success},
        topology::{self, Family, RECEIVER_PORT, Shape},
    },
    harness::Suite,
};

pub fn register(suite: &mut Suite) {
    suite.test_with(
        "rsyslog::each_message_once",
        &["rsyslogd", "logger"],
        each_message_once,
    );
}

const MESSAGES: usize = 30;

fn each_message_once() {
    let network = topology::k3s(Shape::default());
    let servers: Vec<_> = network
        .receivers
        .iter()
        .map(|r| Server::start(&r.namespace))
        .collect();
    let fanout = Fanout::start(&network.host, &network.config(Family::V4));
    let (vip, port) = (network.vip.v4.to_string(), topology::PORT.to_string());
    for i in 0..MESSAGES {
        let message = format!("message {i} of {MESSAGES}");
        let mut logger = network.sender.namespace.command("logger");
        logger.args(["--rfc5424", "-d", "-n", &vip, "-P", &port, &message]);
        expect_success(&mut logger);
    }
    let all = wait_for(|| {
        let logged: Vec<_> = servers.iter().map(Server::logged).collect();
        (logged.iter().map(Vec::len).sum::<usize>() >= MESSAGES).then_some(logged)
    });
    let logged = all.unwrap_or_else(|| {
        let logged: Vec<_> = servers.iter().map(Server::logged).collect();
        panic!("some never came: {logged:#?}\n{}", fanout.metrics().text)
    });
    let sender = network.sender.addresses.v4;
    let first = (0..3)
        .find(|&i| {
            logged[i]
                .first()
                .is_some_and(|line| line.contains("message 0 "))
        })
        .expect("the first");
    for (turn, i) in (0..3).zip((first..).map(|i| i % 3)) {
        let expected: Vec<_> = (turn..MESSAGES)
            .step_by(3)
            .map(|n| format!("{sender} message {n} of {MESSAGES}"))
            .collect();
        assert_eq!(logged[i], expected, "server {i}");
    }
    let metrics = fanout.metrics_at_rest("syslog", MESSAGES as u64);
    assert_eq!(metrics.dropped("syslog"), 0, "{}", metrics.text);
    fanout.stop();
}

/// A running rsyslogd; killed on drop.
struct Server {
    child: Child,
    folder: Folder,
}

impl Server {
    fn start(namespace: &Namespace) -> Self {
        let folder = Folder::new();
        let (config, messages) = (folder.path("rsyslog.conf"), folder.path("messages"));
        let text = format!(
            "module(load=\"imudp\")\n\
             template(name=\"line\" type=\"string\" string=\"%fromhost-ip% %msg%\\n\")\n\
             input(type=\"imudp\" port=\"{RECEIVER_PORT}\" ruleset=\"in\")\n\
             ruleset(name=\"in\") {{ action(type=\"omfile\" file=\"{}\" template=\"line\") }}\n",
            messages.display()
        );
        fs::write(&config, text).expect("config");
        let mut command: Command = namespace.command("rsyslogd");
        command
            .arg("-nx")
            .arg("-f")
            .arg(&config)
            .arg("-i")
            .arg(folder.path("pid"));
        let child = command.stdin(Stdio::null()).spawn().expect("rsyslogd");
        let server = Self { child, folder };
        let listens = wait_for(|| namespace.listens(RECEIVER_PORT).then_some(()));
        listens.expect("rsyslogd listens");
        server
    }

    /// `sender message`, one a line.
    fn logged(&self) -> Vec<String> {
        let text = fs::read_to_string(self.folder.path("messages")).unwrap_or_default();
        text.lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
