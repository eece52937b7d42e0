use std::collections::BTreeMap;
use std::sync::atomic::AtomicUsize as Count;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::sync::Arc;

const SOME: usize = if cfg!(miri) { 60 } else { 2000 };

type Order = (Vec<u8>, cmp::Reverse<(Timestamp, Sequence)>);
/// Whether it is late, its value, its expiry.
type Content = (bool, Option<Vec<u8>>, Option<Timestamp>);

fn order(key: &[u8], stamp: Stamp) -> Order {
    (key.to_vec(), cmp::Reverse((stamp.timestamp, stamp.sequence)))
}

fn content(list: &SkipList) -> Vec<(Order, Content)> {
    std::iter::successors(list.first(), |entry| entry.next())
        .map(|entry| {
            let value = entry.value().map(|value| value.bytes.to_vec());
            (order(entry.key(), entry.stamp()), (entry.stamp().late, value, entry.expires_at()))
        })
        .collect()
}

fn put(list: &SkipList, key: &[u8], timestamp: Timestamp, sequence: Sequence) {
    let stamp = Stamp { timestamp, sequence, late: false };
    list.insert(key, stamp, Some(key), None, Bytes::copy_from_slice);
}

/// Short keys, keys that differ behind their first 8 bytes only, and keys with zeros where shorter ones end.
fn some_key(rng: &mut StdRng) -> Vec<u8> {
    let len = rng.random_range(0..5);
    let mut key = if rng.random_bool(0.5) { b"prefix.".to_vec() } else { Vec::new() };
    key.extend((0..len).map(|_| *[0, b'a', 0xff].get(rng.random_range(0..3usize)).unwrap()));
    key
}

// S1, S2
#[test]
fn a_list_is_a_sorted_map_wherever_the_finger_is() {
    for seed in 0..if cfg!(miri) { 4 } else { 60 } {
        println!("seed {seed}");
        let rng = &mut StdRng::seed_from_u64(seed);
        // Two lists in turn: a thread has one finger.
        let lists = [SkipList::new(), SkipList::new()];
        let mut models = [BTreeMap::new(), BTreeMap::new()];
        let mut rising = 0u32;
        for sequence in 1..=SOME as u64 / 4 {
            let which = usize::from(rng.random_bool(if seed % 2 == 0 { 0.02 } else { 0.5 }));
            let key = match seed % 4 {
                0 | 1 => some_key(rng),
                2 => {
                    rising += rng.random_range(1..3);
                    rising.to_be_bytes().to_vec()
                }
                _ => (rng.random_range(0..4) * 1000 + sequence % 50).to_be_bytes().to_vec(),
            };
            let stamp = Stamp { timestamp: rng.random_range(1..20), sequence, late: rng.random_bool(0.3) };
            let lens = [0, 1, 20, LONGEST_INLINE, LONGEST_INLINE + 1, 3000];
            let len = lens[rng.random_range(0..lens.len())];
            let has_value = rng.random_bool(0.8);
            let value = has_value.then(|| vec![rng.random(); len]);
            let expires_at = rng.random_bool(0.2).then(|| rng.random_range(0..100));
            lists[which].insert(&key, stamp, value.as_deref(), expires_at, Bytes::copy_from_slice);
            models[which].insert(order(&key, stamp), (stamp.late, value, expires_at));
        }
        for (list, model) in lists.iter().zip(&models) {
            assert_eq!(content(list), model.clone().into_iter().collect::<Vec<_>>());
            let first_of = |entry: Option<Entry<'_>>| entry.map(|entry| order(entry.key(), entry.stamp()));
            assert_eq!(first_of(list.last()), model.keys().next_back().cloned());
            for _ in 0..SOME / 10 {
                let (key, timestamp, sequence) =
                    (some_key(rng), rng.random_range(0..22), rng.random_range(0..SOME as u64));
                let place = Place::at(&key, timestamp, sequence);
                let at = order(&key, Stamp { timestamp, sequence, late: false });
                use std::ops::Bound::{Excluded, Unbounded};
                let next = model.range(at.clone()..).next().map(|(order, _)| order.clone());
                let after = model.range((Excluded(at.clone()), Unbounded)).next().map(|(order, _)| order.clone());
                let before = model.range(..at.clone()).next_back().map(|(order, _)| order.clone());
                let until = model.range(..=at).next_back().map(|(order, _)| order.clone());
                assert_eq!(first_of(list.first_from(place)), next);
                assert_eq!(first_of(list.first_after(place)), after);
                assert_eq!(first_of(list.last_until(place)), until);
                let around = list.around(place);
                assert_eq!((first_of(around.0), first_of(around.1)), (before, next));
            }
        }
    }
}

