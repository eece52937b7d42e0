use std::ops::Bound;

use super::*;

struct Stand {
    id: u32,
    database: u64,
}

impl Target for Stand {
    fn id(&self) -> u32 {
        self.id
    }

    fn database(&self) -> u64 {
        self.database
    }
}

const A: Stand = Stand { id: 1, database: 9 };
const B: Stand = Stand { id: 300, database: 9 };
const ELSEWHERE: Stand = Stand { id: 1, database: 10 };

fn decoded(body: &[u8]) -> Vec<Op<'_>> {
    Operations::new(body).collect::<Result<_, _>>().unwrap()
}

fn op(keyspace: &Stand, kind: OpKind<'static>) -> Op<'static> {
    Op { keyspace: keyspace.id, kind }
}

fn of_all_kinds() -> WriteBatch {
    let mut batch = WriteBatch::new();
    batch.push_put(&B, b"alice", b"90");
    batch.push_put_expiring(&A, b"session", b"", 1 << 40);
    batch.push_delete(&A, b"");
    batch.push_delete_range(&B, "a".."b");
    batch.push_delete_range(&A, "q"..);
    batch.push_delete_prefix(&B, b"tmp/");
    batch
}

#[test]
fn operations_come_back_in_the_order_in_which_they_were_named() {
    let batch = of_all_kinds();
    assert_eq!((batch.len(), batch.is_empty(), batch.database()), (6, false, Some(9)));
    assert_eq!(batch.keyspaces.as_slice(), [KeyspaceId(1), KeyspaceId(300)]);
    batch.check().unwrap();
    let expected = [
        op(&B, OpKind::Put { key: b"alice", value: b"90", expires_at: None }),
        op(&A, OpKind::Put { key: b"session", value: b"", expires_at: Some(1 << 40) }),
        op(&A, OpKind::Delete { key: b"" }),
        op(&B, OpKind::DeleteRange { start: b"a", end: Some(b"b") }),
        op(&A, OpKind::DeleteRange { start: b"q", end: None }),
        op(&B, OpKind::DeleteRange { start: b"tmp/", end: Some(b"tmp0") }),
    ];
    let len = batch.bytes();
    let body = batch.into_parts().0;
    assert_eq!(body.len(), len);
    assert_eq!(decoded(&body), expected);
}

#[test]
fn the_bytes_of_each_kind_are_fixed() {
    let body = of_all_kinds().into_parts().0;
    let expected = [
        &b"\x01\xac\x02\x05alice\x0290"[..],
        b"\x02\x01\x07session\x00\x80\x80\x80\x80\x80\x20",
        b"\x03\x01\x00",
        b"\x04\xac\x02\x01a\x01\x01b",
        b"\x04\x01\x01q\x00",
        b"\x04\xac\x02\x04tmp/\x01\x04tmp0",
    ];
    assert_eq!(body.escape_ascii().to_string(), expected.concat().escape_ascii().to_string());
}

#[test]
fn only_a_long_value_is_shared_with_the_body() {
    for (len, shared) in [(LONGEST_INLINE, false), (LONGEST_INLINE + 1, true)] {
        let mut batch = WriteBatch::new();
        batch.push_put(&A, b"key", &vec![b'v'; len]);
        batch.push_put(&A, b"other", b"value");
        let body = batch.into_parts().0;
        let OpKind::Put { value, .. } = decoded(&body)[0].kind else { panic!("not a put") };
        assert_eq!(body.share(value), value);
        assert_eq!(body.share(value).as_ptr() == value.as_ptr(), shared);
    }
}

#[test]
fn deletes_of_empty_ranges_are_not_written() {
    let mut batch = WriteBatch::new();
    batch.push_delete_range(&A, "b".."a");
    batch.push_delete_range(&A, "b".."b");
    batch.push_delete_range(&A, .."");
    batch.push_delete_range(&A, (Bound::Excluded("b"), Bound::Included("b")));
    assert_eq!((batch.len(), batch.bytes()), (0, 0));
    assert_eq!(
        batch.keyspaces.as_slice(),
        [KeyspaceId(1)],
        "that it was named is known, so that the commit can say if it is not there"
    );
    batch.check().unwrap();
}

#[test]
fn reads_name_keyspaces_and_are_no_operations() {
    let mut batch = WriteBatch::new();
    batch.push_read(&B, b"carol");
    batch.push_read_range(&A, b"a".to_vec()..=b"f".to_vec());
    assert_eq!((batch.len(), batch.is_empty()), (0, true));
    assert!(batch.keyspaces.as_slice().is_empty(), "nothing is written there");
    assert_eq!(batch.reads.keyspaces.as_slice(), [KeyspaceId(1), KeyspaceId(300)]);
    assert_eq!((batch.reads.keys.len(), batch.reads.ranges.len()), (1, 1));
}

// S10
#[test]
fn the_first_refusal_is_kept_and_nothing_is_appended_after_it() {
    let long = vec![7; MAX_KEY_BYTES + 1];
    type Attempt = fn(&mut WriteBatch, &[u8]);
    let attempts: [Attempt; 7] = [
        |batch, long| batch.push_put(&A, long, b""),
        |batch, long| batch.push_put_expiring(&A, long, b"", 1),
        |batch, long| batch.push_delete(&A, long),
        |batch, long| batch.push_delete_range(&A, long..),
        |batch, long| batch.push_delete_range(&A, ..long),
        |batch, long| batch.push_delete_prefix(&A, long),
        |batch, long| batch.push_read(&A, long),
    ];
    for attempt in attempts {
        let mut batch = of_all_kinds();
        let before = batch.bytes();
        attempt(&mut batch, &long);
        batch.push_put(&ELSEWHERE, b"k", b"v");
        batch.push_put(&A, b"k", b"v");
        batch.push_delete(&A, b"k");
        batch.push_delete_range(&A, ..);
        assert_eq!((batch.bytes(), batch.len()), (before, 6));
        assert!(matches!(batch.check(), Err(Error::TooLarge { what: "key", len: 65_536, max: 65_535 })));
        assert!(batch.clone().check().is_err());
    }
}

#[test]
fn a_value_over_the_limit_is_refused_and_one_at_it_is_not() {
    let value = vec![0; MAX_VALUE_BYTES + 1];
    let mut batch = WriteBatch::new();
    batch.push_put(&A, b"k", &value[1..]);
    batch.check().unwrap();
    assert_eq!(decoded(&batch.body).len(), 1);
    batch.push_put(&A, b"k", &value);
    assert!(matches!(batch.check(), Err(Error::TooLarge { what: "value", len: 268_435_457, max: 268_435_456 })));
}

#[test]
fn a_batch_over_the_limit_is_refused() {
    let mut batch = WriteBatch::new();
    batch.push_put(&A, b"k", b"v");
    assert!(batch.reserve(MAX_BATCH_BYTES - 100));
    assert!(!batch.reserve(MAX_BATCH_BYTES - 30));
    assert!(matches!(batch.check(), Err(Error::TooLarge { what: "batch", max: 1_073_741_824, .. })));
}

#[test]
fn keyspaces_of_two_databases_do_not_mix() {
    let mut batch = WriteBatch::new();
    batch.push_put(&A, b"k", b"v");
    batch.push_read(&ELSEWHERE, b"k");
    assert!(matches!(batch.check(), Err(Error::InvalidArgument(_))));
    assert_eq!(batch.keyspaces.as_slice(), [KeyspaceId(1)]);
}

#[test]
fn the_longest_keys_may_bound_a_range_on_either_side() {
    let longest = vec![0xff; MAX_KEY_BYTES];
    let mut batch = WriteBatch::new();
    batch.push_put(&A, &longest, b"v");
    batch.push_delete_range(&A, (Bound::Excluded(&b"a"[..]), Bound::Included(&longest[..])));
    batch.push_delete_range(&A, (Bound::Excluded(&longest), Bound::Unbounded));
    batch.push_delete_prefix(&A, &longest);
    batch.check().unwrap();
    let bound = [&longest[..], b"\0"].concat();
    let kinds: Vec<OpKind<'_>> = decoded(&batch.body)[1..].iter().map(|op| op.kind).collect();
    assert_eq!(
        kinds,
        [
            OpKind::DeleteRange { start: b"a\0", end: Some(&bound) },
            OpKind::DeleteRange { start: &bound, end: None },
            OpKind::DeleteRange { start: &longest, end: None },
        ]
    );
}

#[test]
fn many_keyspaces_are_kept_sorted_and_once() {
    let mut batch = WriteBatch::new();
    for id in [5, 3, 9, 5, 3, 0, 7, 9] {
        batch.push_put(&Stand { id, database: 9 }, b"k", b"v");
    }
    assert_eq!(batch.keyspaces.as_slice(), [KeyspaceId(0), KeyspaceId(3), KeyspaceId(5), KeyspaceId(7), KeyspaceId(9)]);
}

#[test]
fn an_unknown_kind_is_passed_over_if_it_may_be_and_else_refused() {
    let known = b"\x03\x01\x01k";
    let skipped = [&[MAY_SKIP | 9, 2, 0, 0][..], known].concat();
    assert_eq!(decoded(&skipped), [op(&A, OpKind::Delete { key: b"k" })]);
    for (kind, reason) in [(0, "unknown kind 0x00"), (PUT_BLOB, "blob"), (6, "kind 0x06"), (0x7f, "kind 0x7f")] {
        let body = [&known[..], &[kind][..], known].concat();
        let results: Vec<_> = Operations::new(&body).collect();
        let Err(error) = results[1] else { panic!("accepted") };
        assert!(error.offset == known.len() && error.reason.to_string().contains(reason), "{error:?}");
        assert_eq!(results.len(), 2, "ends at the error");
    }
}

#[test]
fn what_no_writer_writes_is_refused() {
    let too_long = |kind: u8, len: usize| {
        let mut body = vec![kind, 1];
        body.put_bytes(&vec![0; len]);
        body.extend([0; 4]);
        body
    };
    for body in [
        b"\x03\xff\xff\xff\xff\x1f\x01k".to_vec(), // keyspace beyond 32 bits
        b"\x04\x01\x01b\x01\x01b".to_vec(),
        b"\x04\x01\x01b\x01\x01a".to_vec(),
        b"\x04\x01\x01b\x02\x01c".to_vec(),
        too_long(PUT, MAX_KEY_BYTES + 1),
        too_long(DELETE, MAX_KEY_BYTES + 1),
        too_long(DELETE_RANGE, MAX_BOUND_BYTES + 1),
    ] {
        assert!(Operations::new(&body).any(|op| op.is_err()), "{}", body[..8.min(body.len())].escape_ascii());
    }
}

// S27: whatever the bytes, the decoder ends, does not panic, and yields only operations within the limits.
#[test]
fn damage_at_every_byte_is_survived() {
    let body = of_all_kinds().into_parts().0;
    for at in 0..body.len() {
        assert!(Operations::new(&body[..at]).count() <= 6);
        for byte in 0..=255 {
            let mut damaged = body.to_vec();
            damaged[at] = byte;
            for op in Operations::new(&damaged).flatten() {
                if let OpKind::DeleteRange { start, end } = op.kind {
                    assert!(end.is_none_or(|end| start < end));
                }
            }
        }
    }
}
