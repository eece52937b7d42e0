//! What is left of a log that recovery refuses.
//!
//! Salvage does with a log what [`recovery`](super::recovery) does, except that it goes on where that one gives up: a
//! place below the highest position proved synced, where no valid record lies, is a *hole*, and what lies behind it
//! counts. At and above that position the first such place is the end, as ever (L1): what a power cut tore never was.
//!
//! Where segments lie in the log, and which of them count, is in `place.rs`.
//!
//! Like recovery it writes nothing.

mod place;

use std::path::Path;

use super::LogPosition;
use super::mark::{ManifestMark, Standing};
use super::plan::Expectation;
use super::reader::{RecordRef, SegmentReader};
use super::record::{KEYSPACE, MANIFEST_MARK, NEWEST_KIND, is_of_commits};
use super::recovery::list;
use super::segment::{SEGMENT_HEADER_LEN, SegmentHeader};
use crate::Result;
use crate::error::Error;
use crate::format::{COUNTER_LIMIT, FileKind, FileNumber, MAY_SKIP, Reason};
use crate::fs::Fs;
use place::{Candidate, Segments, UNKNOWN, candidates};

/// No log comes as far as this, in positions or ordinals, and what says that it did is not believed: a database that went
/// on behind it would soon have none left.
pub(crate) const FARTHEST: u64 = COUNTER_LIMIT / 2;

/// What salvage found.
#[derive(Debug, Default)]
pub(crate) struct Salvaged {
    pub(crate) segments: Vec<SalvagedSegment>,
    /// Intact commits, and the bytes of their records.
    pub(crate) records: u64,
    pub(crate) bytes: u64,
    /// Bytes of records that are proved to have been there.
    pub(crate) lost_bytes: u64,
    /// From here on nothing is missing, ...
    pub(crate) whole_from: LogPosition,
    /// ... up to here.
    pub(crate) whole_until: LogPosition,
    /// Above every position that was ever given out.
    pub(crate) end: LogPosition,
    /// No segment ever had this ordinal or a higher one.
    pub(crate) next_ordinal: u64,
    /// Parts of the log of which no segment is there.
    pub(crate) missing: Vec<(LogPosition, LogPosition)>,
}

/// One segment, as far as something is wrong with it or it holds what the log has not.
#[derive(Debug)]
pub(crate) struct SalvagedSegment {
    pub(crate) number: FileNumber,
    pub(crate) reason: String,
}

/// What a log says of manifests and keyspaces.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Marks {
    /// The furthest: of this manifest so many bytes are on stable storage.
    pub(crate) furthest: Option<(FileNumber, u64)>,
    pub(crate) standing: Option<Standing>,
    /// What it says of keyspaces, in order: flags and payload.
    pub(crate) keyspaces: Vec<(u8, Vec<u8>)>,
}

/// Whether a record could be made use of.
pub(crate) type Usable = std::result::Result<(), Reason>;

/// Reads every mark, and every record of keyspaces, wherever an intact one lies.
pub(crate) fn marks(fs: &dyn Fs, dir: &Path) -> Result<Marks> {
    let mut marks = Marks::default();
    for number in list(fs, dir)? {
        let mut reader = SegmentReader::open(fs, dir, number)?;
        let header = reader.header()?.unwrap_or(UNKNOWN);
        let mut offset = Some(SEGMENT_HEADER_LEN as u64);
        while let Some(at) = offset {
            let Some(record) = reader.record(at, &header, u64::MAX)? else {
                offset = reader.next_record(at, &header, u64::MAX)?;
                continue;
            };
            if record.kind == KEYSPACE {
                marks.keyspaces.push((record.flags, record.payload.to_vec()));
            }
            if record.kind == MANIFEST_MARK
                && let Ok(mark) = ManifestMark::decode(record.payload)
            {
                marks.furthest = marks.furthest.max(Some((mark.manifest, mark.len)));
                marks.standing = Some(marks.standing.unwrap_or_default().max(mark.standing));
            }
            offset = Some(header.offset_of(record.end));
        }
    }
    Ok(marks)
}

