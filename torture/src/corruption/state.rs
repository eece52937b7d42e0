//! What a database must answer, worked out once, and held against what one answers: each answer is the right one, or an
//! error that is handed back to be judged.

use std::collections::BTreeMap;
use std::fmt::Debug;

use strandline::{Change, Db, Error, Keyspace, Result, Slice, Timestamp};

use crate::life::model::{Key, Keys, Model, Pairs, Value, Version};
use crate::life::read::check_changes;
use crate::life::settings::shown;

/// Everything that can be asked, with the answers.
pub struct State {
    pub last: Timestamp,
    closed: Timestamp,
    names: Vec<String>,
    spaces: Vec<Answers>,
}

struct Answers {
    name: String,
    floor: Timestamp,
    newest: Vec<(Key, Option<Value>)>,
    /// At every timestamp at which the answer may change, and before.
    at: Vec<(Key, Timestamp, Option<Value>)>,
    histories: Vec<(Key, Vec<Version>)>,
    newest_pairs: Pairs,
    scans: Vec<(Timestamp, Pairs)>,
    points: Vec<(Key, Version)>,
    ranges: BTreeMap<Timestamp, Vec<(Key, Option<Key>)>>,
}

impl State {
    /// What a database must answer that has what `model` has, with these floors. Asked is also for what only `full`
    /// has.
    pub fn of(full: &Model, model: &Model, live: &[usize], floors: &[Timestamp], last: Timestamp) -> Self {
        let spaces = live.iter().zip(floors).map(|(space, floor)| Answers::of(full, model, *space, *floor, last));
        Self {
            last,
            closed: model.closed,
            names: live.iter().map(|space| model.spaces[*space].name.clone()).collect(),
            spaces: spaces.collect(),
        }
    }
}

impl Answers {
    fn of(full: &Model, model: &Model, space: usize, floor: Timestamp, last: Timestamp) -> Self {
        let (full, space) = (&full.spaces[space], &model.spaces[space]);
        let mut keys: Vec<Key> = full.keys().cloned().collect();
        keys.push(b"never".to_vec());
        let mut at = Vec::new();
        let mut changing = vec![floor, last];
        for key in &keys {
            let versions = full.versions(key);
            let mut times: Vec<_> = versions.iter().flat_map(|one| [one.timestamp, one.timestamp - 1]).collect();
            times.extend(versions.iter().filter_map(|one| one.expires_at));
            changing.extend(&times);
            times.extend([floor, last]);
            times.retain(|time| *time >= floor);
            times.sort_unstable();
            times.dedup();
            at.extend(times.into_iter().map(|time| (key.clone(), time, space.get(key, time, time))));
        }
        changing.retain(|time| (floor..=last).contains(time));
        changing.sort_unstable();
        changing.dedup();
        let pairs_at = |time| (time, space.scan(&Keys::all(), time, time));
        Self {
            name: space.name.clone(),
            floor,
            newest: keys.iter().map(|key| (key.clone(), space.get(key, last, last))).collect(),
            at,
            histories: keys.iter().map(|key| (key.clone(), space.history(key, floor))).collect(),
            newest_pairs: space.scan(&Keys::all(), last, last),
            scans: changing.into_iter().map(pairs_at).collect(),
            points: space.changed_points(floor + 1, u64::MAX),
            ranges: space.changed_ranges(floor + 1, u64::MAX),
        }
    }
}

/// Reading everything, and what came of it.
pub struct Read<'a> {
    /// Panics if an error may not be the answer.
    judge: &'a dyn Fn(&Error),
    /// How many answers were errors.
    pub errors: u64,
    pub questions: u64,
}

/// Scans at so many of the times at which something changes, others each time.
const SCANS: usize = 3;

impl<'a> Read<'a> {
    pub fn nothing(judge: &'a dyn Fn(&Error)) -> Self {
        Self { judge, errors: 0, questions: 0 }
    }

    /// Asks `db` everything; a wrong answer is a panic. `turn` chooses what of the past is scanned.
    pub fn everything(db: &Db, state: &State, turn: usize, judge: &'a dyn Fn(&Error)) -> Self {
        let mut read = Self::nothing(judge);
        assert_eq!((db.last_timestamp(), db.closed_timestamp()), (state.last, state.closed));
        assert_eq!(db.keyspace_names(), state.names);
        for answers in &state.spaces {
            let handle = db.keyspace(&answers.name).unwrap();
            assert_eq!(handle.retained_from(), answers.floor, "the floor of {}", answers.name);
            read.points(&handle, answers);
            read.scans(db, &handle, answers, turn);
            read.changes(&handle, answers);
        }
        read
    }

