//! What stays and what goes: S16 to S20.
#![allow(clippy::indexing_slicing, clippy::unwrap_used, clippy::panic, reason = "a test")]

mod support;

use std::ops::Bound;

use strandline::fs::{Fault, FaultKind, Operation, Purpose};
use strandline::{CommitOptions, Db, Error, FaultFs, Keyspace, MemFs, Retention, WriteBatch};
use support::world::{Life, World};
use support::{Dice, KEYS, Model, Op, batch_of, check, settle, small, small_keyspace, told, versions_in_tables};

fn made(db: &Db, retention: Retention) -> Keyspace {
    db.keyspace_with("k", small_keyspace().retention(retention)).unwrap()
}

fn points(dice: &mut Dice, around: u64) -> Vec<Op> {
    let mut ops = dice.ops(around);
    ops.retain(|op| !matches!(op, Op::DeleteRange(..)));
    ops
}

// S16, S18, S19, S20
#[test]
fn a_random_life_under_each_retention_agrees_with_the_model_above_its_floor() {
    for seed in 200..245 {
        let retention =
            [Retention::Latest, Retention::Window(3), Retention::Window(12)][usize::try_from(seed % 3).unwrap()];
        World::run(Life { seed, retention, late: seed % 2 == 0, unlogged: seed % 5 == 0, steps: 120 });
    }
}

// S16
#[test]
fn after_compact_exactly_what_is_promised_is_there() {
    for seed in 0..60 {
        let mut dice = Dice::new(seed);
        let late = dice.one_in(2);
        let retention = match dice.below(3) {
            0 => Retention::Latest,
            1 => Retention::Window(dice.below(20)),
            _ => Retention::Manual,
        };
        let context = format!("seed {seed}, {retention:?}, late {late}");
        let db = small(&MemFs::new()).late_commits(late).open("db").unwrap();
        let keyspace = made(&db, retention);
        let mut model = Model::default();
        for round in 0..4 {
            for _ in 0..25 {
                let ops = points(&mut dice, model.last);
                let floor = keyspace.retained_from();
                let mut options = CommitOptions::new();
                if late && model.last > floor && dice.one_in(2) {
                    options = options.at(floor + 1 + dice.below(model.last - floor));
                }
                model.commit(db.commit_with(batch_of(&keyspace, &ops), options).unwrap(), &ops);
                match dice.below(8) {
                    0 => db.flush().unwrap(),
                    1 => drop(db.step_background().unwrap()),
                    _ => {}
                }
            }
            if retention == Retention::Manual {
                let floor = keyspace.retained_from();
                db.retain_from(floor + 1 + dice.below(model.last - floor)).unwrap();
            }
            db.compact().unwrap();
            let floor = keyspace.retained_from();
            match retention {
                Retention::Latest => assert_eq!(floor, model.last, "{context}"),
                Retention::Window(length) => assert_eq!(floor, model.last.saturating_sub(length), "{context}"),
                _ => {}
            }
            check(&db, &keyspace, &model, &context);
            let found = usize::try_from(versions_in_tables(&db, "k")).unwrap();
            assert_eq!(found, model.kept(floor), "{context}, round {round}, floor {floor}");
        }
        // At a floor above everything that is alive nothing is left but the living.
        let ops = [Op::DeleteRange(Bound::Unbounded, Bound::Unbounded)];
        model.commit(db.commit(batch_of(&keyspace, &ops)).unwrap(), &ops);
        if retention == Retention::Manual {
            db.retain_from(model.last).unwrap();
        }
        for _ in 0..20 {
            db.commit(WriteBatch::new()).unwrap();
        }
        db.compact().unwrap();
        assert_eq!((db.metrics().table_files, db.metrics().table_bytes), (0, 0), "{context}");
    }
}

/// How a thousand keys go.
#[derive(Debug, Clone, Copy)]
enum Going {
    Deleted,
    DeletedByRange,
    DeletedByPrefixes,
    Expired,
    Overwritten,
}

fn let_go(db: &Db, keyspace: &Keyspace, going: Going) {
    let mut batch = WriteBatch::new();
    for n in 0..1000 {
        let key = format!("{n:04}");
        match going {
            Going::Deleted => batch.delete(keyspace, key),
            Going::Overwritten => batch.put_expiring(keyspace, key, "", 1),
            Going::DeletedByPrefixes if n % 100 == 0 => batch.delete_prefix(keyspace, &key[..2]),
            _ => {}
        }
        if n % 50 == 0 {
            db.commit(std::mem::take(&mut batch)).unwrap();
        }
    }
    if matches!(going, Going::DeletedByRange) {
        batch.delete_range(keyspace, "0000"..="0999");
    }
    db.commit(batch).unwrap();
    while db.last_timestamp() < 3000 {
        db.commit(WriteBatch::new()).unwrap();
    }
}

