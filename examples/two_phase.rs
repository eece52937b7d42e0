//! Money goes from one database to another: both prepare, a third one remembers the decision, and then both commit. The
//! coordinator dies at every step; whoever comes next finds what is in doubt and what was decided, and finishes it, or dies
//! as well.
//!
//! ```text
//! cargo run --example two_phase
//! ```

#![allow(clippy::print_stdout, reason = "a program, not the library")]

use strandline::{CommitOptions, Db, Durability, Isolation, Keyspace, MemFs, Options, Result, WriteBatch};

const TRANSFER: &str = "transfer 1";

/// Files that stay when the programs die.
#[derive(Default)]
struct Files {
    coordinator: MemFs,
    banks: [MemFs; 2],
}

fn open(fs: &MemFs) -> Result<Db> {
    Options::new().fs(fs.clone()).open("db")
}

fn balance(accounts: &Keyspace) -> Result<i64> {
    let value = accounts.get("alice")?;
    Ok(value.and_then(|value| value.as_ref().try_into().ok()).map_or(0, i64::from_le_bytes))
}

/// Prepares a change of a balance.
fn prepare(bank: &Db, change: i64) -> Result<()> {
    let accounts = bank.keyspace("accounts")?;
    let mut tx = bank.begin(Isolation::Serializable)?;
    let value = tx.get(&accounts, "alice")?;
    let before = value.and_then(|value| value.as_ref().try_into().ok()).map_or(0, i64::from_le_bytes);
    tx.put(&accounts, "alice", (before + change).to_le_bytes())?;
    tx.prepare(TRANSFER).map(drop)
}

/// Does the transfer, but for what comes after so many steps.
fn transfer(files: &Files, mut steps: u32) -> Result<()> {
    let mut goes_on = || {
        let left = steps > 0;
        steps = steps.saturating_sub(1);
        left
    };
    let [from, to] = [open(&files.banks[0])?, open(&files.banks[1])?];
    let coordinator = open(&files.coordinator)?;
    for (bank, change) in [(&from, -30), (&to, 30)] {
        if !goes_on() {
            return Ok(());
        }
        prepare(bank, change)?;
    }
    if !goes_on() {
        return Ok(());
    }
    // From here on it is decided.
    let mut decision = WriteBatch::new();
    decision.put(&coordinator.keyspace("decisions")?, TRANSFER, "commit");
    coordinator.commit_with(decision, CommitOptions::new().durability(Durability::Synced))?;
    for bank in [&from, &to] {
        if !goes_on() {
            return Ok(());
        }
        bank.commit_prepared(TRANSFER, None)?;
    }
    Ok(())
}

/// Finishes what others have left: what was not decided was not to be. May die as well, and be called again.
fn recover(files: &Files, mut steps: u32) -> Result<Option<bool>> {
    let decisions = open(&files.coordinator)?.keyspace("decisions")?;
    let is_decided = decisions.contains(TRANSFER)?;
    for fs in &files.banks {
        let bank = open(fs)?;
        // Where it is not in doubt it was never prepared, or has been decided before.
        if bank.prepared().iter().any(|one| one.id == TRANSFER) {
            if steps == 0 {
                return Ok(None);
            }
            steps -= 1;
            if is_decided {
                bank.commit_prepared(TRANSFER, None)?;
            } else {
                bank.abort_prepared(TRANSFER)?;
            }
        }
    }
    // Nothing is in doubt any more, so nobody will ask what was decided, neither here nor there.
    for fs in &files.banks {
        open(fs)?.forget_prepared(TRANSFER)?;
    }
    decisions.delete(TRANSFER)?;
    Ok(Some(is_decided))
}

fn main() -> Result<()> {
    for (steps, others) in (0..=5).flat_map(|steps| (0..=2).map(move |others| (steps, others))) {
        let files = Files::default();
        open(&files.banks[0])?.keyspace("accounts")?.put("alice", 100_i64.to_le_bytes())?;
        transfer(&files, steps)?;
        let is_done = match recover(&files, others)? {
            Some(is_done) => is_done,
            None => recover(&files, u32::MAX)?.unwrap_or_default(),
        };
        let mut balances = Vec::new();
        for fs in &files.banks {
            let bank = open(fs)?;
            balances.push(balance(&bank.keyspace("accounts")?)?);
            assert!(bank.prepared().is_empty());
        }
        assert_eq!(balances, if is_done { [70, 30] } else { [100, 0] });
        let done = if is_done { "done" } else { "it never was" };
        println!("died after step {steps}, and in the recovery after step {others}: {done}");
    }
    Ok(())
}
