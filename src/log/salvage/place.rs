//! Where segments lie in the log, and which of them count, where no manifest, and perhaps not even their header, says it.
//!
//! * **Order.** File numbers rise with ordinals, so segments are put in order by number, also those without a header.
//! * **Ends.** A segment's records end where a later segment starts: so a tail that a recovery once cut off, or copied,
//!   stays dead though the manifest, which holds the cut, be lost.
//! * **Without a header** a segment's start is what the next one's says, if its records reach to its end and no segment
//!   is missing between; else the least that it can be: so that no record knew more as synced than lay before it, and
//!   not before the end of the one before, unless an opening began it. A start that is too low makes records look as if tables had them; one too
//!   high would put them over newer versions (T2).

use std::path::Path;

use super::{FARTHEST, Salvaged};
use crate::Result;
use crate::format::{DecodeError, FileNumber};
use crate::fs::Fs;
use crate::log::LogPosition;
use crate::log::mark::ManifestMark;
use crate::log::plan::Expectation;
use crate::log::reader::SegmentReader;
use crate::log::record::{MANIFEST_MARK, is_of_commits};
use crate::log::recovery::list;
use crate::log::segment::{SEGMENT_HEADER_LEN, SegmentHeader};

/// Where the segments lie. They may be many, so each is open only while it is read.
#[derive(Clone, Copy)]
pub(super) struct Segments<'a> {
    pub(super) fs: &'a dyn Fs,
    pub(super) dir: &'a Path,
}

impl Segments<'_> {
    pub(super) fn open(self, number: FileNumber) -> Result<SegmentReader> {
        SegmentReader::open(self.fs, self.dir, number)
    }
}

/// A segment that may be live.
pub(super) struct Candidate {
    pub(super) number: FileNumber,
    pub(super) header: SegmentHeader,
    /// Why it has not its own header.
    pub(super) damage: Option<String>,
    /// Whether it starts just where `header` says, and not perhaps further on.
    is_placed: bool,
    /// Where a later segment starts.
    pub(super) limit: u64,
}

/// A header for reading records whose place in the log is not known.
pub(super) const UNKNOWN: SegmentHeader =
    SegmentHeader { ordinal: 0, start: LogPosition(FARTHEST), synced: LogPosition(0) };

/// The segments that are not known to be dead, in order.
pub(super) fn candidates(
    segments: Segments<'_>,
    expectation: &Expectation,
    salvaged: &mut Salvaged,
) -> Result<Vec<Candidate>> {
    let mut found = Vec::new();
    for number in list(segments.fs, segments.dir)? {
        let mut reader = segments.open(number)?;
        let header = reader.header()?.and_then(|header| {
            let is_sane = header.start.0 <= FARTHEST && header.ordinal <= FARTHEST;
            let reason = "it lies further on than any log comes".into();
            if is_sane { Ok(header) } else { Err(DecodeError { offset: 0, reason }) }
        });
        found.push((number, reader.len, header));
    }
    let seen = found.iter().filter_map(|(.., header)| Some(header.as_ref().ok()?.ordinal)).max().unwrap_or(0);
    let headless: u64 = found.iter().filter(|(.., header)| header.is_err()).map(|(_, len, _)| *len).sum();
    let unreadable = found.iter().filter(|(.., header)| header.is_err()).count() as u64;
    salvaged.next_ordinal = expectation.unused(seen).saturating_add(unreadable);
    let highest = found.iter().filter_map(|(.., header)| Some(header.as_ref().ok()?.start)).max();
    let known = highest.unwrap_or_default().max(expectation.start.position).max(expectation.proved.position);
    salvaged.end = LogPosition(known.0.saturating_add(headless));

    let mut candidates: Vec<Candidate> = Vec::new();
    let mut rest = found.into_iter().peekable();
    while let Some((number, _, header)) = rest.next() {
        let (header, is_placed, damage) = match header {
            Ok(header) => (header, true, None),
            Err(damage) => {
                let next = rest.peek().and_then(|(.., header)| header.as_ref().ok()).copied();
                let (inferred, is_placed) = infer(segments, number, candidates.last(), next, expectation)?;
                (inferred, is_placed, Some(format!("its header is damaged: {}", damage.reason)))
            }
        };
        // Not by an ordinal that is only inferred.
        if damage.is_none() && expectation.is_dead(header.ordinal) {
            continue;
        }
        let limit = expectation.limit(header.ordinal).map_or(u64::MAX, |limit| header.offset_of(limit));
        candidates.push(Candidate { number, header, damage, is_placed, limit });
    }
    cut_off(segments, candidates)
}

