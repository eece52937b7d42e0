//! Block codecs: how the bytes of a block are made smaller, and what is believed of them when they come back (F1).
//!
//! A stored block is named by a codec number and its bytes:
//!
//! ```text
//! 0  none   the bytes themselves
//! 1  lz4    uncompressed length (varint), then one LZ4 block
//! 2  zstd   uncompressed length (varint), then zstd frames (RFC 8878)
//! ```
//!
//! The number that is stored says what was done, not what was asked for: a block that does not shrink is stored as it
//! is.

use std::cell::RefCell;

use lz4_flex::block::{CompressTable, compress_into_with_table, decompress_into, get_maximum_output_size};

use super::{Decoder, Encode, Reason};

/// How blocks are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Compression {
    /// Blocks are stored as they are.
    None,
    /// LZ4: little work for some gain.
    #[default]
    Lz4,
    /// The zstd format at a level from -7 (fastest) to 4 (smallest); a level beyond counts as the nearest.
    Zstd(i32),
}

const NONE: u8 = 0;
const LZ4: u8 = 1;
const ZSTD: u8 = 2;

/// A block is stored compressed only if that saves this part of it: less is not worth the work of every read.
const LEAST_GAIN: usize = 8;

/// The levels that the encoder has.
const ZSTD_LEVELS: std::ops::RangeInclusive<i32> = -7..=4;

thread_local! {
    // What a codec needs besides input and output; made anew for each block it would cost more than a small block
    // itself.
    static LZ4_TABLE: RefCell<Option<CompressTable>> = const { RefCell::new(None) };
    static ZSTD_ENCODER: RefCell<Option<zrip::CompressContext>> = const { RefCell::new(None) };
    static ZSTD_DECODER: RefCell<Option<zrip::DecompressContext>> = const { RefCell::new(None) };
}

impl Compression {
    /// The number that names the codec on disk.
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::None => NONE,
            Self::Lz4 => LZ4,
            Self::Zstd(_) => ZSTD,
        }
    }

    /// Appends the stored form of `input` to `out` and says by which codec number it is to be read. That is 0, and the
    /// input itself, where compression does not shrink it by an eighth.
    pub(crate) fn compress(self, input: &[u8], out: &mut Vec<u8>) -> u8 {
        let start = out.len();
        out.put_varint(input.len() as u64);
        let done = match self {
            Self::None => None,
            Self::Lz4 => lz4(input, out),
            Self::Zstd(level) => zstd(level, input, out),
        };
        if done.is_some() && out.len() - start <= input.len() - input.len().div_ceil(LEAST_GAIN) {
            return self.number();
        }
        out.truncate(start);
        out.extend_from_slice(input);
        NONE
    }
}

fn lz4(input: &[u8], out: &mut Vec<u8>) -> Option<()> {
    LZ4_TABLE.with_borrow_mut(|table| {
        append(out, get_maximum_output_size(input.len()), |room| {
            compress_into_with_table(input, room, table.get_or_insert_default()).ok()
        })
    })
}

fn zstd(level: i32, input: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let level = level.clamp(*ZSTD_LEVELS.start(), *ZSTD_LEVELS.end());
    ZSTD_ENCODER.with_borrow_mut(|slot| {
        let encoder = match slot {
            Some(encoder) => {
                encoder.set_level(level).ok()?;
                encoder
            }
            None => {
                let mut encoder = zrip::CompressContext::new(level).ok()?;
                // The block has a checksum of its own.
                encoder.set_content_checksum(false);
                slot.insert(encoder)
            }
        };
        append(out, zrip::compress_bound(input.len()), |room| encoder.compress_into(input, room).ok())
    })
}

/// Lets `fill` write into `room` further bytes of `out` and keeps as many as it says.
fn append(out: &mut Vec<u8>, room: usize, fill: impl FnOnce(&mut [u8]) -> Option<usize>) -> Option<()> {
    let start = out.len();
    out.resize(start.checked_add(room)?, 0);
    let filled = fill(out.get_mut(start..)?)?;
    out.truncate(start.checked_add(filled)?);
    Some(())
}

/// What [`Compression::compress`] was given. The result has at most `max_len` bytes, and no more are allocated for it
/// whatever `input` claims (S27).
#[cfg(any(test, fuzzing, feature = "bench-layers"))]
pub(crate) fn decompress(codec: u8, input: &[u8], max_len: usize) -> Result<Vec<u8>, Reason> {
    decompress_in(codec, input, max_len, &mut Vec::new()).map(<[u8]>::to_vec)
}

/// The same, where it lies or in `room`, whose contents do not matter: who has room left over from before spares taking
/// memory, and filling it with zeros.
pub(crate) fn decompress_in<'a>(
    codec: u8,
    input: &'a [u8],
    max_len: usize,
    room: &'a mut Vec<u8>,
) -> Result<&'a [u8], Reason> {
    if codec == NONE {
        return if input.len() <= max_len { Ok(input) } else { Err("block is longer than it may be".into()) };
    }
    let mut decoder = Decoder::new(input);
    let len = decoder.varint_usize().map_err(|_| "compressed block has no proper length")?;
    if len > max_len {
        return Err("block is longer than it may be".into());
    }
    let compressed = decoder.rest();
    let written = match codec {
        LZ4 => decompress_into(compressed, first(room, len)).map_err(|_| "block is not proper lz4")?,
        ZSTD => ZSTD_DECODER.with_borrow_mut(|decoder| {
            room.clear();
            let decoder = decoder.get_or_insert_default();
            decoder.decompress_into_with_limit(compressed, room, len).map_err(|_| "block is not proper zstd")
        })?,
        _ => return Err(Reason::unknown("block of unknown codec", codec)),
    };
    if written != len {
        return Err("compressed block is shorter than it says".into());
    }
    Ok(room.get(..len).unwrap_or_default())
}

