//! What the pieces decide in single situations.

use super::job::Grandparent;
use super::*;
use crate::Slice;
use crate::format::FileNumber;
use crate::manifest::LEVELS;
use crate::table::{Freeable, TableMeta, UpperBound};

fn slice(key: &str) -> Slice {
    Slice::from(key.as_bytes())
}

/// `"a-m"` ends with `m`, `"a-m)"` before it, `"a-"` never.
fn meta(number: u64, keys: &str, bytes: u64) -> TableMeta {
    let (start, end) = keys.split_once('-').unwrap();
    let upper = match end.strip_suffix(')') {
        Some(end) => UpperBound::Excluded(slice(end)),
        None if end.is_empty() => UpperBound::Unbounded,
        None => UpperBound::Included(slice(end)),
    };
    TableMeta {
        number: FileNumber(number),
        bytes,
        smallest: slice(start),
        upper,
        min_timestamp: 1,
        max_timestamp: 100,
        keys: 10,
        versions: 10,
        tombstones: 0,
        range_tombstones: 0,
        late: false,
        freeable: Freeable::default(),
        log_end: 0,
    }
}

fn options() -> CompactionOptions {
    CompactionOptions { level0_files: 2, ..CompactionOptions::new(100, 1000) }
}

/// Files by level; those whose number is among `busy` are.
fn shape<'a>(files: &'a [(usize, TableMeta)], busy: &[u64], running: &'a [Running]) -> Shape<'a> {
    let mut levels = vec![Vec::new(); LEVELS];
    for (level, meta) in files {
        levels[*level].push(FileView { meta, busy: busy.contains(&meta.number.0), last_tried_floor: None });
    }
    Shape {
        options: options(),
        levels,
        running,
        floor: 100,
        next_file: FileNumber(1000),
        quiet: false,
        detour_bytes: 0,
    }
}

fn inputs(pick: &Pick) -> Vec<(usize, Vec<u64>)> {
    pick.inputs.iter().map(|(level, files)| (*level, files.iter().map(|file| file.0).collect())).collect()
}

#[test]
fn files_that_only_touch_at_an_exclusive_end_do_not_meet() {
    let files = [
        (0, meta(9, "m-n", 10)),
        (0, meta(8, "m-o)", 10)),
        (6, meta(1, "a-m)", 500)),
        (6, meta(2, "n-n", 500)),
        (6, meta(3, "o-", 500)),
    ];
    let mut shape = shape(&files, &[], &[]);
    shape.options.level_base_bytes = 1500;
    let pick = pick(&shape).unwrap();
    assert_eq!(inputs(&pick), [(0, vec![9, 8]), (6, vec![2])]);
    assert_eq!(pick.range, KeyRange { start: slice("m"), end: UpperBound::Excluded(slice("o")) });
    assert!(!pick.trivial_move);
}

#[test]
fn newer_files_never_pass_older_ones_that_they_overlap() {
    // T2: 9 needs 8, which needs 7, which is busy; 6 is free of them.
    let files = [
        (0, meta(9, "a-c", 10)),
        (0, meta(8, "c-e", 10)),
        (0, meta(7, "e-g", 10)),
        (0, meta(6, "x-y", 10)),
        (0, meta(5, "y-z", 10)),
    ];
    assert_eq!(inputs(&pick(&shape(&files, &[7], &[])).unwrap()), [(0, vec![6, 5])]);
    assert_eq!(inputs(&pick(&shape(&files, &[5], &[])).unwrap()), [(0, vec![9, 8, 7])]);
    assert_eq!(pick(&shape(&files, &[5, 7], &[])), None);
}

#[test]
fn no_two_compactions_write_the_same_range_of_a_level_or_pass_each_other() {
    let files = [(0, meta(9, "c-e", 10)), (0, meta(8, "c-e", 10))];
    for (first_level, output_level, start, end, runs) in [
        (5, 6, "a", "d", false),
        (5, 6, "a", "b", true),
        (4, 5, "d", "d", false),
        (0, 6, "e", "f", false),
        (0, 6, "f", "g", true),
        (6, 6, "e", "e", false),
    ] {
        let range = KeyRange { start: slice(start), end: UpperBound::Included(slice(end)) };
        let running = [Running { first_level, output_level, range }];
        assert_eq!(pick(&shape(&files, &[], &running)).is_some(), runs, "{running:?}");
    }
}

