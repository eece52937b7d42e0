//! Time: what the engine asks of the world beside files and threads, so that a test can hold it. It draws no random numbers.

use crate::sync::{Arc, AtomicU64, Ordering};
use std::time::Duration;

/// Where the engine reads the time. The default is the system's clocks; a simulation gives its own.
pub trait Time: Send + Sync + 'static {
    /// Milliseconds since the Unix epoch. May jump, also backwards.
    fn unix_millis(&self) -> u64;

    /// Nanoseconds since some fixed moment; never runs backwards.
    fn monotonic_nanos(&self) -> u64;

    /// Waits. Back-pressure and rate limits wait through this only.
    fn sleep(&self, duration: Duration);
}

/// The system's clocks.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemTime;

#[expect(clippy::disallowed_methods, reason = "this is the seam")]
impl Time for SystemTime {
    fn unix_millis(&self) -> u64 {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    fn monotonic_nanos(&self) -> u64 {
        static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
        u64::try_from(START.get_or_init(std::time::Instant::now).elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn sleep(&self, duration: Duration) {
        std::thread::sleep(duration);
    }
}

/// A clock that stands still until it is told to move; `sleep` moves it. Clones share one time.
#[derive(Debug, Clone, Default)]
pub struct ManualTime {
    nanos: Arc<AtomicU64>,
}

impl ManualTime {
    /// A clock that stands at `unix_millis`.
    #[must_use]
    pub fn new(unix_millis: u64) -> Self {
        let time = Self::default();
        time.nanos.store(unix_millis.saturating_mul(1_000_000), Ordering::SeqCst);
        time
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        self.nanos.fetch_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX), Ordering::SeqCst);
    }

    /// Sets the wall clock, also backwards.
    pub fn set_unix_millis(&self, unix_millis: u64) {
        self.nanos.store(unix_millis.saturating_mul(1_000_000), Ordering::SeqCst);
    }
}

impl Time for ManualTime {
    fn unix_millis(&self) -> u64 {
        self.nanos.load(Ordering::SeqCst) / 1_000_000
    }

    fn monotonic_nanos(&self) -> u64 {
        self.nanos.load(Ordering::SeqCst)
    }

    fn sleep(&self, duration: Duration) {
        self.advance(duration);
    }
}
