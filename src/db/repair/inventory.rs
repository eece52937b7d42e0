//! What lies in the directory, and which tables of it are intact.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::db::origin::Origin;
use crate::error::AtPath;
use crate::format::{COUNTER_LIMIT, FileKind, FileNumber, parse_file_name};
use crate::fs::{DirEntry, Fs, Purpose};
use crate::log::FARTHEST;
use crate::manifest::CURRENT;
use crate::options::Options;
use crate::sync::Arc;
use crate::table::{BlockCache, TableMeta, TableReader, TableStore};
use crate::{Error, Result};

/// The directory for what is not intact.
pub(super) const LOST: &str = "lost";

/// A higher number leaves too few for a database to go on with.
pub(super) const MOST_NUMBER: u64 = COUNTER_LIMIT - (1 << 32);

/// Where everything is done.
pub(super) struct Place {
    pub(super) fs: Arc<dyn Fs>,
    pub(super) dir: PathBuf,
    pub(super) store: Arc<TableStore>,
    pub(super) options: Options,
}

/// The files of a database, by kind; numbers rise.
#[derive(Debug, Default)]
pub(super) struct Inventory {
    pub(super) tables: Vec<FileNumber>,
    pub(super) manifests: Vec<FileNumber>,
    pub(super) logs: Vec<FileNumber>,
    pub(super) has_current: bool,
    /// Files whose numbers leave none above them.
    pub(super) beyond: Vec<String>,
    /// Above the number of every other file, those in `lost` included.
    pub(super) next_file: FileNumber,
}

/// A table, read whole.
#[derive(Debug)]
pub(super) enum Checked {
    Intact {
        meta: Arc<TableMeta>,
        origin: Option<Origin>,
    },
    Damaged {
        reason: String,
        /// What it says of itself, if that much can be read.
        meta: Option<Arc<TableMeta>>,
        origin: Option<Origin>,
    },
    Missing,
}

impl Checked {
    pub(super) fn origin(&self) -> Option<&Origin> {
        match self {
            Self::Intact { origin, .. } | Self::Damaged { origin, .. } => origin.as_ref(),
            Self::Missing => None,
        }
    }

    pub(super) fn intact(&self) -> Option<&Arc<TableMeta>> {
        match self {
            Self::Intact { meta, .. } => Some(meta),
            Self::Damaged { .. } | Self::Missing => None,
        }
    }
}

pub(super) type Tables = BTreeMap<FileNumber, Checked>;

impl Place {
    pub(super) fn new(fs: Arc<dyn Fs>, dir: &Path, options: Options) -> Self {
        // Everything is read once, and verification must see the files.
        let cache = Arc::new(BlockCache::new(0));
        let store = TableStore::new(Arc::clone(&fs), dir.to_owned(), cache, options.max_open_files);
        Self { fs, dir: dir.to_owned(), store, options }
    }

    /// What lies in the directory; nothing if there is none.
    pub(super) fn inventory(&self) -> Result<Inventory> {
        let mut inventory = Inventory { next_file: FileNumber(1), ..Inventory::default() };
        for entry in self.list(&self.dir)? {
            inventory.has_current |= entry.is_file && entry.name == CURRENT;
            let Some((kind, number)) = parse_file_name(&entry.name) else { continue };
            if number.0 > MOST_NUMBER {
                inventory.beyond.push(entry.name);
                continue;
            }
            inventory.count(number);
            if !entry.is_file {
                continue;
            }
            match kind {
                FileKind::Table => inventory.tables.push(number),
                FileKind::Manifest => inventory.manifests.push(number),
                FileKind::Log => inventory.logs.push(number),
            }
        }
        for entry in self.list(&self.dir.join(LOST))? {
            // Without what was appended to make it unique.
            let name: Vec<&str> = entry.name.splitn(3, '.').take(2).collect();
            if let Some((_, number)) = parse_file_name(&name.join(".")).filter(|(_, number)| number.0 <= MOST_NUMBER) {
                inventory.count(number);
            }
        }
        for numbers in [&mut inventory.tables, &mut inventory.manifests, &mut inventory.logs] {
            numbers.sort_unstable();
        }
        Ok(inventory)
    }