fn fill(keyspace: &Keyspace, db: &Db, going: Going) {
    for n in 0..1000 {
        let mut batch = WriteBatch::new();
        let key = format!("{n:04}");
        match going {
            Going::Expired => batch.put_expiring(keyspace, key, "value ".repeat(5), 2000),
            _ => batch.put(keyspace, key, "value ".repeat(5)),
        }
        db.commit(batch).unwrap();
    }
}

const GOINGS: [Going; 5] =
    [Going::Deleted, Going::DeletedByRange, Going::DeletedByPrefixes, Going::Expired, Going::Overwritten];

// S18
#[test]
fn what_is_gone_leaves_no_file_after_compact() {
    for going in GOINGS {
        for retention in [Retention::Latest, Retention::Manual, Retention::Window(10)] {
            let db = small(&MemFs::new()).open("db").unwrap();
            let keyspace = made(&db, retention);
            fill(&keyspace, &db, going);
            db.compact().unwrap();
            assert!(db.metrics().table_bytes > 10_000);
            let_go(&db, &keyspace, going);
            if retention == Retention::Manual {
                db.retain_from(db.last_timestamp()).unwrap();
            }
            db.compact().unwrap();
            assert_eq!((db.metrics().table_files, db.metrics().table_bytes), (0, 0), "{going:?} {retention:?}");
            assert_eq!(keyspace.iter().count(), 0);
            assert_eq!(told(&keyspace, b"0007"), []);
            db.verify().unwrap();
        }
    }
}

// S18: nobody compacts, nobody writes there any more
#[test]
fn what_is_gone_goes_from_idle_ranges_by_background_work_alone() {
    for going in GOINGS {
        for retention in [Retention::Latest, Retention::Manual, Retention::Window(10)] {
            for reopened in [false, true] {
                let context = format!("{going:?} {retention:?} reopened: {reopened}");
                let fs = MemFs::new();
                let mut db = small(&fs).open("db").unwrap();
                let mut keyspace = made(&db, retention);
                fill(&keyspace, &db, going);
                settle(&db);
                let_go(&db, &keyspace, going);
                db.flush().unwrap();
                settle(&db);
                if retention == Retention::Manual {
                    assert!(db.metrics().table_bytes > 10_000, "{context}: nothing goes above the floor");
                    db.retain_from(db.last_timestamp()).unwrap();
                }
                if reopened {
                    db.close().unwrap();
                    db = small(&fs).open("db").unwrap();
                    keyspace = made(&db, retention);
                }
                settle(&db);
                let metrics = db.metrics();
                assert_eq!((metrics.table_files, metrics.table_bytes), (0, 0), "{context}: {:?}", metrics.keyspaces);
                assert_eq!(keyspace.iter().count(), 0, "{context}");
            }
        }
    }
}

// S18
#[test]
fn overwritten_versions_go_from_idle_ranges_when_the_floor_passes_them() {
    let db = small(&MemFs::new()).open("db").unwrap();
    let keyspace = made(&db, Retention::Manual);
    for round in 0..20 {
        for n in 0..200 {
            keyspace.put(format!("{n:04}"), format!("{round} {}", "value".repeat(n % 7))).unwrap();
        }
    }
    db.flush().unwrap();
    settle(&db);
    assert_eq!(versions_in_tables(&db, "k"), 20 * 200);
    db.retain_from(db.last_timestamp()).unwrap();
    settle(&db);
    let left = versions_in_tables(&db, "k");
    assert!(left <= 300, "{left} versions of 200 keys: more than levels that cover each other explain");
    db.compact().unwrap();
    assert_eq!(versions_in_tables(&db, "k"), 200);
}

