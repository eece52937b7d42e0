//! Locks, atomics and threads: the one door through which the engine gets them, so that a model checker can stand
//! behind it: loom in unit tests with `--cfg loom`, shuttle with `--cfg shuttle`.

#[cfg(all(test, any(loom, shuttle)))]
mod checked;
#[cfg(all(test, any(loom, shuttle)))]
use checked as primitives;
#[cfg(all(test, loom))]
pub(crate) use checked::{check, start};

#[cfg(not(all(test, any(loom, shuttle))))]
mod primitives {
    pub(crate) use arc_swap::ArcSwap;
    pub(crate) use parking_lot::{Condvar, Mutex, MutexGuard, RwLock};
    pub(crate) use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize};
    pub(super) use std::thread;
    pub(crate) use std::thread_local;
}

pub(crate) use arc_swap::ArcSwapOption;
pub(crate) use primitives::{
    ArcSwap, AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Condvar, Mutex, MutexGuard, RwLock, thread_local,
};
pub(crate) use std::sync::Arc;
/// A count of the process, for statics: it outlives what a model checker looks at, so none stands behind it.
pub(crate) use std::sync::atomic::AtomicU64 as ProcessCount;
pub(crate) use std::sync::atomic::Ordering;

/// A thread that was started here and can be waited for.
pub(crate) type JoinHandle = primitives::thread::JoinHandle<()>;

/// The thread that asks.
pub(crate) fn current_thread() -> primitives::thread::ThreadId {
    primitives::thread::current().id()
}

/// Lets other threads run.
pub(crate) fn yield_now() {
    primitives::thread::yield_now();
}

/// Starts a named thread.
pub(crate) fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> std::io::Result<JoinHandle> {
    primitives::thread::Builder::new().name(name.to_owned()).spawn(body)
}
