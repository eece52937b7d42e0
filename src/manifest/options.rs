//! The options of a keyspace as the manifest keeps them.
//!
//! ```text
//! options  fields, each once and in any order
//! field    number u8, length varint, payload
//!    1  retention              0 latest | 1 window, its timestamps varint | 2 manual
//!    2  compression            a codec
//!    3  compression per level  codecs, from level 0 down; none: that of field 2 everywhere
//!    4  block bytes            varint
//!    5  filter bits per key    the bits of an f64, u64
//!    6  target file bytes      varint
//!    7  level base bytes       varint
//!    8  reserved: values from this size on are kept apart
//!    9  reserved: a digest is kept
//! codec    0 none | 1 lz4 | 2 zstd, its level as two's complement u32
//! ```
//!
//! A field that is not known is passed over if its number has the bit `MAY_SKIP`, and refused otherwise (F1).

use super::edit::NotUnderstood;
use crate::Compression;
use crate::format::{DecodeError, Decoder, Encode, MAY_SKIP, Reason};
use crate::options::{KeyspaceSettings, Retention};

const RETENTION: u8 = 1;
const COMPRESSION: u8 = 2;
const COMPRESSION_PER_LEVEL: u8 = 3;
const BLOCK_BYTES: u8 = 4;
const FILTER_BITS_PER_KEY: u8 = 5;
const TARGET_FILE_BYTES: u8 = 6;
const LEVEL_BASE_BYTES: u8 = 7;
/// The highest field that is known here.
const NEWEST: u8 = LEVEL_BASE_BYTES;

const LATEST: u8 = 0;
const WINDOW: u8 = 1;
const MANUAL: u8 = 2;

const NONE: u8 = 0;
const LZ4: u8 = 1;
const ZSTD: u8 = 2;

pub(crate) fn encode(settings: &KeyspaceSettings, out: &mut Vec<u8>) {
    let mut payload = Vec::new();
    let mut put = |field: u8, fill: &dyn Fn(&mut Vec<u8>)| {
        payload.clear();
        fill(&mut payload);
        out.put_u8(field);
        out.put_bytes(&payload);
    };
    put(RETENTION, &|p| match settings.retention {
        Retention::Latest => p.put_u8(LATEST),
        Retention::Window(timestamps) => {
            p.put_u8(WINDOW);
            p.put_varint(timestamps);
        }
        Retention::Manual => p.put_u8(MANUAL),
    });
    put(COMPRESSION, &|p| put_codec(p, settings.compression));
    put(COMPRESSION_PER_LEVEL, &|p| settings.compression_per_level.iter().for_each(|codec| put_codec(p, *codec)));
    put(BLOCK_BYTES, &|p| p.put_varint(settings.block_bytes as u64));
    put(FILTER_BITS_PER_KEY, &|p| p.put_u64(settings.filter_bits_per_key.to_bits()));
    put(TARGET_FILE_BYTES, &|p| p.put_varint(settings.target_file_bytes));
    put(LEVEL_BASE_BYTES, &|p| p.put_varint(settings.level_base_bytes));
}

/// Reads all that is left of `from`. What no keyspace could be made with is refused.
pub(crate) fn decode(from: &mut Decoder<'_>) -> Result<KeyspaceSettings, NotUnderstood> {
    let (mut retention, mut compression, mut per_level, mut block_bytes) = (None, None, None, None);
    let (mut filter_bits, mut target_file_bytes, mut level_base_bytes) = (None, None, None);
    while !from.is_empty() {
        let start = *from;
        let field = from.u8()?;
        let mut payload = Decoder::new(from.bytes()?);
        // Errors inside a payload point at its field.
        let at = |error: DecodeError| start.error(error.reason);
        let again = match field {
            RETENTION => retention.replace(retention_from(&mut payload).map_err(at)?).is_some(),
            COMPRESSION => compression.replace(codec(&mut payload).map_err(at)?).is_some(),
            COMPRESSION_PER_LEVEL => per_level.replace(codecs(&mut payload).map_err(at)?).is_some(),
            BLOCK_BYTES => block_bytes.replace(payload.varint_usize().map_err(at)?).is_some(),
            FILTER_BITS_PER_KEY => filter_bits.replace(bits(&mut payload).map_err(at)?).is_some(),
            TARGET_FILE_BYTES => target_file_bytes.replace(payload.varint().map_err(at)?).is_some(),
            LEVEL_BASE_BYTES => level_base_bytes.replace(payload.varint().map_err(at)?).is_some(),
            _ if field & MAY_SKIP != 0 => continue,
            _ => return Err(NotUnderstood::Unknown { kind: field, newest: NEWEST }),
        };
        if again {
            return Err(start.error("option is there twice").into());
        }
        if !payload.is_empty() {
            return Err(start.error("option is longer than its field allows").into());
        }
    }
    let missing = from.error("an option is missing");
    let settings = KeyspaceSettings {
        retention: retention.ok_or(missing)?,
        compression: compression.ok_or(missing)?,
        compression_per_level: per_level.ok_or(missing)?,
        block_bytes: block_bytes.ok_or(missing)?,
        filter_bits_per_key: filter_bits.ok_or(missing)?,
        target_file_bytes: target_file_bytes.ok_or(missing)?,
        level_base_bytes: level_base_bytes.ok_or(missing)?,
    };
    settings.check().map_err(|reason| from.error(reason))?;
    Ok(settings)
}

