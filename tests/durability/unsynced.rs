//! L4: a flush leaves the log unsynced where the log begins behind all that its tables hold.

use strandline::fs::{Fault, FaultKind, PowerCut};
use strandline::{Background, Db, Error, FaultFs, Keyspace, KeyspaceOptions, MemFs, Options, Retention};

use crate::specimen::files;
use crate::support::Dice;

fn options(fs: &MemFs) -> Options {
    let sizes = Options::new().memtable_bytes(10 << 10).wal_bytes(64 << 10).wal_segment_bytes(4 << 10);
    sizes.fs(fs.clone()).background(Background::Stepped)
}

/// Two keyspaces whose floors rise by themselves.
struct Handles {
    db: Db,
    keyspaces: [Keyspace; 2],
}

fn open(options: Options, retention: Retention) -> Result<Handles, Error> {
    let db = options.open("db")?;
    let keyspace = |name| db.keyspace_with(name, KeyspaceOptions::new().retention(retention));
    let keyspaces = [keyspace("a")?, keyspace("b")?];
    Ok(Handles { db, keyspaces })
}

impl Handles {
    fn put(&self, to: usize, n: u32) -> Result<(), Error> {
        self.keyspaces[to].put(n.to_be_bytes(), [7; 150]).map(|_| ())
    }

    fn step(&self) -> Result<(), Error> {
        while self.db.step_background()? {}
        Ok(())
    }

    /// How many commits are left: a first part of all, over both keyspaces.
    fn prefix(&self, context: &str) -> u32 {
        let mut found: Vec<u32> = Vec::new();
        for pair in self.keyspaces.iter().flat_map(|keyspace| keyspace.iter()) {
            found.push(u32::from_be_bytes(pair.unwrap().0[..].try_into().unwrap()));
        }
        found.sort_unstable();
        let count = u32::try_from(found.len()).unwrap();
        let all: Vec<u32> = (0..count).collect();
        assert_eq!(found, all, "{context}: a prefix");
        assert!(self.db.last_timestamp() >= u64::from(count), "{context}");
        self.db.verify().unwrap_or_else(|error| panic!("{context}: {error}"));
        count
    }
}

const CUTS: [PowerCut; 6] = [
    PowerCut::Lose,
    PowerCut::Keep,
    PowerCut::Random(1),
    PowerCut::Random(2),
    PowerCut::Random(3),
    PowerCut::Random(4),
];

fn segments(fs: &MemFs) -> usize {
    files(fs).iter().filter(|name| name.ends_with(".log")).count()
}

// S21, S22
#[test]
fn what_a_flush_makes_needless_is_never_synced() {
    for retention in [Retention::Latest, Retention::Window(3), Retention::Manual] {
        let fs = MemFs::new();
        let handles = open(options(&fs), retention).unwrap();
        let (mut most, mut flushed) = (0, 0);
        for n in 0..2000 {
            handles.put(0, n).unwrap();
            most = most.max(segments(&fs));
            // Commits come in between the sealing and the flush.
            let before = handles.db.metrics().flushes;
            if n % 7 == 0 {
                handles.step().unwrap();
            }
            if handles.db.metrics().flushes > before {
                flushed = n - 14;
            }
            // One for the edit's mark, in a segment that it begins.
            let metrics = handles.db.metrics();
            assert!(metrics.log_syncs <= metrics.flushes, "{retention:?} {n}");
        }
        let metrics = handles.db.metrics();
        assert!(metrics.flushes > 20 && metrics.compactions > 2 && most < 10 && segments(&fs) < most, "{most}");
        let floor = handles.keyspaces[0].retained_from();
        assert_eq!(floor > 1900, retention != Retention::Manual, "{floor}");
        for cut in CUTS {
            let context = format!("{retention:?} {cut:?}");
            let mut image = fs.power_cut(cut);
            let mut there = 0;
            // What follows is proved again, over any number of power cuts.
            for round in 0..4 {
                let after = open(options(&image), retention).unwrap();
                let left = after.prefix(&context);
                assert!(left >= flushed.max(there), "{context} {round}: {left} of {flushed}, {there}");
                (left..left + 40).for_each(|n| after.put(usize::from(n % 3 == 0), n).unwrap());
                after.db.sync().unwrap();
                there = left + 40;
                (there..there + 100).for_each(|n| after.put(1, n).unwrap());
                after.step().unwrap();
                image = image.power_cut(cut);
            }
        }
        let after = open(options(&fs.kill()), retention).unwrap();
        assert_eq!(after.prefix("killed"), 2000);
    }
}

// S21
#[test]
fn where_another_keyspace_needs_the_log_it_is_synced() {
    let fs = MemFs::new();
    let handles = open(options(&fs), Retention::Latest).unwrap();
    handles.put(1, 0).unwrap();
    let mut n = 1;
    while handles.db.metrics().flushes == 0 {
        handles.put(0, n).unwrap();
        n += 1;
        if n % 7 == 0 {
            handles.step().unwrap();
        }
    }
    assert!(handles.db.metrics().log_syncs > 0);
    for cut in CUTS {
        let after = open(options(&fs.power_cut(cut)), Retention::Latest).unwrap();
        assert!(after.prefix(&format!("{cut:?}")) > n - 16);
    }
}

/// Writes until the disk is gone, which it is from call `crash_at` on. Returns how many commits were durable then.
fn crash(handles: Result<Handles, Error>, dice: &mut Dice) -> u32 {
    let Ok(handles) = handles else { return 0 };
    let (mut durable, mut focus) = (0, 0);
    for n in 0..400 {
        // Long runs in one keyspace, so that often the other one holds nothing of the log, but not always.
        if dice.one_in(60) {
            focus = 1 - focus;
        }
        if handles.put(focus, n).is_err() {
            break;
        }
        let stepped = match dice.below(40) {
            0..10 => handles.step(),
            10 => handles.db.sync().map(|()| durable = n + 1),
            11 => handles.db.flush().map(|()| durable = n + 1),
            _ => Ok(()),
        };
        if stepped.is_err() {
            break;
        }
    }
    durable
}

// S21, S22, S23
#[test]
fn the_power_may_go_at_any_call() {
    for seed in 0..12 {
        for retention in [Retention::Latest, Retention::Manual] {
            let run = |crash_at| {
                let memory = MemFs::new();
                let fs = FaultFs::new(memory.clone());
                let kind = FaultKind::StorageFull;
                fs.inject(Fault { purpose: None, operation: None, nth: crash_at, kind, repeat: true });
                let durable = crash(open(options(&memory).fs(fs.clone()), retention), &mut Dice::new(seed));
                (memory, fs.calls(), durable)
            };
            let calls = run(u64::MAX).1;
            let mut dice = Dice::new(100 + seed);
            for crash_at in (0..calls).filter(|_| dice.one_in(9)).collect::<Vec<_>>() {
                let (memory, _, durable) = run(crash_at);
                let cut = CUTS[usize::try_from(dice.below(6)).unwrap()];
                let context = format!("seed {seed}, {retention:?}, call {crash_at} of {calls}, {cut:?}");
                let image = memory.power_cut(cut);
                let after = open(options(&image), retention).unwrap_or_else(|error| panic!("{context}: {error}"));
                let left = after.prefix(&context);
                assert!(left >= durable, "{context}: {left} of {durable}");
                drop(after);
                let again = open(options(&image.power_cut(crash_at)), retention);
                let again = again.unwrap_or_else(|error| panic!("{context}, again: {error}"));
                assert_eq!(again.prefix(&context), left, "{context}, again");
            }
        }
    }
}
