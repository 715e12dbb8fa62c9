//! What was counted for listeners and downstreams that are no more. Their series stay as long as the process
//! runs, so that sums never go backwards, and go on where one of the same name comes back.

use std::collections::BTreeMap;

use fanout_ebpf::abi::PassReason;

use super::{
    DropReason,
    snapshot::{DownstreamSample, ListenerSample, Totals},
};

/// By the listeners' names.
#[derive(Debug, Default)]
pub struct Past(BTreeMap<String, Listener>);

#[derive(Debug, Default)]
struct Listener {
    received: BTreeMap<u32, Totals>,
    dropped: [u64; DropReason::COUNT],
    passed: [u64; PassReason::COUNT],
    forwarded: BTreeMap<String, Totals>,
}

impl Past {
    /// Keeps the last counts of a listener.
    pub fn keep(&mut self, sample: &ListenerSample<'_>) {
        let listener = self.0.entry(sample.name.to_owned()).or_default();
        for &(queue, totals) in &sample.received {
            listener.received.entry(queue).or_default().add(totals);
        }
        add(&mut listener.dropped, sample.dropped);
        add(&mut listener.passed, sample.passed);
        for downstream in &sample.downstreams {
            self.keep_downstream(sample.name, downstream.name, downstream.forwarded);
        }
    }

    /// Keeps the last count of one of a listener's downstreams.
    pub fn keep_downstream(&mut self, listener: &str, name: &str, forwarded: Totals) {
        let listener = self.0.entry(listener.to_owned()).or_default();
        let kept = listener.forwarded.entry(name.to_owned()).or_default();
        kept.add(forwarded);
    }

    /// Adds what was kept to the counts of those that are there, and those that are not.
    pub fn add_to<'a>(&'a self, samples: &mut Vec<ListenerSample<'a>>) {
        for (name, past) in &self.0 {
            if !samples.iter().any(|sample| sample.name == name) {
                samples.push(ListenerSample::gone(name));
            }
            let there = samples.iter_mut().find(|sample| sample.name == name);
            if let Some(sample) = there {
                past.add_to(sample);
            }
        }
    }
}

impl Listener {
    fn add_to<'a>(&'a self, sample: &mut ListenerSample<'a>) {
        for (&queue, &totals) in &self.received {
            match sample.received.iter_mut().find(|(of, _)| *of == queue) {
                Some((_, there)) => there.add(totals),
                None => sample.received.push((queue, totals)),
            }
        }
        add(&mut sample.dropped, self.dropped);
        add(&mut sample.passed, self.passed);
        for (name, &forwarded) in &self.forwarded {
            let mut there = sample.downstreams.iter_mut();
            match there.find(|downstream| downstream.name == name) {
                Some(downstream) => downstream.forwarded.add(forwarded),
                None => sample
                    .downstreams
                    .push(DownstreamSample { name, forwarded }),
            }
        }
    }
}

fn add<const N: usize>(totals: &mut [u64; N], more: [u64; N]) {
    for (total, count) in totals.iter_mut().zip(more) {
        *total += count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn totals(packets: u64) -> Totals {
        Totals {
            packets,
            bytes: 100 * packets,
        }
    }

    fn sample(queue: u32, packets: u64, downstream: &str) -> ListenerSample<'_> {
        let mut sample = ListenerSample::gone("a");
        sample.received = vec![(queue, totals(packets))];
        sample.dropped[0] = 1;
        sample.passed[1] = 2;
        sample.downstreams = vec![DownstreamSample {
            name: downstream,
            forwarded: totals(packets - 1),
        }];
        sample
    }

    #[test]
    fn counts_go_on_where_a_name_comes_back() {
        let mut past = Past::default();
        past.keep(&sample(0, 10, "x"));
        past.keep(&sample(1, 20, "y"));
        let mut now = vec![sample(1, 5, "y")];
        past.add_to(&mut now);
        let [now] = &now[..] else { panic!("{now:?}") };
        assert_eq!(now.received, [(1, totals(25)), (0, totals(10))]);
        assert_eq!((now.dropped[0], now.passed[1]), (3, 6));
        let forwarded = now.downstreams.iter().map(|d| (d.name, d.forwarded));
        let expected = [("y", totals(23)), ("x", totals(9))];
        assert_eq!(forwarded.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn who_does_not_come_back_still_shows() {
        let mut past = Past::default();
        past.keep(&sample(0, 10, "x"));
        let mut now = Vec::new();
        past.add_to(&mut now);
        assert_eq!(now.len(), 1);
        assert!(!now[0].is_served);
        assert_eq!(now[0].received, [(0, totals(10))]);
    }
}
