//! The ground that the other tests stand on: the same networks and traffic with the kernel's own
//! stateless DNAT in fanout's place. If these fail, the machine is at fault, not fanout.

use crate::{
    common::{
        delivery, nftables,
        sender::Traffic,
        topology::{self, Family, Shape, Topology},
    },
    harness::{self, Suite},
};

pub fn register(suite: &mut Suite) {
    suite.test_with("ground::same_interface", &["nft", "ethtool"], || {
        loses_nothing(&topology::same_interface(Shape::default()));
    });
    suite.test_with("ground::other_interface", &["nft"], || {
        loses_nothing(&topology::other_interface(Shape::default()));
    });
    suite.test_with("ground::k3s", &["nft"], || {
        loses_nothing(&topology::k3s(Shape::default()));
    });
    suite.test_with("ground::notices_a_loss", &["nft"], notices_a_loss);
    suite.test_with("ground::notices_a_change", &["nft"], notices_a_change);
}

fn loses_nothing(network: &Topology) {
    for family in [Family::V4, Family::V6] {
        nftables::spread(network, family, None);
        let traffic = Traffic::new(network.target(family), harness::count(20_000, 1_000_000));
        let delivery = delivery::of(network, family, &traffic);
        delivery.assert_perfect();
    }
}

/// The bookkeeping must be able to fail.
fn notices_a_loss() {
    let network = topology::k3s(Shape::default());
    nftables::spread(&network, Family::V4, Some("numgen inc mod 1000 == 7 drop"));
    let traffic = Traffic::new(network.target(Family::V4), 5_000);
    let delivery = delivery::of(&network, Family::V4, &traffic);
    assert_eq!(delivery.lost(), 5);
}

fn notices_a_change() {
    let network = topology::k3s(Shape::default());
    nftables::spread(&network, Family::V4, Some("@th,128,8 set 0xff"));
    let traffic = Traffic::new(network.target(Family::V4), 300);
    let delivery = delivery::of(&network, Family::V4, &traffic);
    let corrupt: u64 = delivery.received.iter().map(|r| r.corrupt).sum();
    assert_eq!(corrupt, 300, "{delivery}");
}
