//! Committing: S10 to S14, as far as it is built, and what the documentation of the public API promises of writing.
#![allow(clippy::indexing_slicing, clippy::unwrap_used, clippy::panic, reason = "a test")]

mod operations;
#[path = "../support/mod.rs"]
mod support;

use strandline::fs::{Operation, PowerCut, Purpose};
use strandline::{
    Clock, CommitOptions, Compression, Db, Durability, Error, FaultFs, Keyspace, KeyspaceOptions, MemFs, Options,
    Retention, WriteBatch,
};
use support::{Dice, KEYS, Model, Op, batch_of, check, check_changes, pairs, settle, small, small_keyspace, told};

fn manual(db: &Db, name: &str) -> Keyspace {
    db.keyspace_with(name, small_keyspace().retention(Retention::Manual)).unwrap()
}

fn at(timestamp: u64) -> CommitOptions {
    CommitOptions::new().at(timestamp)
}

fn put(keyspace: &Keyspace, key: &str, value: &str) -> WriteBatch {
    let mut batch = WriteBatch::new();
    batch.put(keyspace, key, value);
    batch
}

fn is_invalid<T>(result: Result<T, Error>) -> bool {
    matches!(result, Err(Error::InvalidArgument(_)))
}

// S10
#[test]
fn a_batch_that_fails_at_any_of_its_operations_leaves_no_trace_of_the_others() {
    let fs = MemFs::new();
    let db = small(&fs).open("db").unwrap();
    let other_database = small(&MemFs::new()).open("db").unwrap();
    let (a, b, gone) = (manual(&db, "a"), manual(&db, "b"), manual(&db, "gone"));
    db.drop_keyspace("gone").unwrap();
    let foreign = manual(&other_database, "a");
    a.put("k", "before").unwrap();
    let too_long = vec![b'k'; 65_536];
    type Spoil<'a> = Box<dyn Fn(&mut WriteBatch) + 'a>;
    let spoils: Vec<(&str, Spoil<'_>)> = vec![
        ("put of a long key", Box::new(|batch| batch.put(&a, &too_long, "v"))),
        ("expiring put of a long key", Box::new(|batch| batch.put_expiring(&a, &too_long, "v", 9))),
        ("delete of a long key", Box::new(|batch| batch.delete(&a, &too_long))),
        ("range with a long start", Box::new(|batch| batch.delete_range(&a, &too_long[..]..))),
        ("range with a long end", Box::new(|batch| batch.delete_range(&a, ..=&too_long[..]))),
        ("long prefix", Box::new(|batch| batch.delete_prefix(&a, &too_long))),
        ("dropped keyspace", Box::new(|batch| batch.put(&gone, "k", "v"))),
        ("foreign keyspace", Box::new(|batch| batch.put(&foreign, "k", "v"))),
        ("foreign read", Box::new(|batch| batch.read(&foreign, "k"))),
    ];
    for (name, spoil) in &spoils {
        for place in 0..4 {
            let mut batch = WriteBatch::new();
            for step in 0..4 {
                if step == place {
                    spoil(&mut batch);
                }
                batch.put(if step % 2 == 0 { &a } else { &b }, "k", "after");
                batch.delete_range(&a, ..);
            }
            let error = db.commit(batch).unwrap_err();
            let expected = match *name {
                "dropped keyspace" => matches!(&error, Error::UnknownKeyspace { name } if &**name == "gone"),
                "foreign keyspace" | "foreign read" => matches!(error, Error::InvalidArgument(_)),
                _ => matches!(error, Error::TooLarge { what: "key", len: 65_536, max: 65_535 }),
            };
            assert!(expected, "{name}: {error:?}");
            assert_eq!(db.last_timestamp(), 1, "{name}");
            assert_eq!(told(&a, b"k"), [(1, Some(b"before".to_vec()), None)], "{name}");
            assert_eq!(told(&b, b"k"), [], "{name}");
        }
    }
    drop(spoils);
    let db = small(&fs.kill()).open("db").unwrap();
    assert_eq!((db.last_timestamp(), manual(&db, "a").iter().count(), manual(&db, "b").iter().count()), (1, 1, 0));
}

