//! Reading the state back.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::current;
use super::edit::{Edit, NotUnderstood};
use super::file::{Role, check_header, frame_at, goes_on_after};
use super::state::ManifestState;
use crate::error::AtPath;
use crate::format::{FileKind, FileNumber, parse_file_name};
use crate::fs::{Fs, Purpose};
use crate::{Error, Result};

/// What was found on disk.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) state: ManifestState,
    /// Which manifest it is from.
    pub(crate) number: FileNumber,
    /// How many bytes of it count. What lies behind is an edit that a power cut tore.
    pub(crate) len: u64,
    dir: PathBuf,
}

impl Loaded {
    /// Holds against it what the log says: manifest `number` was synced through `len`. So damage to the last edits is
    /// not taken for a torn one (S27), nor an old `CURRENT` for the newest.
    pub(crate) fn check_proof(&self, number: FileNumber, len: u64) -> Result<()> {
        if number == self.number && len > self.len {
            let reason = format!("damaged, or cut off: {len} bytes were synced");
            return Err(Error::corruption(FileKind::Manifest.path(&self.dir, number), self.len, reason));
        }
        if number > self.number {
            let reason = format!("names manifest {}, which manifest {number} has replaced", self.number);
            return Err(Error::corruption(current::path(&self.dir), 0, reason));
        }
        Ok(())
    }
}

/// Reads the state that `CURRENT` leads to.
///
/// `None`: there is no database yet; at most, a crash of a first open left the beginnings of one. The first `CURRENT`
/// comes before the first log and the first table, so where there is one of those `CURRENT` got lost, and that is
/// `Corruption`.
pub(crate) fn load(fs: &dyn Fs, dir: &Path) -> Result<Option<Loaded>> {
    let Some(mut number) = current::read(fs, dir)? else {
        return nothing_else_is_there(fs, dir).map(|()| None);
    };
    loop {
        match read_manifest(fs, dir, number)? {
            Some((state, len)) => return Ok(Some(Loaded { state, number, len, dir: dir.to_owned() })),
            // A writer may have moved on to the next manifest meanwhile.
            None => match current::read(fs, dir)? {
                Some(newer) if newer > number => number = newer,
                _ => {
                    let path = FileKind::Manifest.path(dir, number);
                    return Err(Error::corruption(path, 0, "the file is missing, and CURRENT names it"));
                }
            },
        }
    }
}

fn nothing_else_is_there(fs: &dyn Fs, dir: &Path) -> Result<()> {
    let entries = match fs.list(Purpose::Directory, dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        listed => listed.at_path(dir)?,
    };
    let of_a_database = |name: &str| matches!(parse_file_name(name), Some((FileKind::Table | FileKind::Log, _)));
    match entries.iter().find(|entry| of_a_database(&entry.name)) {
        Some(entry) => {
            Err(Error::corruption(current::path(dir), 0, format!("the file is missing, and {} is there", entry.name)))
        }
        None => Ok(()),
    }
}

/// The state that a manifest says, and how many of its bytes count. `None` if there is no such file.
fn read_manifest(fs: &dyn Fs, dir: &Path, number: FileNumber) -> Result<Option<(ManifestState, u64)>> {
    let path = FileKind::Manifest.path(dir, number);
    match read_bytes(fs, &path) {
        Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => Ok(None),
        bytes => replay(&path, &bytes?, number).map(Some),
    }
}

/// All bytes of a manifest.
pub(super) fn read_bytes(fs: &dyn Fs, path: &Path) -> Result<Vec<u8>> {
    let file = fs.open(Purpose::Manifest, path).at_path(path)?;
    let len = file.len().at_path(path)?;
    let mut bytes = Vec::new();
    let room = usize::try_from(len).ok().filter(|len| bytes.try_reserve_exact(*len).is_ok());
    let room = room.ok_or_else(|| Error::io(path, ErrorKind::OutOfMemory.into()))?;
    bytes.resize(room, 0);
    file.read_at(&mut bytes, 0).at_path(path)?;
    Ok(bytes)
}

/// The state that the bytes of a manifest say, and how many of them count.
pub(super) fn replay(path: &Path, bytes: &[u8], number: FileNumber) -> Result<(ManifestState, u64)> {
    let mut offset = check_header(path, bytes, number)?;
    let mut state = ManifestState::default();
    let mut in_snapshot = true;
    while in_snapshot || offset < bytes.len() {
        let damaged = |reason: String| Error::corruption(path, offset as u64, reason);
        let Some(frame) = frame_at(bytes, number, offset) else {
            if in_snapshot {
                // It was synced before CURRENT named the file (L3).
                return Err(damaged("the snapshot is damaged".to_owned()));
            }
            if goes_on_after(bytes, number, offset) {
                return Err(damaged("an edit is damaged, and there is more behind it".to_owned()));
            }
            break;
        };
        let frame = frame.map_err(|role| {
            not_understood(path, offset, NotUnderstood::Unknown { kind: role, newest: Role::NEWEST })
        })?;
        if in_snapshot == (frame.role == Role::Edit) {
            return Err(damaged("an edit within the snapshot, or a snapshot behind it".to_owned()));
        }
        let edit = Edit::decode(frame.payload).map_err(|error| not_understood(path, frame.payload_at, error))?;
        state.apply(&edit).map_err(|error| damaged(error.to_string()))?;
        in_snapshot = frame.role == Role::SnapshotPart;
        offset = frame.end();
    }
    if number >= state.file_number_bound {
        return Err(Error::corruption(path, 0, "its own number is not below the bound of file numbers"));
    }
    Ok((state, offset as u64))
}

fn not_understood(path: &Path, base: usize, error: NotUnderstood) -> Error {
    match error {
        NotUnderstood::Damaged(error) => error.in_file(path, base as u64),
        NotUnderstood::Unknown { kind, newest } => {
            Error::UnsupportedFormat { path: path.to_owned(), found: kind.into(), supported: newest.into() }
        }
    }
}
