//! More threads and more entries, in schedules drawn from seeds.

use std::collections::BTreeSet;

use super::*;
use crate::sync::{Arc, spawn};

const WRITERS: u64 = 3;
const ENTRIES: u64 = 12;

fn check(body: impl Fn() + Send + Sync + 'static) {
    let schedules = std::env::var("SHUTTLE_SCHEDULES").ok().and_then(|text| text.parse().ok()).unwrap_or(400);
    shuttle::check_random(body, schedules);
}

/// (key, sequence) of a writer's entries: three writers among each other, on few keys.
fn entries(writer: u64) -> impl Iterator<Item = ([u8; 2], Sequence)> {
    (0..ENTRIES).map(move |i| {
        let sequence = 1 + i * WRITERS + writer;
        ([b'k', (sequence * 7 % 11) as u8], sequence)
    })
}

fn content(list: &SkipList) -> Vec<([u8; 2], Sequence)> {
    std::iter::successors(list.first(), |entry| entry.next())
        .map(|entry| {
            assert_eq!(entry.value().unwrap().bytes, entry.key());
            (entry.key().try_into().unwrap(), entry.sequence())
        })
        .collect()
}

// V1: what a writer has inserted is found by whoever is told of it; in the end there is all that a set would hold.
#[test]
fn shuttle_writers_and_readers_agree_with_a_set() {
    check(|| {
        let list = Arc::new(SkipList::new());
        let told = Arc::new(AtomicUsize::new(0));
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (list, told) = (Arc::clone(&list), Arc::clone(&told));
                let body = move || {
                    for (key, sequence) in entries(writer) {
                        let stamp = Stamp { timestamp: 1, sequence, late: false };
                        list.insert(&key, stamp, Some(&key), None, Bytes::copy_from_slice);
                        if writer == 0 {
                            told.fetch_add(1, Ordering::Release);
                        }
                    }
                };
                spawn("shuttle", body).unwrap()
            })
            .collect();
        for _ in 0..3 {
            let told = told.load(Ordering::Acquire);
            for (key, sequence) in entries(0).take(told) {
                let found = list.first_from(Place::at(&key, 1, sequence)).unwrap();
                assert_eq!((found.key(), found.sequence()), (&key[..], sequence));
            }
            let seen = content(&list);
            assert!(seen.windows(2).all(|pair| (pair[0].0, pair[1].1) < (pair[1].0, pair[0].1)));
        }
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        let model: BTreeSet<_> = (0..WRITERS).flat_map(entries).map(|(key, at)| (key, std::cmp::Reverse(at))).collect();
        assert!(content(&list).into_iter().eq(model.into_iter().map(|(key, at)| (key, at.0))));
    });
}