// S10
#[test]
fn keys_and_values_up_to_their_limits_are_taken_and_longer_ones_are_too_large() {
    let fs = MemFs::new();
    let mut db = Options::new().fs(fs.clone()).open("db").unwrap();
    let mut keyspace = manual(&db, "k");
    let longest = vec![b'k'; 65_535];
    keyspace.put(&longest, "longest").unwrap();
    keyspace.put(&longest[1..], "next").unwrap();
    assert!(matches!(keyspace.put([&longest[..], b"k"].concat(), ""), Err(Error::TooLarge { what: "key", .. })));
    assert!(matches!(keyspace.delete([&longest[..], b"k"].concat()), Err(Error::TooLarge { what: "key", .. })));
    let value = vec![7; (256 << 20) + 1];
    assert!(matches!(keyspace.put("k", &value), Err(Error::TooLarge { what: "value", len, max }) if len == max + 1));
    drop(value);
    let mut batch = WriteBatch::new();
    batch.delete_range(&keyspace, &longest[..]..=&longest[..]);
    assert_eq!(db.last_timestamp(), 2);
    for step in 0..3 {
        match step {
            0 => db.compact().unwrap(),
            1 => drop(db.commit(batch.clone()).unwrap()),
            _ => {
                db = Options::new().fs(fs.kill()).open("db").unwrap();
                keyspace = manual(&db, "k");
            }
        }
        let found = keyspace.get(&longest).unwrap();
        assert_eq!(found.is_some(), step == 0);
        assert_eq!(keyspace.get_at(&longest, 2).unwrap().unwrap(), "longest");
        assert_eq!(keyspace.get(&longest[1..]).unwrap().unwrap(), "next");
        assert_eq!(keyspace.prefix(&longest[1..]).count(), 1 + usize::from(step == 0));
        db.flush().unwrap();
    }
}

// S11
#[test]
fn every_acknowledged_commit_at_or_below_the_last_timestamp_can_be_read() {
    let fs = MemFs::new();
    let mut db = small(&fs).open("db").unwrap();
    assert_eq!(db.last_timestamp(), 0);
    let mut keyspace = manual(&db, "k");
    assert_eq!(db.last_timestamp(), 0, "making a keyspace is no commit");
    for n in 1..=300u64 {
        let timestamp =
            if n % 7 == 0 { db.commit(WriteBatch::new()).unwrap() } else { keyspace.put(n.to_string(), "v").unwrap() };
        assert_eq!((timestamp, db.last_timestamp()), (n, n));
        assert_eq!(keyspace.contains(n.to_string()).unwrap(), n % 7 != 0);
        if n % 50 == 0 {
            db = small(&if n % 100 == 0 { fs.kill() } else { fs.clone() })
                .open({
                    drop(keyspace);
                    drop(db);
                    "db"
                })
                .unwrap();
            if n % 100 == 0 {
                // Go on in the first one: the image was only to look at.
                assert_eq!(db.last_timestamp(), n, "also when the last commit was an empty one");
                drop(db);
                db = small(&fs).open("db").unwrap();
            }
            assert_eq!(db.last_timestamp(), n);
            keyspace = manual(&db, "k");
            assert_eq!(u64::try_from(keyspace.iter().count()).unwrap(), n - n / 7);
        }
    }
}

// S11
#[test]
fn an_empty_batch_is_a_commit_like_any_other() {
    for durability in [Durability::Buffered, Durability::Synced] {
        let fs = MemFs::new();
        let db = small(&fs).open("db").unwrap();
        let keyspace = manual(&db, "k");
        let mut reads = WriteBatch::new();
        reads.read(&keyspace, "a");
        reads.read_range(&keyspace, ..);
        assert!(reads.is_empty());
        assert_eq!(db.commit(reads).unwrap(), 1);
        assert_eq!(db.commit_with(WriteBatch::new(), at(5).durability(durability)).unwrap(), 5);
        assert_eq!(db.last_timestamp(), 5);
        assert!(matches!(db.commit_with(WriteBatch::new(), at(5)), Err(Error::LateCommit { requested: 5, last: 5 })));
        assert!(
            db.snapshot_at(5).is_ok()
                && matches!(db.snapshot_at(6), Err(Error::FutureTimestamp { requested: 6, last: 5 }))
        );
        let image = if durability == Durability::Synced { fs.power_cut(PowerCut::Lose) } else { fs.kill() };
        let db = small(&image).open("db").unwrap();
        assert_eq!(db.last_timestamp(), 5, "{durability:?}");
        assert_eq!(manual(&db, "k").put("a", "b").unwrap(), 6);
    }
}

