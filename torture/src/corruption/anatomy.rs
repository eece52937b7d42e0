//! What a database's files are made of, read from their bytes by the book of formats (DESIGN, 4) and nothing else: none
//! of the engine's code is asked. So it is known which byte belongs to what, and that nothing is missing from a
//! database that is to be damaged all over.
//!
//! The files must be whole; what is not as the book says is a panic.

use std::collections::BTreeMap;

use super::Files;

/// How often each part is there, by its name.
pub type Parts = BTreeMap<String, usize>;

/// A record of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    pub kind: u8,
    pub flags: u8,
    pub offset: usize,
    pub end: usize,
    pub position: u64,
    /// Up to which position it proves the log synced.
    pub synced: u64,
}

/// A segment of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    pub name: String,
    pub ordinal: u64,
    pub start: u64,
    pub synced: u64,
    pub records: Vec<Record>,
}

impl Segment {
    /// Where the room begins that no record has taken.
    pub fn records_end(&self) -> usize {
        self.records.last().map_or(SEGMENT_HEADER, |last| last.end)
    }
}

/// What the manifest says of the log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    pub start_ordinal: u64,
    pub start: u64,
    pub proved_ordinal: u64,
    pub proved: u64,
    pub cuts: Vec<Cut>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    pub ordinal: u64,
    pub end: u64,
    pub next_ordinal: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Anatomy {
    pub parts: Parts,
    /// In the order of the log.
    pub segments: Vec<Segment>,
    pub known: Known,
    pub manifest: String,
    /// Where each block of a table, each record of the log and each frame of the manifest begins and ends, by file.
    pub pieces: BTreeMap<String, Vec<(usize, usize)>>,
}

pub const SEGMENT_HEADER: usize = 44;
pub const RECORD_HEADER: usize = 22;
const FOOTER: usize = 84;
const HISTORY_INDEX: u8 = 3;
const PARTITION: u8 = 6;
const MARK: u8 = 0x82;
const CLOSE: u8 = 0x83;

impl Anatomy {
    pub fn of(files: &Files) -> Self {
        let mut anatomy = Self::default();
        let current = &files["CURRENT"];
        assert_eq!((&current[..8], current.len()), (&b"strandCU"[..], 24));
        anatomy.manifest = format!("{:06}.manifest", u64_at(current, 12));
        for (name, bytes) in files {
            let (number, kind) = name.split_once('.').unwrap_or(("0", name));
            let number: u64 = number.parse().unwrap_or_default();
            anatomy.add(kind);
            match kind {
                "CURRENT" | "LOCK" => {}
                "manifest" => anatomy.manifest(name, bytes),
                "log" => anatomy.segment(name, bytes),
                "table" => anatomy.table(name, number, bytes),
                kind => panic!("a file {name} of kind {kind}"),
            }
        }
        anatomy.segments.sort_by_key(|segment| segment.ordinal);
        anatomy
    }

    fn add(&mut self, part: impl Into<String>) {
        *self.parts.entry(part.into()).or_default() += 1;
    }

    fn manifest(&mut self, name: &str, bytes: &[u8]) {
        assert_eq!((&bytes[..8], name), (&b"strandMF"[..], &*self.manifest), "an orphan, or no manifest");
        let mut offset = 24;
        while offset < bytes.len() {
            let (len, role) = (u32_at(bytes, offset) as usize, bytes[offset + 4]);
            let mut payload = &bytes[offset + 13..offset + 13 + len];
            self.add(format!("manifest frame {role}"));
            while !payload.is_empty() {
                let kind = take(&mut payload, 1)[0];
                let mut change = bytes_of(&mut payload);
                self.add(format!("manifest change {kind:#x}, frame {role}"));
                let mut next = || varint(&mut change);
                match kind {
                    0x0c => (self.known.start_ordinal, self.known.start) = (next(), next()),
                    0x0d => (self.known.proved_ordinal, self.known.proved) = (next(), next()),
                    0x0e => self.known.cuts.push(Cut { ordinal: next(), end: next(), next_ordinal: next() }),
                    _ => {}
                }
            }
            self.pieces.entry(name.to_owned()).or_default().push((offset, offset + 13 + len));
            offset += 13 + len;
        }
    }

