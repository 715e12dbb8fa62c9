//! What is done for a next hop in each state of its entry, and when.

use super::*;
use crate::link::IfIndex;

const HOP: NextHop = (
    IfIndex(1),
    IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)),
);
const FIRST: [u8; 6] = [2, 0, 0, 0, 0, 1];
const SECOND: [u8; 6] = [2, 0, 0, 0, 0, 2];

fn entry(state: NeighbourState, mac: Option<[u8; 6]>) -> Entry {
    let mut message = message(HOP);
    message.header.state = state;
    message
        .attributes
        .extend(mac.map(|mac| NeighbourAttribute::LinkLayerAddress(mac.to_vec())));
    Entry::from(message)
}

fn watched(entry: Option<Entry>) -> Watched {
    let mut watched = Watched::new(entry);
    watched.note(entry);
    watched
}

#[test]
fn each_state_has_its_next_step() {
    use NeighbourState::{
        Delay, Failed, Incomplete, Noarp, None, Permanent, Probe, Reachable, Stale,
    };
    let cases = [
        (Incomplete, Option::None),
        (Reachable, Some((VERIFY, Step::Verify))),
        (Stale, Some((VERIFY, Step::Verify))),
        (Delay, Some((VERIFY, Step::Verify))),
        (Probe, Some((ANSWER, Step::Renew))),
        (Failed, Some((RETRY, Step::Ask))),
        (None, Some((RETRY, Step::Ask))),
        (Permanent, Option::None),
        (Noarp, Option::None),
    ];
    for (state, expected) in cases {
        let mut watched = watched(Some(entry(state, Some(FIRST))));
        watched.since = Some(Instant::now());
        assert_eq!(watched.next_step(VERIFY), expected, "{state}");
    }
}

#[test]
fn a_new_next_hop_is_asked_for_at_once_unless_somebody_set_it() {
    let at_once = Some((Duration::ZERO, Step::Ask));
    let stale = entry(NeighbourState::Stale, Some(FIRST));
    assert_eq!(watched(Some(stale)).next_step(VERIFY), at_once);
    let waiting = entry(NeighbourState::Incomplete, None);
    assert_eq!(watched(Some(waiting)).next_step(VERIFY), at_once);
    let unknown = watched(None);
    assert!(unknown.next_step(VERIFY).is_some() && unknown.since.is_none());

    let mut message = message(HOP);
    message.header.state = NeighbourState::Stale;
    message.header.flags = NeighbourFlags::ExtLearned;
    assert_eq!(watched(Some(message.into())).next_step(VERIFY), None);
}

#[test]
fn the_mac_address_holds_until_nobody_answers() {
    let mut watched = watched(None);
    assert_eq!(watched.mac, None);
    let news = [
        (Some(entry(NeighbourState::Incomplete, None)), None),
        (
            Some(entry(NeighbourState::Reachable, Some(FIRST))),
            Some(FIRST),
        ),
        (Some(entry(NeighbourState::Probe, Some(FIRST))), Some(FIRST)),
        (Some(entry(NeighbourState::None, None)), Some(FIRST)),
        (Some(entry(NeighbourState::Incomplete, None)), Some(FIRST)),
        (
            Some(entry(NeighbourState::Reachable, Some(SECOND))),
            Some(SECOND),
        ),
        (Some(entry(NeighbourState::Failed, None)), None),
        (Some(entry(NeighbourState::Incomplete, None)), None),
        (
            Some(entry(NeighbourState::Stale, Some(SECOND))),
            Some(SECOND),
        ),
        (None, None),
    ];
    for (entry, expected) in news {
        let differs = watched.mac != expected;
        assert_eq!(watched.note(entry), differs, "{entry:?}");
        assert_eq!(watched.mac, expected, "{entry:?}");
    }
}

/// The kernel tells of an address that it no longer believes in.
#[test]
fn the_mac_address_of_an_entry_that_failed_does_not_count() {
    let failed = entry(NeighbourState::Failed, Some(FIRST));
    assert_eq!(watched(Some(failed)).mac, None);
}

#[test]
fn an_entry_that_somebody_else_has_managed_is_not_ours_to_give_back() {
    let managed = |protocol| {
        let mut message = message(HOP);
        message.header.state = NeighbourState::Reachable;
        message.attributes.extend([
            NeighbourAttribute::ExtFlags(NeighbourExtFlags::Managed),
            NeighbourAttribute::Protocol(RouteProtocol::Other(protocol)),
        ]);
        Watched::new(Some(message.into())).ours
    };
    assert!(!managed(0));
    assert!(managed(OURS), "left by an instance that was killed");
    assert!(Watched::new(Some(entry(NeighbourState::Stale, Some(FIRST)))).ours);
    assert!(Watched::new(None).ours);
}

#[test]
fn only_ours_are_given_back_and_none_that_is_used_again() {
    let mut watch = Watch::default();
    let entries = HashMap::from([(HOP, entry(NeighbourState::Stale, Some(FIRST)))]);
    watch.replace([HOP].into_iter(), &entries);
    assert_eq!(watch.mac(HOP), Some(FIRST));
    watch.replace(std::iter::empty(), &entries);
    assert_eq!((watch.mac(HOP), &watch.unused[..]), (None, &[HOP][..]));
    watch.replace([HOP].into_iter(), &entries);
    assert_eq!(watch.unused, []);

    let mut message = message(HOP);
    message.header.state = NeighbourState::Stale;
    let flags = NeighbourAttribute::ExtFlags(NeighbourExtFlags::Managed);
    message.attributes.push(flags);
    let mut watch = Watch::default();
    let entries = HashMap::from([(HOP, message.into())]);
    watch.replace([HOP].into_iter(), &entries);
    watch.replace(std::iter::empty(), &entries);
    assert_eq!(watch.unused, []);
}
