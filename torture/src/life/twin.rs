//! The same life on other files.

use std::collections::BTreeMap;

use strandline::{FaultFs, ManualTime, Time};

use super::held::Held;
use super::places::Places;
use super::runner::{Log, Runner};
use crate::disk::Disk;
use crate::random::Random;

impl Runner {
    /// A life that goes on from here on copies of the files, while this one does as well. Nothing is opened yet.
    pub fn twin(&self, files: &Disk, random: Random) -> Self {
        let time = ManualTime::default();
        time.advance(std::time::Duration::from_nanos(self.time.monotonic_nanos()));
        let mut names = self.names.clone();
        names.crashed(files);
        let fs = FaultFs::new(files.clone());
        fs.trace(true);
        Self {
            random,
            settings: self.settings.clone(),
            time,
            fs,
            db: None,
            model: self.model.clone(),
            handles: BTreeMap::new(),
            orphaned: Vec::new(),
            held: Held::default(),
            marks: self.marks,
            in_doubt: self.in_doubt.clone(),
            next_mark: self.next_mark,
            log: Log::default(),
            names,
            places: Places::default(),
            trace: None,
        }
    }

    /// Does something with a [`twin`](Self::twin), whose story is part of this one's.
    pub fn beside<T>(&mut self, files: &Disk, random: Random, live: impl FnOnce(&mut Self) -> T) -> T {
        let mut twin = self.twin(files, random);
        twin.log = std::mem::take(&mut self.log);
        let done = live(&mut twin);
        self.log = std::mem::take(&mut twin.log);
        self.log.add("(back to before)".into());
        done
    }
}
