//! Policies: which of a listener's usable downstreams is next.

use fanout_ebpf::abi::MAX_LISTENERS;

/// One worker's place in the turn of each listener.
#[derive(Clone, Copy, Debug)]
pub struct Cursors([usize; MAX_LISTENERS]);

impl Default for Cursors {
    fn default() -> Self {
        Self([0; MAX_LISTENERS])
    }
}

impl Cursors {
    /// Round robin: the next of `choices` for the listener with this index. `None` if there is none.
    /// While the choices stay the same, the counts of any two differ by at most one.
    #[inline]
    pub fn next<'t, T>(&mut self, listener: usize, choices: &'t [T]) -> Option<&'t T> {
        let cursor = self.0.get_mut(listener)?;
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
        assert_eq!(cursors.next(63, &['a', 'b']), Some(&'a'));
        assert_eq!(cursors.next(0, &['a', 'b']), Some(&'b'));
        assert_eq!(cursors.next(64, &['a', 'b']), None);
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
