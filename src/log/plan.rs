//! Which segments are the log, and how it may end: decisions over plain data, without a file.

use std::cmp::Reverse;

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
    /// Nothing before is needed: tables hold it (L4).
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
    pub(super) fn after(&self, ordinal: u64) -> u64 {
        let cut = self.cuts.iter().filter(|cut| cut.ordinal == ordinal).map(|cut| cut.next_ordinal).max();
        cut.unwrap_or(ordinal.saturating_add(1))
    }

    /// Which segment comes before.
    pub(super) fn before(&self, ordinal: u64) -> u64 {
        let cut = self.cuts.iter().filter(|cut| cut.next_ordinal == ordinal).map(|cut| cut.ordinal).max();
        cut.unwrap_or(ordinal.saturating_sub(1))
    }

    /// Which segment is the first: where a cut stands at the very start, nothing is needed of the segment that it cuts.
    pub(super) fn first(&self) -> u64 {
        let cut = |cut: &&Cut| cut.ordinal == self.start.ordinal && cut.end <= self.start.position;
        self.cuts.iter().filter(cut).map(|cut| cut.next_ordinal).max().unwrap_or(self.start.ordinal)
    }

    pub(super) fn is_dead(&self, ordinal: u64) -> bool {
        ordinal < self.first() || self.cuts.iter().any(|cut| cut.ordinal < ordinal && ordinal < cut.next_ordinal)
    }

    /// The least ordinal that neither the manifest nor `seen` (the highest ordinal in the directory) knows as used.
    pub(super) fn unused(&self, seen: u64) -> u64 {
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
    /// Those that the manifest declares dead, below what is needed or cut off; and what an opening began that came to
    /// nothing, where a later one has used its ordinal.
    pub(super) dead: Vec<FileNumber>,
    /// The highest ordinal seen.
    pub(super) seen: u64,
}

/// Sorts the segments of a directory.
pub(super) fn plan(found: Vec<(FileNumber, Result<SegmentHeader, DecodeError>)>, expectation: &Expectation) -> Plan {
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
    // An opening that fails removes what it began, and that removal may be undone: the newest of an ordinal counts.
    plan.chain.sort_by_key(|link| (link.header.ordinal, Reverse(link.number)));
    plan.chain.dedup_by(|later, kept| {
        let is_double = later.header.ordinal == kept.header.ordinal;
        plan.dead.extend(is_double.then_some(later.number));
        is_double
    });
    // The manifest's ordinal may be that of an earlier segment than the one that holds the position. One that starts
    // just there may be a copy of the tail that was not finished: then the one before is needed.
    let needless = plan.chain.iter().skip(1).take_while(|next| next.header.start < expectation.start.position).count();
    plan.dead.extend(plan.chain.drain(..needless).map(|link| link.number));
    plan
}

/// How far replay came: the live segments are the first `live` of the chain.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reached {
    pub(super) live: usize,
    pub(super) end: LogPosition,
    /// Whether anything but zeros lies behind the end in its segment, up to where that was cut.
    pub(super) torn: bool,
    /// The highest position proved synced; at least the one that is needed.
    pub(super) proved: LogPosition,
}

/// How the log ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// It may end where replay stopped. New segments begin with this ordinal, at what is proved; with a cut, once that
    /// is durable. What lies behind in the old ones is dead from then on, and has to be in the new ones by then.
    Here { next_ordinal: u64, cut: Option<Cut> },
    /// It should go on in a segment that is not there.
    Missing { ordinal: u64 },
    /// It should go on in a segment whose header is not valid.
    BadHeader { number: FileNumber, damage: DecodeError },
    /// It should go on where no valid record is.
    BadRecord,
}

