//! What is used up, and what is too much: file numbers, names, the pace of compactions, an empty disk.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "a test")]

use std::sync::mpsc;
use std::time::Duration;

use strandline::{Background, Compression, Error, KeyspaceOptions, MemFs, Options, WriteBatch};

fn stepped(fs: &MemFs) -> Options {
    Options::new().fs(fs.clone()).background(Background::Stepped)
}

// S38
#[test]
fn closing_does_not_wait_until_a_slow_compaction_has_kept_its_pace() {
    let db = Options::new().fs(MemFs::new()).compaction_bytes_per_second(Some(1000)).open("db").unwrap();
    let keyspace = db.keyspace_with("k", KeyspaceOptions::new().compression(Compression::None)).unwrap();
    for _ in 0..2 {
        let mut batch = WriteBatch::new();
        (0..600_u32).for_each(|n| batch.put(&keyspace, n.to_be_bytes(), [7; 1000]));
        db.commit(batch).unwrap();
        db.flush().unwrap();
    }
    let other = db.clone();
    let compacting = std::thread::spawn(move || other.compact());
    std::thread::sleep(Duration::from_millis(200));
    let (done, is_done) = mpsc::channel();
    std::thread::spawn(move || drop(done.send(db.close())));
    is_done.recv_timeout(Duration::from_secs(20)).unwrap_or_else(|_| panic!("close does not end")).unwrap();
    assert!(matches!(compacting.join().unwrap(), Ok(()) | Err(Error::Closed)));
}

// S29, B1
#[test]
fn a_log_of_many_small_segments_does_not_use_up_the_file_numbers() {
    let fs = MemFs::new();
    let options = stepped(&fs).wal_segment_bytes(1).memtable_bytes(1 << 30).write_buffer_bytes(1 << 30);
    let db = options.wal_bytes(1 << 40).open("db").unwrap();
    let keyspace = db.keyspace("k").unwrap();
    // A segment each.
    for n in 0..70_000_u32 {
        keyspace.put(n.to_be_bytes(), [7; 4096]).unwrap();
        while n % 1000 == 0 && db.step_background().unwrap() {}
    }
    assert!(db.background_error().is_none());
    assert_eq!(keyspace.iter().count(), 70_000);
}

// B1
#[test]
fn a_name_that_is_too_long_is_refused_and_nothing_else_is() {
    let fs = MemFs::new();
    let db = stepped(&fs).open("db").unwrap();
    let refused = db.keyspace("n".repeat(65_536));
    assert!(matches!(refused, Err(Error::TooLarge { len: 65_536, max: 65_535, .. })));
    let longest = "n".repeat(65_535);
    db.keyspace(&longest).unwrap().put("key", "value").unwrap();
    db.flush().unwrap();
    db.close().unwrap();
    let db = stepped(&fs).open("db").unwrap();
    assert_eq!(db.keyspace(&longest).unwrap().get("key").unwrap().unwrap(), "value");
    db.verify().unwrap();
}

// S26
#[test]
fn a_database_that_found_no_room_to_begin_is_not_called_corrupt() {
    let fs = MemFs::new();
    fs.set_capacity(Some(0));
    let db = stepped(&fs).open("db").unwrap();
    assert!(db.background_error().is_some());
    db.verify().unwrap();
    fs.set_capacity(None);
    db.resume().unwrap();
    db.keyspace("k").unwrap().put("key", "value").unwrap();
    db.verify().unwrap();
}
