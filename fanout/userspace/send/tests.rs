//! What goes in one message.

use super::*;

/// The groups that datagrams of these sizes make.
fn groups(sizes: &[usize], largest_segment: usize) -> Vec<usize> {
    let bytes = vec![0; 1 << 16];
    let datagram = |&size: &usize| Datagram {
        payload: &bytes[..size],
        ..Datagram::default()
    };
    let datagrams: Vec<_> = sizes.iter().map(datagram).collect();
    let mut rest = &datagrams[..];
    let mut groups = Vec::new();
    while !rest.is_empty() {
        groups.push(first_group(rest, largest_segment));
        rest = &rest[groups[groups.len() - 1]..];
    }
    groups
}

#[test]
fn of_one_size_and_a_shorter_last() {
    let any = datagram::LARGEST;
    assert_eq!(groups(&[], any), [0usize; 0]);
    assert_eq!(groups(&[5], any), [1]);
    assert_eq!(groups(&[5, 5, 5], any), [3]);
    assert_eq!(groups(&[5, 5, 3, 5, 5], any), [3, 2]);
    assert_eq!(groups(&[5, 6, 6, 6, 1], any), [1, 4]);
    assert_eq!(groups(&[3, 2, 2, 1], any), [2, 2]);
}

/// One without payload can't be cut off anything.
#[test]
fn an_empty_one_is_alone() {
    let any = datagram::LARGEST;
    assert_eq!(groups(&[0, 0, 5, 0, 5, 5], any), [1, 1, 1, 1, 2]);
}

#[test]
fn no_more_than_the_kernel_cuts() {
    let any = datagram::LARGEST;
    assert_eq!(groups(&[5; 150], any), [64, 64, 22]);
    assert_eq!(groups(&[40_000; 3], any), [1, 1, 1]);
    let sizes = [21_829; 4];
    assert_eq!(groups(&sizes, any), [3, 1]);
    assert!(sizes[..3].iter().sum::<usize>() <= SEGMENTED);
}

#[test]
fn none_that_the_way_refuses() {
    assert_eq!(groups(&[5, 5, 9, 9, 4, 4], 8), [2, 1, 1, 2]);
    assert_eq!(groups(&[5, 5], 0), [1, 1]);
}
