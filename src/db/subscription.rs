//! A feed of all that is committed, for who keeps a copy or an index elsewhere.
//!
//! The obvious way hands commits on as they are published, through a queue for each reader: a slow one then makes the queue
//! grow without end or loses something, and one that begins late, or comes back, must get what it has missed in another
//! way. Here everything comes by the other way: out of the history that is retained, one span of time after the other, each
//! up to the closed timestamp of its moment, below which nothing changes any more. A reader holds nothing but how far it
//! is. One that is so slow that retention passes it is told so.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use super::handle::Session;
use super::read::Target;
use super::{Change, Changes};
use crate::manifest::KeyspaceId;
use crate::options::Retention;
use crate::sync::Arc;
use crate::{Error, Result, Timestamp};

/// What a [`Subscription`] gives.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// Something that was committed.
    Change {
        /// The keyspace's name.
        keyspace: Arc<str>,
        /// What.
        change: Change,
    },
    /// Every change at or below this timestamp was given. To go on from here another time, subscribe from the next one.
    Resolved(Timestamp),
}

/// Every change from a timestamp on, in all keyspaces whose retention is `Window` or `Manual`. Made by
/// [`Db::subscribe`](crate::Db::subscribe).
///
/// First comes what is retained, then what is committed, up to the closed timestamp
/// ([`Db::closed_timestamp`](crate::Db::closed_timestamp)): without late commits that is the last one. Changes come in
/// spans of time; of one span keyspace by keyspace, by key, and of a key the newest first; then the span's end, as
/// [`Event::Resolved`]. No change comes at or below a timestamp that was resolved. A keyspace that is dropped gives no
/// more. Memory does not depend on how far behind it is; while a span is read, its files stay.
///
/// As an iterator it waits for the next event, without end. An error is its last item: `BelowRetained` where it has
/// fallen behind the floor of a keyspace, so that something it has not given is gone; `Closed`.
pub struct Subscription {
    session: Arc<Session>,
    /// Everything below was given.
    from: Timestamp,
    span: Option<Span>,
    ended: bool,
}

/// What is left of a span of time.
struct Span {
    end: Timestamp,
    current: Option<(Arc<str>, Changes)>,
    keyspaces: VecDeque<KeyspaceId>,
}

/// For so long at most it sleeps without looking up.
const LONGEST_SLEEP: Duration = Duration::from_millis(50);

impl Subscription {
    pub(super) fn new(session: &Arc<Session>, from: Timestamp) -> Result<Self> {
        let subscription = Self { session: Arc::clone(session), from: from.max(1), span: None, ended: false };
        // What is gone already is said at once.
        subscription.begin_span(from.max(1)).map(|_| subscription)
    }

    /// The next event that is there now, if there is one. Does not wait.
    ///
    /// # Errors
    /// As the iterator's.
    pub fn try_next(&mut self) -> Result<Option<Event>> {
        if self.ended {
            return Ok(None);
        }
        let event = self.step();
        self.ended = event.is_err();
        event
    }

    /// The next event, or `None` if none comes for so long.
    ///
    /// # Errors
    /// As the iterator's.
    pub fn next_within(&mut self, longest: Duration) -> Result<Option<Event>> {
        let engine = Arc::clone(self.session.engine());
        let began = engine.time.monotonic_nanos();
        loop {
            if let Some(event) = self.try_next()? {
                return Ok(Some(event));
            }
            let waited = Duration::from_nanos(engine.time.monotonic_nanos().saturating_sub(began));
            if self.ended || waited >= longest {
                return Ok(None);
            }
            let from = self.from;
            engine.in_flight.wait_moved((longest - waited).min(LONGEST_SLEEP), || engine.closed() >= from);
        }
    }

    fn step(&mut self) -> Result<Option<Event>> {
        self.session.engine().check_open()?;
        let closed = self.session.engine().closed();
        if self.span.is_none() && closed >= self.from {
            self.span = Some(self.begin_span(closed)?);
        }
        let Some(mut span) = self.span.take() else { return Ok(None) };
        loop {
            if let Some((keyspace, changes)) = &mut span.current {
                if let Some(change) = changes.next().transpose()? {
                    let keyspace = Arc::clone(keyspace);
                    self.span = Some(span);
                    return Ok(Some(Event::Change { keyspace, change }));
                }
                span.current = None;
            }
            match span.keyspaces.pop_front() {
                Some(id) => span.current = self.changes_of(id, span.end)?,
                None => {
                    self.from = span.end.saturating_add(1);
                    return Ok(Some(Event::Resolved(span.end)));
                }
            }
        }
    }

    fn begin_span(&self, end: Timestamp) -> Result<Span> {
        let world = self.session.engine().world();
        let kept = world.keyspaces().iter().filter(|one| !matches!(one.core.options.retention, Retention::Latest));
        for keyspace in kept.clone() {
            let retained = keyspace.core.floor();
            if retained >= self.from {
                return Err(Error::BelowRetained { requested: self.from, retained });
            }
        }
        Ok(Span { end, current: None, keyspaces: kept.map(|keyspace| keyspace.core.id).collect() })
    }

    /// `None`: the keyspace was dropped meanwhile.
    fn changes_of(&self, id: KeyspaceId, end: Timestamp) -> Result<Option<(Arc<str>, Changes)>> {
        let view = self.session.engine().current.view();
        let Some(version) = view.world.get(id) else { return Ok(None) };
        let name = Arc::from(version.core.name.as_str());
        let target = Target::Keyspace { version: Arc::clone(version), horizon: view.horizon };
        Ok(Some((name, Changes::new(&self.session, target, Some(self.from..=end))?)))
    }
}

impl Iterator for Subscription {
    type Item = Result<Event>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.ended {
            match self.next_within(Duration::MAX).transpose() {
                None => {}
                event => return event,
            }
        }
        None
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").field("from", &self.from).finish_non_exhaustive()
    }
}
