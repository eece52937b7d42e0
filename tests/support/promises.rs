//! A small workload that notes what it was promised, and the comparison of those promises with what a crash, or a
//! failure, has left.
//!
//! Every commit puts its number into the keyspace `marks` and its operations into `a` and `b`. So what is found in
//! `marks` says which commits survived, and `a` and `b` must then be exactly what those commits make.

use strandline::{CommitOptions, Db, Durability, Error, Keyspace, Options, Retention, WriteBatch};

use super::{Dice, Model, Op, check, small_keyspace};

/// One commit, whether it was acknowledged or not.
#[derive(Debug, Clone)]
pub(crate) struct Commit {
    pub(crate) timestamp: u64,
    pub(crate) ops: Vec<Op>,
    pub(crate) durability: Durability,
    pub(crate) acknowledged: bool,
    /// A later call has said that it is on stable storage.
    pub(crate) durable: bool,
    /// A later call has said that it never was.
    pub(crate) annulled: bool,
}

/// What was promised so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Promises {
    pub(crate) commits: Vec<Commit>,
    floor: u64,
    closed: u64,
    /// Floors and closed timestamps that may be in force, though the call has failed.
    undecided: u64,
    next: u64,
}

/// What happened before the database is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    /// Nothing: it was closed, and said so.
    Closed,
    /// The process was killed, or closing has failed: what was not logged may be gone.
    Killed,
    /// The power was cut: what was not durable may be gone.
    PowerCut,
}

pub(crate) struct Handles {
    pub(crate) db: Db,
    pub(crate) marks: Keyspace,
    pub(crate) a: Keyspace,
    pub(crate) b: Keyspace,
}

pub(crate) fn open(options: Options) -> Result<Handles, Error> {
    let db = options.late_commits(true).open("db")?;
    let keyspace = |name: &str| db.keyspace_with(name, small_keyspace().retention(Retention::Manual));
    let (marks, a, b) = (keyspace("marks")?, keyspace("a")?, keyspace("b")?);
    Ok(Handles { db, marks, a, b })
}

impl Promises {
    /// One step of the workload. An error is what the database says; what it means for the promises is noted already.
    pub(crate) fn step(&mut self, handles: &Handles, dice: &mut Dice) -> Result<(), Error> {
        match dice.below(20) {
            0 => handles.db.flush().map(|()| self.all_durable()),
            1 => handles.db.sync().map(|()| self.all_durable()),
            2 if dice.one_in(3) => handles.db.compact(),
            3 | 4 => handles.db.step_background().map(drop),
            5 if dice.one_in(2) => {
                let wanted = self.floor + 1 + dice.below(3);
                match handles.db.retain_from(wanted) {
                    Ok(floor) => {
                        self.floor = self.floor.max(floor);
                        Ok(())
                    }
                    Err(Error::FutureTimestamp { .. }) => Ok(()),
                    Err(error) => {
                        self.undecided = self.undecided.max(wanted);
                        Err(error)
                    }
                }
            }
            6 if dice.one_in(4) => {
                let until = self.next.saturating_sub(dice.below(6));
                self.next = self.next.max(until);
                self.undecided = self.undecided.max(until);
                handles.db.close_until(until).map(|()| self.closed = self.closed.max(until))
            }
            _ => self.commit(handles, dice),
        }
    }

    fn all_durable(&mut self) {
        self.commits.iter_mut().filter(|commit| commit.acknowledged).for_each(|commit| commit.durable = true);
    }

    fn commit(&mut self, handles: &Handles, dice: &mut Dice) -> Result<(), Error> {
        let number = self.commits.len().to_string();
        let ops = dice.ops(self.next);
        let mut batch = WriteBatch::new();
        batch.put(&handles.marks, number, "");
        for keyspace in [&handles.a, &handles.b] {
            ops.iter().for_each(|op| op.add_to(&mut batch, keyspace));
        }
        let durability = match dice.below(6) {
            0 => Durability::Unlogged,
            1 => Durability::Synced,
            _ => Durability::Buffered,
        };
        // Late ones stay clear of all floors and closed timestamps that may be in force.
        let bound = handles.a.retained_from().max(handles.db.closed_timestamp()).max(self.undecided);
        let late = dice.one_in(4) && bound < self.next;
        let timestamp = if late { bound + 1 + dice.below(self.next - bound) } else { self.next + 1 };
        self.next = self.next.max(timestamp);
        let mut commit = Commit { timestamp, ops, durability, acknowledged: false, durable: false, annulled: false };
        let result = handles.db.commit_with(batch, CommitOptions::new().at(timestamp).durability(durability));
        if let Ok(found) = &result {
            assert_eq!(*found, timestamp);
            commit.acknowledged = true;
            commit.durable = durability == Durability::Synced;
        }
        self.commits.push(commit);
        result.map(drop)
    }

