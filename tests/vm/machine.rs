//! A virtual machine with two network cards that see each other, from boot to its result.

use std::{fs, os::unix::process::ExitStatusExt};

use crate::{
    card::Card,
    common::{fanout::Folder, namespace::Namespace},
    guest, initramfs,
    kernel::Kernel,
};

/// What it takes, besides `ip`.
pub const PROGRAMS: &[&str] = &[
    QEMU, "busybox", "ethtool", "ldd", "modprobe", "timeout", "xz",
];
const QEMU: &str = "qemu-system-x86_64";
/// Emulated, a machine takes a minute at most; then it hangs.
const SECONDS: &str = "300";
/// Emulated: whoever runs this need not have KVM.
const MACHINE: &str = "-accel tcg,thread=multi -machine q35 -cpu max -smp 2 -m 1024 \
    -nodefaults -no-user-config -display none -no-reboot \
    -device isa-debug-exit,iobase=0xf4,iosize=0x04";
/// Warnings and what is worse go to the console; after a panic it reboots, which ends QEMU.
const COMMAND_LINE: &str = "console=ttyS0 loglevel=5 panic=-1 net.ifnames=0 mitigations=off";
const SUCCESS: i32 = exit_status(0);
/// QEMU aborts once in some hundred boots, and its virtio stalls once in some tens.
const RETRIED: [i32; 2] = [128 + libc::SIGABRT, exit_status(guest::STALLED)];
/// Words of a kernel in trouble.
const TROUBLE: &[&str] = &[
    "WARNING",
    "BUG:",
    "Oops",
    "Call Trace",
    "general protection",
];

/// A network card that QEMU has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nic {
    /// With four queues, of which Linux uses two at first.
    Virtio,
    /// Intel 82576.
    Igb,
    /// Intel 82574.
    E1000e,
}

impl Nic {
    /// The driver of Linux.
    pub const fn driver(self) -> &'static str {
        match self {
            Self::Virtio => "virtio_net",
            Self::Igb => "igb",
            Self::E1000e => "e1000e",
        }
    }

    /// How many queues it can have, if they can be chosen and traffic spreads over them.
    pub const fn queues(self) -> Option<u8> {
        match self {
            Self::Virtio | Self::Igb => Some(4),
            Self::E1000e => None,
        }
    }

    /// The options for card `number`.
    fn options(self, number: u8) -> [String; 3] {
        let mac = format!("mac=52:54:00:00:00:0{number}");
        let root_port = format!("pcie-root-port,id=port{number},chassis={number}");
        let (netdev, model) = match self {
            // Taps can have several queues. Zero copy needs the DMA API, hence iommu_platform.
            Self::Virtio => (
                format!("tap,id=net{number},ifname=tap{number},script=no,downscript=no,queues=4"),
                "virtio-net-pci,mq=on,vectors=10,iommu_platform=on,disable-legacy=on",
            ),
            Self::Igb | Self::E1000e => (format!("hubport,id=net{number},hubid=0"), self.driver()),
        };
        let device = format!("{model},bus=port{number},netdev=net{number},{mac}");
        [root_port, netdev, device]
    }
}

/// What QEMU exits with after the guest's `result`, see `init.sh`.
const fn exit_status(result: i32) -> i32 {
    ((16 + result) << 1) | 1
}

/// Boots `kernel` with two cards and runs the guest's tests; anything but their success and a kernel
/// that had nothing to say is a failure.
pub fn run(kernel: &Kernel, nic: Nic, card: Card) {
    // virtio's module for its bus has another name.
    let drivers: &[&str] = match nic {
        Nic::Virtio => &["virtio_pci", "virtio_net"],
        Nic::Igb | Nic::E1000e => &[nic.driver()],
    };
    // The last two for clsact, before Linux 6.6.
    let modules = [drivers, &["veth", "bridge", "sch_ingress", "cls_bpf"]].concat();
    let modules = kernel.modules(&modules);
    let folder = Folder::new();
    let initramfs = initramfs::build(&modules, &format!("{} {card}", guest::WORD));
    fs::write(folder.path("initramfs"), initramfs).expect("the initramfs");
    let mut status = boot(kernel, nic, &folder);
    if RETRIED.contains(&status) {
        println!("once more, after QEMU's status {status}");
        status = boot(kernel, nic, &folder);
    }
    let read = |file| {
        String::from_utf8_lossy(&fs::read(folder.path(file)).unwrap_or_default()).into_owned()
    };
    let (console, output) = (read("console"), read("output"));
    println!("{output}");
    let trouble = TROUBLE.iter().find(|word| console.contains(*word));
    assert!(
        status == SUCCESS && trouble.is_none(),
        "QEMU's status {status}, {trouble:?} on the console:\n{console}"
    );
}

/// Runs QEMU to its end, in a namespace with a bridge between the cards' taps.
fn boot(kernel: &Kernel, nic: Nic, folder: &Folder) -> i32 {
    let outside = Namespace::new("vm");
    outside.ip("link add br0 type bridge mcast_snooping 0\nlink set br0 up");
    let mut qemu = outside.command("timeout");
    qemu.args([SECONDS, QEMU])
        .args(MACHINE.split_whitespace())
        .args(["-append", COMMAND_LINE, "-kernel"])
        .arg(&kernel.image)
        .arg("-initrd")
        .arg(folder.path("initramfs"));
    for file in ["console", "output"] {
        qemu.arg("-serial")
            .arg(format!("file:{}", folder.path(file).display()));
    }
    for number in 1..=2 {
        if nic == Nic::Virtio {
            outside.ip(&format!(
                "tuntap add tap{number} mode tap multi_queue vnet_hdr\n\
                 link set tap{number} master br0 up"
            ));
        }
        let [root_port, netdev, device] = nic.options(number);
        qemu.args([
            "-device", &root_port, "-netdev", &netdev, "-device", &device,
        ]);
    }
    let status = qemu.status().expect("QEMU");
    let by_signal = || 128 + status.signal().unwrap_or_default();
    status.code().unwrap_or_else(by_signal)
}
