//! At which calls the device failed, to see that none is left out.

use std::collections::BTreeSet;

use strandline::fs::{Call, Operation, Purpose};

/// Kinds of file calls.
pub type Kinds = BTreeSet<(Purpose, Operation)>;

/// What kinds of calls there were, and which of them a device or the power failed at first.
#[derive(Debug, Default)]
pub struct Places {
    pub called: Kinds,
    pub failed: Kinds,
    /// How many calls will pass before one fails.
    waiting: Option<u64>,
    /// Whether all calls fail by now.
    pub failing: bool,
}

impl Places {
    /// From now on the call after so many fails.
    pub fn fails_after(&mut self, calls: u64) {
        self.waiting = Some(calls);
    }

    pub fn called(&mut self, call: &Call) {
        let kind = (call.purpose, call.operation);
        self.called.insert(kind);
        self.waiting = match self.waiting {
            Some(0) => {
                self.failed.insert(kind);
                self.failing = true;
                None
            }
            waiting => waiting.map(|left| left - 1),
        };
    }

    /// Other files: nothing fails any more.
    pub fn crashed(&mut self) {
        self.waiting = None;
        self.failing = false;
    }
}
