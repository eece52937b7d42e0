//! Reading everything, to see that it is what was written.

use super::engine::{Engine, ManifestCell};
use super::open::{READ_ONLY_TRIES, expectation, whose_fault};
use crate::format::FileNumber;
use crate::{Error, Result, log, manifest};

/// What [`Db::verify`](crate::Db::verify) has read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct VerifyReport {
    /// Files read.
    pub files: u64,
    /// Bytes checked.
    pub bytes: u64,
    /// Keys seen in tables.
    pub keys: u64,
    /// Versions seen in tables.
    pub versions: u64,
}

impl Engine {
    pub(crate) fn verify(&self) -> Result<VerifyReport> {
        self.check_open()?;
        let mut report = VerifyReport::default();
        let view = self.current.view();
        for keyspace in view.world.keyspaces() {
            for (_, table) in keyspace.tree.iter() {
                self.check_open()?;
                let checked = table.reader()?.verify()?;
                report.files += 1;
                report.bytes += checked.bytes;
                report.keys += checked.keys;
                report.versions += checked.versions;
            }
            let overlap = |overlap: manifest::EditError| Error::corruption(&self.dir, 0, overlap.to_string());
            keyspace.tree.check_order().map_err(overlap)?;
        }
        let checked = self.verify_manifest_and_log()?;
        report.files += checked.files;
        report.bytes += checked.bytes;
        Ok(report)
    }
}

impl Engine {
    /// Reads the manifest and the log as an opening would; again, where the log has moved on meanwhile.
    fn verify_manifest_and_log(&self) -> Result<VerifyReport> {
        let mut tries = READ_ONLY_TRIES;
        loop {
            tries -= 1;
            match self.verify_manifest_and_log_once() {
                Err(Error::Corruption { .. } | Error::Io { .. }) if tries > 0 => {}
                verified => return verified,
            }
        }
    }

    fn verify_manifest_and_log_once(&self) -> Result<VerifyReport> {
        // Held, so that the manifest does not.
        let cell = self.manifest.lock();
        let Some(loaded) = manifest::load(&*self.fs, &self.dir)? else {
            return if cell.state().file_number_bound == FileNumber::default() {
                // New, on a disk with no room for a manifest: there is nothing to read yet.
                Ok(VerifyReport::default())
            } else {
                Err(Error::corruption(&self.dir, 0, "there is no manifest"))
            };
        };
        if let ManifestCell::Writing(manifest) = &*cell {
            loaded.check_proof(manifest.number(), manifest.len())?;
        }
        let mut report = VerifyReport { files: 1, bytes: loaded.len, ..VerifyReport::default() };
        let mut expected = expectation(&loaded.state);
        // Also what tables cover already, as far as the segments that are needed hold it.
        let first = self.log_if_any().and_then(|log| log.segments().first().copied());
        if let Some(first) = first.filter(|first| first.ordinal == expected.start.ordinal) {
            expected.start.position = first.start;
        }
        let recovered = log::recover(&*self.fs, &self.dir, &expected, &mut |record| {
            report.bytes += record.end.0 - record.position.0;
            Ok(())
        });
        let recovered = recovered.map_err(|error| whose_fault(&*self.fs, &self.dir, Some(&loaded), error))?;
        report.files += recovered.segments.len() as u64;
        Ok(report)
    }
}
