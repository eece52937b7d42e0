//! The log as it is written.
//!
//! * **Append**, under one lock: begin a new segment if the record does not fit, write the record, move the end.
//! * **Sync**, by one leader for all who wait: take the end and the files that may hold unsynced records, sync them
//!   oldest first, then the directory if it does not hold all their names durably, then say that all up to that end is
//!   synced. Appends go on meanwhile.
//! * **Failure** of any of it is final (L2): the first error is kept, and no file is written or synced again.

use std::path::PathBuf;

use super::LogPosition;
use super::group::GroupSync;
use super::mark::ManifestMark;
use super::plan::{LogStart, Proof};
use super::record::{CLOSE, MANIFEST_MARK, RECORD_HEADER_LEN, RecordHeader, payload_len};
use super::segment::{SEGMENT_HEADER_LEN, SegmentHeader, SegmentInfo};
use crate::Result;
use crate::error::{AtPath, Error};
use crate::format::{FileKind, FileNumber};
use crate::fs::{Fs, LogFile, Purpose};
use crate::sync::{Arc, AtomicBool, AtomicU64, Mutex, Ordering};

/// A record up to this size is put together in memory and written by one call.
const ASSEMBLED: usize = 64 << 10;
/// In a larger record, a part from this size on is written as it is.
const DIRECT: usize = 4 << 10;
/// So many segments are no matter, however little they hold.
const FEW_SEGMENTS: u64 = 16;

/// What the log needs from its surroundings.
pub(crate) struct LogEnv {
    pub(crate) fs: Arc<dyn Fs>,
    pub(crate) dir: PathBuf,
    /// How large a segment becomes, unless one record is larger.
    pub(crate) segment_bytes: u64,
    /// Gives the number of a new file, never one twice (S29). Called under the log's lock.
    pub(crate) new_number: Box<dyn Fn() -> Result<FileNumber> + Send + Sync>,
}

pub(crate) struct Log {
    env: LogEnv,
    writer: Mutex<Writer>,
    group: GroupSync,
    failure: Failure,
    /// Where the oldest live segment begins.
    start: AtomicU64,
    end: AtomicU64,
    synced: AtomicU64,
    syncs: AtomicU64,
}

struct Writer {
    /// The live segments, oldest first. The last is the active one; its end is [`Log::end`].
    segments: Vec<SegmentInfo>,
    /// Those of them that may hold unsynced records, the active one (the last) always.
    open: Vec<OpenSegment>,
    /// Where a record is put together.
    buffer: Vec<u8>,
    /// The newest segment that is on stable storage, its name too.
    durable_ordinal: u64,
    /// Which ordinal the next segment gets.
    next_ordinal: u64,
    closed: bool,
}

#[derive(Clone)]
struct OpenSegment {
    number: FileNumber,
    header: SegmentHeader,
    capacity: u64,
    file: Arc<dyn LogFile>,
}

impl OpenSegment {
    /// Whether there is room for a record of `len` bytes at `position`.
    fn holds(&self, position: LogPosition, len: u64) -> bool {
        self.header.offset_of(position).saturating_add(len) <= self.capacity
    }
}

impl Writer {
    /// How many segments lie wholly before `start`, and either before the one that it names or before a durable one.
    fn needless(&self, start: LogStart) -> usize {
        let kept_from = start.ordinal.max(self.durable_ordinal);
        let is_needless = |segment: &&SegmentInfo| segment.end <= start.position && segment.ordinal < kept_from;
        self.segments.iter().take_while(is_needless).count()
    }
}

/// Some records, one behind the other: kind, flags, payload.
#[derive(Default)]
pub(crate) struct Records {
    heads: Vec<(u8, u8, usize)>,
    payloads: Vec<u8>,
}

impl Records {
    pub(crate) fn push(&mut self, kind: u8, flags: u8, payload: &[u8]) {
        self.heads.push((kind, flags, payload.len()));
        self.payloads.extend_from_slice(payload);
    }

    /// Whether it would still be written with the others.
    pub(crate) fn has_room(&self, payload: &[u8]) -> bool {
        self.payloads.len() + (self.heads.len() + 1) * RECORD_HEADER_LEN + payload.len() <= ASSEMBLED
    }

