//! Finds the log in a directory and replays it. Reads only: what has to be written after it is in the answer.
//!
//! 1. List the directory and read the header of every segment.
//! 2. [`plan`](super::plan): which of them may be live, in which order.
//! 3. Survey all record headers for the highest position that is proved synced.
//! 4. Replay from the start until something is not valid or does not go on.
//! 5. [`Plan::ending`]: may the log end there? If so, what is dead, and which cut says so from now on?

use std::path::Path;

use super::LogPosition;
use super::plan::{Cut, Ending, Expectation, Link, LogStart, Plan, Reached, plan};
use super::reader::{RecordRef, SegmentReader};
use super::record::{CLOSE, COMMIT, MANIFEST_MARK, NEWEST_KIND, RECORD_HEADER_LEN};
use super::segment::{SEGMENT_HEADER_LEN, SegmentInfo};
use crate::Result;
use crate::error::{AtPath, Error};
use crate::format::{DecodeError, Decoder, FileKind, FileNumber, MAY_SKIP, parse_file_name};
use crate::fs::{Fs, Purpose};

/// What recovery found.
#[derive(Debug)]
pub(crate) struct Recovered {
    /// Where the log ends and the next segment starts.
    pub(crate) next: LogStart,
    /// If any: to be made durable in the manifest before anything new is written or anything dead removed.
    pub(crate) cut: Option<Cut>,
    /// The live segments, oldest first.
    pub(crate) segments: Vec<SegmentInfo>,
    /// Segments to be removed, after [`sync_survivors`]: a power cut must not leave neither them nor what replaces
    /// them.
    pub(crate) dead: Vec<FileNumber>,
    /// The furthest manifest mark: of the manifest with this number, this many bytes are on stable storage.
    pub(crate) manifest_proof: Option<(FileNumber, u64)>,
    /// Whether the log was closed in order.
    pub(crate) clean: bool,
}

impl Recovered {
    pub(crate) fn end(&self) -> LogPosition {
        self.next.position
    }
}

