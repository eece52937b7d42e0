//! The look at everything that comes before any change: manifests, log, tables.

use std::path::Path;

use super::inventory::{Checked, Inventory, Place, Tables, in_short};
use super::plan::{Evidence, LogEvidence, Logged, Plan, plan};
use super::report::{LostFile, LostTable, ManifestFound, RepairReport, RepairedKeyspace};
use crate::db::open::expectation;
use crate::db::prepared::{Pending, PreparedTable};
use crate::db::record::Logged as Entry;
use crate::format::{FileKind, FileNumber};
use crate::log::{self, Expectation, LogPosition, LogStart, Marks, RecordRef, Recovered, Salvaged};
use crate::manifest::{self, CURRENT, KeyspaceId, ManifestState, Witnesses};
use crate::sync::Arc;
use crate::{Error, Result};

/// What a look at everything has shown.
pub(super) struct Found {
    pub(super) inventory: Inventory,
    pub(super) witnesses: Witnesses,
    /// The manifest knows everything.
    pub(super) exact: bool,
    pub(super) marks: Marks,
    pub(super) tables: Tables,
    pub(super) log: LogEvidence,
    /// `None`: the log is as an opening wants it, and stays.
    pub(super) salvaged: Option<Salvaged>,
}

/// A file to be put aside.
pub(super) struct Broken {
    pub(super) file: String,
    pub(super) reason: String,
    pub(super) table: Option<LostTable>,
}

impl Found {
    pub(super) fn look(place: &Place, inventory: Inventory) -> Result<Self> {
        let (fs, dir) = (&*place.fs, &*place.dir);
        let marks = log::marks(fs, dir)?;
        let witnesses = manifest::salvage(fs, dir, &inventory.manifests, &inventory.tables, marks.furthest)?;
        let marked = marks.furthest.unwrap_or_default();
        // Nor has `CURRENT` ever named a later one: that of a repair is marked in no log until the database is opened.
        let named = witnesses.current.as_ref().and_then(|current| current.as_ref().ok()).copied();
        let exact = witnesses.testimony.as_ref().is_some_and(|one| {
            let marked = one.number > marked.0 || (one.number == marked.0 && one.len >= marked.1);
            one.complete && marked && named.is_none_or(|named| named <= one.number)
        });
        let state = witnesses.testimony.as_ref().map(|testimony| &testimony.state);
        let (log, salvaged) = look_at_log(place, state, exact)?;
        let mut found = Self { inventory, witnesses, exact, marks, tables: Tables::new(), log, salvaged };
        found.check_tables(place)?;
        Ok(found)
    }

    pub(super) fn plan(&self) -> Plan {
        plan(&Evidence {
            testimony: self.witnesses.testimony.as_ref(),
            exact: self.exact,
            tables: &self.tables,
            standing: self.marks.standing.unwrap_or_default(),
            logged: &Logged::of(&self.marks.keyspaces),
            log: &self.log,
            log_ends: self.salvaged.is_some(),
        })
    }

    pub(super) fn state(&self) -> Option<&ManifestState> {
        self.witnesses.testimony.as_ref().map(|testimony| &testimony.state)
    }

    /// Reads every table that counts: those that are named, and where the manifest does not know everything, all others.
    fn check_tables(&mut self, place: &Place) -> Result<()> {
        let mut tables = Tables::new();
        let trees = self.state().into_iter().flat_map(|state| state.keyspaces.values().map(|one| &one.tables));
        for (_, meta) in trees.flat_map(|tree| tree.iter()) {
            let checked = match place.check(meta.number, Some(meta))? {
                Checked::Intact { meta: found, .. } if found != *meta => {
                    let reason = "it is not the file that the manifest names".to_owned();
                    Checked::Damaged { reason, meta: None, origin: None }
                }
                checked => checked,
            };
            tables.insert(meta.number, checked);
        }
        if !self.exact {
            for number in &self.inventory.tables {
                if !tables.contains_key(number) {
                    tables.insert(*number, place.check(*number, None)?);
                }
            }
        }
        self.tables = tables;
        Ok(())
    }

    /// Whether a database opens as it is, and everything in it can be read.
    pub(super) fn is_healthy(&self) -> bool {
        let Some(testimony) = &self.witnesses.testimony else { return false };
        let named = matches!(&self.witnesses.current, Some(Ok(named)) if *named == testimony.number);
        let damaged = self.witnesses.damaged.iter().any(|(number, _)| *number == testimony.number);
        named
            && !damaged
            && self.exact
            && testimony.number < testimony.state.file_number_bound
            && testimony.state.ahead_of(testimony.state.log.synced()).is_none()
            && self.salvaged.is_none()
            && self.inventory.beyond.is_empty()
            && self.tables.values().all(|checked| checked.intact().is_some())
    }

