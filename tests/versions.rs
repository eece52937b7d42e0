//! Reading versions: S1 to S7.
#![allow(clippy::indexing_slicing, clippy::unwrap_used, clippy::panic, reason = "a test")]

mod support;

use std::time::Duration;

use strandline::{
    Clock, CommitOptions, Compression, Db, Error, Keyspace, KeyspaceOptions, ManualTime, MemFs, Options, Retention,
    WriteBatch,
};
use support::world::{Life, World, walk};
use support::{Dice, KEYS, Model, Op, batch_of, check, everything, pairs, settle, small, small_keyspace, told};

fn manual(db: &Db) -> Keyspace {
    db.keyspace_with("manual", small_keyspace().retention(Retention::Manual)).unwrap()
}

// S1, S2, S4, S5, S6
#[test]
fn a_random_life_without_late_commits_agrees_with_the_model_at_every_timestamp() {
    for seed in 0..30 {
        World::run(Life { seed, retention: Retention::Manual, late: false, unlogged: false, steps: 120 });
    }
}

// S1, S2, S4, S5, S6
#[test]
fn a_random_life_with_late_commits_agrees_with_the_model_at_every_timestamp() {
    for seed in 100..140 {
        World::run(Life { seed, retention: Retention::Manual, late: true, unlogged: seed % 4 == 0, steps: 120 });
    }
}

/// What was written goes to where the test wants to read it from.
fn moved_to(place: &str, fs: &MemFs, db: Db, keyspace: Keyspace) -> (Db, Keyspace) {
    match place {
        "memory" => {}
        "level 0" => db.flush().unwrap(),
        "last level" => db.compact().unwrap(),
        "replayed" => {
            let db = small(&fs.kill()).open("db").unwrap();
            let keyspace = manual(&db);
            return (db, keyspace);
        }
        "reopened" => {
            db.close().unwrap();
            let db = small(fs).open("db").unwrap();
            let keyspace = manual(&db);
            return (db, keyspace);
        }
        other => panic!("there is no place {other:?}"),
    }
    (db, keyspace)
}

// S1
#[test]
fn keys_that_are_prefixes_of_each_other_do_not_touch_each_other() {
    for place in ["memory", "level 0", "last level", "replayed"] {
        let fs = MemFs::new();
        let mut db = small(&fs).open("db").unwrap();
        let mut keyspace = manual(&db);
        let mut model = Model::default();
        for (n, key) in KEYS.iter().enumerate() {
            let ops = [Op::Put(key.to_vec(), vec![u8::try_from(n).unwrap()])];
            model.commit(db.commit(batch_of(&keyspace, &ops)).unwrap(), &ops);
        }
        for key in KEYS.iter().step_by(2) {
            let ops = [Op::Delete(key.to_vec())];
            model.commit(db.commit(batch_of(&keyspace, &ops)).unwrap(), &ops);
        }
        (db, keyspace) = moved_to(place, &fs, db, keyspace);
        check(&db, &keyspace, &model, place);
        for prefix in KEYS {
            let expected = model.scan(&everything(), model.last).into_iter().filter(|(key, _)| key.starts_with(prefix));
            assert_eq!(pairs(keyspace.prefix(prefix)), expected.collect::<Vec<_>>(), "{place}: {prefix:?}");
        }
    }
}

// S2
#[test]
fn a_newer_version_that_is_not_visible_never_hides_an_older_one() {
    let db = small(&MemFs::new()).open("db").unwrap();
    let keyspace = manual(&db);
    for (n, flush) in [(1u64, false), (2, true), (3, false), (4, true), (5, false)] {
        assert_eq!(keyspace.put("k", n.to_string()).unwrap(), n);
        if flush {
            db.flush().unwrap();
        }
    }
    let tombstone = keyspace.delete("k").unwrap();
    for n in 1..=5 {
        assert_eq!(keyspace.get_at("k", n).unwrap().unwrap(), n.to_string());
        let snapshot = db.snapshot_at(n).unwrap();
        assert_eq!(pairs(snapshot.iter(&keyspace)), [(b"k".to_vec(), n.to_string().into_bytes())]);
        assert_eq!(pairs(snapshot.iter(&keyspace).rev()).len(), 1);
    }
    assert_eq!(keyspace.get_at("k", tombstone).unwrap(), None);
    assert_eq!(keyspace.get_at("k", 0).unwrap(), None);
    assert_eq!(keyspace.get_at("k", u64::MAX).unwrap(), None, "above the last timestamp: the newest there is");
}

