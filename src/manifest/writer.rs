//! Writing a manifest.
//!
//! A manifest is made whole, snapshot and all, and synced with its name before `CURRENT` names it (L3). From then on
//! each edit is appended and synced by itself. A file that an append failed on is never written again (L2): the edit
//! may be on disk or not, and only a new manifest decides it. Until then neither the files that the edit adds nor those
//! that it removes may be deleted.

use std::path::{Path, PathBuf};

use super::current;
use super::edit::{Change, Edit};
use super::file::{Role, frame, header};
use super::load::{read_bytes, replay};
use super::state::ManifestState;
use crate::error::AtPath;
use crate::format::{FileKind, FileNumber};
use crate::fs::{Fs, Purpose, WriteFile};
use crate::log::{ManifestMark, Standing};
use crate::sync::Arc;
use crate::{Error, Result};

/// A snapshot goes over several frames of about this size.
const SNAPSHOT_FRAME_BYTES: usize = 1 << 20;
/// A manifest below this size is never rotated.
const LEAST_ROTATION_BYTES: u64 = 4 << 20;
/// A manifest is rotated when it is so many times as large as its snapshot.
const ROTATION_FACTOR: u64 = 4;

/// The manifest that counts, and the state that it says.
pub(crate) struct Manifest {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    path: PathBuf,
    number: FileNumber,
    file: Box<dyn WriteFile>,
    len: u64,
    snapshot_len: u64,
    state: ManifestState,
    /// The first failure of a write, after which there is no other (L2).
    failed: Option<Arc<Error>>,
}

impl Manifest {
    /// Both halves of making a manifest.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn create(fs: Arc<dyn Fs>, dir: &Path, number: FileNumber, state: ManifestState) -> Result<Self> {
        let manifest = Self::prepare(fs, dir, number, state)?;
        manifest.take_over()?;
        Ok(manifest)
    }

    /// Has `CURRENT` name what was prepared. After an error it names it or what it named before.
    pub(crate) fn take_over(&self) -> Result<()> {
        current::switch(&*self.fs, &self.dir)
    }

    /// Reads the file back as an opening will. After an error it is gone again, if it can be removed.
    pub(crate) fn checked(self) -> Result<Self> {
        let read = read_bytes(&*self.fs, &self.path).and_then(|bytes| replay(&self.path, &bytes, self.number));
        read.inspect_err(|_| drop(self.fs.remove(Purpose::Manifest, &self.path)))?;
        Ok(self)
    }

    /// Makes the manifest `number`, which must be new and below the state's bound of file numbers. It changes nothing
    /// until it [takes over](Self::take_over). After an error its file is gone again, if it can be removed.
    pub(crate) fn prepare(fs: Arc<dyn Fs>, dir: &Path, number: FileNumber, state: ManifestState) -> Result<Self> {
        if number >= state.file_number_bound {
            return Err(Error::invalid(format!("manifest number {number} is not below the bound of file numbers")));
        }
        let path = FileKind::Manifest.path(dir, number);
        let mut file = fs.create(Purpose::Manifest, &path).at_path(&path)?;
        let mut write = || {
            let len = write_snapshot(&mut *file, number, &state, &path, SNAPSHOT_FRAME_BYTES)?;
            file.sync().at_path(&path)?;
            fs.sync_dir(Purpose::Manifest, dir).at_path(dir)?;
            current::prepare(&*fs, dir, number).map(|()| len)
        };
        // `CURRENT` does not name it yet. What cannot be removed is an orphan (S29).
        let len = write().inspect_err(|_| drop(fs.remove(Purpose::Manifest, &path)))?;
        Ok(Self { fs, dir: dir.to_owned(), path, number, file, len, snapshot_len: len, state, failed: None })
    }

    /// Makes `edit` durable and applies it. One that makes no sense is `InvalidArgument` and changes nothing.
    ///
    /// Any failure of the file is final: this call and all later ones are `Background` of it (L2).
    pub(crate) fn append(&mut self, edit: &Edit) -> Result<()> {
        if let Some(error) = &self.failed {
            return Err(Error::Background(Arc::clone(error)));
        }
        let next = self.state.after(edit)?;
        let mut payload = Vec::new();
        edit.encode(&mut payload);
        let frame = frame(Role::Edit, self.number, self.len, &payload)?;
        let written = self.file.append(&frame).and_then(|()| self.file.sync());
        written.at_path(&self.path).map_err(|error| self.fail(error))?;
        self.len += frame.len() as u64;
        self.state = next;
        Ok(())
    }

    /// Goes on in a new manifest, `number`. It is also the way out of a failed one (L2); what the failed edit said
    /// never was.
    ///
    /// After an error everything is as it was, unless `CURRENT` was being switched: then this manifest has failed too.
    pub(crate) fn rotate(&mut self, number: FileNumber) -> Result<()> {
        let next = Self::prepare(Arc::clone(&self.fs), &self.dir, number, self.state.clone())?;
        current::switch(&*self.fs, &self.dir).map_err(|error| self.fail(error))?;
        *self = next;
        Ok(())
    }

    fn fail(&mut self, error: Error) -> Error {
        Error::Background(Arc::clone(self.failed.get_or_insert(Arc::new(error))))
    }

    pub(crate) fn state(&self) -> &ManifestState {
        &self.state
    }

    pub(crate) fn number(&self) -> FileNumber {
        self.number
    }

    /// How many bytes are written and synced: what a proof in the log says (see [`Loaded`](super::Loaded)).
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// What the log says of it.
    pub(crate) fn mark(&self) -> ManifestMark {
        let standing = Standing {
            file_number_bound: self.state.file_number_bound,
            next_keyspace: self.state.next_keyspace_id.0,
            last_timestamp: self.state.last_timestamp,
            closed: self.state.closed,
            manual_floor: self.state.manual_floor,
        };
        ManifestMark { manifest: self.number, len: self.len, standing }
    }

    /// Whether the edits have outgrown the state that they lead to.
    pub(crate) fn should_rotate(&self) -> bool {
        self.len >= LEAST_ROTATION_BYTES.max(self.snapshot_len.saturating_mul(ROTATION_FACTOR))
    }
}

/// Writes the header and all of `state`; returns the length.
fn write_snapshot(
    file: &mut dyn WriteFile,
    number: FileNumber,
    state: &ManifestState,
    path: &Path,
    frame_bytes: usize,
) -> Result<u64> {
    let header = header(number);
    file.append(&header).at_path(path)?;
    let mut len = header.len() as u64;
    let mut write = |role, payload: &[u8]| {
        let frame = frame(role, number, len, payload)?;
        len += frame.len() as u64;
        file.append(&frame).at_path(path)
    };
    let mut payload = Vec::new();
    for change in state.snapshot() {
        Change::encode(&change, &mut payload);
        if payload.len() >= frame_bytes {
            write(Role::SnapshotPart, &payload)?;
            payload.clear();
        }
    }
    write(Role::SnapshotEnd, &payload)?;
    Ok(len)
}
