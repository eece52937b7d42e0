//! Every engine that is compiled in does what the workloads take for granted.

use std::collections::BTreeMap;

use tempfile::tempdir;

use super::{compiled, open_map, open_versions};
use crate::engine::{Kind, Map, Settings, Versions};

fn settings() -> Settings {
    Settings {
        memtable_bytes: 4 << 20,
        cache_bytes: 8 << 20,
        block_bytes: 4096,
        filter_bits: 10,
        compression: true,
        background_threads: 2,
        sync: false,
        most_bytes: 1 << 28,
    }
}

fn key(number: u64) -> [u8; 16] {
    let mut key = [b'.'; 16];
    key[..8].copy_from_slice(&number.to_be_bytes());
    key
}

fn value(number: u64) -> Vec<u8> {
    number.to_le_bytes().repeat(12)
}

/// Even numbers are there; every tenth of them is deleted again.
const ROWS: u64 = 5000;

fn is_there(number: u64) -> bool {
    number < 2 * ROWS && number.is_multiple_of(2) && !number.is_multiple_of(20)
}

fn fill(map: &dyn Map) {
    let mut writer = map.writer().unwrap();
    // The first half one by one and twice, the second in batches.
    for pass in 0..2 {
        for number in 0..ROWS / 2 {
            writer.put(&key(2 * number), &value(number + pass)).unwrap();
        }
    }
    let batches: Vec<u64> = (ROWS / 2..ROWS).collect();
    for batch in batches.chunks(100) {
        let rows: Vec<_> = batch.iter().map(|number| (key(2 * number), value(*number))).collect();
        writer.put_all(&mut rows.iter().map(|(key, value)| (key.as_slice(), value.as_slice()))).unwrap();
    }
    for number in (0..ROWS).filter(|number| number.is_multiple_of(10)) {
        writer.delete(&key(2 * number)).unwrap();
    }
    writer.delete(&key(2 * ROWS + 2)).unwrap();
}

fn check(map: &dyn Map) {
    let mut reader = map.reader().unwrap();
    for number in 0..2 * ROWS + 4 {
        assert_eq!(reader.get(&key(number)).unwrap(), is_there(number), "{number}");
    }
    let there = |from: u64| (from..2 * ROWS).filter(|number| is_there(*number)).count();
    let keys: Vec<_> = (100..164).map(key).collect();
    let keys: Vec<&[u8]> = keys.iter().map(<[u8; 16]>::as_slice).collect();
    assert_eq!(reader.get_many(&keys).unwrap(), (100..164).filter(|number| is_there(*number)).count());
    assert_eq!(reader.get_many(&[]).unwrap(), 0);
    for from in [0, 1, 2, 19, 20, 21, 5001] {
        assert_eq!(reader.seek(&key(from), 1).unwrap(), 1, "{from}");
        assert_eq!(reader.seek(&key(from), 51).unwrap(), 51, "{from}");
        assert_eq!(reader.seek(&key(from), usize::MAX >> 1).unwrap(), there(from), "{from}");
    }
    assert_eq!(reader.seek(&key(2 * ROWS), 10).unwrap(), 0);
    assert_eq!(reader.seek(&key(0), 0).unwrap(), 0);
    for reverse in [false, true] {
        assert_eq!(reader.scan(reverse, u64::MAX >> 1).unwrap(), there(0) as u64);
        assert_eq!(reader.scan(reverse, 7).unwrap(), 7);
        assert_eq!(reader.scan(reverse, 0).unwrap(), 0);
    }
}