#[test]
fn a_file_moves_only_if_it_has_nothing_to_lose_and_meets_little_later() {
    let moves = |change: &dyn Fn(&mut TableMeta), grandparent: u64| {
        let mut files = [(4, meta(9, "c-e", 5000)), (6, meta(1, "a-d", grandparent))];
        change(&mut files[0].1);
        let pick = pick(&shape(&files, &[], &[])).unwrap();
        assert_eq!((pick.output_level, pick.inputs.len()), (5, 1));
        pick.trivial_move
    };
    assert!(moves(&|_| (), 1000));
    assert!(!moves(&|_| (), 1001));
    assert!(!moves(&|meta| meta.freeable = Freeable::of([(100, 1)]), 1000));
    assert!(moves(&|meta| meta.freeable = Freeable::of([(101, 1)]), 1000));
    // A tombstone moves to what it hides; where it hides nothing it is dropped on the way.
    assert!(moves(&|meta| meta.tombstones = 1, 1000));
    assert!(!moves(&|meta| (meta.tombstones, meta.smallest) = (1, slice("e")), 1000));
}

#[test]
fn a_level_passes_down_what_costs_least_for_what_it_frees() {
    let mut files = [
        (5, meta(10, "a-c", 1000)),
        (5, meta(11, "d-f", 1000)),
        (5, meta(12, "g-i", 1000)),
        (6, meta(1, "a-c", 1000)),
        (6, meta(2, "d-f", 900)),
        (6, meta(3, "g-i", 1000)),
    ];
    assert_eq!(inputs(&pick(&shape(&files, &[], &[])).unwrap()), [(5, vec![11]), (6, vec![2])]);
    assert_eq!(inputs(&pick(&shape(&files, &[2], &[])).unwrap()), [(5, vec![10]), (6, vec![1])]);
    files[2].1.freeable = Freeable::of([(50, 400)]);
    assert_eq!(inputs(&pick(&shape(&files, &[], &[])).unwrap()), [(5, vec![12]), (6, vec![3])]);
}

#[test]
fn the_base_level_follows_the_size_of_the_tree() {
    for (bytes, base) in [(0, 6), (1000, 6), (1200, 5), (11_000, 5), (12_000, 4), (10_000_000, 2), (u64::MAX / 2, 1)] {
        let files = [(6, meta(1, "a-", bytes))];
        let targets = shape(&files, &[], &[]).targets();
        assert_eq!(targets.base_level, base, "{bytes}");
        for level in 1..base {
            assert_eq!(targets.bytes(level), 0);
        }
        for level in base..6 {
            assert_eq!(targets.bytes(level), targets.bytes(level + 1) / 10);
        }
    }
}

fn grandparents(count: u64, bytes: u64) -> Vec<Grandparent> {
    let key = |number: u64| Slice::copy_of(&number.to_be_bytes());
    (0..count)
        .map(|at| Grandparent { smallest: key(at * 100), upper: UpperBound::Included(key(at * 100 + 90)), bytes })
        .collect()
}

/// The keys before which outputs are cut, if every key from 0 takes `step` bytes.
fn cuts(grandparents: &[Grandparent], step: u64, keys: u64) -> Vec<u64> {
    let mut splitter = Splitter::new(&options(), grandparents);
    let (mut cuts, mut bytes) = (Vec::new(), 0);
    for key in 0..keys {
        if splitter.should_cut(bytes, &key.to_be_bytes()) {
            cuts.push(key);
            bytes = 0;
        }
        bytes += step;
    }
    cuts
}

