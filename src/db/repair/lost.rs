//! The directory `lost`: what is not intact goes there, and nothing is ever removed from it.
//!
//! A file is copied first, and removed from its own place only once the repaired database is in force. A rename would
//! be cheaper, but a file that was moved before would be missing if the repair ended in between (what is left of a
//! damaged segment or manifest is needed again by the next try), and one moved afterwards could be taken for an orphan
//! and removed by an opening that comes first.

use std::io::ErrorKind;
use std::path::Path;

use super::inventory::{LOST, Place};
use crate::Result;
use crate::error::AtPath;
use crate::fs::Purpose;

/// How much is copied at once.
const PIECE: usize = 1 << 20;

impl Place {
    /// Copies a file to `lost`, durably; returns its name there.
    pub(super) fn put_aside(&self, name: &str) -> Result<String> {
        let lost = self.dir.join(LOST);
        self.fs.create_dir(Purpose::Repair, &lost).at_path(&lost)?;
        let source = self.dir.join(name);
        let mut kept = name.to_owned();
        let mut tries = 0u64;
        loop {
            match self.is_copy(&source, &lost.join(&kept))? {
                Some(true) => return Ok(kept),
                Some(false) => {
                    tries += 1;
                    kept = format!("{name}.{tries}");
                }
                None => break,
            }
        }
        let temporary = lost.join(format!("{kept}.tmp"));
        match self.fs.remove(Purpose::Repair, &temporary) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            removed => removed.at_path(&temporary)?, // an earlier repair was interrupted
        }
        self.copy(&source, &temporary)?;
        let path = lost.join(&kept);
        self.fs.rename(Purpose::Repair, &temporary, &path).at_path(&path)?;
        self.fs.sync_dir(Purpose::Repair, &lost).at_path(&lost)?;
        Ok(kept)
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