/// The first `len` bytes of `room`, which grows to them if it has to.
pub(crate) fn first(room: &mut Vec<u8>, len: usize) -> &mut [u8] {
    if room.len() < len {
        room.resize(len, 0);
    }
    room.get_mut(..len).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::StdRng;
    use rand::{Rng, RngExt, SeedableRng};

    const ALL: [Compression; 6] = [
        Compression::None,
        Compression::Lz4,
        Compression::Zstd(i32::MIN),
        Compression::Zstd(0),
        Compression::Zstd(3),
        Compression::Zstd(i32::MAX),
    ];

    /// From incompressible to constant, by how many values a byte takes.
    fn some_bytes(rng: &mut StdRng, len: usize) -> Vec<u8> {
        let values = 1 << rng.random_range(0..=8u32);
        (0..len).map(|_| u8::try_from(rng.random_range(0..values)).unwrap()).collect()
    }

    fn stored(compression: Compression, input: &[u8]) -> (u8, Vec<u8>) {
        let mut out = b"before".to_vec();
        let codec = compression.compress(input, &mut out);
        assert_eq!(&out[..6], b"before");
        (codec, out.split_off(6))
    }

    #[test]
    fn what_is_compressed_comes_back() {
        let rng = &mut StdRng::seed_from_u64(1);
        for len in [0, 1, 7, 8, 100, 4096, 65_535, 70_000, 300_000] {
            for compression in ALL {
                let input = some_bytes(rng, len);
                let (codec, out) = stored(compression, &input);
                assert!(codec == 0 || codec == compression.number());
                assert!(codec == 0 || out.len() <= len - len / 8);
                assert_eq!(decompress(codec, &out, len).unwrap(), input);
                if len > 0 {
                    assert!(decompress(codec, &out, len - 1).is_err());
                }
            }
        }
    }

    #[test]
    fn what_shrinks_is_compressed_and_what_does_not_is_stored_as_it_is() {
        let rng = &mut StdRng::seed_from_u64(2);
        let mut noise = vec![0; 4096];
        rng.fill_bytes(&mut noise);
        for compression in ALL {
            assert_eq!(stored(compression, &[7; 4096]).0, compression.number());
            assert_eq!(stored(compression, &noise), (0, noise.clone()));
            assert_eq!(stored(compression, b""), (0, vec![]));
        }
    }

    #[test]
    fn bytes_that_were_stored_once_are_read_for_ever() {
        let input = [b'a'; 100];
        // One literal and a match of 94 at distance 1; five literals.
        let lz4 = [&[100, 0x1f, b'a', 1, 0, 75, 0x50][..], b"aaaaa"].concat();
        assert_eq!(decompress(1, &lz4, 100).unwrap(), input);
        // Magic, single segment without checksum, content size; one block of bytes that are all the same.
        let zstd = [&[100, 0x28, 0xb5, 0x2f, 0xfd, 0x20, 100][..], &[0x23, 0x03, 0, b'a']].concat();
        assert_eq!(decompress(2, &zstd, 100).unwrap(), input);
    }

    // S27
    #[test]
    fn hostile_bytes_are_refused_or_stay_within_the_limit() {
        let rng = &mut StdRng::seed_from_u64(3);
        let input = some_bytes(rng, 3000);
        let text: Vec<u8> = input.iter().flat_map(|b| format!("{b},").into_bytes()).take(3000).collect();
        for compression in [Compression::Lz4, Compression::Zstd(1), Compression::Zstd(4)] {
            let (codec, good) = stored(compression, &text);
            assert_eq!(codec, compression.number());
            let check = |bytes: &[u8]| {
                if let Ok(out) = decompress(codec, bytes, 4000) {
                    assert!(out.len() <= 4000 && out.capacity() <= 4200);
                }
            };
            for at in 0..good.len() {
                check(&good[..at]);
                for bit in 0..8 {
                    let mut bad = good.clone();
                    bad[at] ^= 1 << bit;
                    check(&bad);
                }
            }
            for _ in 0..2000 {
                let mut bad = good.clone();
                for _ in 0..rng.random_range(1..20) {
                    let at = rng.random_range(0..bad.len());
                    bad[at] = rng.random();
                }
                check(&bad);
            }
            // The decoder that is kept from call to call took no harm.
            assert_eq!(decompress(codec, &good, 3000).unwrap(), text);
            let trailing = [&good[..], b"x"].concat();
            assert!(decompress(codec, &trailing, 4000).is_err());
        }
    }

    #[test]
    fn lengths_are_checked_before_anything_is_allocated() {
        let mut bomb = Vec::new();
        bomb.put_varint(1 << 40);
        for codec in [1, 2] {
            assert_eq!(decompress(codec, &bomb, 1 << 20), Err("block is longer than it may be".into()));
            assert!(decompress(codec, &[0xff; 11], 1 << 20).is_err());
            assert!(decompress(codec, &[], 1 << 20).is_err());
            assert!(decompress(codec, &[5], 1 << 20).is_err());
        }
        // A frame that claims 4 GiB behind a length of 5.
        let claim = [&[5, 0x28, 0xb5, 0x2f, 0xfd, 0xa0][..], &u32::MAX.to_le_bytes(), &[0x23, 0, 0, b'a']].concat();
        assert!(decompress(2, &claim, 1 << 20).is_err());
        assert_eq!(decompress(3, b"\x01a", 100), Err(Reason::unknown("block of unknown codec", 3)));
        assert_eq!(decompress(0, b"abc", 2), Err("block is longer than it may be".into()));
    }
}
