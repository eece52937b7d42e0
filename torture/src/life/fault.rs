//! A device that fails in the middle of something: what was under way may have happened or not.
//!
//! As long as the database stays open the failed call has either taken effect, which can be seen, or it is as if it had
//! never been made. What a later opening finds may be another matter; `resume` settles it.

use rand::RngExt;
use strandline::{CommitOptions, Durability, Error, Result, Retention, Timestamp, WriteBatch};

use super::model::{Commit, Write};
use super::runner::Runner;
use super::settings::{chance, keyspace, pick};
use super::write::{add, describe, mark_key};

/// What was asked for when the device failed, cannot be seen, and may be on disk.
#[derive(Debug, Default, Clone)]
pub struct Undecided {
    commit: Option<Commit>,
    floor: Option<Timestamp>,
    closed: Option<Timestamp>,
    made: Option<(String, Retention)>,
    dropped: Option<usize>,
}

impl Undecided {
    /// A commit has failed.
    pub fn commits(&mut self, commit: Commit) {
        self.commit = Some(commit);
    }

    /// Takes over what `other` leaves undecided.
    pub fn add(&mut self, other: Self) {
        self.commit = other.commit.or(self.commit.take());
        self.floor = other.floor.or(self.floor);
        self.closed = other.closed.or(self.closed);
        self.made = other.made.or(self.made.take());
        self.dropped = other.dropped.or(self.dropped);
    }
}

/// So many numbers stand for the operations that a device may fail in, frequent ones for several.
pub const OPERATIONS: u32 = 26;

/// Whether a device that fails, or a disk that is full, shows as this error. Any other would be a wrong word for it.
pub fn is_failure(error: &Error) -> bool {
    match error {
        Error::Io { source, .. } => {
            let says = source.to_string();
            let full = source.kind() == std::io::ErrorKind::StorageFull;
            full || says.contains("injected") || says.contains("an earlier write or sync of this file failed")
        }
        Error::Background(first) => is_failure(first),
        _ => false,
    }
}

impl Runner {
    /// From some file call on every call fails; goes on until the database says so.
    pub fn fail_inside(&mut self) -> Undecided {
        let calls = 1 << self.random.random_range(0..10);
        let nth = self.random.random_range(0..calls);
        self.log.add(format!("the device fails at call {nth}"));
        self.fail_after(nth);
        let mut undecided = Undecided::default();
        for _ in 0..25 {
            match self.step_undecided(&mut undecided) {
                Ok(()) => {}
                Err(error) if is_failure(&error) => break,
                Err(error) => panic!("{error}"),
            }
        }
        undecided
    }

    /// Something that the device may fail in. What fails, and does not show, becomes undecided, unless the database had
    /// failed before: then it was refused, and has never been.
    pub fn step_undecided(&mut self, undecided: &mut Undecided) -> Result<()> {
        let refuses = self.db().background_error().is_some();
        let mut tried = Undecided::default();
        let result = self.try_step(&mut tried);
        match result {
            Ok(()) => assert!(!refuses, "a database that has failed accepts writes"),
            Err(_) if refuses => {}
            Err(_) => {
                self.observe(&mut tried);
                undecided.add(tried);
            }
        }
        result
    }

    fn try_step(&mut self, tried: &mut Undecided) -> Result<()> {
        let last = self.model.last.max(self.model.closed);
        let ahead = last + 1 + self.some_span(3);
        if self.in_doubt.is_some() && self.db().background_error().is_none() {
            return self.decide_in_doubt(Some(ahead), tried);
        }
        let operation = match self.settings.favourite {
            Some(favourite) if chance(&mut self.random, 1, 4) => favourite,
            _ => self.random.random_range(0..OPERATIONS),
        };
        match operation {
            0..=4 => {
                self.log.add("work".into());
                self.db().step_background().map(|_| ())
            }
            5 => {
                self.log.add("compact all".into());
                self.db().compact()
            }
            6 | 7 => {
                self.log.add("flush".into());
                self.db().flush().map(|()| self.model.all_durable())
            }
            8 | 9 => {
                self.log.add("sync".into());
                self.db().sync().map(|()| self.model.all_durable())
            }
            10 | 11 => {
                let floor = self.model.last;
                self.log.add(format!("retain from {floor}"));
                tried.floor = Some(floor);
                match self.db().retain_from(floor.max(1)) {
                    Err(Error::FutureTimestamp { .. }) if floor == 0 => Ok(()),
                    result => result.map(|floor| self.retained(floor)),
                }
            }
            12 => {
                self.log.add(format!("close until {ahead}"));
                tried.closed = Some(ahead);
                self.db().close_until(ahead).map(|()| self.closed(ahead))
            }
            13 => self.change_keyspaces_undecided(tried),
            14 if self.settings.late_commits => self.commit_late_undecided(tried),
            _ => self.commit_undecided(ahead, tried),
        }
    }