// S2: turns at every place, over memtable, level 0 and a lower level
#[test]
fn a_cursor_that_turns_anywhere_neither_repeats_nor_leaves_out() {
    let db = small(&MemFs::new()).open("db").unwrap();
    let keyspace = manual(&db);
    let mut dice = Dice::new(7);
    let mut model = Model::default();
    for n in 0..60 {
        let ops = dice.ops(n);
        model.commit(db.commit(batch_of(&keyspace, &ops)).unwrap(), &ops);
        match n {
            20 => db.compact().unwrap(),
            35 | 45 => db.flush().unwrap(),
            _ => {}
        }
    }
    for timestamp in 0..=model.last {
        let snapshot = db.snapshot_at(timestamp).unwrap();
        let expected = model.scan(&everything(), timestamp);
        let mut cursor = snapshot.cursor(&keyspace);
        assert_eq!(cursor.entry(), None, "off the end until it is moved");
        for _ in 0..30 {
            walk(&mut dice, &mut cursor, &expected, &format!("at {timestamp}"));
        }
    }
}

// S2: an iterator consumed from both ends in every way
#[test]
fn an_iterator_gives_each_pair_once_from_whichever_end() {
    let db = small(&MemFs::new()).open("db").unwrap();
    let keyspace = db.keyspace("k").unwrap();
    for n in 0..6u8 {
        keyspace.put([n], [n]).unwrap();
        if n == 2 {
            db.flush().unwrap();
        }
    }
    for ends in 0u32..128 {
        let mut iter = keyspace.iter();
        let (mut front, mut back) = (0u8, 6u8);
        for turn in 0..7 {
            let from_front = ends & (1 << turn) != 0;
            let item = if from_front { iter.next() } else { iter.next_back() };
            if front == back {
                assert!(item.is_none(), "{ends:b}");
                continue;
            }
            let expected = if from_front { front } else { back - 1 };
            if from_front {
                front += 1
            } else {
                back -= 1
            }
            assert_eq!(item.unwrap().unwrap().0, [expected], "{ends:b}");
        }
    }
}

// S3
#[test]
fn an_empty_value_is_neither_absent_nor_deleted() {
    let fs = MemFs::new();
    let mut db = small(&fs).open("db").unwrap();
    let mut keyspace = manual(&db);
    keyspace.put("empty", "").unwrap();
    keyspace.put("", "").unwrap();
    keyspace.put("deleted", "").unwrap();
    keyspace.delete("deleted").unwrap();
    for place in ["memory", "replayed", "level 0", "last level", "reopened"] {
        (db, keyspace) = moved_to(place, &fs, db, keyspace);
        for key in ["empty", ""] {
            assert_eq!(keyspace.get(key).unwrap().unwrap(), "", "{place}");
            assert!(keyspace.contains(key).unwrap());
            assert_eq!(told(&keyspace, key.as_bytes())[0].1, Some(Vec::new()), "{place}");
        }
        assert_eq!(keyspace.get("deleted").unwrap(), None, "{place}");
        assert_eq!(told(&keyspace, b"deleted").len(), 2, "{place}");
        assert_eq!(keyspace.iter().count(), 2, "{place}");
        assert_eq!(keyspace.multi_get(["empty", "absent"]).unwrap(), [Some("".as_bytes().into()), None], "{place}");
    }
}

