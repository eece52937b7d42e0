//! The same names with a model checker behind them: every step at which threads can meet is one that it orders.
//!
//! loom tries all orders, and all that memory orderings allow, of something small; shuttle tries some orders, with
//! memory taken as one for all, of something large. Both speak like std's locks; here they speak like `parking_lot`'s.
//! A wait with a time limit never times out: what relies on the limit to be woken is found as a deadlock.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::sync::PoisonError;
use std::time::Duration;

#[cfg(loom)]
use loom as checker;
#[cfg(shuttle)]
use shuttle as checker;

use super::{Arc, Ordering};
pub(crate) use checker::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
pub(super) use checker::thread;

#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(checker::sync::Mutex<T>);

pub(crate) struct MutexGuard<'a, T> {
    mutex: &'a checker::sync::Mutex<T>,
    /// `None` while it is unlocked for a moment.
    held: Option<checker::sync::MutexGuard<'a, T>>,
}

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(checker::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        MutexGuard { mutex: &self.0, held: Some(lock(&self.0)) }
    }
}

fn lock<T>(mutex: &checker::sync::Mutex<T>) -> checker::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T> MutexGuard<'_, T> {
    pub(crate) fn unlocked<R>(guard: &mut Self, body: impl FnOnce() -> R) -> R {
        guard.held = None;
        let result = body();
        guard.held = Some(lock(guard.mutex));
        result
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.held.as_ref().expect("unlocked only inside unlocked() and waits")
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.held.as_mut().expect("unlocked only inside unlocked() and waits")
    }
}

#[derive(Debug, Default)]
pub(crate) struct Condvar(checker::sync::Condvar);

impl Condvar {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        if let Some(held) = guard.held.take() {
            guard.held = Some(self.0.wait(held).unwrap_or_else(PoisonError::into_inner));
        }
    }

    pub(crate) fn wait_for<T>(&self, guard: &mut MutexGuard<'_, T>, _: Duration) {
        self.wait(guard);
    }

    pub(crate) fn notify_one(&self) {
        self.0.notify_one();
    }

    pub(crate) fn notify_all(&self) {
        self.0.notify_all();
    }
}

#[derive(Debug, Default)]
pub(crate) struct RwLock<T>(checker::sync::RwLock<T>);

impl<T> RwLock<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(checker::sync::RwLock::new(value))
    }

    pub(crate) fn read(&self) -> checker::sync::RwLockReadGuard<'_, T> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn write(&self) -> checker::sync::RwLockWriteGuard<'_, T> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What `arc_swap` promises, and no more: a load sees what the store that it reads from was made after.
pub(crate) struct ArcSwap<T> {
    newest: AtomicUsize,
    /// Under loom, where a load may see an older one, all that were ever stored. No step is taken while it is locked.
    stored: parking_lot::Mutex<BTreeMap<usize, Arc<T>>>,
}

impl<T> ArcSwap<T> {
    pub(crate) fn from_pointee(value: T) -> Self {
        Self { newest: AtomicUsize::new(0), stored: parking_lot::Mutex::new(BTreeMap::from([(0, Arc::new(value))])) }
    }

    pub(crate) fn load(&self) -> Arc<T> {
        loop {
            let number = self.newest.load(Ordering::Acquire);
            if let Some(found) = self.stored.lock().get(&number) {
                return Arc::clone(found);
            }
        }
    }

    pub(crate) fn load_full(&self) -> Arc<T> {
        self.load()
    }

    /// By one thread at a time.
    pub(crate) fn store(&self, value: Arc<T>) {
        let mut stored = self.stored.lock();
        let number = stored.last_key_value().map_or(0, |(last, _)| last + 1);
        stored.insert(number, value);
        drop(stored);
        self.newest.store(number, Ordering::Release);
        if cfg!(shuttle) {
            let replaced = self.stored.lock().remove(&(number - 1));
            // Dropping it may do anything.
            drop(replaced);
        }
    }
}
