//! Bytes of the format as somebody would make them who has read its description: so a test can put anything behind a
//! proper checksum. Written from DESIGN.md, section 4, without the engine's code.

use std::path::Path;

use strandline::fs::Purpose;
use strandline::{Fs, MemFs};

const DIR: &str = "db";
const FORMAT_VERSION: u32 = 3;

fn sum(kind: u8, file: u64, offset: u64, parts: &[&[u8]]) -> [u8; 4] {
    let place = [&file.to_le_bytes()[..], &offset.to_le_bytes(), &[kind]].concat();
    let crc = parts.iter().fold(crc32c::crc32c(&place), |crc, part| crc32c::crc32c_append(crc, part));
    crc.to_le_bytes()
}

pub(crate) fn varint(mut number: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while number >= 0x80 {
        out.push(u8::try_from(number & 0x7f).unwrap() | 0x80);
        number >>= 7;
    }
    out.push(u8::try_from(number).unwrap());
    out
}

fn with_length(bytes: &[u8]) -> Vec<u8> {
    [&varint(bytes.len() as u64), bytes].concat()
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

fn u32_at(bytes: &[u8], at: usize) -> usize {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize
}

// ---- CURRENT and the manifest ----

pub(crate) fn current(fs: &MemFs) -> u64 {
    u64_at(&fs.read_file("db/CURRENT").unwrap(), 12)
}

pub(crate) fn current_bytes(number: u64) -> Vec<u8> {
    let head = [&b"strandCU"[..], &FORMAT_VERSION.to_le_bytes(), &number.to_le_bytes()].concat();
    let crc = sum(0x43, 0, 0, &[&head]);
    [&head[..], &crc].concat()
}

/// One change of an edit.
pub(crate) fn change(kind: u8, parts: &[&[u8]]) -> Vec<u8> {
    [&[kind][..], &with_length(&parts.concat())].concat()
}

pub(crate) fn option(field: u8, payload: &[u8]) -> Vec<u8> {
    [&[field][..], &with_length(payload)].concat()
}

pub(crate) fn options(block_bytes: u64, filter_bits: f64, target_file_bytes: u64, level_base_bytes: u64) -> Vec<u8> {
    [
        option(1, &[0]),
        option(2, &[0]),
        option(3, &[]),
        option(4, &varint(block_bytes)),
        option(5, &filter_bits.to_bits().to_le_bytes()),
        option(6, &varint(target_file_bytes)),
        option(7, &varint(level_base_bytes)),
    ]
    .concat()
}

/// What a manifest keeps of a table.
pub(crate) fn meta(number: u64, bytes: u64, smallest: &[u8], greatest: &[u8], versions: u64) -> Vec<u8> {
    let file = [number.to_le_bytes(), bytes.to_le_bytes()].concat();
    let counts = [varint(versions.min(10)), varint(versions), varint(0), varint(0)].concat();
    [
        varint(6),
        option(1, &file),
        option(2, smallest),
        option(3, &[&[0], greatest].concat()),
        option(4, &[varint(1), varint(9)].concat()),
        option(5, &counts),
        option(6, &[0]),
    ]
    .concat()
}

/// A table's properties that are one of this kind.
pub(crate) fn property(kind: u8) -> Vec<u8> {
    [varint(1), option(kind, b"?")].concat()
}

fn frame(role: u8, number: u64, offset: u64, payload: &[u8]) -> Vec<u8> {
    let mut head = u32::try_from(payload.len()).unwrap().to_le_bytes().to_vec();
    head.push(role);
    head.extend(sum(0x42, number, offset, &[payload]));
    let crc = sum(0x41, number, offset, &[&head]);
    [&head[..], &crc, payload].concat()
}

fn manifest_name(number: u64) -> String {
    format!("{number:06}.manifest")
}

/// Appends a frame to the manifest that counts, and says what that is called.
pub(crate) fn append_edit(fs: &MemFs, role: u8, payload: &[u8]) -> String {
    let number = current(fs);
    let name = manifest_name(number);
    let path = Path::new(DIR).join(&name);
    let mut bytes = fs.read_file(&path).unwrap();
    let frame = frame(role, number, bytes.len() as u64, payload);
    bytes.extend(frame);
    fs.write_file(&path, bytes).unwrap();
    name
}

/// Changes some bytes of one frame; `below` gives a random number below another.
pub(crate) fn scramble_manifest(fs: &MemFs, below: &mut dyn FnMut(u64) -> u64) {
    let number = current(fs);
    let path = Path::new(DIR).join(manifest_name(number));
    let bytes = fs.read_file(&path).unwrap();
    let (mut frames, mut at) = (Vec::new(), 24);
    while at < bytes.len() {
        frames.push(at);
        at += 13 + u32_at(&bytes, at);
    }
    assert_eq!(at, bytes.len(), "the forger knows the format");
    let at = frames[random_index(frames.len(), below)];
    let end = at + 13 + u32_at(&bytes, at);
    let mut payload = bytes[at + 13..end].to_vec();
    scramble(&mut payload, below);
    let frame = frame(bytes[at + 4], number, at as u64, &payload);
    fs.write_file(&path, [&bytes[..at], &frame, &bytes[end..]].concat()).unwrap();
}

// ---- the log ----

pub(crate) fn segment_header(number: u64, ordinal: u64, start: u64) -> Vec<u8> {
    let mut out = [&b"SLINELOG"[..], &FORMAT_VERSION.to_le_bytes()].concat();
    let crc = sum(0, number, 0, &[&out]);
    out.extend(crc);
    let rest = [ordinal, start, 0].map(u64::to_le_bytes).concat();
    let crc = sum(0, number, 16, &[&rest]);
    [&out[..], &rest, &crc].concat()
}

fn record(number: u64, offset: u64, (kind, flags, synced): (u8, u8, u64), payload: &[u8]) -> Vec<u8> {
    let mut checked = vec![flags];
    checked.extend(u32::try_from(payload.len()).unwrap().to_le_bytes());
    checked.extend(sum(kind, number, offset, &[payload]));
    checked.extend(synced.to_le_bytes());
    let crc = sum(kind, number, offset, &[&checked]);
    [&[kind][..], &checked, &crc, payload].concat()
}

/// The segments: number, bytes, and where their records begin; the last of these is where they end.
fn segments(fs: &MemFs) -> Vec<(u64, Vec<u8>, Vec<usize>)> {
    let names = fs.list(Purpose::Directory, Path::new(DIR)).unwrap();
    let logs = names.into_iter().filter_map(|entry| entry.name.strip_suffix(".log").map(str::to_owned));
    logs.map(|digits| {
        let bytes = fs.read_file(Path::new(DIR).join(format!("{digits}.log"))).unwrap();
        let (mut records, mut at) = (vec![44], 44);
        while at + 22 <= bytes.len() && bytes[at] != 0 {
            at += 22 + u32_at(&bytes, at + 2);
            records.push(at);
        }
        (digits.parse().unwrap(), bytes, records)
    })
    .collect()
}

/// Appends a record to the last segment, and says what that is called.
pub(crate) fn append_record(fs: &MemFs, kind: u8, flags: u8, payload: &[u8]) -> String {
    let (number, bytes, records) = segments(fs).pop().unwrap();
    let end = *records.last().unwrap();
    let record = record(number, end as u64, (kind, flags, 0), payload);
    let name = format!("{number:06}.log");
    fs.write_file(Path::new(DIR).join(&name), [&bytes[..end], &record].concat()).unwrap();
    name
}

/// Appends a close to the last segment that says of so much that it was synced.
pub(crate) fn append_proof(fs: &MemFs, synced: u64) {
    let (number, bytes, records) = segments(fs).pop().unwrap();
    let end = *records.last().unwrap();
    let record = record(number, end as u64, (0x83, 0, synced), &[]);
    fs.write_file(Path::new(DIR).join(format!("{number:06}.log")), [&bytes[..end], &record].concat()).unwrap();
}

/// Changes some bytes of one record.
pub(crate) fn scramble_log(fs: &MemFs, below: &mut dyn FnMut(u64) -> u64) {
    let mut segments = segments(fs);
    segments.retain(|(_, _, records)| records.len() > 1);
    let at = random_index(segments.len(), below);
    let (number, bytes, records) = segments.swap_remove(at);
    let which = random_index(records.len() - 1, below);
    let (start, end) = (records[which], records[which + 1]);
    let mut payload = bytes[start + 22..end].to_vec();
    scramble(&mut payload, below);
    let mut kind = (bytes[start], bytes[start + 1], u64_at(&bytes, start + 10));
    if below(8) == 0 {
        kind = (1 + u8::try_from(below(255)).unwrap(), u8::try_from(below(4)).unwrap(), below(kind.2 + 1));
    }
    let record = record(number, start as u64, kind, &payload);
    let path = Path::new(DIR).join(format!("{number:06}.log"));
    fs.write_file(path, [&bytes[..start], &record, &bytes[end..]].concat()).unwrap();
}

// ---- tables ----

/// Has a table say that it covers the log up to a position.
pub(crate) fn set_log_end(fs: &MemFs, name: &str, log_end: u64) {
    let number: u64 = name.split_once('.').unwrap().0.parse().unwrap();
    let path = Path::new(DIR).join(name);
    let bytes = fs.read_file(&path).unwrap();
    let footer = bytes.len() - 84;
    let at = usize::try_from(u64_at(&bytes, footer + 48)).unwrap();
    let old = &bytes[at..at + u32_at(&bytes, footer + 56)];
    // Every kind that is written here has a payload below 128 bytes, but for what comes last.
    let (mut properties, mut from) = (vec![old[0]], 1);
    while from < old.len() && old[from] != 0x89 {
        let end = from + 2 + usize::from(old[from + 1]);
        let own = option(0x88, &varint(log_end));
        properties.extend(if old[from] == 0x88 { &own[..] } else { &old[from..end] });
        from = end;
    }
    properties.extend(&old[from..]);
    let len = (at + properties.len() + 5 + 84) as u64;
    properties[3 + 8..3 + 16].copy_from_slice(&len.to_le_bytes());
    let stored = u32::try_from(properties.len()).unwrap().to_le_bytes();
    properties.push(0);
    let crc = sum(8, number, at as u64, &[&properties]);
    let tail = &bytes[footer + 64..footer + 72];
    let handles = [&bytes[footer..footer + 48], &(at as u64).to_le_bytes(), &stored, &stored, tail].concat();
    let end = sum(9, number, (at + properties.len() + 4) as u64, &[&handles]);
    let forged = [&bytes[..at], &properties, &crc, &handles, &end, b"strandtb"].concat();
    assert_eq!(forged.len() as u64, len, "the forger knows the format");
    fs.write_file(&path, forged).unwrap();
}

// ---- chance ----

fn random_index(len: usize, below: &mut dyn FnMut(u64) -> u64) -> usize {
    usize::try_from(below(len as u64)).unwrap()
}

fn scramble(bytes: &mut Vec<u8>, below: &mut dyn FnMut(u64) -> u64) {
    for _ in 0..=below(3) {
        if bytes.is_empty() || below(12) == 0 {
            bytes.push(u8::try_from(below(256)).unwrap());
            continue;
        }
        let at = random_index(bytes.len(), below);
        match below(4) {
            0 => bytes[at] = 0xff,
            1 => bytes[at] ^= 1 << below(8),
            2 if below(8) == 0 => bytes.truncate(at),
            _ => bytes[at] = u8::try_from(below(256)).unwrap(),
        }
    }
}
