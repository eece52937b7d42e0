//! Where a run's choices come from: a seed, or the bytes that a fuzzer made.

use std::convert::Infallible;

use rand::rngs::StdRng;
use rand::{SeedableRng, TryRng};

/// A source of choices. Everything that a run does depends on what it gives.
pub enum Random {
    /// All choices follow from a seed.
    Seed(Box<StdRng>),
    /// Each choice eats some bytes; when they are used up, `spent` is set and the rest follows from a seed.
    Bytes { bytes: std::vec::IntoIter<u8>, spent: bool, then: Box<StdRng> },
}

impl Random {
    pub fn of_seed(seed: u64) -> Self {
        Self::Seed(Box::new(StdRng::seed_from_u64(seed)))
    }

    pub fn of_bytes(bytes: &[u8]) -> Self {
        Self::Bytes {
            bytes: Vec::from(bytes).into_iter(),
            spent: false,
            then: Box::new(StdRng::seed_from_u64(bytes.len() as u64)),
        }
    }

    /// Whether the bytes are used up.
    pub fn is_spent(&self) -> bool {
        matches!(self, Self::Bytes { spent: true, .. })
    }

    fn word(&mut self, len: usize) -> u64 {
        match self {
            Self::Seed(random) => random.try_next_u64().unwrap_or_default(),
            Self::Bytes { bytes, spent, then } => {
                if bytes.len() < len {
                    *spent = true;
                    return then.try_next_u64().unwrap_or_default();
                }
                // The bytes decide the high bits, which ranges are drawn from, and so few bytes decide much.
                let mut word = [0; 8];
                bytes.by_ref().take(len).zip(word.iter_mut().rev()).for_each(|(byte, to)| *to = byte);
                u64::from_le_bytes(word)
            }
        }
    }
}

impl TryRng for Random {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        match self {
            Self::Seed(random) => random.try_next_u32(),
            Self::Bytes { .. } => Ok((self.word(2) >> 32) as u32),
        }
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(self.word(3))
    }

    fn try_fill_bytes(&mut self, to: &mut [u8]) -> Result<(), Infallible> {
        match self {
            Self::Seed(random) => random.try_fill_bytes(to),
            Self::Bytes { .. } => {
                to.iter_mut().for_each(|byte| *byte = (self.word(1) >> 56) as u8);
                Ok(())
            }
        }
    }
}

#[test]
fn bytes_decide_until_they_are_used_up() {
    use rand::RngExt;
    let draw = |bytes: &[u8]| {
        let mut random = Random::of_bytes(bytes);
        let drawn: Vec<u32> = (0..4).map(|_| random.random_range(0..1000)).collect();
        (drawn, random.is_spent())
    };
    assert_ne!(draw(&[0; 8]).0, draw(&[200; 8]).0);
    assert_eq!(draw(&[7; 8]), draw(&[7; 8]));
    assert!(draw(&[7; 2]).1 && !draw(&[7; 100]).1);
}
