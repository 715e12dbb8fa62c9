//! 100,000 frames with random faults through the real program: it goes on, and loses no frame of its own.

use std::net::SocketAddr;

use crate::{
    common::{
        delivery,
        fanout::Fanout,
        flight::Flight,
        frame::{Frame, mac},
        payload::{self, Label},
        sender::Traffic,
        topology::{self, ETH0, Family, HOST_MAC, Shape, Topology},
        wire::Wire,
    },
    harness::Suite,
};

pub fn register(suite: &mut Suite) {
    suite.test("mutation::hundred_thousand_frames", hundred_thousand_frames);
}

const FRAMES: u32 = 100_000;
const SEED: u64 = 0x5eed_fa07;
/// A datagram tagged with it is the third listener's.
const VLAN: u16 = 214;

fn hundred_thousand_frames() {
    let network = topology::k3s(Shape::default());
    let listener =
        |name: &str, family| network.listener(name, &network.target(family).to_string(), family);
    let tagged = listener("tagged", Family::V4) + &format!("vlan = {VLAN}\n");
    let config = listener("four", Family::V4) + &listener("six", Family::V6) + &tagged;
    let fanout = Fanout::start(&network.host, &config);
    forwards(&network);
    let rest = fanout.metrics();

    let wire = Wire::open(&network.sender.namespace, ETH0);
    let sound = [
        (Family::V4, None),
        (Family::V6, None),
        (Family::V4, Some(VLAN)),
    ];
    let sound = sound.map(|(family, vlan)| frame(&network, family, vlan));
    let mut random = Random(SEED);
    let taken = wire.send_paced(
        30_000,
        &Flight::default(),
        (0..FRAMES).map(|i| mutated(&sound, i, &mut random)),
    );
    assert!(
        taken > FRAMES / 2,
        "the kernel refused all but {taken} frames"
    );

    forwards(&network);
    let after = ["four", "six", "tagged"].map(|name| fanout.metrics_balanced(name));
    let [four, six, tagged] = after;
    for (name, metrics) in [("four", &four), ("six", &six), ("tagged", &tagged)] {
        let more = metrics.received(name) - rest.received(name);
        assert!(
            more > 0,
            "no mutated frame reached {name}: {}",
            metrics.text
        );
        println!("{name}: {more} received, {} dropped", metrics.dropped(name));
    }
    assert_eq!(
        tagged.free_frames(),
        rest.free_frames(),
        "lost frames: {}",
        tagged.text
    );
    assert!(!fanout.log().contains("panicked"), "{}", fanout.log());
    fanout.stop();
}

fn forwards(network: &Topology) {
    for family in [Family::V4, Family::V6] {
        let traffic = Traffic::new(network.target(family), 3_000);
        delivery::of(network, family, &traffic).assert_perfect();
    }
}

fn frame(network: &Topology, family: Family, vlan: Option<u16>) -> Frame {
    let from = SocketAddr::new(network.sender.addresses.of(family), 40_000);
    let from_mac = mac(&network.sender.namespace.interface(ETH0, "address"));
    let mut frame = Frame::new(from_mac, mac(HOST_MAC), from, network.target(family));
    frame.vlan = vlan;
    frame
}

/// A sound frame with up to four faults: a byte, a bit, a cut, or more bytes. Most faults are in the headers.
fn mutated(sound: &[Frame], number: u32, random: &mut Random) -> Vec<u8> {
    let mut data = Vec::new();
    let label = Label {
        flow: u32::MAX,
        sequence: number,
    };
    payload::write(label, &(payload::SHORTEST..=400), &mut data);
    let frame = &sound[random.below(sound.len())];
    let mut bytes = frame.bytes(&data);
    for _ in 0..random.below(5) {
        let headers = frame.udp() + 8;
        let place = random.below(headers).min(bytes.len() - 1);
        match random.below(8) {
            0..3 => bytes[place] = random.below(256) as u8,
            3..6 => bytes[place] ^= 1 << random.below(8),
            6 => bytes.truncate(place.max(14)),
            _ => bytes.resize(bytes.len() + random.below(100), 0xaa),
        }
    }
    bytes
}

/// `xorshift64*`: the same frames on every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32;
        high as usize % limit
    }
}
