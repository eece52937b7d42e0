//! Numbers and strings as bytes: fixed-width numbers are little-endian, variable ones LEB128 in the shortest form.

use std::fmt;
use std::path::Path;

use crate::Error;

/// Appends encoded values.
pub(crate) trait Encode {
    fn put_u8(&mut self, value: u8);
    fn put_u32(&mut self, value: u32);
    fn put_u64(&mut self, value: u64);
    fn put_varint(&mut self, value: u64);
    /// A length as a varint, then the bytes.
    fn put_bytes(&mut self, bytes: &[u8]);
}

impl Encode for Vec<u8> {
    fn put_u8(&mut self, value: u8) {
        self.push(value);
    }

    fn put_u32(&mut self, value: u32) {
        self.extend_from_slice(&value.to_le_bytes());
    }

    fn put_u64(&mut self, value: u64) {
        self.extend_from_slice(&value.to_le_bytes());
    }

    #[expect(clippy::cast_possible_truncation, reason = "the low seven bits are meant")]
    fn put_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.push(value as u8);
    }

    fn put_bytes(&mut self, bytes: &[u8]) {
        self.put_varint(bytes.len() as u64);
        self.extend_from_slice(bytes);
    }
}

/// What is wrong with some bytes; of a kind that is not known here, its number too (F1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reason {
    words: &'static str,
    kind: Option<u8>,
}

impl Reason {
    /// `words` end where the number goes on.
    pub(crate) fn unknown(words: &'static str, kind: u8) -> Self {
        Self { words, kind: Some(kind) }
    }
}

impl From<&'static str> for Reason {
    fn from(words: &'static str) -> Self {
        Self { words, kind: None }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Some(kind) => write!(f, "{} {kind:#04x}", self.words),
            None => f.write_str(self.words),
        }
    }
}

impl From<Reason> for String {
    fn from(reason: Reason) -> Self {
        reason.to_string()
    }
}

/// What could not be decoded, and where in the decoded bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DecodeError {
    pub(crate) offset: usize,
    pub(crate) reason: Reason,
}

impl DecodeError {
    /// As the error of a file in which the decoded bytes begin at `base`.
    pub(crate) fn in_file(self, path: impl AsRef<Path>, base: u64) -> Error {
        Error::corruption(path, base.saturating_add(self.offset as u64), self.reason)
    }
}

/// Reads encoded values from the front; every length is checked against what is there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Decoder<'a> {
    rest: &'a [u8],
    whole: usize,
}

impl<'a> Decoder<'a> {
    #[inline]
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, whole: bytes.len() }
    }

    /// How many bytes were read.
    #[inline]
    pub(crate) fn offset(&self) -> usize {
        self.whole - self.rest.len()
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// What was not read yet.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(crate) fn error(&self, reason: impl Into<Reason>) -> DecodeError {
        DecodeError { offset: self.offset(), reason: reason.into() }
    }

    #[inline]
    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(self.error("ends too early"))?;
        self.rest = rest;
        Ok(taken)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(self.error("ends too early"))?;
        self.rest = rest;
        Ok(*taken)
    }

    #[inline]
    pub(crate) fn u8(&mut self) -> Result<u8, DecodeError> {
        self.array::<1>().map(|[byte]| byte)
    }

    #[inline]
    pub(crate) fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_le_bytes)
    }

    #[inline]
    pub(crate) fn u64(&mut self) -> Result<u64, DecodeError> {
        self.array().map(u64::from_le_bytes)
    }

    #[inline]
    pub(crate) fn varint(&mut self) -> Result<u64, DecodeError> {
        match self.next_varint() {
            Some(value) => Ok(value),
            None => self.long_varint(),
        }
    }

    /// [`varint`](Self::varint), for who decodes much and has one reason for all that can be wrong; nothing is read where
    /// there is none.
    #[inline(always)]
    pub(crate) fn next_varint(&mut self) -> Option<u64> {
        // Most numbers are small.
        if let [byte @ 0..0x80, rest @ ..] = self.rest {
            self.rest = rest;
            return Some(u64::from(*byte));
        }
        if let Some(word) = self.rest.first_chunk::<8>()
            && let Some((value, len)) = varint_in(u64::from_le_bytes(*word))
        {
            self.rest = self.rest.get(len..)?;
            return Some(value);
        }
        let mut from = *self;
        let value = from.long_varint().ok()?;
        *self = from;
        Some(value)
    }

    /// What `put_bytes` wrote, as `next_varint` reads.
    #[inline(always)]
    pub(crate) fn next_bytes(&mut self) -> Option<&'a [u8]> {
        let len = usize::try_from(self.next_varint()?).ok()?;
        let (taken, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(taken)
    }

    fn long_varint(&mut self) -> Result<u64, DecodeError> {
        let start = *self;
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            value |= bits << shift;
            if byte < 0x80 {
                let shortest = byte != 0 || shift == 0;
                return if shortest { Ok(value) } else { Err(start.error("number is not in its shortest form")) };
            }
        }
        Err(start.error("number is too large"))
    }

    /// A varint that counts things in memory.
    #[inline]
    pub(crate) fn varint_usize(&mut self) -> Result<usize, DecodeError> {
        let start = *self;
        usize::try_from(self.varint()?).map_err(|_| start.error("number is too large"))
    }

    /// What `put_bytes` wrote.
    #[inline]
    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], DecodeError> {
        let len = self.varint_usize()?;
        self.take(len)
    }
}

