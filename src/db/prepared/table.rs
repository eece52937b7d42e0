//! The transactions that are prepared, and the outcomes that are not forgotten. Under the commit lock.
//!
//! Every step of one takes a sequence, and counts once that is published; what a failure leaves unpublished is taken back.
//! Until it is published a decided one is kept with all that it would do.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::super::batch::{MAX_BATCH_BYTES, Op, Operations, Reads};
use super::locks::{Locks, Met};
use super::pending::Pending;
use super::{Outcome, PreparedTransaction};
use crate::format::Reason;
use crate::log::LogPosition;
use crate::manifest::{KeyspaceId, Known, PreparedState, TransactionId};
use crate::sync::Arc;
use crate::version::Sequence;
use crate::{Error, Result, Timestamp};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct PreparedTable {
    entries: BTreeMap<TransactionId, Entry>,
    locks: Locks,
    /// How often locks were added.
    locked: u64,
    /// Of those in doubt.
    bytes: usize,
    /// Steps that may not be published yet, in order.
    unsettled: VecDeque<(Sequence, TransactionId)>,
    /// Those that are not decided, or not for good.
    in_doubt: BTreeSet<TransactionId>,
    /// How often anything was changed, and what the manifest does not know of that: each at its last change.
    changes: u64,
    untold: BTreeMap<TransactionId, u64>,
    /// Where the last record ends that says something of all this.
    logged_to: u64,
}

#[derive(Debug)]
struct Entry {
    prepared_at: Sequence,
    /// `None`: decided, and that is published.
    pending: Option<Arc<Pending>>,
    outcome: Option<(Outcome, Sequence)>,
    forgotten: Option<Sequence>,
}

/// What there is under an id.
#[derive(Debug)]
pub(super) enum Found {
    Nothing,
    InDoubt(Arc<Pending>),
    /// It will be published at this sequence.
    Decided(Outcome, Sequence),
    Forgotten(Sequence),
}

/// Why a transaction is not prepared.
#[derive(Debug)]
pub(super) enum Refused {
    Because(Error),
    Met(Met),
}

impl PreparedTable {
    /// Of what the manifest says; `below`: every keyspace that ever was has a lower id.
    pub(crate) fn known(state: &PreparedState, below: KeyspaceId) -> Result<Self, Reason> {
        let mut table = Self { logged_to: state.log_position, ..Self::default() };
        for (id, known) in &*state.transactions {
            match known {
                Known::InDoubt(in_doubt) => table.replay_prepared(in_doubt, below)?,
                Known::Decided(outcome) => table.note_outcome(id, *outcome),
            }
        }
        table.untold.clear();
        Ok(table)
    }

    /// Of one of which nothing else is known.
    pub(super) fn note_outcome(&mut self, id: &[u8], outcome: Outcome) {
        let entry = Entry { prepared_at: 0, pending: None, outcome: Some((outcome, 0)), forgotten: None };
        self.entries.insert(id.into(), entry);
        self.change(id.into());
    }

    // ---- steps, each at its sequence ----

    pub(super) fn find(&self, id: &[u8]) -> Found {
        match self.entries.get(id) {
            None => Found::Nothing,
            Some(Entry { forgotten: Some(sequence), .. }) => Found::Forgotten(*sequence),
            Some(Entry { outcome: Some((outcome, sequence)), .. }) => Found::Decided(*outcome, *sequence),
            Some(Entry { pending, .. }) => {
                pending.as_ref().map_or(Found::Nothing, |one| Found::InDoubt(Arc::clone(one)))
            }
        }
    }

    /// Whether this one can be prepared. What is not `published` says nothing for good.
    pub(super) fn admit(&self, pending: &Pending, published: Sequence) -> Result<(), Refused> {
        let busy = |what| {
            let reason = format!("transaction \"{}\" {what}", pending.id().escape_ascii());
            Err(Refused::Because(Error::Busy { reason: reason.into() }))
        };
        match self.find(pending.id()) {
            Found::Nothing => {}
            Found::InDoubt(_) => return busy("is prepared already"),
            Found::Forgotten(_) => return busy("is being forgotten"),
            Found::Decided(_, sequence) if sequence > published => return busy("is being decided"),
            Found::Decided(outcome, _) => return Err(Refused::Because(decided(pending.id(), outcome))),
        }
        let (len, max) = ((self.bytes + pending.bytes()) as u64, MAX_BATCH_BYTES as u64);
        if len > max {
            return Err(Refused::Because(Error::TooLarge { what: "all that is prepared", len, max }));
        }
        self.met_by(pending).map_or(Ok(()), |met| Err(Refused::Met(met)))
    }

