use super::*;

/// A key with `count` versions, at timestamps 10, 20, …, between two neighbours.
fn long_history(fs: &MemFs, count: u64, block_bytes: usize) -> (Arc<TableReader>, TableMeta) {
    let mut writer = create(fs, 1, options(block_bytes));
    for key in [&b"j"[..], b"k", b"l"] {
        writer.begin_key(key).unwrap();
        for i in (1..=if key == b"k" { count } else { 1 }).rev() {
            add_version(&mut writer, &version(10 * i, (!i.is_multiple_of(7)).then_some(&i.to_le_bytes()[..]))).unwrap();
        }
        writer.end_key().unwrap();
    }
    let meta = writer.finish().unwrap();
    (open(fs, 1).unwrap(), meta)
}

fn expected(i: u64) -> StoredVersion {
    version(10 * i, (!i.is_multiple_of(7)).then_some(&i.to_le_bytes()[..]))
}

#[test]
fn a_version_among_a_hundred_thousand_is_found_in_a_few_blocks() {
    // S37
    let count = 100_000;
    let (reader, meta) = long_history(&new_fs(), count, 4096);
    assert_eq!((meta.keys, meta.versions), (3, count + 2));
    let rng = &mut StdRng::seed_from_u64(1);
    for _ in 0..300 {
        let timestamp = rng.random_range(10..10 * count + 20);
        let before = reader.cache().misses() + reader.cache().hits();
        let found = reader.get(b"k", timestamp).unwrap();
        assert_eq!(found, Some(expected((timestamp / 10).min(count))), "at {timestamp}");
        let blocks = reader.cache().misses() + reader.cache().hits() - before;
        assert!(blocks <= 5, "{blocks} blocks");
    }
    assert_eq!(reader.get(b"k", 9).unwrap(), None);
    assert!(reader.verify().is_ok());
}

#[test]
fn a_scan_of_the_present_reads_no_history() {
    let (reader, _) = long_history(&new_fs(), 20_000, 4096);
    let mut cursor = cursor(&reader);
    cursor.seek_to_first().unwrap();
    while cursor.key().is_some() {
        assert!(cursor.version_at(u64::MAX).unwrap().is_some());
        cursor.next().unwrap();
    }
    assert_eq!(reader.cache().misses(), 2);
}

#[test]
fn a_merge_reads_every_block_once_and_leaves_none_in_the_cache() {
    let rng = &mut StdRng::seed_from_u64(8);
    let model = some_model(rng, 300, 20, 10_000);
    let fs = new_fs();
    write(&fs, 1, options(500), &model);
    let read = |caching| {
        let reader = open(&fs, 1).unwrap();
        assert_eq!(read_forward(&mut TableCursor::new(reader.clone(), caching)).unwrap(), model.keys);
        (reader.cache().misses(), reader.cache().bytes())
    };
    let (blocks, held) = read(Caching::Fill);
    assert!(held > 0);
    assert_eq!(read(Caching::LookUp), (blocks, 0));
}

#[test]
fn older_versions_follow_from_anywhere_in_a_history() {
    // S2
    for (count, block_bytes) in [(2, 64), (5, 64), (40, 64), (3000, 0), (3000, 100), (30_000, 4096)] {
        let (reader, _) = long_history(&new_fs(), count, block_bytes);
        let mut cursor = cursor(&reader);
        cursor.seek(b"k").unwrap();
        let mut i = count;
        let mut next = cursor.version_at(u64::MAX).unwrap().map(|version| version.to_owned());
        while let Some(version) = next {
            assert_eq!(version, expected(i));
            i -= 1;
            next = cursor.older_version().unwrap().map(|version| version.to_owned());
        }
        assert_eq!(i, 0, "{count} versions in blocks of {block_bytes}");
        assert!(cursor.older_version().unwrap().is_none());
        for start in [count, count / 2 + 1, 1] {
            let mut found = cursor.version_at(10 * start + 5).unwrap().map(|version| version.to_owned());
            for i in (1..=start).rev().take(50) {
                assert_eq!(found, Some(expected(i)));
                found = cursor.older_version().unwrap().map(|version| version.to_owned());
            }
        }
        assert!(cursor.version_at(9).unwrap().is_none() && cursor.older_version().unwrap().is_none());
        assert!(reader.verify().is_ok());
    }
}