    /// `resume` has succeeded: what was undecided never was, and everything visible is in tables.
    pub(crate) fn resumed(&mut self) {
        self.all_durable();
        self.commits.iter_mut().filter(|commit| !commit.acknowledged).for_each(|commit| commit.annulled = true);
    }

    /// It was opened again after the process was killed: what is not there by now never will be.
    pub(crate) fn reopened(&mut self, handles: &Handles) {
        for (n, commit) in self.commits.iter_mut().enumerate() {
            if !handles.marks.contains(n.to_string()).unwrap() {
                let logged = commit.durability != Durability::Unlogged;
                assert!(!(commit.durable || (commit.acknowledged && logged)), "commit {n} is missing");
                (commit.annulled, commit.acknowledged) = (true, false);
            }
        }
    }

    /// Compares what is there with what was promised.
    pub(crate) fn check(&self, handles: &Handles, after: After, context: &str) {
        let context = format!("{context}, {after:?}");
        let there: Vec<bool> =
            (0..self.commits.len()).map(|n| handles.marks.contains(n.to_string()).unwrap()).collect();
        let describe = || {
            let each = self.commits.iter().zip(&there).enumerate();
            let lines = each.map(|(n, (commit, there))| {
                let Commit { timestamp, durability, acknowledged, durable, annulled, .. } = commit;
                let note = format!("acknowledged {acknowledged}, durable {durable}, annulled {annulled}");
                format!("  {n} at {timestamp} {durability:?}: there {there}, {note}\n")
            });
            lines.collect::<String>()
        };
        for (n, (commit, there)) in self.commits.iter().zip(&there).enumerate() {
            let logged = commit.durability != Durability::Unlogged;
            let promised = commit.acknowledged
                && match after {
                    After::Closed => true,
                    After::Killed => logged || commit.durable,
                    After::PowerCut => commit.durable,
                };
            assert!(*there || !promised, "{context}: commit {n} is missing\n{}", describe());
            assert!(!(*there && commit.annulled), "{context}: commit {n} was never to be\n{}", describe());
        }
        // S21: of the logged ones a prefix.
        let logged = self.commits.iter().zip(&there).filter(|(commit, _)| commit.durability != Durability::Unlogged);
        let mut logged = logged.filter(|(commit, _)| !commit.annulled).skip_while(|(_, there)| **there);
        assert!(logged.all(|(_, there)| !there), "{context}: not a prefix\n{}", describe());

        let mut model = Model::default();
        for (commit, _) in self.commits.iter().zip(&there).filter(|(_, there)| **there) {
            model.commit(commit.timestamp, &commit.ops);
        }
        let last = handles.db.last_timestamp();
        assert!((model.last..=self.next).contains(&last), "{context}: last timestamp {last}\n{}", describe());
        model.last = last;
        let (floor, closed) = (handles.a.retained_from(), handles.db.closed_timestamp());
        assert!(floor >= self.floor && floor <= last, "{context}: floor {floor}, promised {}", self.floor);
        assert!(closed >= self.closed, "{context}: closed {closed}, promised {}", self.closed);
        for keyspace in [&handles.a, &handles.b] {
            check(&handles.db, keyspace, &model, &context);
        }
        handles.db.verify().unwrap_or_else(|error| panic!("{context}: {error}"));
        // It goes on, above everything that is durable. S11
        let next = handles.marks.put("goes on", "").unwrap_or_else(|error| panic!("{context}: {error}"));
        assert!(next > last && next > closed, "{context}");
    }
}
