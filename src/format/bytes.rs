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
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, whole: bytes.len() }
    }

    /// How many bytes were read.
    pub(crate) fn offset(&self) -> usize {
        self.whole - self.rest.len()
    }

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

    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(self.error("ends too early"))?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(self.error("ends too early"))?;
        self.rest = rest;
        Ok(*taken)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, DecodeError> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, DecodeError> {
        self.array().map(u64::from_le_bytes)
    }

    #[inline]
    pub(crate) fn varint(&mut self) -> Result<u64, DecodeError> {
        // Most numbers are small.
        if let [byte @ 0..0x80, rest @ ..] = self.rest {
            self.rest = rest;
            return Ok(u64::from(*byte));
        }
        self.long_varint()
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
    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], DecodeError> {
        let len = self.varint_usize()?;
        self.take(len)
    }
}

/// How many bytes two keys have in common at their front.
pub(crate) fn shared_prefix(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(x, y)| x == y).count()
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
    fn damaged_numbers_are_refused() {
        for bad in
            [&[][..], &[0x80], &[0x80, 0x00], &[0xff; 10], &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2]]
        {
            assert!(Decoder::new(bad).varint().is_err(), "{bad:x?}");
        }
        assert!(Decoder::new(&[5, 1, 2]).bytes().is_err());
    }
}
