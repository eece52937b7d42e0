//! `CURRENT`: which manifest counts.
//!
//! ```text
//! CURRENT  magic 8 bytes, format version u32, number of the manifest u64, checksum u32 of all before
//! ```
//!
//! It is replaced as a whole: written as `CURRENT.tmp`, synced, renamed, and the directory synced (L3).

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::error::AtPath;
use crate::format::{DecodeError, Decoder, Encode, FORMAT_VERSION, FileNumber, checksum};
use crate::fs::{Fs, Purpose};
use crate::{Error, Result};

const MAGIC: &[u8; 8] = b"strandCU";
const BYTES: usize = 24;
const KIND: u8 = 0x43;
/// `CURRENT` has no number of its own to salt its checksum with.
const NO_NUMBER: FileNumber = FileNumber(0);

pub(super) fn path(dir: &Path) -> PathBuf {
    dir.join("CURRENT")
}

pub(super) fn temporary_path(dir: &Path) -> PathBuf {
    dir.join("CURRENT.tmp")
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
    file.append(&encode(number)).at_path(&path)?;
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
    if file.len().at_path(&path)? != BYTES as u64 {
        return Err(Error::corruption(&path, 0, format!("length is not {BYTES} bytes")));
    }
    let mut bytes = [0; BYTES];
    file.read_at(&mut bytes, 0).at_path(&path)?;
    decode(&path, &bytes).map(Some)
}

fn encode(number: FileNumber) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.put_u32(FORMAT_VERSION);
    bytes.put_u64(number.0);
    bytes.put_u32(checksum(KIND, NO_NUMBER, 0, &[&bytes]));
    bytes
}

fn decode(path: &Path, bytes: &[u8; BYTES]) -> Result<FileNumber> {
    let mut from = Decoder::new(bytes);
    let mut read = || Ok((from.take(MAGIC.len())?, from.u32()?, from.u64()?, from.u32()?));
    let (magic, version, number, sum) = read().map_err(|error: DecodeError| error.in_file(path, 0))?;
    let (covered, _) = bytes.split_at(BYTES - size_of::<u32>());
    if checksum(KIND, NO_NUMBER, 0, &[covered]) != sum || magic != MAGIC {
        return Err(Error::corruption(path, 0, "fails its checksum"));
    }
    if version != FORMAT_VERSION {
        return Err(Error::UnsupportedFormat { path: path.to_owned(), found: version, supported: FORMAT_VERSION });
    }
    Ok(FileNumber(number))
}
