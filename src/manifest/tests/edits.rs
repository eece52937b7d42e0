//! Edits as bytes, and what they make of a state.

use super::super::edit::NotUnderstood;
use super::*;
use crate::format::{COUNTER_LIMIT, Encode, MAY_SKIP};
use crate::log::Proof;

fn one_of_each() -> Edit {
    let id = KeyspaceId(u32::MAX - 1);
    Edit::from(vec![
        create(7, "näme \0"),
        Change::DropKeyspace { id },
        add(1, 6, table((1 << 40) + 7, "", "z")),
        remove(300, 3, COUNTER_LIMIT - 1),
        Change::KeyspaceFloor { id, floor: u64::MAX },
        Change::KeyspaceLog { id, position: 1 << 40 },
        Change::NextKeyspace { id },
        bound(300),
        Change::LastTimestamp { timestamp: 0 },
        Change::Closed { timestamp: 127 },
        Change::ManualFloor { floor: 128 },
        Change::LogStart { ordinal: 3, position: 4 },
        Change::LogProved(Proof { ordinal: 3, position: LogPosition(COUNTER_LIMIT - 1) }),
        Change::LogCut(Cut { ordinal: 1, end: LogPosition(2), next_ordinal: 3 }),
    ])
}

fn encoded(edit: &Edit) -> Vec<u8> {
    let mut bytes = Vec::new();
    edit.encode(&mut bytes);
    bytes
}

#[test]
fn edits_are_read_back_as_they_were_written() {
    assert_eq!(Edit::decode(&encoded(&one_of_each())), Ok(one_of_each()));
    assert_eq!(Edit::decode(&[]), Ok(Edit::default()));
    let mut story = Story::new(1);
    for _ in 0..200 {
        let edit = story.next();
        assert_eq!(Edit::decode(&encoded(&edit)), Ok(edit));
    }
}

#[test]
fn cut_or_changed_edits_never_panic() {
    // S27
    let bytes = encoded(&one_of_each());
    for len in 0..bytes.len() {
        // A cut between two changes is for the frame's checksum to find.
        if let Ok(edit) = Edit::decode(&bytes[..len]) {
            assert_eq!(edit.changes[..], one_of_each().changes[..edit.changes.len()]);
        }
    }
    for at in 0..bytes.len() {
        for value in 0..=u8::MAX {
            let mut changed = bytes.clone();
            changed[at] = value;
            if let Ok(edit) = Edit::decode(&changed) {
                let _ = ManifestState::default().after(&edit);
            }
        }
    }
}

#[test]
fn unknown_changes_are_passed_over_only_if_they_may_be() {
    // S31
    let with = |kind: u8| {
        let mut bytes = encoded(&Edit::from(vec![create(0, "a")]));
        bytes.put_u8(kind);
        bytes.put_bytes(b"whatever");
        bytes.extend_from_slice(&encoded(&Edit::from(vec![create(1, "b")])));
        Edit::decode(&bytes)
    };
    assert_eq!(with(0x50 | MAY_SKIP), Ok(Edit::from(vec![create(0, "a"), create(1, "b")])));
    for reserved in [0, 0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x50] {
        assert!(matches!(with(reserved), Err(NotUnderstood::Unknown { kind, .. }) if kind == reserved));
    }
}

#[test]
fn a_random_history_leads_where_a_plain_account_says_and_its_snapshot_leads_there_too() {
    for seed in 0..20 {
        let mut story = Story::new(seed);
        let mut state = ManifestState::default();
        for step in 0..150 {
            state = state.after(&story.next()).unwrap();
            story.check(&state);
            if step % 10 == 0 {
                let snapshot: Vec<Change> = state.snapshot().collect();
                assert_eq!(state_of(&[Edit::from(snapshot.clone())]), state);
                // In as many parts as there are changes, too.
                let parts: Vec<Edit> = snapshot.into_iter().map(|change| Edit::from(vec![change])).collect();
                assert_eq!(state_of(&parts), state);
            }
        }
    }
}