// S4
#[test]
fn at_the_floor_reads_are_exact_and_below_it_they_are_refused() {
    let fs = MemFs::new();
    let mut db = small(&fs).open("db").unwrap();
    let mut keyspace = manual(&db);
    for n in 1..=9u64 {
        keyspace.put("k", n.to_string()).unwrap();
    }
    assert_eq!(db.retain_from(5).unwrap(), 5);
    for place in ["at once", "compacted", "reopened"] {
        match place {
            "compacted" => db.compact().unwrap(),
            "reopened" => {
                db.close().unwrap();
                db = small(&fs).open("db").unwrap();
                keyspace = manual(&db);
            }
            _ => {}
        }
        assert_eq!(keyspace.retained_from(), 5, "{place}");
        for below in 0..5 {
            let refused =
                |error: Error| matches!(error, Error::BelowRetained { requested, retained: 5 } if requested == below);
            assert!(refused(keyspace.get_at("k", below).unwrap_err()), "{place} {below}");
            assert!(refused(keyspace.get_at("absent", below).unwrap_err()), "{place} {below}");
            assert!(refused(keyspace.has_version("k", below).unwrap_err()), "{place} {below}");
            assert!(refused(db.snapshot_at(below).unwrap_err()), "{place} {below}");
            assert!(refused(keyspace.changes(below..).unwrap_err()), "{place} {below}");
            assert!(refused(keyspace.changes(..).unwrap_err()) || below > 0, "{place}: 0 is no way around it");
        }
        for above in 5..=9 {
            assert_eq!(keyspace.get_at("k", above).unwrap().unwrap(), above.to_string(), "{place}");
            assert!(keyspace.has_version("k", above).unwrap(), "{place}");
            assert_eq!(pairs(db.snapshot_at(above).unwrap().iter(&keyspace)).len(), 1, "{place}");
        }
        let history: Vec<_> = told(&keyspace, b"k").into_iter().map(|version| version.0).collect();
        assert_eq!(history, [9, 8, 7, 6, 5], "{place}: history clips");
        assert_eq!(keyspace.changes(6..).unwrap().count(), 4, "{place}");
        assert!(keyspace.changes(5..).is_err(), "{place}: from a floor other than 0");
    }
}

// S5
#[test]
fn what_is_held_goes_on_when_its_keyspace_is_flushed_compacted_retained_and_dropped() {
    let db = small(&MemFs::new()).late_commits(true).open("db").unwrap();
    for retention in [Retention::Latest, Retention::Manual, Retention::Window(2)] {
        let keyspace = db.keyspace_with("held", small_keyspace().retention(retention)).unwrap();
        let keys: Vec<String> = (0..200).map(|n| format!("{n:03}")).collect();
        for (n, key) in keys.iter().enumerate() {
            keyspace.put(key, format!("{key} {}", "v".repeat(n % 40))).unwrap();
        }
        let snapshot = db.snapshot();
        let expected = pairs(keyspace.iter());
        let (mut iter, mut back) = (keyspace.iter(), snapshot.iter(&keyspace).rev());
        let (mut cursor, mut found, mut found_back) = (snapshot.cursor(&keyspace), Vec::new(), Vec::new());
        cursor.seek_to_first().unwrap();
        for (n, (key, value)) in expected.iter().enumerate() {
            assert_eq!(cursor.entry(), Some((&key[..], &value[..])), "{retention:?} {n}");
            cursor.next().unwrap();
            found.extend(iter.next().map(Result::unwrap));
            found_back.extend(back.next().map(Result::unwrap));
            match n {
                20 => db.flush().unwrap(),
                40 => {
                    for key in &keys {
                        keyspace.delete(key).unwrap();
                    }
                }
                60 => drop(db.retain_from(db.last_timestamp()).unwrap()),
                80 => db.compact().unwrap(),
                100 => settle(&db),
                120 => assert_eq!(keyspace.iter().count(), 0),
                140 => db.drop_keyspace("held").unwrap(),
                160 => drop(db.keyspace_with("held", small_keyspace().retention(retention)).unwrap()),
                180 => settle(&db),
                _ => {}
            }
        }
        assert_eq!(cursor.entry(), None);
        assert!(iter.next().is_none() && back.next().is_none());
        found_back.reverse();
        assert_eq!(found, found_back, "{retention:?}");
        assert_eq!(pairs(found.into_iter().map(Ok)), expected, "{retention:?}");
        assert_eq!(pairs(snapshot.iter(&keyspace)), expected, "{retention:?}: dropped, and the snapshot reads on");
        assert!(matches!(keyspace.get("000"), Err(Error::UnknownKeyspace { .. })));
        db.drop_keyspace("held").unwrap();
        drop((snapshot, cursor, iter, back));
        settle(&db);
    }
}

