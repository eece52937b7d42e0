//! The directory `lost`: what is not intact goes there, and nothing is ever removed from it.
//!
//! A file is copied first, and removed from its own place only once the repaired database is in force. A rename would
//! be cheaper, but a file that was moved before would be missing if the repair ended in between (what is left of a
//! damaged segment or manifest is needed again by the next try), and one moved afterwards could be taken for an orphan
//! and removed by an opening that comes first.

use std::io::ErrorKind;
use std::path::Path;

use super::inventory::{LOST, Place};
use crate::db::engine::remove_quietly;
use crate::error::AtPath;
use crate::fs::{DirEntry, Purpose};
use crate::{Error, Result};

/// How much is copied at once.
const PIECE: usize = 1 << 20;

fn suffixed(name: &str, number: u64) -> String {
    if number == 0 { name.to_owned() } else { format!("{name}.{number}") }
}

impl Place {
    /// Copies a file to `lost`, durably; returns its name there.
    ///
    /// A copy that an earlier repair has left there gets another name: that repair may have ended because the directory
    /// could not be synced, and then no sync of it says anything about the name that the copy has (L2).
    pub(super) fn put_aside(&self, name: &str) -> Result<String> {
        let lost = self.dir.join(LOST);
        self.make_lost(&lost)?;
        let source = self.dir.join(name);
        let (mut copy, mut kept) = (None, name.to_owned());
        let mut taken = self.taken(&lost, name)?;
        taken.sort_unstable();
        for number in taken {
            let there = suffixed(name, number);
            if copy.is_none() && self.is_copy(&source, &lost.join(&there))? == Some(true) {
                copy = Some(there);
            }
            kept = suffixed(name, number.saturating_add(1));
        }
        let path = lost.join(&kept);
        match copy {
            Some(copy) => self.fs.rename(Purpose::Repair, &lost.join(copy), &path).at_path(&path)?,
            None => {
                let temporary = lost.join(format!("{kept}.tmp"));
                match self.fs.remove(Purpose::Repair, &temporary) {
                    Err(error) if error.kind() == ErrorKind::NotFound => {}
                    removed => removed.at_path(&temporary)?, // an earlier repair was interrupted
                }
                self.copy(&source, &temporary)
                    .inspect_err(|_| remove_quietly(&*self.fs, Purpose::Repair, &temporary))?;
                self.fs.rename(Purpose::Repair, &temporary, &path).at_path(&path)?;
            }
        }
        self.fs.sync_dir(Purpose::Repair, &lost).at_path(&lost)?;
        Ok(kept)
    }

    /// Makes the directory. A link is not followed: what lies behind it is not this database's.
    fn make_lost(&self, lost: &Path) -> Result<()> {
        let entries = self.fs.list(Purpose::Directory, &self.dir).at_path(&self.dir)?;
        if entries.iter().any(|entry| entry.name == LOST && !entry.is_dir) {
            return Err(Error::io(lost, ErrorKind::NotADirectory.into()));
        }
        self.fs.create_dir(Purpose::Repair, lost).at_path(lost)
    }

    /// The suffixes with which a file of this name is in `lost`; 0: none.
    fn taken(&self, lost: &Path, name: &str) -> Result<Vec<u64>> {
        let entries = self.fs.list(Purpose::Directory, lost).at_path(lost)?;
        let suffix = |entry: &DirEntry| match entry.name.strip_prefix(name)? {
            "" => Some(0),
            rest => rest.strip_prefix('.')?.parse().ok().filter(|number| suffixed(name, *number) == entry.name),
        };
        Ok(entries.iter().filter_map(suffix).collect())
    }

    fn copy(&self, from: &Path, to: &Path) -> Result<()> {
        let source = self.fs.open(Purpose::Repair, from).at_path(from)?;
        let mut copy = self.fs.create(Purpose::Repair, to).at_path(to)?;
        self.pieces(source.len().at_path(from)?, |offset, piece| {
            source.read_at(piece, offset).at_path(from)?;
            copy.append(piece).at_path(to).map(|()| true)
        })?;
        copy.sync().at_path(to)
    }

    /// Whether `copy` has the bytes of `source`; none if there is no such file.
    fn is_copy(&self, source: &Path, copy: &Path) -> Result<Option<bool>> {
        let other = match self.fs.open(Purpose::Repair, copy) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            opened => opened.at_path(copy)?,
        };
        let file = self.fs.open(Purpose::Repair, source).at_path(source)?;
        let len = file.len().at_path(source)?;
        if other.len().at_path(copy)? != len {
            return Ok(Some(false));
        }
        let mut theirs = vec![0; PIECE];
        let same = self.pieces(len, |offset, piece| {
            let theirs = theirs.get_mut(..piece.len()).unwrap_or_default();
            file.read_at(piece, offset).at_path(source)?;
            other.read_at(theirs, offset).at_path(copy)?;
            Ok(piece == theirs)
        })?;
        Ok(Some(same))
    }

    /// Calls `each` with one piece after the other, as long as it says so; returns whether it always did.
    fn pieces(&self, len: u64, mut each: impl FnMut(u64, &mut [u8]) -> Result<bool>) -> Result<bool> {
        let mut buffer = vec![0; PIECE];
        let mut offset = 0;
        while offset < len {
            let left = usize::try_from(len - offset).unwrap_or(PIECE).min(PIECE);
            if !each(offset, buffer.get_mut(..left).unwrap_or_default())? {
                return Ok(false);
            }
            offset += left as u64;
        }
        Ok(true)
    }
}
