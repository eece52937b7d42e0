//! What the repaired database is to be: decided over plain data, before anything is written.

use std::collections::{BTreeMap, BTreeSet};

use super::inventory::{Checked, Tables};
use super::order::superseded;
use crate::Timestamp;
use crate::db::origin::{Identity, read_record};
use crate::format::FileNumber;
use crate::log::{FARTHEST, LogPosition, Standing};
use crate::manifest::{KeyspaceId, KeyspaceState, Testimony};
use crate::options::{KeyspaceSettings, Retention};
use crate::sync::Arc;
use crate::table::TableMeta;

/// All that was found.
pub(super) struct Evidence<'a> {
    pub(super) testimony: Option<&'a Testimony>,
    /// The manifest knows everything.
    pub(super) exact: bool,
    pub(super) tables: &'a Tables,
    pub(super) standing: Standing,
    /// What the log says of keyspaces.
    pub(super) logged: &'a Logged,
    pub(super) log: &'a LogEvidence,
    /// The log does not stay: what it holds goes to tables.
    pub(super) log_ends: bool,
}

/// What the log says of keyspaces.
#[derive(Debug, Default)]
pub(super) struct Logged {
    pub(super) made: BTreeMap<KeyspaceId, Identity>,
    pub(super) dropped: BTreeSet<KeyspaceId>,
}

impl Logged {
    pub(super) fn of(records: &[(u8, Vec<u8>)]) -> Self {
        let mut logged = Self::default();
        for (flags, payload) in records {
            match read_record(*flags, payload) {
                Ok(Ok(identity)) => drop(logged.made.insert(identity.keyspace, identity)),
                Ok(Err(dropped)) => drop(logged.dropped.insert(dropped)),
                Err(_) => {}
            }
        }
        logged
    }
}

/// What a look at the log has shown.
#[derive(Debug, Default)]
pub(super) struct LogEvidence {
    pub(super) keyspaces: BTreeSet<KeyspaceId>,
    pub(super) last_timestamp: Timestamp,
    pub(super) records: u64,
    pub(super) bytes: u64,
    /// From here on nothing of it is missing, ...
    pub(super) whole_from: Option<LogPosition>,
    /// ... up to here.
    pub(super) whole_until: LogPosition,
    /// Whether any commit in it is late.
    pub(super) late: bool,
}

pub(super) struct Plan {
    pub(super) keyspaces: BTreeMap<KeyspaceId, PlannedKeyspace>,
    pub(super) next_keyspace: KeyspaceId,
    pub(super) last_timestamp: Timestamp,
    pub(super) closed: Timestamp,
    pub(super) manual_floor: Timestamp,
    /// Tables that should be there and are not, or are not intact, with the keyspace that they are of.
    pub(super) lost: Lost,
    /// Of damaged ones: how many versions an earlier repair, which has come to nothing, has put into a table that is
    /// there.
    pub(super) rests: BTreeMap<FileNumber, u64>,
}

/// Tables that are lost, and whose they are.
pub(super) type Lost = BTreeMap<FileNumber, Option<KeyspaceId>>;

pub(super) struct PlannedKeyspace {
    pub(super) name: String,
    pub(super) invented: bool,
    pub(super) options: KeyspaceSettings,
    pub(super) created_at: Timestamp,
    pub(super) floor: Timestamp,
    /// Its tables cover the log up to here.
    pub(super) log_position: LogPosition,
    pub(super) tables: PlannedTables,
}

impl PlannedKeyspace {
    /// Whether its tables have to be merged, because their order is not known.
    pub(super) fn is_unordered(&self) -> bool {
        matches!(&self.tables, PlannedTables::Unordered(members) if members.len() > 1)
    }
}

pub(super) enum PlannedTables {
    /// With their levels; those of level 0 oldest first, as they are added.
    Ordered(Vec<(usize, Member)>),
    /// Newest first, as far as can be guessed.
    Unordered(Vec<Member>),
}