#[test]
fn the_first_and_the_last_timestamp_are_nobodys() {
    for late in [false, true] {
        let db = small(&MemFs::new()).late_commits(late).open("db").unwrap();
        let keyspace = manual(&db, "k");
        for timestamp in [0, u64::MAX] {
            assert!(is_invalid(db.commit_with(put(&keyspace, "k", "v"), at(timestamp))));
            assert!(is_invalid(db.commit_with(WriteBatch::new(), at(timestamp))));
        }
        assert!(is_invalid(db.close_until(u64::MAX)));
        assert_eq!((db.last_timestamp(), keyspace.get("k").unwrap()), (0, None));
    }
}

#[test]
fn a_late_commit_is_refused_unless_late_commits_are_on() {
    let fs = MemFs::new();
    let db = small(&fs).open("db").unwrap();
    let keyspace = manual(&db, "k");
    assert_eq!(db.commit_with(put(&keyspace, "k", "at 10"), at(10)).unwrap(), 10);
    for requested in [1, 9, 10] {
        let error = db.commit_with(put(&keyspace, "k", "late"), at(requested)).unwrap_err();
        assert!(matches!(error, Error::LateCommit { requested: found, last: 10 } if found == requested), "{error}");
    }
    assert_eq!(db.closed_timestamp(), 10);
    assert_eq!(keyspace.put("k", "at 11").unwrap(), 11);
    drop((keyspace, db));

    let db = small(&fs).late_commits(true).open("db").unwrap();
    let keyspace = manual(&db, "k");
    assert_eq!(db.closed_timestamp(), 0);
    for timestamp in [9, 10, 1] {
        assert_eq!(
            db.commit_with(put(&keyspace, "k", &format!("late {timestamp}")), at(timestamp)).unwrap(),
            timestamp
        );
    }
    assert_eq!(db.last_timestamp(), 11);
    let history: Vec<_> = told(&keyspace, b"k")
        .into_iter()
        .map(|(at, value, _)| (at, String::from_utf8(value.unwrap()).unwrap()))
        .collect();
    let expected = [(11, "at 11"), (10, "late 10"), (9, "late 9"), (1, "late 1")];
    assert_eq!(
        history,
        expected.map(|(at, value)| (at, value.to_owned())),
        "one of the same key and timestamp is replaced"
    );
    assert_eq!(keyspace.get("k").unwrap().unwrap(), "at 11");
    assert_eq!(keyspace.put("k", "next").unwrap(), 12);
}

// S12
#[test]
fn a_commit_at_or_below_a_floor_is_refused_also_one_of_another_keyspace_that_it_touches() {
    for retention in [Retention::Latest, Retention::Manual, Retention::Window(5)] {
        let db = small(&MemFs::new()).late_commits(true).open("db").unwrap();
        let bound = db.keyspace_with("bound", small_keyspace().retention(retention)).unwrap();
        let free = db.keyspace_with("free", KeyspaceOptions::new().retention(Retention::Window(u64::MAX))).unwrap();
        for n in 0..30 {
            bound.put("k", n.to_string()).unwrap();
        }
        if retention == Retention::Manual {
            db.retain_from(20).unwrap();
        } else {
            db.flush().unwrap();
        }
        let floor = bound.retained_from();
        assert_eq!(
            floor,
            match retention {
                Retention::Latest => 30,
                Retention::Manual => 20,
                _ => 25,
            }
        );
        for below in [1, floor - 1, floor] {
            let mut batch = put(&free, "k", "late");
            assert_eq!(
                db.commit_with(batch.clone(), at(below)).unwrap(),
                below,
                "the floor of another does not matter"
            );
            batch.put(&bound, "k", "late");
            for batch in [put(&bound, "k", "late"), batch] {
                let error = db.commit_with(batch, at(below)).unwrap_err();
                let expected = matches!(error, Error::BelowRetained { requested, retained } if requested == below && retained == floor);
                assert!(expected, "{retention:?}: {error}");
            }
        }
        if floor < 30 {
            assert_eq!(db.commit_with(put(&bound, "k", "late"), at(floor + 1)).unwrap(), floor + 1);
            assert_eq!(bound.get_at("k", floor + 1).unwrap().unwrap(), "late");
        }
        assert_eq!(bound.get_at("k", floor).unwrap().unwrap(), (floor - 1).to_string());
        assert_eq!(bound.put("k", "next").unwrap(), 31);
    }
}

