//! A device that fails in the middle of something, before a crash: what was under way may have happened or not.

use rand::RngExt;
use strandline::fs::{Fault, FaultKind};
use strandline::{CommitOptions, Durability, Error, Result, Timestamp, WriteBatch};

use crate::model::{Commit, Write};
use crate::runner::Runner;
use crate::settings::pick;
use crate::write::{add, describe, mark_key};

/// What was asked for when the device failed, and may have taken effect.
#[derive(Debug, Default)]
pub struct Undecided {
    floor: Option<Timestamp>,
    closed: Option<Timestamp>,
}

impl Runner {
    /// From some file call on every call fails; goes on until the database says so.
    pub fn fail_inside(&mut self) -> Undecided {
        let nth = self.random.random_range(0..80);
        self.log.add(format!("the device fails at call {nth}"));
        self.fs.inject(Fault { purpose: None, operation: None, nth, kind: FaultKind::Io, repeat: true });
        let mut undecided = Undecided::default();
        for _ in 0..15 {
            let last = self.model.last.max(self.model.closed);
            let ahead = last + 1 + self.some_span(3);
            let result = match self.random.random_range(0..12) {
                0 => self.db().step_background().map(|_| ()),
                1 => self.db().compact(),
                2 => self.db().flush().map(|()| self.model.all_durable()),
                3 => self.db().sync().map(|()| self.model.all_durable()),
                4 => {
                    let floor = self.model.last;
                    undecided.floor = Some(floor);
                    self.db().retain_from(floor.max(1)).map(|floor| self.model.manual_floor = floor)
                }
                5 => {
                    undecided.closed = Some(ahead);
                    self.db().close_until(ahead).map(|()| self.model.closed = ahead)
                }
                _ => self.commit_undecided(ahead),
            };
            match result {
                Ok(()) => undecided = Undecided::default(),
                Err(Error::Io { .. } | Error::Background(_)) => break,
                Err(Error::FutureTimestamp { .. }) if self.model.last == 0 => undecided = Undecided::default(),
                Err(error) => panic!("{error}"),
            }
        }
        undecided
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
        let undecided = result.is_err();
        let marked = Some(self.next_mark);
        self.committed(Commit { timestamp: at, writes, durability, marked, durable: false, undecided });
        result.map(|timestamp| assert_eq!(timestamp, at))
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