/// Gives `apply` every intact commit in order. `from_start`: the log should be there from where `expectation` says that
/// it starts; else what is missing before the first segment is no loss.
pub(crate) fn salvage(
    fs: &dyn Fs,
    dir: &Path,
    expectation: &Expectation,
    from_start: bool,
    apply: &mut dyn FnMut(RecordRef<'_>) -> Result<Usable>,
) -> Result<Salvaged> {
    let mut salvaged = Salvaged::default();
    let segments = Segments { fs, dir };
    let mut candidates = candidates(segments, expectation, &mut salvaged)?;
    let proved = proved(segments, &candidates, expectation)?;
    salvaged.end = salvaged.end.max(proved);
    let mut at = from_start.then_some(expectation.start.position);
    salvaged.whole_from = expectation.start.position;
    let (mut ended, mut is_first) = (false, true);
    for candidate in &mut candidates {
        let start = candidate.header.start;
        if !ended && at.is_some_and(|at| at < start) {
            let before = at.unwrap_or_default();
            if before < proved {
                salvaged.lose(start.0 - before.0, start);
                salvaged.missing.push((before, start));
            } else {
                ended = true;
            }
        }
        // A header that nothing proves durable is torn, and with it all behind (L1).
        let is_named = candidate.header.ordinal <= expectation.proved.ordinal;
        ended |= candidate.damage.is_some() && !is_named && at.is_some_and(|at| at >= proved);
        let mut reasons: Vec<String> = candidate.damage.take().into_iter().collect();
        let mut reader = segments.open(candidate.number)?;
        if ended {
            if !reader.is_zero(SEGMENT_HEADER_LEN as u64, u64::MAX)? {
                reasons.push("lies behind the end of the log".to_owned());
            }
        } else {
            if is_first {
                salvaged.whole_from = start;
            }
            is_first = false;
            let walked = walk(dir, (candidate, &mut reader), expectation.start.position, proved, &mut salvaged, apply)?;
            let least = if from_start { expectation.start.position } else { LogPosition(0) };
            (at, ended) = (Some(walked.end.max(least)), walked.torn);
            salvaged.whole_until = salvaged.whole_until.max(walked.end);
            reasons.extend(walked.reasons);
        }
        if !reasons.is_empty() {
            salvaged.segments.push(SalvagedSegment { number: candidate.number, reason: reasons.join("; ") });
        }
    }
    if let Some(at) = at.filter(|at| *at < proved && !ended) {
        salvaged.lose(proved.0 - at.0, proved);
        salvaged.missing.push((at, proved));
    }
    salvaged.end = salvaged.end.max(at.unwrap_or_default());
    Ok(salvaged)
}

impl Salvaged {
    /// So many bytes are gone before a position.
    fn lose(&mut self, bytes: u64, before: LogPosition) {
        self.lost_bytes += bytes;
        self.whole_from = self.whole_from.max(before);
    }
}

/// The highest position that anything proves synced.
fn proved(segments: Segments<'_>, candidates: &[Candidate], expectation: &Expectation) -> Result<LogPosition> {
    let mut proved = expectation.proved.position.max(expectation.start.position);
    for candidate in candidates {
        let (header, limit) = (candidate.header, candidate.limit);
        let from = header.offset_of(expectation.start.position.max(header.start));
        let found = segments.open(candidate.number)?.survey(from, limit, |offset| match candidate.damage {
            None => header.position_at(offset),
            Some(_) => UNKNOWN.start,
        })?;
        proved = proved.max(found).max(header.synced);
    }
    Ok(proved)
}

struct Walked {
    end: LogPosition,
    /// The log ends here for good.
    torn: bool,
    reasons: Vec<String>,
}

/// Goes over the records of one segment. What lies before `start` is no loss.
fn walk(
    dir: &Path,
    (candidate, reader): (&Candidate, &mut SegmentReader),
    start: LogPosition,
    proved: LogPosition,
    salvaged: &mut Salvaged,
    apply: &mut dyn FnMut(RecordRef<'_>) -> Result<Usable>,
) -> Result<Walked> {
    let Candidate { number, header, limit, .. } = candidate;
    let (header, limit) = (*header, (*limit).min(reader.len));
    let mut walked = Walked { end: header.start, torn: false, reasons: Vec::new() };
    let mut offset = SEGMENT_HEADER_LEN as u64;
    loop {
        if let Some(record) = reader.record(offset, &header, limit)? {
            let len = record.end.0 - record.position.0;
            match record.kind {
                kind if is_of_commits(kind) => match apply(record)? {
                    Ok(()) => {
                        salvaged.records += 1;
                        salvaged.bytes += len;
                    }
                    Err(reason) => {
                        salvaged.lose(len, LogPosition(header.position_at(offset).0.saturating_add(len)));
                        walked.reasons.push(format!("the record at offset {offset} cannot be used: {reason}"));
                    }
                },
                kind if kind & MAY_SKIP != 0 => {}
                kind => {
                    let path = FileKind::Log.path(dir, *number);
                    return Err(Error::UnsupportedFormat { path, found: kind.into(), supported: NEWEST_KIND.into() });
                }
            }
            offset += len;
            continue;
        }
        walked.end = header.position_at(offset);
        if reader.is_zero(offset, limit)? {
            return Ok(walked);
        }
        if walked.end >= proved {
            walked.torn = true;
            walked.reasons.push(format!("torn at offset {offset}: nothing behind it was proved to be durable"));
            return Ok(walked);
        }
        let next = reader.next_record(offset, &header, limit)?.unwrap_or(limit);
        // Behind what is proved nothing is known to have been.
        let from = offset.max(header.offset_of(start));
        salvaged.lose(next.min(header.offset_of(proved)).saturating_sub(from), header.position_at(next));
        walked.reasons.push(format!("{} bytes at offset {offset} are no records", next - offset));
        offset = next;
        walked.end = header.position_at(offset);
        if offset >= limit {
            return Ok(walked);
        }
    }
}

impl SegmentReader {
    /// The first offset from `offset` on at which a valid record lies that ends by `limit`.
    fn next_record(&mut self, mut offset: u64, segment: &SegmentHeader, limit: u64) -> Result<Option<u64>> {
        let limit = limit.min(self.len);
        while offset < limit {
            offset = self.skip_zeros(offset, limit)?;
            if self.record(offset, segment, limit)?.is_some() {
                return Ok(Some(offset));
            }
            // The length in a header that is valid is believed: what lies within the record is a user's.
            offset = match self.record_len_at(offset, segment)? {
                Some(len) => offset.saturating_add(len),
                None => offset + 1,
            };
        }
        Ok(None)
    }

    fn record_len_at(&mut self, offset: u64, segment: &SegmentHeader) -> Result<Option<u64>> {
        Ok(self.header_at(offset, segment)?.map(|header| header.record_len()))
    }
}
