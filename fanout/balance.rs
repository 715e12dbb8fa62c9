//! Policies: which of a listener's usable downstreams is next.
//!
//! Weights are spread over a row of turns beforehand ([`schedule`]), so that whoever forwards, in user
//! space or in the kernel, only takes one turn after the other, or the one at a sender's place.

use std::net::SocketAddr;

use fanout_ebpf::{
    abi::{self, MAX_SLOTS, Policy},
    sender,
};

/// What a policy makes of downstreams with these weights and addresses: indices of them, for as many turns or
/// places as it has. One of weight 0 is never among them.
#[must_use]
pub fn schedule(policy: Policy, downstreams: &[(u8, SocketAddr)]) -> Vec<u16> {
    let weights: Vec<_> = downstreams.iter().map(|&(weight, _)| weight).collect();
    match policy {
        Policy::RoundRobin => turns(&weights),
        Policy::SourceHash => places(downstreams),
        Policy::Replicate => (0..)
            .zip(weights)
            .filter_map(|(index, weight)| (weight > 0).then_some(index))
            .collect(),
    }
}

/// For each sender's place, whose it is: weighted rendezvous hashing (Thaler and Ravishankar, 1998). At each place
/// every downstream draws a number that depends on the two alone, exponentially distributed by its weight, and
/// the least one wins. So one that goes leaves only its own places to others, and one that comes takes its share
/// from all of them.
fn places(downstreams: &[(u8, SocketAddr)]) -> Vec<u16> {
    let seeds: Vec<_> = (0..)
        .zip(downstreams)
        .filter(|(_, (weight, _))| *weight > 0)
        .map(|(index, (weight, address))| (index, f64::from(*weight), seed(address)))
        .collect();
    let place = |place| {
        let draws = seeds.iter().map(|&(index, weight, seed)| {
            let bits = sender::mix(seed ^ sender::mix(place));
            #[expect(clippy::cast_precision_loss, reason = "53 bits, as a float has")]
            let uniform = ((bits >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
            (-uniform.ln() / weight, index)
        });
        let least = draws.min_by(|(one, _), (other, _)| one.total_cmp(other));
        least.map(|(_, index)| index)
    };
    (0..sender::PLACES.into()).map_while(place).collect()
}

/// The same in each process: after a restart each sender is where it was.
fn seed(address: &SocketAddr) -> u64 {
    let bits = u128::from_be_bytes(abi::mapped(address.ip()));
    #[expect(clippy::cast_possible_truncation, reason = "both halves, one by one")]
    let [high, low] = [(bits >> 64) as u64, bits as u64];
    sender::mix(sender::mix(sender::mix(high) ^ low) ^ u64::from(address.port()))
}

/// One cycle of a weighted round robin: index after index of `weights`, each as often as its weight
/// says (divided by what all have in common) and as evenly spread as can be. Equal weights: one turn
/// each, in order.
///
/// The k-th of w turns is due at (k + ½) / w of the cycle: stride scheduling (Waldspurger and Weihl,
/// 1995).
fn turns(weights: &[u8]) -> Vec<u16> {
    let common = weights
        .iter()
        .fold(0, |common, &weight| gcd(common, weight));
    let mut due: Vec<_> = (0..)
        .zip(weights)
        .flat_map(|(index, &weight)| {
            // Without common there is no weight but 0, and no turn.
            let weight = u32::from(weight.checked_div(common).unwrap_or_default());
            (0..weight).map(move |turn| (2 * turn + 1, weight, index))
        })
        .collect();
    // a / b before c / d, if a * d is less than c * b; at once: in the order of `weights`.
    due.sort_by(|&(a, b, _), &(c, d, _)| (a * d).cmp(&(c * b)));
    due.into_iter().map(|(_, _, index)| index).collect()
}

fn gcd(a: u8, b: u8) -> u8 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// One worker's place in the turn of each listener.
#[derive(Clone, Copy, Debug)]
pub struct Cursors([usize; MAX_SLOTS]);

impl Default for Cursors {
    fn default() -> Self {
        Self([0; MAX_SLOTS])
    }
}

impl Cursors {
    /// Round robin: the next of `choices` for the listener in this slot. `None` if there is none.
    /// While the choices stay the same, the counts of any two differ by at most one.
    #[inline]
    pub fn next<'t, T>(&mut self, slot: usize, choices: &'t [T]) -> Option<&'t T> {
        let cursor = self.0.get_mut(slot)?;
        // Out of range after the last one, and after the choices became fewer.
        let choice = choices.get(*cursor).or_else(|| {
            *cursor = 0;
            choices.first()
        })?;
        *cursor += 1;
        Some(choice)
    }
}

