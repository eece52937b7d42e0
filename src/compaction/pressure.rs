//! How much writers are slowed down when flushes and compactions lag, and how fast compactions may go (S38).
//!
//! ```text
//!  delay per byte
//!    |                 .|  stop
//!    |               .  |
//!    |           . '    |
//!    |______. '         |
//!    +-----|------------|---- how far the worst backlog is between its `slow` and its `stop`
//! ```
//!
//! The delay rises with the cube of the backlog, without a step: writers settle at the rate that compaction keeps up
//! with. It is owed by all writers together, a commit at a time; what a commit does not wait for itself the next ones
//! do.

use std::time::Duration;

/// What is left to do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Backlog {
    /// Files in level 0 of the keyspace that has the most.
    pub(crate) level0_files: u64,
    /// Bytes in level 0, over all keyspaces.
    pub(crate) level0_bytes: u64,
    /// What compactions owe, over all keyspaces (`Shape::debt_bytes`).
    pub(crate) debt_bytes: u64,
    /// Sealed memtables that are not flushed.
    pub(crate) sealed_bytes: u64,
}

/// Where writers are slowed down from, and where they are stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) slow: Backlog,
    pub(crate) stop: Backlog,
}

impl Limits {
    /// For memtables of `memtable_bytes`, of which `sealed` may wait, and levels of this base.
    pub(crate) fn new(memtable_bytes: u64, sealed: u64, level_base_bytes: u64) -> Self {
        let sealed = sealed.max(1);
        let level0 = memtable_bytes.max(level_base_bytes / 4);
        Self {
            slow: Backlog {
                level0_files: 12,
                level0_bytes: level0.saturating_mul(16),
                debt_bytes: level_base_bytes.saturating_mul(64).max(8 << 30),
                // One that waits is how it goes, and it may be a little larger; so the delay starts above it.
                sealed_bytes: (memtable_bytes.saturating_mul(sealed) / 4 * 3)
                    .max(memtable_bytes.saturating_add(memtable_bytes / 8)),
            },
            stop: Backlog {
                level0_files: 36,
                level0_bytes: level0.saturating_mul(48),
                debt_bytes: level_base_bytes.saturating_mul(512).max(64 << 30),
                sealed_bytes: memtable_bytes.saturating_mul(sealed + 1),
            },
        }
    }
}

/// What writers do about a backlog.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Pressure {
    /// What each committed byte costs the writers in time.
    pub(crate) nanos_per_byte: f64,
    /// Nothing is committed until the backlog shrinks.
    pub(crate) stop: bool,
}

impl Pressure {
    /// Just short of a stop: one megabyte a second.
    const MOST_NANOS_PER_BYTE: f64 = 1000.0;

    pub(crate) fn of(backlog: &Backlog, limits: &Limits) -> Self {
        let Limits { slow, stop } = limits;
        let parts = [
            part(backlog.level0_files, slow.level0_files, stop.level0_files),
            part(backlog.level0_bytes, slow.level0_bytes, stop.level0_bytes),
            part(backlog.debt_bytes, slow.debt_bytes, stop.debt_bytes),
            part(backlog.sealed_bytes, slow.sealed_bytes, stop.sealed_bytes),
        ];
        let worst = parts.into_iter().fold(0.0, f64::max);
        Self { nanos_per_byte: Self::MOST_NANOS_PER_BYTE * worst.min(1.0).powi(3), stop: worst >= 1.0 }
    }
}

/// Where `value` is on the way from `slow` (0) to `stop` (1).
fn part(value: u64, slow: u64, stop: u64) -> f64 {
    value.saturating_sub(slow) as f64 / stop.saturating_sub(slow).max(1) as f64
}

/// What writers owe. All of a database share one, so that together they keep the rate.
#[derive(Debug, Default)]
pub(crate) struct Pacer {
    /// When all is paid.
    paid_at: u64,
}

impl Pacer {
    /// A small commit waits this long at most.
    const LEAST_BOUND: u64 = 1_000_000;
    /// A huge one this long.
    const MOST_BOUND: u64 = 10_000_000;
    /// Beyond this, debt is forgiven: writers are not held when the backlog is long gone.
    const MOST_OWED: u64 = 100_000_000;

    /// How long a commit of so many bytes waits.
    pub(crate) fn take(&mut self, now_nanos: u64, bytes: u64, pressure: Pressure) -> Duration {
        if pressure.nanos_per_byte <= 0.0 {
            self.paid_at = now_nanos;
            return Duration::ZERO;
        }
        let cost = whole(bytes as f64 * pressure.nanos_per_byte);
        let owed = self.paid_at.saturating_sub(now_nanos).saturating_add(cost).min(Self::MOST_OWED);
        self.paid_at = now_nanos.saturating_add(owed);
        // 1 ms up to 64 KiB, then in proportion.
        let bound = bytes.saturating_mul(Self::LEAST_BOUND >> 16).clamp(Self::LEAST_BOUND, Self::MOST_BOUND);
        Duration::from_nanos(owed.min(bound))
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float cast saturates; delays are positive"
)]
fn whole(nanos: f64) -> u64 {
    nanos as u64
}

/// Holds compactions to a number of bytes a second. Takers wait for what they took: a large piece passes at once and
/// the next one waits for it, so pieces should be small (a block or a few).
#[derive(Debug)]
pub(crate) struct RateLimiter {
    bytes_per_second: u64,
    /// When all that was taken is paid for.
    paid_at: u64,
}

impl RateLimiter {
    /// What may be taken at once after a pause, in nanoseconds of the rate.
    const BURST: u64 = 50_000_000;

    pub(crate) fn new(bytes_per_second: u64) -> Self {
        Self { bytes_per_second: bytes_per_second.max(1), paid_at: 0 }
    }