#[test]
fn nonsense_is_refused() {
    let start = state_of(&[Edit::from(vec![
        bound(100),
        create(3, "a"),
        add(3, 0, table(1, "a", "c")),
        add(3, 1, table(2, "a", "c")),
        add(3, 1, table(3, "m", "p")),
        Change::KeyspaceFloor { id: KeyspaceId(3), floor: 5 },
        Change::KeyspaceLog { id: KeyspaceId(3), position: 5 },
        Change::LastTimestamp { timestamp: 5 },
        Change::Closed { timestamp: 5 },
        Change::ManualFloor { floor: 5 },
        Change::LogStart { ordinal: 5, position: 50 },
        Change::LogProved(Proof { ordinal: 2, position: LogPosition(70) }),
        Change::LogCut(Cut { ordinal: 6, end: LogPosition(80), next_ordinal: 8 }),
    ])]);
    let (unknown, id) = (KeyspaceId(4), KeyspaceId(3));
    let cut = |ordinal, end, next_ordinal| Cut { ordinal, end: LogPosition(end), next_ordinal };
    let falls = |what, from| EditError::Falls { what, from, to: 4 };
    let overlap = |number, other| EditError::Overlap { level: 1, number: FileNumber(number), other: FileNumber(other) };
    let duplicate = |number| EditError::DuplicateTable { number: FileNumber(number) };
    let missing = |level, number| EditError::MissingTable { level, number: FileNumber(number) };
    let cases = [
        (create(3, "b"), EditError::KeyspaceIdUsed(id)),
        (create(2, "b"), EditError::KeyspaceIdUsed(KeyspaceId(2))),
        (create(4, "a"), EditError::KeyspaceName("a".to_owned())),
        (create(4, ""), EditError::KeyspaceName(String::new())),
        (create(u32::MAX, "b"), EditError::NoKeyspaceIds),
        (Change::DropKeyspace { id: unknown }, EditError::UnknownKeyspace(unknown)),
        (add(4, 0, table(9, "a", "b")), EditError::UnknownKeyspace(unknown)),
        (remove(4, 0, 1), EditError::UnknownKeyspace(unknown)),
        (Change::KeyspaceFloor { id: unknown, floor: 9 }, EditError::UnknownKeyspace(unknown)),
        (Change::KeyspaceLog { id: unknown, position: 9 }, EditError::UnknownKeyspace(unknown)),
        (add(3, LEVELS, table(9, "a", "b")), EditError::UnknownLevel { level: LEVELS }),
        (remove(3, usize::MAX, 1), EditError::UnknownLevel { level: usize::MAX }),
        (remove(3, 1, 1), missing(1, 1)),
        (remove(3, 0, 9), missing(0, 9)),
        (add(3, 0, table(1, "x", "y")), duplicate(1)),
        (add(3, 5, table(2, "x", "y")), duplicate(2)),
        (
            add(3, 0, table(100, "x", "y")),
            EditError::NumberBeyondBound { number: FileNumber(100), bound: FileNumber(100) },
        ),
        (add(3, 1, table(9, "c", "d")), overlap(9, 2)),
        (add(3, 1, table(9, "b", "b")), overlap(9, 2)),
        (add(3, 1, table(9, "d", "m")), overlap(9, 3)),
        (add(3, 1, table(9, "", "z")), overlap(9, 2)),
        (add(3, 1, table(9, "m", "p")), overlap(9, 3)),
        (Change::KeyspaceFloor { id, floor: 4 }, falls("keyspace floor", 5)),
        (Change::KeyspaceLog { id, position: 4 }, falls("keyspace log position", 5)),
        (Change::NextKeyspace { id }, EditError::Falls { what: "next keyspace id", from: 4, to: 3 }),
        (bound(4), falls("file number bound", 100)),
        (Change::LastTimestamp { timestamp: 4 }, falls("last timestamp", 5)),
        (Change::Closed { timestamp: 4 }, falls("closed timestamp", 5)),
        (Change::ManualFloor { floor: 4 }, falls("manual floor", 5)),
        (Change::LogStart { ordinal: 4, position: 99 }, falls("log start ordinal", 5)),
        (Change::LogStart { ordinal: 9, position: 4 }, falls("log start position", 50)),
        (Change::LogProved(Proof { ordinal: 2, position: LogPosition(4) }), falls("proved log position", 70)),
        (
            Change::LogProved(Proof { ordinal: 1, position: LogPosition(71) }),
            EditError::Falls { what: "proved log segment", from: 2, to: 1 },
        ),
        (Change::LogCut(cut(3, 90, 9)), EditError::Cut(cut(3, 90, 9))),
        (Change::LogCut(cut(4, 90, 5)), EditError::Cut(cut(4, 90, 5))),
        (Change::LogCut(cut(8, 90, 8)), EditError::Cut(cut(8, 90, 8))),
        (Change::LogCut(cut(8, 69, 9)), EditError::Cut(cut(8, 69, 9))),
        (Change::LogCut(cut(6, 90, 7)), EditError::Cut(cut(6, 90, 7))),
    ];
    for (change, expected) in cases {
        let edit = Edit::from(vec![change]);
        assert_eq!(start.after(&edit).unwrap_err(), expected, "{edit:?}");
    }
}