/// Ends each segment where a later one starts.
///
/// An opening that copies a tail begins a segment before it says so in the manifest. Until it has, the tail in its old
/// place counts; from then on the copy does, and the old place may be gone. What is new in the copy begins with a mark of
/// the new manifest. Where there is none such, whichever holds more counts: as far as both go they are the same.
fn cut_off(segments: Segments<'_>, found: Vec<Candidate>) -> Result<Vec<Candidate>> {
    let extents = found.iter().map(|candidate| extent(segments, candidate)).collect::<Result<Vec<_>>>()?;
    let mut live: Vec<(Candidate, Extent)> = Vec::new();
    for (at, (candidate, extent)) in found.into_iter().zip(&extents).enumerate() {
        let start = candidate.header.start;
        if candidate.is_placed {
            let goes_on = || extents.iter().skip(at).map(|extent| extent.marked).max();
            let before = live.iter().map(|(_, extent)| extent.marked).max();
            let within = live.iter().any(|(_, earlier)| start < earlier.end);
            if within && goes_on() <= before {
                let copied = reach(start, extents.iter().skip(at));
                if copied < reach(start, live.iter().map(|(_, extent)| extent)) {
                    continue;
                }
            }
            live.retain(|(earlier, _)| earlier.header.start <= start);
            for (earlier, _) in &mut live {
                earlier.limit = earlier.limit.min(earlier.header.offset_of(start));
            }
        }
        live.push((candidate, *extent));
    }
    Ok(live.into_iter().map(|(candidate, _)| candidate).collect())
}

/// What a segment holds.
#[derive(Clone, Copy)]
struct Extent {
    start: LogPosition,
    /// Where its first records end that follow each other.
    whole: LogPosition,
    /// Where its last record ends.
    end: LogPosition,
    /// The latest manifest that a record marks.
    marked: FileNumber,
}

/// How far segments in order hold everything from a position on.
fn reach<'a>(from: LogPosition, extents: impl Iterator<Item = &'a Extent>) -> LogPosition {
    extents.fold(from, |at, extent| if extent.start <= at { at.max(extent.whole) } else { at })
}

fn extent(segments: Segments<'_>, candidate: &Candidate) -> Result<Extent> {
    extent_of(&mut segments.open(candidate.number)?, &candidate.header, candidate.limit, &mut |_, _| {})
}

/// Reads all records of a segment. `look` gets the offset of each record header that is met, and what it knew as synced.
fn extent_of(
    reader: &mut SegmentReader,
    header: &SegmentHeader,
    limit: u64,
    look: &mut dyn FnMut(u64, LogPosition),
) -> Result<Extent> {
    let mut extent = Extent { start: header.start, whole: header.start, end: header.start, marked: FileNumber(0) };
    let mut offset = Some(SEGMENT_HEADER_LEN as u64);
    while let Some(at) = offset {
        if let Some(record) = reader.header_at(at, header)? {
            look(at, record.synced);
        }
        let Some(record) = reader.record(at, header, limit)? else {
            offset = reader.next_record(at, header, limit)?;
            continue;
        };
        if record.kind == MANIFEST_MARK
            && let Ok(mark) = ManifestMark::decode(record.payload)
        {
            extent.marked = extent.marked.max(mark.manifest);
        }
        if extent.whole == record.position {
            extent.whole = record.end;
        }
        extent.end = record.end;
        offset = Some(header.offset_of(record.end));
    }
    Ok(extent)
}

/// Where a segment without a header lies in the log, see the top of this file, and whether it starts just there.
fn infer(
    segments: Segments<'_>,
    number: FileNumber,
    before: Option<&Candidate>,
    next: Option<SegmentHeader>,
    expectation: &Expectation,
) -> Result<(SegmentHeader, bool)> {
    let reader = &mut segments.open(number)?;
    let (mut least, mut is_placed) = (LogPosition(0), false);
    let extent = extent_of(reader, &UNKNOWN, u64::MAX, &mut |offset, synced| {
        least = least.max(LogPosition(synced.0.saturating_sub(offset - SEGMENT_HEADER_LEN as u64)));
    })?;
    let whole = reader.is_zero(UNKNOWN.offset_of(extent.end), u64::MAX)?;
    let mut ordinal = next.map_or(expectation.first().max(1), |next| expectation.before(next.ordinal));
    if let Some(before) = before {
        ordinal = expectation.after(before.header.ordinal);
        let end = self::extent(segments, before)?.end;
        is_placed = begins_anew(reader, (before, &mut segments.open(before.number)?, end), least)?;
        if !is_placed {
            least = least.max(end);
        }
    }
    let follows = next.filter(|next| next.ordinal == expectation.after(ordinal) && whole);
    let start = follows.and_then(|next| next.start.0.checked_sub(extent.end.0 - UNKNOWN.start.0));
    let start = if is_placed { least } else { least.max(LogPosition(start.unwrap_or(0))) };
    Ok((SegmentHeader { ordinal, start, synced: LogPosition(0) }, is_placed))
}

/// Whether an opening began the segment, which then starts where the log was proved, and not where the one before ends.
/// It knew all as synced that lies before its first record, and has copied what lies behind, if that was any commit.
fn begins_anew(
    reader: &mut SegmentReader,
    (before, its_reader, its_end): (&Candidate, &mut SegmentReader, LogPosition),
    start: LogPosition,
) -> Result<bool> {
    let header = before.header;
    let first = reader.record(SEGMENT_HEADER_LEN as u64, &UNKNOWN, u64::MAX)?;
    let Some(first) = first.filter(|_| header.start <= start) else { return Ok(false) };
    let mut at = header.offset_of(start);
    let mut is_copy = true;
    while let Some(there) = its_reader.record(at, &header, before.limit)? {
        if is_copy && (there.kind, there.payload) == (first.kind, first.payload) {
            return Ok(true);
        }
        if is_of_commits(there.kind) {
            return Ok(false);
        }
        at = header.offset_of(there.end);
        is_copy = false;
    }
    // Nothing is there that had to be copied.
    Ok(start <= its_end && at >= header.offset_of(its_end))
}
