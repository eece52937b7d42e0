//! Inputs to begin with.

use super::file::source_of;
use super::recipe;
use super::seal::unseal;
use crate::Slice;
use crate::fuzzing::{Choices, pieces_of};
use crate::table::block::{BlockKind, Handle};
use crate::table::footer::Footer;
use crate::table::index::IndexBlock;
use crate::table::{TableMeta, UpperBound};

/// Choices that make tables of several shapes: the first three bytes are block size, codec and filter.
fn recipes() -> Vec<Vec<u8>> {
    let mut recipes = Vec::new();
    for (block, codec, filter, versions) in [(0, 0, 0, 2), (1, 1, 0, 4), (2, 2, 1, 5), (3, 0, 1, 0), (0, 1, 0, 6)] {
        let mut recipe = vec![block, codec, filter];
        for i in 0..10u8 {
            if i == 3 {
                // A range tombstone.
                recipe.extend([0, 7, 200, i, 1, b'b', 0, 1, b'd']);
            }
            // A key and its versions: late, no range, shape, rest of the key, newest, how many.
            let versions = if i == 4 || versions < 6 { versions } else { 0 };
            recipe.extend([i, 0, if i % 3 == 0 { 10 } else { 2 }, b'a' + i / 2, b'a' + i, 100 + i, 1, versions]);
            for version in 0..[1u8, 1, 1, 2, 3, 10, 40][usize::from(versions)] {
                let fill = version.wrapping_mul(3);
                recipe.push(fill);
                if fill % 8 != 7 {
                    recipe.push(version);
                }
                if fill % 8 == 6 {
                    recipe.extend([90, 0]);
                }
            }
        }
        recipes.push(recipe);
    }
    // So many range tombstones that their block, which the footer names, is compressed.
    for codec in [1, 2] {
        let mut recipe = vec![0, codec, 0];
        for i in 0..12 {
            recipe.extend([0, 7, i, 1, 9, b'a' + 2 * i, 0, 9, b'b' + 2 * i]);
        }
        recipes.push(recipe);
    }
    recipes
}

fn files() -> Vec<Vec<u8>> {
    let files = recipes().into_iter().take(4);
    files.map(|recipe| recipe::write(&mut Choices::new(&recipe)).unwrap().0).collect()
}

pub(crate) fn table_seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for mut file in files() {
        seeds.push([&[0], &file[..]].concat());
        unseal(&mut file);
        seeds.push([&[1], &file[..]].concat());
    }
    for recipe in recipes() {
        let damage = vec![1, 40, 0, 3, 0, 200, 0, 9];
        for mode in [2, 3] {
            seeds.push([&[mode], &recipe[..]].concat());
            seeds.push([&[mode], &pieces_of(&[recipe.clone(), damage.clone()])[..]].concat());
        }
    }
    seeds
}

/// The payloads of all blocks of some tables.
pub(crate) fn block_seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for file in files() {
        let source = source_of(&file);
        let footer = Footer::read(&source, &file).unwrap();
        let mut add = |which: u8, kind: BlockKind, handle: Handle| {
            let payload = source.load(kind, handle).unwrap();
            let offset: &[u8] = if kind == BlockKind::History { &[0] } else { &[] };
            seeds.push([&[which], offset, &payload].concat());
            payload
        };
        if !footer.filter.is_none() {
            add(4, BlockKind::Filter, footer.filter);
        }
        if !footer.ranges.is_none() {
            add(5, BlockKind::RangeTombstones, footer.ranges);
        }
        let top = IndexBlock::parse(&add(1, BlockKind::TopIndex, footer.top), 0).unwrap();
        let partition = IndexBlock::parse(&add(1, BlockKind::Partition, top.entry(0).unwrap().block), 0).unwrap();
        for at in 0..partition.len().min(3) {
            let data = add(0, BlockKind::Data, partition.entry(at).unwrap().block);
            let data = crate::table::rows::DataBlock::parse(&data, 0).unwrap();
            if let Ok(history) = data.history(0) {
                let kind = [BlockKind::History, BlockKind::HistoryIndex]
                    .into_iter()
                    .find(|kind| source.load(*kind, history).is_ok());
                let kind = kind.unwrap();
                add(if kind == BlockKind::History { 2 } else { 3 }, kind, history);
            }
        }
    }
    seeds
}

pub(crate) fn meta_seeds() -> Vec<Vec<u8>> {
    let upper = [
        UpperBound::Included(Slice::from(&b"z"[..])),
        UpperBound::Excluded(Slice::from(&b"z"[..])),
        UpperBound::Unbounded,
    ];
    let metas = upper.into_iter().map(|upper| TableMeta {
        number: super::file::NUMBER,
        bytes: 4096,
        smallest: Slice::from(&b"b"[..]),
        upper,
        min_timestamp: 3,
        max_timestamp: 900,
        keys: 10,
        versions: 20,
        tombstones: 2,
        range_tombstones: 1,
        late: true,
        freeable: crate::table::Freeable::of([(5, 100), (9, 300)]),
        log_end: 0,
    });
    metas
        .map(|meta| {
            let mut bytes = Vec::new();
            meta.encode(&mut bytes);
            bytes
        })
        .collect()
}