#[test]
fn outputs_are_cut_at_the_edges_of_what_lies_below() {
    // Without edges: at the target of 100 bytes.
    assert_eq!(cuts(&[], 1, 350), [100, 200, 300]);
    // An edge at three quarters is taken, since the next one comes too late: keys 91 to 99 lie between two files.
    assert_eq!(cuts(&grandparents(10, 50), 1, 350), [91, 191, 291]);
    // Small ones below: the last edge that fits.
    let small: Vec<_> =
        grandparents(40, 50).into_iter().enumerate().filter(|(at, _)| at % 2 == 0).map(|(_, g)| g).collect();
    let key = |number: u64| Slice::copy_of(&number.to_be_bytes());
    let tens: Vec<_> = (0..100)
        .map(|at| Grandparent { smallest: key(at * 30), upper: UpperBound::Excluded(key(at * 30 + 30)), bytes: 50 })
        .collect();
    assert_eq!(cuts(&tens, 1, 300), [90, 180, 270]);
    // An edge before half of the target is not: files would be small.
    assert_eq!(cuts(&small, 1, 30), [0; 0]);
    assert_eq!(cuts(&grandparents(10, 50), 3, 100).first(), Some(&34));
}

#[test]
fn an_output_never_meets_more_than_it_may() {
    let below = grandparents(1000, 90);
    let cuts = cuts(&below, 1, 100_000);
    assert!(cuts.windows(2).all(|pair| pair[1] - pair[0] <= 100));
    let sparse = {
        let mut splitter = Splitter::new(&options(), &below);
        let mut bytes = 0;
        let mut cuts = vec![0];
        for key in (0..100_000u64).step_by(50) {
            if splitter.should_cut(bytes, &key.to_be_bytes()) {
                (bytes, _) = (0, cuts.push(key));
            }
            bytes += 1;
        }
        cuts
    };
    // Ten times the target are eleven of them.
    assert!(sparse.windows(2).all(|pair| pair[1] - pair[0] <= 1100), "{sparse:?}");
    assert!(sparse.windows(2).all(|pair| pair[1] - pair[0] >= 1000), "{sparse:?}");
    assert!(sparse.len() > 80);
}

#[test]
fn what_is_owed_counts_what_cascades() {
    let calm = [(0, meta(9, "a-z", 10)), (6, meta(1, "a-z", 900))];
    let shape_of = |files| shape(files, &[], &[]);
    let debt = |shape: Shape<'_>| shape.debt_bytes(&shape.targets());
    assert_eq!(debt(shape_of(&calm)), 0);
    let level0 = [(0, meta(9, "a-z", 100)), (0, meta(8, "a-z", 100)), (6, meta(1, "a-z", 900))];
    assert_eq!(debt(shape_of(&level0)), 1100);
    let full = [(5, meta(9, "a-z", 800)), (6, meta(1, "a-z", 9000))];
    let over = [(5, meta(9, "a-z", 2000)), (6, meta(1, "a-z", 9000))];
    assert_eq!(debt(shape_of(&full)), 0);
    assert!(debt(shape_of(&over)) > 5 * 1000);
}

#[test]
fn level0_is_not_kept_waiting_by_the_base_level() {
    // Level 0 cannot go down while 5 is compacted; were 6 started too, it might wait for ever.
    let mut files = vec![
        (0, meta(9, "a-z", 10)),
        (0, meta(8, "a-z", 10)),
        (5, meta(5, "a-m", 700)),
        (5, meta(6, "n-z", 900)),
        (6, meta(1, "a-b", 4000)),
        (6, meta(2, "n-z", 4000)),
    ];
    assert_eq!(inputs(&pick(&shape(&files, &[], &[])).unwrap())[0], (5, vec![6]));
    // The more files in level 0, the sooner it comes before a base level that is over its target.
    files.push((0, meta(10, "a-z", 10)));
    assert_eq!(pick(&shape(&files, &[], &[])).unwrap().reason, Reason::Level0);
    assert_eq!(pick(&shape(&files, &[5], &[])), None);
}

#[test]
fn level0_stops_above_what_an_emptied_level_still_holds() {
    // T2: the tree has shrunk and its base is the last level, but 4 holds something older.
    let files = [(0, meta(9, "c-e", 10)), (0, meta(8, "c-e", 10)), (4, meta(5, "e-f", 10)), (6, meta(1, "a-z", 100))];
    let down = level0::pick(&shape(&files, &[], &[]), &shape(&files, &[], &[]).targets(), Reason::Level0, |_| true);
    assert_eq!(inputs(&down.unwrap()), [(0, vec![9, 8]), (4, vec![5])]);
}

