//! The table of prepared transactions by itself: what it believes of a log, and what it takes back.

use super::table::Found;
use super::{Outcome, Pending, PreparedTable};
use crate::Slice;
use crate::db::batch::{Operations, Reads, Target, WriteBatch};
use crate::db::record::{Logged, LoggedCommit};
use crate::log::LogPosition;
use crate::manifest::{InDoubt, KeyspaceId, PreparedState};
use crate::sync::Arc;

struct Keyspace(u32);

impl Target for Keyspace {
    fn id(&self) -> u32 {
        self.0
    }

    fn database(&self) -> u64 {
        1
    }
}

const KEYSPACE: Keyspace = Keyspace(1);
const BELOW: KeyspaceId = KeyspaceId(2);

/// Writes `written`, and has read from `read` on.
fn pending(id: &str, written: &[&str], read: Option<&str>) -> Arc<Pending> {
    let mut batch = WriteBatch::new();
    written.iter().for_each(|key| batch.push_put(&KEYSPACE, key.as_bytes(), b"value"));
    read.into_iter().for_each(|read| batch.push_read_range(&KEYSPACE, read..));
    let (operations, _, reads) = batch.into_parts();
    Arc::new(Pending::new(id.as_bytes(), 5, &reads, &operations).unwrap())
}

fn told(pending: &Pending) -> InDoubt {
    (*pending.told).clone()
}

fn commits(id: &str, timestamp: u64) -> Logged<'_> {
    Logged::Commit(LoggedCommit { timestamp, late: false, decides: Some(id.as_bytes()), operations: &[] })
}

/// Whether writing this key is in nobody's way.
fn is_free(table: &PreparedTable, key: &str) -> bool {
    let mut batch = WriteBatch::new();
    batch.push_delete(&KEYSPACE, key.as_bytes());
    let (operations, ..) = batch.into_parts();
    table.met_by_writes(Operations::new(&operations).flatten()).is_none()
}

fn ids(table: &PreparedTable) -> Vec<Slice> {
    table.in_doubt(u64::MAX).into_iter().map(|one| one.id).collect()
}

// F1
#[test]
fn an_opening_believes_only_what_makes_sense() {
    let mut table = PreparedTable::default();
    let mut at = 0;
    let mut replay = |logged: Logged<'_>| {
        at += 10;
        table.replay(&logged, LogPosition(at), BELOW).map_err(|reason| reason.to_string())
    };
    let refused =
        |result: Result<(), String>, why: &str| assert!(result.as_ref().is_err_and(|r| r.contains(why)), "{result:?}");
    refused(replay(commits("a", 7)), "not in doubt");
    refused(replay(Logged::Aborted(b"a")), "not in doubt");
    refused(replay(Logged::Forgotten(b"a")), "not decided");
    replay(Logged::Prepared(told(&pending("a", &["k"], None)))).unwrap();
    refused(replay(Logged::Prepared(told(&pending("a", &["l"], None)))), "not free");
    refused(replay(Logged::Prepared(told(&pending("b", &["k"], None)))), "in the way");
    refused(replay(Logged::Prepared(told(&pending("b", &["l"], Some("k"))))), "in the way");
    refused(replay(Logged::Forgotten(b"a")), "not decided");
    replay(Logged::Prepared(told(&pending("b", &["l"], Some("m"))))).unwrap();
    replay(commits("a", 7)).unwrap();
    refused(replay(Logged::Aborted(b"a")), "not in doubt");
    refused(replay(Logged::Prepared(told(&pending("a", &["k"], None)))), "not free");
    replay(Logged::Forgotten(b"a")).unwrap();
    replay(Logged::Prepared(told(&pending("a", &["k"], None)))).unwrap();
    replay(Logged::Aborted(b"b")).unwrap();
    let mut foreign = WriteBatch::new();
    foreign.push_put(&Keyspace(2), b"k", b"");
    let (operations, ..) = foreign.into_parts();
    let foreign = Pending::new(b"c", 5, &Reads::default(), &operations).unwrap();
    refused(replay(Logged::Prepared(told(&foreign))), "never was");
    assert_eq!(ids(&table), ["a"]);
    assert_eq!(table.outcome(b"b", 0), Some(Outcome::Aborted));
    // What is told to a manifest is believed from there, and no more is to be told then.
    let untold = table.untold().unwrap();
    assert_eq!(untold.log_position, at);
    let mut known = PreparedState::default();
    let edit = crate::manifest::Edit::from(known.changes_to(untold.ids, untold.log_position));
    known = crate::manifest::ManifestState::default().after(&edit).unwrap().prepared;
    let again = PreparedTable::known(&known, BELOW).unwrap();
    assert_eq!((ids(&again), again.untold().is_none()), (ids(&table), true));
    assert!(!is_free(&again, "k") && is_free(&again, "l"));
    assert!(PreparedTable::known(&known, KeyspaceId(1)).is_err());
}