    /// A commit that the model takes if it succeeds.
    fn commit_undecided(&mut self, at: Timestamp, tried: &mut Undecided) -> Result<()> {
        self.next_mark += 1;
        let mark = Write::Put { key: mark_key(self.next_mark), value: Vec::new(), expires_at: None };
        let mut writes = vec![(self.marks, mark)];
        for _ in 0..self.random.random_range(0..9) {
            let space = self.some_space_to_write();
            writes.push((space, self.some_write()));
        }
        if Self::fits_two_phases(&writes) && self.in_doubt.is_none() && chance(&mut self.random, 1, 8) {
            return self.prepare(writes, self.next_mark);
        }
        let mut batch = WriteBatch::new();
        for (space, write) in &writes {
            add(&mut batch, &self.handles[space], write);
        }
        let durability = pick(&mut self.random, &[Durability::Unlogged, Durability::Buffered, Durability::Synced]);
        let result = self.db().commit_with(batch, CommitOptions::new().at(at).durability(durability));
        self.log.add(format!("commit at {at}, {durability:?}, {result:?}: {}", describe(&writes)));
        if let Err(Error::BelowRetained { .. } | Error::LateCommit { .. }) = result {
            return result.map(|_| ());
        }
        let marked = Some(self.next_mark);
        let undecided = result.is_err();
        let commit = Commit { timestamp: at, writes, durability, marked, durable: false, undecided };
        if undecided {
            tried.commit = Some(commit)
        } else {
            self.committed(commit)
        }
        result.map(|timestamp| assert_eq!(timestamp, at))
    }

    /// One that may be refused, below a floor that has risen by itself or at a time that is closed.
    fn commit_late_undecided(&mut self, tried: &mut Undecided) -> Result<()> {
        let last = self.model.last;
        let at = self.random.random_range(last / 2..=last).max(1);
        match self.commit_undecided(at, tried) {
            Err(Error::BelowRetained { .. } | Error::LateCommit { .. }) => Ok(()),
            result => result,
        }
    }

    fn change_keyspaces_undecided(&mut self, tried: &mut Undecided) -> Result<()> {
        let name = pick(&mut self.random, &["x", "y", "z"]);
        match self.model.live().into_iter().find(|space| self.space(*space).name == name) {
            Some(space) => {
                self.log.add(format!("drop keyspace {name}, {space}"));
                tried.dropped = Some(space);
                self.db().drop_keyspace(name).map(|()| self.dropped(space))
            }
            None => {
                let retention = pick(&mut self.random, &[Retention::Latest, Retention::Manual]);
                self.log.add(format!("make keyspace {name}, {retention:?}"));
                tried.made = Some((name.to_owned(), retention));
                let options = keyspace(&mut self.random, retention);
                let handle = self.db().keyspace_with(name, options)?;
                self.made(retention, handle);
                Ok(())
            }
        }
    }

    /// A call has failed, and the database is still open: what of it can be seen has happened, for good.
    fn observe(&mut self, tried: &mut Undecided) {
        self.decide_names(tried);
        let floor = self.manual_floor();
        if tried.floor == Some(floor) && floor > self.model.manual_floor {
            self.retained(floor);
            tried.floor = None;
        }
        if let Some(closed) = tried.closed.filter(|closed| self.db().closed_timestamp() == *closed) {
            self.closed(closed);
            tried.closed = None;
        }
        if let Some(Commit { timestamp, .. }) = &tried.commit {
            assert_eq!(self.db().last_timestamp(), self.model.last, "what failed at {timestamp} is visible");
        }
    }

    /// A keyspace that was being made or dropped is there or it is not.
    pub fn decide_names(&mut self, undecided: &mut Undecided) {
        let names = self.db().keyspace_names();
        if let Some((name, retention)) = undecided.made.take_if(|(name, _)| names.contains(name)) {
            let handle = self.db().keyspace(name).unwrap();
            self.made(retention, handle);
        }
        if let Some(space) = undecided.dropped.take_if(|space| !names.contains(&self.model.spaces[*space].name)) {
            self.model.spaces[space].dropped = true;
            if let Some(handle) = self.handles.remove(&space) {
                self.orphaned.push((space, handle));
            }
        }
    }

    /// The database was opened again: what was undecided has happened, or it has not.
    pub fn decide(&mut self, undecided: &mut Undecided) {
        let Undecided { commit, floor: wanted, closed, .. } = std::mem::take(undecided);
        let floor = self.manual_floor();
        assert!(floor == self.model.manual_floor || Some(floor) == wanted, "floor {floor}, {wanted:?}");
        self.model.manual_floor = floor;
        if let Some(closed) = closed.filter(|closed| self.db().closed_timestamp() == *closed) {
            self.model.closed = closed;
        }
        if let Some(commit) = commit {
            self.model.commit(commit);
        }
    }

    pub fn manual_floor(&self) -> Timestamp {
        let manual = self.model.live().into_iter().find(|space| self.space(*space).name == "manual");
        self.handles[&manual.unwrap()].retained_from()
    }
}
