//! What the operations of a batch do, and how changes tell of them.

use std::ops::Bound;

use strandline::{Change, MemFs, WriteBatch};

use crate::support::{Dice, KEYS, Model, Op, batch_of, check, check_changes, everything, pairs, small, told};
use crate::{at, manual};

// The last operation on a key counts, range deletes included.
#[test]
fn of_several_operations_on_one_key_in_a_batch_the_last_one_counts() {
    let a = || b"a".to_vec();
    let around = || Op::DeleteRange(Bound::Included(b"".to_vec()), Bound::Included(b"b".to_vec()));
    let kinds: [&dyn Fn(u8) -> Op; 4] = [&|n| Op::Put(a(), vec![n]), &|_| Op::Delete(a()), &|_| around(), &|n| {
        Op::PutExpiring(a(), vec![n], if n % 2 == 0 { 100 } else { 1 })
    }];
    for choice in 0..4usize.pow(3) {
        let ops: Vec<_> = (0..3u8).map(|n| kinds[choice / 4usize.pow(u32::from(n)) % 4](n)).collect();
        for separately in [false, true] {
            let fs = MemFs::new();
            let mut db = small(&fs).late_commits(true).open("db").unwrap();
            let mut keyspace = manual(&db, "k");
            let mut model = Model::default();
            let before = [Op::Put(a(), b"before".to_vec()), Op::Put(b"b".to_vec(), b"before".to_vec())];
            model.commit(db.commit(batch_of(&keyspace, &before)).unwrap(), &before);
            model.commit(2, &ops);
            if separately {
                // The same as batches of their own at one timestamp: a later write replaces the earlier one.
                for (n, op) in ops.iter().enumerate() {
                    db.commit_with(batch_of(&keyspace, std::slice::from_ref(op)), at(2)).unwrap();
                    if choice >> n & 1 == 1 {
                        db.flush().unwrap();
                    }
                }
            } else {
                db.commit(batch_of(&keyspace, &ops)).unwrap();
            }
            for place in ["memory", "replayed", "level 0", "last level"] {
                match place {
                    "replayed" => {
                        db = small(&fs.kill()).late_commits(true).open("db").unwrap();
                        keyspace = manual(&db, "k");
                    }
                    "level 0" => db.flush().unwrap(),
                    "last level" => db.compact().unwrap(),
                    _ => {}
                }
                let context = format!("{ops:?}, separately: {separately}, {place}");
                check(&db, &keyspace, &model, &context);
                check_changes(&keyspace, &model, 0, 3, &context);
            }
        }
    }
}

#[test]
fn a_range_delete_covers_exactly_its_range_and_is_told_in_pieces_that_do() {
    let ranges: [(Bound<&str>, Bound<&str>); 8] = [
        (Bound::Unbounded, Bound::Unbounded),
        (Bound::Included("b"), Bound::Excluded("d")),
        (Bound::Included("b"), Bound::Included("d")),
        (Bound::Excluded("b"), Bound::Excluded("d")),
        (Bound::Excluded("b"), Bound::Included("d")),
        (Bound::Unbounded, Bound::Included("c")),
        (Bound::Excluded("c"), Bound::Unbounded),
        (Bound::Included(""), Bound::Excluded("")),
    ];
    let keys = ["", "a", "b", "b\0", "bb", "c", "c\0", "d", "d\0", "dd", "e"];
    for range in ranges {
        for place in ["memory", "level 0", "last level"] {
            let db = small(&MemFs::new()).open("db").unwrap();
            let keyspace = manual(&db, "k");
            for key in keys.iter() {
                keyspace.put(key, "v").unwrap();
            }
            let mut batch = WriteBatch::new();
            batch.delete_range(&keyspace, range);
            let deleted = db.commit(batch).unwrap();
            match place {
                "level 0" => db.flush().unwrap(),
                "last level" => db.compact().unwrap(),
                _ => {}
            }
            let inside = |key: &str| std::ops::RangeBounds::<str>::contains(&range, key);
            for key in keys {
                let context = format!("{range:?} {place} {key:?}");
                assert_eq!(keyspace.contains(key).unwrap(), !inside(key), "{context}");
                assert_eq!(keyspace.has_version(key, deleted).unwrap(), inside(key), "{context}");
                assert_eq!(keyspace.latest_timestamp(key).unwrap() == Some(deleted), inside(key), "{context}");
                assert_eq!(told(&keyspace, key.as_bytes()).len(), 1 + usize::from(inside(key)), "{context}");
            }
            // Keys that were never written are in the range as well.
            assert_eq!(keyspace.latest_timestamp("bbb").unwrap().is_some(), inside("bbb"));
            let mut covered: Vec<(Vec<u8>, Option<Vec<u8>>)> = Vec::new();
            for change in keyspace.changes(deleted..).unwrap() {
                match change.unwrap() {
                    Change::DeleteRange { start, end, timestamp } => {
                        assert_eq!(timestamp, deleted);
                        covered.push((start.to_vec(), end.map(Vec::from)));
                    }
                    other => panic!("{other:?}"),
                }
            }
            for key in keys.iter().map(|key| key.as_bytes()).chain([&b"bbb"[..], b"\xff\xff"]) {
                let pieces = covered
                    .iter()
                    .filter(|(start, end)| start[..] <= *key && end.as_ref().is_none_or(|end| key < &end[..]));
                let text = std::str::from_utf8(key);
                let expected = text.map_or(range.1 == Bound::Unbounded, inside);
                assert_eq!(pieces.count(), usize::from(expected), "{range:?} {place} {key:?}: {covered:?}");
            }
        }
    }
}

#[test]
fn a_prefix_delete_takes_the_keys_that_begin_with_it() {
    for prefix in KEYS {
        let db = small(&MemFs::new()).open("db").unwrap();
        let keyspace = manual(&db, "k");
        for key in KEYS.iter() {
            keyspace.put(key, key).unwrap();
        }
        let mut batch = WriteBatch::new();
        batch.delete_prefix(&keyspace, prefix);
        db.commit(batch).unwrap();
        let mut expected: Vec<_> = KEYS.iter().filter(|key| !key.starts_with(prefix)).map(|key| key.to_vec()).collect();
        expected.sort();
        let found: Vec<_> = pairs(keyspace.iter()).into_iter().map(|pair| pair.0).collect();
        assert_eq!(found, expected, "{prefix:?}");
        db.compact().unwrap();
        assert_eq!(pairs(keyspace.iter()).len(), expected.len(), "{prefix:?}");
    }
}

#[test]
fn changes_tell_every_version_of_a_time_in_key_order() {
    let db = small(&MemFs::new()).open("db").unwrap();
    let keyspace = manual(&db, "k");
    let mut model = Model::default();
    let mut dice = Dice::new(3);
    for n in 0..50 {
        let ops = dice.ops(n);
        model.commit(db.commit(batch_of(&keyspace, &ops)).unwrap(), &ops);
        if n == 25 {
            db.compact().unwrap();
        }
    }
    for from in 0..=model.last {
        for to in [from, from + 3, u64::MAX] {
            check_changes(&keyspace, &model, from, to, "changes");
        }
    }
    assert_eq!(keyspace.changes(..).unwrap().count(), keyspace.changes(0..=model.last).unwrap().count());
    assert_eq!(keyspace.changes(model.last + 1..).unwrap().count(), 0);
    assert_eq!(pairs(keyspace.iter()), model.scan(&everything(), model.last));
}
