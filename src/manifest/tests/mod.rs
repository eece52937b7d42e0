//! What the tests of the manifest share: tables that are only metas, and random histories of edits that make sense.

mod crash;
mod damage;
mod edits;
mod opening;

use std::collections::BTreeMap;
use std::path::Path;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::state::LogState;
use super::*;
use crate::format::FileNumber;
use crate::log::{Cut, LogPosition};
use crate::options::{KeyspaceSettings, Retention};
use crate::sync::Arc;
use crate::table::{Freeable, TableMeta, UpperBound};
use crate::{Compression, Slice, Timestamp};

const DIR: &str = "/";

fn dir() -> &'static Path {
    Path::new(DIR)
}

/// A table with the keys from `first` to `last`.
fn table(number: u64, first: &str, last: &str) -> Arc<TableMeta> {
    Arc::new(TableMeta {
        number: FileNumber(number),
        bytes: 1000 + number,
        smallest: Slice::copy_of(first.as_bytes()),
        upper: UpperBound::Included(Slice::copy_of(last.as_bytes())),
        min_timestamp: number,
        max_timestamp: number + 10,
        keys: 3,
        versions: 4,
        tombstones: 1,
        range_tombstones: 0,
        late: number.is_multiple_of(2),
        freeable: Freeable::default(),
        log_end: 0,
    })
}

fn numbers(tables: &[Arc<TableMeta>]) -> Vec<u64> {
    tables.iter().map(|table| table.number.0).collect()
}

fn create(id: u32, name: &str) -> Change {
    let options = Box::new(KeyspaceSettings::default());
    Change::CreateKeyspace { id: KeyspaceId(id), name: name.to_owned(), options, created_at: 0 }
}

fn add(keyspace: u32, level: usize, table: Arc<TableMeta>) -> Change {
    Change::AddTable { keyspace: KeyspaceId(keyspace), level, table }
}

fn remove(keyspace: u32, level: usize, number: u64) -> Change {
    Change::RemoveTable { keyspace: KeyspaceId(keyspace), level, number: FileNumber(number) }
}

fn bound(bound: u64) -> Change {
    Change::FileNumberBound { bound: FileNumber(bound) }
}

/// The state that these edits make.
fn state_of(edits: &[Edit]) -> ManifestState {
    edits.iter().fold(ManifestState::default(), |state, edit| state.after(edit).unwrap())
}

/// A random history that makes sense, and a plain account of what it must lead to.
struct Story {
    random: StdRng,
    account: Account,
    next_number: u64,
    next_keyspace: u32,
}

#[derive(Clone, Default)]
struct Account {
    keyspaces: BTreeMap<u32, KeyspaceAccount>,
    last_timestamp: Timestamp,
    closed: Timestamp,
    manual_floor: Timestamp,
    log: LogState,
}

#[derive(Clone, Default)]
struct KeyspaceAccount {
    floor: Timestamp,
    log_position: u64,
    /// (level, first key, table), in order of arrival.
    tables: Vec<(usize, String, u64)>,
}

impl Story {
    fn new(seed: u64) -> Self {
        println!("seed {seed}");
        let random = StdRng::seed_from_u64(seed);
        Self { random, account: Account::default(), next_number: 1, next_keyspace: 0 }
    }

    fn up_to(&mut self, most: u64) -> u64 {
        self.random.random_range(0..=most)
    }