/// The varint that begins a word, and its length; `None` if it does not end in the word, or is not in its shortest form.
#[inline(always)]
fn varint_in(word: u64) -> Option<(u64, usize)> {
    let ends = !word & 0x8080_8080_8080_8080;
    if ends == 0 {
        return None;
    }
    // Everything up to the first byte without its top bit; then pairs of groups moved together, of 7, 14 and 28 bits.
    let groups = word & (ends ^ (ends - 1)) & 0x7f7f_7f7f_7f7f_7f7f;
    let groups = (groups & 0x007f_007f_007f_007f) | (groups & 0x7f00_7f00_7f00_7f00) >> 1;
    let groups = (groups & 0x0000_3fff_0000_3fff) | (groups & 0x3fff_0000_3fff_0000) >> 2;
    let value = (groups & 0x0fff_ffff) | (groups & 0x0fff_ffff_0000_0000) >> 4;
    let last = ends.trailing_zeros() / 8;
    let shortest = last == 0 || value >> (7 * last) != 0;
    shortest.then_some((value, usize::try_from(last).unwrap_or(0) + 1))
}

/// How many bytes two keys have in common at their front.
pub(crate) fn shared_prefix(a: &[u8], b: &[u8]) -> usize {
    let (whole, _) = a.as_chunks::<8>();
    let (other, _) = b.as_chunks::<8>();
    let words = whole.iter().zip(other).take_while(|(x, y)| x == y).count() * 8;
    let rest = |key| <[u8]>::get(key, words..).unwrap_or_default();
    words + rest(a).iter().zip(rest(b)).take_while(|(x, y)| x == y).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_is_read_back() {
        let numbers = [0, 1, 127, 128, 16_383, 16_384, u64::from(u32::MAX), u64::MAX - 1, u64::MAX];
        let mut bytes = Vec::new();
        for n in numbers {
            bytes.put_varint(n);
            bytes.put_u64(n);
        }
        bytes.put_bytes(b"text");
        let mut decoder = Decoder::new(&bytes);
        for n in numbers {
            assert_eq!(decoder.varint(), Ok(n));
            assert_eq!(decoder.u64(), Ok(n));
        }
        assert_eq!(decoder.bytes(), Ok(&b"text"[..]));
        assert!(decoder.is_empty());
        assert!(decoder.u8().is_err());
    }

    #[test]
    fn numbers_are_read_alike_at_the_end_of_the_bytes_and_before() {
        let lengths = (0..64).flat_map(|bits| [1u64 << bits, (1 << bits) - 1, (1 << bits) + 5]);
        for number in lengths.chain([u64::MAX, 0x0102_0304_0506_0708]) {
            let mut bytes = Vec::new();
            bytes.put_varint(number);
            let len = bytes.len();
            for behind in 0..10 {
                let mut from = Decoder::new(&bytes);
                assert_eq!((from.varint(), from.offset()), (Ok(number), len), "{behind} bytes behind");
                bytes.push(0xff);
            }
        }
        for bad in [&[0x80, 0][..], &[0xff, 0x80, 0], &[0x80; 12], &[0xff, 0xff, 0xff, 0xff, 0xff, 0x80, 0x80, 0x00]] {
            for behind in [&[][..], &[0; 8], &[0xff; 8]] {
                let bytes = [bad, behind].concat();
                assert!(Decoder::new(&bytes).varint().is_err(), "{bytes:x?}");
            }
        }
    }

    #[test]
    fn damaged_numbers_are_refused() {
        for bad in
            [&[][..], &[0x80], &[0x80, 0x00], &[0xff; 10], &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2]]
        {
            assert!(Decoder::new(bad).varint().is_err(), "{bad:x?}");
        }
        assert!(Decoder::new(&[5, 1, 2]).bytes().is_err());
    }
}
