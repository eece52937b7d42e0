//! What a recovered database knows of itself, and how edits change it.

use std::collections::{BTreeMap, HashSet};

use super::edit::{Change, Edit};
use super::prepared::PreparedState;
use super::tree::Tree;
use crate::Timestamp;
use crate::format::FileNumber;
use crate::log::{Cut, Proof};
use crate::options::{KeyspaceSettings, Retention};
use crate::sync::Arc;
use crate::table::TableMeta;

/// Names a keyspace in log and manifest; never given twice, so what was logged for a dropped keyspace never reaches one
/// of its name that was made anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct KeyspaceId(pub(crate) u32);

/// Everything the manifest says. Only edits change it.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct ManifestState {
    pub(crate) keyspaces: BTreeMap<KeyspaceId, KeyspaceState>,
    /// No id at or above was ever given out.
    pub(crate) next_keyspace_id: KeyspaceId,
    /// No file number at or above was ever used (S29).
    pub(crate) file_number_bound: FileNumber,
    /// The highest durable commit that tables cover (L6).
    pub(crate) last_timestamp: Timestamp,
    /// The highest `close_until`.
    pub(crate) closed: Timestamp,
    /// The floor of all keyspaces with manual retention, also of those made later.
    pub(crate) manual_floor: Timestamp,
    pub(crate) log: LogState,
    pub(crate) prepared: PreparedState,
    /// The numbers of all tables. Never iterated: its order is not the same from run to run.
    numbers: HashSet<FileNumber>,
}

/// What the manifest says of one keyspace.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct KeyspaceState {
    pub(crate) name: String,
    pub(crate) options: KeyspaceSettings,
    pub(crate) created_at: Timestamp,
    /// The highest floor by which anything may have been dropped (R1). Below `manual_floor` it says nothing where
    /// retention is manual: [`ManifestState::floor`] knows both.
    pub(crate) floor: Timestamp,
    /// Replay applies nothing of this keyspace below this log position (L5).
    pub(crate) log_position: u64,
    pub(crate) tables: Tree<Arc<TableMeta>>,
}

/// What the manifest says of the log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct LogState {
    /// The oldest segment that is needed.
    pub(crate) start_ordinal: u64,
    /// The oldest position that is needed.
    pub(crate) start_position: u64,
    /// Known to be on stable storage (L1).
    pub(crate) proved: Proof,
    /// Where recoveries ended the log, in order; none that leads to `start_ordinal` or before.
    pub(crate) cuts: Vec<Cut>,
}

/// Why an edit makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EditError {
    #[error("there is no keyspace {}", .0.0)]
    UnknownKeyspace(KeyspaceId),
    #[error("keyspace id {} was given out before", .0.0)]
    KeyspaceIdUsed(KeyspaceId),
    #[error("keyspace ids are used up")]
    NoKeyspaceIds,
    #[error("keyspace name {0:?} is empty or taken")]
    KeyspaceName(String),
    #[error("there is no level {level}")]
    UnknownLevel { level: usize },
    #[error("table {number} is not in level {level}")]
    MissingTable { level: usize, number: FileNumber },
    #[error("table {number} is there already")]
    DuplicateTable { number: FileNumber },
    #[error("file number {number} is not below the bound {bound}")]
    NumberBeyondBound { number: FileNumber, bound: FileNumber },
    #[error("table {number} overlaps table {other} in level {level}")]
    Overlap { level: usize, number: FileNumber, other: FileNumber },
    #[error("{what} would fall from {from} to {to}")]
    Falls { what: &'static str, from: u64, to: u64 },
    #[error("the log cut at {} behind segment {} makes no sense", .0.end, .0.ordinal)]
    Cut(Cut),
    #[error("the log cannot start at segment {ordinal}, which was cut off")]
    StartCutOff { ordinal: u64 },
    #[error("transaction id \"{0}\" is in use")]
    TransactionIdUsed(String),
    #[error("there is no prepared transaction \"{0}\"")]
    UnknownTransaction(String),
}

impl From<EditError> for crate::Error {
    fn from(error: EditError) -> Self {
        Self::invalid(error.to_string())
    }
}

impl ManifestState {
    /// The state after `edit`, or why it cannot be.
    pub(crate) fn after(&self, edit: &Edit) -> Result<Self, EditError> {
        let mut next = self.clone();
        next.apply(edit)?;
        Ok(next)
    }

    /// Applies `edit`. After an error the state is of no use any more, unless the edit was of one change.
    pub(super) fn apply(&mut self, edit: &Edit) -> Result<(), EditError> {
        let is_addition = |change: &&Change| matches!(change, Change::AddTable { .. });
        for change in edit.changes.iter().filter(|change| !is_addition(change)) {
            self.apply_change(change)?;
        }
        for change in edit.changes.iter().filter(is_addition) {
            self.apply_change(change)?;
        }
        Ok(())
    }

