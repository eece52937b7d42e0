//! Bytes as choices, as the parts of an input, and as damage to a file.

/// Choices that bytes make, from the front; the least one each once they are used up.
#[derive(Clone)]
pub(crate) struct Choices<'a> {
    rest: &'a [u8],
}

impl<'a> Choices<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(crate) fn byte(&mut self) -> u8 {
        let Some((byte, rest)) = self.rest.split_first() else { return 0 };
        self.rest = rest;
        *byte
    }

    pub(crate) fn short(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    /// Below `end`, which is at most 256.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::from(self.byte()) % end.max(1)
    }

    pub(crate) fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }

    /// One time in `n`, at most 256.
    pub(crate) fn once_in(&mut self, n: u8) -> bool {
        self.byte() % n == n - 1
    }

    /// A number near 0, or near the greatest.
    pub(crate) fn number(&mut self) -> u64 {
        let number = u64::from(self.short());
        if number < 0xf000 { number } else { u64::MAX - (number & 0xfff) }
    }

    /// The next `len` bytes, or what there is.
    pub(crate) fn bytes(&mut self, len: usize) -> &'a [u8] {
        let (bytes, rest) = self.rest.split_at(len.min(self.rest.len()));
        self.rest = rest;
        bytes
    }
}

/// What stands between the parts of an input.
const BETWEEN: &[u8] = b"|--|";

/// The parts of an input. No length says where they end, so that a change of one leaves the others as they are.
pub(crate) fn pieces(input: &[u8]) -> Vec<&[u8]> {
    let mut pieces = Vec::new();
    let mut rest = input;
    while let Some(at) = rest.windows(BETWEEN.len()).position(|window| window == BETWEEN) {
        pieces.push(&rest[..at]);
        rest = &rest[at + BETWEEN.len()..];
    }
    pieces.push(rest);
    pieces
}

/// An input of these parts.
pub(crate) fn pieces_of(parts: &[Vec<u8>]) -> Vec<u8> {
    parts.join(BETWEEN)
}

/// Damages a file in a few places, as the choices say.
pub(crate) fn damage(file: &mut Vec<u8>, choices: &mut Choices<'_>) {
    for _ in 0..8 {
        if choices.is_empty() || file.is_empty() {
            return;
        }
        let (how, at, value) = (choices.byte(), usize::from(choices.short()) % file.len(), choices.byte());
        let end = file.len().min(at + usize::from(value));
        match how % 8 {
            0 => file[at] = value,
            1 => file[at] ^= 1 << (value & 7),
            2 => file[at] = file[at].wrapping_add(1),
            3 => file[at] = file[at].wrapping_sub(1),
            4 => file[at..end].fill(0),
            5 => file[at..end].fill(0xff),
            6 => {
                // A piece of the file in another place.
                let from = usize::from(choices.short()) % file.len();
                let len = usize::from(value).min(file.len() - from).min(file.len() - at);
                file.copy_within(from..from + len, at);
            }
            _ if how & 8 == 0 => file.truncate(at),
            _ => file.extend_from_slice(&vec![how; usize::from(value)]),
        }
    }
}
