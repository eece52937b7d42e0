//! Publishing, views and sealing in every order of steps, and with all that the memory orderings allow:
//! `RUSTFLAGS="--cfg loom" cargo test --lib loom_`.
//!
//! The code is the engine's own, real memtables included; what stands beside it here is only who calls it. A search is
//! cut off by how often a thread is interrupted while it could go on: `LOOM_MAX_PREEMPTIONS` raises that.

use std::sync::OnceLock;

use bytes::Bytes;

use super::current::{Current, Horizon, Published, View};
use super::keyspace::KeyspaceCore;
use super::pipeline::{InFlight, Reserved};
use super::world::{KeyspaceVersion, Mem, World};
use crate::Error;
use crate::manifest::KeyspaceId;
use crate::sync::{Arc, AtomicU64, JoinHandle, Mutex, Ordering, check, start};
use crate::version::{Sequence, Stamp};

const KEYSPACE: KeyspaceId = KeyspaceId(1);
const NOTHING: Horizon = Horizon { sequence: 0, last_timestamp: 0 };

fn join(threads: impl IntoIterator<Item = JoinHandle>) {
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

fn timestamp_of(sequence: Sequence) -> u64 {
    10 * sequence
}

// V1: both numbers of a horizon belong together, also for a reader that is overtaken by more than a round.
#[test]
fn loom_a_horizon_is_whole_and_never_goes_back() {
    check(3, || {
        let published = Arc::new(Published::<2>::new(NOTHING));
        let publisher = {
            let published = Arc::clone(&published);
            start(move || {
                for sequence in 1..=3 {
                    published.publish(Horizon { sequence, last_timestamp: timestamp_of(sequence) });
                }
            })
        };
        let first = published.horizon();
        let second = published.horizon();
        for horizon in [first, second] {
            assert_eq!(horizon.last_timestamp, timestamp_of(horizon.sequence), "torn");
        }
        assert!(second.sequence >= first.sequence, "gone back from {first:?} to {second:?}");
        join([publisher]);
    });
}

// V2: whoever sees a horizon sees what every commit at or below it has done, whoever moved the horizon.
#[test]
fn loom_commits_are_published_in_order_and_whole() {
    check(3, || {
        let flight = Arc::new(InFlight::default());
        let published = Arc::new(Published::new(NOTHING));
        let done: Arc<[AtomicU64; 2]> = Arc::default();
        for sequence in 1..=2 {
            flight.enter(Reserved { sequence, timestamp: timestamp_of(sequence) });
        }
        let committers = [1, 2].map(|sequence| {
            let (flight, published, done) = (Arc::clone(&flight), Arc::clone(&published), Arc::clone(&done));
            start(move || {
                done[sequence as usize - 1].store(1, Ordering::Relaxed);
                flight.publish(sequence, &published).unwrap();
                assert!(published.horizon().sequence >= sequence, "returned before it was published");
            })
        });
        let horizon = published.horizon();
        for sequence in 1..=horizon.sequence {
            assert_eq!(done[sequence as usize - 1].load(Ordering::Relaxed), 1, "{sequence} is not done");
        }
        join(committers);
        assert_eq!(published.horizon(), Horizon { sequence: 2, last_timestamp: 20 });
    });
}

// S25: nothing at or behind an undecided commit is published, and nobody waits for it for ever.
#[test]
fn loom_an_undecided_commit_ends_everybody_behind_it() {
    check(3, || {
        let flight = Arc::new(InFlight::default());
        let published = Arc::new(Published::new(NOTHING));
        for sequence in 1..=3 {
            flight.enter(Reserved { sequence, timestamp: timestamp_of(sequence) });
        }
        let behind = {
            let (flight, published) = (Arc::clone(&flight), Arc::clone(&published));
            start(move || assert!(flight.publish(3, &published).is_err()))
        };
        let flush = {
            let (flight, published) = (Arc::clone(&flight), Arc::clone(&published));
            start(move || {
                assert!(!flight.wait_published(2, &published));
                flight.wait_idle();
                assert_eq!(published.horizon().sequence, 1);
                flight.forget_undecided(3, &published);
            })
        };
        flight.poison(2, &Error::Background(Arc::new(Error::Closed)));
        flight.publish(1, &published).unwrap();
        join([behind, flush]);
        assert_eq!(published.horizon(), Horizon { sequence: 3, last_timestamp: 10 });
    });
}

// S8: who holds a condition against what is reserved sees all of it in memtables, published or not, and waits for nobody who
// has failed.
#[test]
fn loom_who_waits_for_what_is_applied_sees_it() {
    check(3, || {
        let flight = Arc::new(InFlight::default());
        let published = Arc::new(Published::new(NOTHING));
        let done: Arc<[AtomicU64; 2]> = Arc::default();
        for sequence in 1..=3 {
            flight.enter(Reserved { sequence, timestamp: timestamp_of(sequence) });
        }
        let committers = [1, 2].map(|sequence| {
            let (flight, published, done) = (Arc::clone(&flight), Arc::clone(&published), Arc::clone(&done));
            start(move || {
                done[sequence as usize - 1].store(1, Ordering::Relaxed);
                if sequence == 1 {
                    // Its sync fails.
                    flight.applied(1);
                    flight.poison(1, &Error::Background(Arc::new(Error::Closed)));
                } else {
                    assert!(flight.publish(2, &published).is_err());
                }
            })
        });
        // The third one is not applied, and not waited for.
        flight.wait_applied(2, &published);
        for (at, done) in done.iter().enumerate() {
            assert_eq!(done.load(Ordering::Relaxed), 1, "{} is not there", at + 1);
        }
        join(committers);
        assert_eq!(published.horizon(), NOTHING);
    });
}

/// One keyspace, the order of commits, and the sealed memtables with the last sequence in each.
struct Engine {
    current: Current,
    in_flight: InFlight,
    reserved: Mutex<Sequence>,
    /// The last sequence in the memtable that was sealed; not for the checker to order.
    sealed_at: OnceLock<Sequence>,
}

impl Engine {
    fn new() -> Arc<Self> {
        let core = KeyspaceCore::new(KEYSPACE, "k".into(), crate::options::KeyspaceSettings::default(), 0);
        let keyspace = KeyspaceVersion {
            core: Arc::new(core),
            active: Arc::new(Mem::new()),
            sealed: Vec::new(),
            tree: Arc::default(),
        };
        let world = World::default().with(keyspace);
        Arc::new(Self {
            current: Current::new(world, NOTHING),
            in_flight: InFlight::default(),
            reserved: Mutex::new(0),
            sealed_at: OnceLock::new(),
        })
    }

    /// Reserve, apply, publish; `seal`: puts a new memtable in the place of the active one first.
    fn commit(&self, seal: bool) -> Option<(Arc<Mem>, Sequence)> {
        let mut reserved = self.reserved.lock();
        let sealed = seal.then(|| {
            self.sealed_at.set(*reserved).unwrap();
            (self.seal(), *reserved)
        });
        *reserved += 1;
        let (sequence, timestamp) = (*reserved, timestamp_of(*reserved));
        let mem = Arc::clone(&self.current.world().get(KEYSPACE).unwrap().active);
        self.in_flight.enter(Reserved { sequence, timestamp });
        drop(reserved);
        let (stamp, key) = (Stamp { timestamp, sequence, late: false }, key(sequence));
        mem.entries.insert(&key, stamp, Some(&key), None, Bytes::copy_from_slice);
        self.in_flight.publish(sequence, &self.current.published).unwrap();
        sealed
    }

    fn seal(&self) -> Arc<Mem> {
        let seal = |world: &World| {
            let keyspace = world.get(KEYSPACE).unwrap();
            Ok((world.with(keyspace.with_sealed()), Arc::clone(&keyspace.active)))
        };
        self.current.change(seal).unwrap()
    }

    /// What a flush does with the world; the tables are thought of.
    fn flush(&self, mem: &Arc<Mem>, sequence: Sequence) {
        assert!(self.in_flight.wait_published(sequence, &self.current.published));
        self.current.change(|world| Ok((world.with(world.get(KEYSPACE).unwrap().without(mem)), ()))).unwrap();
    }
}

fn key(sequence: Sequence) -> Bytes {
    Bytes::from(sequence.to_string())
}

/// Which of the commits up to `last` a view shows out of memtables.
fn shown(view: &View, last: Sequence) -> Vec<Sequence> {
    let keyspace = view.world.get(KEYSPACE).unwrap();
    let shows = |sequence: &Sequence| {
        keyspace.memtables().any(|mem| {
            let entries = &mem.entries;
            let within = entries.min_timestamp() <= timestamp_of(*sequence)
                && timestamp_of(*sequence) <= entries.max_timestamp();
            within && entries.get(&key(*sequence), u64::MAX, view.horizon.sequence).is_some()
        })
    };
    (1..=last).filter(shows).collect()
}

// V1: a view shows exactly the commits up to its horizon, while memtables are sealed and filled.
#[test]
fn loom_a_view_shows_what_its_horizon_says_while_a_memtable_is_sealed() {
    check(2, || {
        let engine = Engine::new();
        let writer = {
            let engine = Arc::clone(&engine);
            start(move || {
                engine.commit(false);
                engine.commit(true);
            })
        };
        let view = engine.current.view();
        assert_eq!(shown(&view, 2), (1..=view.horizon.sequence).collect::<Vec<_>>());
        engine.current.with_view(|world, horizon| {
            let view = View { world: Arc::new(world.clone()), horizon };
            assert_eq!(shown(&view, 2), (1..=horizon.sequence).collect::<Vec<_>>());
        });
        join([writer]);
        let view = engine.current.view();
        assert_eq!(shown(&view, 2), [1, 2]);
    });
}

// V1: a memtable is replaced by its tables only once all in it is published, so no view sees a table ahead of it.
#[test]
fn loom_a_memtable_leaves_the_world_after_all_in_it_is_published() {
    check(2, || {
        let engine = Engine::new();
        let first = Arc::clone(&engine.current.world().get(KEYSPACE).unwrap().active);
        let early = {
            let engine = Arc::clone(&engine);
            start(move || drop(engine.commit(false)))
        };
        let late = {
            let engine = Arc::clone(&engine);
            start(move || {
                if let Some((mem, last)) = engine.commit(true) {
                    engine.flush(&mem, last);
                }
            })
        };
        let view = engine.current.view();
        // What the tables would show.
        let flushed = match view.world.get(KEYSPACE).unwrap().memtables().any(|mem| Arc::ptr_eq(mem, &first)) {
            true => 0,
            false => *engine.sealed_at.get().unwrap(),
        };
        assert!(flushed <= view.horizon.sequence, "a table shows {flushed}, ahead of {:?}", view.horizon);
        let expected: Vec<_> = (flushed + 1..=view.horizon.sequence).collect();
        assert_eq!(shown(&view, 2), expected, "at {:?}", view.horizon);
        join([early, late]);
    });
}
