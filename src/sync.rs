//! Locks, atomics and threads: the one door through which the engine gets them, so that a model checker can stand
//! behind it.

pub(crate) use parking_lot::{Condvar, Mutex, MutexGuard, RwLock};
pub(crate) use std::sync::Arc;
pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// A thread that was started here and can be waited for.
pub(crate) type JoinHandle = std::thread::JoinHandle<()>;

/// Starts a named thread.
pub(crate) fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> std::io::Result<JoinHandle> {
    std::thread::Builder::new().name(name.to_owned()).spawn(body)
}
