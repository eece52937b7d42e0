//! A bank: transfers by several threads, each a transaction that reads two balances and writes both, and a clerk who sums
//! them all meanwhile. No money is lost or made, now or at any time that is kept.
//!
//! ```text
//! cargo run --release --example bank
//! ```

#![allow(clippy::print_stdout, reason = "a program, not the library")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use strandline::{Db, Isolation, Keyspace, KeyspaceOptions, MemFs, Options, Result, Retention, Slice, Transaction};

const ACCOUNTS: u64 = 20;
const OPENING: u64 = 100;
const CLERKS: u64 = 3;
const TRANSFERS: u64 = 2_000;

fn balance(value: Option<Slice>) -> u64 {
    value.and_then(|value| value.as_ref().try_into().ok()).map_or(0, u64::from_le_bytes)
}

/// Moves an amount, if it is there. A conflict is tried again by `transact`, with what is there then.
fn transfer(db: &Db, accounts: &Keyspace, (from, to): (u64, u64), amount: u64) -> Result<bool> {
    db.transact(Isolation::Snapshot, |tx: &mut Transaction| {
        let (has, had) = (balance(tx.get(accounts, from.to_be_bytes())?), balance(tx.get(accounts, to.to_be_bytes())?));
        if from == to || has < amount {
            return Ok(false);
        }
        tx.put(accounts, from.to_be_bytes(), (has - amount).to_le_bytes())?;
        tx.put(accounts, to.to_be_bytes(), (had + amount).to_le_bytes())?;
        Ok(true)
    })
}

fn sum(pairs: impl Iterator<Item = Result<(Slice, Slice)>>) -> Result<u64> {
    pairs.map(|pair| Ok(balance(Some(pair?.1)))).sum()
}

fn main() -> Result<()> {
    let db = Options::new().fs(MemFs::new()).open("bank")?;
    let accounts = db.keyspace_with("accounts", KeyspaceOptions::new().retention(Retention::Manual))?;
    for account in 0..ACCOUNTS {
        accounts.put(account.to_be_bytes(), OPENING.to_le_bytes())?;
    }
    let opened = db.last_timestamp();
    let (moved, audits) = (AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        let clerks: Vec<_> = (1..=CLERKS)
            .map(|clerk| {
                let (db, accounts, moved) = (&db, &accounts, &moved);
                scope.spawn(move || -> Result<()> {
                    // Any numbers will do.
                    let mut number = clerk;
                    for _ in 0..TRANSFERS {
                        number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(clerk);
                        let pair = ((number >> 33) % ACCOUNTS, (number >> 43) % ACCOUNTS);
                        moved.fetch_add(u64::from(transfer(db, accounts, pair, number >> 60)?), Ordering::Relaxed);
                    }
                    Ok(())
                })
            })
            .collect();
        while clerks.iter().any(|clerk| !clerk.is_finished()) {
            // One time for all accounts; nobody waits for it.
            assert_eq!(sum(db.snapshot().iter(&accounts))?, ACCOUNTS * OPENING);
            audits.fetch_add(1, Ordering::Relaxed);
        }
        clerks.into_iter().try_for_each(|clerk| clerk.join().unwrap_or(Ok(())))
    })?;
    for time in opened..=db.last_timestamp() {
        assert_eq!(sum(db.snapshot_at(time)?.iter(&accounts))?, ACCOUNTS * OPENING, "at {time}");
    }
    println!(
        "{} transfers by {CLERKS} threads, {} audits beside them, and one of each of {} times: always {}",
        moved.into_inner(),
        audits.into_inner(),
        db.last_timestamp() - opened + 1,
        ACCOUNTS * OPENING
    );
    db.close()
}
