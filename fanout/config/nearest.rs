//! Which known word a mistyped one may have been meant for.

/// The candidate closest to `word`, if one is close: two slips at most, and fewer than half its
/// letters. A slip is a letter too many, too few, wrong, or swapped with its neighbour.
pub(super) fn nearest<T>(
    word: &str,
    candidates: impl Iterator<Item = (&'static str, T)>,
) -> Option<T> {
    let word: Vec<char> = word.to_lowercase().chars().take(64).collect();
    candidates
        .map(|(candidate, value)| {
            let letters: Vec<char> = candidate.chars().collect();
            (distance(&word, &letters), letters.len(), value)
        })
        .filter(|&(slips, letters, _)| slips <= 2 && 2 * slips < letters)
        .min_by_key(|&(slips, ..)| slips)
        .map(|(.., value)| value)
}

/// Edit distance where a swap of neighbours counts one (optimal string alignment).
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before_last = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 0..a.len() {
        let mut row = vec![i + 1; b.len() + 1];
        for j in 0..b.len() {
            let wrong = last[j] + usize::from(a[i] != b[j]);
            row[j + 1] = wrong.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && a[i] == b[j - 1] && a[i - 1] == b[j] {
                row[j + 1] = row[j + 1].min(before_last[j - 1] + 1);
            }
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_slips() {
        let slips = |a: &str, b: &str| {
            let [a, b] = [a, b].map(|word| word.chars().collect::<Vec<_>>());
            distance(&a, &b)
        };
        assert_eq!(slips("bind", "bind"), 0);
        assert_eq!(slips("bnid", "bind"), 1);
        assert_eq!(slips("binds", "bind"), 1);
        assert_eq!(slips("bin", "bind"), 1);
        assert_eq!(slips("band", "bind"), 1);
        assert_eq!(slips("", "bind"), 4);
        assert_eq!(slips("bind", ""), 4);
        assert_eq!(slips("listner", "interface"), 7);
    }

    #[test]
    fn names_the_nearest_only_if_it_is_near() {
        let guess = |word: &str| {
            nearest(
                word,
                ["bind", "mode", "max_packet_size"]
                    .map(|key| (key, key))
                    .into_iter(),
            )
        };
        assert_eq!(guess("Mode"), Some("mode"));
        assert_eq!(guess("max-packet-size"), Some("max_packet_size"));
        assert_eq!(guess("weight"), None);
        assert_eq!(guess("node"), Some("mode"));
        assert_eq!(guess("nods"), None);
    }
}
