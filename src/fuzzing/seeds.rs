//! Inputs to begin with: good ones, of every kind that a target knows.

/// An input for a target.
pub struct Seed {
    /// The target's name.
    pub target: &'static str,
    /// The input.
    pub bytes: Vec<u8>,
}

/// Inputs for every target.
pub fn seeds() -> Vec<Seed> {
    let mut seeds = Vec::new();
    let mut add = |target, all: Vec<Vec<u8>>| seeds.extend(all.into_iter().map(|bytes| Seed { target, bytes }));
    add("block", crate::table::fuzzing::block_seeds());
    add("table", crate::table::fuzzing::table_seeds());
    add("log", crate::log::fuzzing::log_seeds());
    add("manifest", crate::manifest::fuzzing::manifest_seeds());
    add("operations", (1..=8).map(|seed| choices(seed, 400 * seed)).collect());
    let keys = b"\x05\x03abc\x02de\x04abcd".to_vec();
    for (which, all) in [
        (0, vec![vec![0x50, 1, 0x80, 1, 0xff, 0xff, 3, 2, 1, 2, 3, b'a']]),
        (1, vec![b"000007.table".to_vec(), b"18446744073709551615.log".to_vec(), b"123456.manifest".to_vec()]),
        (2, crate::format::fuzzing::decompress_seeds()),
        (3, vec![b"\x0a\x03some text that repeats, some text that repeats".to_vec()]),
        (4, crate::table::fuzzing::meta_seeds()),
        (5, vec![footer_seed()]),
        (6, vec![vec![1, 2, 3, 0x80, 1, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]]),
        (7, vec![keys.clone()]),
        (8, vec![keys]),
        (9, crate::manifest::fuzzing::current_seeds()),
        (10, crate::manifest::fuzzing::options_seeds()),
        (11, crate::manifest::fuzzing::edit_seeds()),
        (12, crate::manifest::fuzzing::frame_seeds()),
        (13, crate::log::fuzzing::record_seeds()),
        (14, crate::log::fuzzing::segment_header_seeds()),
        (15, crate::db::fuzzing::operations_seeds()),
    ] {
        add("decoders", all.into_iter().map(|bytes| [&[which], &bytes[..]].concat()).collect());
    }
    seeds
}

/// The end of a table: four handles, length, version, a checksum to be filled, magic.
fn footer_seed() -> Vec<u8> {
    let mut footer = vec![1; 64];
    footer.extend([84, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    footer.extend_from_slice(b"strandtb");
    footer
}

/// So many bytes without any order.
fn choices(seed: usize, len: usize) -> Vec<u8> {
    let mut state = seed as u64;
    let mut next = || {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        state.to_be_bytes()[0]
    };
    (0..len).map(|_| next()).collect()
}
