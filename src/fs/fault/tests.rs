//! Faults hit exactly the calls they are meant for, and the record tells all.

use super::*;

const ANY: Fault = Fault { purpose: None, operation: None, nth: 0, kind: FaultKind::Io, repeat: false };

fn fault_fs() -> FaultFs {
    FaultFs::new(MemFs::new())
}

fn log(fs: &FaultFs, path: &str) -> Arc<dyn LogFile> {
    fs.create_log(Purpose::Log, path.as_ref(), 0).unwrap()
}

#[test]
fn exactly_the_nth_call_that_matches_fails() {
    let fs = fault_fs();
    fs.inject(Fault { purpose: Some(Purpose::Log), operation: Some(Operation::Create), nth: 2, ..ANY });
    let create = |purpose, name: &str| fs.create(purpose, name.as_ref()).is_ok();
    let passed = [
        create(Purpose::Log, "a"),
        create(Purpose::Flush, "b"),
        fs.list(Purpose::Log, "/".as_ref()).is_ok(),
        create(Purpose::Log, "c"),
        create(Purpose::Flush, "d"),
        create(Purpose::Log, "e"),
        create(Purpose::Log, "e"),
    ];
    assert_eq!(passed, [true, true, true, true, true, false, true]);
}

#[test]
fn a_fault_that_repeats_lasts_until_it_is_cleared() {
    let fs = fault_fs();
    fs.inject(Fault { operation: Some(Operation::List), nth: 1, repeat: true, kind: FaultKind::StorageFull, ..ANY });
    let list = || fs.clone().list(Purpose::Directory, "/".as_ref());
    assert!(list().is_ok());
    for _ in 0..3 {
        assert_eq!(list().unwrap_err().kind(), ErrorKind::StorageFull);
    }
    fs.clear();
    assert!(list().is_ok());
}

#[test]
fn every_kind_of_call_can_fail_and_then_does_nothing() {
    let fs = fault_fs();
    let p = Purpose::Table;
    fs.inner().write_file("/f", *b"bytes").unwrap();
    fs.create_dir(p, "/d".as_ref()).unwrap();
    let reader = fs.open(p, "/f".as_ref()).unwrap();
    let mut file = fs.create(p, "/w".as_ref()).unwrap();
    let log = log(&fs, "/l");
    let before = fs.list(p, "/".as_ref()).unwrap();
    fs.inject(Fault { repeat: true, ..ANY });
    fs.trace(true);
    assert!(fs.open(p, "/f".as_ref()).is_err());
    assert!(fs.create(p, "/n".as_ref()).is_err());
    assert!(fs.create_log(p, "/n".as_ref(), 7).is_err());
    assert!(reader.read_at(&mut [0; 3], 1).is_err());
    assert!(reader.len().is_err());
    assert!(file.append(b"").is_err());
    assert!(log.sync().is_err());
    assert!(log.truncate().is_err());
    assert!(fs.rename(p, "/f".as_ref(), "/n".as_ref()).is_err());
    assert!(fs.remove(p, "/f".as_ref()).is_err());
    assert!(fs.list(p, "/".as_ref()).is_err());
    assert!(fs.create_dir(p, "/n".as_ref()).is_err());
    assert!(fs.remove_dir(p, "/d".as_ref()).is_err());
    assert!(fs.sync_dir(p, "/".as_ref()).is_err());
    assert!(fs.lock(p, "/LOCK".as_ref()).is_err());
    let expected = "Table Open f 0+0, Table Create n 0+0, Table Create n 0+7, Table Read f 1+3, Table Len f 0+0, \
         Table Append w 0+0, Log Sync l 0+0, Log Truncate l 0+0, Table Rename f -> n 0+0, Table Remove f 0+0, \
         Table List  0+0, Table CreateDir n 0+0, Table RemoveDir d 0+0, Table SyncDir  0+0, Table Lock LOCK 0+0";
    let seen: Vec<_> = fs.take_trace().iter().map(ToString::to_string).collect();
    assert_eq!(seen.join(", "), expected);
    fs.clear();
    assert_eq!(fs.list(p, "/".as_ref()).unwrap(), before);
}

