//! Reads one segment through a window of bounded size.

use std::path::{Path, PathBuf};

use super::LogPosition;
use super::record::{RECORD_HEADER_LEN, RecordHeader};
use super::segment::{HeaderError, SEGMENT_HEADER_LEN, SegmentHeader};
use crate::Result;
use crate::error::{AtPath, Error};
use crate::format::{DecodeError, FORMAT_VERSION, FileKind, FileNumber};
use crate::fs::{Fs, Purpose, ReadFile};
use crate::sync::Arc;

/// How much is read at once. Only a record that is larger gets a larger window, for as long as it is looked at.
const WINDOW: usize = 256 << 10;

pub(super) struct SegmentReader {
    pub(super) number: FileNumber,
    path: PathBuf,
    file: Arc<dyn ReadFile>,
    /// The file's length when it was opened.
    pub(super) len: u64,
    window: Vec<u8>,
    window_offset: u64,
}

/// A record as replay gives it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RecordRef<'a> {
    pub(crate) position: LogPosition,
    pub(crate) end: LogPosition,
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) payload: &'a [u8],
    /// The file that it lies in, and where.
    pub(crate) segment: FileNumber,
    pub(crate) offset: u64,
}

impl SegmentReader {
    pub(super) fn open(fs: &dyn Fs, dir: &Path, number: FileNumber) -> Result<Self> {
        let path = FileKind::Log.path(dir, number);
        let file = fs.open(Purpose::Log, &path).at_path(&path)?;
        let len = file.len().at_path(&path)?;
        Ok(Self { number, path, file, len, window: Vec::new(), window_offset: 0 })
    }

    /// The segment's header, or what is wrong with it.
    pub(super) fn header(&mut self) -> Result<Result<SegmentHeader, DecodeError>> {
        let len = SEGMENT_HEADER_LEN.min(usize::try_from(self.len).unwrap_or(usize::MAX));
        let number = self.number;
        let bytes = self.bytes(0, len)?.unwrap_or_default();
        match SegmentHeader::decode(bytes, number) {
            Ok(header) => Ok(Ok(header)),
            Err(HeaderError::Damaged(damage)) => Ok(Err(damage)),
            Err(HeaderError::Unsupported(found)) => {
                Err(Error::UnsupportedFormat { path: self.path.clone(), found, supported: FORMAT_VERSION })
            }
        }
    }

    /// The valid record at `offset` that ends by `limit`, if there is one.
    pub(super) fn record(&mut self, offset: u64, segment: &SegmentHeader, limit: u64) -> Result<Option<RecordRef<'_>>> {
        let place = (self.number, offset);
        let position = segment.position_at(offset);
        let Some(header) = self.header_at(offset, segment)? else { return Ok(None) };
        let end = offset.checked_add(header.record_len()).filter(|end| *end <= limit.min(self.len));
        let (Some(end), Ok(len)) = (end, usize::try_from(header.len)) else { return Ok(None) };
        let number = self.number;
        let payload = self.bytes(offset + RECORD_HEADER_LEN as u64, len)?.unwrap_or_default();
        let RecordHeader { kind, flags, .. } = header;
        let record =
            RecordRef { position, end: segment.position_at(end), kind, flags, payload, segment: number, offset };
        Ok(header.fits(place, payload).then_some(record))
    }

    /// The highest position that a record header from `offset` up to `limit` says was synced. What is no header is
    /// passed over byte by byte, so that what lies behind damage counts. `synced_limit` says what a header at an offset
    /// may know.
    pub(super) fn survey(
        &mut self,
        mut offset: u64,
        limit: u64,
        synced_limit: impl Fn(u64) -> LogPosition,
    ) -> Result<LogPosition> {
        let mut proved = LogPosition::default();
        let number = self.number;
        while offset < limit.min(self.len) {
            let Some(ahead) = self.ahead(offset)? else { break };
            let zeros = ahead.iter().position(|byte| *byte != 0).unwrap_or(ahead.len());
            if zeros > 0 {
                offset += zeros as u64;
                continue;
            }
            match RecordHeader::decode(ahead, (number, offset), synced_limit(offset)) {
                Some(header) => {
                    proved = proved.max(header.synced);
                    offset = offset.saturating_add(header.record_len());
                }
                None => offset += 1,
            }
        }
        Ok(proved)
    }

    /// The valid header of a record at `offset`.
    pub(super) fn header_at(&mut self, offset: u64, segment: &SegmentHeader) -> Result<Option<RecordHeader>> {
        let (place, position) = ((self.number, offset), segment.position_at(offset));
        let head = self.bytes(offset, RECORD_HEADER_LEN)?;
        Ok(head.and_then(|head| RecordHeader::decode(head, place, position)))
    }

    /// The first offset from `offset` on where there is no zero; `limit` if there is none before.
    pub(super) fn skip_zeros(&mut self, mut offset: u64, limit: u64) -> Result<u64> {
        let limit = limit.min(self.len);
        while offset < limit {
            let Some(ahead) = self.ahead(offset)? else { break };
            let zeros = ahead.iter().position(|byte| *byte != 0);
            if let Some(zeros) = zeros {
                return Ok(limit.min(offset.saturating_add(zeros as u64)));
            }
            offset = offset.saturating_add(ahead.len().max(1) as u64);
        }
        Ok(limit)
    }

    /// Whether there is nothing but zeros from `offset` up to `limit`.
    pub(super) fn is_zero(&mut self, mut offset: u64, limit: u64) -> Result<bool> {
        let limit = limit.min(self.len);
        while offset < limit {
            let left = usize::try_from(limit - offset).unwrap_or(usize::MAX);
            let bytes = self.bytes(offset, left.min(WINDOW))?.unwrap_or_default();
            if bytes.iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
            offset = offset.saturating_add(WINDOW as u64);
        }
        Ok(true)
    }

    /// What the window holds from `offset`: a record header at least, unless the file ends before.
    fn ahead(&mut self, offset: u64) -> Result<Option<&[u8]>> {
        let left = usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX);
        if self.bytes(offset, left.min(RECORD_HEADER_LEN))?.is_none() {
            return Ok(None);
        }
        let from = usize::try_from(offset - self.window_offset).unwrap_or(usize::MAX);
        Ok(self.window.get(from..))
    }

    /// `len` bytes from `offset`; none if the file ends before. No more is allocated than a window or `len`, nor than
    /// the file holds (S27).
    fn bytes(&mut self, offset: u64, len: usize) -> Result<Option<&[u8]>> {
        let left = self.len.saturating_sub(offset);
        if offset > self.len || len as u64 > left {
            return Ok(None);
        }
        let held = |window: &[u8], at: u64| {
            let from = usize::try_from(offset.checked_sub(at)?).ok()?;
            let range = from..from.checked_add(len)?;
            (range.end <= window.len()).then_some(range)
        };
        let range = match held(&self.window, self.window_offset) {
            Some(range) => range,
            None => {
                let fill = len.max(WINDOW.min(usize::try_from(left).unwrap_or(usize::MAX)));
                if self.window.len() > WINDOW {
                    self.window = Vec::new();
                }
                self.window.resize(fill, 0);
                self.window_offset = offset;
                if let Err(error) = self.file.read_at(&mut self.window, offset) {
                    self.window.clear();
                    return Err(Error::io(&self.path, error));
                }
                0..len
            }
        };
        Ok(self.window.get(range))
    }
}
