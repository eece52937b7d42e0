//! Every order of the steps of two inserts and a reader, and all that the memory orderings allow.

use super::*;
use crate::sync::{Arc, check, start};

/// The first sequences whose entries have so many levels.
fn with_height(height: usize) -> impl Iterator<Item = Sequence> {
    (1..).filter(move |sequence| height_of(*sequence) == height)
}

fn put(list: &SkipList, key: &'static [u8], sequence: Sequence) {
    list.insert(key, Stamp { timestamp: 1, sequence, late: false }, Some(key), None, Bytes::copy_from_slice);
}

/// What is met along the lowest level; all of it is whole, and in order.
fn keys(list: &SkipList) -> Vec<&[u8]> {
    let keys: Vec<_> = std::iter::successors(list.first(), |entry| entry.next())
        .map(|entry| {
            assert_eq!(entry.value().unwrap().bytes, entry.key());
            entry.key()
        })
        .collect();
    assert!(keys.is_sorted());
    keys
}

// V1: what was inserted before a reader is told of it is found, on all levels, whatever is inserted beside it.
#[test]
fn loom_a_reader_meets_whole_entries_in_order_while_two_insert() {
    check(3, || {
        let list = Arc::new(SkipList::new());
        let mut tall = with_height(2);
        let sequences = [tall.next().unwrap(), tall.next().unwrap()];
        put(&list, b"c", tall.next().unwrap());
        let writers = [(&b"b"[..], sequences[0]), (&b"a"[..], sequences[1])].map(|(key, sequence)| {
            let list = Arc::clone(&list);
            start(move || put(&list, key, sequence))
        });
        // A search comes down from the upper level through what is being linked.
        let entry = list.first_from(Place::before(b"c")).unwrap();
        assert_eq!((entry.key(), entry.value().unwrap().bytes), (&b"c"[..], &b"c"[..]));
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        assert_eq!(keys(&list), [b"a", b"b", b"c"]);
    });
}

#[test]
fn loom_a_walk_meets_whole_entries_while_one_inserts() {
    check(3, || {
        let list = Arc::new(SkipList::new());
        let mut tall = with_height(2);
        let sequences = [tall.next().unwrap(), tall.next().unwrap()];
        put(&list, b"c", tall.next().unwrap());
        let writer = {
            let list = Arc::clone(&list);
            start(move || {
                put(&list, b"b", sequences[0]);
                put(&list, b"a", sequences[1]);
            })
        };
        let seen = keys(&list);
        assert_eq!(seen.last(), Some(&&b"c"[..]));
        assert!(keys(&list).len() >= seen.len());
        writer.join().unwrap();
        assert_eq!(keys(&list), [b"a", b"b", b"c"]);
    });
}

// Who finds a landmark finds all that it leads to, however lately it came.
#[test]
fn loom_a_search_from_a_landmark_meets_what_is_whole() {
    check(3, || {
        let list = Arc::new(SkipList::new());
        let mut tall = with_height(2);
        put(&list, b"a", tall.next().unwrap());
        put(&list, b"z", tall.next().unwrap());
        // What partial keys are to be, and then that there are to be landmarks.
        (0..2).for_each(|_| list.learn());
        assert!(list.landmarks.get().is_some());
        let sequence = tall.next().unwrap();
        let writer = {
            let list = Arc::clone(&list);
            start(move || put(&list, b"x", sequence))
        };
        let entry = list.first_from(Place::before(b"y")).unwrap();
        assert_eq!((entry.key(), entry.value().unwrap().bytes), (&b"z"[..], &b"z"[..]));
        writer.join().unwrap();
        assert_eq!(keys(&list), [b"a", b"x", b"z"]);
    });
}

#[test]
fn loom_two_inserts_of_neighbours_lose_neither() {
    for heights in [(1, 1), (1, 2), (2, 2)] {
        check(3, move || {
            let list = Arc::new(SkipList::new());
            let (first, second) = (with_height(heights.0).next().unwrap(), with_height(heights.1).nth(1).unwrap());
            put(&list, b"a", with_height(2).nth(2).unwrap());
            let other = {
                let list = Arc::clone(&list);
                start(move || put(&list, b"b", first))
            };
            put(&list, b"c", second);
            other.join().unwrap();
            assert_eq!(keys(&list), [b"a", b"b", b"c"]);
            for level in 0..2 {
                let expected = [2, heights.0, heights.1].iter().filter(|height| **height > level).count();
                let mut found = 0;
                // SAFETY: what is reached on a level has it.
                let mut next = Next::of_link(unsafe { list.link(Next::NONE, level) }.load(Ordering::Acquire));
                while let Some(entry) = list.raw(next) {
                    found += 1;
                    next = Next::of_link(unsafe { entry.link(level) }.load(Ordering::Acquire));
                }
                assert_eq!(found, expected);
            }
        });
    }
}

#[test]
fn loom_pieces_are_apart_while_two_change_the_chunk() {
    check(4, || {
        let arena = Arc::new(Arena::new());
        let take = |arena: &Arena| [600, 600].map(|bytes| (arena.allocate(bytes).addr().get(), bytes));
        let other = {
            let arena = Arc::clone(&arena);
            let (tell, told) = std::sync::mpsc::channel();
            let thread = start(move || tell.send(take(&arena)).unwrap());
            (thread, told)
        };
        let mut pieces = take(&arena).to_vec();
        other.0.join().unwrap();
        pieces.extend(other.1.recv().unwrap());
        pieces.sort_unstable();
        assert!(pieces.windows(2).all(|pair| pair[0].0 + pair[0].1 <= pair[1].0));
        assert!(arena.bytes() >= 2400);
    });
}