#[test]
fn a_failed_append_leaves_half_and_the_file_stays_failed() {
    // L2
    let fs = fault_fs();
    let file = log(&fs, "/l");
    file.append(b"whole").unwrap();
    fs.inject(Fault { operation: Some(Operation::Append), ..ANY });
    assert!(file.append(b"halfhalf").is_err());
    assert_eq!(fs.inner().read_file("/l").unwrap(), b"wholehalf");
    assert!(file.append(b"more").is_err() && file.sync().is_err() && file.truncate().is_err());
    assert_eq!(fs.inner().read_file("/l").unwrap(), b"wholehalf");
    log(&fs, "/other").append(b"fine").unwrap();

    let mut full = fs.create(Purpose::Flush, "/t".as_ref()).unwrap();
    fs.inject(Fault { kind: FaultKind::StorageFull, ..ANY });
    assert_eq!(full.append(b"bytes").unwrap_err().kind(), ErrorKind::StorageFull);
    assert!(fs.inner().read_file("/t").unwrap().is_empty());
}

#[test]
fn what_a_failed_sync_left_is_not_durable_and_no_second_sync_says_so() {
    // L2
    let fs = fault_fs();
    let file = log(&fs, "/l");
    fs.sync_dir(Purpose::Log, "/".as_ref()).unwrap();
    file.append(b"bytes").unwrap();
    fs.inject(Fault { operation: Some(Operation::Sync), ..ANY });
    assert!(file.sync().is_err());
    assert!(file.sync().is_err());
    assert!(fs.inner().power_cut(crate::fs::PowerCut::Lose).read_file("/l").unwrap().is_empty());
}

#[test]
fn the_record_has_every_call_in_order_and_counts_without_it() {
    let fs = fault_fs();
    let work = |name: &str| {
        let file = log(&fs, name);
        file.append(b"12345").unwrap();
        file.append(b"678").unwrap();
        file.sync().unwrap();
    };
    work("/1.log");
    assert_eq!(fs.calls(), 4);
    assert!(fs.take_trace().is_empty());
    fs.trace(true);
    work("/2.log");
    let trace = fs.take_trace();
    let seen: Vec<_> = trace.iter().map(|call| (call.operation, call.file.as_str(), call.offset, call.len)).collect();
    use Operation::{Append, Create, Sync};
    let expected = [(Create, 0, 0), (Append, 0, 5), (Append, 5, 3), (Sync, 0, 0)];
    assert_eq!(seen, expected.map(|(operation, offset, len)| (operation, "2.log", offset, len)));
    assert!(fs.take_trace().is_empty());
    work("/3.log");
    assert_eq!(fs.take_trace().len(), 4);
    assert_eq!(fs.calls(), 12);
}

#[test]
fn a_sync_that_was_made_to_fail_leaves_what_no_later_one_writes() {
    // S25
    let fs = fault_fs();
    let file = log(&fs, "/l");
    fs.sync_dir(Purpose::Log, "/".as_ref()).unwrap();
    file.append(b"bytes").unwrap();
    fs.inject(Fault { operation: Some(Operation::Sync), ..ANY });
    assert!(file.sync().is_err());
    let again = fs.inner().kill();
    again.sync_file(Purpose::Log, "/l".as_ref()).unwrap();
    assert!(again.power_cut(crate::fs::PowerCut::Lose).read_file("/l").unwrap().is_empty());

    drop(log(&fs, "/m"));
    fs.inject(Fault { operation: Some(Operation::SyncDir), ..ANY });
    assert!(fs.sync_dir(Purpose::Directory, "/".as_ref()).is_err());
    let again = fs.inner().kill();
    again.sync_dir(Purpose::Directory, "/".as_ref()).unwrap();
    assert!(again.power_cut(crate::fs::PowerCut::Lose).read_file("/m").is_err());
}