    /// How long to wait after taking so many bytes.
    pub(crate) fn take(&mut self, now_nanos: u64, bytes: u64) -> Duration {
        let cost = u128::from(bytes) * 1_000_000_000 / u128::from(self.bytes_per_second);
        let start = self.paid_at.max(now_nanos.saturating_sub(Self::BURST));
        self.paid_at = start.saturating_add(u64::try_from(cost).unwrap_or(u64::MAX));
        Duration::from_nanos(self.paid_at.saturating_sub(now_nanos))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seam::{ManualTime, Time};

    const LIMITS: Limits = Limits {
        slow: Backlog { level0_files: 10, level0_bytes: 1000, debt_bytes: 5000, sealed_bytes: 100 },
        stop: Backlog { level0_files: 30, level0_bytes: 3000, debt_bytes: 50_000, sealed_bytes: 200 },
    };

    #[test]
    fn there_is_no_delay_below_the_threshold_and_no_step_above_it() {
        // S38
        let of = |debt_bytes| Pressure::of(&Backlog { debt_bytes, ..Backlog::default() }, &LIMITS);
        assert_eq!(of(5000), Pressure { nanos_per_byte: 0.0, stop: false });
        for debt in 5000..50_000 {
            let (before, after) = (of(debt), of(debt + 1));
            assert!(after.nanos_per_byte > before.nanos_per_byte, "at {debt}");
            assert!(after.nanos_per_byte - before.nanos_per_byte < 0.1, "a step at {debt}");
            assert!(!before.stop, "at {debt}");
        }
        assert!(of(50_000).stop && of(u64::MAX).stop);
        assert!(of(u64::MAX).nanos_per_byte <= Pressure::MOST_NANOS_PER_BYTE);
    }

    #[test]
    fn the_worst_backlog_counts() {
        let calm = Backlog { level0_files: 10, level0_bytes: 1000, debt_bytes: 5000, sealed_bytes: 100 };
        assert_eq!(Pressure::of(&calm, &LIMITS), Pressure::default());
        for stopped in [
            Backlog { level0_files: 30, ..calm },
            Backlog { level0_bytes: 3000, ..calm },
            Backlog { debt_bytes: 50_000, ..calm },
            Backlog { sealed_bytes: 200, ..calm },
        ] {
            assert!(Pressure::of(&stopped, &LIMITS).stop, "{stopped:?}");
        }
    }

    #[test]
    fn limits_leave_room_between_slow_and_stop() {
        for (memtable, sealed, base) in
            [(64 << 20, 4, 256 << 20), (1 << 12, 1, 1 << 12), (1 << 30, 1, 1 << 20), (0, 0, 0)]
        {
            let Limits { slow, stop } = Limits::new(memtable, sealed, base);
            assert!(slow.level0_files < stop.level0_files && slow.debt_bytes < stop.debt_bytes);
            assert!(slow.level0_bytes <= stop.level0_bytes && slow.sealed_bytes <= stop.sealed_bytes);
            // What a database holds as it goes is not a backlog.
            let usual = Backlog {
                level0_files: 4,
                level0_bytes: memtable * 4,
                debt_bytes: 1 << 30,
                sealed_bytes: memtable + memtable / 16,
            };
            assert_eq!(Pressure::of(&usual, &Limits::new(memtable, sealed, base)), Pressure::default());
        }
    }

    #[test]
    fn writers_together_keep_the_rate_and_each_waits_a_bounded_time() {
        // S38
        let pressure = Pressure { nanos_per_byte: 100.0, stop: false };
        let time = ManualTime::default();
        let mut pacer = Pacer::default();
        let commits = 10_000;
        for _ in 0..commits {
            let wait = pacer.take(time.monotonic_nanos(), 500, pressure);
            assert!(wait <= Duration::from_millis(1));
            time.sleep(wait);
        }
        assert_eq!(time.monotonic_nanos(), commits * 500 * 100);
        let huge = pacer.take(time.monotonic_nanos(), 1 << 30, pressure);
        assert_eq!(huge, Duration::from_millis(10));
        // The rest is owed by those that come next, until it is paid.
        time.sleep(huge);
        let mut waits = 0;
        while !pacer.take(time.monotonic_nanos(), 1, Pressure { nanos_per_byte: 1e-3, stop: false }).is_zero() {
            time.sleep(Duration::from_millis(1));
            waits += 1;
        }
        assert_eq!(waits, 90);
        // Without pressure there is nothing to pay.
        pacer.take(time.monotonic_nanos(), 1 << 30, pressure);
        assert_eq!(pacer.take(time.monotonic_nanos(), 1 << 30, Pressure::default()), Duration::ZERO);
        assert!(pacer.take(time.monotonic_nanos(), 1, pressure) < Duration::from_micros(1));
    }

    #[test]
    fn compaction_keeps_its_rate_over_any_pieces() {
        let mut pieces = [1, 100, 4096, 65_536, 1 << 20].into_iter().cycle();
        let time = ManualTime::new(1_000_000);
        let start = time.monotonic_nanos();
        let mut limiter = RateLimiter::new(10 << 20);
        let mut taken = 0;
        while time.monotonic_nanos() - start < 10_000_000_000 {
            let piece = pieces.next().unwrap();
            taken += piece;
            time.sleep(limiter.take(time.monotonic_nanos(), piece));
        }
        let rate = taken as f64 / 10.0 / (10 << 20) as f64;
        assert!((0.98..1.03).contains(&rate), "{rate}");
        // After a pause no more than the burst is free.
        time.sleep(Duration::from_secs(60));
        assert_eq!(limiter.take(time.monotonic_nanos(), (10 << 20) / 20), Duration::ZERO);
        assert!(!limiter.take(time.monotonic_nanos(), 1 << 20).is_zero());
    }
}