    /// What is in the way of one that is to be prepared.
    pub(super) fn met_by(&self, pending: &Pending) -> Option<Met> {
        let met = self.met_by_writes(Operations::new(&pending.operations).flatten());
        met.or_else(|| self.met_by_reads(&pending.reads))
    }

    pub(super) fn enter(&mut self, pending: &Arc<Pending>, sequence: Sequence) {
        self.lock(pending);
        let id = pending.told.id.clone();
        let entry = Entry { prepared_at: sequence, pending: Some(Arc::clone(pending)), outcome: None, forgotten: None };
        self.entries.insert(id.clone(), entry);
        self.in_doubt.insert(id.clone());
        self.step(sequence, id);
    }

    /// From here on what it has locked is free for who comes behind.
    pub(crate) fn decide(&mut self, id: &[u8], outcome: Outcome, sequence: Sequence) {
        let Some(entry) = self.entries.get_mut(id) else { return };
        entry.outcome = Some((outcome, sequence));
        if let Some(pending) = entry.pending.clone() {
            self.locks.remove(&pending);
            self.bytes -= pending.bytes();
        }
        self.step(sequence, id.into());
    }

    pub(super) fn forget(&mut self, id: &[u8], sequence: Sequence) {
        let Some(entry) = self.entries.get_mut(id) else { return };
        entry.forgotten = Some(sequence);
        self.step(sequence, id.into());
    }

    fn step(&mut self, sequence: Sequence, id: TransactionId) {
        self.change(id.clone());
        self.unsettled.push_back((sequence, id));
    }

    fn change(&mut self, id: TransactionId) {
        self.changes += 1;
        self.untold.insert(id, self.changes);
    }

    fn lock(&mut self, pending: &Arc<Pending>) {
        self.locks.add(pending);
        self.locked += 1;
        self.bytes += pending.bytes();
    }

    /// Everything up to here is published: what was kept in case that it never would be goes.
    pub(super) fn settle(&mut self, published: Sequence) {
        while self.unsettled.front().is_some_and(|(sequence, _)| *sequence <= published) {
            let Some((_, id)) = self.unsettled.pop_front() else { return };
            let Some(entry) = self.entries.get_mut(&id) else { continue };
            if entry.outcome.is_some_and(|(_, sequence)| sequence <= published) {
                entry.pending = None;
                self.in_doubt.remove(&id);
            }
            if entry.forgotten.is_some_and(|sequence| sequence <= published) {
                self.entries.remove(&id);
            }
        }
    }

    /// Nothing behind this was ever published, nor will be.
    pub(crate) fn take_back(&mut self, published: Sequence) {
        self.settle(published);
        for (_, id) in std::mem::take(&mut self.unsettled) {
            self.change(id.clone());
            let Some(entry) = self.entries.get_mut(&id) else { continue };
            entry.forgotten = entry.forgotten.filter(|sequence| *sequence <= published);
            let was_decided = entry.outcome.is_some();
            entry.outcome = entry.outcome.filter(|(_, sequence)| *sequence <= published);
            let (is_decided, is_prepared) = (entry.outcome.is_some(), entry.prepared_at <= published);
            let Some(pending) = entry.pending.clone() else { continue };
            if !is_prepared {
                self.entries.remove(&id);
                self.in_doubt.remove(&id);
                if !was_decided {
                    self.locks.remove(&pending);
                    self.bytes -= pending.bytes();
                }
            } else if was_decided && !is_decided {
                self.lock(&pending);
            }
        }
    }

    /// Each can be committed only above what `floor` says of the keyspaces that it will write, and above `closed`.
    pub(crate) fn raise_bounds(&mut self, closed: Timestamp, floor: impl Fn(KeyspaceId) -> Timestamp) {
        for id in self.in_doubt.clone() {
            let Some(Entry { pending: Some(pending), outcome: None, .. }) = self.entries.get_mut(&id) else { continue };
            let bound = pending.written.as_slice().iter().map(|keyspace| floor(*keyspace)).fold(closed, Timestamp::max);
            if bound > pending.above() {
                let raised = Arc::new(pending.raised_to(bound));
                let before = std::mem::replace(pending, Arc::clone(&raised));
                self.locks.remove(&before);
                self.locks.add(&raised);
                self.change(id);
            }
        }
    }

    // ---- what others have to ask ----