/// Walks of some length at one time in the past, in which versions are looked up ahead, and whatever may come between.
#[test]
fn walks_in_the_past_find_the_right_versions_wherever_they_turn_or_jump() {
    // S1
    for seed in 0..40u64 {
        let rng = &mut StdRng::seed_from_u64(seed);
        let model = some_model(rng, 200, 6, 100);
        let fs = new_fs();
        write(&fs, 1, options(if seed.is_multiple_of(2) { 100 } else { 4000 }), &model);
        let mut cursor = cursor(&open(&fs, 1).unwrap());
        let mut timestamp = 50;
        for _ in 0..60 {
            match rng.random_range(0..6) {
                0 => cursor.seek(b"\xff\xff\xff\xff\xff\xff").unwrap(),
                1 => cursor.seek_to_last().unwrap(),
                2 => cursor.seek(&some_key(rng)).unwrap(),
                3 => cursor.seek_for_prev(&some_key(rng)).unwrap(),
                4 => timestamp = rng.random_range(1..=100),
                _ => {}
            }
            let forward = rng.random_bool(0.5);
            for _ in 0..rng.random_range(0..12) {
                let Some(key) = cursor.key().map(<[u8]>::to_vec) else { break };
                let found = cursor.version_at(timestamp).unwrap().map(|version| version.to_owned());
                assert_eq!(found, model.at(&key, timestamp), "seed {seed}: {key:?} at {timestamp}");
                if rng.random_bool(0.1) {
                    let older = cursor.older_version().unwrap().map(|version| version.to_owned());
                    let below = found.and_then(|found| model.at(&key, found.stamp.timestamp - 1));
                    assert_eq!(older, below, "seed {seed}: {key:?} below what it had at {timestamp}");
                }
                if forward { cursor.next().unwrap() } else { cursor.prev().unwrap() }
            }
        }
    }
}

#[test]
fn a_version_that_was_looked_up_ahead_is_forgotten_off_the_end() {
    let fs = new_fs();
    let mut writer = create(&fs, 1, options(4096));
    for key in b'a'..=b'k' {
        writer.begin_key(&[key]).unwrap();
        for timestamp in [10, 5] {
            add_version(&mut writer, &version(timestamp, Some(b"v"))).unwrap();
        }
        writer.end_key().unwrap();
    }
    writer.finish().unwrap();
    let mut cursor = cursor(&open(&fs, 1).unwrap());
    for walked in 1..8 {
        cursor.seek_to_first().unwrap();
        for _ in 0..walked {
            assert!(cursor.version_at(5).unwrap().is_some());
            cursor.next().unwrap();
        }
        let key = cursor.key().unwrap().to_vec();
        cursor.seek(b"z").unwrap();
        assert!(cursor.key().is_none());
        cursor.seek(&key).unwrap();
        assert!(cursor.version_at(5).unwrap().is_some(), "after {walked}");
    }
}

#[test]
fn a_writer_holds_little_of_a_long_history() {
    // S37
    let mut writer = create(&new_fs(), 1, options(4096));
    writer.begin_key(b"k").unwrap();
    for i in (1..=200_000).rev() {
        add_version(&mut writer, &expected(i)).unwrap();
        assert!(writer.unwritten_bytes() < 5 * 4096);
    }
    writer.end_key().unwrap();
    writer.finish().unwrap();
}

/// A history whose index blocks name the one below twice: of two versions it would make four, then eight, and so on.
#[test]
fn a_history_that_names_its_lists_again_and_again_is_corrupt_and_its_walk_ends() {
    // B1
    use crate::Error;
    use crate::format::{Encode, FileKind};
    use crate::table::block::{BlockKind, BlockSink, BlockSource};
    use crate::table::history::{HistoryCursor, HistoryIndex, HistoryRef};
    use crate::table::row::{DataBlockBuilder, Row};
    use crate::table::rows::{DataBlock, Rows};
    use crate::table::slots::Cached;

    const LEVELS: u8 = 30;
    let fs = new_fs();
    let path = FileKind::Table.path(Path::new(DIR), FileNumber(1));
    let mut sink =
        BlockSink::new(fs.create(Purpose::Flush, &path).unwrap(), path.clone(), FileNumber(1), Compression::None);
    let mut list = Vec::new();
    list.put_varint(2);
    // Two tombstones, at 40 and 30.
    list.put_bytes(&[2, 40, 2, 10]);
    let mut below = sink.write(BlockKind::History, &list).unwrap();
    for _ in 0..LEVELS {
        let mut index = Vec::new();
        HistoryIndex::put(&mut index, 30, below);
        HistoryIndex::put(&mut index, 30, below);
        below = sink.write(BlockKind::HistoryIndex, &index).unwrap();
    }
    let mut rows = DataBlockBuilder::default();
    rows.add(b"k", &version(50, None).as_version_ref());
    rows.add_history(&HistoryRef { levels: LEVELS, number: 0, offset: 0, oldest: 30 });
    let block = DataBlock::parse(rows.finish(&[below]), 0).unwrap();
    sink.finish(&[]).unwrap();
    let file = fs.open(Purpose::Table, &path).unwrap();
    let source = BlockSource::new(file, path, FileNumber(1), Arc::new(BlockCache::new(0))).unwrap();

    let mut rows = Rows::default();
    rows.enter(Cached::alone(block));
    assert!(rows.first().unwrap());
    let row: (&Row, &DataBlock) = rows.row().unwrap();
    let mut history = HistoryCursor::default();
    assert!(history.seek(&source, Caching::Off, row, 49).unwrap());
    assert!(history.older(&source, Caching::Off).unwrap());
    assert!(matches!(history.older(&source, Caching::Off), Err(Error::Corruption { .. })));
}