    /// One that is refused changes nothing.
    fn apply_change(&mut self, change: &Change) -> Result<(), EditError> {
        match change {
            Change::CreateKeyspace { id, name, options, created_at } => {
                if *id < self.next_keyspace_id {
                    return Err(EditError::KeyspaceIdUsed(*id));
                }
                if name.is_empty() || self.keyspace_named(name).is_some() {
                    return Err(EditError::KeyspaceName(name.clone()));
                }
                self.next_keyspace_id = KeyspaceId(id.0.checked_add(1).ok_or(EditError::NoKeyspaceIds)?);
                let keyspace = KeyspaceState {
                    name: name.clone(),
                    options: (**options).clone(),
                    created_at: *created_at,
                    floor: 0,
                    log_position: 0,
                    tables: Tree::default(),
                };
                self.keyspaces.insert(*id, keyspace);
                Ok(())
            }
            Change::DropKeyspace { id } => {
                let dropped = self.keyspaces.remove(id).ok_or(EditError::UnknownKeyspace(*id))?;
                for (_, table) in dropped.tables.iter() {
                    self.numbers.remove(&table.number);
                }
                Ok(())
            }
            Change::AddTable { keyspace, level, table } => {
                let (number, bound) = (table.number, self.file_number_bound);
                if number >= bound {
                    return Err(EditError::NumberBeyondBound { number, bound });
                }
                if self.numbers.contains(&number) {
                    return Err(EditError::DuplicateTable { number });
                }
                self.keyspace_mut(*keyspace)?.tables.add(*level, Arc::clone(table))?;
                self.numbers.insert(number);
                Ok(())
            }
            Change::RemoveTable { keyspace, level, number } => {
                self.keyspace_mut(*keyspace)?.tables.remove(*level, *number)?;
                self.numbers.remove(number);
                Ok(())
            }
            Change::KeyspaceFloor { id, floor } => rise("keyspace floor", &mut self.keyspace_mut(*id)?.floor, *floor),
            Change::KeyspaceLog { id, position } => {
                rise("keyspace log position", &mut self.keyspace_mut(*id)?.log_position, *position)
            }
            Change::NextKeyspace { id } => rise("next keyspace id", &mut self.next_keyspace_id, *id),
            Change::FileNumberBound { bound } => rise("file number bound", &mut self.file_number_bound, *bound),
            Change::LastTimestamp { timestamp } => rise("last timestamp", &mut self.last_timestamp, *timestamp),
            Change::Closed { timestamp } => rise("closed timestamp", &mut self.closed, *timestamp),
            Change::ManualFloor { floor } => rise("manual floor", &mut self.manual_floor, *floor),
            Change::LogStart { ordinal, position } => self.log.start(*ordinal, *position),
            Change::LogProved(proof) => {
                let mut proved = self.log.proved;
                rise("proved log segment", &mut proved.ordinal, proof.ordinal)?;
                rise("proved log position", &mut proved.position.0, proof.position.0)?;
                self.log.proved = proved;
                Ok(())
            }
            Change::LogCut(cut) => self.log.cut(*cut),
            Change::Prepare(in_doubt) => self.prepared.prepare(in_doubt),
            Change::Decide { id, outcome } => self.prepared.decide(id, *outcome),
            Change::Forget { id } => self.prepared.forget(id),
            Change::PreparedLog { position } => {
                rise("prepared log position", &mut self.prepared.log_position, *position)
            }
        }
    }

    fn keyspace_mut(&mut self, id: KeyspaceId) -> Result<&mut KeyspaceState, EditError> {
        self.keyspaces.get_mut(&id).ok_or(EditError::UnknownKeyspace(id))
    }

    pub(crate) fn keyspace_named(&self, name: &str) -> Option<(KeyspaceId, &KeyspaceState)> {
        self.keyspaces.iter().find(|(_, keyspace)| keyspace.name == name).map(|(id, keyspace)| (*id, keyspace))
    }

    /// The floor that reads of a keyspace are held against after recovery.
    pub(crate) fn floor(&self, keyspace: &KeyspaceState) -> Timestamp {
        match keyspace.options.retention {
            Retention::Manual => keyspace.floor.max(self.manual_floor),
            Retention::Latest | Retention::Window(_) => keyspace.floor,
        }
    }

    /// What the manifest covers further than the log is known to be synced: names it for an error.
    pub(crate) fn ahead_of(&self, synced: u64) -> Option<String> {
        let keyspace = self.keyspaces.values().find(|keyspace| keyspace.log_position > synced);
        let prepared =
            (self.prepared.log_position > synced).then(|| "what it says of prepared transactions".to_owned());
        keyspace.map(|keyspace| format!("keyspace {:?}", keyspace.name)).or(prepared)
    }