    /// Everything that is there and not intact.
    pub(super) fn broken(&self, plan: &Plan) -> Vec<Broken> {
        let broken = |file: String, reason: String| Broken { file, reason, table: None };
        let mut found = Vec::new();
        if let Some(Err(damage)) = &self.witnesses.current {
            found.push(broken(CURRENT.to_owned(), in_short(damage)));
        }
        let manifests = self.witnesses.damaged.iter();
        found.extend(manifests.map(|(number, damage)| broken(name_of(FileKind::Manifest, *number), in_short(damage))));
        let segments = self.salvaged.iter().flat_map(|salvaged| &salvaged.segments);
        found.extend(segments.map(|one| broken(name_of(FileKind::Log, one.number), one.reason.clone())));
        let beyond = self.inventory.beyond.iter();
        found.extend(beyond.map(|name| broken(name.clone(), "its number leaves none above it".to_owned())));
        for (number, keyspace) in &plan.lost {
            if let Some(Checked::Damaged { reason, .. }) = self.tables.get(number) {
                let (file, table) = (name_of(FileKind::Table, *number), self.lost_table(plan, *number, *keyspace));
                found.push(Broken { file, reason: reason.clone(), table });
            }
        }
        found
    }

    /// What is known of a table that is not intact: what the manifest says, or else the table itself.
    fn lost_table(&self, plan: &Plan, number: FileNumber, keyspace: Option<KeyspaceId>) -> Option<LostTable> {
        let keyspace = keyspace?;
        let tree = self.state().and_then(|state| state.keyspaces.get(&keyspace)).map(|one| &one.tables);
        let named = tree.and_then(|tree| tree.iter().find(|(_, meta)| meta.number == number)).map(|(_, meta)| meta);
        let meta = named.or(match self.tables.get(&number) {
            Some(Checked::Damaged { meta, .. }) => meta.as_ref(),
            _ => None,
        })?;
        let name = plan.keyspaces.get(&keyspace).map_or_else(String::new, |one| one.name.clone());
        Some(LostTable::new(number, name, meta))
    }

    /// What can be told before anything is written.
    pub(super) fn report(&self, plan: &Plan) -> RepairReport {
        let manifest = match (self.exact, &self.witnesses.testimony) {
            (true, _) => ManifestFound::Whole,
            (false, Some(_)) => ManifestFound::Damaged,
            (false, None) => ManifestFound::Lost,
        };
        let mut report = RepairReport {
            manifest,
            log_records_kept: self.log.records,
            log_bytes_kept: self.log.bytes,
            log_bytes_lost: self.salvaged.as_ref().map_or(0, |salvaged| salvaged.lost_bytes),
            ..RepairReport::default()
        };
        for (number, keyspace) in &plan.lost {
            if !matches!(self.tables.get(number), Some(Checked::Damaged { .. })) {
                report.lost.push(LostFile {
                    file: name_of(FileKind::Table, *number),
                    moved_to: None,
                    reason: "the manifest names it, and it is not there".to_owned(),
                    table: self.lost_table(plan, *number, *keyspace),
                });
            }
        }
        for (from, to) in self.salvaged.iter().flat_map(|salvaged| &salvaged.missing) {
            let sentence = format!("What the log held from position {from} to {to}: no segment is there.");
            report.unknown.push(sentence);
        }
        if self.exact {
            return report;
        }
        report.unknown.push(match manifest {
            ManifestFound::Lost => {
                "Which keyspaces were dropped, and which tables were replaced or were being written: what was dropped may \
                 be back where a file of it is left."
            }
            _ => {
                "What the lost edits of the manifest said: tables and keyspaces that one of them dropped may be back where \
                 a file of them is left."
            }
        }
        .to_owned());
        if self.marks.standing.is_none() {
            let sentence = "The floors of keyspaces whose retention is manual: they are at least what tables tell, and \
                            reads below the true ones may miss what was dropped.";
            report.unknown.push(sentence.to_owned());
        }
        for keyspace in plan.keyspaces.values().filter(|keyspace| keyspace.is_unordered()) {
            let name = &keyspace.name;
            let sentence = format!(
                "In which order the tables of keyspace {name:?} came: where two of them hold one key at one timestamp, \
                 either may count."
            );
            report.unknown.push(sentence);
        }
        report
    }
}