#[test]
fn no_commit_at_or_below_a_closed_timestamp_is_accepted_and_the_clock_goes_on_above_it() {
    for late in [false, true] {
        for clock in [Clock::Counter, Clock::Hybrid] {
            let fs = MemFs::new();
            let open = |fs: &MemFs| {
                small(fs).late_commits(late).clock(clock).time(strandline::ManualTime::new(0)).open("db").unwrap()
            };
            let db = open(&fs);
            let keyspace = manual(&db, "k");
            db.commit_with(put(&keyspace, "k", "v"), at(10)).unwrap();
            assert_eq!(db.closed_timestamp(), if late { 0 } else { 10 });
            db.close_until(7).unwrap();
            assert_eq!(db.closed_timestamp(), if late { 7 } else { 10 });
            let refused = |db: &Db, timestamp| {
                let keyspace = manual(db, "k");
                let result = db.commit_with(put(&keyspace, "k", "late"), at(timestamp));
                matches!(result, Err(Error::LateCommit { requested, .. }) if requested == timestamp)
            };
            assert!(refused(&db, 1) && refused(&db, 7));
            assert_eq!(!refused(&db, 8), late);
            db.close_until(3).unwrap();
            assert!(refused(&db, 7), "it does not go back");
            db.close_until(50).unwrap();
            assert_eq!((db.closed_timestamp(), db.last_timestamp()), (50, 10));
            assert!(refused(&db, 50) && refused(&db, 11));
            assert_eq!(
                db.snapshot_at(50).unwrap().get(&keyspace, "k").unwrap().unwrap(),
                "v",
                "nothing can change there"
            );
            assert!(matches!(db.snapshot_at(51), Err(Error::FutureTimestamp { requested: 51, last: 50 })));
            // Durable, with everything that it closed over.
            let db = open(&fs.power_cut(PowerCut::Lose));
            assert_eq!((db.closed_timestamp(), db.last_timestamp()), (50, 10));
            assert!(refused(&db, 50));
            assert_eq!(manual(&db, "k").put("k", "next").unwrap(), 51);
        }
    }
}