fn map_conforms(kind: Kind) {
    for (compression, sync) in [(true, false), (false, true)] {
        let dir = tempdir().unwrap();
        let mut settings = settings();
        settings.compression = compression;
        let open = |settings: &Settings| open_map(kind, dir.path(), settings).unwrap().unwrap();
        let map = open(&settings);
        fill(&*map);
        check(&*map);
        // Readers and writers on threads of their own, over what does not change by it.
        std::thread::scope(|scope| {
            for writes in [0, 100, 101] {
                let map = &*map;
                scope.spawn(move || {
                    let mut writer = map.writer().unwrap();
                    (0..writes).for_each(|write| writer.put(&key(2), &value(write)).unwrap());
                    check(map);
                });
            }
        });
        map.settle().unwrap();
        check(&*map);
        map.close().unwrap();

        settings.sync = sync;
        let map = open(&settings);
        check(&*map);
        map.writer().unwrap().put(&key(2 * ROWS), &value(1)).unwrap();
        assert!(map.reader().unwrap().get(&key(2 * ROWS)).unwrap());
        map.close().unwrap();
        let map = open(&settings);
        assert!(map.reader().unwrap().get(&key(2 * ROWS)).unwrap());
        map.close().unwrap();
    }
}

/// What must be found: for each key the timestamps of its versions.
type Model = BTreeMap<u64, Vec<u64>>;

const KEYS: u64 = 200;
const VERSIONS: u64 = 40;

/// Key 0 has versions beyond any number of steps after which a scan would seek.
fn fill_versions(versions: &dyn Versions) -> Model {
    let mut model = Model::new();
    let mut timestamp = 0;
    for pass in 0..VERSIONS {
        for number in 0..KEYS {
            // In each pass another order, and in the first passes not all keys.
            let number = (number * 7 + pass * 13) % KEYS;
            if number > KEYS / VERSIONS * (pass + 1) {
                continue;
            }
            for _ in 0..if number == 0 { 10 } else { 1 } {
                timestamp += 1;
                versions.put(&key(number), timestamp, &value(timestamp)).unwrap();
                model.entry(number).or_default().push(timestamp);
            }
        }
    }
    model
}

fn last(model: &Model) -> u64 {
    model.values().flatten().copied().max().unwrap()
}

fn check_versions(versions: &dyn Versions, model: &Model, floor: u64) {
    let last = last(model);
    assert_eq!(versions.scan().unwrap(), model.len() as u64);
    for number in 0..KEYS + 1 {
        assert_eq!(versions.get(&key(number)).unwrap(), model.contains_key(&number), "{number}");
    }
    let times = (floor.max(1)..=last).step_by(97).chain([last, floor.max(1)]);
    for time in times {
        let there = |number: &u64| model.get(number).is_some_and(|times| times[0] <= time);
        for number in (0..KEYS + 1).step_by(11) {
            assert_eq!(versions.get_at(&key(number), time).unwrap(), there(&number), "{number} as of {time}");
        }
        for (from, keys) in [(0, 1000), (0, 5), (1, 1), (17, 100), (KEYS, 3)] {
            let found = versions.scan_at(&key(from), time, keys).unwrap();
            let expected = (from..KEYS).filter(there).count().min(keys);
            assert!(found.is_none_or(|found| found == expected), "{found:?} of {expected} from {from} as of {time}");
        }
        let since = model.values().flatten().filter(|at| **at > time).count() as u64;
        let found = versions.changes_since(time).unwrap();
        assert!(found.is_none_or(|found| found == since), "{found:?} of {since} since {time}");
    }
}

fn versions_conform(kind: Kind) {
    let dir = tempdir().unwrap();
    let settings = settings();
    let versions = open_versions(kind, dir.path(), &settings).unwrap().unwrap();
    let model = fill_versions(&*versions);
    let all = model.values().map(|times| times.len() as u64).sum::<u64>();
    check_versions(&*versions, &model, 0);
    versions.settle().unwrap();
    check_versions(&*versions, &model, 0);
    assert!(versions.scan_versions().unwrap().is_none_or(|found| found == all));
    versions.close().unwrap();

    let versions = open_versions(kind, dir.path(), &settings).unwrap().unwrap();
    check_versions(&*versions, &model, 0);
    let floor = last(&model) / 2;
    if versions.drop_below(floor).unwrap() {
        check_versions(&*versions, &model, floor);
        let needed = |times: &Vec<u64>| {
            let above = times.iter().filter(|at| **at > floor).count();
            above + usize::from(times[0] <= floor)
        };
        let needed = model.values().map(needed).sum::<usize>() as u64;
        let kept = versions.scan_versions().unwrap().unwrap();
        // An engine may keep the version at the floor beside the one below it, never more.
        assert!(kept >= needed && kept <= needed + 1, "{kept} versions are kept, {needed} are needed");
    }
    versions.close().unwrap();
}