    pub(crate) fn clear(&mut self) {
        self.heads.clear();
        self.payloads.clear();
    }

    fn iter(&self) -> impl Iterator<Item = (u8, u8, &[u8])> {
        let mut rest = self.payloads.as_slice();
        self.heads.iter().map(move |(kind, flags, len)| {
            let (payload, behind) = rest.split_at_checked(*len).unwrap_or_default();
            rest = behind;
            (*kind, *flags, payload)
        })
    }
}

/// The first error.
#[derive(Default)]
struct Failure {
    happened: AtomicBool,
    first: Mutex<Option<Arc<Error>>>,
}

impl Log {
    /// Goes on at `start` in a new segment, behind the segments that are live already: all before it must be on stable
    /// storage.
    pub(crate) fn create(env: LogEnv, start: LogStart, live: Vec<SegmentInfo>) -> Result<Self> {
        let durable_ordinal = live.last().map_or(0, |last| last.ordinal);
        let oldest = live.first().map_or(start.position, |first| first.start);
        let log = Self {
            env,
            writer: Mutex::new(Writer {
                segments: live,
                open: Vec::new(),
                buffer: Vec::new(),
                durable_ordinal,
                next_ordinal: start.ordinal,
                closed: false,
            }),
            group: GroupSync::default(),
            failure: Failure::default(),
            start: AtomicU64::new(oldest.0),
            end: AtomicU64::new(start.position.0),
            synced: AtomicU64::new(start.position.0),
            syncs: AtomicU64::new(0),
        };
        log.begin_segment(&mut log.writer.lock(), 0)?;
        Ok(log)
    }

    /// Appends a record whose payload is `parts`; it survives the process when this returns. Returns where it ends.
    pub(crate) fn append(&self, kind: u8, flags: u8, parts: &[&[u8]]) -> Result<LogPosition> {
        let mut writer = self.writer.lock();
        self.failure.check()?;
        if writer.closed {
            return Err(Error::Closed);
        }
        self.append_to(&mut writer, kind, flags, parts)
    }

    /// Appends records that another log had, in few writes: opening waits for them.
    pub(crate) fn append_again(&self, records: &Records) -> Result<()> {
        let mut writer = self.writer.lock();
        self.failure.check()?;
        let mut pending = Vec::with_capacity(ASSEMBLED);
        for (kind, flags, payload) in records.iter() {
            let end = LogPosition(self.end().0 + pending.len() as u64);
            let (payload_len, len) = record_len(&[payload])?;
            if !writer.open.last().is_some_and(|active| active.holds(end, len)) {
                self.write_again(&writer, &mut pending)?;
                self.begin_segment(&mut writer, len)?;
            }
            let Some(active) = writer.open.last() else { return Err(Error::Closed) };
            let place = (active.number, active.header.offset_of(end));
            RecordHeader::of(kind, flags, self.synced(), place, (payload_len, &[payload])).encode(place, &mut pending);
            pending.extend_from_slice(payload);
        }
        self.write_again(&writer, &mut pending)
    }

    fn write_again(&self, writer: &Writer, pending: &mut Vec<u8>) -> Result<()> {
        let Some(active) = writer.open.last().filter(|_| !pending.is_empty()) else { return Ok(()) };
        active
            .file
            .append(pending)
            .map_err(|error| self.failure.set(Error::io(FileKind::Log.path(&self.env.dir, active.number), error)))?;
        self.end.fetch_add(pending.len() as u64, Ordering::Release);
        pending.clear();
        Ok(())
    }

    /// Notes how much of a manifest is on stable storage, and returns once that note is as well. What else the log holds is
    /// not synced for it, if that is much: the note then begins a segment.
    pub(crate) fn prove_manifest(&self, mark: &ManifestMark) -> Result<()> {
        let noted = {
            let mut writer = self.writer.lock();
            self.failure.check()?;
            if writer.closed {
                return Err(Error::Closed);
            }
            let synced = self.synced();
            let unsynced = writer.open.last().map_or(0, |active| self.end().0 - active.header.start.max(synced).0);
            if self.is_much(unsynced) {
                self.begin_segment(&mut writer, 0)?;
            }
            self.append_to(&mut writer, MANIFEST_MARK, 0, &[&mark.encode()])?;
            writer.open.last().cloned()
        };
        noted.map_or(Ok(()), |noted| self.sync_file(&noted))?;
        self.sync_names()
    }