    fn list(&self, dir: &Path) -> Result<Vec<DirEntry>> {
        match self.fs.list(Purpose::Directory, dir) {
            Err(error) if [ErrorKind::NotFound, ErrorKind::NotADirectory].contains(&error.kind()) => Ok(Vec::new()),
            listed => listed.at_path(dir),
        }
    }

    /// Reads a whole table, of which a manifest may say what it is. What cannot be read now, or was written by a newer
    /// build, is no damage.
    pub(super) fn check(&self, number: FileNumber, named: Option<&TableMeta>) -> Result<Checked> {
        let cache = Arc::clone(self.store.cache());
        let read = TableReader::open(&self.fs, &self.dir, number, cache, Arc::default()).and_then(|reader| {
            reader.verify()?;
            Ok(reader)
        });
        let damage = match read {
            Ok(reader) if reader.meta().log_end > FARTHEST => "it covers more of the log than any log holds".to_owned(),
            Ok(reader) => {
                let meta = Arc::new(reader.meta().clone());
                return Ok(Checked::Intact { meta, origin: origin_of(&reader)? });
            }
            Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => return Ok(Checked::Missing),
            Err(damage @ Error::Corruption { .. }) => in_short(&damage),
            Err(error) => return Err(error),
        };
        let (meta, origin) = match self.open_damaged(number, named) {
            Ok(reader) => (Some(Arc::new(reader.meta().clone())), origin_of(&reader)?),
            Err(Error::Corruption { .. }) => (None, None),
            Err(error) => return Err(error),
        };
        Ok(Checked::Damaged { reason: damage, meta, origin })
    }

    /// Opens a table as far as it can be read.
    pub(super) fn open_damaged(&self, number: FileNumber, named: Option<&TableMeta>) -> Result<TableReader> {
        TableReader::open_damaged(&self.fs, &self.dir, number, Arc::clone(self.store.cache()), named)
    }
}

impl Inventory {
    fn count(&mut self, number: FileNumber) {
        self.next_file = self.next_file.max(FileNumber(number.0.saturating_add(1)));
    }

    /// Whether there is any file that by its name could be a database's.
    pub(super) fn is_empty(&self) -> bool {
        !self.has_current
            && [&self.tables, &self.manifests, &self.logs].iter().all(|numbers| numbers.is_empty())
            && self.beyond.is_empty()
    }

    /// Whether any file begins, or ends, as one of a database does. Others are somebody else's, whatever they are
    /// called.
    pub(super) fn shows_a_database(&self, place: &Place) -> Result<bool> {
        let of = |kind: FileKind, numbers: &[FileNumber]| -> Vec<PathBuf> {
            numbers.iter().map(|number| kind.path(&place.dir, *number)).collect()
        };
        let current = self.has_current.then(|| place.dir.join(CURRENT));
        let begins = [
            (current.into_iter().collect(), b"strandCU"),
            (of(FileKind::Manifest, &self.manifests), b"strandMF"),
            (of(FileKind::Log, &self.logs), b"SLINELOG"),
        ];
        for (paths, magic) in &begins {
            for path in paths {
                if place.eight_bytes(path, |_| 0)? == Some(**magic) {
                    return Ok(true);
                }
            }
        }
        for path in of(FileKind::Table, &self.tables) {
            if place.eight_bytes(&path, |len| len.saturating_sub(8))? == Some(*b"strandtb") {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl Place {
    /// Eight bytes of a file; none if it is too short or gone.
    fn eight_bytes(&self, path: &Path, offset: impl Fn(u64) -> u64) -> Result<Option<[u8; 8]>> {
        let file = match self.fs.open(Purpose::Repair, path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            opened => opened.at_path(path)?,
        };
        let (len, mut bytes) = (file.len().at_path(path)?, [0; 8]);
        if len < 8 {
            return Ok(None);
        }
        file.read_at(&mut bytes, offset(len)).at_path(path)?;
        Ok(Some(bytes))
    }
}

/// What a table says of where it comes from, if that can be read.
fn origin_of(table: &TableReader) -> Result<Option<Origin>> {
    match table.origin() {
        Ok(bytes) => Ok(bytes.and_then(|bytes| Origin::decode(&bytes).ok())),
        Err(Error::Corruption { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Damage without the name of the file.
pub(super) fn in_short(damage: &Error) -> String {
    match damage {
        Error::Corruption { offset, reason, .. } => format!("damaged at offset {offset}: {reason}"),
        other => other.to_string(),
    }
}