/// Keys as paths are: one may be the beginning of another.
fn text_conforms(kind: Kind) {
    let dir = tempdir().unwrap();
    let versions = open_versions(kind, dir.path(), &settings()).unwrap().unwrap();
    let keys = ["src", "s", "src/", "src/lib.rs", "src/lib", "srb", "srd"].map(str::as_bytes);
    let rounds = 30;
    for (at, key) in (1..).zip((0..rounds).flat_map(|_| keys)) {
        versions.put(key, at, &value(at)).unwrap();
    }
    for settled in [false, true] {
        if settled {
            versions.settle().unwrap();
        }
        for (number, key) in (1..).zip(keys) {
            assert!(versions.get(key).unwrap());
            assert!(versions.get_at(key, number).unwrap() && !versions.get_at(key, number - 1).unwrap());
        }
        for absent in ["sr", "src/li", "src/lib.rs2", "t"].map(str::as_bytes) {
            assert!(!versions.get(absent).unwrap());
        }
        assert_eq!(versions.scan().unwrap(), keys.len() as u64);
    }
    versions.close().unwrap();
}

/// One after the other: to wait until an engine's threads rest is to wait for those of all that are open.
#[test]
fn every_engine_is_a_map() {
    for (kind, version) in compiled() {
        assert!(version.starts_with(|first: char| first.is_ascii_digit()), "{kind:?} {version}");
        if kind != Kind::RocksDbKeys {
            println!("{kind:?} {version}");
            map_conforms(kind);
        }
    }
}

#[test]
fn every_engine_that_has_versions_keeps_them() {
    for (kind, version) in compiled() {
        if !matches!(kind, Kind::RocksDbTuned | Kind::Redb | Kind::Lmdb) {
            println!("{kind:?} {version}");
            versions_conform(kind);
            text_conforms(kind);
        }
    }
}

/// How a process that is to be killed is told where to write, and as which engine.
const DOOMED: &str = "STRANDLINE_PEERS_DOOMED";

/// Not a test: what [`a_commit_survives_a_killed_process`] starts. Without being told where, it does nothing.
#[test]
fn doomed_process() {
    let Ok(told) = std::env::var(DOOMED) else { return };
    let (name, dir) = told.split_once('=').unwrap();
    let map = open_map(Kind::named(name).unwrap(), dir.as_ref(), &settings()).unwrap().unwrap();
    fill(&*map);
    std::process::abort();
}

/// The durability class that the engines are held to. redb has no such class: what it keeps is what its head says.
#[test]
fn a_commit_survives_a_killed_process() {
    for (kind, _) in compiled().into_iter().filter(|(kind, _)| *kind != Kind::RocksDbKeys) {
        let dir = tempdir().unwrap();
        let status = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "engines::tests::doomed_process"])
            .env(DOOMED, format!("{}={}", kind.name(), dir.path().display()))
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .status()
            .unwrap();
        assert!(status.code().is_none(), "{kind:?} ended by itself: {status}");
        let map = open_map(kind, dir.path(), &settings()).unwrap().unwrap();
        if kind == Kind::Redb {
            assert_eq!(map.reader().unwrap().scan(false, 1).unwrap(), 0);
        } else {
            check(&*map);
        }
        map.close().unwrap();
    }
}