impl RepairReport {
    /// Adds what the database is now.
    pub(super) fn tell(&mut self, plan: &Plan, state: &ManifestState, wrote: impl Fn(FileNumber) -> bool) {
        for (id, keyspace) in &state.keyspaces {
            let tables = || keyspace.tables.iter();
            self.tables_kept += tables().filter(|(_, table)| !wrote(table.number)).count() as u64;
            self.keyspaces.push(RepairedKeyspace {
                name: keyspace.name.clone(),
                invented: plan.keyspaces.get(id).is_some_and(|planned| planned.invented),
                tables: tables().count() as u64,
                floor: state.floor(keyspace),
            });
        }
        self.keyspaces.sort_by(|one, other| one.name.cmp(&other.name));
    }
}

fn name_of(kind: FileKind, number: FileNumber) -> String {
    kind.path(Path::new(""), number).to_string_lossy().into_owned()
}

/// Reads the log as an opening would; if that refuses it, as salvage does.
fn look_at_log(place: &Place, state: Option<&ManifestState>, exact: bool) -> Result<(LogEvidence, Option<Salvaged>)> {
    let (fs, dir) = (&*place.fs, &*place.dir);
    let state = state.cloned().unwrap_or_default();
    let expected = expectation(&state);
    let mut evidence = LogEvidence::default();
    // An opening goes by what it says of prepared transactions, so it has to make sense.
    let is_covered = state.prepared.log_position <= state.log.synced();
    let prepared = PreparedTable::known(&state.prepared, state.next_keyspace_id).ok().filter(|_| exact && is_covered);
    if let Some(mut prepared) = prepared {
        let recovered = log::recover(fs, dir, &expected, &mut |record| {
            let path = FileKind::Log.path(dir, record.segment);
            let noted = evidence.note(&record, Some(&state)).and_then(|()| {
                let is_new = record.position.0 >= state.prepared.log_position;
                if is_new {
                    prepared.replay(&Entry::read(&record)?, record.end, state.next_keyspace_id)
                } else {
                    Ok(())
                }
            });
            noted.map_err(|reason| Error::corruption(path, record.offset, reason))
        });
        match recovered {
            Ok(recovered) if is_intact_before_start(place, &expected, &recovered)? => {
                evidence.whole_from = Some(expected.start.position);
                // What tables cover was synced before they were named, or the log begins behind it (L4).
                evidence.whole_until = LogPosition(u64::MAX);
                return Ok((evidence, None));
            }
            Ok(_) | Err(Error::Corruption { .. }) => evidence = LogEvidence::default(),
            Err(error) => return Err(error),
        }
    }
    let known = exact.then_some(&state);
    let salvaged = log::salvage(fs, dir, &expected, exact, &mut |record| Ok(evidence.note(&record, known)))?;
    evidence.whole_from = Some(salvaged.whole_from);
    evidence.whole_until = salvaged.whole_until;
    Ok((evidence, Some(salvaged)))
}

/// Whether the oldest segment is intact also where tables cover it: an opening does not ask, but verification does. If
/// nothing behind the start is proved, neither is anything before: an opening lets the segment go.
fn is_intact_before_start(place: &Place, expected: &Expectation, recovered: &Recovered) -> Result<bool> {
    let kept = recovered.kept();
    let Some(first) = kept.first().filter(|first| first.ordinal == expected.start.ordinal) else { return Ok(true) };
    let start = LogStart { position: first.start, ..expected.start };
    let expected = Expectation { start, ..expected.clone() };
    match log::recover(&*place.fs, &place.dir, &expected, &mut |_| Ok(())) {
        Ok(_) => Ok(true),
        Err(Error::Corruption { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

impl LogEvidence {
    /// `known`: no keyspace was ever made but those that this state knows of.
    fn note(&mut self, record: &RecordRef<'_>, known: Option<&ManifestState>) -> log::Usable {
        let logged = Entry::read(record)?;
        let ids: Vec<KeyspaceId> = match &logged {
            Entry::Commit(commit) => commit.operations()?.iter().map(|op| KeyspaceId(op.keyspace)).collect(),
            Entry::Prepared(in_doubt) => {
                let pending = Pending::read(Arc::new(in_doubt.clone())).map_err(|error| error.reason)?;
                pending.keyspaces().to_vec()
            }
            Entry::Aborted(_) | Entry::Forgotten(_) => Vec::new(),
        };
        if known.is_some_and(|known| ids.iter().any(|id| *id >= known.next_keyspace_id)) {
            return Err("names a keyspace that never was".into());
        }
        self.keyspaces.extend(ids);
        if let Entry::Commit(commit) = logged {
            self.last_timestamp = self.last_timestamp.max(commit.timestamp);
            self.late |= commit.late;
        }
        self.records += 1;
        self.bytes += record.end.0 - record.position.0;
        Ok(())
    }
}
