//! Reading the past: as-of reads, snapshots of any retained time, a key's history, the changes of a time, and letting
//! the past go.
//!
//! ```text
//! cargo run --example time_travel
//! ```

#![allow(clippy::print_stdout, reason = "a program, not the library")]

use strandline::{Change, Error, KeyspaceOptions, MemFs, Options, Result, Retention, WriteBatch};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn main() -> Result<()> {
    // Wholly in memory; a path and no `fs` would put the same on disk.
    let db = Options::new().fs(MemFs::new()).open("prices")?;
    // `Manual`: every version stays until `retain_from` says otherwise.
    let prices = db.keyspace_with("prices", KeyspaceOptions::new().retention(Retention::Manual))?;

    prices.put("apple", "3")?;
    let spring = prices.put("pear", "5")?;
    let summer = prices.put("apple", "4")?;
    let mut batch = WriteBatch::new();
    batch.delete(&prices, "pear");
    batch.put(&prices, "plum", "2");
    let autumn = db.commit(batch)?;
    prices.put("apple", "2")?;

    // One key as of a time, and everything as of a time.
    assert_eq!(prices.get_at("apple", spring)?.as_deref(), Some(&b"3"[..]));
    for time in [spring, summer, autumn] {
        println!("at {time}:");
        for pair in db.snapshot_at(time)?.iter(&prices) {
            let (key, value) = pair?;
            println!("  {} costs {}", text(&key), text(&value));
        }
    }

    // The versions of one key, newest first.
    println!("the history of pear:");
    for version in prices.history("pear", ..)? {
        let version = version?;
        println!("  {}: {}", version.timestamp, version.value.map_or("gone".into(), |value| text(&value)));
    }

    // What was committed after one time and up to another, in key order.
    println!("changes after {spring}, up to {autumn}:");
    for change in prices.changes(spring + 1..=autumn)? {
        match change? {
            Change::Put { key, timestamp, value, .. } => println!("  {timestamp}: {} = {}", text(&key), text(&value)),
            Change::Delete { key, timestamp } => println!("  {timestamp}: {} deleted", text(&key)),
            other => println!("  {other:?}"),
        }
    }

    // Reads from `summer` on stay exact; reads below are refused. What they alone needed goes with later compactions.
    let floor = db.retain_from(summer)?;
    assert!(matches!(prices.get_at("apple", spring), Err(Error::BelowRetained { .. })));
    assert_eq!(prices.get_at("apple", summer)?.as_deref(), Some(&b"4"[..]));
    let versions = |key| -> Result<usize> { Ok(prices.history(key, ..)?.collect::<Result<Vec<_>>>()?.len()) };
    println!("retained from {floor}: {} versions of apple, {} of pear", versions("apple")?, versions("pear")?);
    db.close()
}
