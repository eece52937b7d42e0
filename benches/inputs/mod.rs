//! What the benches work on. It follows from seeds, so it is the same in every run.
//!
//! Keys are a number, big-endian, and 8 bytes of padding. There are even numbers only: what is not there lies between
//! what is. Values have 100 bytes and compress by half.
#![allow(dead_code, reason = "each bench uses its part")]

use std::cmp::Reverse;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use strandline::layers::Row;

/// How many rows there are where nothing else is said: some 25 MB, more than the processor's caches hold.
pub(crate) const ROWS: usize = 200_000;

const KEY_BYTES: usize = 16;
const VALUE_BYTES: usize = 100;
const ROW_BYTES: usize = KEY_BYTES + VALUE_BYTES;
const SEED: u64 = 7;

pub(crate) type Key = [u8; KEY_BYTES];

/// The key of a number; the odd ones are not there.
fn key(number: usize) -> Key {
    let mut key = *b"........--------";
    key[..8].copy_from_slice(&(number as u64).to_be_bytes());
    key
}

fn value(rng: &mut StdRng) -> [u8; VALUE_BYTES] {
    let mut value = [0; VALUE_BYTES];
    let (random, copy) = value.split_at_mut(VALUE_BYTES / 2);
    rng.fill_bytes(random);
    copy.copy_from_slice(random);
    value
}

/// Rows in order: of each key so many versions, written in random order at the timestamps from 1 on. They lie in memory
/// as they do in the blocks of a table, one behind the other.
pub(crate) fn rows(keys: usize, versions: usize) -> Vec<Row> {
    let mut rng = StdRng::seed_from_u64(SEED);
    let mut written: Vec<usize> = (0..keys).flat_map(|key| std::iter::repeat_n(key, versions)).collect();
    written.shuffle(&mut rng);
    let mut written: Vec<(usize, u64)> = written.into_iter().zip(1..).collect();
    written.sort_by_key(|&(number, timestamp)| (number, Reverse(timestamp)));
    let mut bytes = Vec::with_capacity(written.len() * ROW_BYTES);
    for (number, _) in &written {
        bytes.extend_from_slice(&key(2 * number));
        bytes.extend_from_slice(&value(&mut rng));
    }
    let bytes = Bytes::from(bytes);
    let row = |(at, (_, timestamp))| row_in(&bytes.slice(at * ROW_BYTES..), timestamp);
    written.into_iter().enumerate().map(row).collect()
}

/// A row whose key and value are at the front of `bytes`.
fn row_in(bytes: &Bytes, timestamp: u64) -> Row {
    Row { key: bytes.slice(..KEY_BYTES), timestamp, value: bytes.slice(KEY_BYTES..ROW_BYTES) }
}

/// The same in the order in which they were written, each in a batch of its own.
pub(crate) fn as_written(rows: &[Row]) -> Vec<Row> {
    let mut rows: Vec<&Row> = rows.iter().collect();
    rows.sort_by_key(|row| row.timestamp);
    rows.into_iter().map(|row| row_in(&Bytes::from([&row.key[..], &row.value].concat()), row.timestamp)).collect()
}

/// The keys of [`rows`], in order and without the rest.
pub(crate) fn keys(keys: usize) -> Vec<Key> {
    (0..keys).map(|number| key(2 * number)).collect()
}

/// All keys of [`rows`], in random order, again and again.
pub(crate) fn present(keys: usize) -> impl Iterator<Item = Key> {
    probes((0..keys).map(|number| 2 * number))
}

/// As many keys that lie between those.
pub(crate) fn absent(keys: usize) -> impl Iterator<Item = Key> {
    probes((0..keys).map(|number| 2 * number + 1))
}

fn probes(numbers: impl Iterator<Item = usize>) -> impl Iterator<Item = Key> {
    let mut keys: Vec<Key> = numbers.map(key).collect();
    keys.shuffle(&mut StdRng::seed_from_u64(SEED + 1));
    let mut at = 0;
    std::iter::from_fn(move || {
        at = if at < keys.len() { at + 1 } else { 1 };
        keys.get(at - 1).copied()
    })
}