/// A table of a keyspace to be.
#[derive(Debug, Clone)]
pub(super) enum Member {
    /// One that a manifest names, so that it was synced before (L3).
    Intact(Arc<TableMeta>),
    /// An intact one that may be in the page cache only.
    Unnamed(Arc<TableMeta>),
    /// What can be read of a damaged one.
    Rest(Arc<TableMeta>),
}

pub(super) fn plan(evidence: &Evidence<'_>) -> Plan {
    let nothing = Testimony::default();
    let testimony = evidence.testimony.unwrap_or(&nothing);
    let (state, standing) = (&testimony.state, evidence.standing);
    let superseded = if evidence.exact { BTreeSet::new() } else { superseded(evidence.tables) };
    let mut keyspaces = keyspaces(evidence, testimony);
    let mut plan = Plan {
        next_keyspace: state.next_keyspace_id.max(KeyspaceId(standing.next_keyspace)),
        last_timestamp: state.last_timestamp.max(if evidence.log_ends { evidence.log.last_timestamp } else { 0 }),
        closed: state.closed,
        manual_floor: state.manual_floor,
        keyspaces: BTreeMap::new(),
        lost: BTreeMap::new(),
        rests: BTreeMap::new(),
    };
    if !evidence.exact {
        let metas = evidence.tables.values().filter_map(Checked::intact);
        let newest = metas.map(|meta| meta.max_timestamp).max().unwrap_or(0);
        plan.last_timestamp = plan.last_timestamp.max(standing.last_timestamp).max(newest);
        plan.closed = plan.closed.max(standing.closed);
        plan.manual_floor = plan.manual_floor.max(standing.manual_floor);
        let last = plan.last_timestamp;
        for (id, keyspace) in &mut keyspaces {
            keyspace.floor = keyspace.floor.max(floor_of(evidence.tables, *id, &keyspace.options, last));
            if keyspace.options.retention == Retention::Manual {
                plan.manual_floor = plan.manual_floor.max(keyspace.floor);
            }
        }
        let floors = keyspaces.values().map(|keyspace| keyspace.floor);
        plan.last_timestamp = floors.fold(last.max(plan.manual_floor), Timestamp::max);
    }
    for (id, mut keyspace) in keyspaces {
        let known = state.keyspaces.get(&id);
        let members = Members { evidence, testimony, superseded: &superseded, id, known };
        members.fill(&mut keyspace, &mut plan.lost);
        plan.next_keyspace = plan.next_keyspace.max(KeyspaceId(id.0.saturating_add(1)));
        plan.keyspaces.insert(id, keyspace);
    }
    if !evidence.exact {
        for (number, checked) in evidence.tables {
            let owner = checked.origin().map(|origin| origin.of.keyspace).filter(|id| plan.keyspaces.contains_key(id));
            let is_damaged = matches!(checked, Checked::Damaged { .. });
            let rest = is_damaged.then(|| rest_of(evidence.tables, *number)).flatten();
            plan.rests.extend(rest.map(|rest| (*number, rest.versions)));
            let unread = is_damaged && (rest.is_some() || !superseded.contains(number));
            if unread && (owner.is_some() || checked.origin().is_none()) && !testimony.removed.contains(number) {
                plan.lost.entry(*number).or_insert(owner);
            }
        }
    }
    plan
}

/// The intact table that was made of this one alone.
fn rest_of(tables: &Tables, number: FileNumber) -> Option<&Arc<TableMeta>> {
    let is_made_of_it = |checked: &&Checked| checked.origin().is_some_and(|origin| *origin.inputs == [number]);
    tables.values().filter(is_made_of_it).find_map(Checked::intact)
}

