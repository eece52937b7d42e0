//! Commits in two phases: prepared, then decided, and between the two whatever may come.
//!
//! There is one in doubt at most, and the next step decides it: what it keeps others from is tried elsewhere.

use rand::RngExt;
use strandline::{Durability, Isolation, Outcome, Result, Timestamp};

use super::crash::Crash;
use super::fault::Undecided;
use super::model::{Commit, Write};
use super::runner::Runner;
use super::settings::chance;
use super::write::describe;

/// A transaction that is prepared, or may be.
#[derive(Debug, Clone)]
pub struct InDoubt {
    id: String,
    writes: Vec<(usize, Write)>,
    mark: u64,
    told: Told,
}

/// How far it has come when it was last heard of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    /// Prepare has failed: it may be prepared.
    Maybe,
    Prepared,
    /// The decision has failed: it may have been made.
    Committing,
    Aborting,
}

impl InDoubt {
    /// What it takes in a manifest, at most.
    pub fn bytes(&self) -> u64 {
        let bytes = |write: &Write| match write {
            Write::Put { key, value, .. } => key.len() + value.len(),
            Write::Delete { key } => key.len(),
            Write::DeleteRange(_) => 0,
        };
        self.writes.iter().map(|(_, write)| bytes(write) as u64 + 32).sum()
    }
}

impl Runner {
    /// Whether these can be written by a transaction.
    pub fn fits_two_phases(writes: &[(usize, Write)]) -> bool {
        writes.iter().all(|(_, write)| !matches!(write, Write::DeleteRange(_)))
    }

    /// Prepares, does something else, perhaps crashes, and decides.
    pub fn commit_in_two_phases(&mut self, writes: Vec<(usize, Write)>, mark: u64, at: Option<Timestamp>) {
        self.prepare(writes, mark).unwrap();
        match self.random.random_range(0..8) {
            0 => self.work(),
            1 => self.flush(),
            2 => self.reopen(),
            3 => _ = self.crash_with(Undecided::default(), Crash::Kill),
            4 => _ = self.crash_with(Undecided::default(), Crash::PowerCut),
            _ => {}
        }
        self.decide_in_doubt(at, &mut Undecided::default()).unwrap();
    }

    /// Begins, writes and prepares; after an error it may be prepared.
    pub fn prepare(&mut self, writes: Vec<(usize, Write)>, mark: u64) -> Result<()> {
        let mut tx = self.db().begin(Isolation::Snapshot)?;
        for (space, write) in &writes {
            let handle = &self.handles[space];
            match write {
                Write::Put { key, value, expires_at: None } => tx.put(handle, key, value)?,
                Write::Put { key, value, expires_at: Some(at) } => tx.put_expiring(handle, key, value, *at)?,
                Write::Delete { key } => tx.delete(handle, key)?,
                Write::DeleteRange(_) => panic!("no transaction deletes ranges"),
            }
        }
        let id = format!("two phases {mark}");
        let result = tx.prepare(&id).map(drop);
        self.log.add(format!("prepare {id:?}, {result:?}: {}", describe(&writes)));
        let told = if result.is_ok() { Told::Prepared } else { Told::Maybe };
        self.in_doubt = Some(InDoubt { id, writes, mark, told });
        result
    }

    /// Decides what is in doubt, if that is not known to have happened. It must be what it was heard of last.
    ///
    /// # Errors
    /// The device fails; what that leaves undecided is in `tried`.
    pub fn decide_in_doubt(&mut self, at: Option<Timestamp>, tried: &mut Undecided) -> Result<()> {
        let Some(one) = self.in_doubt.clone() else { return Ok(()) };
        let db = self.db().clone();
        let prepared = db.prepared();
        let is_listed = prepared.iter().any(|listed| listed.id == one.id);
        let outcome = db.prepared_outcome(&one.id);
        let is_committed = self.model.commits.iter().any(|commit| commit.marked == Some(one.mark));
        assert_eq!(prepared.len(), usize::from(is_listed), "{prepared:?} are in doubt, of {one:?}");
        assert_eq!(is_committed, matches!(outcome, Some(Outcome::Committed(_))), "{one:?}: {outcome:?}");
        match (one.told, is_listed, outcome) {
            (_, true, None) => self.decide_now(&one, at, tried)?,
            (Told::Maybe, false, None)
            | (Told::Committing, false, Some(Outcome::Committed(_)))
            | (Told::Aborting, false, Some(Outcome::Aborted)) => {}
            found => panic!("{one:?} was found as {found:?}"),
        }
        self.in_doubt = None;
        db.forget_prepared(&one.id)
    }

    fn decide_now(&mut self, one: &InDoubt, at: Option<Timestamp>, tried: &mut Undecided) -> Result<()> {
        let in_doubt = |told| Some(InDoubt { told, ..one.clone() });
        if chance(&mut self.random, 1, 3) {
            let result = self.db().abort_prepared(&one.id);
            self.log.add(format!("abort {:?}, {result:?}", one.id));
            if result.is_err() {
                self.in_doubt = in_doubt(Told::Aborting);
            }
            return result;
        }
        let before = self.earliest_next();
        let above = self.db().prepared().first().map_or(0, |prepared| prepared.above);
        let late = self.settings.late_commits && chance(&mut self.random, 1, 3);
        let at = match at.filter(|at| *at > self.model.last.max(self.model.closed)) {
            // Where nothing was committed meanwhile there is nothing between.
            _ if late && above < self.model.last => Some(self.random.random_range(above + 1..=self.model.last)),
            at => at,
        };
        let result = self.db().commit_prepared(&one.id, at);
        self.log.add(format!("commit {:?} at {at:?}, {result:?}", one.id));
        let commit = |timestamp, undecided| Commit {
            timestamp,
            writes: one.writes.clone(),
            durability: Durability::Synced,
            marked: Some(one.mark),
            durable: false,
            undecided,
        };
        match (result, at) {
            (Ok(timestamp), at) => {
                match at {
                    Some(at) => assert_eq!(timestamp, at),
                    None => self.check_next(before, timestamp),
                }
                self.committed(commit(timestamp, false));
                Ok(())
            }
            (Err(error), at) => {
                self.in_doubt = in_doubt(Told::Committing);
                tried.commits(commit(at.unwrap_or(before), true));
                Err(error)
            }
        }
    }
}
