//! What fuzzing asks of the manifest: that it stands any bytes, and that what it says can be said again.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a promise that is broken is a panic here"
)]

use std::path::Path;

use super::current;
use super::edit::{Change, Edit};
use super::file::{Role, frame_at, goes_on_after, header};
use super::header::HEADER_BYTES;
use super::load::load;
use super::options;
use super::state::{KeyspaceId, ManifestState};
use super::writer::Manifest;
use crate::format::{Decoder, FileKind, FileNumber, checksum};
use crate::fs::{Fs, MemFs, Purpose};
use crate::fuzzing::{pieces, pieces_of};
use crate::log::{Cut, LogPosition, Proof};
use crate::options::{KeyspaceSettings, Retention};
use crate::sync::Arc;
use crate::table::{Freeable, TableMeta, UpperBound};
use crate::{Compression, Error, Slice};

const DIR: &str = "/db";
const NUMBER: FileNumber = FileNumber(7);
const FRAME_HEAD: usize = 13;

/// The first byte says what the others are: the bytes of a manifest (0), the same to be sealed (1), or edits one behind
/// the other (2), which make a state that is written and read back.
pub fn manifest(input: &[u8]) -> usize {
    let Some((mode, bytes)) = input.split_first() else { return 0 };
    match mode % 3 {
        0 => load_and_go_on(bytes),
        1 => {
            let mut file = bytes.to_vec();
            seal(&mut file);
            load_and_go_on(&file);
        }
        _ => edits(&pieces(bytes)),
    }
    bytes.len()
}

fn new_fs() -> MemFs {
    let fs = MemFs::new();
    fs.create_dir(Purpose::Directory, Path::new(DIR)).unwrap();
    fs
}

/// Fills the checksums that are 0, frame after frame as their lengths say.
fn seal(file: &mut [u8]) {
    if file.len() >= HEADER_BYTES {
        fill(file, HEADER_BYTES - 4, |file| checksum(0x40, NUMBER, 0, &[&file[..HEADER_BYTES - 4]]));
    }
    let mut at = HEADER_BYTES;
    while let Some(len) = file.get(at..at + FRAME_HEAD).and_then(|head| head.first_chunk()) {
        let payload = at + FRAME_HEAD..at + FRAME_HEAD + u32::from_le_bytes(*len) as usize;
        let end = payload.end;
        if end <= file.len() {
            fill(file, at + 5, |file| checksum(0x42, NUMBER, at as u64, &[&file[payload.clone()]]));
        }
        fill(file, at + 9, |file| checksum(0x41, NUMBER, at as u64, &[&file[at..at + 9]]));
        at = end;
    }
}

fn fill(file: &mut [u8], at: usize, crc: impl Fn(&[u8]) -> u32) {
    if file[at..at + 4] == [0; 4] {
        let crc = crc(file);
        file[at..at + 4].copy_from_slice(&crc.to_le_bytes());
    }
}

/// A directory whose `CURRENT` names a manifest of these bytes.
fn load_and_go_on(file: &[u8]) {
    let fs = new_fs();
    current::prepare(&fs, Path::new(DIR), NUMBER).unwrap();
    current::switch(&fs, Path::new(DIR)).unwrap();
    fs.write_file(FileKind::Manifest.path(Path::new(DIR), NUMBER), file).unwrap();
    match load(&fs, Path::new(DIR)) {
        Ok(loaded) => {
            let loaded = loaded.expect("CURRENT is there");
            assert!(loaded.number == NUMBER && loaded.len <= file.len() as u64);
            check_state(&loaded.state);
            write_and_read(&fs, loaded.state, &Edit::default());
        }
        Err(Error::Corruption { path, offset, .. }) => {
            assert!(path.starts_with(DIR) && offset <= file.len() as u64);
        }
        Err(Error::UnsupportedFormat { .. }) => {}
        Err(other) => panic!("neither a state nor corruption: {other}"),
    }
}

/// Applies what of the edits makes sense, and writes the state down in between.
fn edits(pieces: &[&[u8]]) {
    let mut state = ManifestState::default();
    for piece in pieces {
        let Ok(edit) = Edit::decode(piece) else { continue };
        check_edit(&edit);
        if let Ok(next) = state.after(&edit) {
            check_state(&next);
            if state.file_number_bound > NUMBER {
                write_and_read(&new_fs(), state, &edit);
            }
            state = next;
        }
    }
    if state.file_number_bound > NUMBER {
        write_and_read(&new_fs(), state, &Edit::default());
    }
}

