//! What is left of manifests that an opening refuses.
//!
//! Each frame stands under its own checksum, which covers where it lies. So a damaged one takes its own changes along
//! and nothing else: what was read before it is as good as ever, and what lies behind it can still be read. But from
//! there on it is not known what those changes were about: levels may have changed that later ones build on. So behind
//! damage the changes are taken in one by one, as far as they make sense, and the trees that they touch count as shaken:
//! which tables are named there is known, their order is not.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::Path;

use super::current;
use super::edit::{Change, Edit, NotUnderstood};
use super::file::{Frame, Role, Search, check_header, frame_at, goes_on_after};
use super::header::HEADER_BYTES;
use super::load::read_bytes;
use super::state::{KeyspaceId, KeyspaceState, ManifestState};
use super::tree::Tree;
use crate::format::{FileKind, FileNumber};
use crate::fs::Fs;
use crate::options::{KeyspaceSettings, Retention};
use crate::{Error, Result};

/// What manifests still say.
#[derive(Debug, Default)]
pub(crate) struct Testimony {
    /// The newest manifest that was believed.
    pub(crate) number: FileNumber,
    /// How many of its bytes count.
    pub(crate) len: u64,
    pub(crate) state: ManifestState,
    /// Nothing that was ever written to it is missing, as far as the file itself can tell.
    pub(crate) complete: bool,
    /// Its snapshot was read whole: every keyspace made before is known.
    pub(crate) has_snapshot: bool,
    /// Of every keyspace with a lower id it is known what became of it: it is in the state, or it was dropped. Of those
    /// that were made later only what can be read behind the damage.
    pub(crate) known_below: KeyspaceId,
    /// Keyspaces that were dropped, as was read behind the damage.
    pub(crate) dropped: BTreeSet<KeyspaceId>,
    /// Tables that were taken out and not put back: no repair may use them.
    pub(crate) removed: BTreeSet<FileNumber>,
    /// Keyspaces of which the order of tables is not known.
    pub(crate) shaken: BTreeSet<KeyspaceId>,
    /// Keyspaces whose making could not be read.
    pub(crate) nameless: BTreeSet<KeyspaceId>,
}

/// All manifests of a directory.
#[derive(Debug, Default)]
pub(crate) struct Witnesses {
    /// Which manifest `CURRENT` names, or what is wrong with it.
    pub(crate) current: Option<Result<FileNumber>>,
    /// Those that are damaged.
    pub(crate) damaged: Vec<(FileNumber, Error)>,
    /// What can be made of them; none if not a frame of any could be read.
    pub(crate) testimony: Option<Testimony>,
}