// S13
#[test]
fn user_keys_cannot_collide_with_the_engines_own_records() {
    let fs = MemFs::new();
    let mut db = small(&fs).open("db").unwrap();
    let mut keys: Vec<Vec<u8>> = (0..=255u8).flat_map(|byte| [vec![byte], vec![byte; 8], vec![byte, 0, 255]]).collect();
    keys.extend(
        [&b""[..], b"CURRENT", b"k", b"\0\0\0\0\0\0\0\x01", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff"]
            .map(<[u8]>::to_vec),
    );
    keys.sort();
    keys.dedup();
    let shapes = [
        KeyspaceOptions::new(),
        small_keyspace().compression(Compression::None),
        small_keyspace().filter_bits_per_key(0.0),
    ];
    for (n, shape) in shapes.iter().enumerate() {
        let keyspace = db.keyspace_with(n.to_string(), shape.clone()).unwrap();
        for key in &keys {
            // Values that look like what the engine writes are values.
            keyspace.put(key, [key.as_slice(), b"\x03\0\0"].concat()).unwrap();
        }
    }
    for step in 0..3 {
        match step {
            0 => {}
            1 => db.compact().unwrap(),
            _ => {
                drop(db);
                db = small(&fs).open("db").unwrap();
            }
        }
        for n in 0..shapes.len() {
            let keyspace = db.keyspace(n.to_string()).unwrap();
            let found = pairs(keyspace.iter());
            let expected = keys.iter().map(|key| (key.clone(), [key.as_slice(), b"\x03\0\0"].concat()));
            assert_eq!(found, expected.collect::<Vec<_>>(), "{step} {n}");
        }
    }
}

// S14
#[test]
fn the_same_history_in_another_order_and_twice_over_leaves_the_same_state() {
    for seed in 0..30 {
        let mut dice = Dice::new(seed);
        let mut model = Model::default();
        // Every batch at a timestamp of its own: the order of arrival says nothing.
        let history: Vec<(u64, Vec<Op>)> = (1..=40).map(|n| (n, dice.ops(n))).collect();
        for (timestamp, ops) in &history {
            model.commit(*timestamp, ops);
        }
        let mut states = Vec::new();
        for way in 0..4 {
            let db = small(&MemFs::new()).late_commits(true).open("db").unwrap();
            let keyspace = manual(&db, "k");
            let mut order: Vec<_> = history.iter().collect();
            match way {
                0 => {}
                1 => order.reverse(),
                2 => order.sort_by_cached_key(|_| dice.below(1 << 40)),
                // All of it once more, in another order.
                _ => {
                    let again = order.clone();
                    order.extend(again.iter().rev());
                }
            }
            for (timestamp, ops) in order {
                assert_eq!(db.commit_with(batch_of(&keyspace, ops), at(*timestamp)).unwrap(), *timestamp);
                match dice.below(12) {
                    0 => db.flush().unwrap(),
                    1 => db.compact().unwrap(),
                    2 => settle(&db),
                    _ => {}
                }
            }
            let context = format!("seed {seed}, way {way}");
            check(&db, &keyspace, &model, &context);
            check_changes(&keyspace, &model, 0, u64::MAX, &context);
            db.retain_from(25).unwrap();
            db.compact().unwrap();
            check(&db, &keyspace, &model, &context);
            states.push((
                pairs(keyspace.iter()),
                KEYS.map(|key| told(&keyspace, key)),
                support::versions_in_tables(&db, "k"),
            ));
        }
        assert!(states.iter().all(|state| *state == states[0]), "seed {seed}");
    }
}

#[test]
fn a_commit_survives_as_its_durability_says() {
    use Durability::{Buffered, Synced, Unlogged};
    for (durability, by_option) in
        [(Unlogged, false), (Buffered, false), (Synced, false), (Unlogged, true), (Synced, true)]
    {
        let memory = MemFs::new();
        let fs = FaultFs::new(memory.clone());
        let options = small(&memory).fs(fs.clone());
        let db = if by_option { options.durability(durability) } else { options }.open("db").unwrap();
        let (a, b) = (manual(&db, "a"), manual(&db, "b"));
        fs.trace(true);
        let mut batch = put(&a, "k", "v");
        batch.put(&b, "k", "v");
        let commit = if by_option { CommitOptions::new() } else { CommitOptions::new().durability(durability) };
        db.commit_with(batch, commit).unwrap();
        let trace = fs.take_trace();
        let count =
            |operation| trace.iter().filter(|call| call.purpose == Purpose::Log && call.operation == operation).count();
        assert_eq!(count(Operation::Append), usize::from(durability != Unlogged), "{durability:?}: {trace:?}");
        assert_eq!(count(Operation::Sync), usize::from(durability == Synced), "{durability:?}: {trace:?}");
        assert_eq!(a.get("k").unwrap().unwrap(), "v");
        let survives = |image: MemFs| {
            let db = small(&image).open("db").unwrap();
            let found = ["a", "b"].map(|name| db.keyspace(name).unwrap().contains("k").unwrap());
            assert_eq!(found[0], found[1], "{durability:?}: whole or not at all");
            found[0]
        };
        assert_eq!(survives(memory.kill()), durability != Unlogged, "{durability:?}, killed");
        assert_eq!(survives(memory.power_cut(PowerCut::Lose)), durability == Synced, "{durability:?}, power cut");
        // Makes all before it durable, unlogged ones included.
        db.sync().unwrap();
        assert!(survives(memory.power_cut(PowerCut::Lose)), "{durability:?}, synced later");
    }
}

#[test]
fn an_unlogged_batch_becomes_durable_whole_whichever_of_its_keyspaces_is_flushed() {
    let fs = MemFs::new();
    let db = small(&fs).open("db").unwrap();
    let keyspaces = ["a", "b", "c"].map(|name| manual(&db, name));
    for (n, pair) in [(0, 1), (1, 2), (0, 2), (0, 1)].into_iter().enumerate() {
        let mut batch = WriteBatch::new();
        for which in [pair.0, pair.1] {
            batch.put(&keyspaces[which], n.to_string(), "v");
        }
        db.commit_with(batch, CommitOptions::new().durability(Durability::Unlogged)).unwrap();
        // Fills one keyspace, so that its memtable is flushed.
        for m in 0..40 {
            keyspaces[pair.1].put(format!("filler {m}"), "v".repeat(60)).unwrap();
            db.step_background().unwrap();
        }
        let image = small(&fs.power_cut(PowerCut::Lose)).open("db").unwrap();
        let found =
            [pair.0, pair.1].map(|which| manual(&image, ["a", "b", "c"][which]).contains(n.to_string()).unwrap());
        assert_eq!(found, [true, true], "{n}: flushed with the other, in one edit");
    }
}
