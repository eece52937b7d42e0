//! Commits: what is drawn, what must be refused, and which timestamp must come back.

use std::ops::Bound;

use rand::RngExt;
use strandline::{Clock, CommitOptions, Durability, Error, Keyspace, Retention, Time, Timestamp, WriteBatch};

use super::model::{Commit, Keys, Write};
use super::runner::Runner;
use super::settings::{chance, pick, shown};
use crate::random::Random;

/// What a commit depends on.
struct Condition {
    start: Timestamp,
    /// What was read, and in which keyspace.
    reads: Vec<(usize, Keys)>,
    /// Whether the model has anything above the start.
    broken: bool,
}

/// What must become of a commit.
enum Verdict {
    Commits,
    LateCommit,
    BelowRetained,
    /// Above the floor that reads are held against; commits may be held against a higher one, which a merge has
    /// announced.
    CommitsOrBelowRetained,
    InvalidArgument,
}

impl Runner {
    pub fn commit(&mut self) {
        let durabilities = [Durability::Unlogged, Durability::Buffered, Durability::Buffered, Durability::Synced];
        let durability =
            if chance(&mut self.random, 1, 3) { Some(pick(&mut self.random, &durabilities)) } else { None };
        let in_force = durability.unwrap_or(self.settings.durability);
        let (one, other) = (self.some_space_to_write(), self.some_space_to_write());
        let operations = if chance(&mut self.random, 1, 20) { 60 } else { 9 };
        let mut writes = Vec::new();
        for _ in 0..self.random.random_range(0..operations) {
            let space = pick(&mut self.random, &[one, one, other]);
            writes.push((space, self.some_write()));
        }
        if chance(&mut self.random, 1, 8) {
            // Neighbours, so that files come to lie side by side.
            let from = self.random.random_range(0..self.settings.keys.len());
            for key in self.settings.keys[from..].iter().take(20).cloned() {
                writes.push((one, Write::Put { key, value: value(&mut self.random), expires_at: None }));
            }
        }
        let marked = in_force == Durability::Unlogged || chance(&mut self.random, 3, 4);
        let marked = marked.then(|| {
            self.next_mark += 1;
            let mark = Write::Put { key: mark_key(self.next_mark), value: Vec::new(), expires_at: None };
            let at = self.random.random_range(0..=writes.len());
            writes.insert(at, (self.marks, mark));
            self.next_mark
        });
        let at = self.some_commit_timestamp();
        let mut batch = WriteBatch::new();
        for (space, write) in &writes {
            add(&mut batch, &self.handles[space], write);
        }
        let condition = self.some_condition(&[one, other], &writes);
        for (space, keys) in condition.iter().flat_map(|condition| &condition.reads) {
            match keys {
                Keys::Between(start, end) => batch.read_range(&self.handles[space], (start.clone(), end.clone())),
                Keys::Prefix(_) => {
                    let (start, end) = keys.half_open().unwrap_or_default();
                    let end = end.map_or(Bound::Unbounded, Bound::Excluded);
                    batch.read_range(&self.handles[space], (Bound::Included(start), end));
                }
            }
        }
        let spoilt = chance(&mut self.random, 1, 100);
        if spoilt {
            batch.put(&self.handles[&one], vec![0; 65_536], "");
            batch.delete(&self.handles[&one], "never");
        }
        if let (Some(mark), None, false) = (marked, &condition, spoilt)
            && at.is_none_or(|at| at > self.model.last.max(self.model.closed) && at < u64::MAX)
            && Self::fits_two_phases(&writes)
            && chance(&mut self.random, 1, 20)
        {
            return self.commit_in_two_phases(writes, mark, at);
        }
        let mut options = CommitOptions::new();
        options = at.map_or(options.clone(), |at| options.at(at));
        options = durability.map_or(options.clone(), |durability| options.durability(durability));
        if let Some(condition) = &condition {
            options = options.started_at(condition.start);
        }
        let start = condition.as_ref().map(|condition| condition.start);
        let touched: Vec<usize> = writes
            .iter()
            .map(|(space, _)| *space)
            .chain(condition.iter().flat_map(|condition| condition.reads.iter().map(|(space, _)| *space)))
            .collect();
        let verdict = self.verdict(at, &touched);
        let on = condition.as_ref().map(|condition| format!(", started at {} {:?}", condition.start, condition.reads));
        self.log.add(format!("commit at {at:?}{}, {in_force:?}: {}", on.unwrap_or_default(), describe(&writes)));
        let before = self.earliest_next();
        let result = if at.is_none() && durability.is_none() && condition.is_none() {
            self.db().commit(batch)
        } else {
            self.db().commit_with(batch, options)
        };
        match result {
            Err(Error::TooLarge { what: "key", len: 65_536, max: 65_535 }) if spoilt => {}
            _ if spoilt => panic!("a key of 65,536 bytes gave {result:?}"),
            // At or below the start.
            Err(Error::InvalidArgument(_)) if start.is_some_and(|start| at.is_some_and(|at| at <= start)) => {}
            Err(Error::Conflict { start: named, found, .. }) => {
                let broken = condition.is_some_and(|condition| condition.broken && condition.start == named);
                assert!(broken && found > named, "a conflict with {found}, started at {named}");
            }
            Err(Error::BelowRetained { requested, retained }) if Some(requested) == start && requested < retained => {
                let manual = |space: &usize| self.space(*space).retention == Retention::Manual;
                let refused = touched.iter().any(|space| !manual(space) || self.model.manual_floor > requested);
                assert!(refused, "a start of {requested} was refused below {retained}");
            }
            _ if condition.as_ref().is_some_and(|condition| condition.broken) => {
                panic!("a conflict was not found: {result:?}")
            }
            Ok(timestamp) => {
                assert!(
                    matches!(verdict, Verdict::Commits | Verdict::CommitsOrBelowRetained),
                    "committed at {timestamp}"
                );
                match at {
                    Some(at) => assert_eq!(timestamp, at),
                    None => self.check_next(before, timestamp),
                }
                self.committed(Commit {
                    timestamp,
                    writes,
                    durability: in_force,
                    marked,
                    durable: false,
                    undecided: false,
                });
            }
            Err(Error::LateCommit { requested, .. }) => {
                assert!(matches!(verdict, Verdict::LateCommit) && Some(requested) == at, "LateCommit {requested}");
            }
            Err(Error::BelowRetained { requested, retained }) => {
                let allowed = matches!(verdict, Verdict::BelowRetained | Verdict::CommitsOrBelowRetained);
                assert!(
                    allowed && Some(requested) == at && requested <= retained,
                    "BelowRetained {requested} {retained}"
                );
            }
            Err(Error::InvalidArgument(reason)) => assert!(matches!(verdict, Verdict::InvalidArgument), "{reason}"),
            Err(error) => panic!("{error}"),
        }
    }