#[test]
fn a_new_table_goes_in_front_of_level_0_and_to_its_place_by_key_below() {
    let state = state_of(&[
        Edit::from(vec![bound(9), create(0, "a"), add(0, 0, table(1, "a", "z")), add(0, 0, table(2, "a", "z"))]),
        Edit::from(vec![add(0, 0, table(3, "b", "c")), add(0, 1, table(4, "m", "n")), add(0, 1, table(5, "a", "b"))]),
    ]);
    let tables = &state.keyspaces[&KeyspaceId(0)].tables;
    assert_eq!(numbers(tables.level(0)), [3, 2, 1]);
    assert_eq!(numbers(tables.level(1)), [5, 4]);
}

#[test]
fn tables_give_way_and_change_their_level_in_any_order_of_the_changes() {
    let start = state_of(&[Edit::from(vec![bound(9), create(0, "a"), add(0, 1, table(1, "a", "m"))])]);
    let merged = [add(0, 1, table(2, "a", "f")), add(0, 1, table(3, "g", "z")), remove(0, 1, 1)];
    let moved = [add(0, 2, table(1, "a", "m")), remove(0, 1, 1)];
    let levels = |changes: &[Change]| {
        let state = start.after(&Edit::from(changes.to_vec())).unwrap();
        let tables = state.keyspaces[&KeyspaceId(0)].tables.clone();
        (numbers(tables.level(1)), numbers(tables.level(2)))
    };
    assert_eq!(levels(&merged), (vec![2, 3], vec![]));
    assert_eq!(levels(&moved), (vec![], vec![1]));
    let reversed: Vec<Change> = moved.into_iter().rev().collect();
    assert_eq!(levels(&reversed), (vec![], vec![1]));
}

#[test]
fn a_dropped_keyspace_takes_its_tables_along_and_its_id_is_never_given_again() {
    let state = state_of(&[
        Edit::from(vec![bound(9), create(0, "a"), add(0, 1, table(1, "a", "m"))]),
        Edit::from(vec![Change::DropKeyspace { id: KeyspaceId(0) }, create(1, "a")]),
    ]);
    assert!(!state.has_table(FileNumber(1)));
    assert_eq!(state.keyspace_named("a").unwrap().0, KeyspaceId(1));
    let emptied = state.after(&Edit::from(vec![Change::DropKeyspace { id: KeyspaceId(1) }])).unwrap();
    let again = state_of(&[Edit::from(emptied.snapshot().collect::<Vec<_>>())]);
    assert_eq!(again.after(&Edit::from(vec![create(1, "b")])), Err(EditError::KeyspaceIdUsed(KeyspaceId(1))));
}