/// Replays the log of `dir`: gives `apply` every record at or above the start that is expected, in order.
pub(crate) fn recover(
    fs: &dyn Fs,
    dir: &Path,
    expectation: &Expectation,
    apply: &mut dyn FnMut(RecordRef<'_>) -> Result<()>,
) -> Result<Recovered> {
    let numbers = list(fs, dir)?;
    let mut found = Vec::with_capacity(numbers.len());
    let mut bytes = 0u64;
    for number in &numbers {
        let mut reader = SegmentReader::open(fs, dir, *number)?;
        bytes = bytes.saturating_add(reader.len);
        found.push((*number, reader.header()?));
    }
    let plan = plan(found, expectation).map_err(|number| {
        Error::corruption(FileKind::Log.path(dir, number), 0, "another segment has the same ordinal")
    })?;
    let proved = survey(fs, dir, &plan, expectation, bytes)?;
    let replayed = replay(fs, dir, &plan, expectation, apply)?;
    let reached = Reached { live: replayed.segments.len(), end: replayed.end, torn: replayed.torn, proved };
    let (next_ordinal, cut) = match plan.ending(reached, expectation) {
        Ending::Here { next_ordinal, cut } => (next_ordinal, cut),
        Ending::Missing { ordinal } => {
            let reason = format!("missing segment: the log segment with ordinal {ordinal} is gone");
            return Err(Error::corruption(dir, 0, reason));
        }
        Ending::BadHeader { number, damage } => return Err(damage.in_file(FileKind::Log.path(dir, number), 0)),
        Ending::BadRecord => {
            let last = replayed.segments.last().map_or(FileNumber::default(), |last| last.number);
            let reason = format!("the log ends here, though it was synced up to position {proved}");
            return Err(Error::corruption(FileKind::Log.path(dir, last), replayed.end_offset, reason));
        }
    };
    let live = |number: &FileNumber| replayed.segments.iter().any(|segment| segment.number == *number);
    Ok(Recovered {
        next: LogStart { ordinal: next_ordinal, position: replayed.end },
        cut,
        dead: numbers.iter().copied().filter(|number| !live(number)).collect(),
        manifest_proof: replayed.manifest_proof,
        clean: replayed.closed && cut.is_none(),
        segments: replayed.segments,
    })
}

/// Makes durable what was replayed: it may have been in the page cache only. To be done before the log goes on in a new
/// segment, whose header says that all before it is synced.
pub(crate) fn sync_survivors(fs: &dyn Fs, dir: &Path, recovered: &Recovered) -> Result<()> {
    for segment in &recovered.segments {
        let path = FileKind::Log.path(dir, segment.number);
        fs.sync_file(Purpose::Log, &path).at_path(&path)?;
    }
    if recovered.segments.is_empty() { Ok(()) } else { fs.sync_dir(Purpose::Directory, dir).at_path(dir) }
}

/// The numbers of all segments, rising.
fn list(fs: &dyn Fs, dir: &Path) -> Result<Vec<FileNumber>> {
    let entries = fs.list(Purpose::Directory, dir).at_path(dir)?;
    let names = entries.iter().filter(|entry| entry.is_file).filter_map(|entry| parse_file_name(&entry.name));
    let mut numbers: Vec<_> = names.filter(|(kind, _)| *kind == FileKind::Log).map(|(_, number)| number).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// The highest position that anything proves synced. `bytes` is how much all segments hold.
fn survey(fs: &dyn Fs, dir: &Path, plan: &Plan, expectation: &Expectation, bytes: u64) -> Result<LogPosition> {
    let mut proved = expectation.proved.position.max(expectation.start.position);
    let mut highest = proved;
    for link in &plan.chain {
        let (from, limit) = bounds(link, expectation);
        let found =
            SegmentReader::open(fs, dir, link.number)?.survey(from, limit, |offset| link.header.position_at(offset))?;
        proved = proved.max(link.header.synced).max(found);
        highest = highest.max(link.header.start);
    }
    // Where a segment without a header starts is not known; its records still prove what lies before it. No position
    // can be further than all bytes behind the highest start that is known.
    let highest = LogPosition(highest.0.saturating_add(bytes));
    for (number, _) in &plan.damaged {
        let found = SegmentReader::open(fs, dir, *number)?.survey(SEGMENT_HEADER_LEN as u64, u64::MAX, |_| highest)?;
        proved = proved.max(found);
    }
    Ok(proved)
}

/// From which offset, and up to which, a segment counts.
fn bounds(link: &Link, expectation: &Expectation) -> (u64, u64) {
    let limit = expectation.limit(link.header.ordinal).map_or(u64::MAX, |limit| link.header.offset_of(limit));
    (link.header.offset_of(expectation.start.position.max(link.header.start)), limit)
}

struct Replayed {
    end: LogPosition,
    /// Where the end lies in the last segment.
    end_offset: u64,
    /// Whether the last segment has anything but zeros behind the end.
    torn: bool,
    segments: Vec<SegmentInfo>,
    manifest_proof: Option<(FileNumber, u64)>,
    /// Whether a close is the last thing in the log.
    closed: bool,
}

fn replay(
    fs: &dyn Fs,
    dir: &Path,
    plan: &Plan,
    expectation: &Expectation,
    apply: &mut dyn FnMut(RecordRef<'_>) -> Result<()>,
) -> Result<Replayed> {
    let mut replayed = Replayed {
        end: expectation.start.position,
        end_offset: 0,
        torn: false,
        segments: Vec::new(),
        manifest_proof: None,
        closed: false,
    };
    let mut last = None;
    for (index, link) in plan.chain.iter().enumerate() {
        if !plan.goes_on(index, replayed.end, expectation) {
            break;
        }
        let Link { number, header } = *link;
        replayed.closed = false;
        let mut reader = SegmentReader::open(fs, dir, number)?;
        let (from, limit) = bounds(link, expectation);
        // A file that ends before the start has lost what was synced.
        let mut offset = from.min(reader.len.max(SEGMENT_HEADER_LEN as u64));
        while let Some(record) = reader.record(offset, &header, limit)? {
            let path = || FileKind::Log.path(dir, number);
            match record.kind {
                COMMIT => apply(record)?,
                MANIFEST_MARK => {
                    let payload = offset.saturating_add(RECORD_HEADER_LEN as u64);
                    let mark = manifest_mark(record.payload).map_err(|error| error.in_file(path(), payload))?;
                    replayed.manifest_proof = replayed.manifest_proof.max(Some(mark));
                }
                kind if kind & MAY_SKIP != 0 => {}
                kind => {
                    let (found, supported) = (u32::from(kind), u32::from(NEWEST_KIND));
                    return Err(Error::UnsupportedFormat { path: path(), found, supported });
                }
            }
            replayed.closed = record.kind == CLOSE;
            offset = header.offset_of(record.end);
        }
        (replayed.end, replayed.end_offset) = (header.position_at(offset), offset);
        let (ordinal, start) = (header.ordinal, header.start);
        replayed.segments.push(SegmentInfo { number, ordinal, start, end: replayed.end });
        last = Some((reader, limit));
    }
    if let Some((mut reader, limit)) = last {
        replayed.torn = !reader.is_zero(replayed.end_offset, limit)?;
    }
    Ok(replayed)
}

fn manifest_mark(payload: &[u8]) -> Result<(FileNumber, u64), DecodeError> {
    let mut decoder = Decoder::new(payload);
    let mark = (FileNumber(decoder.u64()?), decoder.u64()?);
    if decoder.is_empty() { Ok(mark) } else { Err(decoder.error("a manifest mark is too long")) }
}
