//! Group sync in every order of steps: `RUSTFLAGS="--cfg loom" cargo test --lib loom_`.

use super::group::GroupSync;
use crate::Error;
use crate::sync::{Arc, AtomicBool, AtomicU64, Ordering, spawn};

#[derive(Default)]
struct Syncs {
    group: GroupSync,
    end: AtomicU64,
    synced: AtomicU64,
    failed: AtomicBool,
    leading: AtomicBool,
}

impl Syncs {
    /// Appends, then waits for it to be synced; `fails`: the sync that it leads does.
    fn append_and_sync(&self, fails: bool) -> bool {
        let position = self.end.fetch_add(1, Ordering::AcqRel) + 1;
        let covered = || {
            if self.synced.load(Ordering::Acquire) >= position {
                return Ok(true);
            }
            if self.failed.load(Ordering::Acquire) { Err(Error::Closed) } else { Ok(false) }
        };
        let lead = || {
            assert!(!self.leading.swap(true, Ordering::AcqRel), "two lead at once");
            let target = self.end.load(Ordering::Acquire);
            if fails {
                self.failed.store(true, Ordering::Release);
            }
            self.leading.store(false, Ordering::Release);
            if fails {
                return Err(Error::Closed);
            }
            self.synced.store(target, Ordering::Release);
            Ok(())
        };
        let done = self.group.wait(covered, lead).is_ok();
        assert!(!done || self.synced.load(Ordering::Acquire) >= position, "acknowledged, not synced");
        done
    }
}

fn check(failing: Option<usize>) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(2));
    builder.check(move || {
        let syncs = Arc::new(Syncs::default());
        let others = [0, 1].map(|number| {
            let syncs = Arc::clone(&syncs);
            spawn("loom", move || {
                syncs.append_and_sync(failing == Some(number));
            })
            .unwrap()
        });
        let done = syncs.append_and_sync(failing == Some(2));
        others.into_iter().for_each(|other| other.join().unwrap());
        assert!(done || failing.is_some());
    });
}

// S25 aside, nobody waits for ever and nobody is told of a sync that was not.
#[test]
fn loom_all_who_wait_for_a_sync_are_covered_by_one() {
    check(None);
}

#[test]
fn loom_a_leader_that_fails_leaves_nobody_waiting() {
    (0..3).for_each(|number| check(Some(number)));
}