/// Where the record of a decision is lost, what could be prepared later says that there was one.
#[test]
fn a_repair_goes_by_what_comes_last() {
    let mut table = PreparedTable::default();
    table.salvage(&Logged::Prepared(told(&pending("a", &["k"], None)))).unwrap();
    table.salvage(&Logged::Prepared(told(&pending("b", &["k"], None)))).unwrap();
    assert_eq!(ids(&table), ["b"]);
    table.salvage(&Logged::Aborted(b"b")).unwrap();
    assert!(is_free(&table, "k"));
    table.salvage(&Logged::Prepared(told(&pending("e", &["k"], Some("m"))))).unwrap();
    let mut batch = WriteBatch::new();
    batch.push_put(&KEYSPACE, b"n", b"of somebody else");
    let (operations, ..) = batch.into_parts();
    let commit = LoggedCommit { timestamp: 8, late: false, decides: None, operations: &operations };
    table.salvage(&Logged::Commit(commit)).unwrap();
    assert!(ids(&table).is_empty(), "somebody else has written where it had read");
    table.salvage(&commits("c", 9)).unwrap();
    table.salvage(&Logged::Forgotten(b"d")).unwrap();
    assert_eq!((table.outcome(b"c", 0), ids(&table).len()), (Some(Outcome::Committed(9)), 0));
    table.salvage(&Logged::Prepared(told(&pending("c", &["k"], Some("m"))))).unwrap();
    assert_eq!((table.outcome(b"c", 0), ids(&table).len()), (None, 1));
    assert!(!is_free(&table, "z"));
    table.salvage(&Logged::Forgotten(b"c")).unwrap();
    assert!(is_free(&table, "z") && ids(&table).is_empty() && !table.locks_anything());
}

// S25
#[test]
fn what_is_not_published_is_taken_back() {
    let mut table = PreparedTable::default();
    let (a, b, c) = (pending("a", &["a"], None), pending("b", &["b"], Some("m")), pending("c", &["c"], None));
    table.enter(&a, 1);
    table.enter(&b, 2);
    table.decide(b"a", Outcome::Committed(9), 3);
    // Published up to here.
    table.forget(b"a", 4);
    table.decide(b"b", Outcome::Aborted, 5);
    table.enter(&c, 6);
    table.decide(b"c", Outcome::Committed(10), 7);
    table.forget(b"c", 8);
    assert!(is_free(&table, "a") && is_free(&table, "b") && is_free(&table, "z"));
    assert_eq!(
        (ids(&table).len(), table.in_doubt(3).len(), table.outcome(b"a", 3)),
        (0, 1, Some(Outcome::Committed(9)))
    );
    assert!(matches!(table.find(b"a"), Found::Forgotten(4)));
    table.take_back(3);
    for _ in 0..2 {
        assert!(is_free(&table, "a") && !is_free(&table, "b") && is_free(&table, "c") && !is_free(&table, "z"));
        assert_eq!((ids(&table).len(), table.outcome(b"a", 3)), (1, Some(Outcome::Committed(9))));
        assert!(matches!(table.find(b"a"), Found::Decided(Outcome::Committed(9), 3)));
        assert!(matches!(table.find(b"c"), Found::Nothing));
        // Another time changes nothing.
        table.take_back(3);
    }
    table.decide(b"b", Outcome::Aborted, 9);
    table.settle(9);
    table.forget(b"b", 10);
    table.settle(10);
    assert!(matches!(table.find(b"b"), Found::Nothing) && !table.locks_anything());
}
