use super::*;
use crate::fs::{Fault, FaultFs, FaultKind, Operation};

/// The shapes in which every random model is written.
fn shapes() -> Vec<TableOptions> {
    let codecs = [Compression::None, Compression::Lz4, Compression::Zstd(1)];
    let sizes = [0, 60, 300, 4096];
    let mut shapes = Vec::new();
    for (i, block_bytes) in sizes.into_iter().enumerate() {
        for compression in codecs {
            let filter_bits_per_key = if i % 2 == 0 { 10.0 } else { 0.0 };
            shapes.push(TableOptions { block_bytes, compression, filter_bits_per_key });
        }
    }
    shapes
}

#[test]
fn a_table_answers_as_a_map_would() {
    // S1, S2, S3
    for seed in 0..60 {
        println!("seed {seed}");
        let rng = &mut StdRng::seed_from_u64(seed);
        let (keys, versions) = [(1, 1), (8, 60), (60, 3), (200, 12), (400, 1)][rng.random_range(0..5usize)];
        let model = some_model(rng, keys, versions, 45);
        let shapes = shapes();
        let shape = shapes[rng.random_range(0..shapes.len())];
        let fs = new_fs();
        let meta = write(&fs, seed, shape, &model);
        let reader = open(&fs, seed).unwrap();

        assert_eq!(*reader.meta(), meta);
        assert_eq!(**reader.range_tombstones(), model.ranges);
        let verified = reader.verify().unwrap();
        let counted = model.keys.values().map(|versions| versions.len() as u64).sum::<u64>();
        assert_eq!((verified.bytes, verified.keys, verified.versions), (meta.bytes, model.keys.len() as u64, counted));
        assert_eq!(fs.read_file(Path::new(DIR).join(format!("{seed:06}.table"))).unwrap().len() as u64, meta.bytes);
        for probe in probes(&model) {
            for timestamp in [0, 1, 7, 20, 21, 44, 45, u64::MAX] {
                assert_eq!(
                    reader.get(&probe, timestamp).unwrap(),
                    model.at(&probe, timestamp),
                    "{probe:?} {timestamp}"
                );
            }
        }
        assert_eq!(read_forward(&mut cursor(&reader)).unwrap(), model.keys);
        check_walk(&mut cursor(&reader), &model, rng, 1500);
    }
}

#[test]
fn every_seek_in_every_shape_finds_its_key() {
    // S1, S2
    let model = some_model(&mut StdRng::seed_from_u64(5), 150, 4, 45);
    for (number, shape) in (1..).zip(shapes()) {
        let fs = new_fs();
        write(&fs, number, shape, &model);
        let mut cursor = cursor(&open(&fs, number).unwrap());
        for probe in probes(&model) {
            cursor.seek(&probe).unwrap();
            assert_eq!(cursor.key(), model.keys.range(probe.clone()..).next().map(|(key, _)| &key[..]));
            cursor.seek_for_prev(&probe).unwrap();
            assert_eq!(cursor.key(), model.keys.range(..=probe.clone()).next_back().map(|(key, _)| &key[..]));
        }
    }
}

#[test]
fn the_meta_says_what_is_in_the_table() {
    let mut model = Model::default();
    model.put(b"d", version(30, Some(b"x")));
    model.put(b"d", version(20, None));
    model.put(b"f", version(25, None));
    let meta = write(&new_fs(), 1, options(4096), &model);
    assert_eq!((&*meta.smallest, &meta.upper), (&b"d"[..], &UpperBound::Included(Slice::from(&b"f"[..]))));
    assert_eq!((meta.min_timestamp, meta.max_timestamp, meta.late), (20, 30, false));
    assert_eq!((meta.keys, meta.versions, meta.tombstones, meta.range_tombstones), (2, 3, 2, 0));
    // The tombstone of `f` may go from 25 on, the one that `d` shadows from 30 on.
    let freed = [24, 25, 29, 30].map(|floor| meta.freeable.at(floor));
    assert!(freed[0] == 0 && freed[1] > 0 && freed[1] == freed[2] && freed[3] > freed[2], "{freed:?}");
    assert!(freed[3] < meta.bytes);

    let range = |start: &str, end: Option<&str>, timestamp, late| RangeTombstone {
        start: start.as_bytes().into(),
        end: end.map(|end| end.as_bytes().into()),
        stamp: Stamp { timestamp, sequence: TABLE_RANGE, late },
    };
    model.ranges = fragment(&[range("b", Some("c"), 10, true), range("c", Some("f\0"), 50, false)]);
    let meta = write(&new_fs(), 1, options(4096), &model);
    assert_eq!((&*meta.smallest, &meta.upper), (&b"b"[..], &UpperBound::Excluded(Slice::from(&b"f\0"[..]))));
    assert_eq!((meta.min_timestamp, meta.max_timestamp, meta.late), (10, 50, true));
    model.ranges = fragment(&[range("e", None, 26, false)]);
    let meta = write(&new_fs(), 1, options(4096), &model);
    assert_eq!((&*meta.smallest, &meta.upper, meta.late), (&b"d"[..], &UpperBound::Unbounded, false));
}

