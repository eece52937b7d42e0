use super::*;
use crate::Error;

/// A small table with everything in it: histories that share a block, one with a tree, range tombstones, several
/// partitions.
fn small() -> Model {
    let mut model = Model::default();
    for i in 0..12u64 {
        let key = format!("key{i:02}");
        model.put(key.as_bytes(), version(40 + i % 3, Some(&[b'a' + u8::try_from(i).unwrap(); 33])));
        if i % 3 == 0 {
            model.put(key.as_bytes(), version(20, None));
            model.put(key.as_bytes(), version(10, Some(b"")));
        }
    }
    for i in 1..25 {
        let mut old = version(i, Some(&[u8::try_from(i).unwrap(); 10]));
        old.expires_at = (i % 4 == 0).then_some(i + 5);
        model.put(b"key05", old);
    }
    let stamp = |timestamp| Stamp { timestamp, sequence: TABLE_RANGE, late: false };
    let range = |start: &[u8], end: &[u8], timestamp| RangeTombstone {
        start: start.into(),
        end: Some(end.into()),
        stamp: stamp(timestamp),
    };
    model.ranges = fragment(&[range(b"key02", b"key08", 30), range(b"key04", b"key05", 5)]);
    model
}

/// Right, or refused as corrupt with the file's name and an offset in it (S27).
fn right_or_corrupt<T: PartialEq + std::fmt::Debug>(
    found: Result<T>,
    right: &T,
    file_len: usize,
    change: &str,
) -> bool {
    match found {
        Ok(found) => {
            assert_eq!(found, *right, "{change}");
            true
        }
        Err(Error::Corruption { path, offset, .. }) => {
            assert!(path.ends_with("000007.table") && offset <= file_len as u64, "{change}: offset {offset}");
            false
        }
        Err(other) => panic!("{change}: {other}"),
    }
}

fn check(fs: &MemFs, bytes: Vec<u8>, model: &Model, change: &str) {
    let len = bytes.len();
    fs.write_file(Path::new(DIR).join("000007.table"), bytes).unwrap();
    let reader = match open(fs, 7) {
        Ok(reader) => reader,
        Err(error) => {
            right_or_corrupt(Err(error), &(), len, change);
            return;
        }
    };
    for key in model.keys.keys() {
        for timestamp in [3, 12, 20, 41, u64::MAX] {
            right_or_corrupt(reader.get(key, timestamp), &model.at(key, timestamp), len, change);
        }
    }
    right_or_corrupt(read_forward(&mut cursor(&reader)), &model.keys, len, change);
    let mut cursor = cursor(&reader);
    let backward = |cursor: &mut TableCursor| -> Result<Vec<Vec<u8>>> {
        let mut keys = Vec::new();
        cursor.seek_to_last()?;
        while let Some(key) = cursor.key() {
            keys.push(key.to_vec());
            cursor.prev()?;
        }
        Ok(keys)
    };
    let keys: Vec<_> = model.keys.keys().rev().cloned().collect();
    if !right_or_corrupt(backward(&mut cursor), &keys, len, change) {
        assert_eq!(cursor.key(), None, "after an error the position is off the end");
    }
    assert_eq!(**reader.range_tombstones(), model.ranges, "{change}");
    assert!(reader.verify().is_err(), "{change}: not noticed");
}

#[test]
fn any_flipped_or_zeroed_byte_gives_the_right_answer_or_corruption() {
    // S27
    let model = small();
    for compression in [Compression::None, Compression::Lz4] {
        let fs = new_fs();
        write(&fs, 7, TableOptions { compression, ..options(150) }, &model);
        let good = fs.read_file(Path::new(DIR).join("000007.table")).unwrap();
        assert!(open(&fs, 7).unwrap().verify().is_ok());
        for i in 0..good.len() {
            for mask in [1u8 << (i % 8), 0xff] {
                let mut changed = good.clone();
                changed[i] ^= mask;
                check(&fs, changed, &model, &format!("{compression:?}, byte {i} ^ {mask:x}"));
            }
            for len in [1, 8, 512] {
                let mut changed = good.clone();
                let end = (i + len).min(good.len());
                changed[i..end].fill(0);
                if changed != good {
                    check(&fs, changed, &model, &format!("{compression:?}, {len} zeros at {i}"));
                }
            }
        }
    }
}