#[test]
fn level0_goes_down_for_reads_once_they_have_paid_for_it_and_nothing_is_written() {
    let files = [(0, meta(9, "c-e", 10)), (6, meta(1, "a-d", 200)), (6, meta(2, "f-z", 300))];
    let asked = |quiet, detour_bytes| pick(&Shape { quiet, detour_bytes, ..shape(&files, &[], &[]) });
    assert_eq!(asked(false, u64::MAX), None);
    assert_eq!(asked(true, 210 / 4 - 1), None);
    let down = asked(true, 210 / 4).unwrap();
    assert_eq!((inputs(&down), down.reason), (vec![(0, vec![9]), (6, vec![1])], Reason::Reads));
    // What sizes ask for comes first.
    let more = [(0, meta(10, "x-z", 10)), files[0].clone(), files[1].clone(), files[2].clone()];
    let first = Shape { quiet: true, detour_bytes: u64::MAX, ..shape(&more, &[], &[]) };
    assert_eq!(pick(&first).unwrap().reason, Reason::Level0);
}

#[test]
fn tombstones_that_must_stay_do_not_count_as_garbage() {
    let mut dead = meta(5, "c-e", 100);
    (dead.tombstones, dead.freeable) = (5, Freeable::of([(50, 50)]));
    let mut files = vec![(5, dead), (6, meta(1, "a-z", 2000))];
    let mut busy = shape(&files, &[], &[]);
    busy.next_file = FileNumber(10);
    assert_eq!(pick(&busy), None);
    let mut quiet = shape(&files, &[], &[]);
    quiet.quiet = true;
    assert_eq!(inputs(&pick(&quiet).unwrap()), [(5, vec![5]), (6, vec![1])]);
    files[1].1.smallest = slice("f");
    let in_place = pick(&shape(&files, &[], &[])).unwrap();
    assert_eq!((inputs(&in_place), in_place.output_level, in_place.reason), (vec![(5, vec![5])], 5, Reason::Garbage));
}

#[test]
fn a_manual_compaction_takes_a_level_after_the_other_and_leaves_what_it_wrote() {
    // S16
    let before = [(0, meta(9, "a-z", 10)), (4, meta(7, "c-e", 10)), (5, meta(6, "x-z", 10)), (6, meta(5, "a-m", 10))];
    let run = |manual: &mut ManualProgress, files: &[(usize, TableMeta)], busy: &[u64]| match manual.next(&shape(
        files,
        busy,
        &[],
    )) {
        ManualStep::Run(pick) => Some((inputs(&pick), pick.output_level)),
        step => {
            assert_eq!(step, if busy.is_empty() { ManualStep::Done } else { ManualStep::Wait });
            None
        }
    };
    let mut manual = ManualProgress::new(&shape(&before, &[], &[]), KeyRange::of(&meta(0, "b-d", 0)));
    assert_eq!(run(&mut manual, &before, &[4, 9]), None);
    assert_eq!(run(&mut manual, &before, &[]), Some((vec![(0, vec![9]), (4, vec![7])], 4)));
    let after = [(4, meta(1000, "a-z", 20)), (5, meta(6, "x-z", 10)), (6, meta(5, "a-m", 10))];
    let mut later = shape(&after, &[], &[]);
    later.next_file = FileNumber(1001);
    assert!(matches!(manual.next(&later), ManualStep::Run(pick) if pick.output_level == 5));
    let after = [(5, meta(1001, "a-z", 30)), (6, meta(5, "a-m", 10))];
    let mut later = shape(&after, &[], &[]);
    later.next_file = FileNumber(1002);
    assert!(matches!(manual.next(&later), ManualStep::Run(pick) if pick.output_level == 6 && !pick.trivial_move));
    let after = [(6, meta(1002, "a-z", 40))];
    let mut later = shape(&after, &[], &[]);
    later.next_file = FileNumber(1003);
    assert_eq!(manual.next(&later), ManualStep::Done);
    let mut nothing = ManualProgress::new(&shape(&before, &[], &[]), KeyRange::of(&meta(0, "b-b)", 0)));
    assert_eq!(nothing.next(&shape(&before, &[], &[])), ManualStep::Done);
}