    fn take_number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number - 1
    }

    fn next(&mut self) -> Edit {
        let mut edit = Edit::default();
        for _ in 0..=self.up_to(2) {
            self.extend(&mut edit);
        }
        // Numbers are taken before the bound is known, so it comes last here and must go first in the edit.
        edit.changes.insert(0, bound(self.next_number));
        edit
    }

    fn any_keyspace(&mut self) -> Option<u32> {
        let ids: Vec<u32> = self.account.keyspaces.keys().copied().collect();
        (!ids.is_empty()).then(|| ids[self.random.random_range(0..ids.len())])
    }

    fn extend(&mut self, edit: &mut Edit) {
        let Some(id) = self.any_keyspace() else { return self.make_keyspace(edit) };
        match self.up_to(9) {
            0 => self.make_keyspace(edit),
            1 if self.up_to(5) == 0 => {
                // Its tables may have come in this very edit, which would be nonsense.
                if edit.changes.is_empty() {
                    self.account.keyspaces.remove(&id);
                    edit.push(Change::DropKeyspace { id: KeyspaceId(id) });
                }
            }
            1..=4 => self.flush(id, edit),
            5..=7 => self.compact(id, edit),
            8 => self.move_floors(id, edit),
            _ => self.move_log(edit),
        }
    }

    fn make_keyspace(&mut self, edit: &mut Edit) {
        let id = self.next_keyspace;
        self.next_keyspace += 1 + u32::try_from(self.up_to(1)).unwrap();
        self.account.keyspaces.insert(id, KeyspaceAccount::default());
        let options = KeyspaceSettings {
            retention: [Retention::Latest, Retention::Window(7), Retention::Manual][self.random.random_range(0..3)],
            compression_per_level: vec![Compression::Zstd(-3), Compression::None],
            ..KeyspaceSettings::default()
        };
        edit.push(Change::CreateKeyspace {
            id: KeyspaceId(id),
            name: format!("name {id}"),
            options: Box::new(options),
            created_at: self.account.last_timestamp,
        });
    }

    fn flush(&mut self, id: u32, edit: &mut Edit) {
        self.account.last_timestamp += self.random.random_range(0..10);
        edit.push(Change::LastTimestamp { timestamp: self.account.last_timestamp });
        self.put(id, 0, edit);
        let by = self.up_to(100);
        let keyspace = self.account.keyspaces.get_mut(&id).unwrap();
        keyspace.log_position += by;
        edit.push(Change::KeyspaceLog { id: KeyspaceId(id), position: keyspace.log_position });
    }

    /// Puts a new table into a level, at a place that is free there.
    fn put(&mut self, id: u32, level: usize, edit: &mut Edit) {
        let first = format!("{:03}", self.random.random_range(0..1000));
        let taken = |(l, f, _): &(usize, String, u64)| *l == level && *f == first;
        if level > 0 && self.account.keyspaces[&id].tables.iter().any(taken) {
            return;
        }
        let number = self.take_number();
        self.account.keyspaces.get_mut(&id).unwrap().tables.push((level, first.clone(), number));
        edit.push(add(id, level, table(number, &first, &format!("{first}x"))));
    }

    fn compact(&mut self, id: u32, edit: &mut Edit) {
        let in_edit = |number: u64| move |change: &Change| matches!(change, Change::AddTable { table, .. } if table.number.0 == number);
        for _ in 0..self.random.random_range(1..4) {
            let tables = &mut self.account.keyspaces.get_mut(&id).unwrap().tables;
            if tables.is_empty() {
                break;
            }
            let at = self.random.random_range(0..tables.len());
            if !edit.changes.iter().any(in_edit(tables[at].2)) {
                let (level, _, number) = tables.remove(at);
                edit.push(remove(id, level, number));
            }
        }
        for _ in 0..self.random.random_range(0..4) {
            let level = self.random.random_range(0..LEVELS);
            self.put(id, level, edit);
        }
    }

    fn move_floors(&mut self, id: u32, edit: &mut Edit) {
        let by = self.up_to(20);
        let account = &mut self.account;
        let keyspace = account.keyspaces.get_mut(&id).unwrap();
        keyspace.floor += by;
        account.closed += by / 2;
        account.manual_floor += by / 3;
        edit.push(Change::KeyspaceFloor { id: KeyspaceId(id), floor: keyspace.floor });
        edit.push(Change::Closed { timestamp: account.closed });
        edit.push(Change::ManualFloor { floor: account.manual_floor });
    }

    fn move_log(&mut self, edit: &mut Edit) {
        let by = self.up_to(50);
        let log = &mut self.account.log;
        log.proved.position.0 += by;
        log.proved.ordinal += by / 7;
        edit.push(Change::LogProved(log.proved));
        let last = log.cuts.last().map_or(log.start_ordinal, |cut| cut.next_ordinal);
        let cut = Cut { ordinal: last, end: LogPosition(log.proved.position.0 + by), next_ordinal: last + 1 + by % 3 };
        log.cuts.push(cut);
        edit.push(Change::LogCut(cut));
        if by.is_multiple_of(4) {
            log.start_ordinal = log.cuts[log.cuts.len() / 2].ordinal;
            log.start_position += by;
            let start = log.start_ordinal;
            log.cuts.retain(|cut| cut.next_ordinal > start);
            edit.push(Change::LogStart { ordinal: start, position: log.start_position });
        }
    }

    /// That `state` is what the account says.
    fn check(&self, state: &ManifestState) {
        let account = &self.account;
        assert_eq!(state.last_timestamp, account.last_timestamp);
        assert_eq!((state.closed, state.manual_floor), (account.closed, account.manual_floor));
        assert_eq!(state.log, account.log);
        assert_eq!(state.file_number_bound.0, self.next_number);
        let ids: Vec<u32> = state.keyspaces.keys().map(|id| id.0).collect();
        assert_eq!(ids, account.keyspaces.keys().copied().collect::<Vec<_>>());
        for (id, expected) in &account.keyspaces {
            let keyspace = &state.keyspaces[&KeyspaceId(*id)];
            assert_eq!((keyspace.floor, keyspace.log_position), (expected.floor, expected.log_position));
            assert_eq!(keyspace.name, format!("name {id}"));
            for level in 0..LEVELS {
                let mut tables: Vec<_> = expected.tables.iter().filter(|(l, ..)| *l == level).collect();
                if level == 0 {
                    tables.reverse();
                } else {
                    tables.sort_by_key(|(_, first, _)| first);
                }
                let tables: Vec<u64> = tables.iter().map(|(.., number)| *number).collect();
                assert_eq!(numbers(keyspace.tables.level(level)), tables, "level {level}");
                assert!(tables.iter().all(|number| state.has_table(FileNumber(*number))));
            }
        }
    }
}
