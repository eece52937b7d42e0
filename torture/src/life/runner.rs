//! One run: operations drawn from a seed, done on the database and on the model, and compared.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use rand::RngExt;
use strandline::fs::{Call, Fault, FaultKind};
use strandline::{Clock, Db, Error, FaultFs, Keyspace, ManualTime, Retention, Time, Timestamp};

use super::fault::Undecided;
use super::held::Held;
use super::model::{Keys, Model, Space};
use super::names::Names;
use super::places::Places;
use super::settings::{Settings, chance, keyspace, pick};
use super::two_phase::InDoubt;
use crate::disk::{Disk, Lie};
use crate::random::Random;
use crate::story;

/// The directory of the database.
pub const DIR: &str = "db";

pub struct Runner {
    pub random: Random,
    pub settings: Settings,
    pub time: ManualTime,
    pub fs: FaultFs<Disk>,
    /// `None` only between closing and opening.
    pub db: Option<Db>,
    pub model: Model,
    /// Handles of the keyspaces that are there.
    pub handles: BTreeMap<usize, Keyspace>,
    /// Handles of keyspaces that were dropped since the database was opened.
    pub orphaned: Vec<(usize, Keyspace)>,
    pub held: Held,
    pub marks: usize,
    /// A transaction that is prepared, or may be; the next step decides it.
    pub in_doubt: Option<InDoubt>,
    pub next_mark: u64,
    pub log: Log,
    pub names: Names,
    pub places: Places,
    pub trace: Option<Vec<Call>>,
}

/// The last operations, told when a check fails.
#[derive(Default)]
pub struct Log {
    count: u64,
    tail: VecDeque<String>,
}

impl Log {
    const TAIL: usize = 60;

    pub fn add(&mut self, line: String) {
        self.count += 1;
        self.tail.push_back(format!("{:>6}  {line}", self.count));
        if self.tail.len() > Self::TAIL {
            self.tail.pop_front();
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.tail.drain(..).for_each(story::tell);
        }
    }
}

impl Runner {
    /// A life whose choices all follow from a seed.
    pub fn of_seed(seed: u64) -> Self {
        Self::new(Random::of_seed(seed), None)
    }

    /// A life on a disk that may lie.
    pub fn new(mut random: Random, lie: Option<Lie>) -> Self {
        let settings = Settings::draw(&mut random);
        let time = ManualTime::new(1_700_000_000_000);
        let fs = FaultFs::new(Disk::new(lie));
        fs.trace(true);
        let db = settings.options(&fs, &time).open(DIR).unwrap();
        let mut runner = Self {
            random,
            settings,
            time,
            fs,
            db: Some(db),
            model: Model::default(),
            handles: BTreeMap::new(),
            orphaned: Vec::new(),
            held: Held::default(),
            marks: 0,
            in_doubt: None,
            next_mark: 0,
            log: Log::default(),
            names: Names::default(),
            places: Places::default(),
            trace: None,
        };
        runner.marks = runner.make("marks", Retention::Window(u64::MAX));
        runner.make("manual", Retention::Manual);
        runner.make("latest", Retention::Latest);
        let window = runner.some_window();
        runner.make("window", window);
        runner
    }

    pub fn db(&self) -> &Db {
        self.db.as_ref().unwrap()
    }

    /// Every file call from now on is kept.
    pub fn keep_trace(&mut self) {
        self.trace = Some(Vec::new());
    }

    /// Ends the life, and gives every file call that was kept.
    pub fn into_trace(mut self) -> Vec<Call> {
        self.held = Held::default();
        self.db().close().unwrap();
        self.take_calls();
        self.trace.unwrap_or_default()
    }

    /// Goes over to other files: those that a crash left.
    pub fn change_files(&mut self, files: Disk) {
        self.take_calls();
        self.names.crashed(&files);
        self.places.crashed();
        self.fs = FaultFs::new(files);
        self.fs.trace(true);
    }

    /// Every file call fails, after so many that do not.
    pub fn fail_after(&mut self, calls: u64) {
        self.inject(Fault { purpose: None, operation: None, nth: calls, kind: FaultKind::Io, repeat: true });
    }

    pub fn inject(&mut self, fault: Fault) {
        self.take_calls();
        if fault.repeat {
            self.places.fails_after(fault.nth);
        }
        self.fs.inject(fault);
    }