    fn ask<T>(&mut self, what: impl Fn() -> String, found: Result<T>, right: impl FnOnce(&T) -> bool) {
        self.questions += 1;
        match found {
            Ok(found) => assert!(right(&found), "a wrong answer: {}", what()),
            Err(error) => self.failed(&error),
        }
    }

    fn failed(&mut self, error: &Error) {
        self.errors += 1;
        (self.judge)(error);
    }

    fn points(&mut self, handle: &Keyspace, answers: &Answers) {
        let name = &answers.name;
        for (key, value) in &answers.newest {
            let what = || format!("{name}: get {}", shown(key));
            self.ask(what, handle.get(key), |found| found.as_deref() == value.as_deref());
        }
        let keys = || answers.newest.iter().map(|(key, _)| key);
        let what = || format!("{name}: multi_get");
        let right = |found: &Vec<Option<Slice>>| {
            found.iter().map(Option::as_deref).eq(answers.newest.iter().map(|(_, value)| value.as_deref()))
        };
        self.ask(what, handle.multi_get(keys()), right);
        for (key, time, value) in &answers.at {
            let what = || format!("{name}: get {} at {time}", shown(key));
            self.ask(what, handle.get_at(key, *time), |found| found.as_deref() == value.as_deref());
        }
        for (key, versions) in &answers.histories {
            let what = || format!("{name}: the newest of {}", shown(key));
            let newest = versions.first().map(|version| version.timestamp);
            self.ask(what, handle.latest_timestamp(key), |found| *found == newest);
            let what = || format!("{name}: history of {}", shown(key));
            match handle.history(key, ..) {
                Ok(history) => self.all(what, history, versions, |found, right| {
                    found.timestamp == right.timestamp
                        && found.value.as_deref() == right.value.as_deref()
                        && found.expires_at == right.expires_at
                }),
                Err(error) => self.failed(&error),
            }
        }
        if answers.floor > 0 {
            let below = handle.get_at("a", answers.floor - 1);
            assert!(matches!(below, Err(Error::BelowRetained { .. })), "{name} below its floor: {below:?}");
        }
    }

    fn scans(&mut self, db: &Db, handle: &Keyspace, answers: &Answers, turn: usize) {
        let name = &answers.name;
        let same = |found: &(Slice, Slice), right: &(Key, Value)| *found.0 == *right.0 && *found.1 == *right.1;
        let reversed = |pairs: &Pairs| -> Pairs { pairs.iter().rev().cloned().collect() };
        let what = || format!("{name}: scan");
        self.all(what, handle.iter(), &answers.newest_pairs, same);
        self.all(what, handle.iter().rev(), &reversed(&answers.newest_pairs), same);
        for nth in 0..SCANS.min(answers.scans.len()) {
            let (time, pairs) = &answers.scans[(turn * SCANS + nth) % answers.scans.len()];
            let snapshot = db.snapshot_at(*time).unwrap();
            let what = || format!("{name}: scan at {time}");
            self.all(what, snapshot.iter(handle), pairs, same);
            self.all(what, snapshot.iter(handle).rev(), &reversed(pairs), same);
        }
    }

    fn changes(&mut self, handle: &Keyspace, answers: &Answers) {
        self.questions += 1;
        let changes = handle.changes(answers.floor + 1..);
        match changes.and_then(Iterator::collect::<Result<Vec<Change>>>) {
            Ok(changes) => check_changes(&changes, &answers.points, &answers.ranges),
            Err(error) => self.failed(&error),
        }
    }

    /// An iterator gives what is right, up to the first error, and nothing behind that.
    fn all<T: Debug, U: Debug>(
        &mut self,
        what: impl Fn() -> String,
        mut found: impl Iterator<Item = Result<T>>,
        right: &[U],
        same: impl Fn(&T, &U) -> bool,
    ) {
        self.questions += 1;
        let mut expected = right.iter();
        loop {
            match (found.next(), expected.next()) {
                (None, None) => return,
                (Some(Ok(found)), Some(right)) if same(&found, right) => {}
                (Some(Err(error)), _) => {
                    self.failed(&error);
                    assert!(found.next().is_none(), "it goes on behind an error: {}", what());
                    return;
                }
                (found, expected) => panic!("a wrong answer: {}: {found:?}, not {expected:?}", what()),
            }
        }
    }
}
