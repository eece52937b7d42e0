//! Finds the log in a directory and replays it. Reads only: what has to be written after it is in the answer.
//!
//! 1. List the directory and read the header of every segment.
//! 2. [`plan`](super::plan): which of them may be live, in which order.
//! 3. Survey all record headers for the highest position that is proved synced.
//! 4. Replay from the start until something is not valid or does not go on.
//! 5. [`Plan::ending`]: may the log end there? If so, what is dead, and which cut says so from now on?
//!
//! What lies above the highest position proved synced is the **tail**. It was read, so it may be in the page cache
//! only; and after a sync that failed the system takes it for written, so that no sync of these files proves anything
//! any more (L2). Who goes on writes it anew ([`copy_tail`]), and the old tail dies by the cut. What is below was synced
//! for good, names included, and needs nothing.

use std::path::Path;

use super::LogPosition;
use super::mark::ManifestMark;
use super::plan::{Cut, Ending, Expectation, Link, LogStart, Plan, Proof, Reached, plan};
use super::reader::{RecordRef, SegmentReader};
use super::record::{CLOSE, MANIFEST_MARK, NEWEST_KIND, RECORD_HEADER_LEN, is_of_commits};
use super::salvage::marks;
use super::segment::{SEGMENT_HEADER_LEN, SegmentHeader, SegmentInfo};
use super::writer::{Log, Records};
use crate::Result;
use crate::error::{AtPath, Error};
use crate::format::{FileKind, FileNumber, MAY_SKIP, parse_file_name};
use crate::fs::{Fs, Purpose};

/// What recovery found.
#[derive(Debug)]
pub(crate) struct Recovered {
    /// Where the next segment starts: at the highest position proved synced.
    pub(crate) next: LogStart,
    /// Nothing before is needed.
    start: LogPosition,
    /// Where the log ends: behind its last commit, if that lies in the tail. Marks and a close behind it speak of what
    /// the next manifest replaces.
    pub(crate) end: LogPosition,
    /// If any: to be made durable in the manifest, once the tail is, and before anything else is written or anything
    /// dead removed.
    pub(crate) cut: Option<Cut>,
    /// What was replayed, oldest first.
    pub(crate) segments: Vec<SegmentInfo>,
    /// Segments to be removed once the cut is durable: a power cut must not leave neither them nor what replaces them.
    pub(crate) dead: Vec<FileNumber>,
    /// The furthest manifest mark: of the manifest with this number, this many bytes are on stable storage.
    pub(crate) manifest_proof: Option<(FileNumber, u64)>,
    /// Whether the log was closed in order.
    pub(crate) clean: bool,
}

impl Recovered {
    /// The segments that stay, oldest first: what is needed of them was synced, their names too. Where the start is all
    /// that is proved, nothing is needed of them, and nothing says that they were synced.
    pub(crate) fn kept(&self) -> Vec<SegmentInfo> {
        let proved = self.next.position;
        let kept = self.segments.iter().filter(|segment| segment.start < proved && self.start < proved);
        kept.map(|segment| SegmentInfo { end: segment.end.min(proved), ..*segment }).collect()
    }

    /// What may be said of the log while there is nothing but what stays.
    pub(crate) fn proof(&self) -> Proof {
        Proof { ordinal: self.kept().last().map_or(0, |last| last.ordinal), position: self.next.position }
    }