#[test]
fn a_table_may_hold_range_tombstones_only() {
    let mut model = Model::default();
    let stamp = Stamp { timestamp: 9, sequence: TABLE_RANGE, late: false };
    model.ranges = fragment(&[RangeTombstone { start: Slice::from(&b"b"[..]), end: None, stamp }]);
    let fs = new_fs();
    let meta = write(&fs, 1, options(4096), &model);
    let reader = open(&fs, 1).unwrap();
    assert_eq!(reader.verify().unwrap().bytes, meta.bytes);
    assert_eq!(reader.get(b"c", 10).unwrap(), None);
    let mut cursor = cursor(&reader);
    for step in [TableCursor::seek_to_first, TableCursor::seek_to_last, TableCursor::next, TableCursor::prev] {
        step(&mut cursor).unwrap();
        assert_eq!(cursor.key(), None);
    }
    assert_eq!(cursor.covering(b"c", 9).unwrap().map(|stamp| stamp.timestamp), Some(9));
}

#[test]
fn a_cursor_limited_to_timestamps_reads_no_block_without_them_and_misses_no_key_with_one() {
    let mut model = Model::default();
    for i in 0..2000u64 {
        let key = format!("{i:05}");
        model.put(key.as_bytes(), version(i / 10 + 1, Some(b"some value")));
        if i % 700 == 0 {
            model.put(key.as_bytes(), version(1000 + i, Some(b"newer")));
        }
    }
    let fs = new_fs();
    write(&fs, 1, options(256), &model);
    for (min, max, blocks) in [(50, 52, 12), (1000, 1700, 20), (500, 900, 14), (1500, u64::MAX, 11), (5000, 6000, 0)] {
        let reader = open(&fs, 1).unwrap();
        let within = |version: &StoredVersion| (min..=max).contains(&version.stamp.timestamp);
        let wanted: Vec<_> = model.keys.iter().filter(|(_, versions)| versions.iter().any(within)).collect();
        let mut cursor = cursor(&reader);
        cursor.set_timestamp_range(min, max);
        let mut seen = read_forward(&mut cursor).unwrap();
        assert!(reader.cache().misses() <= blocks, "{} blocks for {min} to {max}", reader.cache().misses());
        assert!(wanted.iter().all(|(key, versions)| seen.get(*key) == Some(versions)));
        cursor.seek_to_last().unwrap();
        while let Some(key) = cursor.key() {
            assert!(seen.remove(key).is_some());
            cursor.prev().unwrap();
        }
        assert!(seen.is_empty());
    }
}

#[test]
fn a_point_read_costs_one_block_of_each_kind_and_none_for_an_absent_key() {
    let mut model = Model::default();
    (0..3000u64).for_each(|i| model.put(format!("{:05}", i * 2).as_bytes(), version(i + 1, Some(&[7; 40]))));
    let fs = new_fs();
    write(&fs, 1, options(1024), &model);
    let reader = open(&fs, 1).unwrap();
    assert!(reader.get(b"01000", u64::MAX).unwrap().is_some());
    assert_eq!(reader.cache().misses(), 2);
    let absent = (0..3000u64).filter(|i| {
        let before = reader.cache().misses() + reader.cache().hits();
        assert_eq!(reader.get(format!("{:05}", i * 2 + 1).as_bytes(), u64::MAX).unwrap(), None);
        reader.cache().misses() + reader.cache().hits() > before
    });
    assert!(absent.count() < 150);
    // No version of the block is that old.
    let before = reader.cache().misses();
    assert_eq!(reader.get(b"05998", 10).unwrap(), None);
    assert!(reader.cache().misses() <= before + 1);
}

