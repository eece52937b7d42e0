//! Which segments are the log, and how it may end: decisions over plain data, without a file.

use super::LogPosition;
use super::segment::SegmentHeader;
use crate::format::{DecodeError, FileNumber};

/// Where a log, or what is needed of it, starts: a position, and the ordinal of the segment that holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LogStart {
    /// Ordinals begin at 1.
    pub(crate) ordinal: u64,
    pub(crate) position: LogPosition,
}

/// The log ended at `end` in segment `ordinal`, and went on there in segment `next_ordinal`. What lay between is dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cut {
    pub(crate) ordinal: u64,
    pub(crate) end: LogPosition,
    pub(crate) next_ordinal: u64,
}

/// What is known to be on stable storage: the log up to a position, and the segment `ordinal` (0: none).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Proof {
    pub(crate) ordinal: u64,
    pub(crate) position: LogPosition,
}

/// What the manifest knows of the log.
#[derive(Debug, Clone)]
pub(crate) struct Expectation {
    /// Nothing before is needed; all before was on stable storage when it became so (L4).
    pub(crate) start: LogStart,
    pub(crate) cuts: Vec<Cut>,
    pub(crate) proved: Proof,
}

impl Expectation {
    /// Where the segment was cut, if it was.
    pub(super) fn limit(&self, ordinal: u64) -> Option<LogPosition> {
        self.cuts.iter().filter(|cut| cut.ordinal == ordinal).map(|cut| cut.end).min()
    }

    /// Which segment follows.
    fn after(&self, ordinal: u64) -> u64 {
        let cut = self.cuts.iter().filter(|cut| cut.ordinal == ordinal).map(|cut| cut.next_ordinal).max();
        cut.unwrap_or(ordinal.saturating_add(1))
    }

    fn is_dead(&self, ordinal: u64) -> bool {
        ordinal < self.start.ordinal || self.cuts.iter().any(|cut| cut.ordinal < ordinal && ordinal < cut.next_ordinal)
    }

    /// The least ordinal that neither the manifest nor `seen` (the highest ordinal in the directory) knows as used.
    fn unused(&self, seen: u64) -> u64 {
        let cuts = self.cuts.iter().map(|cut| cut.next_ordinal).max().unwrap_or(0);
        self.start.ordinal.max(cuts).max(self.proved.ordinal.saturating_add(1)).max(seen.saturating_add(1))
    }
}

/// A segment whose header is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) number: FileNumber,
    pub(super) header: SegmentHeader,
}

/// All segments of a directory, sorted into what they may be.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// Those that may be live, in the order of the log.
    pub(super) chain: Vec<Link>,
    /// Those without a valid header.
    pub(super) damaged: Vec<(FileNumber, DecodeError)>,
    /// Those that the manifest declares dead: below what is needed, or cut off.
    pub(super) dead: Vec<FileNumber>,
    /// The highest ordinal seen.
    pub(super) seen: u64,
}

/// Sorts the segments of a directory. Two live segments with one ordinal are an error: the number of the second.
pub(super) fn plan(
    found: Vec<(FileNumber, Result<SegmentHeader, DecodeError>)>,
    expectation: &Expectation,
) -> Result<Plan, FileNumber> {
    let mut plan = Plan { chain: Vec::new(), damaged: Vec::new(), dead: Vec::new(), seen: 0 };
    for (number, header) in found {
        match header {
            Err(damage) => plan.damaged.push((number, damage)),
            Ok(header) => {
                plan.seen = plan.seen.max(header.ordinal);
                if expectation.is_dead(header.ordinal) {
                    plan.dead.push(number);
                } else {
                    plan.chain.push(Link { number, header });
                }
            }
        }
    }
    plan.chain.sort_by_key(|link| (link.header.ordinal, link.number));
    for (one, two) in plan.chain.iter().zip(plan.chain.iter().skip(1)) {
        if one.header.ordinal == two.header.ordinal {
            return Err(two.number);
        }
    }
    // The manifest's ordinal may be that of an earlier segment than the one that holds the position.
    let needless = plan.chain.iter().skip(1).take_while(|next| next.header.start <= expectation.start.position).count();
    plan.dead.extend(plan.chain.drain(..needless).map(|link| link.number));
    Ok(plan)
}