// S18
#[test]
fn a_queue_does_not_grow_with_what_has_passed_through_it() {
    for by_range in [false, true] {
        let db = small(&MemFs::new()).open("db").unwrap();
        let keyspace = made(&db, Retention::Latest);
        let mut largest = 0;
        for n in 0..6000u64 {
            keyspace.put(format!("{n:08}"), "an entry of the queue").unwrap();
            if n >= 100 && by_range {
                let mut batch = WriteBatch::new();
                batch.delete_range(&keyspace, ..format!("{:08}", n - 100));
                db.commit(batch).unwrap();
            } else if n >= 100 {
                keyspace.delete(format!("{:08}", n - 100)).unwrap();
            }
            db.step_background().unwrap();
            if n > 1000 {
                largest = largest.max(db.metrics().table_bytes);
            }
        }
        assert!(largest < 60_000, "by range {by_range}: {largest} bytes of tables for 100 entries");
        settle(&db);
        db.flush().unwrap();
        settle(&db);
        let left: u64 = versions_in_tables(&db, "k");
        assert!(left <= 110, "by range {by_range}: {left} versions for 100 entries");
    }
}

fn permutations(of: &[usize]) -> Vec<Vec<usize>> {
    if of.is_empty() {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for (at, first) in of.iter().enumerate() {
        let mut rest = of.to_vec();
        rest.remove(at);
        all.extend(permutations(&rest).into_iter().map(|mut tail| {
            tail.insert(0, *first);
            tail
        }));
    }
    all
}

// S19
#[test]
fn a_tombstone_hides_what_is_older_in_whatever_order_they_came_and_wherever_they_are() {
    let key = || b"a".to_vec();
    let everything = || Op::DeleteRange(Bound::Included(b"".to_vec()), Bound::Excluded(b"b".to_vec()));
    let put = |timestamp: u64| (timestamp, Op::Put(key(), format!("at {timestamp}").into_bytes()));
    let scripts = [
        vec![put(2), put(3), (4, Op::Delete(key()))],
        vec![put(2), put(3), (4, everything())],
        vec![put(2), (3, Op::PutExpiring(key(), b"expires".to_vec(), 4))],
        vec![put(2), (3, Op::Delete(key())), put(4), (5, everything())],
        vec![put(2), (3, everything()), (3, Op::Put(key(), b"at 3".to_vec())), (4, Op::Delete(key()))],
        vec![put(2), (4, everything()), (5, Op::PutExpiring(key(), b"dead from birth".to_vec(), 1))],
    ];
    for (script_number, script) in scripts.iter().enumerate() {
        for order in permutations(&(0..script.len()).collect::<Vec<_>>()) {
            // Two bits an operation for what is done after it, two for how it ends.
            for ways in 0..1u32 << (2 * script.len() + 2) {
                let context = format!("script {script_number}, order {order:?}, ways {ways:b}");
                let db = small(&MemFs::new()).late_commits(true).open("db").unwrap();
                let keyspace = made(&db, Retention::Manual);
                let mut model = Model::default();
                for (at, which) in order.iter().enumerate() {
                    let (timestamp, op) = &script[*which];
                    let ops = [op.clone()];
                    let commit = CommitOptions::new().at(*timestamp);
                    assert_eq!(db.commit_with(batch_of(&keyspace, &ops), commit).unwrap(), *timestamp, "{context}");
                    model.commit(*timestamp, &ops);
                    let missing = order[at + 1..].iter().map(|which| script[*which].0).min().unwrap_or(u64::MAX);
                    match ways >> (2 * at) & 3 {
                        0 => {}
                        1 => db.flush().unwrap(),
                        2 => db.compact().unwrap(),
                        _ => {
                            // As far as nothing is missing any more.
                            let floor = model.last.min(missing - 1);
                            db.retain_from(floor).unwrap();
                            settle(&db);
                        }
                    }
                    let at = keyspace.get("a").unwrap().map(Vec::from);
                    assert_eq!(at, model.get(b"a", model.last), "{context}");
                }
                let after = [Op::Put(b"z".to_vec(), b"end".to_vec())];
                model.commit(db.commit_with(batch_of(&keyspace, &after), CommitOptions::new().at(9)).unwrap(), &after);
                db.retain_from(9).unwrap();
                match ways >> (2 * script.len()) & 3 {
                    0 => settle(&db),
                    1 => db.flush().unwrap(),
                    2 => {
                        db.flush().unwrap();
                        settle(&db);
                    }
                    _ => db.compact().unwrap(),
                }
                assert_eq!(keyspace.get("a").unwrap().map(Vec::from), model.get(b"a", 9), "{context}");
                db.compact().unwrap();
                assert_eq!(keyspace.get("a").unwrap().map(Vec::from), model.get(b"a", 9), "{context}");
                assert_eq!(keyspace.iter().count(), 1, "{context}");
                assert_eq!(versions_in_tables(&db, "k"), 1, "{context}");
            }
        }
    }
}

/// The versions that one of the readers at `points` needs, and those that may stay because of them: at least, at most.
fn needed(model: &Model, floor: u64, points: &[u64]) -> (usize, usize) {
    let (mut least, mut most) = (0, 0);
    for key in KEYS {
        let all = model.history(key, 0);
        let stands_at = |point: u64| all.iter().find(|version| version.0 <= point).map(|version| version.0);
        let above = all.iter().filter(|version| version.0 > floor).count();
        let mut seen: Vec<_> = points.iter().chain([&floor]).filter_map(|point| stands_at(*point)).collect();
        seen.sort_unstable();
        seen.dedup();
        let alive = |timestamp: &&u64| {
            points
                .iter()
                .chain([&floor])
                .any(|point| stands_at(*point) == Some(**timestamp) && model.get(key, *point).is_some())
        };
        least += above + seen.iter().filter(alive).filter(|timestamp| **timestamp <= floor).count();
        most += above + seen.iter().filter(|timestamp| **timestamp <= floor).count();
    }
    (least, most)
}

// S20
#[test]
fn live_snapshots_keep_what_they_see_and_nothing_more() {
    for seed in 0..40 {
        let mut dice = Dice::new(seed);
        let retention = if dice.one_in(2) { Retention::Latest } else { Retention::Manual };
        let context = format!("seed {seed}, {retention:?}");
        let db = small(&MemFs::new()).open("db").unwrap();
        let keyspace = made(&db, retention);
        let (mut model, mut snapshots) = (Model::default(), Vec::new());
        for _ in 0..60 {
            let ops = points(&mut dice, model.last);
            model.commit(db.commit(batch_of(&keyspace, &ops)).unwrap(), &ops);
            match dice.below(10) {
                0 | 1 => snapshots.push(db.snapshot()),
                2 => db.flush().unwrap(),
                3 => settle(&db),
                _ => {}
            }
        }
        if retention == Retention::Manual {
            db.retain_from(model.last).unwrap();
        }
        while !snapshots.is_empty() {
            db.compact().unwrap();
            let points: Vec<_> = snapshots.iter().map(strandline::Snapshot::timestamp).collect();
            for snapshot in &snapshots {
                support::check_snapshot(snapshot, &keyspace, &model, &context);
            }
            let (least, most) = needed(&model, model.last, &points);
            let found = usize::try_from(versions_in_tables(&db, "k")).unwrap();
            assert!((least..=most).contains(&found), "{context}, at {points:?}: {found} of {least} to {most}");
            snapshots.remove(usize::try_from(dice.below(points.len() as u64)).unwrap());
        }
        db.compact().unwrap();
        assert_eq!(usize::try_from(versions_in_tables(&db, "k")).unwrap(), model.kept(model.last), "{context}");
    }
}

// S20: one that is refused by a keyspace keeps nothing in it
#[test]
fn a_snapshot_below_the_floor_of_one_keyspace_reads_the_others() {
    let db = small(&MemFs::new()).open("db").unwrap();
    let (kept, passed) = (made(&db, Retention::Manual), db.keyspace_with("latest", small_keyspace()).unwrap());
    for n in 1..=5u8 {
        let mut batch = WriteBatch::new();
        batch.put(&kept, "k", [n]);
        batch.put(&passed, "k", [n]);
        db.commit(batch).unwrap();
    }
    db.flush().unwrap();
    let snapshot = db.snapshot_at(2).unwrap();
    assert_eq!(snapshot.get(&kept, "k").unwrap().unwrap(), [2]);
    let refused = |result: Result<_, Error>| matches!(result, Err(Error::BelowRetained { requested: 2, retained: 5 }));
    assert!(refused(snapshot.get(&passed, "k").map(drop)));
    assert!(refused(snapshot.multi_get(&passed, ["k"]).map(drop)));
    assert!(refused(snapshot.iter(&passed).next().unwrap().map(drop)));
    assert!(refused(snapshot.iter(&passed).next_back().unwrap().map(drop)));
    assert!(refused(snapshot.cursor(&passed).seek_to_first()));
    db.drop_keyspace("k").unwrap();
    assert!(matches!(db.snapshot_at(2), Err(Error::BelowRetained { .. })), "now it is under every floor");
    assert_eq!(snapshot.get(&kept, "k").unwrap().unwrap(), [2]);
}

// S16
#[test]
fn the_floor_that_manual_keyspaces_share_also_binds_those_made_later() {
    let fs = MemFs::new();
    let db = small(&fs).open("db").unwrap();
    let early = made(&db, Retention::Manual);
    let latest = db.keyspace("latest").unwrap();
    assert!(matches!(db.retain_from(1), Err(Error::FutureTimestamp { requested: 1, last: 0 })));
    for n in 0..10u8 {
        early.put([n], [n]).unwrap();
    }
    assert!(matches!(db.retain_from(0), Err(Error::InvalidArgument(_))));
    assert!(matches!(db.retain_from(11), Err(Error::FutureTimestamp { requested: 11, last: 10 })));
    assert_eq!(early.retained_from(), 0);
    assert_eq!(db.retain_from(7).unwrap(), 7);
    assert_eq!(db.retain_from(3).unwrap(), 7, "lower than the floor: no change");
    let later = db.keyspace_with("later", small_keyspace().retention(Retention::Manual)).unwrap();
    assert_eq!((early.retained_from(), later.retained_from(), latest.retained_from()), (7, 7, 0));
    assert!(matches!(later.get_at("k", 6), Err(Error::BelowRetained { requested: 6, retained: 7 })));
    // Durable before anything is dropped: a power cut that loses all it may does not lower it.
    let db = small(&fs.power_cut(strandline::fs::PowerCut::Lose)).open("db").unwrap();
    for name in ["k", "later"] {
        assert_eq!(db.keyspace(name).unwrap().retained_from(), 7, "{name}");
    }
    assert!(db.last_timestamp() >= 7, "no floor exceeds the last timestamp");
    assert_eq!(db.keyspace("k").unwrap().get_at([6], 7).unwrap().unwrap(), [6]);
}

// S17
#[test]
fn retention_that_is_interrupted_anywhere_answers_rightly_and_finishes_on_the_next_try() {
    let calls = [
        (Purpose::Compaction, Operation::Create),
        (Purpose::Compaction, Operation::Append),
        (Purpose::Compaction, Operation::Sync),
        (Purpose::Compaction, Operation::SyncDir),
        (Purpose::Manifest, Operation::Append),
        (Purpose::Manifest, Operation::Sync),
        (Purpose::Table, Operation::Read),
        (Purpose::Table, Operation::Open),
        (Purpose::Table, Operation::Remove),
    ];
    for (purpose, operation) in calls {
        for nth in 0.. {
            let context = format!("{purpose:?} {operation:?} {nth}");
            let memory = MemFs::new();
            let faulty = FaultFs::new(memory.clone());
            let db = small(&memory).fs(faulty.clone()).block_cache_bytes(0).open("db").unwrap();
            let keyspace = made(&db, Retention::Manual);
            let (mut model, mut dice) = (Model::default(), Dice::new(nth));
            for n in 0..80 {
                let ops = dice.ops(n);
                model.commit(db.commit(batch_of(&keyspace, &ops)).unwrap(), &ops);
            }
            db.flush().unwrap();
            settle(&db);
            faulty.inject(Fault {
                purpose: Some(purpose),
                operation: Some(operation),
                nth,
                kind: FaultKind::Io,
                repeat: false,
            });
            let floor = model.last - 5;
            let failed = db.retain_from(floor).is_err() | db.compact().is_err();
            // Still right while it stands failed, as far as it can be read.
            faulty.clear();
            check(&db, &keyspace, &model, &context);
            let left = memory.kill();
            drop((keyspace, db));
            for (how, image) in [("closed", memory), ("killed", left.clone()), ("cut", left.power_cut(nth))] {
                let context = format!("{context}, {how}");
                let db = small(&image).open("db").unwrap();
                let keyspace = made(&db, Retention::Manual);
                if how != "cut" {
                    check(&db, &keyspace, &model, &context);
                }
                if db.last_timestamp() == model.last {
                    db.retain_from(floor).unwrap();
                    db.compact().unwrap();
                    check(&db, &keyspace, &model, &context);
                    assert!(versions_in_tables(&db, "k") <= model.kept(floor) as u64, "{context}");
                }
                db.verify().unwrap();
            }
            if !failed && operation != Operation::Remove || nth > 60 {
                assert!(nth > 0, "{context}: nothing failed");
                break;
            }
            if nth > 20 && operation == Operation::Remove {
                break;
            }
        }
    }
}
