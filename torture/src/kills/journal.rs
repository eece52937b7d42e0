//! What the victim tells the witness: a file that each event is appended to with one write. What the system has of it
//! survives the victim, just as a `Buffered` commit does, and nobody has to listen at the time.
//!
//! ```text
//! event   16 bytes: kind u8, writer u8, 0 0, nth u32, value u64
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use strandline::Timestamp;

/// Something that has happened in the victim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    Opening,
    /// It is open, and this is the last timestamp.
    Opened(Timestamp),
    /// The fixed keyspaces are there.
    Ready,
    /// It has made a file of this number.
    Made(u64),
    /// A writer is about to take a step. `value`: the timestamp it names, or 0; whether it makes (1) or drops (0) a
    /// keyspace.
    Begun {
        writer: u8,
        nth: u32,
        value: u64,
    },
    /// The step was acknowledged. `value`: the timestamp or floor that it gave.
    Done {
        writer: u8,
        nth: u32,
        value: u64,
    },
    /// The step was refused, as it may be.
    Refused {
        writer: u8,
        nth: u32,
    },
    Closing,
    Closed,
}

const EVENT_BYTES: usize = 16;

impl Event {
    fn encode(self) -> [u8; EVENT_BYTES] {
        let (kind, writer, nth, value) = match self {
            Self::Opening => (1, 0, 0, 0),
            Self::Opened(last) => (2, 0, 0, last),
            Self::Ready => (3, 0, 0, 0),
            Self::Begun { writer, nth, value } => (4, writer, nth, value),
            Self::Done { writer, nth, value } => (5, writer, nth, value),
            Self::Refused { writer, nth } => (6, writer, nth, 0),
            Self::Closing => (7, 0, 0, 0),
            Self::Closed => (8, 0, 0, 0),
            Self::Made(number) => (9, 0, 0, number),
        };
        let mut bytes = [0; EVENT_BYTES];
        bytes[0] = kind;
        bytes[1] = writer;
        bytes[4..8].copy_from_slice(&u32::to_le_bytes(nth));
        bytes[8..].copy_from_slice(&u64::to_le_bytes(value));
        bytes
    }

    fn decode(bytes: [u8; EVENT_BYTES]) -> Option<Self> {
        let [kind, writer, _, _, a, b, c, d, value @ ..] = bytes;
        let (nth, value) = (u32::from_le_bytes([a, b, c, d]), u64::from_le_bytes(value));
        Some(match kind {
            1 => Self::Opening,
            2 => Self::Opened(value),
            3 => Self::Ready,
            4 => Self::Begun { writer, nth, value },
            5 => Self::Done { writer, nth, value },
            6 => Self::Refused { writer, nth },
            7 => Self::Closing,
            8 => Self::Closed,
            9 => Self::Made(value),
            _ => return None,
        })
    }
}

/// The victim's end.
pub struct Journal {
    file: File,
}

impl Journal {
    pub fn create(path: &Path) -> io::Result<Self> {
        Ok(Self { file: OpenOptions::new().create(true).append(true).open(path)? })
    }

    /// Any thread may tell.
    pub fn tell(&self, event: Event) -> io::Result<()> {
        (&self.file).write_all(&event.encode())
    }
}

/// What was told so far.
pub fn read(path: &Path) -> Vec<Event> {
    let bytes = fs::read(path).unwrap_or_default();
    let (events, _) = bytes.as_chunks::<EVENT_BYTES>();
    events.iter().map(|bytes| Event::decode(*bytes).expect("an event")).collect()
}

/// How many events were told so far.
pub fn count(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.len() / EVENT_BYTES as u64)
}

#[test]
fn what_was_told_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal");
    let events = [
        Event::Opening,
        Event::Opened(7),
        Event::Ready,
        Event::Made(12),
        Event::Begun { writer: 2, nth: 70_000, value: u64::MAX },
        Event::Done { writer: 2, nth: 70_000, value: 9 },
        Event::Refused { writer: 0, nth: 1 },
        Event::Closing,
        Event::Closed,
    ];
    assert_eq!((read(&path), count(&path)), (vec![], 0));
    let journal = Journal::create(&path).unwrap();
    events.iter().for_each(|event| journal.tell(*event).unwrap());
    assert_eq!((read(&path), count(&path)), (events.to_vec(), 9));
}