impl Plan {
    /// Whether the chain's segment at `index` goes on where the one before it ended (or, as the first, holds the
    /// start).
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
        let following = last.map_or(expectation.first(), |last| expectation.after(last.header.ordinal));
        let later = self.chain.get(reached.live);
        if reached.end < reached.proved || following <= expectation.proved.ordinal {
            return self.broken(last, following, later, reached.torn, expectation.proved.ordinal);
        }
        // Of a segment in which nothing is proved not even the name is; that nothing before the start is needed proves
        // nothing.
        let end = reached.proved;
        let has_proof = |link: &&Link| link.header.start < end && expectation.start.position < end;
        let kept = self.chain.iter().take(reached.live).take_while(has_proof).count();
        let last = kept.checked_sub(1).and_then(|last| self.chain.get(last));
        // A header that cannot be read may have had any of the ordinals that come next.
        let unreadable = self.unreadable_after(last).count();
        let next_ordinal = expectation.unused(self.seen).saturating_add(unreadable as u64);
        let moved = last.is_some_and(|last| {
            let ordinal = last.header.ordinal;
            next_ordinal != expectation.after(ordinal) || expectation.limit(ordinal).is_some_and(|limit| limit != end)
        });
        let ordinal = last.map_or(expectation.start.ordinal, |last| last.header.ordinal);
        let needed = reached.torn || end < reached.end || moved || kept < self.chain.len() || unreadable > 0;
        Ending::Here { next_ordinal, cut: needed.then_some(Cut { ordinal, end, next_ordinal }) }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ordinal: u64, position: u64) -> LogStart {
        LogStart { ordinal, position: LogPosition(position) }
    }

    fn cut(ordinal: u64, end: u64, next_ordinal: u64) -> Cut {
        Cut { ordinal, end: LogPosition(end), next_ordinal }
    }

    fn expecting(start: LogStart, cuts: &[Cut]) -> Expectation {
        Expectation { start, cuts: cuts.to_vec(), proved: Proof::default() }
    }

    /// A segment whose file number is ten times its ordinal.
    fn segment(ordinal: u64, start: u64) -> (FileNumber, Result<SegmentHeader, DecodeError>) {
        let header = SegmentHeader { ordinal, start: LogPosition(start), synced: LogPosition(0) };
        (FileNumber(ordinal * 10), Ok(header))
    }

    fn damaged(number: u64) -> (FileNumber, Result<SegmentHeader, DecodeError>) {
        (FileNumber(number), Err(DecodeError { offset: 0, reason: "damaged".into() }))
    }

    fn reached(live: usize, end: u64, proved: u64) -> Reached {
        Reached { live, end: LogPosition(end), torn: false, proved: LogPosition(proved) }
    }

    fn ordinals(plan: &Plan) -> Vec<u64> {
        plan.chain.iter().map(|link| link.header.ordinal).collect()
    }

    #[test]
    fn below_the_start_and_between_cuts_is_dead() {
        let found = || vec![segment(2, 0), segment(3, 50), segment(4, 100), segment(5, 150), segment(7, 120)];
        let expectation = expecting(at(3, 60), &[cut(4, 120, 7)]);
        assert_eq!(ordinals(&plan(found(), &expectation)), [3, 4, 7]);
        // The start lies in a later segment than the ordinal says.
        assert_eq!(ordinals(&plan(found(), &expecting(at(3, 101), &[]))), [4, 5, 7]);
        assert_eq!(ordinals(&plan(found(), &expecting(at(3, 100), &[]))), [3, 4, 5, 7]);
        // Two of one ordinal.
        let doubled = plan(vec![segment(3, 0), (FileNumber(99), segment(3, 0).1)], &expectation);
        assert_eq!((doubled.chain[0].number, doubled.dead), (FileNumber(99), vec![FileNumber(30)]));
    }

    #[test]
    fn a_cut_says_which_segments_follow_each_other() {
        let expectation = expecting(at(3, 60), &[cut(4, 120, 7)]);
        for (ordinal, before, after) in [(4, 3, 7), (7, 4, 8), (8, 7, 9)] {
            assert_eq!((expectation.before(ordinal), expectation.after(ordinal)), (before, after), "{ordinal}");
        }
        // Of a log that was cut at its very start nothing but what follows is left.
        assert_eq!(expecting(at(1, 0), &[cut(1, 0, 2)]).first(), 2);
    }

    #[test]
    fn a_segment_goes_on_if_ordinal_and_start_follow() {
        let expectation = expecting(at(3, 60), &[cut(4, 120, 7)]);
        let plan = plan(vec![segment(3, 50), segment(4, 100), segment(7, 120)], &expectation);
        for (index, end, goes_on) in [(0, 60, true), (1, 100, true), (1, 99, false), (2, 120, true), (2, 121, false)] {
            assert_eq!(plan.goes_on(index, LogPosition(end), &expectation), goes_on, "{index} {end}");
        }
        assert!(!plan.goes_on(3, LogPosition(130), &expectation));
    }

    #[test]
    fn a_log_ends_where_nothing_proves_more_and_goes_on_from_what_is_proved() {
        type Found = Vec<(FileNumber, Result<SegmentHeader, DecodeError>)>;
        type Case<'a> = (&'a str, Found, &'a [Cut], Reached, u64, Option<Cut>);
        let start = at(3, 60);
        let two = || vec![segment(3, 50), segment(4, 90)];
        let cases: [Case<'_>; 12] = [
            ("in order", vec![segment(3, 50)], &[], reached(1, 90, 90), 4, None),
            ("torn", vec![segment(3, 50)], &[], Reached { torn: true, ..reached(1, 90, 90) }, 4, Some(cut(3, 90, 4))),
            ("later", vec![segment(3, 50), segment(5, 99)], &[], reached(1, 90, 90), 6, Some(cut(3, 90, 6))),
            ("no header", vec![segment(3, 50), damaged(40)], &[], reached(1, 90, 90), 5, Some(cut(3, 90, 5))),
            ("old without header", vec![damaged(29), segment(3, 50)], &[], reached(1, 90, 90), 4, None),
            ("cut and nothing new", vec![segment(3, 50)], &[cut(3, 90, 6)], reached(1, 90, 90), 6, None),
            ("before its cut", vec![segment(3, 50)], &[cut(3, 90, 6)], reached(1, 80, 80), 6, Some(cut(3, 80, 6))),
            ("none at all", vec![], &[cut(3, 60, 6)], reached(0, 60, 60), 6, None),
            ("a tail", vec![segment(3, 50)], &[], reached(1, 90, 70), 4, Some(cut(3, 70, 4))),
            ("a tail over two", two(), &[], reached(2, 120, 70), 5, Some(cut(3, 70, 5))),
            ("a tail with a segment", two(), &[], reached(2, 120, 90), 5, Some(cut(3, 90, 5))),
            ("all is tail", vec![segment(3, 60)], &[], reached(1, 90, 60), 4, Some(cut(3, 60, 4))),
        ];
        for (what, found, cuts, reached, next_ordinal, cut) in cases {
            let expectation = expecting(start, cuts);
            let ending = plan(found, &expectation).ending(reached, &expectation);
            assert_eq!(ending, Ending::Here { next_ordinal, cut }, "{what}");
        }
    }

    #[test]
    fn a_log_that_ends_below_what_is_proved_says_why() {
        let bad_header =
            Ending::BadHeader { number: FileNumber(40), damage: DecodeError { offset: 0, reason: "damaged".into() } };
        let torn = Reached { torn: true, ..reached(1, 90, 100) };
        for (what, found, reached, ending) in [
            ("a bad record", vec![segment(3, 50), segment(5, 120)], torn, Ending::BadRecord),
            ("records gone", vec![segment(3, 50), segment(4, 120)], reached(1, 90, 100), Ending::BadRecord),
            ("the tail gone", vec![segment(3, 50)], reached(1, 90, 100), Ending::BadRecord),
            (
                "a segment gone",
                vec![segment(3, 50), segment(5, 120)],
                reached(1, 90, 100),
                Ending::Missing { ordinal: 4 },
            ),
            ("a bad header", vec![segment(3, 50), damaged(40), segment(5, 120)], reached(1, 90, 100), bad_header),
            ("the first gone", vec![segment(4, 120)], reached(0, 60, 100), Ending::Missing { ordinal: 3 }),
            ("all gone", vec![], reached(0, 60, 100), Ending::Missing { ordinal: 3 }),
        ] {
            let expectation = expecting(at(3, 60), &[]);
            assert_eq!(plan(found, &expectation).ending(reached, &expectation), ending, "{what}");
        }
        let known = Proof { ordinal: 4, position: LogPosition(0) };
        let expectation = Expectation { proved: known, ..expecting(at(3, 60), &[]) };
        let ending = plan(vec![segment(3, 50)], &expectation).ending(reached(1, 90, 60), &expectation);
        assert_eq!(ending, Ending::Missing { ordinal: 4 });
        // Where the first segment was cut off whole, nothing of it is missing.
        let expectation = Expectation { cuts: vec![cut(3, 60, 5)], ..expectation };
        let ending = plan(vec![], &expectation).ending(reached(0, 60, 60), &expectation);
        assert_eq!(ending, Ending::Here { next_ordinal: 5, cut: None });
    }
}