fn retention_from(from: &mut Decoder<'_>) -> Result<Retention, DecodeError> {
    match from.u8()? {
        LATEST => Ok(Retention::Latest),
        WINDOW => from.varint().map(Retention::Window),
        MANUAL => Ok(Retention::Manual),
        kind => Err(from.error(Reason::unknown("retention of unknown kind", kind))),
    }
}

fn put_codec(out: &mut Vec<u8>, codec: Compression) {
    match codec {
        Compression::None => out.put_u8(NONE),
        Compression::Lz4 => out.put_u8(LZ4),
        Compression::Zstd(level) => {
            out.put_u8(ZSTD);
            out.put_u32(level.cast_unsigned());
        }
    }
}

fn codec(from: &mut Decoder<'_>) -> Result<Compression, DecodeError> {
    match from.u8()? {
        NONE => Ok(Compression::None),
        LZ4 => Ok(Compression::Lz4),
        ZSTD => from.u32().map(|level| Compression::Zstd(level.cast_signed())),
        kind => Err(from.error(Reason::unknown("compression of unknown kind", kind))),
    }
}

fn codecs(from: &mut Decoder<'_>) -> Result<Vec<Compression>, DecodeError> {
    let mut codecs = Vec::new();
    while !from.is_empty() {
        codecs.push(codec(from)?);
    }
    Ok(codecs)
}

fn bits(from: &mut Decoder<'_>) -> Result<f64, DecodeError> {
    let bits = f64::from_bits(from.u64()?);
    if bits.is_finite() && bits >= 0.0 { Ok(bits) } else { Err(from.error("filter bits are not a number of bits")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> KeyspaceSettings {
        KeyspaceSettings {
            retention: Retention::Window(86_400_000 << 16),
            compression: Compression::Zstd(-7),
            compression_per_level: vec![Compression::None, Compression::Lz4, Compression::Zstd(3)],
            block_bytes: 16 << 10,
            filter_bits_per_key: 9.5,
            target_file_bytes: 64 << 20,
            level_base_bytes: u64::MAX,
        }
    }

    fn encoded(settings: &KeyspaceSettings) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode(settings, &mut bytes);
        bytes
    }

    fn decoded(bytes: &[u8]) -> Result<KeyspaceSettings, NotUnderstood> {
        decode(&mut Decoder::new(bytes))
    }

    #[test]
    fn options_are_read_back_as_they_were_written() {
        for retention in [Retention::Latest, Retention::Window(0), Retention::Window(u64::MAX), Retention::Manual] {
            for compression_per_level in [vec![], vec![Compression::Zstd(i32::MIN)], settings().compression_per_level] {
                for filter_bits_per_key in [0.0, 0.1, 100.0] {
                    let settings = KeyspaceSettings {
                        retention,
                        compression_per_level: compression_per_level.clone(),
                        filter_bits_per_key,
                        ..settings()
                    };
                    assert_eq!(decoded(&encoded(&settings)), Ok(settings));
                }
            }
        }
    }

    #[test]
    fn cut_or_changed_options_never_panic_and_cut_ones_never_pass() {
        // S27
        let bytes = encoded(&settings());
        for len in 0..bytes.len() {
            assert!(decoded(&bytes[..len]).is_err(), "cut to {len}");
        }
        for i in 0..bytes.len() {
            for value in 0..=u8::MAX {
                let mut changed = bytes.clone();
                changed[i] = value;
                let _ = decoded(&changed);
            }
        }
    }

    #[test]
    fn unknown_options_are_skipped_only_if_they_may_be() {
        // S31
        let with = |extra: &[u8]| decoded(&[&encoded(&settings())[..], extra].concat());
        assert_eq!(with(&[0x20 | MAY_SKIP, 2, 9, 9]), Ok(settings()));
        assert_eq!(with(&[0x20, 2, 9, 9]), Err(NotUnderstood::Unknown { kind: 0x20, newest: NEWEST }));
        assert!(matches!(with(&[RETENTION, 1, LATEST]), Err(NotUnderstood::Damaged(_))));
    }
}