#[test]
fn cuts_are_forgotten_with_their_segment_and_replaced_by_earlier_ones() {
    let cut = |ordinal, end, next_ordinal| Cut { ordinal, end: LogPosition(end), next_ordinal };
    let cuts_after = |changes: Vec<Change>| state_of(&[Edit::from(changes)]).log.cuts;
    let first = [Change::LogCut(cut(1, 10, 3)), Change::LogCut(cut(3, 30, 4)), Change::LogCut(cut(4, 35, 6))];
    let with = |change| cuts_after(first.iter().cloned().chain([change]).collect());
    assert_eq!(with(Change::LogStart { ordinal: 3, position: 30 }), [cut(3, 30, 4), cut(4, 35, 6)]);
    assert_eq!(with(Change::LogStart { ordinal: 6, position: 35 }), []);
    assert_eq!(with(Change::LogCut(cut(3, 20, 7))), [cut(1, 10, 3), cut(3, 20, 7)]);
    assert_eq!(with(Change::LogCut(cut(4, 35, 6))), [cut(1, 10, 3), cut(3, 30, 4), cut(4, 35, 6)]);
}

#[test]
fn a_cut_may_take_off_the_first_segment_and_counts_until_the_log_starts_behind_it() {
    let cut = Cut { ordinal: 4, end: LogPosition(50), next_ordinal: 7 };
    let cut_off = state_of(&[Edit::from(vec![Change::LogStart { ordinal: 5, position: 50 }, Change::LogCut(cut)])]);
    assert_eq!(cut_off.log.cuts, [cut]);
    assert_eq!(state_of(&[Edit::from(cut_off.snapshot().collect::<Vec<_>>())]), cut_off);
    let gone_on = cut_off.after(&Edit::from(vec![Change::LogStart { ordinal: 7, position: 60 }])).unwrap();
    assert_eq!(gone_on.log.cuts, []);
}

/// Else the state could be written down, and not read back.
#[test]
fn a_log_does_not_start_at_a_segment_that_was_cut_off() {
    let cut = Change::LogCut(Cut { ordinal: 4, end: LogPosition(50), next_ordinal: 7 });
    for (ordinal, may) in [(4, true), (5, true), (6, false), (7, true), (8, true)] {
        let edits = Edit::from(vec![cut.clone(), Change::LogStart { ordinal, position: 50 }]);
        match ManifestState::default().after(&edits) {
            Ok(state) => {
                assert!(may, "{ordinal}");
                assert_eq!(state_of(&[Edit::from(state.snapshot().collect::<Vec<_>>())]), state);
            }
            Err(error) => assert!(!may && error == EditError::StartCutOff { ordinal }, "{ordinal}: {error}"),
        }
    }
}

/// What would follow from them overflows: an ordinal would be given twice, and a position would be less than the last.
#[test]
fn numbers_that_no_database_reaches_are_refused() {
    let far = LogPosition(COUNTER_LIMIT);
    for change in [
        bound(COUNTER_LIMIT),
        Change::KeyspaceLog { id: KeyspaceId(0), position: COUNTER_LIMIT },
        Change::LogStart { ordinal: COUNTER_LIMIT, position: 4 },
        Change::LogStart { ordinal: 1, position: u64::MAX },
        Change::LogProved(Proof { ordinal: u64::MAX, position: LogPosition(4) }),
        Change::LogProved(Proof { ordinal: 1, position: far }),
        Change::LogCut(Cut { ordinal: COUNTER_LIMIT, end: LogPosition(2), next_ordinal: u64::MAX }),
        Change::LogCut(Cut { ordinal: 1, end: far, next_ordinal: 3 }),
    ] {
        let refused = Edit::decode(&encoded(&Edit::from(vec![change.clone()])));
        assert!(matches!(refused, Err(NotUnderstood::Damaged(_))), "{change:?}");
    }
}

#[test]
fn keyspaces_with_manual_retention_share_a_floor_also_later_ones() {
    let make = |id: u32, retention| {
        let options = Box::new(KeyspaceSettings { retention, ..KeyspaceSettings::default() });
        Change::CreateKeyspace { id: KeyspaceId(id), name: format!("{id}"), options, created_at: 0 }
    };
    let state = state_of(&[Edit::from(vec![
        Change::ManualFloor { floor: 50 },
        make(0, Retention::Manual),
        make(1, Retention::Window(5)),
        make(2, Retention::Latest),
        Change::KeyspaceFloor { id: KeyspaceId(2), floor: 70 },
    ])]);
    let floors: Vec<u64> = state.keyspaces.values().map(|keyspace| state.floor(keyspace)).collect();
    assert_eq!(floors, [50, 0, 70]);
}