/// Hears all manifests, whose numbers rise. `tables`: those that are there. `marked`: of this manifest so much was synced,
/// as the log says.
///
/// # Errors
/// `UnsupportedFormat` and `Io`: what a newer build wrote, or what cannot be read now, is no damage.
pub(crate) fn salvage(
    fs: &dyn Fs,
    dir: &Path,
    numbers: &[FileNumber],
    tables: &[FileNumber],
    marked: Option<(FileNumber, u64)>,
) -> Result<Witnesses> {
    let current = match current::read(fs, dir) {
        Ok(named) => named.map(Ok),
        Err(damage @ Error::Corruption { .. }) => Some(Err(damage)),
        Err(error) => return Err(error),
    };
    let mut witnesses = Witnesses { current, ..Witnesses::default() };
    let mut heard = Vec::new();
    for number in numbers {
        let path = FileKind::Manifest.path(dir, *number);
        let bytes = match read_bytes(fs, &path) {
            Ok(bytes) => bytes,
            Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let mut testimony = Testimony::default();
        if let Some(damage) = testimony.hear(&path, &bytes, *number)? {
            witnesses.damaged.push((*number, damage));
        }
        heard.push((*number, testimony, bytes));
    }
    // `CURRENT` is believed where it is not older than what the log knows: then any later manifest was never in use.
    let at_least = marked.map_or(FileNumber(0), |(number, _)| number);
    let named = witnesses.current.as_ref().and_then(|current| current.as_ref().ok()).copied();
    let believed = named.filter(|named| {
        let is_whole = heard.iter().any(|(number, testimony, _)| number == named && testimony.has_snapshot);
        *named >= at_least && is_whole
    });
    heard.retain(|(number, ..)| believed.is_none_or(|believed| *number <= believed));
    // One that `CURRENT` does not name, and that names tables which are not there, while those of an older one are, was
    // prepared and never in use.
    let all_there = |testimony: &Testimony| {
        let trees = testimony.state.keyspaces.values().map(|keyspace| &keyspace.tables);
        trees.flat_map(|tree| tree.iter()).all(|(_, table)| tables.contains(&table.number))
    };
    let newest = heard.iter().rposition(|(_, testimony, _)| testimony.has_snapshot);
    let fitting = heard.iter().rposition(|(_, testimony, _)| testimony.has_snapshot && all_there(testimony));
    let base = if believed.is_some() { newest } else { fitting.or(newest) };
    let mut later = heard.split_off(base.map_or(0, |base| base + 1));
    later.retain(|(_, testimony, _)| !testimony.has_snapshot);
    witnesses.testimony = heard.pop().map(|(_, testimony, _)| testimony);
    // A later one whose snapshot is damaged was never in use either if neither log nor `CURRENT` knows one so late.
    let all = marked.is_none() || witnesses.testimony.is_none();
    let in_use = |number: FileNumber| all || number <= at_least || named.is_some_and(|named| number <= named);
    for (number, _, bytes) in later.iter().filter(|(number, ..)| in_use(*number)) {
        let testimony = witnesses.testimony.get_or_insert_default();
        let before = testimony.state.clone();
        (testimony.complete, testimony.number, testimony.len) = (false, *number, bytes.len() as u64);
        testimony.hear_from(&FileKind::Manifest.path(dir, *number), bytes, *number, HEADER_BYTES)?;
        testimony.shaken.extend(testimony.state.keyspaces.keys().filter(|id| !before.keyspaces.contains_key(id)));
    }
    witnesses.testimony = witnesses.testimony.filter(|one| one.has_snapshot || one.state != ManifestState::default());
    Ok(witnesses)
}

impl Testimony {
    /// Reads a manifest from its beginning; returns what is wrong with the file.
    fn hear(&mut self, path: &Path, bytes: &[u8], number: FileNumber) -> Result<Option<Error>> {
        let mut damage = match check_header(path, bytes, number) {
            Ok(_) => None,
            Err(damage @ Error::Corruption { .. }) => Some(damage),
            Err(error) => return Err(error),
        };
        let offset = self.hear_in_order(path, bytes, number, bytes.len())?;
        self.len = offset as u64;
        self.known_below = if self.has_snapshot { self.state.next_keyspace_id } else { KeyspaceId(0) };
        // What lies behind the last edit and is no frame is an edit that a power cut tore.
        let torn = frame_at(bytes, number, offset).is_none() && !goes_on_after(bytes, number, offset);
        self.complete = self.has_snapshot && (torn || offset >= bytes.len());
        if !self.complete {
            let reason = if self.has_snapshot { "an edit is damaged" } else { "the snapshot is damaged" };
            damage.get_or_insert_with(|| Error::corruption(path, offset as u64, reason));
            self.hear_from(path, bytes, number, offset + 1)?;
        }
        if !self.has_snapshot {
            self.shaken.extend(self.state.keyspaces.keys());
        }
        Ok(damage)
    }

    /// Applies one frame after the other up to `end`, or to the first that is damaged or makes no sense; returns where
    /// that is.
    fn hear_in_order(&mut self, path: &Path, bytes: &[u8], number: FileNumber, end: usize) -> Result<usize> {
        *self = Self { number, ..Self::default() };
        let mut offset = HEADER_BYTES;
        while offset < end {
            let Some(frame) = frame_at(bytes, number, offset) else { break };
            let frame = known(path, frame)?;
            if self.has_snapshot != (frame.role == Role::Edit) {
                break;
            }
            let Some(edit) = decoded(path, frame.payload)? else { break };
            if self.state.apply(&edit).is_err() {
                return self.hear_in_order(path, bytes, number, offset);
            }
            self.note_removals(&edit);
            self.has_snapshot |= frame.role == Role::SnapshotEnd;
            offset = frame.end();
        }
        Ok(offset)
    }

    /// Takes in every frame from `offset` on, wherever one lies.
    fn hear_from(&mut self, path: &Path, bytes: &[u8], number: FileNumber, mut offset: usize) -> Result<()> {
        let mut search = Search::of(bytes);
        while let Some(frame) = search.frame_from(bytes, number, offset) {
            let frame = known(path, frame)?;
            if let Some(edit) = decoded(path, frame.payload)? {
                let is_addition = |change: &&Change| matches!(change, Change::AddTable { .. });
                edit.changes.iter().filter(|change| !is_addition(change)).for_each(|change| self.take_in(change));
                edit.changes.iter().filter(is_addition).for_each(|change| self.take_in(change));
                self.note_removals(&edit);
            }
            offset = frame.end();
        }
        Ok(())
    }

    fn note_removals(&mut self, edit: &Edit) {
        for change in &edit.changes {
            if let Change::RemoveTable { number, .. } = change {
                self.removed.insert(*number);
            }
        }
        for change in &edit.changes {
            if let Change::AddTable { table, .. } = change {
                self.removed.remove(&table.number);
            }
        }
    }

    /// Takes in one change behind damage, as far as it makes sense.
    fn take_in(&mut self, change: &Change) {
        let state = &mut self.state;
        match change {
            Change::CreateKeyspace { id, name, options, created_at } => {
                let taken = state.keyspace_named(name).is_some_and(|(other, _)| other != *id);
                let is_new = !taken && !state.keyspaces.contains_key(id) && !self.dropped.contains(id);
                if self.nameless.contains(id) || is_new {
                    let made = state.keyspaces.entry(*id).or_insert_with(|| nameless(*id));
                    (made.name, made.options, made.created_at) = (name.clone(), (**options).clone(), *created_at);
                    self.nameless.remove(id);
                    state.next_keyspace_id = state.next_keyspace_id.max(KeyspaceId(id.0.saturating_add(1)));
                }
            }
            Change::DropKeyspace { id } => {
                self.dropped.insert(*id);
                self.nameless.remove(id);
                // Its making may be what was lost.
                let _ = state.apply(&Edit::from(vec![change.clone()]));
            }
            Change::AddTable { keyspace, level, table } => {
                if state.has_table(table.number) || !self.knows(*keyspace) {
                    return;
                }
                self.shaken.insert(*keyspace);
                let state = &mut self.state;
                let bound = FileNumber(table.number.0.saturating_add(1)).max(state.file_number_bound);
                state.file_number_bound = bound;
                let at =
                    |level| Edit::from(vec![Change::AddTable { keyspace: *keyspace, level, table: table.clone() }]);
                // Where it lies does not matter any more; that it is named does.
                let _ = state.apply(&at(*level)).or_else(|_| state.apply(&at(0)));
            }
            Change::RemoveTable { keyspace, number, .. } => {
                let known = state.keyspaces.get(keyspace);
                let found = known.and_then(|one| one.tables.iter().find(|(_, table)| table.number == *number));
                if let Some((level, _)) = found {
                    self.shaken.insert(*keyspace);
                    let change = Change::RemoveTable { keyspace: *keyspace, level, number: *number };
                    // It was found there.
                    let _ = state.apply(&Edit::from(vec![change]));
                }
            }
            // What does not fit is older than what is known; one change that is refused changes nothing.
            change => drop(state.apply(&Edit::from(vec![change.clone()]))),
        }
    }

    /// Whether there is such a keyspace, also one whose making was not read.
    fn knows(&mut self, id: KeyspaceId) -> bool {
        let state = &mut self.state;
        if state.keyspaces.contains_key(&id) {
            return true;
        }
        if id < self.known_below || self.dropped.contains(&id) {
            return false; // It was dropped.
        }
        state.keyspaces.insert(id, nameless(id));
        state.next_keyspace_id = state.next_keyspace_id.max(KeyspaceId(id.0.saturating_add(1)));
        self.nameless.insert(id);
        true
    }
}

/// A keyspace of which nothing but its id is known. Its name only stands in for the one that a repair invents.
fn nameless(id: KeyspaceId) -> KeyspaceState {
    KeyspaceState {
        name: format!("\0{}", id.0),
        options: KeyspaceSettings { retention: Retention::Manual, ..KeyspaceSettings::default() },
        created_at: 0,
        floor: 0,
        log_position: 0,
        tables: Tree::default(),
    }
}

/// The frame, unless a newer build gave it a role that is not known here.
fn known<'a>(path: &Path, frame: Result<Frame<'a>, u8>) -> Result<Frame<'a>> {
    let unknown = |role: u8| (role.into(), Role::NEWEST.into());
    frame.map_err(unknown).map_err(|(found, supported)| Error::UnsupportedFormat {
        path: path.to_owned(),
        found,
        supported,
    })
}

/// The edit in a frame whose checksum holds; none if it makes no sense.
fn decoded(path: &Path, payload: &[u8]) -> Result<Option<Edit>> {
    match Edit::decode(payload) {
        Ok(edit) => Ok(Some(edit)),
        Err(NotUnderstood::Damaged(_)) => Ok(None),
        Err(NotUnderstood::Unknown { kind, newest }) => {
            Err(Error::UnsupportedFormat { path: path.to_owned(), found: kind.into(), supported: newest.into() })
        }
    }
}