fn check_edit(edit: &Edit) {
    let mut bytes = Vec::new();
    edit.encode(&mut bytes);
    assert_eq!(Edit::decode(&bytes).as_ref(), Ok(edit), "what is encoded is read back");
}

/// What every state must be, whatever edits led to it.
fn check_state(state: &ManifestState) {
    for (id, keyspace) in &state.keyspaces {
        assert!(*id < state.next_keyspace_id && !keyspace.name.is_empty());
        assert_eq!(keyspace.tables.check_order(), Ok(()), "T3");
        assert_eq!(state.keyspace_named(&keyspace.name).map(|(id, _)| id), Some(*id));
        for (_, table) in keyspace.tables.iter() {
            assert!(state.has_table(table.number) && table.number < state.file_number_bound, "S29");
        }
    }
}

/// A state that is written to a new manifest, with an edit behind it, is read back with the edit applied.
fn write_and_read(fs: &MemFs, state: ManifestState, edit: &Edit) {
    let Some(number) = state.file_number_bound.0.checked_sub(1).map(FileNumber) else { return };
    if fs.open(Purpose::Manifest, &FileKind::Manifest.path(Path::new(DIR), number)).is_ok() {
        return;
    }
    let expected = state.after(edit).unwrap();
    let mut manifest = Manifest::create(Arc::new(fs.clone()), Path::new(DIR), number, state).unwrap();
    manifest.append(edit).unwrap();
    let loaded = load(fs, Path::new(DIR)).expect("what was written is read back").expect("CURRENT is there");
    assert_eq!(loaded.number, number);
    assert_eq!(loaded.state, expected);
    assert_eq!(loaded.len, manifest.len());
}

/// `CURRENT`, sealed.
pub(crate) fn current(bytes: &[u8]) {
    let mut file = bytes.to_vec();
    if file.len() >= HEADER_BYTES {
        fill(&mut file, HEADER_BYTES - 4, |file| checksum(0x43, FileNumber(0), 0, &[&file[..HEADER_BYTES - 4]]));
    }
    let fs = new_fs();
    fs.write_file(current::path(Path::new(DIR)), &file[..]).unwrap();
    match current::read(&fs, Path::new(DIR)) {
        Ok(number) => {
            let again = new_fs();
            current::prepare(&again, Path::new(DIR), number.expect("the file is there")).unwrap();
            current::switch(&again, Path::new(DIR)).unwrap();
            assert_eq!(again.read_file(current::path(Path::new(DIR))).unwrap(), file);
        }
        Err(Error::Corruption { path, .. } | Error::UnsupportedFormat { path, .. }) => {
            assert_eq!(path, current::path(Path::new(DIR)));
        }
        Err(other) => panic!("{other}"),
    }
}

pub(crate) fn options(bytes: &[u8]) {
    let Ok(settings) = options::decode(&mut Decoder::new(bytes)) else { return };
    let mut again = Vec::new();
    options::encode(&settings, &mut again);
    assert_eq!(options::decode(&mut Decoder::new(&again)), Ok(settings));
}

pub(crate) fn edit(bytes: &[u8]) {
    if let Ok(edit) = Edit::decode(bytes) {
        check_edit(&edit);
    }
}

/// A frame anywhere in a file that is nothing else.
pub(crate) fn frame(bytes: &[u8]) {
    let mut file = [&header(NUMBER)[..], bytes].concat();
    seal(&mut file);
    for offset in (0..file.len()).chain([usize::MAX - 3]) {
        if let Some(Ok(frame)) = frame_at(&file, NUMBER, offset) {
            assert!(frame.end() <= file.len() && frame.payload_at == offset + FRAME_HEAD);
            let again = super::file::frame(frame.role, NUMBER, offset as u64, frame.payload).unwrap();
            assert_eq!(again, file[offset..frame.end()]);
        }
    }
    let _ = goes_on_after(&file, NUMBER, HEADER_BYTES);
}

fn table(number: u64, first: &str, last: &str) -> Arc<TableMeta> {
    Arc::new(TableMeta {
        number: FileNumber(number),
        bytes: 1000 + number,
        smallest: Slice::copy_of(first.as_bytes()),
        upper: UpperBound::Included(Slice::copy_of(last.as_bytes())),
        min_timestamp: number,
        max_timestamp: number + 10,
        keys: 3,
        versions: 4,
        tombstones: 1,
        range_tombstones: 0,
        late: false,
        freeable: Freeable::of([(3, 40), (9, 50)]),
        log_end: 0,
    })
}