    /// Whether it is worth something to leave so many bytes unsynced.
    pub(crate) fn is_much(&self, bytes: u64) -> bool {
        bytes >= self.env.segment_bytes / 4
    }

    /// Notes how much of a manifest is on stable storage: from then on a shorter one is known to be damaged.
    pub(crate) fn mark_manifest(&self, mark: &ManifestMark) -> Result<LogPosition> {
        self.append(MANIFEST_MARK, 0, &[&mark.encode()])
    }

    /// Returns once all before `position` is on stable storage. Those who wait together share a sync.
    pub(crate) fn sync_through(&self, position: LogPosition) -> Result<()> {
        let position = position.min(self.end());
        let covered = || {
            if self.synced() >= position {
                return Ok(true);
            }
            self.failure.check().map(|()| false)
        };
        self.group.wait(covered, || self.sync_appended())
    }

    /// Syncs, and ends the log with the proof that all of it is. Nothing can be appended afterwards.
    pub(crate) fn close(&self) -> Result<()> {
        loop {
            self.sync_through(self.end())?;
            let mut writer = self.writer.lock();
            self.failure.check()?;
            if writer.closed {
                return Ok(());
            }
            // A commit that came in between is synced first, or the close would not prove it.
            if self.synced() == self.end() {
                self.append_to(&mut writer, CLOSE, 0, &[])?;
                writer.closed = true;
                self.give_room_back(&writer)?;
                break;
            }
        }
        self.sync_through(self.end())
    }

    /// Begins a new segment, unless the active one has no record yet. Then the one before can be removed.
    pub(crate) fn rotate(&self) -> Result<()> {
        let mut writer = self.writer.lock();
        self.failure.check()?;
        if writer.closed {
            return Err(Error::Closed);
        }
        if writer.open.last().is_some_and(|active| active.header.start < self.end()) {
            self.begin_segment(&mut writer, 0)?;
        }
        Ok(())
    }

    /// Fails whoever still waits for it, or comes yet: another log takes its place.
    pub(crate) fn give_up(&self) {
        self.failure.set(Error::Closed);
    }

    /// Where the next record will begin.
    pub(crate) fn end(&self) -> LogPosition {
        LogPosition(self.end.load(Ordering::Acquire))
    }

    /// All before that is needed is on stable storage.
    pub(crate) fn synced(&self) -> LogPosition {
        LogPosition(self.synced.load(Ordering::Acquire))
    }

    /// How often a file was synced.
    pub(crate) fn syncs(&self) -> u64 {
        self.syncs.load(Ordering::Relaxed)
    }

    /// What a manifest edit may say of the log: what it proves cannot be lost unnoticed.
    pub(crate) fn proof(&self) -> Proof {
        let writer = self.writer.lock();
        Proof { ordinal: writer.durable_ordinal, position: self.synced() }
    }

    /// What a manifest edit says if nothing before `position` is needed any more.
    pub(crate) fn start_at(&self, position: LogPosition) -> LogStart {
        let writer = self.writer.lock();
        let holder = writer.segments.iter().rev().find(|segment| segment.start <= position);
        let ordinal = holder.or(writer.segments.first()).map_or(writer.next_ordinal, |segment| segment.ordinal);
        LogStart { ordinal, position }
    }

    /// Where another log may go on after this one has failed: no segment of this one has that ordinal.
    pub(crate) fn successor(&self) -> LogStart {
        LogStart { ordinal: self.writer.lock().next_ordinal, position: self.end() }
    }

    /// The live segments, oldest first; the last is the active one.
    pub(crate) fn segments(&self) -> Vec<SegmentInfo> {
        let writer = self.writer.lock();
        let mut segments = writer.segments.clone();
        if let Some(active) = segments.last_mut() {
            active.end = self.end();
        }
        segments
    }

    /// How many bytes of records the live segments hold.
    pub(crate) fn live_bytes(&self) -> u64 {
        self.end().0.saturating_sub(self.start.load(Ordering::Relaxed))
    }

