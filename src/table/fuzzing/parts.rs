//! The smaller things that a table is made of, each read back from what it is written as.

use super::super::block::Handle;
use super::super::filter::{Filter, FilterBuilder};
use super::super::footer::Footer;
use super::super::index::separator;
use super::file::{NUMBER, path, source_of};
use crate::format::{Decoder, Encode};
use crate::fuzzing::Choices;
use crate::table::TableMeta;

/// The properties of a table.
pub(crate) fn meta(bytes: &[u8]) {
    let Ok(meta) = TableMeta::decode(&mut Decoder::new(bytes)) else { return };
    assert!(meta.contains(&meta.smallest) && meta.min_timestamp <= meta.max_timestamp);
    assert!(meta.overlaps_keys(b"", std::ops::Bound::Unbounded));
    let mut last = 0;
    for floor in [0, meta.min_timestamp, meta.max_timestamp, u64::MAX] {
        assert!(meta.freeable.at(floor) >= last, "a higher floor frees no less");
        last = meta.freeable.at(floor);
    }
    let mut again = Vec::new();
    meta.encode(&mut again);
    let mut from = Decoder::new(&again);
    assert_eq!(TableMeta::decode(&mut from), Ok(meta));
    assert!(from.is_empty());
}

/// A file that is nothing but a footer, sealed.
pub(crate) fn footer(bytes: &[u8]) {
    let mut file = bytes.to_vec();
    super::seal::seal_footer(&mut file);
    let source = source_of(&file);
    let Ok(footer) = Footer::read(&source, &file) else { return };
    let at = file.len() - Footer::LEN;
    assert_eq!(footer.encode(NUMBER, at as u64), file[at..], "{}", path().display());
}

pub(crate) fn handles(bytes: &[u8]) {
    let (mut fixed, mut varints) = (Vec::new(), Vec::new());
    if let Ok(handle) = Handle::fixed(&mut Decoder::new(bytes)) {
        handle.put_fixed(&mut fixed);
        assert!(bytes.starts_with(&fixed));
    }
    let mut from = Decoder::new(bytes);
    if let Ok(handle) = Handle::take(&mut from) {
        handle.put(&mut varints);
        assert_eq!(varints, bytes[..from.offset()], "numbers have one form only");
    }
}

/// A filter never denies a key that was added.
pub(crate) fn filter_of_keys(bytes: &[u8]) {
    let mut choices = Choices::new(bytes);
    let mut builder = FilterBuilder::new(f64::from(choices.byte()) / 8.0);
    let mut keys = Vec::new();
    while !choices.is_empty() {
        let len = choices.below(9);
        keys.push(choices.bytes(len));
        builder.add(choices.bytes(0));
        builder.add(keys[keys.len() - 1]);
    }
    let estimated = builder.estimated_bytes();
    let bytes = builder.finish();
    assert_eq!(bytes.len(), estimated);
    if !bytes.is_empty() {
        let filter = Filter::parse(&bytes).unwrap();
        assert!(keys.iter().all(|key| filter.may_contain(key)));
    }
}

pub(crate) fn separator_of_keys(bytes: &[u8]) {
    let mut choices = Choices::new(bytes);
    let (shared, len) = (choices.below(8), choices.below(8));
    let front = choices.bytes(shared);
    let last = [front, choices.bytes(len)].concat();
    let next = [front, choices.rest()].concat();
    if last < next {
        let between = separator(&last, &next);
        assert!(between >= last && between < next && between.len() <= last.len(), "{last:?} {between:?} {next:?}");
    }
    let mut out = Vec::new();
    out.put_bytes(&last);
    assert_eq!(Decoder::new(&out).bytes(), Ok(&last[..]));
}