/// How far replay came: the live segments are the first `live` of the chain.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reached {
    pub(super) live: usize,
    pub(super) end: LogPosition,
    /// Whether anything but zeros lies behind the end in its segment, up to where that was cut.
    pub(super) torn: bool,
    /// The highest position proved synced.
    pub(super) proved: LogPosition,
}

/// How the log ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// Here, and a new segment gets this ordinal; with a cut, once that is durable.
    Here { next_ordinal: u64, cut: Option<Cut> },
    /// It should go on in a segment that is not there.
    Missing { ordinal: u64 },
    /// It should go on in a segment whose header is not valid.
    BadHeader { number: FileNumber, damage: DecodeError },
    /// It should go on where no valid record is.
    BadRecord,
}

impl Plan {
    /// Whether the chain's segment at `index` goes on where the one before it ended (or, as the first, holds the start).
    pub(super) fn goes_on(&self, index: usize, end: LogPosition, expectation: &Expectation) -> bool {
        let Some(link) = self.chain.get(index) else { return false };
        match index.checked_sub(1).and_then(|before| self.chain.get(before)) {
            None => link.header.start <= expectation.start.position,
            Some(before) => link.header.start == end && link.header.ordinal == expectation.after(before.header.ordinal),
        }
    }

    /// Whether the log may end where replay stopped, and what that entails (L1).
    pub(super) fn ending(&self, reached: Reached, expectation: &Expectation) -> Ending {
        let last = reached.live.checked_sub(1).and_then(|last| self.chain.get(last));
        let following = last.map_or(expectation.start.ordinal, |last| expectation.after(last.header.ordinal));
        let later = self.chain.get(reached.live);
        if reached.end < reached.proved || following <= expectation.proved.ordinal {
            return self.broken(last, following, later, reached.torn, expectation.proved.ordinal);
        }
        // A header that cannot be read may have had any of the ordinals that come next.
        let unreadable = self.unreadable_after(last).count();
        let next_ordinal = expectation.unused(self.seen).saturating_add(unreadable as u64);
        let moved = last.is_some_and(|last| {
            next_ordinal != following
                || expectation.limit(last.header.ordinal).is_some_and(|limit| limit != reached.end)
        });
        let ordinal = last.map_or(expectation.start.ordinal.saturating_sub(1), |last| last.header.ordinal);
        let cut = Cut { ordinal, end: reached.end, next_ordinal };
        let needed = reached.torn || moved || later.is_some() || unreadable > 0;
        Ending::Here { next_ordinal, cut: needed.then_some(cut) }
    }

    /// Names what is wrong with a log that ends below what is proved.
    fn broken(
        &self,
        last: Option<&Link>,
        following: u64,
        later: Option<&Link>,
        torn: bool,
        proved_ordinal: u64,
    ) -> Ending {
        if last.is_some() && (torn || later.is_some_and(|later| later.header.ordinal == following)) {
            return Ending::BadRecord;
        }
        let in_gap = |number: FileNumber| later.is_none_or(|later| number < later.number);
        match self.unreadable_after(last).find(|(number, _)| in_gap(*number)) {
            Some((number, damage)) => Ending::BadHeader { number: *number, damage: *damage },
            // The last segment's records are gone, but for the zeros in their place.
            None if last.is_some() && later.is_none() && following > proved_ordinal => Ending::BadRecord,
            None => Ending::Missing { ordinal: following },
        }
    }

    /// The segments behind `last` whose header is not valid: file numbers rise with ordinals.
    fn unreadable_after(&self, last: Option<&Link>) -> impl Iterator<Item = &(FileNumber, DecodeError)> {
        let behind = last.map(|last| last.number);
        self.damaged.iter().filter(move |(number, _)| behind.is_none_or(|behind| behind < *number))
    }
}