    pub(crate) fn has_tail(&self) -> bool {
        self.next.position < self.end
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
    let plan = plan(found, expectation);
    let proved = survey(fs, dir, &plan, expectation, bytes)?;
    let replayed = replay(fs, dir, &plan, expectation, proved, apply)?;
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
    // Marks that replay has not come to are as true as others.
    let is_whole = reached.live == plan.chain.len() && !replayed.torn && plan.damaged.is_empty();
    let marked = if is_whole { None } else { marks(fs, dir)?.furthest };
    let mut recovered = Recovered {
        next: LogStart { ordinal: next_ordinal, position: proved },
        start: expectation.start.position,
        end: replayed.worth.max(proved),
        cut,
        dead: numbers,
        manifest_proof: replayed.manifest_proof.max(marked),
        clean: replayed.closed && !replayed.torn,
        segments: replayed.segments,
    };
    let kept = recovered.kept();
    recovered.dead.retain(|number| kept.iter().all(|kept| kept.number != *number));
    Ok(recovered)
}

/// Writes the tail anew, into a log that begins where the tail does, and syncs it. Records keep their positions. Until
/// the cut is durable nothing else may be appended: it would say that positions are synced which, in the old files, are
/// not.
pub(crate) fn copy_tail(fs: &dyn Fs, dir: &Path, recovered: &Recovered, log: &Log) -> Result<()> {
    let mut records = Records::default();
    for segment in recovered.segments.iter().filter(|segment| segment.end > recovered.next.position) {
        let header = SegmentHeader { ordinal: segment.ordinal, start: segment.start, synced: segment.start };
        let mut reader = SegmentReader::open(fs, dir, segment.number)?;
        let mut position = segment.start.max(recovered.next.position);
        while position < segment.end.min(recovered.end) {
            let offset = header.offset_of(position);
            let Some(record) = reader.record(offset, &header, u64::MAX)? else {
                let path = FileKind::Log.path(dir, segment.number);
                return Err(Error::corruption(path, offset, "a record was there a moment ago and is not any more"));
            };
            position = record.end;
            if !records.has_room(record.payload) {
                log.append_again(&records)?;
                records.clear();
            }
            if records.has_room(record.payload) {
                records.push(record.kind, record.flags, record.payload);
            } else {
                // A large one is not held twice.
                log.append(record.kind, record.flags, &[record.payload])?;
            }
        }
    }
    log.append_again(&records)?;
    log.sync_through(log.end())
}

/// The numbers of all segments, rising. What has a segment's name and is no file is met, and refused, when it is opened.
pub(super) fn list(fs: &dyn Fs, dir: &Path) -> Result<Vec<FileNumber>> {
    let entries = fs.list(Purpose::Directory, dir).at_path(dir)?;
    let names = entries.iter().filter_map(|entry| parse_file_name(&entry.name));
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
    /// Where the last record ends that is neither a mark nor a close.
    worth: LogPosition,
    /// Whether a close is the last thing in the log.
    closed: bool,
}

fn replay(
    fs: &dyn Fs,
    dir: &Path,
    plan: &Plan,
    expectation: &Expectation,
    proved: LogPosition,
    apply: &mut dyn FnMut(RecordRef<'_>) -> Result<()>,
) -> Result<Replayed> {
    let mut replayed = Replayed {
        end: expectation.start.position,
        end_offset: 0,
        torn: false,
        segments: Vec::new(),
        manifest_proof: None,
        worth: LogPosition::default(),
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
        let mut offset = from;
        while let Some(record) = reader.record(offset, &header, limit)? {
            let path = || FileKind::Log.path(dir, number);
            let RecordRef { position, kind, end, .. } = record;
            if position < proved && proved < end {
                // What is kept ends where the tail begins, and a record is in one of them.
                return Err(Error::corruption(
                    path(),
                    offset,
                    format!("the log was synced up to {proved}, within a record"),
                ));
            }
            match kind {
                kind if is_of_commits(kind) => apply(record)?,
                MANIFEST_MARK => {
                    let payload = offset.saturating_add(RECORD_HEADER_LEN as u64);
                    let mark = ManifestMark::decode(record.payload).map_err(|error| error.in_file(path(), payload))?;
                    replayed.manifest_proof = replayed.manifest_proof.max(Some((mark.manifest, mark.len)));
                }
                kind if kind & MAY_SKIP != 0 => {}
                kind => {
                    let (found, supported) = (u32::from(kind), u32::from(NEWEST_KIND));
                    return Err(Error::UnsupportedFormat { path: path(), found, supported });
                }
            }
            replayed.closed = kind == CLOSE;
            if ![MANIFEST_MARK, CLOSE].contains(&kind) {
                replayed.worth = end;
            }
            offset = header.offset_of(end);
        }
        // What a file that ends before the start has lost is not needed.
        let in_file = offset.min(reader.len.max(SEGMENT_HEADER_LEN as u64));
        (replayed.end, replayed.end_offset) = (header.position_at(offset), in_file);
        let (ordinal, start) = (header.ordinal, header.start);
        replayed.segments.push(SegmentInfo { number, ordinal, start, end: replayed.end });
        last = Some((reader, limit));
    }
    if let Some((mut reader, limit)) = last {
        replayed.torn = !reader.is_zero(replayed.end_offset, limit)?;
    }
    Ok(replayed)
}