    /// The highest start of one in doubt: the clock goes on above it.
    pub(crate) fn highest_start(&self) -> Option<Timestamp> {
        self.locks.highest_start()
    }

    pub(crate) fn locks_anything(&self) -> bool {
        !self.locks.is_empty()
    }

    /// Changes when a lock is added.
    pub(crate) fn locked(&self) -> u64 {
        self.locked
    }

    /// What is in the way of who writes these.
    pub(crate) fn met_by_writes<'a>(&self, operations: impl Iterator<Item = Op<'a>>) -> Option<Met> {
        self.locks.met_by_writes(operations)
    }

    /// What is in the way of who has read this: what will be written.
    pub(crate) fn met_by_reads(&self, reads: &Reads) -> Option<Met> {
        self.locks.met_by_reads(reads)
    }

    pub(crate) fn uses(&self, keyspace: KeyspaceId) -> bool {
        self.locks.uses(keyspace)
    }

    /// All can be committed above this.
    pub(crate) fn lowest_bound(&self) -> Option<Timestamp> {
        self.locks.lowest_bound()
    }

    /// All that will write in this keyspace can be committed above this.
    pub(crate) fn lowest_bound_in(&self, keyspace: KeyspaceId) -> Option<Timestamp> {
        self.locks.lowest_bound_in(keyspace)
    }

    /// Whether one is in doubt that would see a commit at `timestamp`.
    pub(crate) fn has_start_from(&self, timestamp: Timestamp) -> bool {
        self.locks.highest_start().is_some_and(|start| start >= timestamp)
    }

    // ---- what users and the manifest are told ----

    /// Those in doubt, as far as that is published.
    pub(super) fn in_doubt(&self, published: Sequence) -> Vec<PreparedTransaction> {
        let is_decided = |entry: &Entry| entry.outcome.is_some_and(|(_, sequence)| sequence <= published);
        let entries = self.in_doubt.iter().filter_map(|id| self.entries.get(id));
        let in_doubt = entries.filter(|entry| entry.prepared_at <= published && !is_decided(entry));
        let pending = in_doubt.filter_map(|entry| entry.pending.as_ref());
        let shown = |one: &Arc<Pending>| PreparedTransaction {
            id: one.id().into(),
            started_at: one.start(),
            above: one.above(),
        };
        pending.map(shown).collect()
    }

    pub(super) fn outcome(&self, id: &[u8], published: Sequence) -> Option<Outcome> {
        let entry = self.entries.get(id)?;
        let is_forgotten = entry.forgotten.is_some_and(|sequence| sequence <= published);
        let (outcome, sequence) = entry.outcome?;
        (sequence <= published && !is_forgotten).then_some(outcome)
    }

    /// A record about it ends here.
    pub(crate) fn is_logged_to(&mut self, end: LogPosition) {
        self.logged_to = self.logged_to.max(end.0);
    }

    /// What the manifest does not know; `None`: nothing.
    pub(crate) fn untold(&self) -> Option<Untold> {
        let ids = self.untold.keys().map(|id| (id.clone(), self.entries.get(id).and_then(Entry::known)));
        let untold = Untold { changes: self.changes, ids: ids.collect(), log_position: self.logged_to };
        (!untold.ids.is_empty()).then_some(untold)
    }

    /// The manifest says what it was after so many changes.
    pub(crate) fn is_told(&mut self, changes: u64) {
        self.untold.retain(|_, change| *change > changes);
    }
}

/// What the manifest is to be told.
#[derive(Debug)]
pub(crate) struct Untold {
    pub(crate) changes: u64,
    /// As they are known; `None`: free.
    pub(crate) ids: Vec<(TransactionId, Option<Known>)>,
    /// What the log says up to here is among them, or was told before.
    pub(crate) log_position: u64,
}

impl Entry {
    fn known(&self) -> Option<Known> {
        if self.forgotten.is_some() {
            return None;
        }
        let in_doubt = || self.pending.as_ref().map(|one| Known::InDoubt(Arc::clone(&one.told)));
        self.outcome.map(|(outcome, _)| Known::Decided(outcome)).or_else(in_doubt)
    }
}

/// The error of a call that asks for another outcome than there is.
pub(super) fn decided(id: &[u8], outcome: Outcome) -> Error {
    let committed_at = match outcome {
        Outcome::Committed(timestamp) => Some(timestamp),
        Outcome::Aborted => None,
    };
    Error::Decided { id: id.into(), committed_at }
}
