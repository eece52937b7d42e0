use super::*;

/// The bytes of a small table, block by block: whoever changes them changes the format (S31).
#[test]
fn the_bytes_of_a_table_are_these() {
    let mut model = Model::default();
    model.put(b"apple", version(1000, Some(b"red")));
    model.put(b"apple", version(990, None));
    let mut old = version(7, Some(b"green"));
    old.expires_at = Some(8);
    model.put(b"apple", old);
    let mut late = version(998, None);
    late.stamp.late = true;
    model.put(b"apply", late);
    let stamp = Stamp { timestamp: 300, sequence: TABLE_RANGE, late: false };
    let range = RangeTombstone { start: Slice::from(&b"b"[..]), end: Some(Slice::from(&b"c"[..])), stamp };
    model.ranges = fragment(&[range]);
    let fs = new_fs();
    write(&fs, 5, TableOptions { filter_bits_per_key: 0.0, ..options(4096) }, &model);
    let bytes = fs.read_file(Path::new(DIR).join("000005.table")).unwrap();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let expected = [
        // history: one list of two versions, entries of 8 bytes: a tombstone at 990, a value that expires 983 before it
        "02 08 02de07 03d7070205 677265656e",
        "00 88e62e30",
        // data: apple at the base with its history, then a late tombstone of appl|y 2 before the base;
        // the history's handle, base 1000, one handle, two rows
        "21 00 056170706c65 00 03726564 05000000e107",
        "12 04 0179 03",
        "0000000000000000 0f000000 0f000000",
        "e803000000000000 01000000 02000000",
        "00 4adc92b7",
        // range tombstones: b to c, one stamp at 300
        "0162 01 0163 01 01ac02",
        "00 d40180d5",
        // one partition of one entry: the block at 20, timestamps 7 to 1000
        "056170706c79 143838 07e107",
        "01000000",
        "00 e05899b6",
        // the top index: the partition at 95
        "056170706c79 5f1010 07e107",
        "01000000",
        "00 43c0c169",
        // properties: the file, smallest, upper, timestamps, counts, late, freeable, log end
        "08",
        "01 10 0500000000000000 1e01000000000000",
        "02 05 6170706c65",
        "03 02 0163",
        "04 03 07e807",
        "05 04 02040201",
        "06 01 01",
        "87 0b 04 ac021c b2051d 081d 020c",
        "88 01 00",
        "00 7f69588f",
        // footer: top index, no filter, range tombstones, properties, length, version, checksum, magic
        "7400000000000000 10000000 10000000",
        "0000000000000000 00000000 00000000",
        "5100000000000000 09000000 09000000",
        "8900000000000000 3c000000 3c000000",
        "54000000 03000000 d72d39c7 737472616e647462",
    ];
    assert_eq!(hex, expected.concat().replace(' ', ""));
}
