//! The encoded operations of a batch, as a commit has them.
//!
//! Memtables copy what is short and share what is long. So the bytes of a batch with nothing long in it are free again
//! once it is committed: the thread's next batch is written into them, and a put allocates nothing.

use std::cell::Cell;
use std::ops::Deref;

use bytes::Bytes;

thread_local! {
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// More than that is not kept for the next batch.
const MOST_SPARE: usize = 64 << 10;

/// See the module.
#[derive(Debug)]
pub(crate) enum Body {
    Copied(Vec<u8>),
    Shared(Bytes),
}

impl Body {
    /// Something to share that holds `part`, which lies in it.
    pub(crate) fn share(&self, part: &[u8]) -> Bytes {
        match self {
            Self::Copied(_) => Bytes::copy_from_slice(part),
            Self::Shared(body) => body.slice_ref(part),
        }
    }

    /// All of it, shared; what was copied is from then on.
    pub(crate) fn share_all(&mut self) -> Bytes {
        if let Self::Copied(body) = self {
            *self = Self::Shared(std::mem::take(body).into());
        }
        match self {
            Self::Shared(body) => body.clone(),
            Self::Copied(body) => Bytes::copy_from_slice(body),
        }
    }

    /// Gives its memory to the thread's next batch, if nothing shares it.
    pub(crate) fn recycle(self) {
        if let Self::Copied(mut body) = self
            && body.capacity() <= MOST_SPARE
        {
            body.clear();
            // While a thread ends there is no next batch.
            let _ = SPARE.try_with(|spare| spare.set(body));
        }
    }
}

impl Deref for Body {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Copied(body) => body,
            Self::Shared(body) => body,
        }
    }
}

/// Nothing, with room for something if the thread has any to spare.
pub(super) fn spare() -> Vec<u8> {
    SPARE.try_with(Cell::take).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nothing_shares_is_used_again() {
        let mut body = Vec::with_capacity(1000);
        body.extend_from_slice(b"operations");
        let at = body.as_ptr();
        Body::Copied(body).recycle();
        let again = spare();
        assert_eq!((again.as_ptr(), again.len(), again.capacity()), (at, 0, 1000));
        assert_eq!(spare().capacity(), 0);
        Body::Copied(Vec::with_capacity(MOST_SPARE + 1)).recycle();
        Body::Shared(Bytes::from(vec![1; 100])).recycle();
        assert_eq!(spare().capacity(), 0);
    }

    #[test]
    fn a_part_is_shared_where_all_is() {
        let body = Body::Shared(Bytes::from(vec![7; 100]));
        assert_eq!(body.share(&body[10..20]).as_ptr(), body[10..].as_ptr());
        let body = Body::Copied(vec![7; 100]);
        assert_eq!(body.share(&body[10..20]), vec![7; 10]);
    }
}
