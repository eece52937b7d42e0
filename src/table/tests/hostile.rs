//! Tables of somebody who knows the format and its checksums: every block is proper by itself, and what they say of
//! each other has no end, or would unfold into more memory than such a file may take (S27).

use super::*;
use crate::format::Encode;
use crate::table::block::{BlockKind, BlockSink, Handle, TRAILER};
use crate::table::footer::Footer;
use crate::table::history::{HistoryIndex, HistoryRef};
use crate::table::index::{Entry, IndexBuilder, Span};
use crate::table::row::DataBlockBuilder;

const NUMBER: FileNumber = FileNumber(1);

/// A table of the blocks that `build` writes; it gives the top index.
fn forged(build: impl FnOnce(&mut BlockSink) -> Handle) -> Arc<TableReader> {
    let fs = new_fs();
    let path = Path::new(DIR).join("000001.table");
    let file = fs.create(Purpose::Flush, &path).unwrap();
    let mut sink = BlockSink::new(file, path, NUMBER, Compression::None);
    let top = build(&mut sink);
    let mut meta = TableMeta {
        number: NUMBER,
        bytes: 0,
        smallest: Slice::default(),
        upper: UpperBound::Unbounded,
        min_timestamp: 1,
        max_timestamp: 1 << 40,
        keys: 1,
        versions: 1,
        tombstones: 0,
        range_tombstones: 0,
        late: false,
        freeable: Freeable::default(),
        log_end: 0,
    };
    let mut properties = Vec::new();
    meta.encode(&mut properties);
    meta.bytes = sink.offset() + properties.len() as u64 + TRAILER + Footer::LEN as u64;
    properties.clear();
    meta.encode(&mut properties);
    let properties = sink.write_raw(BlockKind::Properties, &properties).unwrap();
    let footer = Footer { top, properties, ..Footer::default() };
    let footer = footer.encode(NUMBER, sink.offset());
    sink.finish(&footer).unwrap();
    open(&fs, 1).unwrap()
}

fn index(entries: &[(&[u8], Handle)]) -> Vec<u8> {
    let mut builder = IndexBuilder::default();
    entries.iter().for_each(|(key, block)| builder.add(&Entry { key, block: *block, span: Span::ALL }));
    builder.finish()
}

/// A data block of these keys.
fn rows(sink: &mut BlockSink, keys: &[&[u8]]) -> Handle {
    let mut rows = DataBlockBuilder::default();
    for key in keys {
        rows.add(key, &VersionRef { stamp: version(7, None).stamp, value: None, expires_at: None });
    }
    sink.write(BlockKind::Data, rows.finish(&[])).unwrap()
}

/// The top index over one partition of these blocks.
fn one_partition(sink: &mut BlockSink, entries: &[(&[u8], Handle)]) -> Handle {
    let partition = sink.write(BlockKind::Partition, &index(entries)).unwrap();
    let last = entries.last().unwrap().0;
    sink.write(BlockKind::TopIndex, &index(&[(last, partition)])).unwrap()
}

/// Walks over all keys in both directions, and over all versions of each. How many steps that took, or the damage.
fn walk(reader: &Arc<TableReader>) -> [Result<u64>; 2] {
    let walk = |backward: bool| -> Result<u64> {
        let mut cursor = cursor(reader);
        if backward {
            cursor.seek_to_last()?
        } else {
            cursor.seek_to_first()?
        }
        let mut steps = 0;
        while cursor.key().is_some() {
            let mut found = cursor.version_at(u64::MAX)?.is_some();
            while found {
                steps += 1;
                assert!(steps < 10_000, "no end");
                found = cursor.older_version()?.is_some();
            }
            if backward { cursor.prev()? } else { cursor.next()? }
        }
        Ok(steps)
    };
    [walk(false), walk(true)]
}