    /// The device works again.
    pub fn mend(&mut self) {
        self.take_calls();
        self.places.crashed();
        self.fs.clear();
    }

    /// The database is opened by the life itself, which finds out what is there.
    pub fn try_open(&mut self) -> strandline::Result<()> {
        self.take_calls();
        self.names.opening(self.fs.inner());
        self.db = Some(self.settings.options(&self.fs, &self.time).open(DIR)?);
        self.check_in_force();
        Ok(())
    }

    /// After an opening, or a `resume`: whether it has written a manifest.
    pub fn check_in_force(&mut self) {
        if self.db().background_error().is_none() {
            self.take_calls();
            self.names.opened();
        }
    }

    /// Looks at the file calls since the last time.
    pub fn take_calls(&mut self) {
        let calls = self.fs.take_trace();
        for call in &calls {
            self.places.called(call);
            self.names.called(call, !self.places.failing);
        }
        if let Some(trace) = &mut self.trace {
            trace.extend(calls);
        }
    }

    pub fn step(&mut self) {
        self.settle_in_doubt();
        match self.random.random_range(0..1000) {
            0..420 => self.commit(),
            420..480 => self.write_alone(),
            480..640 => self.read(),
            640..680 => self.hold(),
            680..800 => self.use_held(),
            800..830 => self.release(),
            830..900 => self.work(),
            900..910 => self.flush(),
            910..925 => self.compact(),
            925..940 => self.retain(),
            940..948 => self.close_time(),
            948..953 => self.sync(),
            953..960 => self.change_keyspaces(),
            960..965 => self.make_mistakes(),
            965..972 => self.check_everything(),
            972..975 => self.verify(),
            975..980 => self.reopen(),
            980..984 => self.look_while_open(),
            984..992 => drop(self.crash()),
            992..995 => self.fail_and_resume(),
            _ => self.pass_time(),
        }
        self.check_times();
    }

    /// What something that failed has left in doubt is decided before anything else.
    fn settle_in_doubt(&mut self) {
        if self.in_doubt.is_some() {
            self.decide_in_doubt(None, &mut Undecided::default()).unwrap();
        }
    }

    pub fn check_times(&self) {
        assert_eq!(self.db().last_timestamp(), self.model.last, "last timestamp");
        let closed = if self.settings.late_commits { 0 } else { self.model.last };
        assert_eq!(self.db().closed_timestamp(), self.model.closed.max(closed), "closed timestamp");
    }

    /// Like [`step`](Self::step), but only what changes something.
    pub fn work_step(&mut self) {
        self.settle_in_doubt();
        match self.random.random_range(0..100) {
            0..56 => self.commit(),
            56..64 => self.write_alone(),
            64..76 => self.work(),
            76..80 => self.flush(),
            80..84 => self.compact(),
            84..88 => self.retain(),
            88..90 => self.close_time(),
            90..92 => self.sync(),
            92..95 => self.change_keyspaces(),
            95..96 => self.reopen(),
            _ => self.pass_time(),
        }
    }

    /// What the clock says now, by which latest reads judge expiry.
    pub fn now(&self) -> Timestamp {
        self.now_after(self.model.last)
    }

    /// What it would say if `last` were the last timestamp.
    pub fn now_after(&self, last: Timestamp) -> Timestamp {
        match self.settings.clock {
            Clock::Hybrid => last.max(self.time.unix_millis() << 16),
            _ => last,
        }
    }

    pub fn space(&self, space: usize) -> &Space {
        &self.model.spaces[space]
    }

    /// The floor of a keyspace, which must be one that its retention allows.
    pub fn floor(&self, space: usize) -> Timestamp {
        let floor = self.handles[&space].retained_from();
        let allowed = match self.space(space).retention {
            Retention::Manual => self.model.manual_floor..=self.model.manual_floor,
            Retention::Window(length) => 0..=self.model.highest.saturating_sub(length),
            _ => 0..=self.model.last,
        };
        assert!(
            allowed.contains(&floor) && floor <= self.model.last,
            "the floor of {space} is {floor}, not in {allowed:?}"
        );
        floor
    }

    /// A keyspace to write to: any but that of the marks.
    pub fn some_space_to_write(&mut self) -> usize {
        let mut live = self.model.live();
        live.retain(|space| *space != self.marks);
        pick(&mut self.random, &live)
    }