// S5, S6
#[test]
fn a_late_commit_is_seen_whole_by_snapshots_above_it_and_by_no_iterator_made_before() {
    let db = small(&MemFs::new()).late_commits(true).open("db").unwrap();
    let (a, b) = (manual(&db), db.keyspace_with("b", small_keyspace().retention(Retention::Manual)).unwrap());
    for n in 0..10 {
        a.put("k", format!("old {n}")).unwrap();
    }
    let [below, above] = [db.snapshot_at(4).unwrap(), db.snapshot_at(8).unwrap()];
    let mut iter = above.iter(&a);
    let mut cursor = above.cursor(&b);
    let mut batch = WriteBatch::new();
    for keyspace in [&a, &b] {
        batch.put(keyspace, "late", "late");
        batch.put(keyspace, "k", "late");
    }
    for (place, at) in [("in memory", 6), ("under tables", 7)] {
        assert_eq!(db.commit_with(batch.clone(), CommitOptions::new().at(at)).unwrap(), at);
        for keyspace in [&a, &b] {
            assert_eq!(above.get(keyspace, "late").unwrap().unwrap(), "late", "{place}");
            assert_eq!(below.get(keyspace, "late").unwrap(), None, "{place}");
            assert_eq!(keyspace.get_at("late", at).unwrap().unwrap(), "late");
            assert_eq!(keyspace.get_at("k", at).unwrap().unwrap(), "late");
        }
        assert_eq!(a.get_at("k", 8).unwrap().unwrap(), "old 7");
        assert_eq!(a.get_at("k", 5).unwrap().unwrap(), "old 4");
        db.flush().unwrap();
    }
    assert_eq!(iter.next().unwrap().unwrap().0, "k");
    assert!(iter.next().is_none(), "made before the late commit");
    cursor.seek_to_first().unwrap();
    assert_eq!(cursor.entry(), None, "made before the late commit");
}

// S7
#[test]
fn expiry_is_compared_with_the_timestamp_of_the_read() {
    for place in ["memory", "level 0", "last level", "replayed"] {
        let fs = MemFs::new();
        let mut db = small(&fs).open("db").unwrap();
        let mut keyspace = manual(&db);
        keyspace.put("k", "older").unwrap();
        let mut batch = WriteBatch::new();
        batch.put_expiring(&keyspace, "k", "expires", 5);
        batch.put_expiring(&keyspace, "dead from birth", "x", 2);
        batch.put_expiring(&keyspace, "never", "x", u64::MAX);
        assert_eq!(db.commit(batch).unwrap(), 2);
        (db, keyspace) = moved_to(place, &fs, db, keyspace);
        for last in 2..=6 {
            assert_eq!(db.last_timestamp(), last);
            let alive = |timestamp: u64| timestamp < 5;
            let visible = keyspace.get("k").unwrap();
            assert_eq!(visible.is_some(), alive(last), "{place}: {last}");
            assert_eq!(keyspace.iter().count(), 1 + usize::from(alive(last)), "{place}: an older one never comes back");
            for timestamp in 2..=8 {
                let found = keyspace.get_at("k", timestamp).unwrap();
                assert_eq!(found.is_some(), alive(timestamp), "{place}: at {timestamp}, last {last}");
            }
            assert_eq!(keyspace.get_at("k", 1).unwrap().unwrap(), "older");
            assert_eq!(keyspace.get_at("dead from birth", 2).unwrap(), None);
            assert_eq!(told(&keyspace, b"dead from birth"), [(2, Some(b"x".to_vec()), Some(2))], "{place}");
            assert!(keyspace.get_at("never", u64::MAX - 1).unwrap().is_some());
            assert!(keyspace.get_at("never", u64::MAX).unwrap().is_none());
            db.commit(WriteBatch::new()).unwrap();
        }
    }
}

