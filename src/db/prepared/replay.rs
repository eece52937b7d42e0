//! What the log says of prepared transactions, on its way into the table.
//!
//! It is all published: nobody knows of sequences.

use super::Outcome;
use super::pending::Pending;
use super::table::{Found, PreparedTable};
use crate::db::record::{Logged, LoggedCommit};
use crate::format::Reason;
use crate::log::LogPosition;
use crate::manifest::InDoubt;
use crate::sync::Arc;

impl PreparedTable {
    /// At an opening: nothing is missing, so everything makes sense.
    pub(crate) fn replay(&mut self, logged: &Logged<'_>, end: LogPosition) -> Result<(), Reason> {
        if !matches!(logged, Logged::Commit(LoggedCommit { decides: None, .. })) {
            self.is_logged_to(end);
        }
        match logged {
            Logged::Commit(LoggedCommit { decides: None, .. }) => Ok(()),
            Logged::Commit(LoggedCommit { decides: Some(id), timestamp, .. }) => {
                self.replay_outcome(id, Outcome::Committed(*timestamp))
            }
            Logged::Aborted(id) => self.replay_outcome(id, Outcome::Aborted),
            Logged::Prepared(in_doubt) => self.replay_prepared(in_doubt),
            Logged::Forgotten(id) => match self.find(id) {
                Found::Decided(..) => {
                    self.discard(id);
                    Ok(())
                }
                _ => Err("forgets a transaction that was not decided".into()),
            },
        }
    }

    /// In a repair: something before it may be lost.
    pub(crate) fn salvage(&mut self, logged: &Logged<'_>) -> Result<(), Reason> {
        match logged {
            Logged::Commit(LoggedCommit { decides: None, .. }) => {}
            Logged::Commit(LoggedCommit { decides: Some(id), timestamp, .. }) => {
                self.discard(id);
                self.note_outcome(id, Outcome::Committed(*timestamp));
            }
            Logged::Aborted(id) => {
                self.discard(id);
                self.note_outcome(id, Outcome::Aborted);
            }
            Logged::Prepared(in_doubt) => {
                self.discard(&in_doubt.id);
                self.replay_prepared(in_doubt)?;
            }
            Logged::Forgotten(id) => self.discard(id),
        }
        Ok(())
    }

    fn replay_prepared(&mut self, in_doubt: &InDoubt) -> Result<(), Reason> {
        if !matches!(self.find(&in_doubt.id), Found::Nothing) {
            return Err("prepares a transaction whose id is not free".into());
        }
        // Shares the bytes.
        let pending = Pending::read(Arc::new(in_doubt.clone())).map_err(|error| error.reason)?;
        self.enter(&Arc::new(pending), 0);
        self.settle(0);
        Ok(())
    }

    fn replay_outcome(&mut self, id: &[u8], outcome: Outcome) -> Result<(), Reason> {
        if !matches!(self.find(id), Found::InDoubt(_)) {
            return Err("decides a transaction that is not in doubt".into());
        }
        self.decide(id, outcome, 0);
        self.settle(0);
        Ok(())
    }

    /// Whatever it is.
    fn discard(&mut self, id: &[u8]) {
        if let Found::InDoubt(_) = self.find(id) {
            self.decide(id, Outcome::Aborted, 0);
        }
        self.forget(id, 0);
        self.settle(0);
    }
}
