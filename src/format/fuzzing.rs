//! What fuzzing asks of what all formats share.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a promise that is broken is a panic here"
)]

use std::path::Path;

use super::codec::{self, Compression};
use super::{Decoder, Encode, FileKind, FileNumber, parse_file_name, shared_prefix};
use crate::fuzzing::Choices;

/// Numbers have one form only: what is read is what would be written.
pub(crate) fn numbers(bytes: &[u8]) {
    let mut choices = Choices::new(bytes);
    let kinds = choices.byte();
    let mut from = Decoder::new(choices.rest());
    let mut out = Vec::new();
    for turn in 0..8 {
        let read = match kinds >> turn & 1 {
            0 => from.varint().map(|number| out.put_varint(number)),
            _ => from.bytes().map(|bytes| out.put_bytes(bytes)),
        };
        if let Err(error) = read {
            assert!(error.offset <= choices.rest().len());
            break;
        }
        assert_eq!(out, choices.rest()[..from.offset()]);
    }
    let _ = (from.u8(), from.u32(), from.u64(), from.varint_usize(), from.take(usize::MAX));
    let (a, b) = bytes.split_at(bytes.len() / 2);
    let shared = shared_prefix(a, b);
    assert!(a[..shared] == b[..shared] && (a.len() == shared || b.len() == shared || a[shared] != b[shared]));
}

/// Names of files: those that are known are exactly those that are given.
pub(crate) fn names(bytes: &[u8]) {
    if let Ok(name) = std::str::from_utf8(bytes)
        && let Some((kind, number)) = parse_file_name(name)
    {
        assert_eq!(kind.path(Path::new(""), number), Path::new(name));
    }
    let mut choices = Choices::new(bytes);
    let kind = choices.one_of(&[FileKind::Log, FileKind::Table, FileKind::Manifest]);
    let number = FileNumber(choices.number());
    let path = kind.path(Path::new("x"), number);
    assert_eq!(parse_file_name(path.file_name().unwrap().to_str().unwrap()), Some((kind, number)));
}

/// A block that claims any codec and length: it is refused, or gives no more than it may.
pub(crate) fn decompress(bytes: &[u8]) {
    let mut choices = Choices::new(bytes);
    let (number, most) = (choices.byte() % 4, usize::from(choices.short()));
    if let Ok(out) = codec::decompress(number, choices.rest(), most) {
        assert!(out.len() <= most);
    }
}

/// Whatever is compressed comes back.
pub(crate) fn compress(bytes: &[u8]) {
    let mut choices = Choices::new(bytes);
    let level = i32::from(choices.byte() % 16) - 9;
    let repeats = choices.below(4) + 1;
    let input = choices.rest().repeat(repeats);
    for compression in [Compression::None, Compression::Lz4, Compression::Zstd(level)] {
        let mut out = b"front".to_vec();
        let number = compression.compress(&input, &mut out);
        assert!(out.starts_with(b"front") && (out.len() <= input.len() + 5));
        assert_eq!(codec::decompress(number, &out[5..], input.len()).as_ref(), Ok(&input), "{compression:?}");
        if let Some(less) = input.len().checked_sub(1) {
            assert!(codec::decompress(number, &out[5..], less).is_err());
        }
    }
}

pub(crate) fn decompress_seeds() -> Vec<Vec<u8>> {
    let text = b"some text that repeats, some text that repeats, some text that repeats, and some more of it".repeat(3);
    let codecs = [Compression::Lz4, Compression::Zstd(1), Compression::Zstd(-7), Compression::Zstd(4)];
    codecs
        .map(|compression| {
            let mut out = Vec::new();
            let number = compression.compress(&text, &mut out);
            [&[number, 0, 4], &out[..]].concat()
        })
        .into()
}
