//! Policies: which of a listener's usable downstreams is next.
//!
//! Weights are spread over a cycle of turns beforehand ([`turns`]), so that whoever forwards, in user
//! space or in the kernel, only takes one turn after the other.

use fanout_ebpf::abi::MAX_SLOTS;

/// One cycle of a weighted round robin: index after index of `weights`, each as often as its weight
/// says (divided by what all have in common) and as evenly spread as can be. Equal weights: one turn
/// each, in order.
///
/// The k-th of w turns is due at (k + ½) / w of the cycle: stride scheduling (Waldspurger and Weihl,
/// 1995).
#[must_use]
pub fn turns(weights: &[u8]) -> Vec<u16> {
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