// S7: under the hybrid clock an expiry passes without a write, and does not un-pass
#[test]
fn under_the_hybrid_clock_latest_reads_are_as_of_now_and_reads_at_a_timestamp_are_not() {
    let time = ManualTime::new(1_000_000);
    let db = small(&MemFs::new()).clock(Clock::Hybrid).time(time.clone()).open("db").unwrap();
    let keyspace = manual(&db);
    let written = keyspace.put("k", "older").unwrap();
    assert_eq!(written, 1_000_000 << 16);
    let mut batch = WriteBatch::new();
    let expires_at = 1_000_010 << 16;
    batch.put_expiring(&keyspace, "k", "v", expires_at);
    let written = db.commit(batch).unwrap();
    let before = db.snapshot();
    assert!(keyspace.contains("k").unwrap());
    time.advance(Duration::from_millis(9));
    assert!(keyspace.contains("k").unwrap());
    let iter = keyspace.iter();
    time.advance(Duration::from_millis(1));
    assert!(!keyspace.contains("k").unwrap());
    assert_eq!(keyspace.iter().count(), 0);
    assert_eq!(keyspace.multi_get(["k"]).unwrap(), [None]);
    assert_eq!(db.snapshot().get(&keyspace, "k").unwrap(), None);
    assert_eq!(iter.count(), 1, "an iterator's now was fixed when it was made");
    assert!(before.get(&keyspace, "k").unwrap().is_some(), "a snapshot's too");
    assert!(keyspace.get_at("k", written).unwrap().is_some());
    assert!(keyspace.get_at("k", expires_at - 1).unwrap().is_some());
    assert!(keyspace.get_at("k", expires_at).unwrap().is_none());
    time.set_unix_millis(1_000_001);
    assert!(!keyspace.contains("k").unwrap(), "what has passed does not un-pass");
    assert!(!keyspace.contains("k").unwrap());
    let next = keyspace.put("other", "").unwrap();
    assert!(next > written, "and timestamps never run backwards");
}

// S2, S5: shapes of keyspaces that change how tables are laid out, not what they say
#[test]
fn long_histories_and_large_values_read_back_whatever_the_layout() {
    let layouts = [
        KeyspaceOptions::new().compression(Compression::None).block_bytes(1),
        KeyspaceOptions::new().compression(Compression::Zstd(3)).block_bytes(64 << 10),
        KeyspaceOptions::new()
            .compression_per_level(vec![Compression::None, Compression::Zstd(1)])
            .filter_bits_per_key(0.0),
        small_keyspace().filter_bits_per_key(100.0),
    ];
    for layout in layouts {
        let db = Options::new().fs(MemFs::new()).memtable_bytes(64 << 10).block_cache_bytes(0).open("db").unwrap();
        let keyspace = db.keyspace_with("k", layout.clone().retention(Retention::Manual)).unwrap();
        let value = |n: u64| format!("{n}").repeat(usize::try_from(n % 13 * 100).unwrap());
        for n in 1..=600 {
            assert_eq!(keyspace.put(["a", "b", "c"][usize::try_from(n % 3).unwrap()], value(n)).unwrap(), n);
        }
        keyspace.put("large", vec![7; 3 << 20]).unwrap();
        for compact in [false, true] {
            if compact {
                db.compact().unwrap();
            }
            for n in (7..=600).step_by(11) {
                let key = ["a", "b", "c"][usize::try_from(n % 3).unwrap()];
                for (at, written) in [(n, n), (n + 1, n), (n + 2, n), (n - 1, n - 3)] {
                    if at <= 600 {
                        assert_eq!(keyspace.get_at(key, at).unwrap().unwrap(), value(written), "{layout:?} {at}");
                    }
                }
                assert!(keyspace.has_version(key, n).unwrap() && !keyspace.has_version(key, n - 1).unwrap());
            }
            assert_eq!(told(&keyspace, b"a").len(), 200, "{layout:?}");
            assert_eq!(keyspace.get("large").unwrap().unwrap().len(), 3 << 20);
            let clipped = keyspace.history("a", 100..200).unwrap().map(|version| version.unwrap().timestamp);
            assert_eq!(clipped.collect::<Vec<_>>(), (100..200).rev().filter(|n| n % 3 == 0).collect::<Vec<_>>());
        }
    }
}