fn is_refused(walks: [Result<u64>; 2], reason: &str) {
    for walk in walks {
        match walk {
            Err(crate::Error::Corruption { path, reason: found, .. }) => {
                assert!(path.ends_with("000001.table") && found.contains(reason), "{found}");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn what_is_forged_without_malice_is_a_table() {
    let reader = forged(|sink| {
        let blocks = [rows(sink, &[b"a", b"b"]), rows(sink, &[b"c"])];
        one_partition(sink, &[(b"b", blocks[0]), (b"c", blocks[1])])
    });
    assert!(walk(&reader).into_iter().all(|steps| steps.unwrap() == 3));
}

#[test]
fn a_block_that_stands_in_many_places_of_the_index_is_refused() {
    let keys: Vec<Vec<u8>> = (0..5000u32).map(|i| [b"k", &i.to_be_bytes()[..]].concat()).collect();
    let block_everywhere = forged(|sink| {
        let block = rows(sink, &[b"k\0\0\0\0"]);
        let entries: Vec<(&[u8], Handle)> = keys.iter().map(|key| (&key[..], block)).collect();
        one_partition(sink, &entries)
    });
    is_refused(walk(&block_everywhere), "block lies at another place");
    let partition_everywhere = forged(|sink| {
        let block = rows(sink, &[b"k\0\0\0\0"]);
        let partition = sink.write(BlockKind::Partition, &index(&[(b"k\0\0\0\0", block)])).unwrap();
        let entries: Vec<(&[u8], Handle)> = keys.iter().map(|key| (&key[..], partition)).collect();
        sink.write(BlockKind::TopIndex, &index(&entries)).unwrap()
    });
    is_refused(walk(&partition_everywhere), "partition lies at another place");
    // The keys do not rise either.
    let same_key = forged(|sink| {
        let block = rows(sink, &[b"k"]);
        one_partition(sink, &vec![(&b"k"[..], block); 5000])
    });
    is_refused(walk(&same_key), "keys of a block are out of order");
}

#[test]
fn a_history_whose_blocks_name_each_other_over_and_over_is_refused() {
    // Each level names the one below a hundred times: 100^5 versions in six small blocks.
    let reader = forged(|sink| {
        let mut list = Vec::new();
        list.put_varint(1);
        list.put_bytes(&[2, 5]);
        let mut below = sink.write(BlockKind::History, &list).unwrap();
        for _ in 0..5 {
            let mut level = Vec::new();
            (0..100).for_each(|_| HistoryIndex::put(&mut level, 5, below));
            below = sink.write(BlockKind::HistoryIndex, &level).unwrap();
        }
        let mut rows = DataBlockBuilder::default();
        rows.add(b"k", &VersionRef { stamp: version(7, None).stamp, value: None, expires_at: None });
        rows.add_history(&HistoryRef { levels: 5, number: 0, offset: 0, oldest: 5 });
        let block = sink.write(BlockKind::Data, rows.finish(&[below])).unwrap();
        one_partition(sink, &[(b"k", block)])
    });
    is_refused(walk(&reader), "lists of a history are out of order");
    // A tree that is its own child ends where its levels do: no block is of two kinds.
    let reader = forged(|sink| {
        let itself = Handle { offset: sink.offset(), stored: 24, len: 24 };
        let mut level = Vec::new();
        HistoryIndex::put(&mut level, 5, itself);
        assert_eq!(sink.write(BlockKind::HistoryIndex, &level).unwrap(), itself);
        let mut rows = DataBlockBuilder::default();
        rows.add(b"k", &VersionRef { stamp: version(7, None).stamp, value: None, expires_at: None });
        rows.add_history(&HistoryRef { levels: 32, number: 0, offset: 0, oldest: 5 });
        let block = sink.write(BlockKind::Data, rows.finish(&[itself])).unwrap();
        one_partition(sink, &[(b"k", block)])
    });
    is_refused(walk(&reader), "checksum of a block");
}

#[test]
fn rows_that_unfold_into_ever_longer_keys_are_refused() {
    // A row of six bytes whose key is one longer than that of the row before: 50 000 of them would take a gigabyte.
    let reader = forged(|sink| {
        let mut block = Vec::new();
        for row in 0..50_000u64 {
            block.put_u8(2);
            block.put_varint(row);
            block.put_bytes(b"k");
            block.put_varint(0);
        }
        block.put_u64(7);
        block.put_u32(0);
        block.put_u32(50_000);
        let block = sink.write(BlockKind::Data, &block).unwrap();
        one_partition(sink, &[(&[0xff; 100], block)])
    });
    is_refused(walk(&reader), "key shares more with the first one");
}

#[test]
fn handles_that_name_no_block_or_half_of_one_are_refused() {
    for change in [
        |handle: Handle| Handle { offset: u64::MAX, ..handle },
        |handle: Handle| Handle { offset: handle.offset + 1, ..handle },
        |handle: Handle| Handle { stored: 0, ..handle },
        |handle: Handle| Handle { stored: handle.stored - 1, ..handle },
        |handle: Handle| Handle { len: u32::MAX, ..handle },
        |handle: Handle| Handle { len: handle.len + 1, ..handle },
        |handle: Handle| Handle { stored: u32::MAX, len: u32::MAX, ..handle },
    ] {
        let reader = forged(|sink| {
            let block = rows(sink, &[b"a", b"b"]);
            one_partition(sink, &[(b"b", change(block))])
        });
        is_refused(walk(&reader), "block");
    }
}

#[test]
fn blocks_that_claim_to_be_huge_take_no_more_memory_than_their_handle_says() {
    for (codec, claim) in [
        // An LZ4 block, and a zstd frame with a window of 2^41 bytes, behind the length that the handle says.
        (1u8, &[200, 1, 0x1f, b'a', 1, 0, 0xff, 0xff, 0xff][..]),
        (2, &[200, 1, 0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xf8, 0x23, 0x00, 0x00, b'a'][..]),
        // A frame that says it holds 4 GiB, one that refers to a dictionary, and a length of 2^40.
        (2, &[200, 1, 0x28, 0xb5, 0x2f, 0xfd, 0xa0, 0xff, 0xff, 0xff, 0xff, 0x23, 0, 0, b'a'][..]),
        (2, &[200, 1, 0x28, 0xb5, 0x2f, 0xfd, 0x21, 7, 200, 0x23, 0x03, 0, b'a'][..]),
        (1, &[0x80, 0x80, 0x80, 0x80, 0x80, 0x20, 0x1f, b'a'][..]),
        (9, &[200, 1, 0x1f][..]),
    ] {
        let reason = crate::format::codec::decompress(codec, claim, 200).unwrap_err().to_string();
        assert!(codec != 9 || reason == "block of unknown codec 0x09", "{reason}");
    }
}
