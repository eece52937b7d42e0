//! S29: no file number is given out twice.

use std::collections::BTreeSet;
use std::path::Path;

use strandline::Fs;
use strandline::fs::{Call, Operation, Purpose};

use super::runner::DIR;
use crate::disk::Disk;

/// The names of all files that may have been on the disk at some time.
///
/// A file that was made after the last crash, and whose name the next one lost, never was: its number may come again.
/// One that was removed has been.
#[derive(Default)]
pub struct Names {
    /// On disk after some crash, or made since the last.
    known: BTreeSet<String>,
    /// Made since the last crash.
    fresh: BTreeSet<String>,
}

impl Names {
    /// Panics if the call makes a file under a name that was used before. `works`: whether the device does.
    pub fn called(&mut self, call: &Call, works: bool) {
        let numbered = call.file.ends_with(".table") || call.file.ends_with(".log") || call.file.ends_with(".manifest");
        if call.operation == Operation::Create && numbered {
            assert!(self.known.insert(call.file.clone()), "{} is made a second time", call.file);
            self.fresh.insert(call.file.clone());
        }
        if call.operation == Operation::Remove && works {
            self.fresh.remove(&call.file);
        }
    }

    /// A crash has left these files.
    pub fn crashed(&mut self, disk: &Disk) {
        let left = disk.files().list(Purpose::Directory, Path::new(DIR)).unwrap_or_default();
        let left: BTreeSet<String> = left.into_iter().map(|entry| entry.name).collect();
        for name in std::mem::take(&mut self.fresh) {
            if !left.contains(&name) {
                self.known.remove(&name);
            }
        }
        self.known.extend(left);
    }
}