    /// A put or delete without a batch.
    pub fn write_alone(&mut self) {
        if self.settings.durability == Durability::Unlogged {
            // It could not be told after a crash whether it survived.
            return self.commit();
        }
        let (space, key, before) = (self.some_space_to_write(), self.some_key(), self.earliest_next());
        let handle = &self.handles[&space];
        let (timestamp, write) = if chance(&mut self.random, 3, 4) {
            let value = value(&mut self.random);
            (handle.put(&key, &value).unwrap(), Write::Put { key, value, expires_at: None })
        } else {
            (handle.delete(&key).unwrap(), Write::Delete { key })
        };
        let writes = vec![(space, write)];
        self.log.add(format!("alone at {timestamp}: {}", describe(&writes)));
        self.committed_alone(before, timestamp, writes, self.settings.durability);
    }

    /// A put that is in the log and need not be on the disk, with a value that is long beside those of the other writes.
    pub fn write_long(&mut self, bytes: usize) {
        let (space, key, before) = (self.some_space_to_write(), self.some_key(), self.earliest_next());
        let value = vec![self.random.random(); bytes];
        let mut batch = WriteBatch::new();
        batch.put(&self.handles[&space], &key, &value);
        let durability = Durability::Buffered;
        let timestamp = self.db().commit_with(batch, CommitOptions::new().durability(durability)).unwrap();
        self.log.add(format!("long, alone at {timestamp}: {bytes} bytes for {}", shown(&key)));
        self.committed_alone(before, timestamp, vec![(space, Write::Put { key, value, expires_at: None })], durability);
    }

    /// The model takes a commit of one write, at a timestamp that the clock gave.
    fn committed_alone(
        &mut self,
        before: Timestamp,
        timestamp: Timestamp,
        writes: Vec<(usize, Write)>,
        durability: Durability,
    ) {
        self.check_next(before, timestamp);
        self.committed(Commit { timestamp, writes, durability, marked: None, durable: false, undecided: false });
    }

    pub fn committed(&mut self, commit: Commit) {
        let synced = commit.durability == Durability::Synced && !commit.undecided;
        self.model.commit(commit);
        if synced {
            let last = self.model.commits.len() - 1;
            self.model.commits[last].durable = true;
            self.model.durable_where(|_, commit| commit.durable && commit.durability != Durability::Unlogged);
        }
    }

    pub fn some_write(&mut self) -> Write {
        let key = self.some_key();
        match self.random.random_range(0..100) {
            0..62 => Write::Put { key, value: value(&mut self.random), expires_at: None },
            62..74 => {
                let ahead = self.some_span(30);
                let now = self.now();
                let expires_at = match self.random.random_range(0..8) {
                    0 => pick(&mut self.random, &[0, 1, now, u64::MAX]),
                    1 => now.saturating_sub(ahead),
                    _ => now + ahead,
                };
                Write::Put { key, value: value(&mut self.random), expires_at: Some(expires_at) }
            }
            74..93 => Write::Delete { key },
            _ => Write::DeleteRange(self.some_keys()),
        }
    }