    /// Whether it lies in many more segments than its bytes need. Of two that one process has filled, together they hold
    /// more than one has room for; but each opening begins one, however little the last one holds.
    pub(crate) fn is_scattered(&self) -> bool {
        let needed = 2 * (self.live_bytes() / self.env.segment_bytes.max(1));
        self.writer.lock().segments.len() as u64 > needed + FEW_SEGMENTS
    }

    /// Whether [`remove_before`](Self::remove_before) would remove anything.
    pub(crate) fn has_before(&self, start: LogStart) -> bool {
        self.writer.lock().needless(start) > 0
    }

    /// Removes the segments that lie wholly before `start`, which the manifest must say durably; nothing syncs them any
    /// more. Never one that a power cut would have to leave, since the manifest expects that or a later one: so never
    /// the active one. One whose removal failed stays in the list; the first error is returned.
    pub(crate) fn remove_before(&self, start: LogStart) -> Result<()> {
        let removable: Vec<SegmentInfo> = {
            let mut writer = self.writer.lock();
            let count = writer.needless(start);
            let removable: Vec<_> = writer.segments.drain(..count).collect();
            let oldest = writer.segments.first().map_or(0, |first| first.ordinal);
            writer.open.retain(|segment| segment.header.ordinal >= oldest);
            self.note_start(&writer);
            removable
        };
        for (index, segment) in removable.iter().enumerate() {
            let path = FileKind::Log.path(&self.env.dir, segment.number);
            let removed = match self.env.fs.remove(Purpose::Log, &path) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
                result => result.at_path(&path),
            };
            if let Err(error) = removed {
                let left = removable.get(index..).unwrap_or_default();
                let mut writer = self.writer.lock();
                writer.segments.splice(..0, left.iter().copied());
                self.note_start(&writer);
                return Err(error);
            }
        }
        Ok(())
    }

    fn note_start(&self, writer: &Writer) {
        if let Some(first) = writer.segments.first() {
            self.start.store(first.start.0, Ordering::Relaxed);
        }
    }

    fn append_to(&self, writer: &mut Writer, kind: u8, flags: u8, parts: &[&[u8]]) -> Result<LogPosition> {
        let (payload_len, len) = record_len(parts)?;
        if !writer.open.last().is_some_and(|active| active.holds(self.end(), len)) {
            self.begin_segment(writer, len)?;
        }
        let Some(active) = writer.open.last() else { return Err(Error::Closed) };
        let place = (active.number, active.header.offset_of(self.end()));
        let header = RecordHeader::of(kind, flags, self.synced(), place, (payload_len, parts));
        writer.buffer.clear();
        header.encode(place, &mut writer.buffer);
        if let Err(error) = write_record(active.file.as_ref(), &mut writer.buffer, parts) {
            return Err(self.failure.set(Error::io(FileKind::Log.path(&self.env.dir, active.number), error)));
        }
        let end = self.end().0 + len;
        self.end.store(end, Ordering::Release);
        Ok(LogPosition(end))
    }

    /// Makes a new segment the active one. A later one may be prepared ahead by another thread: here it would be taken.
    fn begin_segment(&self, writer: &mut Writer, record_len: u64) -> Result<()> {
        self.give_room_back(writer)?;
        let header = SegmentHeader { ordinal: writer.next_ordinal, start: self.end(), synced: self.synced() };
        writer.next_ordinal = writer.next_ordinal.saturating_add(1);
        let capacity = self.env.segment_bytes.max((SEGMENT_HEADER_LEN as u64).saturating_add(record_len));
        let create = || {
            let number = (self.env.new_number)()?;
            let path = FileKind::Log.path(&self.env.dir, number);
            let file = self.env.fs.create_log(Purpose::Log, &path, capacity).at_path(&path)?;
            // It holds nothing, so it goes; its ordinal is spent.
            let written = file.append(&header.encode(number)).at_path(&path);
            written.inspect_err(|_| drop(self.env.fs.remove(Purpose::Log, &path)))?;
            Ok(OpenSegment { number, header, capacity, file })
        };
        let active = create().map_err(|error| self.failure.set(error))?;
        let (ordinal, start) = (header.ordinal, header.start);
        if let Some(before) = writer.segments.last_mut() {
            before.end = start;
        }
        writer.segments.push(SegmentInfo { number: active.number, ordinal, start, end: start });
        writer.open.push(active);
        Ok(())
    }

    /// Cuts off what is left of the active segment's room.
    fn give_room_back(&self, writer: &Writer) -> Result<()> {
        let Some(active) = writer.open.last() else { return Ok(()) };
        let cut = active.file.truncate();
        cut.map_err(|error| self.failure.set(Error::io(FileKind::Log.path(&self.env.dir, active.number), error)))
    }

    /// Syncs all that was appended until now. The leader only calls this.
    fn sync_appended(&self) -> Result<()> {
        let (target, files, named) = {
            let writer = self.writer.lock();
            (self.end(), writer.open.clone(), writer.durable_ordinal)
        };
        let newest = files.last().map_or(0, |last| last.header.ordinal);
        for segment in &files {
            self.sync_file(segment)?;
        }
        if newest > named {
            self.sync_names()?;
        }
        let mut writer = self.writer.lock();
        // If `resume` has given this log up meanwhile, it may also have begun anew with the directory, and a sync of
        // that proves nothing of names that were there before (L2).
        self.failure.check()?;
        writer.open.retain(|segment| segment.header.ordinal >= newest);
        writer.durable_ordinal = newest;
        self.synced.store(target.0, Ordering::Release);
        Ok(())
    }

    fn sync_file(&self, segment: &OpenSegment) -> Result<()> {
        self.failure.check()?;
        if let Err(error) = segment.file.sync() {
            return Err(self.failure.set(Error::io(FileKind::Log.path(&self.env.dir, segment.number), error)));
        }
        self.syncs.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn sync_names(&self) -> Result<()> {
        self.failure.check()?;
        let synced = self.env.fs.sync_dir(Purpose::Directory, &self.env.dir).at_path(&self.env.dir);
        synced.map_err(|error| self.failure.set(error))
    }
}