    /// Whether a table of this number is in use. What is not can be removed once no edit is under way (S29).
    pub(crate) fn has_table(&self, number: FileNumber) -> bool {
        self.numbers.contains(&number)
    }

    /// The changes that make this state out of nothing.
    pub(super) fn snapshot(&self) -> impl Iterator<Item = Change> {
        let head = [
            Change::FileNumberBound { bound: self.file_number_bound },
            Change::LastTimestamp { timestamp: self.last_timestamp },
            Change::Closed { timestamp: self.closed },
            Change::ManualFloor { floor: self.manual_floor },
            Change::LogStart { ordinal: self.log.start_ordinal, position: self.log.start_position },
        ];
        let cuts = self.log.cuts.iter().copied().map(Change::LogCut);
        let keyspaces = self.keyspaces.iter().flat_map(|(id, keyspace)| keyspace.snapshot(*id));
        // Proved behind the cuts: what was proved since lies above them.
        let tail = [Change::LogProved(self.log.proved), Change::NextKeyspace { id: self.next_keyspace_id }];
        let prepared = self.prepared.snapshot();
        head.into_iter().chain(cuts).chain(keyspaces).chain(tail).chain(prepared)
    }
}

impl KeyspaceState {
    fn snapshot(&self, id: KeyspaceId) -> impl Iterator<Item = Change> {
        let create = Change::CreateKeyspace {
            id,
            name: self.name.clone(),
            options: Box::new(self.options.clone()),
            created_at: self.created_at,
        };
        let head = [
            create,
            Change::KeyspaceFloor { id, floor: self.floor },
            Change::KeyspaceLog { id, position: self.log_position },
        ];
        let tables = self.tables.levels().enumerate().flat_map(move |(level, tables)| {
            let add = move |table: &Arc<TableMeta>| Change::AddTable { keyspace: id, level, table: Arc::clone(table) };
            // Level 0 oldest first, since each one goes in front of those before. The runs in key order: each goes to
            // the end.
            let (newest_first, by_key) = if level == 0 { (tables, &[][..]) } else { (&[][..], tables) };
            newest_first.iter().rev().chain(by_key).map(add)
        });
        head.into_iter().chain(tables)
    }
}

impl LogState {
    /// Up to here the log is known to be on stable storage.
    pub(crate) fn synced(&self) -> u64 {
        self.proved.position.0.max(self.start_position)
    }

    /// What comes before is not needed any more.
    fn start(&mut self, ordinal: u64, position: u64) -> Result<(), EditError> {
        let (mut start_ordinal, mut start_position) = (self.start_ordinal, self.start_position);
        rise("log start ordinal", &mut start_ordinal, ordinal)?;
        rise("log start position", &mut start_position, position)?;
        let left = |cut: &&Cut| cut.next_ordinal > ordinal;
        if self.cuts.iter().filter(left).any(|cut| cut.ordinal.saturating_add(1) < ordinal) {
            return Err(EditError::StartCutOff { ordinal });
        }
        self.cuts.retain(|cut| left(&cut));
        (self.start_ordinal, self.start_position) = (start_ordinal, start_position);
        Ok(())
    }

    /// A cut replaces those at or behind its place: what they led to was never proved, and is cut off with the rest. It
    /// may stand right before the start: then the first segment itself is cut off.
    fn cut(&mut self, cut: Cut) -> Result<(), EditError> {
        let fits = cut.ordinal.saturating_add(1) >= self.start_ordinal
            && cut.next_ordinal > cut.ordinal.max(self.start_ordinal)
            && cut.end >= self.proved.position
            && self.cuts.iter().all(|earlier| earlier.next_ordinal <= cut.next_ordinal);
        if !fits {
            return Err(EditError::Cut(cut));
        }
        self.cuts.retain(|earlier| earlier.ordinal < cut.ordinal);
        self.cuts.push(cut);
        Ok(())
    }
}

/// Bounds, floors and positions only rise.
fn rise<T: Copy + Ord + AsNumber>(what: &'static str, old: &mut T, new: T) -> Result<(), EditError> {
    if new < *old {
        return Err(EditError::Falls { what, from: old.number(), to: new.number() });
    }
    *old = new;
    Ok(())
}

/// For messages.
trait AsNumber {
    fn number(self) -> u64;
}

impl AsNumber for u64 {
    fn number(self) -> u64 {
        self
    }
}

impl AsNumber for KeyspaceId {
    fn number(self) -> u64 {
        u64::from(self.0)
    }
}

impl AsNumber for FileNumber {
    fn number(self) -> u64 {
        self.0
    }
}