/// Who is at a sender's place.
#[inline]
pub fn at<T>(place: u32, choices: &[T]) -> Option<&T> {
    choices.get(place as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cycle_has_each_as_often_as_its_weight() {
        for weights in [&[1, 2, 7][..], &[255, 1], &[3, 3, 3], &[2, 4], &[254, 255]] {
            let common = weights.iter().copied().fold(0, gcd);
            let turns = turns(weights);
            for (index, weight) in (0..).zip(weights) {
                let count = turns.iter().filter(|&&turn| turn == index).count();
                assert_eq!(
                    count,
                    usize::from(weight / common),
                    "{weights:?}: {turns:?}"
                );
            }
        }
    }

    #[test]
    fn a_cycle_is_spread_evenly() {
        assert_eq!(turns(&[1, 1, 1]), [0, 1, 2]);
        assert_eq!(turns(&[5, 5]), [0, 1]);
        assert_eq!(turns(&[4, 2]), [0, 1, 0]);
        assert_eq!(turns(&[1, 2, 7]), [2, 2, 1, 2, 0, 2, 2, 1, 2, 2]);
        assert_eq!(turns(&[0, 0]), [0u16; 0]);
        assert_eq!(turns(&[0, 3]), [1]);
        assert_eq!(turns(&[]), [0u16; 0]);
    }

    /// At no point has any downstream had more than one turn too many or too few.
    #[test]
    fn shares_hold_within_a_cycle() {
        let weights = [1, 3, 17, 255, 40, 2];
        let total = weights.iter().map(|&weight| f64::from(weight)).sum::<f64>();
        let mut had = [0.0; 6];
        for (turn, index) in (1u32..).zip(turns(&weights)) {
            had[usize::from(index)] += 1.0;
            for (&had, weight) in had.iter().zip(weights) {
                let due = f64::from(turn) * f64::from(weight) / total;
                assert!((had - due).abs() < 1.5, "turn {turn}: {had} of {due}");
            }
        }
    }

    fn members(weights: &[u8]) -> Vec<(u8, SocketAddr)> {
        let member = |(host, &weight)| (weight, SocketAddr::from(([10, 0, 0, host], 514)));
        (1..).zip(weights).map(member).collect()
    }

    /// The address that each of 100,000 senders sticks to.
    fn senders(members: &[(u8, SocketAddr)]) -> Vec<SocketAddr> {
        let places = schedule(Policy::SourceHash, members);
        let sender = |n: u32| {
            let place = sender::place_v4((0x0a80_0000 + n).to_be_bytes());
            members[usize::from(*at(place, &places).unwrap())].1
        };
        (0..100_000).map(sender).collect()
    }

    /// What part of the senders moves from one to the other, in percent; none moves between those in both.
    fn moved(before: &[(u8, SocketAddr)], after: &[(u8, SocketAddr)]) -> f64 {
        let (was, is) = (senders(before), senders(after));
        let both = |to: &SocketAddr| {
            [before, after]
                .iter()
                .all(|members| members.iter().any(|(_, of)| of == to))
        };
        let pairs = was.iter().zip(&is).filter(|(was, is)| was != is);
        let moved: Vec<_> = pairs.collect();
        assert!(!moved.iter().any(|(was, is)| both(was) && both(is)));
        f64::from(u32::try_from(moved.len()).unwrap()) / 1000.0
    }

    #[test]
    fn a_downstream_that_goes_or_comes_moves_its_share_of_the_senders() {
        for n in [3, 10, 50] {
            let all = members(&vec![1; n + 1]);
            let removed = moved(&all[..n], &all[1..n]);
            let added = moved(&all[..n], &all);
            let n = f64::from(u32::try_from(n).unwrap());
            let (fair_removed, fair_added) = (100.0 / n, 100.0 / (n + 1.0));
            println!(
                "{n} downstreams, 100000 senders: one removed moves {removed:.1} % (fair: {fair_removed:.1} %), \
                 one added {added:.1} % (fair: {fair_added:.1} %)"
            );
            assert!(
                (removed / fair_removed - 1.0).abs() < 0.4,
                "{removed} of {fair_removed}"
            );
            assert!(
                (added / fair_added - 1.0).abs() < 0.4,
                "{added} of {fair_added}"
            );
        }
    }

    #[test]
    fn senders_are_shared_by_weight() {
        let members = members(&[1, 3, 0, 4]);
        let senders = senders(&members);
        for (&(weight, address), host) in members.iter().zip(0..) {
            let count = senders.iter().filter(|&&to| to == address).count();
            let share = f64::from(u32::try_from(count).unwrap()) / 1e5;
            let fair = f64::from(weight) / 8.0;
            println!("weight {weight}: {share:.3} of the senders");
            assert!((share - fair).abs() < 0.03, "{host}: {share}, not {fair}");
        }
    }

    #[test]
    fn a_copy_goes_to_each_that_has_a_weight() {
        assert_eq!(schedule(Policy::Replicate, &members(&[1, 0, 7])), [0, 2]);
        assert_eq!(schedule(Policy::SourceHash, &members(&[0])), [0; 0]);
        assert_eq!(schedule(Policy::SourceHash, &[]), [0; 0]);
    }

    #[test]
    fn each_comes_in_turn() {
        let mut cursors = Cursors::default();
        let taken: Vec<_> = (0..7)
            .filter_map(|_| cursors.next(0, &['a', 'b', 'c']))
            .collect();
        assert_eq!(taken, [&'a', &'b', &'c', &'a', &'b', &'c', &'a']);
    }

    #[test]
    fn listeners_have_turns_of_their_own() {
        let mut cursors = Cursors::default();
        assert_eq!(cursors.next(0, &['a', 'b']), Some(&'a'));
        assert_eq!(cursors.next(127, &['a', 'b']), Some(&'a'));
        assert_eq!(cursors.next(0, &['a', 'b']), Some(&'b'));
        assert_eq!(cursors.next(128, &['a', 'b']), None);
    }

    #[test]
    fn fewer_choices_or_none_are_no_trouble() {
        let mut cursors = Cursors::default();
        for _ in 0..3 {
            cursors.next(0, &['a', 'b', 'c']);
        }
        assert_eq!(cursors.next(0, &['a']), Some(&'a'));
        assert_eq!(cursors.next::<char>(0, &[]), None);
        assert_eq!(cursors.next(0, &['a', 'b']), Some(&'a'));
        assert_eq!(cursors.next(0, &['a', 'b']), Some(&'b'));
    }

    /// Wherever the turn stood before, while the choices stay the same.
    #[test]
    fn counts_differ_by_at_most_one() {
        let choices: Vec<usize> = (0..9).collect();
        let mut cursors = Cursors::default();
        for before in 0..=choices.len() {
            for now in 1..=choices.len() {
                for turns in 0..before {
                    cursors.next(0, &choices[..before - turns / 2]);
                }
                let mut taken = vec![0; now];
                for _ in 0..=3 * now {
                    taken[*cursors.next(0, &choices[..now]).unwrap()] += 1;
                    let (least, most) = (taken.iter().min(), taken.iter().max());
                    assert!(
                        most.unwrap() - least.unwrap() <= 1,
                        "{before} → {now}: {taken:?}"
                    );
                }
            }
        }
    }
}