#[test]
fn a_file_that_was_cut_or_grew_is_refused() {
    // S27
    let model = small();
    let fs = new_fs();
    write(&fs, 7, options(150), &model);
    let path = Path::new(DIR).join("000007.table");
    let good = fs.read_file(&path).unwrap();
    for len in 0..good.len() {
        fs.write_file(&path, &good[..len]).unwrap();
        assert!(matches!(open(&fs, 7), Err(Error::Corruption { .. })), "cut to {len}");
    }
    fs.write_file(&path, [&good[..], &[0]].concat()).unwrap();
    assert!(matches!(open(&fs, 7), Err(Error::Corruption { .. })));
    // Cut under an open reader.
    fs.write_file(&path, &good[..]).unwrap();
    let reader = open(&fs, 7).unwrap();
    fs.write_file(&path, &good[..100]).unwrap();
    right_or_corrupt(read_forward(&mut cursor(&reader)), &model.keys, good.len(), "cut while open");
}

#[test]
fn a_block_of_another_file_or_place_does_not_pass() {
    // S27
    let model = small();
    let fs = new_fs();
    write(&fs, 7, options(150), &model);
    write(&fs, 8, options(150), &model);
    let dir = Path::new(DIR);
    fs.write_file(dir.join("000007.table"), fs.read_file(dir.join("000008.table")).unwrap()).unwrap();
    assert!(matches!(open(&fs, 7), Err(Error::Corruption { .. })));
}

/// What the checksums let through, the decoders must stand.
#[test]
fn decoders_of_blocks_never_panic_whatever_the_bytes_are() {
    // S27
    use crate::table::history::{HistoryIndex, HistoryRef, List};
    use crate::table::index::{IndexCursor, Span};
    use crate::table::rows::{DataBlock, Rows};
    use crate::table::slots::Cached;
    let rng = &mut StdRng::seed_from_u64(3);
    let fs = new_fs();
    write(&fs, 7, options(400), &small());
    let reader = open(&fs, 7).unwrap();
    let mut index = IndexCursor::default();
    let context = reader.index(Caching::Off, Span::ALL);
    let mut found = index.first(&context).unwrap();
    while found {
        let good = index.block(&context).unwrap().unwrap();
        for round in 0..3000 {
            let mut bytes = good.payload().to_vec();
            for _ in 0..rng.random_range(1..4) {
                let at = rng.random_range(0..bytes.len());
                bytes[at] = [0, 0xff, 0x7f, 0x80, rng.random()][round % 5];
            }
            let Ok(block) = DataBlock::parse(&bytes, 0).map(Cached::alone) else { continue };
            let _ = (block.find(b"key05"), block.history(0));
            let mut rows = Rows::default();
            rows.enter(block.clone());
            let (mut steps, mut moved) = (0, rows.first());
            while let Ok(true) = moved {
                if let Some((row, block)) = rows.row() {
                    let _ = (HistoryRef::of(row, block), row.version.borrow(block.bytes()));
                }
                steps += 1;
                assert!(steps < 10_000, "ends");
                moved = rows.next();
            }
            let _ = rows.seek(b"key05");
            let _ = rows.seek_for_prev(b"key05");
            let mut moved = rows.last();
            while let Ok(true) = moved {
                moved = rows.prev();
            }
            for offset in [0, 1, 5] {
                let Ok(mut list) = List::open(block.payload(), offset) else { continue };
                while let Ok(true) = list.advance(block.payload()) {}
            }
            let _ = HistoryIndex::parse(block.payload()).map(|index| index.child(1));
        }
        found = index.next(&context).unwrap();
    }
}
