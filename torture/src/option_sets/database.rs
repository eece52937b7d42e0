//! One database under its set of options.

use std::collections::BTreeMap;

use rand::RngExt;
use strandline::{CommitOptions, Db, Keyspace, Retention, Timestamp, WriteBatch};

use super::question::Held;
use super::set::Set;
use crate::life::model::Write;
use crate::life::settings::chance;
use crate::life::write::add;
use crate::random::Random;

pub struct Database {
    pub set: Set,
    random: Random,
    db: Option<Db>,
    pub handles: BTreeMap<String, Keyspace>,
    pub held: Vec<Held>,
}

impl Database {
    pub fn new(set: Set, random: Random) -> Self {
        let db = Some(set.options().open(set.dir()).unwrap());
        Self { set, random, db, handles: BTreeMap::new(), held: Vec::new() }
    }

    pub fn db(&self) -> &Db {
        self.db.as_ref().unwrap()
    }

    pub fn make(&mut self, name: &str, retention: Retention) {
        let options = self.set.keyspace(&mut self.random, retention);
        let handle = self.db().keyspace_with(name, options).unwrap();
        self.handles.insert(name.to_owned(), handle);
    }

    pub fn drop_keyspace(&mut self, name: &str) {
        self.db().drop_keyspace(name).unwrap();
        self.handles.remove(name);
    }

    /// Commits, and gives the timestamp.
    pub fn commit(&self, at: Option<Timestamp>, writes: &[(String, Write)]) -> Timestamp {
        let mut batch = WriteBatch::new();
        writes.iter().for_each(|(space, write)| add(&mut batch, &self.handles[space], write));
        let options = CommitOptions::new();
        let options = at.map_or(options.clone(), |at| options.at(at));
        self.db().commit_with(batch, options).unwrap_or_else(|error| panic!("{}: {error}", self.set.name))
    }

    /// What its habits make it do between operations, and how often it did something.
    pub fn live(&mut self) -> u64 {
        let mut done = 0;
        let mut now = |random: &mut Random, often| {
            let now = often > 0 && chance(random, often, 1000);
            done += u64::from(now);
            now
        };
        if now(&mut self.random, self.set.flushes) {
            self.db().flush().unwrap();
        }
        if self.set.threads.is_none() && now(&mut self.random, self.set.steps) {
            for _ in 0..self.random.random_range(1..8) {
                self.db().step_background().unwrap();
            }
        }
        if now(&mut self.random, self.set.compactions) {
            match self.random.random_range(0..3) {
                0 => self.db().compact().unwrap(),
                _ => {
                    let nth = self.random.random_range(0..self.handles.len());
                    let from = vec![b'a' + self.random.random_range(0..4)];
                    self.handles.values().nth(nth).unwrap().compact(from..).unwrap();
                }
            }
        }
        if self.held.is_empty() && now(&mut self.random, self.set.reopenings) {
            let gently = self.random.random();
            self.reopen(gently);
        }
        done
    }

    /// Closes and opens, or is killed and recovers.
    pub fn reopen(&mut self, gently: bool) {
        let names: Vec<String> = std::mem::take(&mut self.handles).into_keys().collect();
        let old = self.db.take().unwrap();
        if gently || !self.set.kill() {
            old.close().unwrap();
        }
        drop(old);
        let db = self.set.options().open(self.set.dir()).unwrap();
        self.handles = names.into_iter().map(|name| (name.clone(), db.keyspace(name).unwrap())).collect();
        self.db = Some(db);
    }
}
