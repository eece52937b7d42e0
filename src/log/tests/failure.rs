//! A call on a file fails (S24, S25).

use super::*;
use crate::fs::{Fault, FaultKind};

fn fault(operation: Operation) -> Fault {
    Fault { purpose: None, operation: Some(operation), nth: 0, kind: FaultKind::Io, repeat: false }
}

fn is_background<T>(result: Result<T>) -> bool {
    matches!(result, Err(Error::Background(_)))
}

#[test]
fn the_first_failure_is_final() {
    // L2
    for operation in [Operation::Append, Operation::Sync, Operation::SyncDir, Operation::Create, Operation::Truncate] {
        let fs = FaultFs::new(mem_fs());
        let log = fresh(&fs, 200);
        let first = commit(&log, b"first");
        fs.inject(fault(operation));
        let failing = log.append(COMMIT, 0, &[&[1; 170]]).and_then(|end| log.sync_through(end));
        assert!(matches!(failing, Err(Error::Io { .. })), "{operation:?}");
        let synced = log.synced();
        fs.trace(true);
        assert!(is_background(log.append(COMMIT, 0, &[b"later"])));
        assert!(is_background(log.sync_through(log.end())));
        assert!(is_background(log.rotate()));
        assert!(is_background(log.close()));
        assert!(is_background(log.mark_manifest(&mark(1, 1))));
        assert_eq!(fs.take_trace(), [], "{operation:?}");
        assert_eq!((log.synced(), synced), (LogPosition(0), LogPosition(0)));

        // What was written is still there for who opens next, and the log goes on behind.
        let (recovered, commits) = replay(fs.inner(), &from_begin()).unwrap();
        assert_eq!(commits[0], first);
        // Or it goes on at once, once flushed files cover all of it.
        let start = log.successor();
        assert!(start.ordinal > recovered.segments.last().unwrap().ordinal);
        let numbers = Numbers::new(AtomicU64::new(100));
        let next = Log::create(env(fs.inner(), 200, &numbers), start, Vec::new()).unwrap();
        let resumed = commit(&next, b"resumed");
        let (_, commits) = replay(fs.inner(), &expecting(start, Proof::default())).unwrap();
        assert_eq!(commits, [resumed]);
    }
}

#[test]
fn what_was_synced_before_a_failure_still_is() {
    let fs = FaultFs::new(mem_fs());
    let log = fresh(&fs, 1000);
    let end = commit(&log, b"first").end;
    log.sync_through(end).unwrap();
    fs.inject(fault(Operation::Append));
    assert!(log.append(COMMIT, 0, &[b"torn"]).is_err());
    log.sync_through(end).unwrap();
    // Half of the failed record was written: it is cut off.
    let (recovered, commits) = replay(fs.inner(), &expecting(BEGIN, log.proof())).unwrap();
    assert_eq!(payloads(&commits), [b"first"]);
    assert_eq!(recovered.cut, Some(Cut { ordinal: 1, end, next_ordinal: 2 }));
}

#[test]
fn those_who_wait_for_a_sync_that_fails_get_its_error() {
    let fs = FaultFs::new(mem_fs());
    let log = Arc::new(fresh(&fs, 1000));
    let ends: Vec<_> = (0..8).map(|i| commit(&log, &[i; 9]).end).collect();
    fs.inject(Fault { repeat: true, ..fault(Operation::Sync) });
    let waiting: Vec<_> = ends
        .into_iter()
        .map(|end| {
            let log = Arc::clone(&log);
            spawn("waiter", move || assert!(log.sync_through(end).is_err())).unwrap()
        })
        .collect();
    waiting.into_iter().for_each(|thread| thread.join().unwrap());
    fs.clear();
    assert!(is_background(log.sync_through(log.end())));
}

#[test]
fn a_segment_that_cannot_be_removed_stays_listed_and_the_log_goes_on() {
    let fs = FaultFs::new(mem_fs());
    let log = fresh(&fs, 100);
    (0..6).for_each(|i| drop(commit(&log, &[i; 50])));
    log.sync_through(log.end()).unwrap();
    let segments = log.segments();
    fs.inject(Fault { nth: 1, ..fault(Operation::Remove) });
    assert!(matches!(log.remove_before(log.start_at(log.end())), Err(Error::Io { .. })));
    assert_eq!(log.segments(), segments[1..]);
    let last = commit(&log, b"last");
    log.remove_before(log.start_at(last.position)).unwrap();
    log.sync_through(last.end).unwrap();
    assert_eq!(replay(fs.inner(), &expecting(log.start_at(last.position), log.proof())).unwrap().1, [last]);
}

#[test]
fn a_file_that_is_gone_already_counts_as_removed() {
    let fs = mem_fs();
    let log = fresh(&fs, 100);
    (0..6).for_each(|i| drop(commit(&log, &[i; 50])));
    log.sync_through(log.end()).unwrap();
    fs.remove(Purpose::Log, &path_of(FileNumber(2))).unwrap();
    log.remove_before(log.start_at(log.end())).unwrap();
    assert_eq!(log.segments().len(), 1);
}

#[test]
fn every_call_of_recovery_may_fail() {
    let fs = FaultFs::new(mem_fs());
    let log = fresh(&fs, 200);
    (0..9).for_each(|i| drop(commit(&log, &[i; 50])));
    let calls = fs.calls();
    replay(&fs, &from_begin()).unwrap();
    for nth in 0..fs.calls() - calls {
        fs.inject(Fault { purpose: None, operation: None, nth, kind: FaultKind::Io, repeat: false });
        assert!(matches!(replay(&fs, &from_begin()), Err(Error::Io { .. })), "call {nth}");
        replay(&fs, &from_begin()).unwrap();
    }
}

#[test]
fn recovery_writes_nothing() {
    // S30
    let fs = FaultFs::new(mem_fs());
    let log = fresh(&fs, 200);
    (0..9).for_each(|i| drop(commit(&log, &[i; 50])));
    fs.trace(true);
    replay(&fs, &from_begin()).unwrap();
    use Operation::{Len, List, Open, Read};
    assert!(fs.take_trace().iter().all(|call| [List, Open, Len, Read].contains(&call.operation)));
}
