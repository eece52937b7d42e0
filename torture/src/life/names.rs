//! S29: no file number is given out twice.

use std::collections::BTreeSet;
use std::path::Path;

use strandline::Fs;
use strandline::fs::{Call, Operation, Purpose};

use super::runner::DIR;
use crate::disk::Disk;

/// The numbers of all files that may have been on the disk at some time.
///
/// A file that was made after the last crash, and whose name the next one lost, never was: its number may come again.
/// One that was removed has been.
#[derive(Debug, Default, Clone)]
pub struct Names {
    /// On disk after some crash, or made since the last.
    known: BTreeSet<u64>,
    /// Made since the last crash.
    fresh: BTreeSet<u64>,
    /// Made by an opening that has not succeeded yet.
    tried: BTreeSet<u64>,
    opening: bool,
}

impl Names {
    /// Panics if the call makes a file under a number that was used before. `works`: whether the device does.
    pub fn called(&mut self, call: &Call, works: bool) {
        let Some(number) = number(&call.file) else { return };
        match call.operation {
            Operation::Create => {
                assert!(self.known.insert(number), "{}: the number was used before", call.file);
                self.fresh.insert(number);
                if self.opening {
                    self.tried.insert(number);
                }
            }
            Operation::Remove if works => {
                self.fresh.remove(&number);
            }
            _ => {}
        }
    }

    /// A crash has left these files.
    pub fn crashed(&mut self, disk: &Disk) {
        let left = on_disk(disk);
        self.opening(disk);
        self.opened();
        for name in std::mem::take(&mut self.fresh) {
            if !left.contains(&name) {
                self.known.remove(&name);
            }
        }
        self.known.extend(left);
    }

    /// The database is about to be opened. Until that has succeeded nothing durable names what is made, and the next try
    /// may give the numbers of what this one took back again.
    pub fn opening(&mut self, disk: &Disk) {
        let left = on_disk(disk);
        for number in std::mem::take(&mut self.tried).difference(&left) {
            self.known.remove(number);
            self.fresh.remove(number);
        }
        self.opening = true;
    }

    /// It is open, and a manifest of its own is in force.
    pub fn opened(&mut self) {
        self.opening = false;
        self.tried.clear();
    }
}

fn on_disk(disk: &Disk) -> BTreeSet<u64> {
    let left = disk.files().list(Purpose::Directory, Path::new(DIR)).unwrap_or_default();
    left.iter().filter_map(|entry| number(&entry.name)).collect()
}

/// The number in a file's name.
fn number(name: &str) -> Option<u64> {
    let (number, kind) = name.split_once('.')?;
    ["table", "log", "manifest"].contains(&kind).then(|| number.parse().ok())?
}