    fn some_commit_timestamp(&mut self) -> Option<Timestamp> {
        let last = self.model.last;
        let late = if self.settings.late_commits { 25 } else { 3 };
        match self.random.random_range(0..100) {
            0 => Some(pick(&mut self.random, &[0, u64::MAX, last])),
            roll if roll <= late => {
                let floor = self.model.manual_floor;
                let back = self.random.random_range(0..30.min(self.model.commits.len() + 1));
                let commits = &self.model.commits;
                let earlier = commits.len().checked_sub(back + 1).map_or(last, |i| commits[i].timestamp);
                Some(pick(&mut self.random, &[earlier, earlier, earlier.saturating_add(1), floor, floor + 1]))
            }
            roll if roll < 40 => {
                let ahead = self.some_span(3);
                Some(last + 1 + ahead)
            }
            _ => None,
        }
    }

    /// Now and then a start a little back, and some reads.
    fn some_condition(&mut self, spaces: &[usize], writes: &[(usize, Write)]) -> Option<Condition> {
        if !chance(&mut self.random, 1, 5) {
            return None;
        }
        let back = self.random.random_range(0..6.min(self.model.commits.len() + 1));
        let commits = &self.model.commits;
        let earlier = commits.len().checked_sub(back + 1).map_or(0, |at| commits[at].timestamp);
        let start = earlier.min(self.model.last);
        let mut reads = Vec::new();
        for _ in 0..self.random.random_range(0..3) {
            let space = pick(&mut self.random, spaces);
            let keys = if chance(&mut self.random, 1, 2) { Keys::one(&self.some_key()) } else { self.some_keys() };
            reads.push((space, keys));
        }
        let written = writes.iter().map(|(space, write)| match write {
            Write::Put { key, .. } | Write::Delete { key } => (*space, Keys::one(key)),
            Write::DeleteRange(keys) => (*space, keys.clone()),
        });
        let broken =
            written.chain(reads.iter().cloned()).any(|(space, keys)| self.space(space).changed_since(start, &keys));
        Some(Condition { start, reads, broken })
    }

    fn verdict(&self, at: Option<Timestamp>, touched: &[usize]) -> Verdict {
        let Some(at) = at else { return Verdict::Commits };
        if at == 0 || at == u64::MAX {
            return Verdict::InvalidArgument;
        }
        if at <= self.model.closed || (at <= self.model.last && !self.settings.late_commits) {
            return Verdict::LateCommit;
        }
        if at > self.model.last {
            return Verdict::Commits;
        }
        if touched.iter().any(|space| at <= self.floor(*space)) {
            return Verdict::BelowRetained;
        }
        let manual = |space: &usize| self.space(*space).retention == Retention::Manual;
        if touched.iter().all(manual) { Verdict::Commits } else { Verdict::CommitsOrBelowRetained }
    }

    /// The least timestamp that the clock may give next.
    pub fn earliest_next(&self) -> Timestamp {
        let above = self.model.last.max(self.model.closed) + 1;
        if self.settings.clock == Clock::Hybrid { above.max(self.time.unix_millis() << 16) } else { above }
    }

    /// The clock gave its next timestamp; the time may have moved while the call waited for work.
    pub fn check_next(&self, before: Timestamp, timestamp: Timestamp) {
        let after = self.earliest_next();
        assert!((before..=after).contains(&timestamp), "the clock gave {timestamp}, not {before} to {after}");
    }
}

/// The key of a mark: unmarked commits are told by their neighbours.
pub fn mark_key(mark: u64) -> Vec<u8> {
    mark.to_be_bytes().to_vec()
}

pub fn value(random: &mut Random) -> Vec<u8> {
    let len = match random.random_range(0..20) {
        0 => 0,
        1 => random.random_range(500..3000),
        2..6 => random.random_range(20..200),
        _ => random.random_range(1..30),
    };
    // Half of it compresses.
    let number: u64 = random.random();
    number.to_be_bytes().into_iter().chain(std::iter::repeat(b'.')).take(len).collect()
}

pub fn add(batch: &mut WriteBatch, handle: &Keyspace, write: &Write) {
    match write {
        Write::Put { key, value, expires_at: None } => batch.put(handle, key, value),
        Write::Put { key, value, expires_at: Some(expires_at) } => batch.put_expiring(handle, key, value, *expires_at),
        Write::Delete { key } => batch.delete(handle, key),
        Write::DeleteRange(Keys::Prefix(prefix)) => batch.delete_prefix(handle, prefix),
        Write::DeleteRange(Keys::Between(start, end)) => batch.delete_range(handle, (start.clone(), end.clone())),
    };
}

pub fn describe(writes: &[(usize, Write)]) -> String {
    let one = |(space, write): &(usize, Write)| match write {
        Write::Put { key, value, expires_at } => {
            let expiry = expires_at.map(|expires_at| format!(" until {expires_at}")).unwrap_or_default();
            format!("{space}:{} = {} bytes{expiry}", shown(key), value.len())
        }
        Write::Delete { key } => format!("{space}:{} deleted", shown(key)),
        Write::DeleteRange(keys) => format!("{space}:{keys:?} deleted"),
    };
    writes.iter().map(one).collect::<Vec<_>>().join(", ")
}
