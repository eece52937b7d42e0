//! What the clock says, as pure functions of what was committed and of the time of day.

use crate::options::Clock;
use crate::{Error, Result, Timestamp};

/// How many bits of a hybrid timestamp count within a millisecond.
const COUNTER_BITS: u32 = 16;

impl Clock {
    /// The timestamp of the next commit that names none: above the `last` one, above what is `closed`, and above every
    /// `floor` (S11, L6).
    pub(crate) fn next(
        self,
        last: Timestamp,
        closed: Timestamp,
        floor: Timestamp,
        unix_millis: u64,
    ) -> Result<Timestamp> {
        let above = last.max(closed).max(floor).saturating_add(1);
        let next = match self {
            Self::Counter => above,
            Self::Hybrid => above.max(hybrid(unix_millis)),
        };
        if next == Timestamp::MAX { Err(Error::invalid("the clock has no timestamp left")) } else { Ok(next) }
    }

    /// The moment that latest reads judge expiry by. `passed` is the highest moment that was given out before: what has
    /// expired stays expired while the database is open, also when the wall clock is set back.
    pub(crate) fn now(self, last: Timestamp, passed: Timestamp, unix_millis: u64) -> Timestamp {
        match self {
            Self::Counter => last,
            Self::Hybrid => hybrid(unix_millis).max(last).max(passed),
        }
    }
}

/// The first timestamp of a millisecond; of the last one that has timestamps, beyond it.
fn hybrid(unix_millis: u64) -> Timestamp {
    unix_millis.min(Timestamp::MAX >> COUNTER_BITS) << COUNTER_BITS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_goes_on_above_all_that_bounds_it() {
        for (last, closed, floor, next) in [(0, 0, 0, 1), (7, 3, 2, 8), (7, 9, 2, 10), (7, 9, 11, 12)] {
            assert_eq!(Clock::Counter.next(last, closed, floor, 1 << 40).unwrap(), next);
        }
    }

    #[test]
    fn a_hybrid_clock_follows_the_time_of_day_and_never_runs_backwards() {
        let next = |last, millis| Clock::Hybrid.next(last, 0, 0, millis).unwrap();
        assert_eq!(next(0, 0), 1);
        assert_eq!(next(0, 5), 5 << 16);
        assert_eq!(next(5 << 16, 5), (5 << 16) + 1);
        assert_eq!(next((5 << 16) + 0xffff, 5), 6 << 16, "a full millisecond runs into the next");
        assert_eq!(next(9 << 16, 5), (9 << 16) + 1, "the wall clock was set back");
        assert_eq!(Clock::Hybrid.next(1, 8 << 16, 9 << 16, 5).unwrap(), (9 << 16) + 1);
    }

    #[test]
    fn a_clock_with_nothing_left_says_so() {
        for clock in [Clock::Counter, Clock::Hybrid] {
            let top = Timestamp::MAX - 1;
            assert_eq!(clock.next(top - 1, 0, 0, 0).unwrap(), top);
            for (last, closed, floor) in [(top, 0, 0), (0, top, 0), (0, 0, top), (Timestamp::MAX, 0, 0)] {
                assert!(matches!(clock.next(last, closed, floor, 0), Err(Error::InvalidArgument(_))));
            }
        }
        let end_of_time = Clock::Hybrid.next(0, 0, 0, u64::MAX).unwrap();
        assert_eq!(end_of_time, 0xffff_ffff_ffff_0000);
        assert_eq!(Clock::Hybrid.next(end_of_time, 0, 0, u64::MAX).unwrap(), end_of_time + 1);
    }

    #[test]
    fn an_expiry_that_has_passed_does_not_un_pass() {
        assert_eq!(Clock::Counter.now(7, 9, 1 << 40), 7);
        assert_eq!(Clock::Hybrid.now(7, 0, 5), 5 << 16);
        assert_eq!(Clock::Hybrid.now(9 << 16, 0, 5), 9 << 16);
        assert_eq!(Clock::Hybrid.now(7, 8 << 16, 5), 8 << 16);
    }
}
