//! What was acknowledged, and what was seen: held against each other when all is over.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;

use strandline::Timestamp;

use crate::campaign::Counts;

#[derive(Default)]
pub(super) struct Record {
    committed: Mutex<BTreeMap<Timestamp, String>>,
    seen: Mutex<Vec<Seen>>,
}

/// The value that a read gave.
struct Seen {
    how: &'static str,
    /// `None`: what was newest at some moment of the read.
    at: Option<Timestamp>,
    /// The newest acknowledged commit, at or below that, when the read began.
    known: Timestamp,
    value: Option<String>,
}

/// More are not kept.
const SEEN: usize = 50_000;

impl Record {
    pub(super) fn commit(&self, at: Timestamp, value: String) {
        self.committed.lock().unwrap().insert(at, value);
    }

    pub(super) fn commits(&self) -> usize {
        self.committed.lock().unwrap().len()
    }

    pub(super) fn has(&self, at: Timestamp) -> bool {
        self.committed.lock().unwrap().contains_key(&at)
    }

    /// The newest acknowledged commit at or below `at`; 0 if there is none. To be asked before a read begins.
    pub(super) fn known(&self, at: Timestamp) -> Timestamp {
        self.committed.lock().unwrap().range(..=at).next_back().map_or(0, |(at, _)| *at)
    }

    /// All that is acknowledged above a floor.
    pub(super) fn above(&self, floor: Timestamp) -> BTreeMap<Timestamp, String> {
        self.committed.lock().unwrap().range(floor + 1..).map(|(at, value)| (*at, value.clone())).collect()
    }

    pub(super) fn all(&self) -> BTreeMap<Timestamp, String> {
        self.committed.lock().unwrap().clone()
    }

    pub(super) fn saw(&self, how: &'static str, at: Option<Timestamp>, known: Timestamp, value: Option<String>) {
        let mut seen = self.seen.lock().unwrap();
        if seen.len() < SEEN {
            seen.push(Seen { how, at, known, value });
        }
    }

    /// Whether all that was seen is right. Where commits may be late, one may have come after the read.
    pub(super) fn check(&self, late: bool) {
        let committed = self.committed.lock().unwrap();
        let timestamps: HashMap<&str, Timestamp> = committed.iter().map(|(at, value)| (value.as_str(), *at)).collect();
        for seen in &*self.seen.lock().unwrap() {
            let Seen { how, at, known, value } = seen;
            let found = value.as_ref().map_or(0, |value| {
                *timestamps
                    .get(value.as_str())
                    .unwrap_or_else(|| panic!("{how} gave {value}, which was never acknowledged"))
            });
            let newest = at.unwrap_or(Timestamp::MAX);
            assert!(found >= *known, "{how} at {at:?} gave the value of {found}; {known} was acknowledged before");
            assert!(found <= newest, "{how} at {at:?} gave the value of {found}");
            if let Some(at) = at.filter(|_| !late) {
                let expected = committed.range(..=at).next_back().map_or(0, |(at, _)| *at);
                assert_eq!(found, expected, "{how} at {at} gave the value of another timestamp");
            }
        }
    }

    pub(super) fn count(&self, counts: &mut Counts) {
        counts.add("commits", self.commits() as u64);
        counts.add("answers checked", self.seen.lock().unwrap().len() as u64);
    }
}
