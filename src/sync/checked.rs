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
#[cfg(loom)]
pub(crate) use announced::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize};
#[cfg(shuttle)]
pub(crate) use checker::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize};
pub(super) use checker::thread;
pub(crate) use checker::thread_local;
#[cfg(loom)]
pub(crate) use schedules::{check, start};

/// loom 0.7 remembers of an atomic only who touched it last. A store whose own thread has loaded it before hides the
/// loads of others from it, and it never tries them on the other side of that store. So each access is announced by a
/// step on which all accesses of that atomic depend, and which orders nothing else.
#[cfg(loom)]
mod announced {
    use loom::sync::atomic;

    use super::Ordering;

    macro_rules! announced {
        ($name:ident of $value:ty: $($method:ident($($argument:ident: $kind:ty),*) $(-> $result:ty)?;)*) => {
            #[derive(Debug, Default)]
            pub(crate) struct $name {
                inner: atomic::$name,
                accesses: atomic::AtomicBool,
            }

            impl $name {
                pub(crate) fn new(value: $value) -> Self {
                    Self { inner: atomic::$name::new(value), accesses: atomic::AtomicBool::new(false) }
                }

                $(pub(crate) fn $method(&self, $($argument: $kind),*) $(-> $result)? {
                    self.accesses.fetch_or(false, Ordering::Relaxed);
                    self.inner.$method($($argument),*)
                })*
            }
        };
    }

    macro_rules! announced_number {
        ($name:ident of $value:ty) => {
            announced! {
                $name of $value:
                load(ordering: Ordering) -> $value;
                store(value: $value, ordering: Ordering);
                fetch_add(by: $value, ordering: Ordering) -> $value;
                fetch_sub(by: $value, ordering: Ordering) -> $value;
                fetch_max(other: $value, ordering: Ordering) -> $value;
                fetch_min(other: $value, ordering: Ordering) -> $value;
                fetch_update(set: Ordering, get: Ordering, by: impl FnMut($value) -> Option<$value>)
                    -> Result<$value, $value>;
            }
        };
    }

    announced_number!(AtomicU64 of u64);
    announced_number!(AtomicUsize of usize);
    announced! {
        AtomicBool of bool:
        load(ordering: Ordering) -> bool;
        store(value: bool, ordering: Ordering);
        swap(value: bool, ordering: Ordering) -> bool;
        fetch_or(value: bool, ordering: Ordering) -> bool;
    }

    #[derive(Debug)]
    pub(crate) struct AtomicPtr<T> {
        inner: atomic::AtomicPtr<T>,
        accesses: atomic::AtomicBool,
    }

    impl<T> AtomicPtr<T> {
        pub(crate) fn new(value: *mut T) -> Self {
            Self { inner: atomic::AtomicPtr::new(value), accesses: atomic::AtomicBool::new(false) }
        }

        pub(crate) fn load(&self, ordering: Ordering) -> *mut T {
            self.accesses.fetch_or(false, Ordering::Relaxed);
            self.inner.load(ordering)
        }

        pub(crate) fn store(&self, value: *mut T, ordering: Ordering) {
            self.accesses.fetch_or(false, Ordering::Relaxed);
            self.inner.store(value, ordering);
        }

        pub(crate) fn compare_exchange(
            &self,
            current: *mut T,
            new: *mut T,
            success: Ordering,
            failure: Ordering,
        ) -> Result<*mut T, *mut T> {
            self.accesses.fetch_or(false, Ordering::Relaxed);
            self.inner.compare_exchange(current, new, success, failure)
        }
    }
}

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

/// What loom's tests begin with.
#[cfg(loom)]
mod schedules {
    use crate::sync::{Arc, JoinHandle, Ordering, spawn};

    /// Tries every schedule with at most so many interruptions.
    pub(crate) fn check(preemptions: usize, body: impl Fn() + Send + Sync + 'static) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = builder.preemption_bound.or(Some(preemptions));
        builder.max_branches = builder.max_branches.max(20_000);
        let tries = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let count = Arc::clone(&tries);
        builder.check(move || {
            count.fetch_add(1, Ordering::Relaxed);
            body();
        });
        println!("{} schedules", tries.load(Ordering::Relaxed));
    }

    pub(crate) fn start(body: impl FnOnce() + Send + 'static) -> JoinHandle {
        spawn("loom", body).unwrap()
    }
}
