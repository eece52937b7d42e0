//! Who writes: batches of one value, moves between accounts, and keyspaces that come and go.

use std::thread;
use std::time::Duration;

use rand::RngExt;
use strandline::{CommitOptions, Durability, Error, Timestamp, WriteBatch};

use super::{KEYS, Shared, WRITERS, key, keys};
use crate::random::Random;

/// Accounts of each writer in each keyspace.
const ACCOUNTS: usize = 4;
const START: i64 = 100;
/// What all accounts of both keyspaces hold together.
pub(super) const TOTAL: i64 = START * (2 * ACCOUNTS * WRITERS as usize) as i64;

fn account(writer: u64, n: usize) -> String {
    format!("acct {writer} {n}")
}

/// The first commit: every account has something.
pub(super) fn fill(shared: &Shared) {
    let mut batch = WriteBatch::new();
    for keyspace in &shared.pair {
        for writer in 0..WRITERS {
            (0..ACCOUNTS).for_each(|n| batch.put(keyspace, account(writer, n), START.to_string()));
        }
    }
    assert_eq!(shared.db.commit_with(batch, CommitOptions::new().durability(Durability::Synced)).unwrap(), 1);
}

/// One value under all keys of both keyspaces. Some batches delete all of them first.
fn batch_of(shared: &Shared, value: &str, random: &mut Random) -> WriteBatch {
    let mut batch = WriteBatch::new();
    for keyspace in &shared.pair {
        match random.random_range(0..10) {
            0 => batch.delete_range(keyspace, key(0)..=key(KEYS)),
            1 => batch.delete_prefix(keyspace, "key"),
            _ => {}
        }
        keys().for_each(|key| batch.put(keyspace, key, value));
    }
    batch
}

fn durability(random: &mut Random) -> Durability {
    match random.random_range(0..10) {
        0 => Durability::Synced,
        1 => Durability::Unlogged,
        _ => Durability::Buffered,
    }
}

pub(super) fn write(shared: &Shared, mut random: Random, writer: u64) {
    let mut balances = [[START; ACCOUNTS]; 2];
    let mut count = 0;
    while shared.going() {
        if random.random_range(0..3) == 0 {
            move_amount(shared, &mut random, writer, &mut balances);
        } else {
            count += 1;
            commit_value(shared, &mut random, writer, format!("{writer}:{count}"));
        }
    }
}

/// Moves an amount between two accounts, mostly from one keyspace to the other.
fn move_amount(shared: &Shared, random: &mut Random, writer: u64, balances: &mut [[i64; ACCOUNTS]; 2]) {
    let mut next = *balances;
    let mut place = || (random.random_range(0..2), random.random_range(0..ACCOUNTS));
    let (from, to) = (place(), place());
    let amount = random.random_range(1..50);
    next[from.0][from.1] -= amount;
    next[to.0][to.1] += amount;
    let mut batch = WriteBatch::new();
    for (keyspace, n) in [from, to] {
        batch.put(&shared.pair[keyspace], account(writer, n), next[keyspace][n].to_string());
    }
    let committed = shared.db.commit_with(batch, CommitOptions::new().durability(durability(random)));
    // One that failed has not happened, nor will it.
    if shared.allow(committed).is_some() {
        *balances = next;
    }
}

/// Commits a batch of one value, and sees that it can be read from then on.
pub(super) fn commit_value(shared: &Shared, random: &mut Random, writer: u64, value: String) {
    let batch = batch_of(shared, &value, random);
    let mut options = CommitOptions::new().durability(durability(random));
    if shared.setting.late {
        let Some(at) = moment(shared, random, writer) else { return };
        options = options.at(at);
    }
    let timestamp = match shared.db.commit_with(batch, options) {
        // A floor, or a closed time, has passed it.
        Err(Error::BelowRetained { .. } | Error::LateCommit { .. }) if shared.setting.late => return,
        result => shared.allow(result),
    };
    let Some(timestamp) = timestamp else { return };
    shared.record.commit(timestamp, value);
    assert!(shared.db.last_timestamp() >= timestamp, "{timestamp} was acknowledged and is not there");
    if let Some(newest) = shared.allow(shared.pair[0].latest_timestamp(key(0))) {
        assert!(newest >= Some(timestamp), "{timestamp} was acknowledged, {newest:?} is the newest");
    }
}

/// A timestamp, mostly in the past, that nobody else takes.
fn moment(shared: &Shared, random: &mut Random, writer: u64) -> Option<Timestamp> {
    let last = shared.db.last_timestamp();
    let near = (last + 1 + random.random_range(0..4)).saturating_sub(random.random_range(0..40));
    let own = (near / (WRITERS + 1) + 1) * (WRITERS + 1) + writer;
    (!shared.record.has(own)).then_some(own)
}

/// A keyspace is made, filled, held on to, dropped.
pub(super) fn come_and_go(shared: &Shared, mut random: Random, writer: u64) {
    let (mut visits, mut count) = (0, 0);
    while shared.going() {
        visits += 1;
        let name = format!("guest {visits}");
        let made = shared.db.keyspace_with(&name, super::keyspace_options(shared.setting.retention));
        let Some(guest) = shared.allow(made) else {
            thread::sleep(Duration::from_millis(5));
            continue;
        };
        let mut there = 0;
        for n in 0..random.random_range(5..40) {
            count += 1;
            commit_value(shared, &mut random, writer, format!("{writer}:{count}"));
            there += usize::from(shared.allow(guest.put(n.to_string(), "v".repeat(100))).is_some());
        }
        let snapshot = shared.db.snapshot();
        let mut iter = guest.iter();
        let begun = iter.next();
        if shared.allow(shared.db.drop_keyspace(&name)).is_some() {
            assert!(matches!(guest.put("k", "v"), Err(Error::UnknownKeyspace { .. } | Error::Background(_))));
        }
        let held: Option<Vec<_>> = begun.into_iter().chain(iter).map(|pair| shared.allow(pair)).collect();
        assert!(held.is_none_or(|held| held.len() == there), "an iterator over a keyspace that was dropped");
        let held: Option<Vec<_>> = snapshot.iter(&guest).map(|pair| shared.allow(pair)).collect();
        assert!(held.is_none_or(|held| held.len() == there), "a snapshot of a keyspace that was dropped");
    }
}