/// How long the payload is, and the whole record.
fn record_len(parts: &[&[u8]]) -> Result<(u32, u64)> {
    let payload_len = payload_len(parts)?;
    Ok((payload_len, RECORD_HEADER_LEN as u64 + u64::from(payload_len)))
}

/// Writes a record whose header is in `buffer`. A small one takes one call; of a large one, large parts are not copied.
/// A crash between the calls leaves a torn record, as one within a call does.
fn write_record(file: &dyn LogFile, buffer: &mut Vec<u8>, parts: &[&[u8]]) -> std::io::Result<()> {
    let small = buffer.len() + parts.iter().map(|part| part.len()).sum::<usize>() <= ASSEMBLED;
    for part in parts {
        if small || part.len() < DIRECT {
            buffer.extend_from_slice(part);
        } else {
            file.append(buffer)?;
            buffer.clear();
            file.append(part)?;
        }
        if buffer.len() > ASSEMBLED {
            file.append(buffer)?;
            buffer.clear();
        }
    }
    if buffer.is_empty() { Ok(()) } else { file.append(buffer) }
}

impl Failure {
    fn check(&self) -> Result<()> {
        if !self.happened.load(Ordering::Acquire) {
            return Ok(());
        }
        self.first.lock().clone().map_or(Ok(()), |first| Err(Error::Background(first)))
    }

    /// Keeps the error if it is the first. Who met it gets it as it is, as far as it can be copied.
    fn set(&self, error: Error) -> Error {
        let mut first = self.first.lock();
        let error = Arc::new(error);
        let kept = first.get_or_insert_with(|| Arc::clone(&error));
        self.happened.store(true, Ordering::Release);
        match &*error {
            Error::Io { path, source } => Error::io(path, copy_of(source)),
            _ => Error::Background(Arc::clone(kept)),
        }
    }
}

fn copy_of(error: &std::io::Error) -> std::io::Error {
    let from_system = error.raw_os_error().map(std::io::Error::from_raw_os_error);
    from_system.unwrap_or_else(|| std::io::Error::new(error.kind(), error.to_string()))
}