#[test]
fn a_large_value_is_not_copied_and_keeps_its_neighbours_blocks_small() {
    let large: Vec<u8> = (0..5_000_000u32).map(|i| (i.wrapping_mul(i) >> 7).to_le_bytes()[0]).collect();
    let mut model = Model::default();
    model.put(b"a", version(1, Some(b"small")));
    model.put(b"b", version(2, Some(&large)));
    model.put(b"b", version(1, Some(&large)));
    model.put(b"c", version(1, Some(b"small")));
    for compression in [Compression::None, Compression::Lz4] {
        let fs = new_fs();
        write(&fs, 1, TableOptions { compression, ..options(4096) }, &model);
        let reader = open(&fs, 1).unwrap();
        assert_eq!(reader.get(b"b", 1).unwrap().unwrap().value.unwrap(), large);
        let mut cursor = cursor(&reader);
        cursor.seek(b"b").unwrap();
        let value = cursor.version_at(9).unwrap().unwrap().value.unwrap();
        assert_eq!(value.to_slice().as_ptr(), value.bytes.as_ptr());
        assert!(value.owner.unwrap().len() < large.len() + 100);
        cursor.next().unwrap();
        assert!(cursor.version_at(9).unwrap().unwrap().value.unwrap().owner.unwrap().len() < 100);
        assert!(reader.verify().is_ok());
    }
}

#[test]
fn what_compresses_beyond_belief_is_read_back() {
    let mut model = Model::default();
    model.put(b"zeros", version(1, Some(&vec![0; 20_000_000])));
    for compression in [Compression::Lz4, Compression::Zstd(1)] {
        let fs = new_fs();
        let meta = write(&fs, 1, TableOptions { compression, ..options(4096) }, &model);
        assert!(meta.bytes < 1_000_000);
        assert_eq!(open(&fs, 1).unwrap().get(b"zeros", 1).unwrap(), model.at(b"zeros", 1));
    }
}

#[test]
fn misuse_is_an_error_and_no_file_that_reads_wrongly() {
    let fs = new_fs();
    let mut number = 0;
    let mut writer = || {
        number += 1;
        create(&fs, number, options(4096))
    };
    assert!(writer().finish().is_err());
    assert!(writer().end_key().is_err());
    assert!(add_version(&mut writer(), &version(1, None)).is_err());
    let mut one = writer();
    one.begin_key(b"b").unwrap();
    assert!(one.begin_key(b"c").is_err());
    add_version(&mut one, &version(5, None)).unwrap();
    assert!(add_version(&mut one, &version(5, None)).is_err());
    assert!(add_version(&mut one, &version(6, None)).is_err());
    one.end_key().unwrap();
    assert!(one.begin_key(b"b").is_err() && one.begin_key(b"a").is_err());
    // A key without a version is left out.
    one.begin_key(b"c").unwrap();
    one.end_key().unwrap();
    let meta = one.finish().unwrap();
    assert_eq!((meta.keys, meta.upper), (1, UpperBound::Included(Slice::from(&b"b"[..]))));
    let existing = TableWriter::create(&any(&fs), Purpose::Flush, Path::new(DIR), meta.number, options(4096));
    assert!(existing.is_err());
}

#[test]
fn a_write_that_fails_at_any_call_makes_no_table() {
    // S24
    let value = vec![3; 100_000];
    for operation in [Operation::Create, Operation::Append, Operation::Sync, Operation::SyncDir] {
        for nth in 0..3 {
            let fs = FaultFs::new(new_fs());
            let (purpose, kind) = (Some(Purpose::Flush), FaultKind::Io);
            fs.inject(Fault { purpose, operation: Some(operation), nth, kind, repeat: false });
            let any: Arc<dyn Fs> = Arc::new(fs.clone());
            let dir = Path::new(DIR);
            let Ok(mut writer) = TableWriter::create(&any, Purpose::Flush, dir, FileNumber(1), options(4096)) else {
                continue;
            };
            let mut failed = false;
            for key in 0..5u8 {
                writer.begin_key(&[key]).unwrap();
                failed |= add_version(&mut writer, &version(1, Some(&value))).is_err();
                writer.end_key().unwrap();
            }
            let calls = if operation == Operation::Append { 3 } else { 1 };
            let finished = writer.finish();
            assert_eq!(finished.is_err(), nth < calls, "{operation:?} {nth}");
            assert!(!failed || finished.is_err());
        }
    }
}
