//! Writing a history into a database: each commit is one batch, at its position (from 1).

use std::collections::HashMap;
use std::time::{Duration, Instant};

use strandline::{CommitOptions, Db, Keyspace, Timestamp, WriteBatch};

use crate::git::{ObjectId, Repository, Result};

/// What was written.
pub struct Loaded {
    /// The commits; the first one is at timestamp 1.
    pub commits: Vec<ObjectId>,
    /// The path whose content changed most often.
    pub busiest: Option<Vec<u8>>,
    /// The first timestamp at which a version replaced or removed an older one.
    pub first_superseding: Option<Timestamp>,
    pub paths: usize,
    pub puts: u64,
    pub deletes: u64,
    pub value_bytes: u64,
    pub took: Duration,
}

impl Loaded {
    /// The last timestamp.
    pub fn last(&self) -> Timestamp {
        self.commits.len() as Timestamp
    }

    pub fn commit_at(&self, timestamp: Timestamp) -> Result<ObjectId> {
        let index = usize::try_from(timestamp)?.checked_sub(1).ok_or("there is no commit at timestamp 0")?;
        Ok(*self.commits.get(index).ok_or("there is no commit at that timestamp")?)
    }
}

/// Writes the first `limit` of the repository's commits.
pub fn load(
    repository: &Repository,
    db: &Db,
    files: &Keyspace,
    limit: usize,
    progress: &mut dyn FnMut(&str),
) -> Result<Loaded> {
    let start = Instant::now();
    let mut commits = repository.commits()?;
    commits.truncate(limit);
    let mut changed = repository.changes(&commits)?;
    let mut blobs = repository.blobs()?;
    let mut times_changed: HashMap<Vec<u8>, u64> = HashMap::new();
    let (mut puts, mut deletes, mut value_bytes, mut first_superseding) = (0, 0, 0, None);
    for (commit, timestamp) in commits.iter().zip(1..) {
        let (found, changes) = changed.next()?.ok_or("git ended before the last commit")?;
        if found != *commit {
            return Err(format!("git told of commit {found} where {commit} was due").into());
        }
        let mut batch = WriteBatch::new();
        let (written, removed): (Vec<_>, Vec<_>) = changes.iter().partition(|change| change.to.is_some());
        for change in &removed {
            batch.delete(files, &change.path);
        }
        let ids: Vec<ObjectId> = written.iter().filter_map(|change| change.to).collect();
        blobs.read(&ids, |i, content| {
            value_bytes += content.len() as u64;
            batch.put(files, &written[i].path, content);
            Ok(())
        })?;
        puts += written.len() as u64;
        deletes += removed.len() as u64;
        for change in changes {
            let times = times_changed.entry(change.path).or_default();
            *times += 1;
            if *times > 1 {
                first_superseding = first_superseding.or(Some(timestamp));
            }
        }
        let at = db.commit_with(batch, CommitOptions::new().at(timestamp))?;
        if at != timestamp {
            return Err(format!("the commit at {timestamp} came to stand at {at}").into());
        }
        if timestamp % 100 == 0 || timestamp == commits.len() as Timestamp {
            progress(&format!("{timestamp} of {} commits", commits.len()));
        }
    }
    // Of equally busy paths the first: a run does not depend on the order of a hash map.
    let busiest = times_changed.iter().max_by(|(a, x), (b, y)| x.cmp(y).then_with(|| b.cmp(a)));
    Ok(Loaded {
        busiest: busiest.map(|(path, _)| path.clone()),
        commits,
        first_superseding,
        paths: times_changed.len(),
        puts,
        deletes,
        value_bytes,
        took: start.elapsed(),
    })
}
