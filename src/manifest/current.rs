//! `CURRENT`: which manifest counts.
//!
//! It holds a header and nothing else.
//!
//! It is replaced as a whole: written as `CURRENT.tmp`, synced, renamed, and the directory synced (L3).

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::header::{HEADER_BYTES, Header};
use crate::error::AtPath;
use crate::format::FileNumber;
use crate::fs::{Fs, Purpose};
use crate::{Error, Result};

const HEADER: Header = Header { magic: b"strandCU", kind: 0x43 };
/// `CURRENT` has no number of its own.
const NO_NUMBER: FileNumber = FileNumber(0);

/// The file's name.
pub(crate) const CURRENT: &str = "CURRENT";
/// Its name until it is put in place.
pub(crate) const CURRENT_TEMPORARY: &str = "CURRENT.tmp";

pub(super) fn path(dir: &Path) -> PathBuf {
    dir.join(CURRENT)
}

fn temporary_path(dir: &Path) -> PathBuf {
    dir.join(CURRENT_TEMPORARY)
}

/// Writes, durably, what [`switch`] will put in place.
pub(super) fn prepare(fs: &dyn Fs, dir: &Path, number: FileNumber) -> Result<()> {
    let path = temporary_path(dir);
    let mut file = match fs.create(Purpose::Current, &path) {
        // A crash left it.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            fs.remove(Purpose::Current, &path).at_path(&path)?;
            fs.create(Purpose::Current, &path)
        }
        created => created,
    }
    .at_path(&path)?;
    file.append(&HEADER.encode(NO_NUMBER, number)).at_path(&path)?;
    file.sync().at_path(&path)
}

/// Puts what was prepared in place. After an error either manifest may be the one that counts.
pub(super) fn switch(fs: &dyn Fs, dir: &Path) -> Result<()> {
    let path = path(dir);
    fs.rename(Purpose::Current, &temporary_path(dir), &path).at_path(&path)?;
    fs.sync_dir(Purpose::Current, dir).at_path(dir)
}

/// The manifest that counts; `None` if there is no `CURRENT`.
pub(super) fn read(fs: &dyn Fs, dir: &Path) -> Result<Option<FileNumber>> {
    let path = path(dir);
    let file = match fs.open(Purpose::Current, &path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        opened => opened.at_path(&path)?,
    };
    if file.len().at_path(&path)? != HEADER_BYTES as u64 {
        return Err(Error::corruption(&path, 0, format!("length is not {HEADER_BYTES} bytes")));
    }
    let mut bytes = [0; HEADER_BYTES];
    file.read_at(&mut bytes, 0).at_path(&path)?;
    HEADER.decode(&path, &bytes, NO_NUMBER).map(Some)
}
