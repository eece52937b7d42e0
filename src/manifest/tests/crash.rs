//! Power cuts and failing calls around every call that writes a manifest.

use super::*;
use crate::error::AtPath;
use crate::format::parse_file_name;
use crate::fs::{Fault, FaultFs, FaultKind, Fs, MemFs, Operation, PowerCut, Purpose};
use crate::{Error, Result};

fn fault(nth: u64, kind: FaultKind, repeat: bool) -> Fault {
    Fault { purpose: None, operation: None, nth, kind, repeat }
}

/// What was tried with a manifest, and what is known to have succeeded.
#[derive(Default)]
struct Past {
    /// The state after each edit that was tried.
    states: Vec<ManifestState>,
    /// How many of them are durable for certain.
    certain: usize,
}

impl Past {
    fn tried(&mut self, state: ManifestState) {
        self.states.push(state);
    }

    fn succeeded(&mut self) {
        self.certain = self.states.len();
    }

    /// That `found` is a state which may be there, which it is then for certain.
    fn settle(&mut self, found: Option<&ManifestState>) {
        let Some(found) = found else {
            assert_eq!(self.certain, 0, "what was durable is gone");
            return self.states.clear();
        };
        let from = self.certain.saturating_sub(1);
        let which = self.states[from..].iter().position(|state| same(state, found));
        self.states.truncate(from + which.expect("a state that may be there") + 1);
        self.succeeded();
    }
}

/// Whether two states are the same but for the file numbers that manifests take.
fn same(a: &ManifestState, b: &ManifestState) -> bool {
    let without = |state: &ManifestState| {
        let mut state = state.clone();
        state.file_number_bound = FileNumber(0);
        state
    };
    without(a) == without(b)
}

/// The next number that no file ever had.
fn unused_number(fs: &dyn Fs, state: &ManifestState) -> Result<FileNumber> {
    let entries = fs.list(Purpose::Directory, dir()).at_path(dir())?;
    let used = entries.iter().filter_map(|entry| parse_file_name(&entry.name)).map(|(_, number)| number.0 + 1).max();
    Ok(FileNumber(used.unwrap_or(1).max(state.file_number_bound.0)))
}

fn with_bound(state: &ManifestState, above: FileNumber) -> ManifestState {
    state.after(&Edit::from(vec![bound(above.0 + 1)])).unwrap()
}

/// Opens what is there, or makes it, writes `edits`, and rotates in the middle. Stops at the first error.
fn live(fs: &Arc<dyn Fs>, story: &mut Story, past: &mut Past, edits: usize) -> Result<()> {
    let found = load(&**fs, dir())?;
    past.settle(found.as_ref().map(|loaded| &loaded.state));
    let state = found.map_or_else(ManifestState::default, |loaded| loaded.state);
    let number = unused_number(&**fs, &state)?;
    let state = with_bound(&state, number);
    past.tried(state.clone());
    let mut manifest = Manifest::create(Arc::clone(fs), dir(), number, state)?;
    past.succeeded();
    for i in 0..edits {
        if i == edits / 2 {
            let number = unused_number(&**fs, manifest.state())?;
            manifest.append(&Edit::from(vec![bound(number.0 + 1)]))?;
            manifest.rotate(number)?;
        }
        let edit = next_edit(story, &manifest);
        past.tried(manifest.state().after(&edit).unwrap());
        manifest.append(&edit)?;
        past.succeeded();
    }
    Ok(())
}

/// An edit that makes sense whatever became of those before.
fn next_edit(story: &mut Story, manifest: &Manifest) -> Edit {
    let state = manifest.state();
    let number = state.file_number_bound.0;
    let id = state.next_keyspace_id.0;
    let first = format!("{number:08}");
    let mut edit = Edit::from(vec![bound(number + 1), create(id, &format!("{id}"))]);
    edit.push(Change::LastTimestamp { timestamp: state.last_timestamp + 1 });
    edit.push(add(
        id,
        story.random.random_range(0..LEVELS),
        table(number, &first, &format!("{first}{}", "x".repeat(900))),
    ));
    edit
}

#[test]
fn after_a_power_cut_at_any_call_three_deep_it_opens_with_every_edit_that_was_synced() {
    // S21, S23, L3
    for seed in 0..150 {
        let mut story = Story::new(seed);
        let mut past = Past::default();
        let mut files = MemFs::new();
        files.create_dir(Purpose::Directory, dir()).unwrap();
        for _depth in 0..3 {
            let fs = FaultFs::new(files.clone());
            fs.inject(fault(story.up_to(70), FaultKind::Io, true));
            let shared: Arc<dyn Fs> = Arc::new(fs);
            // If all calls pass, the power goes after the last one.
            let _ = live(&shared, &mut story, &mut past, 8);
            files = files.power_cut(story.up_to(u64::MAX));
        }
        let found = load(&files, dir()).unwrap();
        past.settle(found.as_ref().map(|loaded| &loaded.state));
        live(&(Arc::new(files) as Arc<dyn Fs>), &mut story, &mut past, 2).unwrap();
    }
}

#[test]
fn a_power_cut_that_keeps_or_loses_everything_is_survived_at_each_call() {
    // S21, S29: also a crash during the first open
    for cut in [PowerCut::Lose, PowerCut::Keep] {
        for nth in 0..60 {
            let mut story = Story::new(nth);
            let mut past = Past::default();
            let files = MemFs::new();
            files.create_dir(Purpose::Directory, dir()).unwrap();
            let fs = FaultFs::new(files.clone());
            fs.inject(fault(nth, FaultKind::Io, true));
            let _ = live(&(Arc::new(fs) as Arc<dyn Fs>), &mut story, &mut past, 6);
            let files: Arc<dyn Fs> = Arc::new(files.power_cut(cut));
            live(&files, &mut story, &mut past, 2).unwrap();
        }
    }
}

