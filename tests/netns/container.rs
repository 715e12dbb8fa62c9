//! The image of `Dockerfile.scratch`, built and run by podman in a namespace, with the capabilities that
//! it names and no others.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    common::{
        delivery,
        dns::Dns,
        fanout::{Fanout, Folder, wait_for},
        namespace::expect_success,
        sender::Traffic,
        topology::{self, Family, INTERFACE, RECEIVER_PORT, Shape, Topology},
    },
    harness::Suite,
};

pub fn register(suite: &mut Suite) {
    let needs = || static_binary().map(drop);
    let programs = &["podman", "unshare"];
    suite.test_when("container::forwards", programs, needs, forwards);
    suite.test("container::manifest", manifest);
    let programs = &["dnsmasq", "podman", "unshare"];
    suite.test_when("container::resolves", programs, needs, resolves);
}

/// Where the release artifact is: as given, or where cargo leaves it.
fn static_binary() -> Result<PathBuf, String> {
    let built = Path::new(ROOT).join("target/x86_64-unknown-linux-musl/release/fanout");
    let path = env::var_os("FANOUT_STATIC_BINARY").map_or(built, PathBuf::from);
    if !path.is_file() {
        return Err(format!("there is no {}", path.display()));
    }
    Ok(path)
}

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// The options that its comment tells the operator to give: what works is what is written there.
const RIGHTS: [&str; 3] = ["--cap-drop=", "--cap-add=", "--security-opt="];

fn dockerfile() -> String {
    fs::read_to_string(Path::new(ROOT).join("Dockerfile.scratch")).expect("Dockerfile.scratch")
}

fn forwards() {
    let network = topology::k3s(Shape::default());
    let image = Image::build();
    let fanout = start(&network, &image, &network.config(Family::V4), &[]);
    let traffic = Traffic::new(network.target(Family::V4), 10_000);
    delivery::of(&network, Family::V4, &traffic).assert_perfect();
    let path = fanout.metrics_file();
    let written = wait_for(|| {
        fs::read_to_string(&path)
            .ok()
            .filter(|text| text.contains(" 10000\n"))
    });
    assert!(written.is_some(), "no count of 10000 in {}", path.display());
    // Podman hands SIGTERM on to the container.
    fanout.stop();
}

/// The manifest has the rights that the container has here, and a config that is right.
fn manifest() {
    let file = Path::new(ROOT).join("deploy/kubernetes/fanout.yaml");
    let text = fs::read_to_string(file).expect("the manifest");
    let dockerfile = dockerfile();
    let added = dockerfile
        .split_whitespace()
        .find_map(|word| word.strip_prefix("--cap-add="));
    let quoted = added
        .expect("capabilities")
        .split(',')
        .map(|name| format!("\"{name}\""));
    let added = format!("add: [{}]\n", quoted.collect::<Vec<_>>().join(", "));
    assert!(text.contains(&added), "no {added}");
    assert!(text.contains("drop: [\"ALL\"]\n"));
    let (_, config) = text.split_once("config.ini: |\n").expect("a config");
    let lines = config
        .lines()
        .map_while(|line| match line.strip_prefix("    ") {
            None if !line.is_empty() => None,
            line => Some(line.unwrap_or_default()),
        });
    let config = lines.collect::<Vec<_>>().join("\n");
    let config = fanout::config::parse("config.ini", &config);
    assert_eq!(config.expect("right").listeners.len(), 1);
}

/// A name, by musl's resolver and a `resolv.conf` that the runtime puts into the empty image.
fn resolves() {
    let network = topology::k3s(Shape::default());
    let image = Image::build();
    let dns = Dns::start(&network.host);
    let addresses = |which: &[usize]| {
        let address = |&i: &usize| network.receivers[i].addresses.v4.into();
        which.iter().map(address).collect::<Vec<_>>()
    };
    dns.set(&[("vector", &addresses(&[0, 1]))]);
    let config = format!(
        "[listener syslog]\ninterface = {INTERFACE}\nbind = {}\nresolve_interval = 1s\n\
         downstream.vector = vector:{RECEIVER_PORT}\n",
        network.target(Family::V4)
    );
    let conf = format!(
        "--volume={}:/etc/resolv.conf:ro",
        dns.resolv_conf().display()
    );
    let fanout = start(&network, &image, &config, &[&conf]);
    let all = network.downstreams(Family::V4);
    let traffic = Traffic::new(network.target(Family::V4), 300);
    delivery::between(&network.sender.namespace, &all[..2], &traffic).assert_perfect();
    dns.set(&[("vector", &addresses(&[1, 2]))]);
    for part in [
        "10.42.0.23:5514 egress",
        "is gone listener=syslog name=vector",
    ] {
        fanout.wait_for_log(part);
    }
    delivery::between(&network.sender.namespace, &all[1..], &traffic).assert_perfect();
    fanout.stop();
}

/// Starts it in a container as `Dockerfile.scratch` says, on the host's network.
fn start(network: &Topology, image: &Image, config: &str, options: &[&str]) -> Fanout {
    let mut podman = Command::new("unshare");
    podman.args(["--mount", "sh", "-c", PODMAN, "podman", "run", "--rm"]);
    podman.args([
        "--cgroups=disabled",
        "--ulimit=nofile=1024:1024",
        "--ulimit=nproc=1024:1024",
    ]);
    let dockerfile = dockerfile();
    let is_right = |word: &&str| RIGHTS.iter().any(|right| word.starts_with(right));
    podman.args(dockerfile.split_whitespace().filter(is_right));
    podman.args(["--name", &image.container()]);
    podman.arg(format!("--network=ns:{}", network.host.path().display()));
    podman.args(options);
    Fanout::start_as(config, |folder| {
        podman
            .arg(format!("--volume={0}:{0}", folder.display()))
            .arg(&image.0);
        podman
    })
}

/// crun refuses the mixed layout of control groups that some machines still have; without its second
/// half, in a mount namespace of podman's own, there is nothing to refuse.
const PODMAN: &str = "umount /sys/fs/cgroup/unified 2>/dev/null; exec \"$0\" \"$@\"";

/// A container image, removed on drop, and so is its container.
struct Image(String);

impl Image {
    fn container(&self) -> String {
        self.0.replace('/', "-")
    }

    /// Builds `Dockerfile.scratch` in a folder that holds what it copies and nothing else.
    fn build() -> Self {
        let (context, binary) = (Folder::new(), static_binary().expect("looked at before"));
        for line in dockerfile()
            .lines()
            .filter(|line| line.starts_with("COPY "))
        {
            let source = line
                .split_whitespace()
                .rev()
                .nth(1)
                .expect("COPY what where");
            let copy = context.path(source);
            fs::create_dir_all(copy.parent().expect("a folder")).expect("a folder");
            fs::copy(&binary, copy).expect("copy");
        }
        let image = Self(format!("localhost/fanout-test-{}", std::process::id()));
        let mut build = Command::new("podman");
        build.args(["build", "--quiet", "--tag", &image.0, "--file"]);
        build
            .arg(Path::new(ROOT).join("Dockerfile.scratch"))
            .arg(context.path("."));
        expect_success(&mut build);
        image
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        let remove = ["rm", "--force", "--time=0", &self.container()];
        let _ = Command::new("podman").args(remove).output();
        let _ = Command::new("podman")
            .args(["rmi", "--force", &self.0])
            .output();
    }
}