#[test]
fn many_threads_insert_and_all_is_there_and_readers_meet_only_what_is_whole() {
    for seed in 0..if cfg!(miri) { 2 } else { 20 } {
        println!("seed {seed}");
        let list = SkipList::new();
        let threads = 4u64;
        std::thread::scope(|scope| {
            for thread in 0..threads {
                let list = &list;
                scope.spawn(move || {
                    let rng = &mut StdRng::seed_from_u64(seed * threads + thread);
                    for i in 0..SOME as u64 {
                        let key = if seed % 2 == 0 { rng.random_range(0..50u64) } else { i * 3 + thread };
                        put(list, &key.to_be_bytes(), rng.random_range(1..9), 1 + i * threads + thread);
                    }
                });
            }
            scope.spawn(|| {
                for _ in 0..20 {
                    let seen = content(&list);
                    assert!(seen.windows(2).all(|pair| pair[0].0 < pair[1].0));
                    assert!(seen.iter().all(|((key, _), (_, value, _))| value.as_ref() == Some(key)));
                }
            });
        });
        let seen = content(&list);
        assert_eq!(seen.len(), SOME * usize::try_from(threads).unwrap());
        assert!(seen.windows(2).all(|pair| pair[0].0 < pair[1].0));
        // Each level is a part of the one below, in order.
        for level in 1..MAX_HEIGHT {
            let along = |level: usize| {
                let mut all = Vec::new();
                // SAFETY: what is reached on a level has it.
                let mut next = Next::of_link(unsafe { list.link(Next::NONE, level) }.load(Ordering::Acquire));
                while let Some(entry) = list.raw(next) {
                    all.push(next);
                    next = Next::of_link(unsafe { entry.link(level) }.load(Ordering::Acquire));
                }
                all
            };
            let (below, all) = (along(level - 1), along(level));
            let mut below = below.iter();
            assert!(all.iter().all(|entry| below.any(|other| other == entry)));
        }
    }
}

#[test]
fn keys_and_values_of_all_lengths_come_back() {
    let list = SkipList::new();
    let lens = [0, 1, 7, 8, 9, 1000, LONGEST_INLINE, LONGEST_INLINE + 1, 65_534, 65_535];
    let mut sequence = 0;
    for key_len in lens {
        for value_len in lens.into_iter().chain(if cfg!(miri) { None } else { Some(20 << 20) }) {
            sequence += 1;
            let (key, value) = (vec![7; key_len], vec![9; value_len]);
            let stamp = Stamp { timestamp: 5, sequence, late: true };
            list.insert(&key, stamp, Some(&value), Some(sequence), Bytes::copy_from_slice);
            let entry = list.first_from(Place::before(&key)).unwrap();
            assert_eq!((entry.key(), entry.stamp(), entry.expires_at()), (&key[..], stamp, Some(sequence)));
            let found = entry.value().unwrap();
            assert!(*found.bytes == value[..] && found.owner.is_some() == (value_len > LONGEST_INLINE));
        }
    }
}

#[test]
fn long_values_are_shared_and_go_with_the_list() {
    struct Owner(Vec<u8>, Arc<Count>);
    impl AsRef<[u8]> for Owner {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }
    impl Drop for Owner {
        fn drop(&mut self) {
            self.1.fetch_add(1, Ordering::Relaxed);
        }
    }
    let (list, dropped) = (SkipList::new(), Arc::new(Count::new(0)));
    let value = vec![1; LONGEST_INLINE + 1];
    for sequence in 1..=20 {
        let owner = Owner(value.clone(), Arc::clone(&dropped));
        let stamp = Stamp { timestamp: 1, sequence, late: false };
        list.insert(b"k", stamp, Some(&value), None, |_| Bytes::from_owner(owner));
    }
    let crate::slice::Owner::Bytes(kept) = list.first().unwrap().value().unwrap().owner.unwrap() else { panic!() };
    let kept = kept.clone();
    assert_eq!(dropped.load(Ordering::Relaxed), 0);
    drop(list);
    assert_eq!((dropped.load(Ordering::Relaxed), &kept[..]), (19, &value[..]));
    drop(kept);
    assert_eq!(dropped.load(Ordering::Relaxed), 20);
}

#[test]
fn a_value_that_cannot_be_shared_leaves_the_list_as_it_was() {
    let list = SkipList::new();
    put(&list, b"k", 1, 1);
    let stamp = Stamp { timestamp: 1, sequence: 2, late: false };
    let value = vec![1; LONGEST_INLINE + 1];
    let insert = || list.insert(b"k", stamp, Some(&value), None, |_| panic!("as planned"));
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(insert)).unwrap_err();
    assert_eq!(content(&list).len(), 1);
    put(&list, b"j", 1, 3);
    assert_eq!(content(&list).len(), 2);
}

