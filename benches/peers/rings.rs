//! fanout's own ground: what its rings alone receive and transmit, by loops that do nothing else.

use std::{
    os::fd::AsFd,
    sync::{
        Arc,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
    thread::JoinHandle,
};

use fanout::{
    bpf::{Loader, Programs},
    config::{Xdp, ZeroCopy},
    link::{Link, QueueId},
    sys::process::pin_to_cpu,
    xsk::{
        socket::{self, Receive, Transmit},
        umem::{FRAME_SIZE, Frame, Port, Umem},
    },
};
use fanout_ebpf::abi::{Bind, BindKey, Policy, Way};

use super::{
    contender::{self, Running},
    network::{self, EGRESS, Network},
};
use crate::common::topology::{Family, INTERFACE};

const QUEUE: QueueId = QueueId(0);
/// Packets between two looks at the other rings, as in fanout's worker.
const BATCH: usize = 64;
/// As many as the TX ring holds.
const TX_FRAMES: usize = 2048;
/// The port of the TX ring on [`EGRESS`].
const PORT: Port = 1;

/// A loop on the contenders' CPU.
#[derive(Debug)]
struct Loop {
    stop: Arc<AtomicBool>,
    received: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Loop {
    /// Runs `round` over and over; it returns how many packets it received.
    fn start(mut round: impl FnMut() -> usize + Send + 'static) -> Self {
        let (stop, received) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let (stopped, count) = (stop.clone(), received.clone());
        let thread = std::thread::spawn(move || {
            pin_to_cpu(contender::CPU).expect("the contenders' CPU");
            while !stopped.load(Acquire) {
                count.fetch_add(round() as u64, Relaxed);
            }
        });
        Self {
            stop,
            received,
            thread: Some(thread),
        }
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        self.stop.store(true, Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Receives, and gives the frames back.
struct RxOnly {
    receiving: Loop,
    socket: Arc<std::os::fd::OwnedFd>,
    _programs: Programs,
}

impl Running for RxOnly {
    fn delivered(&self, _: &Network) -> u64 {
        self.receiving.received.load(Relaxed)
    }

    fn drops(&self) -> String {
        let statistics = fanout::sys::xdp::statistics(self.socket.as_fd()).expect("XDP_STATISTICS");
        format!(
            "rx_dropped {}\nrx_ring_full {}\nrx_fill_ring_empty_descs {}",
            statistics.rx_dropped, statistics.rx_ring_full, statistics.rx_fill_ring_empty_descs
        )
    }
}

/// Starts the loop that only receives.
pub fn rx_only(network: &Network) -> Box<dyn Running> {
    let mut umem = Umem::new().expect("a UMEM");
    let target = network.topology.target(Family::V4);
    let (mut umem, mut receive, programs) = network.topology.host.enter(move || {
        let link = network::link(INTERFACE);
        let (receive, _) = open(&link, &mut umem);
        let programs = redirecting(&link, &receive, BindKey::new(target, None));
        let programs = programs.unwrap_or_else(|e| panic!("rx_only: {e}"));
        (umem, receive, programs)
    });
    let socket = receive.socket();
    let round = move || {
        let mut received = 0;
        while received < BATCH
            && let Some(packet) = receive.next(&mut umem)
        {
            receive.supply(&mut umem, packet.frame);
            received += 1;
        }
        receive.release();
        receive.refill(&mut umem);
        received
    };
    Box::new(RxOnly {
        receiving: Loop::start(round),
        socket,
        _programs: programs,
    })
}

/// fanout's XDP program on `link`, handing what `key` binds to `receive`.
fn redirecting(
    link: &Link,
    receive: &Receive,
    key: BindKey,
) -> Result<Programs, fanout::bpf::Error> {
    let mut programs = Loader::new().load(link, 0)?;
    programs.attach_xdp(Xdp::Native)?;
    programs.set_socket(QUEUE, receive.as_fd())?;
    let bind = Bind {
        listener: 0,
        max_packet_size: FRAME_SIZE as u32 / 2,
        way: Way::AfXdp,
        policy: Policy::RoundRobin,
    };
    programs.set_binds(&[(key, bind)])?;
    Ok(programs)
}

fn open(link: &Link, umem: &mut Umem) -> (Receive, Transmit) {
    socket::open(link.index, QUEUE, umem, ZeroCopy::Off, false).expect("an AF_XDP socket")
}

impl Running for Loop {}

/// Starts the loop that only transmits, from a socket on the egress that shares the UMEM of one on the
/// ingress, as in fanout.
pub fn tx_only(network: &Network) -> Box<dyn Running> {
    let packet = network.outgoing_frame();
    let mut umem = Umem::new().expect("a UMEM");
    let frames = filled(&mut umem, &packet);
    let (mut umem, receive, mut transmit) = network.topology.host.enter(move || {
        let (receive, _) = open(&network::link(INTERFACE), &mut umem);
        let egress = network::link(EGRESS).index;
        let transmit = socket::open_shared(egress, QUEUE, receive.as_fd()).expect("a TX socket");
        (umem, receive, transmit)
    });
    for frame in frames {
        umem.give_back(frame);
    }
    let range = 0..packet.len();
    Box::new(Loop::start(move || {
        // The UMEM is this socket's.
        let _ = &receive;
        for _ in 0..BATCH {
            let Some(frame) = umem.take() else { break };
            if let Err(frame) = transmit.send(&mut umem, PORT, frame, &range) {
                umem.give_back(frame);
                break;
            }
        }
        transmit.flush();
        transmit.complete(&mut umem, PORT, Umem::give_back);
        0
    }))
}

/// Frames that begin with `packet`, kept from the kernel, which is given all others to receive into.
fn filled(umem: &mut Umem, packet: &[u8]) -> Vec<Frame> {
    let frames = std::iter::from_fn(|| umem.take()).take(TX_FRAMES);
    let mut frames: Vec<_> = frames.collect();
    for frame in &mut frames {
        umem.bytes_mut(frame)[..packet.len()].copy_from_slice(packet);
    }
    frames
}
