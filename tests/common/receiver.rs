//! A UDP receiver in a namespace that keeps book of every datagram.

use std::{
    collections::BTreeMap,
    io::ErrorKind,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    os::fd::AsFd,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread::JoinHandle,
    time::Duration,
};

use super::{namespace::Namespace, payload, sys};

/// Large enough for a second of traffic: the receiver is not what is tested.
const BUFFER: i32 = 64 << 20;
/// When nothing came for this long after the sender ended, nothing will.
const QUIET: Duration = Duration::from_millis(300);

/// A running receiver.
#[derive(Debug)]
pub struct Receiver {
    stop: Arc<AtomicBool>,
    count: Arc<AtomicU64>,
    thread: Option<JoinHandle<Received>>,
}

/// What one receiver got.
#[derive(Debug, Default)]
pub struct Received {
    /// Datagrams with a right payload.
    pub count: u64,
    /// Of those, the ones that had come before.
    pub duplicates: u64,
    /// Of those, the ones that came after a later one of their flow.
    pub reordered: u64,
    /// Datagrams with any other payload.
    pub corrupt: u64,
    /// How often each source was seen.
    pub sources: BTreeMap<SocketAddr, u64>,
    /// For each flow, which sequence numbers came.
    pub flows: BTreeMap<u32, Sequences>,
}

/// A set of sequence numbers.
#[derive(Debug, Default)]
pub struct Sequences {
    words: Vec<u64>,
    next: u32,
}

impl Sequences {
    /// Adds one; says if it is new.
    fn insert(&mut self, sequence: u32) -> bool {
        let (word, bit) = (sequence as usize / 64, 1 << (sequence % 64));
        if self.words.len() <= word {
            self.words.resize(word + 1, 0);
        }
        let new = self.words[word] & bit == 0;
        self.words[word] |= bit;
        new
    }

    /// Whether it came.
    pub fn contains(&self, sequence: u32) -> bool {
        let word = self.words.get(sequence as usize / 64);
        word.is_some_and(|word| word & (1 << (sequence % 64)) != 0)
    }
}

impl Receiver {
    /// Binds `address` in `namespace` and receives until [`Receiver::finish`].
    pub fn start(namespace: &Namespace, address: SocketAddr) -> Self {
        let socket = namespace.enter(|| UdpSocket::bind(address));
        let socket = socket.unwrap_or_else(|e| panic!("bind {address}: {e}"));
        sys::set_option(
            socket.as_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVBUFFORCE,
            BUFFER,
        )
        .expect("SO_RCVBUFFORCE");
        socket.set_read_timeout(Some(QUIET)).expect("timeout");
        let (stop, count) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&count));
        let thread = std::thread::spawn(move || receive(&socket, &stopped, &counted));
        Self {
            stop,
            count,
            thread: Some(thread),
        }
    }

    /// Datagrams so far, for whoever wants to watch.
    pub fn counter(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.count)
    }

    /// Waits until nothing more comes.
    pub fn finish(mut self) -> Received {
        self.stop.store(true, Relaxed);
        let thread = self.thread.take().expect("finished once");
        thread.join().expect("the receiver")
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn receive(socket: &UdpSocket, stop: &AtomicBool, count: &AtomicU64) -> Received {
    let mut received = Received::default();
    let mut buffers = vec![[0; 2048]; sys::BATCH];
    let (mut lengths, mut addresses) = ([0; sys::BATCH], [[0; sys::ADDRESS]; sys::BATCH]);
    loop {
        match sys::receive_batch(socket.as_fd(), &mut buffers, &mut lengths, &mut addresses) {
            Ok(got) => {
                for i in 0..got {
                    received.note(&buffers[i][..lengths[i]], parse(&addresses[i]));
                }
                count.fetch_add(got as u64, Relaxed);
            }
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) if e.kind() == ErrorKind::WouldBlock => {
                if stop.load(Relaxed) {
                    return received;
                }
            }
            Err(e) => panic!("recvmmsg: {e}"),
        }
    }
}

impl Received {
    fn note(&mut self, payload: &[u8], source: SocketAddr) {
        *self.sources.entry(source).or_default() += 1;
        let Some(label) = payload::read(payload) else {
            self.corrupt += 1;
            return;
        };
        self.count += 1;
        let flow = self.flows.entry(label.flow).or_default();
        if !flow.insert(label.sequence) {
            self.duplicates += 1;
        } else if label.sequence < flow.next {
            self.reordered += 1;
        }
        flow.next = flow.next.max(label.sequence + 1);
    }
}

/// A `sockaddr_in` or `sockaddr_in6` as the kernel lays it out.
fn parse(raw: &[u8; sys::ADDRESS]) -> SocketAddr {
    let family = i32::from(u16::from_ne_bytes([raw[0], raw[1]]));
    let port = u16::from_be_bytes([raw[2], raw[3]]);
    let ip = if family == libc::AF_INET {
        IpAddr::V4(Ipv4Addr::new(raw[4], raw[5], raw[6], raw[7]))
    } else {
        let mut octets = [0; 16];
        octets.copy_from_slice(&raw[8..24]);
        IpAddr::V6(Ipv6Addr::from(octets))
    };
    SocketAddr::new(ip, port)
}