    /// A keyspace to read, that of the marks rarely. Beside threads, one whose floor rises only when it is told to.
    pub fn some_space(&mut self) -> usize {
        if self.settings.threads > 0 {
            let mut live = self.model.live();
            live.retain(|space| *space == self.marks || self.space(*space).retention == Retention::Manual);
            return pick(&mut self.random, &live);
        }
        if chance(&mut self.random, 1, 50) { self.marks } else { self.some_space_to_write() }
    }

    pub fn some_key(&mut self) -> Vec<u8> {
        pick(&mut self.random, &self.settings.keys)
    }

    /// A set of keys; now and then an inverted one.
    pub fn some_keys(&mut self) -> Keys {
        use std::ops::Bound::{Excluded, Included, Unbounded};
        match self.random.random_range(0..6) {
            0 => Keys::all(),
            1 => {
                let mut prefix = self.some_key();
                prefix.truncate(self.random.random_range(0..3));
                Keys::Prefix(prefix)
            }
            _ => {
                let (a, b) = (self.some_key(), self.some_key());
                let (a, b) =
                    if chance(&mut self.random, 9, 10) { (a.clone().min(b.clone()), a.max(b)) } else { (a, b) };
                let start = pick(&mut self.random, &[Included(a.clone()), Excluded(a), Unbounded]);
                let end = pick(&mut self.random, &[Included(b.clone()), Excluded(b), Unbounded]);
                Keys::Between(start, end)
            }
        }
    }

    /// A timestamp to read at: near commits, near the floor, near the ends.
    pub fn some_timestamp(&mut self, floor: Timestamp) -> Timestamp {
        let last = self.model.last;
        let commit = match self.model.commits.len() {
            0 => 0,
            n => self.model.commits[self.random.random_range(n.saturating_sub(40)..n)].timestamp,
        };
        let any = self.random.random_range(0..=last);
        let near = pick(&mut self.random, &[commit, commit, commit, floor, last, any]);
        match self.random.random_range(0..10) {
            0 => near.saturating_sub(1),
            1 => near.saturating_add(1),
            2 => pick(&mut self.random, &[0, last + 7, u64::MAX]),
            _ => near,
        }
    }

    /// So many timestamps as mean something to the clock.
    pub fn some_span(&mut self, most: u64) -> u64 {
        let span = self.random.random_range(0..most);
        if self.settings.clock == Clock::Hybrid { span << 16 } else { span }
    }

    fn some_window(&mut self) -> Retention {
        Retention::Window(self.some_span(40))
    }

    fn make(&mut self, name: &str, retention: Retention) -> usize {
        let options = keyspace(&mut self.random, retention);
        let handle = self.db().keyspace_with(name, options.clone()).unwrap();
        assert_eq!(handle.name(), name);
        let other = options.block_bytes(513);
        assert!(matches!(self.db().keyspace_with(name, other), Err(Error::InvalidArgument(_))));
        self.made(retention, handle)
    }

    /// A keyspace was made.
    pub fn made(&mut self, retention: Retention, handle: Keyspace) -> usize {
        self.model.spaces.push(Space::new(handle.name(), retention));
        let space = self.model.spaces.len() - 1;
        self.handles.insert(space, handle);
        space
    }

    /// A keyspace was dropped.
    pub fn dropped(&mut self, space: usize) {
        self.model.spaces[space].dropped = true;
        let handle = self.handles.remove(&space).unwrap();
        self.orphaned.push((space, handle));
    }

    /// Makes a keyspace, or drops one. The first four stay.
    fn change_keyspaces(&mut self) {
        let name = pick(&mut self.random, &["x", "y", "z"]);
        match self.model.live().into_iter().find(|space| self.space(*space).name == name) {
            Some(space) => {
                self.log.add(format!("drop keyspace {name}, {space}"));
                self.db().drop_keyspace(name).unwrap();
                self.dropped(space);
                assert!(matches!(self.db().drop_keyspace(name), Err(Error::UnknownKeyspace { .. })));
            }
            None => {
                let window = self.some_window();
                let retention = pick(&mut self.random, &[Retention::Latest, Retention::Manual, window]);
                let space = self.make(name, retention);
                self.log.add(format!("make keyspace {name}, {space}, {retention:?}"));
            }
        }
        self.check_names();
    }