// Not so in a memtable, whose sequences are unique; but nothing breaks.
#[test]
fn equal_entries_are_all_kept() {
    let list = SkipList::new();
    for _ in 0..SOME / 20 {
        for sequence in 1..20 {
            put(&list, b"k", 5, sequence);
        }
    }
    let all = content(&list);
    assert_eq!(all.len(), 19 * (SOME / 20));
    assert!(all.windows(2).all(|pair| pair[0].0 <= pair[1].0));
}

#[test]
fn an_entry_that_was_kept_is_found_in_its_own_list_only() {
    let lists = [SkipList::new(), SkipList::new()];
    lists.iter().for_each(|list| put(list, b"k", 1, 1));
    let kept = lists[0].first().unwrap().keep();
    assert_eq!(lists[0].at(kept).unwrap().key(), b"k");
    assert!(lists[1].at(kept).is_none());
}

#[test]
fn a_quarter_of_the_entries_goes_one_level_up() {
    let mut levels = [0u32; MAX_HEIGHT];
    let (power, looked_at) = if cfg!(miri) { (12, 3) } else { (20, 7) };
    (1..=1 << power).for_each(|sequence| (0..height_of(sequence)).for_each(|level| levels[level] += 1));
    for (level, entries) in (0..).zip(levels).take(looked_at) {
        let expected = (1 << power) / 4u32.pow(level);
        assert!(entries.abs_diff(expected) < expected / 8, "level {level}: {levels:?}");
    }
}

#[test]
fn a_search_begins_at_a_landmark_that_is_before_its_goal() {
    let list = SkipList::new();
    let rng = &mut StdRng::seed_from_u64(1);
    let keys: Vec<_> = (0..SOME).map(|_| rng.random::<u64>().to_be_bytes()).collect();
    for (key, sequence) in keys.iter().zip(1..) {
        put(&list, key, 1, sequence);
    }
    let mut from_landmarks = 0;
    for key in &keys {
        let goal = list.goal(Place::before(key));
        let start = list.start(&goal, |entry| list.compare(entry, &goal) == Less, 1);
        if let Some(entry) = list.raw(start.from) {
            from_landmarks += 1;
            assert!(entry.key() < key.as_slice() && start.level < entry.height());
        }
    }
    assert!(from_landmarks > SOME * 3 / 4, "{from_landmarks}");
}

// A target of ours: a key of 16 bytes with a value of 100 takes at most 150 bytes.
#[test]
fn bytes_are_those_that_entries_take() {
    let list = SkipList::new();
    assert_eq!(list.bytes(), 0);
    let entries = if cfg!(miri) { 500 } else { 20_000 };
    for sequence in 1..=entries {
        let stamp = Stamp { timestamp: sequence, sequence, late: false };
        list.insert(&[&sequence.to_be_bytes()[..], &[0; 8]].concat(), stamp, Some(&[1; 100]), None, |_| Bytes::new());
    }
    assert!((144..150).contains(&(list.bytes() / usize::try_from(entries).unwrap())), "{}", list.bytes());
    let before = list.bytes();
    let stamp = Stamp { timestamp: 1, sequence: 30_000, late: false };
    list.insert(b"long", stamp, Some(&vec![1; 1 << 20]), None, Bytes::copy_from_slice);
    assert!((1 << 20..(1 << 20) + 256).contains(&(list.bytes() - before)));
}

#[test]
fn pieces_of_an_arena_are_apart_and_aligned_and_chunks_grow() {
    let arena = Arena::new();
    let threads = 4;
    let pieces: Vec<(usize, usize)> = std::thread::scope(|scope| {
        let take = |seed: u64| {
            let arena = &arena;
            move || {
                let rng = &mut StdRng::seed_from_u64(seed);
                let mut pieces = Vec::new();
                for i in 0..SOME {
                    let bytes = if i % 50 == 0 { rng.random_range(1..70_000) } else { rng.random_range(1..300) };
                    let piece = arena.allocate(bytes);
                    // SAFETY: so many bytes were asked for.
                    unsafe { piece.write_bytes(1, bytes) };
                    pieces.push((piece.addr().get(), bytes));
                }
                pieces
            }
        };
        let running: Vec<_> = (0..threads).map(|seed| scope.spawn(take(seed))).collect();
        running.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let mut pieces = pieces;
    pieces.sort_unstable();
    assert!(pieces.iter().all(|(at, _)| at.is_multiple_of(arena::ALIGN)));
    assert!(pieces.windows(2).all(|pair| pair[0].0 + pair[0].1 <= pair[1].0));
    let asked: usize = pieces.iter().map(|(_, bytes)| bytes).sum();
    assert!(arena.bytes() >= asked && (cfg!(miri) || arena.bytes() < asked * 5 / 4));
}