    fn segment(&mut self, name: &str, bytes: &[u8]) {
        assert_eq!(&bytes[..8], b"SLINELOG");
        let (ordinal, start, synced) = (u64_at(bytes, 16), u64_at(bytes, 24), u64_at(bytes, 32));
        let mut segment = Segment { name: name.to_owned(), ordinal, start, synced, records: Vec::new() };
        let mut offset = SEGMENT_HEADER;
        let number: u64 = name.split_once('.').unwrap().0.parse().unwrap();
        while offset + RECORD_HEADER <= bytes.len() && bytes[offset] != 0 {
            let (kind, flags) = (bytes[offset], bytes[offset + 1]);
            let end = offset + RECORD_HEADER + u32_at(bytes, offset + 2) as usize;
            let position = start + (offset - SEGMENT_HEADER) as u64;
            let header = checksum(kind, number, offset as u64, &bytes[offset + 1..offset + 18]);
            if header != u32_at(bytes, offset + 18) {
                // What a torn write left, behind a cut.
                self.add("torn bytes");
                break;
            }
            segment.records.push(Record { kind, flags, offset, end, position, synced: u64_at(bytes, offset + 10) });
            let name = match (kind, flags) {
                (1, 0) => "commit",
                (1, 1) => "late commit",
                (MARK, 0) => "mark",
                (0x87, _) => "keyspace made or dropped",
                (CLOSE, 0) => "close",
                other => panic!("a record {other:?}"),
            };
            self.add(format!("log {name}"));
            if kind == 1 {
                self.operations(&bytes[offset + RECORD_HEADER + 8..end]);
            }
            offset = end;
        }
        if segment.records_end() < bytes.len() {
            self.add("log room");
        }
        let places = segment.records.iter().map(|record| (record.offset, record.end)).collect();
        self.pieces.insert(name.to_owned(), places);
        self.segments.push(segment);
    }

    fn operations(&mut self, mut from: &[u8]) {
        while !from.is_empty() {
            let kind = take(&mut from, 1)[0];
            self.add(format!("log operation {kind}"));
            varint(&mut from);
            bytes_of(&mut from);
            match kind {
                1 => drop(bytes_of(&mut from)),
                2 => {
                    bytes_of(&mut from);
                    varint(&mut from);
                }
                3 => {}
                4 if take(&mut from, 1)[0] == 0 => {}
                4 => drop(bytes_of(&mut from)),
                kind => panic!("an operation {kind}"),
            }
        }
    }

    /// Every byte before the footer lies in a block whose checksum says what it is.
    fn table(&mut self, name: &str, number: u64, bytes: &[u8]) {
        let footer = bytes.len() - FOOTER;
        assert_eq!(&bytes[bytes.len() - 8..], b"strandtb");
        let sum = checksum(9, number, footer as u64, &bytes[footer..footer + 72]);
        assert_eq!(sum, u32_at(bytes, footer + 72), "the footer of {name}");
        self.add("footer");
        let mut blocks = Vec::new();
        assert!(tile(&bytes[..footer], number, 0, &mut blocks), "{name} is not made of blocks");
        blocks.reverse();
        for (kind, codec, _, _) in &blocks {
            let names = ["data", "history", "history index", "ranges", "filter", "partition", "top", "properties"];
            self.add(format!("{} block", names[usize::from(*kind) - 1]));
            self.add(format!("codec {codec}"));
        }
        let several = |kind| blocks.iter().filter(|(one, ..)| *one == kind).count() > 1;
        if several(PARTITION) {
            self.add("table of several partitions");
        }
        if several(HISTORY_INDEX) {
            self.add("table of several history index blocks");
        }
        let mut places: Vec<_> = blocks.iter().map(|(_, _, start, end)| (*start, *end)).collect();
        places.push((footer, bytes.len()));
        self.pieces.insert(name.to_owned(), places);
    }
}

/// The blocks from `start` on, last one first: a kind, a codec, and where it lies.
fn tile(bytes: &[u8], number: u64, start: usize, blocks: &mut Vec<(u8, u8, usize, usize)>) -> bool {
    if start == bytes.len() {
        return true;
    }
    let mut sums: Vec<u32> = (1..=8).map(|kind| checksum(kind, number, start as u64, &[])).collect();
    for at in start..bytes.len().saturating_sub(4) {
        let stored = u32_at(bytes, at + 1);
        for (kind, sum) in (1..).zip(&mut sums) {
            *sum = crc32c::crc32c_append(*sum, &bytes[at..=at]);
            // Chance may make a sum fit within a block; then the rest does not.
            if *sum == stored && bytes[at] <= 2 && tile(bytes, number, at + 5, blocks) {
                blocks.push((kind, bytes[at], start, at + 5));
                return true;
            }
        }
    }
    false
}

/// CRC-32C over file, offset, kind and bytes.
fn checksum(kind: u8, file: u64, offset: u64, bytes: &[u8]) -> u32 {
    let salt = [&file.to_le_bytes()[..], &offset.to_le_bytes(), &[kind]].concat();
    crc32c::crc32c_append(crc32c::crc32c(&salt), bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

fn take<'a>(from: &mut &'a [u8], len: usize) -> &'a [u8] {
    let (taken, rest) = from.split_at(len);
    *from = rest;
    taken
}

fn varint(from: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let byte = take(from, 1)[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    value
}

fn bytes_of<'a>(from: &mut &'a [u8]) -> &'a [u8] {
    let len = varint(from);
    take(from, usize::try_from(len).unwrap())
}