    pub fn check_names(&self) {
        let expected: Vec<&str> = self.model.live().into_iter().map(|i| self.space(i).name.as_str()).collect();
        assert_eq!(self.db().keyspace_names(), expected);
    }

    pub fn work(&mut self) {
        let steps = self.random.random_range(1..6);
        self.log.add(format!("work, {steps} steps"));
        for _ in 0..steps {
            self.db().step_background().unwrap();
        }
    }

    pub fn flush(&mut self) {
        self.log.add("flush".into());
        self.db().flush().unwrap();
        self.model.all_durable();
    }

    fn compact(&mut self) {
        if chance(&mut self.random, 1, 4) {
            self.log.add("compact all".into());
            return self.db().compact().unwrap();
        }
        let (space, keys) = (self.some_space(), self.some_keys());
        self.log.add(format!("compact {keys:?} in {space}"));
        match keys {
            Keys::Between(start, end) => self.handles[&space].compact((start, end)).unwrap(),
            Keys::Prefix(prefix) => self.handles[&space].compact(prefix..).unwrap(),
        }
    }

    fn retain(&mut self) {
        let (floor, last) = (self.model.manual_floor, self.model.last);
        let wanted = match self.random.random_range(0..8) {
            0 => pick(&mut self.random, &[0, last + 1, floor]),
            1 => last,
            _ => floor + (last - floor) / self.random.random_range(1..6),
        };
        self.log.add(format!("retain from {wanted}"));
        match self.db().retain_from(wanted) {
            Ok(in_force) => {
                assert!((1..=last).contains(&wanted));
                assert_eq!(in_force, floor.max(wanted));
                self.retained(in_force);
            }
            Err(Error::InvalidArgument(_)) => assert_eq!(wanted, 0),
            Err(Error::FutureTimestamp { .. }) => assert!(wanted > last),
            Err(error) => panic!("{error}"),
        }
    }

    /// The floor of all manual keyspaces is durable, and so is all at or below it there.
    pub fn retained(&mut self, floor: Timestamp) {
        if floor > self.model.manual_floor {
            self.model.manual_floor = floor;
            self.model.durable_where(|model, commit| {
                let manual = |space: &usize| {
                    let space = &model.spaces[*space];
                    space.retention == Retention::Manual && !space.dropped
                };
                commit.timestamp <= floor && commit.writes.iter().any(|(space, _)| manual(space))
            });
        }
    }

    /// A time is closed, and all at or below it is durable.
    pub fn closed(&mut self, until: Timestamp) {
        if until > self.model.closed {
            self.model.closed = until;
            self.model.durable_where(|_, commit| commit.timestamp <= until);
        }
    }

    fn close_time(&mut self) {
        let last = self.model.last;
        let ahead = self.some_span(4);
        let wanted = pick(&mut self.random, &[last, last.saturating_sub(ahead), last + ahead]);
        self.log.add(format!("close until {wanted}"));
        self.db().close_until(wanted).unwrap();
        self.closed(wanted);
    }

    fn sync(&mut self) {
        self.log.add("sync".into());
        self.db().sync().unwrap();
        self.model.all_durable();
    }

    fn verify(&mut self) {
        self.log.add("verify".into());
        self.db().verify().unwrap();
    }

    fn pass_time(&mut self) {
        let by = Duration::from_micros(self.random.random_range(0..8000));
        self.log.add(format!("{by:?} pass"));
        self.time.advance(by);
    }

    /// Calls that must be refused, and that must change nothing.
    fn make_mistakes(&mut self) {
        self.log.add("mistakes".into());
        for (_, handle) in &self.orphaned {
            assert!(matches!(handle.put("k", "v"), Err(Error::UnknownKeyspace { .. })));
            assert!(matches!(handle.get("k"), Err(Error::UnknownKeyspace { .. })));
            assert!(matches!(handle.iter().next(), Some(Err(Error::UnknownKeyspace { .. }))));
            assert!(matches!(handle.history("k", ..).map(|_| ()), Err(Error::UnknownKeyspace { .. })));
        }
        assert!(matches!(self.db().keyspace(""), Err(Error::InvalidArgument(_))));
        let options = self.settings.options(&self.fs, &self.time);
        assert!(matches!(options.clone().open(DIR), Err(Error::Locked { .. })));
        assert!(matches!(options.destroy(DIR), Err(Error::Locked { .. })));
    }
}