/// Every keyspace that there is, with a name, and no table yet.
fn keyspaces(evidence: &Evidence<'_>, testimony: &Testimony) -> BTreeMap<KeyspaceId, PlannedKeyspace> {
    let empty = |name: String, options: &KeyspaceSettings| PlannedKeyspace {
        name,
        invented: false,
        options: options.clone(),
        created_at: 0,
        floor: 0,
        log_position: LogPosition(0),
        tables: PlannedTables::Ordered(Vec::new()),
    };
    let (state, logged) = (&testimony.state, evidence.logged);
    let mut keyspaces = BTreeMap::new();
    for (id, known) in &state.keyspaces {
        let keyspace = PlannedKeyspace {
            invented: testimony.nameless.contains(id),
            created_at: known.created_at,
            floor: known.floor,
            ..empty(known.name.clone(), &known.options)
        };
        keyspaces.insert(*id, keyspace);
    }
    if evidence.exact {
        return keyspaces;
    }
    let dropped = |id: KeyspaceId| {
        let unheard = id < testimony.known_below && !state.keyspaces.contains_key(&id);
        unheard || testimony.dropped.contains(&id) || logged.dropped.contains(&id)
    };
    let told = evidence.tables.values().filter_map(Checked::origin).map(|origin| &origin.of);
    for identity in logged.made.values().chain(told) {
        let known = keyspaces.get(&identity.keyspace);
        if known.is_none_or(|known| known.invented) {
            keyspaces.insert(identity.keyspace, empty(identity.name.clone(), &identity.options));
        }
    }
    keyspaces.retain(|id, _| !dropped(*id));
    for id in evidence.log.keyspaces.iter().filter(|id| !dropped(**id)) {
        let manual = KeyspaceSettings { retention: Retention::Manual, ..KeyspaceSettings::default() };
        keyspaces.entry(*id).or_insert_with(|| PlannedKeyspace { invented: true, ..empty(String::new(), &manual) });
    }
    // A name is given again only once its keyspace was dropped.
    let mut holders: BTreeMap<String, KeyspaceId> = BTreeMap::new();
    for (id, keyspace) in keyspaces.iter().filter(|(_, keyspace)| !keyspace.invented) {
        holders.insert(keyspace.name.clone(), *id);
    }
    keyspaces.retain(|id, keyspace| keyspace.invented || holders.get(&keyspace.name) == Some(id));
    for (id, keyspace) in keyspaces.iter_mut().filter(|(_, keyspace)| keyspace.invented) {
        keyspace.name = format!("recovered-{}", id.0);
        while holders.contains_key(&keyspace.name) {
            keyspace.name.push('+');
        }
        holders.insert(keyspace.name.clone(), *id);
    }
    keyspaces
}

/// The highest floor by which anything may have been dropped in a keyspace, as far as its tables and its retention tell
/// (R1).
fn floor_of(tables: &Tables, id: KeyspaceId, options: &KeyspaceSettings, last: Timestamp) -> Timestamp {
    let origins = tables.values().filter_map(Checked::origin).filter(|origin| origin.of.keyspace == id);
    let told = origins.map(|origin| origin.floor).max().unwrap_or(0);
    told.max(match options.retention {
        Retention::Latest => last,
        Retention::Window(length) => last.saturating_sub(length),
        Retention::Manual => 0,
    })
}

/// Up to where a table covers the log, if that can be.
pub(super) fn log_end(meta: &TableMeta) -> u64 {
    if meta.log_end <= FARTHEST { meta.log_end } else { 0 }
}

/// Collects the tables of one keyspace.
struct Members<'a> {
    evidence: &'a Evidence<'a>,
    testimony: &'a Testimony,
    superseded: &'a BTreeSet<FileNumber>,
    id: KeyspaceId,
    known: Option<&'a KeyspaceState>,
}

