use super::*;
use crate::Error;

fn store(fs: &MemFs, max_open_files: usize) -> Arc<TableStore> {
    TableStore::new(any(fs), DIR.into(), Arc::new(BlockCache::new(1 << 20)), max_open_files)
}

/// Cuts a model into tables that do not overlap, one of which holds range tombstones only.
fn cut(fs: &MemFs, store: &Arc<TableStore>, model: &Model, pieces: usize) -> Vec<Arc<Table>> {
    let keys: Vec<&Vec<u8>> = model.keys.keys().collect();
    let edges: Vec<Vec<u8>> = (1..pieces).map(|i| keys[i * keys.len() / pieces].clone()).collect();
    let starts = std::iter::once(Vec::new()).chain(edges.clone());
    let ends = edges.into_iter().map(Some).chain([None]);
    let mut tables = Vec::new();
    for (number, (start, end)) in (1..).zip(starts.zip(ends)) {
        let within = |key: &[u8]| *start <= *key && end.as_deref().is_none_or(|end| key < end);
        let keys = model.keys.iter().filter(|(key, _)| within(key)).map(|(k, v)| (k.clone(), v.clone())).collect();
        let ranges = model.ranges.fragments().iter().filter_map(|fragment| {
            let mut fragment = fragment.clone();
            fragment.start = fragment.start.max(Slice::from(&start[..]));
            let limit = end.as_deref().map(Slice::from);
            fragment.end = match (fragment.end, limit) {
                (Some(end), Some(limit)) => Some(end.min(limit)),
                (end, limit) => end.or(limit),
            };
            fragment.end.as_ref().is_none_or(|end| fragment.start < *end).then_some(fragment)
        });
        let piece = Model { keys, ranges: RangeTombstones::new(ranges.collect()) };
        tables.push(Table::new(store, Arc::new(write(fs, number, options(200), &piece))));
    }
    tables
}

#[test]
fn a_run_of_tables_answers_as_one_map_would() {
    // S1, S2
    for seed in 0..20 {
        println!("seed {seed}");
        let rng = &mut StdRng::seed_from_u64(seed);
        let model = some_model(rng, 120, 5, 45);
        let fs = new_fs();
        let store = store(&fs, rng.random_range(1..5));
        let tables = cut(&fs, &store, &model, rng.random_range(1..7));
        let mut cursor = RunCursor::new(Arc::new(Level::run(tables)));
        assert_eq!(read_forward(&mut cursor).unwrap(), model.keys);
        check_walk(&mut cursor, &model, rng, 1500);
    }
}

#[test]
fn a_run_opens_only_tables_that_have_the_timestamps() {
    let fs = new_fs();
    let store = store(&fs, 100);
    let table = |number: u64, timestamp| {
        let mut model = Model::default();
        model.put(format!("{number}").as_bytes(), version(timestamp, Some(b"x")));
        Table::new(&store, Arc::new(write(&fs, number, options(4096), &model)))
    };
    let tables: Vec<_> = (1..=5).map(|i| table(i, i * 10)).collect();
    let mut cursor = RunCursor::new(Arc::new(Level::run(tables)));
    cursor.set_timestamp_range(25, 40);
    let seen: Vec<_> = read_forward(&mut cursor).unwrap().into_keys().collect();
    assert_eq!(seen, [b"3", b"4"]);
    assert_eq!(store.opened(), 2);
}

#[test]
fn no_more_tables_are_open_than_allowed_and_those_in_use_stay() {
    let fs = new_fs();
    let store = store(&fs, 3);
    let tables: Vec<_> = (1..=10)
        .map(|number| {
            let mut model = Model::default();
            model.put(b"k", version(number, Some(b"x")));
            Table::new(&store, Arc::new(write(&fs, number, options(4096), &model)))
        })
        .collect();
    for round in 0..3 {
        for (number, table) in (1..).zip(&tables) {
            assert_eq!(table.get((&b"k").into(), u64::MAX).unwrap(), Some(version(number, Some(b"x"))));
            assert_eq!(tables[0].get((&b"k").into(), u64::MAX).unwrap(), Some(version(1, Some(b"x"))));
            assert!(tables.iter().filter(|table| table.is_open()).count() <= 3);
        }
        assert!(tables[0].is_open(), "round {round}");
    }
    // The first table, read again and again, was not opened again for each.
    assert!(store.opened() <= 35, "{} times", store.opened());
}

#[test]
fn an_obsolete_table_is_removed_with_its_last_holder() {
    // S29
    let fs = new_fs();
    let store = store(&fs, 3);
    let mut model = Model::default();
    model.put(b"k", version(1, Some(b"x")));
    let table = Table::new(&store, Arc::new(write(&fs, 1, options(4096), &model)));
    let path = Path::new(DIR).join("000001.table");
    let reader = Arc::clone(&table);
    table.mark_obsolete();
    drop(table);
    assert!(reader.get((&b"k").into(), 1).unwrap().is_some());
    assert!(fs.read_file(&path).is_ok());
    drop(reader);
    assert!(fs.read_file(&path).is_err());
}

#[test]
fn a_table_that_is_not_obsolete_stays_and_one_that_is_not_what_was_said_is_refused() {
    let fs = new_fs();
    let store = store(&fs, 3);
    let mut model = Model::default();
    model.put(b"k", version(1, Some(b"x")));
    let meta = write(&fs, 1, options(4096), &model);
    drop(Table::new(&store, Arc::new(meta.clone())));
    assert!(Table::new(&store, Arc::new(meta.clone())).reader().is_ok());
    let other = TableMeta { bytes: meta.bytes + 1, ..meta.clone() };
    assert!(matches!(Table::new(&store, Arc::new(other)).reader(), Err(Error::Corruption { .. })));
    let missing = TableMeta { number: FileNumber(2), ..meta };
    assert!(matches!(Table::new(&store, Arc::new(missing)).reader(), Err(Error::Io { .. })));
}
