//! A device that fails in the middle of something, before a crash: what was under way may have happened or not.

use rand::RngExt;
use strandline::{CommitOptions, Durability, Error, Result, Retention, Timestamp, WriteBatch};

use super::model::{Commit, Write};
use super::runner::Runner;
use super::settings::{keyspace, pick};
use super::write::{add, describe, mark_key};

/// What was asked for when the device failed, and may have taken effect.
#[derive(Debug, Default)]
pub struct Undecided {
    floor: Option<Timestamp>,
    closed: Option<Timestamp>,
    made: Option<(String, Retention)>,
    dropped: Option<usize>,
}

impl Runner {
    /// From some file call on every call fails; goes on until the database says so.
    pub fn fail_inside(&mut self) -> Undecided {
        let calls = 1 << self.random.random_range(0..10);
        let nth = self.random.random_range(0..calls);
        self.log.add(format!("the device fails at call {nth}"));
        self.fail_after(nth);
        for _ in 0..25 {
            let mut undecided = Undecided::default();
            match self.step_undecided(&mut undecided) {
                Ok(()) => {}
                Err(Error::Io { .. } | Error::Background(_)) => return undecided,
                Err(error) => panic!("{error}"),
            }
        }
        Undecided::default()
    }

    /// Something that the device may fail in.
    fn step_undecided(&mut self, undecided: &mut Undecided) -> Result<()> {
        let last = self.model.last.max(self.model.closed);
        let ahead = last + 1 + self.some_span(3);
        match self.random.random_range(0..26) {
            0..=4 => self.db().step_background().map(|_| ()),
            5 => self.db().compact(),
            6 | 7 => self.db().flush().map(|()| self.model.all_durable()),
            8 | 9 => self.db().sync().map(|()| self.model.all_durable()),
            10 | 11 => {
                let floor = self.model.last;
                undecided.floor = Some(floor);
                match self.db().retain_from(floor.max(1)) {
                    Err(Error::FutureTimestamp { .. }) if floor == 0 => Ok(()),
                    result => result.map(|floor| self.retained(floor)),
                }
            }
            12 => {
                undecided.closed = Some(ahead);
                self.db().close_until(ahead).map(|()| self.closed(ahead))
            }
            13 => self.change_keyspaces_undecided(undecided),
            14 if self.settings.late_commits => self.commit_late_undecided(),
            _ => self.commit_undecided(ahead),
        }
    }

    /// A commit that the model takes whether it succeeds or not.
    fn commit_undecided(&mut self, at: Timestamp) -> Result<()> {
        self.next_mark += 1;
        let mark = Write::Put { key: mark_key(self.next_mark), value: Vec::new(), expires_at: None };
        let mut writes = vec![(self.marks, mark)];
        for _ in 0..self.random.random_range(0..9) {
            let space = self.some_space_to_write();
            writes.push((space, self.some_write()));
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
        let undecided = result.is_err();
        let marked = Some(self.next_mark);
        self.committed(Commit { timestamp: at, writes, durability, marked, durable: false, undecided });
        result.map(|timestamp| assert_eq!(timestamp, at))
    }

    /// One that may be refused, below a floor that has risen by itself or at a time that is closed.
    fn commit_late_undecided(&mut self) -> Result<()> {
        let last = self.model.last;
        let at = self.random.random_range(last / 2..=last).max(1);
        match self.commit_undecided(at) {
            Err(Error::BelowRetained { .. } | Error::LateCommit { .. }) => Ok(()),
            result => result,
        }
    }

    fn change_keyspaces_undecided(&mut self, undecided: &mut Undecided) -> Result<()> {
        let name = pick(&mut self.random, &["x", "y", "z"]);
        match self.model.live().into_iter().find(|space| self.space(*space).name == name) {
            Some(space) => {
                self.log.add(format!("drop keyspace {name}, {space}"));
                undecided.dropped = Some(space);
                self.db().drop_keyspace(name).map(|()| self.dropped(space))
            }
            None => {
                let retention = pick(&mut self.random, &[Retention::Latest, Retention::Manual]);
                self.log.add(format!("make keyspace {name}, {retention:?}"));
                undecided.made = Some((name.to_owned(), retention));
                let options = keyspace(&mut self.random, retention);
                let handle = self.db().keyspace_with(name, options)?;
                self.made(retention, handle);
                Ok(())
            }
        }
    }

    /// After the crash: a keyspace that was being made or dropped is there or it is not.
    pub fn decide_names(&mut self, undecided: &Undecided) {
        let names = self.db().keyspace_names();
        match undecided {
            Undecided { made: Some((name, retention)), .. } if names.contains(name) => {
                let handle = self.db().keyspace(name).unwrap();
                self.made(*retention, handle);
            }
            Undecided { dropped: Some(space), .. } if !names.contains(&self.space(*space).name) => {
                self.model.spaces[*space].dropped = true;
                self.handles.remove(space);
            }
            _ => {}
        }
    }

    /// After the crash: what was undecided has happened, or it has not.
    pub fn decide(&mut self, undecided: &Undecided) {
        let manual = self.model.live().into_iter().find(|space| self.space(*space).name == "manual");
        let floor = self.handles[&manual.unwrap()].retained_from();
        assert!(floor == self.model.manual_floor || Some(floor) == undecided.floor, "floor {floor}, {undecided:?}");
        self.model.manual_floor = floor;
        if let Some(closed) = undecided.closed.filter(|closed| self.db().closed_timestamp() == *closed) {
            self.model.closed = closed;
        }
    }
}