impl Members<'_> {
    fn fill(&self, keyspace: &mut PlannedKeyspace, lost: &mut Lost) {
        let named: Vec<(usize, Arc<TableMeta>)> = match self.known {
            Some(known) => {
                let tree = &known.tables;
                let newest_last = tree.level(0).iter().rev().map(|table| (0, Arc::clone(table)));
                newest_last
                    .chain(tree.iter().filter(|(level, _)| *level > 0).map(|(level, table)| (level, Arc::clone(table))))
                    .collect()
            }
            None => Vec::new(),
        };
        let numbers: BTreeSet<FileNumber> = named.iter().map(|(_, meta)| meta.number).collect();
        let unnamed = self.unnamed(&numbers);
        let shaken = self.testimony.shaken.contains(&self.id);
        let in_place: Vec<_> = named.iter().filter(|(_, meta)| !self.superseded.contains(&meta.number)).collect();
        let all = || in_place.iter().map(|(_, meta)| meta).chain(&unnamed);
        keyspace.log_position = LogPosition(self.log_position(all()));
        let mut member = |meta: &Arc<TableMeta>| {
            if let Some(Checked::Intact { meta, .. }) = self.evidence.tables.get(&meta.number) {
                let meta = Arc::clone(meta);
                return Some(if numbers.contains(&meta.number) { Member::Intact(meta) } else { Member::Unnamed(meta) });
            }
            lost.insert(meta.number, Some(self.id));
            self.rest(meta).map(|rest| Member::Rest(Arc::clone(rest)))
        };
        let ordered = self.evidence.exact || (!shaken && unnamed.is_empty());
        keyspace.tables = if ordered {
            let members = in_place.iter().filter_map(|(level, meta)| Some((*level, member(meta)?)));
            PlannedTables::Ordered(members.collect())
        } else {
            // What is not named was written after what is.
            let newest_first =
                unnamed.iter().chain(in_place.iter().filter(|(level, _)| *level == 0).rev().map(|(_, meta)| meta));
            let below = in_place.iter().filter(|(level, _)| *level > 0).map(|(_, meta)| meta);
            PlannedTables::Unordered(newest_first.chain(below).filter_map(member).collect())
        };
    }

    /// From where on the log is to be applied.
    ///
    /// Behind all that tables cover; but from where the log is whole, if a table is lost that held anything from there
    /// on, if one may be that nobody knows of, or if a segment may lie further on than it could be put. Then commits
    /// that tables hold come a second time, which changes nothing: what is put over the tables is all that ever came
    /// later, so that a lookup may end at it (T2).
    ///
    /// Not if tables cover more than is left of the log: they hold what came after it. And not with late commits: of
    /// those an older one may be in the log alone, and what had hidden it dropped together with it.
    fn log_position<'t>(&self, tables: impl Iterator<Item = &'t Arc<TableMeta>> + Clone) -> u64 {
        let in_tables = tables.clone().fold(0, |end, meta| end.max(log_end(meta)));
        let known = self.known.map_or(0, |known| known.log_position);
        // An opening refuses to count more as covered than was synced (L4).
        let synced = if self.evidence.exact { self.testimony.state.log.synced() } else { FARTHEST };
        let covered = known.max(in_tables).min(synced);
        let late = self.evidence.log.late || tables.clone().any(|meta| meta.late);
        let log = &self.evidence.log;
        let holds_all = !late && log.whole_until.0 >= in_tables;
        let Some(LogPosition(whole_from)) = log.whole_from.filter(|_| holds_all) else { return covered };
        let is_lost = |meta: &Arc<TableMeta>| {
            let intact = matches!(self.evidence.tables.get(&meta.number), Some(Checked::Intact { .. }));
            !intact && log_end(meta) > whole_from
        };
        if self.evidence.log_ends || tables.into_iter().any(is_lost) { whole_from.min(covered) } else { covered }
    }

    /// What a damaged table says of itself, if that much can be read.
    fn rest(&self, meta: &TableMeta) -> Option<&'_ Arc<TableMeta>> {
        match self.evidence.tables.get(&meta.number) {
            Some(Checked::Damaged { meta, .. }) => meta.as_ref(),
            _ => None,
        }
    }

    /// The keyspace's tables that no manifest names and that may be a part of it, newest first.
    fn unnamed(&self, named: &BTreeSet<FileNumber>) -> Vec<Arc<TableMeta>> {
        if self.evidence.exact {
            return Vec::new();
        }
        let mine = self.evidence.tables.iter().rev().filter(|(number, checked)| {
            checked.origin().is_some_and(|origin| origin.of.keyspace == self.id)
                && !named.contains(number)
                && !self.superseded.contains(number)
                && !self.testimony.removed.contains(number)
        });
        mine.filter_map(|(_, checked)| match checked {
            Checked::Intact { meta, .. } | Checked::Damaged { meta: Some(meta), .. } => Some(Arc::clone(meta)),
            Checked::Damaged { .. } | Checked::Missing => None,
        })
        .collect()
    }
}