#[test]
fn any_single_call_may_fail_without_a_false_acknowledgement() {
    // S24
    for kind in [FaultKind::Io, FaultKind::StorageFull] {
        let mut failures = 0;
        for nth in 0.. {
            let mut story = Story::new(nth);
            let mut past = Past::default();
            let files = MemFs::new();
            files.create_dir(Purpose::Directory, dir()).unwrap();
            let fs = FaultFs::new(files.clone());
            fs.inject(fault(nth, kind, false));
            let outcome = live(&(Arc::new(fs) as Arc<dyn Fs>), &mut story, &mut past, 4);
            if outcome.is_ok() {
                break;
            }
            assert!(matches!(outcome, Err(Error::Io { .. } | Error::Background(_))), "{outcome:?}");
            failures += 1;
            live(&(Arc::new(files.kill()) as Arc<dyn Fs>), &mut story, &mut past, 2).unwrap();
        }
        assert!(failures > 20, "only {failures} calls");
    }
}

/// A manifest over files that can fail, with one edit in it.
fn manifest_over(fs: &FaultFs) -> Manifest {
    let state = state_of(&[Edit::from(vec![bound(50), create(0, "a")])]);
    let mut manifest = Manifest::create(Arc::new(fs.clone()), dir(), FileNumber(1), state).unwrap();
    manifest.append(&Edit::from(vec![Change::Closed { timestamp: 1 }])).unwrap();
    manifest
}

#[test]
fn after_a_failed_append_or_sync_nothing_is_written_until_a_new_manifest() {
    // S25, L2
    for operation in [Operation::Append, Operation::Sync] {
        let fs = FaultFs::new(MemFs::new());
        let mut manifest = manifest_over(&fs);
        let (before, len) = (manifest.state().clone(), manifest.len());
        fs.inject(Fault { operation: Some(operation), ..fault(0, FaultKind::Io, false) });
        let edit = |timestamp| Edit::from(vec![Change::Closed { timestamp }]);
        let first = manifest.append(&edit(2)).unwrap_err().to_string();
        let calls = fs.calls();
        let second = manifest.append(&edit(3)).unwrap_err();
        assert!(matches!(second, Error::Background(_)));
        assert_eq!(second.to_string(), first);
        assert_eq!(fs.calls(), calls);
        assert_eq!((manifest.state(), manifest.len()), (&before, len));

        manifest.rotate(FileNumber(2)).unwrap();
        manifest.append(&edit(4)).unwrap();
        let loaded = load(&fs, dir()).unwrap().unwrap();
        assert_eq!((loaded.number, loaded.state.closed), (FileNumber(2), 4));
        assert_eq!(&loaded.state, manifest.state());
    }
}

#[test]
fn a_failed_rotation_changes_nothing_until_current_is_switched_and_is_final_from_then_on() {
    // L2, L3
    for nth in 0.. {
        let fs = FaultFs::new(MemFs::new());
        let mut manifest = manifest_over(&fs);
        fs.trace(true);
        fs.inject(fault(nth, FaultKind::Io, false));
        let rotated = manifest.rotate(FileNumber(2));
        let last = fs.take_trace().pop().unwrap();
        if rotated.is_ok() {
            assert!(nth > 6, "only {nth} calls");
            break;
        }
        let appended = manifest.append(&Edit::from(vec![Change::Closed { timestamp: 9 }]));
        let switching = last.operation == Operation::Rename
            || (last.operation == Operation::SyncDir && last.purpose == Purpose::Current);
        assert_eq!(appended.is_err(), switching, "{last}");
        let closed = if switching { 1 } else { 9 };
        assert_eq!(load(&fs, dir()).unwrap().unwrap().state.closed, closed, "{last}");
        manifest.rotate(FileNumber(3)).unwrap();
        assert_eq!(&load(&fs, dir()).unwrap().unwrap().state, manifest.state());
    }
}

#[test]
fn nonsense_and_numbers_beyond_the_bound_are_refused_before_anything_is_written() {
    let fs = FaultFs::new(MemFs::new());
    let mut manifest = manifest_over(&fs);
    let calls = fs.calls();
    for edit in [vec![remove(0, 0, 1)], vec![Change::Closed { timestamp: 5 }, create(0, "b")]] {
        assert!(matches!(manifest.append(&Edit::from(edit)), Err(Error::InvalidArgument(_))));
    }
    assert!(matches!(manifest.rotate(FileNumber(50)), Err(Error::InvalidArgument(_))));
    assert_eq!(fs.calls(), calls);
    manifest.append(&Edit::from(vec![Change::Closed { timestamp: 2 }])).unwrap();
    assert_eq!(load(&fs, dir()).unwrap().unwrap().state.closed, 2);
}

#[test]
fn a_manifest_is_rotated_when_its_edits_have_outgrown_its_state() {
    let fs = FaultFs::new(MemFs::new());
    let mut manifest = manifest_over(&fs);
    let large = |number| add(0, 3, table(number, &"a".repeat(60_000), &"b".repeat(60_000)));
    let mut number = 2;
    while !manifest.should_rotate() {
        let changes = vec![bound(number + 49), large(number), Change::Closed { timestamp: number }];
        let gone = (number > 2).then(|| remove(0, 3, number - 1));
        manifest.append(&Edit::from(changes.into_iter().chain(gone).collect::<Vec<_>>())).unwrap();
        number += 1;
    }
    assert!(manifest.len() >= 4 << 20);
    let state = manifest.state().clone();
    manifest.rotate(FileNumber(number)).unwrap();
    assert!(!manifest.should_rotate() && manifest.len() < 1 << 20);
    assert_eq!(load(&fs, dir()).unwrap().unwrap().state, state);
}