fn create(id: u32, name: &str, retention: Retention) -> Change {
    let options = KeyspaceSettings {
        retention,
        compression_per_level: vec![Compression::Zstd(-3), Compression::None],
        ..KeyspaceSettings::default()
    };
    Change::CreateKeyspace { id: KeyspaceId(id), name: name.to_owned(), options: Box::new(options), created_at: 4 }
}

/// A history of edits that has every kind of change in it.
fn history() -> Vec<Edit> {
    let id = KeyspaceId(0);
    let add = |level, table| Change::AddTable { keyspace: id, level, table };
    [
        vec![Change::FileNumberBound { bound: FileNumber(40) }, create(0, "a", Retention::Manual)],
        vec![create(1, "b", Retention::Window(9)), Change::NextKeyspace { id: KeyspaceId(5) }],
        vec![
            add(0, table(10, "b", "d")),
            Change::KeyspaceLog { id, position: 50 },
            Change::LastTimestamp { timestamp: 30 },
        ],
        vec![add(0, table(11, "c", "k")), add(1, table(12, "a", "b")), add(1, table(13, "c", "f"))],
        vec![
            Change::RemoveTable { keyspace: id, level: 1, number: FileNumber(12) },
            Change::RemoveTable { keyspace: id, level: 0, number: FileNumber(10) },
            add(2, table(14, "a", "f")),
            Change::KeyspaceFloor { id, floor: 12 },
        ],
        vec![Change::Closed { timestamp: 8 }, Change::ManualFloor { floor: 9 }],
        vec![
            Change::LogStart { ordinal: 2, position: 20 },
            Change::LogProved(Proof { ordinal: 2, position: LogPosition(40) }),
            Change::LogCut(Cut { ordinal: 3, end: LogPosition(60), next_ordinal: 6 }),
        ],
        vec![Change::DropKeyspace { id: KeyspaceId(1) }],
    ]
    .map(Edit::from)
    .into()
}

fn encoded(edit: &Edit) -> Vec<u8> {
    let mut bytes = Vec::new();
    edit.encode(&mut bytes);
    bytes
}

pub(crate) fn manifest_seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    let all: Vec<_> = history().iter().map(encoded).collect();
    for len in [1, 3, 5, all.len()] {
        seeds.push([&[2], &pieces_of(&all[..len])[..]].concat());
    }
    // A file of a snapshot and edits behind it.
    let history = history();
    let state = history[..3].iter().fold(ManifestState::default(), |state, edit| state.after(edit).unwrap());
    let mem = new_fs();
    let mut manifest = Manifest::create(Arc::new(mem.clone()), Path::new(DIR), NUMBER, state).unwrap();
    for (number, edit) in history[3..].iter().enumerate() {
        let mut file = mem.read_file(FileKind::Manifest.path(Path::new(DIR), NUMBER)).unwrap();
        if number % 2 == 0 {
            seeds.push([&[0], &file[..]].concat());
        }
        unseal(&mut file);
        seeds.push([&[1], &file[..]].concat());
        manifest.append(edit).unwrap();
    }
    seeds
}

fn unseal(file: &mut [u8]) {
    file[HEADER_BYTES - 4..HEADER_BYTES].fill(0);
    let mut at = HEADER_BYTES;
    while let Some(head) = file.get_mut(at..at + FRAME_HEAD) {
        head[5..].fill(0);
        at += FRAME_HEAD + u32::from_le_bytes(*head.first_chunk().unwrap()) as usize;
    }
}

pub(crate) fn edit_seeds() -> Vec<Vec<u8>> {
    history().iter().map(encoded).collect()
}

pub(crate) fn options_seeds() -> Vec<Vec<u8>> {
    let Change::CreateKeyspace { options, .. } = create(0, "a", Retention::Window(9)) else { return Vec::new() };
    let mut bytes = Vec::new();
    options::encode(&options, &mut bytes);
    vec![bytes]
}

pub(crate) fn current_seeds() -> Vec<Vec<u8>> {
    let fs = new_fs();
    current::prepare(&fs, Path::new(DIR), NUMBER).unwrap();
    current::switch(&fs, Path::new(DIR)).unwrap();
    let good = fs.read_file(current::path(Path::new(DIR))).unwrap();
    let mut zeroed = good.clone();
    zeroed[HEADER_BYTES - 4..].fill(0);
    vec![good, zeroed]
}

pub(crate) fn frame_seeds() -> Vec<Vec<u8>> {
    let payload = encoded(&history()[3]);
    let mut good = super::file::frame(Role::Edit, NUMBER, HEADER_BYTES as u64, &payload).unwrap();
    let seeds = good.clone();
    good[5..FRAME_HEAD].fill(0);
    vec![seeds, good]
}
