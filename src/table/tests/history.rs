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
