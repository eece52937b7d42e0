//! One run: load, check, retain from the middle, compact, check again.

use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};

use strandline::{KeyspaceOptions, Options, Retention, Timestamp};

use crate::check::Checker;
use crate::git::{Repository, Result};
use crate::load::{Loaded, load};

/// What a run is asked to do.
pub struct Settings {
    /// How the database is opened.
    pub options: Options,
    /// How the keyspace is made; its retention is `Manual` in any case.
    pub keyspace: KeyspaceOptions,
    /// How many commits are compared with git before, and again after, retention.
    pub samples: usize,
    /// How many commits are loaded at most.
    pub commits: usize,
}

/// How a run went.
pub struct Summary {
    pub loaded: Loaded,
    /// How many trees were compared with git's, each in both directions.
    pub trees: usize,
    /// How many versions the busiest path had.
    pub history: usize,
    pub floor: Timestamp,
    pub table_bytes_before: u64,
    pub table_bytes_after: u64,
    pub checks_took: Duration,
    /// Empty if all is well.
    pub differences: Vec<String>,
}

pub fn run(repository: &Repository, dir: &Path, settings: Settings, progress: &mut dyn FnMut(&str)) -> Result<Summary> {
    progress(&format!("{} into {}", repository.path().display(), dir.display()));
    let db = settings.options.error_if_exists(true).open(dir)?;
    let files = db.keyspace_with("files", settings.keyspace.retention(Retention::Manual))?;
    let loaded = load(repository, &db, &files, settings.commits, progress)?;
    let start = Instant::now();
    let last = loaded.last();
    let mut checker = Checker { repository, loaded: &loaded, db: &db, files: &files, differences: Vec::new() };
    if db.last_timestamp() != last {
        checker.differ(format!("the last timestamp is {}, not {last}", db.last_timestamp()));
    }
    let samples = spread(last, settings.samples);
    for (i, timestamp) in samples.iter().enumerate() {
        checker.tree_at(*timestamp)?;
        progress(&format!("{} of {} trees compared", i + 1, samples.len()));
    }
    let mut history = 0;
    if let Some(path) = &loaded.busiest {
        history = checker.history_of(path, 0)?;
    }

    db.flush()?;
    db.compact()?;
    let table_bytes_before = db.metrics().table_bytes;
    let floor = last.div_ceil(2);
    let in_force = db.retain_from(floor)?;
    if (in_force, files.retained_from()) != (floor, floor) {
        checker.differ(format!("the floor is {in_force} and {}, not {floor}", files.retained_from()));
    }
    db.compact()?;
    let table_bytes_after = db.metrics().table_bytes;
    if loaded.first_superseding.is_some_and(|first| first <= floor) && table_bytes_after >= table_bytes_before {
        checker.differ(format!("tables took {table_bytes_before} bytes and take {table_bytes_after} after retention"));
    }
    let mut trees = samples.len();
    let samples: Vec<_> = samples.into_iter().chain([floor, floor - 1]).collect();
    for (i, timestamp) in samples.iter().copied().enumerate() {
        if timestamp < floor {
            checker.refused_at(timestamp);
        } else {
            checker.tree_at(timestamp)?;
            trees += 1;
        }
        progress(&format!("{} of {} reads after retention", i + 1, samples.len()));
    }
    if let Some(path) = &loaded.busiest {
        checker.history_of(path, floor)?;
    }
    db.verify()?;

    let differences = checker.differences;
    db.close()?;
    let checks_took = start.elapsed();
    Ok(Summary { loaded, trees, history, floor, table_bytes_before, table_bytes_after, checks_took, differences })
}

/// A short table.
impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let loaded = &self.loaded;
        let per_second = loaded.commits.len() as f64 / loaded.took.as_secs_f64();
        writeln!(f, "commits            {:>12}   {per_second:.0} a second", loaded.commits.len())?;
        writeln!(f, "paths              {:>12}", loaded.paths)?;
        writeln!(f, "puts               {:>12}   {} bytes of content", loaded.puts, loaded.value_bytes)?;
        writeln!(f, "deletes            {:>12}", loaded.deletes)?;
        writeln!(f, "trees compared     {:>12}   forward and backward, in {:.1?}", self.trees, self.checks_took)?;
        if let Some(path) = &loaded.busiest {
            writeln!(f, "longest history    {:>12}   {}", self.history, path.escape_ascii())?;
        }
        writeln!(f, "bytes in tables    {:>12}   all history", self.table_bytes_before)?;
        writeln!(f, "                   {:>12}   from commit {} on", self.table_bytes_after, self.floor)?;
        writeln!(f, "differences        {:>12}", self.differences.len())
    }
}

/// Timestamps from 1 to `last`, evenly spread, both ends included.
fn spread(last: Timestamp, samples: usize) -> Vec<Timestamp> {
    let gaps = (samples.max(2) - 1) as Timestamp;
    let mut spread: Vec<_> = (0..=gaps).map(|i| 1 + (last - 1) * i / gaps).collect();
    spread.dedup();
    spread
}
