//! Transactions: reads at one time, writes that wait for the commit, and a conditional commit that finds conflicts.
//!
//! Optimistic (Kung and Robinson, TODS 1981, "backward validation"): nothing is locked, and nobody waits for one that may
//! never commit. What a transaction writes is its own until then; the commit is a batch with a condition on what was
//! written, and for `Serializable` on what was read, by the start ([`condition`](super::condition)).

mod iter;
mod reads;
mod writes;

pub use iter::TransactionIter;

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use reads::Tracked;
use writes::{Mark, Write, Writes};

use super::batch::{MAX_KEY_BYTES, MAX_VALUE_BYTES};
use super::handle::Session;
use super::range::{KeyBounds, prefix_bounds};
use super::{Db, KeyRange, Keyspace, Snapshot, WriteBatch};
use crate::options::{CommitOptions, Rewrite};
use crate::sync::{Arc, Mutex};
use crate::{Error, Result, Slice, Timestamp};

/// What a transaction is kept from seeing of others.
///
/// At either level every read is of one time, the start, and of the transaction's own writes: no dirty, fuzzy or
/// half-visible reads. They differ in what lets a commit fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Isolation {
    /// Snapshot isolation (Berenson et al., SIGMOD 1995): of two that overlap and write the same key, the first to commit
    /// wins, and the other gets `Conflict`. No update is lost.
    ///
    /// It permits **write skew**: two transactions read the same keys, and each writes one that the other only read.
    ///
    /// ```
    /// # use strandline::{Db, Error, Isolation, MemFs, Options};
    /// # let db = Options::new().fs(MemFs::new()).open("db")?;
    /// # let on_call = db.keyspace("on call")?;
    /// on_call.put("ann", "yes")?;
    /// on_call.put("bob", "yes")?;
    /// let both_leave = |isolation| -> strandline::Result<()> {
    ///     let (mut ann, mut bob) = (db.begin(isolation)?, db.begin(isolation)?);
    ///     // Each sees that the other one stays.
    ///     if ann.get(&on_call, "bob")?.as_deref() == Some(b"yes") {
    ///         ann.put(&on_call, "ann", "no")?;
    ///     }
    ///     if bob.get(&on_call, "ann")?.as_deref() == Some(b"yes") {
    ///         bob.put(&on_call, "bob", "no")?;
    ///     }
    ///     ann.commit()?;
    ///     bob.commit().map(drop)
    /// };
    /// assert!(matches!(both_leave(Isolation::Serializable), Err(Error::Conflict { .. })));
    /// on_call.put("ann", "yes")?;
    /// both_leave(Isolation::Snapshot)?; // Nobody is on call now.
    /// # Ok::<(), Error>(())
    /// ```
    Snapshot,
    /// Transactions that commit are as if they had run one after the other, in the order of their timestamps: what was read
    /// is checked too, keys that were found missing and ranges, as far as they were walked, among it. So there is no write
    /// skew, and no phantom. A transaction that writes nothing is as if it had run at its start.
    ///
    /// It permits none of the anomalies; a commit fails where one could be, also if none was. Two things are outside of it:
    /// time (what expires between start and commit was still there for the transaction), and late commits, which change
    /// what an earlier time was for those who have read it and ended.
    Serializable,
}

/// A transaction: reads at its start, through its own writes; nothing of it is seen before [`commit`](Self::commit).
///
/// Dropping it rolls it back. What it can see, and what its commit has to be held against, stays while it lives; so one
/// that is kept for long keeps space. No commit comes in at or below its start meanwhile. Its writes are in memory until
/// the commit, and together may come to what a batch may.
pub struct Transaction {
    session: Arc<Session>,
    snapshot: Snapshot,
    writes: Writes,
    /// What was read; `None`: that does not matter.
    reads: Option<Arc<Mutex<Tracked>>>,
}

/// A place in a transaction that it can go back to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Savepoint(Mark);

impl Transaction {
    pub(super) fn begin(session: &Arc<Session>, isolation: Isolation) -> Result<Self> {
        session.engine().check_open()?;
        let reads = match isolation {
            Isolation::Snapshot => None,
            Isolation::Serializable => Some(Arc::default()),
        };
        let snapshot = Snapshot::of_transaction(session);
        Ok(Self { session: Arc::clone(session), snapshot, writes: Writes::default(), reads })
    }

    /// The timestamp that it reads at.
    #[must_use]
    pub fn started_at(&self) -> Timestamp {
        self.snapshot.timestamp()
    }

    // ---- reading ----

    /// The value of `key`: what the transaction wrote last, else what it was at the start.
    ///
    /// # Errors
    /// As [`Snapshot::get`].
    pub fn get(&self, keyspace: &Keyspace, key: impl AsRef<[u8]>) -> Result<Option<Slice>> {
        let key = key.as_ref();
        self.check(keyspace)?;
        if let Some(write) = self.writes.get(keyspace, key) {
            return Ok(write.visible(self.snapshot.now()).cloned());
        }
        let value = self.snapshot.get(keyspace, key)?;
        // What is too long for a key is in no keyspace, nor ever will be.
        if let Some(reads) = &self.reads
            && key.len() <= MAX_KEY_BYTES
        {
            reads.lock().key(keyspace, key);
        }
        Ok(value)
    }

    fn check(&self, keyspace: &Keyspace) -> Result<()> {
        self.session.engine().check_open()?;
        keyspace.belongs_to(self.session.engine())
    }

    /// Whether [`get`](Self::get) gives a value. Errors as there.
    pub fn contains(&self, keyspace: &Keyspace, key: impl AsRef<[u8]>) -> Result<bool> {
        self.get(keyspace, key).map(|value| value.is_some())
    }

    /// All pairs in key order, from either end. An error comes as the first item.
    #[must_use]
    pub fn iter(&self, keyspace: &Keyspace) -> TransactionIter {
        self.range(keyspace, ..)
    }

    /// The pairs with keys in `range`, in key order, from either end. They are those of now: what the transaction writes
    /// later is not among them. An error comes as the first item.
    #[must_use]
    pub fn range(&self, keyspace: &Keyspace, range: impl KeyRange) -> TransactionIter {
        self.walk(keyspace, range.into_bounds())
    }

    /// The pairs whose keys begin with `prefix`. As [`range`](Self::range).
    #[must_use]
    pub fn prefix(&self, keyspace: &Keyspace, prefix: impl AsRef<[u8]>) -> TransactionIter {
        self.walk(keyspace, prefix_bounds(prefix.as_ref()))
    }

    fn walk(&self, keyspace: &Keyspace, bounds: KeyBounds) -> TransactionIter {
        let stored = self.snapshot.range(keyspace, bounds.clone());
        let own = self.writes.of(keyspace);
        let walked = self.reads.as_ref().map(|reads| reads::Walk::new(reads, keyspace, bounds.clone()));
        TransactionIter::new(stored, own, bounds, self.snapshot.now(), walked)
    }

    // ---- writing ----

    /// Writes a value.
    ///
    /// # Errors
    /// `TooLarge`; `InvalidArgument` for a keyspace of another database; `Closed`. The transaction goes on as it was.
    pub fn put(&mut self, keyspace: &Keyspace, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<()> {
        self.write(keyspace, key.as_ref(), Some(value.as_ref()), None)
    }

    /// Writes a value that reads at or above `expires_at` do not see; as
    /// [`WriteBatch::put_expiring`](crate::WriteBatch::put_expiring). Errors as [`put`](Self::put).
    pub fn put_expiring(
        &mut self,
        keyspace: &Keyspace,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        expires_at: Timestamp,
    ) -> Result<()> {
        self.write(keyspace, key.as_ref(), Some(value.as_ref()), Some(expires_at))
    }

    /// Deletes a key. Errors as [`put`](Self::put).
    pub fn delete(&mut self, keyspace: &Keyspace, key: impl AsRef<[u8]>) -> Result<()> {
        self.write(keyspace, key.as_ref(), None, None)
    }

    fn write(
        &mut self,
        keyspace: &Keyspace,
        key: &[u8],
        value: Option<&[u8]>,
        expires_at: Option<Timestamp>,
    ) -> Result<()> {
        self.check(keyspace)?;
        fits("key", key.len(), MAX_KEY_BYTES)?;
        fits("value", value.map_or(0, <[u8]>::len), MAX_VALUE_BYTES)?;
        self.writes.put(keyspace, key, Write { value: value.map(Slice::copy_of), expires_at });
        Ok(())
    }

    /// A place to go back to. From the first one on every write remembers what it replaces.
    pub fn savepoint(&mut self) -> Savepoint {
        Savepoint(self.writes.mark())
    }

    /// Takes back what was written since `savepoint`, which stays; later savepoints go. What was read since counts as read.
    ///
    /// # Errors
    /// `InvalidArgument` for a savepoint of another transaction, or one that has gone.
    pub fn rollback_to(&mut self, savepoint: Savepoint) -> Result<()> {
        if self.writes.roll_back_to(savepoint.0) {
            return Ok(());
        }
        Err(Error::invalid("there is no such savepoint in this transaction, or no more"))
    }

    /// Commits at the next timestamp, which it returns; one that writes nothing returns its start, and meets no conflict.
    ///
    /// # Errors
    /// `Conflict`: what it wrote (or, if it is serializable, read) was written by others since the start; nothing was
    /// committed, and the whole is to be tried again. Else as [`Db::commit_with`]. Never `BelowRetained` for its start.
    pub fn commit(self) -> Result<Timestamp> {
        self.commit_with(CommitOptions::new())
    }

    /// The same, as `options` say. A start that they name is not used; `at` must be above the transaction's.
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    pub fn commit_with(self, options: CommitOptions) -> Result<Timestamp> {
        let start = self.started_at();
        if self.writes.is_empty() {
            self.session.engine().check_open()?;
            return Ok(start);
        }
        self.session.engine().commit(self.batch(), &options.started_at(start))
    }

    /// Prepares it under the name `id`, as a participant of a transaction over several databases (two-phase commit): all that
    /// could stop its commit is checked now, and it is on stable storage when this returns. From then on, also after a
    /// restart, it is for whoever coordinates to [commit](Db::commit_prepared) or to [abort](Db::abort_prepared) it. Gives the
    /// timestamp above which it can be committed: its start, or a floor or closed time that has passed it.
    ///
    /// Until then it is *in doubt*: its writes are not seen, and what would get in the way of its commit is
    /// [`Busy`](Error::Busy): a commit that writes a key that it wrote (or read, if it is serializable), a late commit at or
    /// below its start, dropping a keyspace that it touches. With late commits a coordinator may have chosen any timestamp
    /// above the one that this gives; so then `close_until` above that is `Busy` too, and so is a commit with a condition on
    /// what it will write, and the floors of keyspaces that it writes to stop there. One that is never decided stands in others'
    /// way for ever, and [`Db::prepared`] shows it. (Of several in doubt one may be committed below the start of another. A
    /// serializable one has not read what that writes, else it was not prepared; a snapshot one may have.)
    ///
    /// ```
    /// # use strandline::{Db, Error, Isolation, MemFs, Options};
    /// # let fs = MemFs::new();
    /// let db = Options::new().fs(fs.clone()).open("db")?;
    /// let accounts = db.keyspace("accounts")?;
    /// let mut transfer = db.begin(Isolation::Serializable)?;
    /// transfer.put(&accounts, "alice", "90")?;
    /// transfer.prepare("transfer 7")?;
    /// assert!(matches!(accounts.put("alice", "0"), Err(Error::Busy { .. })));
    /// db.close()?;
    ///
    /// // Some time later the coordinator has heard of all participants, and decides.
    /// let db = Options::new().fs(fs).open("db")?;
    /// assert_eq!(db.prepared()[0].id, "transfer 7");
    /// let ts = db.commit_prepared("transfer 7", None)?;
    /// assert_eq!(db.keyspace("accounts")?.get_at("alice", ts)?.as_deref(), Some(&b"90"[..]));
    /// assert_eq!(db.commit_prepared("transfer 7", None)?, ts); // as often as it is asked to
    /// db.forget_prepared("transfer 7")?; // nobody will ask any more
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// The transaction is rolled back. `Conflict` as for [`commit`](Self::commit); `Busy` for an id that is in use, and
    /// where another prepared transaction has locked what this one writes or, if it is serializable, writes what this one
    /// has read; `Decided` for an id whose outcome was not forgotten; `Background`, and the database has failed: whether it
    /// is prepared is known once it was reopened or resumed; `InvalidArgument` for an empty id, `TooLarge` for one
    /// of more than 65,535 bytes, or if all that is in doubt came to more than a batch may; else as
    /// [`Db::commit_with`].
    pub fn prepare(self, id: impl AsRef<[u8]>) -> Result<Timestamp> {
        self.session.engine().prepare(id.as_ref(), self.started_at(), self.batch())
    }

    /// What it writes and, if it is serializable, has read.
    fn batch(&self) -> WriteBatch {
        let mut batch = WriteBatch::new();
        self.writes.add_to(&mut batch);
        if let Some(reads) = &self.reads {
            reads.lock().add_to(&mut batch);
        }
        batch
    }
}

impl fmt::Debug for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transaction").field("started_at", &self.started_at()).finish_non_exhaustive()
    }
}

fn fits(what: &'static str, len: usize, max: usize) -> Result<()> {
    if len <= max { Ok(()) } else { Err(Error::TooLarge { what, len: len as u64, max: max as u64 }) }
}

/// So often a transaction is tried again.
const RETRIES: u32 = 24;
/// The longest pause before the first retry, and before any.
const FIRST_PAUSE: Duration = Duration::from_micros(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(10);

impl Db {
    /// Begins a transaction at the last timestamp. It costs what a snapshot costs; with late commits on, also the commit
    /// lock, and a wait for late commits that are on their way.
    ///
    /// # Errors
    /// `Closed`.
    pub fn begin(&self, isolation: Isolation) -> Result<Transaction> {
        Transaction::begin(&self.session, isolation)
    }

    /// Runs `run` in a transaction and commits it; on a conflict tries again from the beginning, 24 times at most, after
    /// pauses of random length that grow to 10 ms. `run` must do nothing but through the transaction.
    ///
    /// # Errors
    /// What `run` gives: the transaction is rolled back then. `Conflict` after the last try; `Busy` at once, where a prepared
    /// transaction is in the way: who decides that one is not known here. Else as [`Transaction::commit`].
    pub fn transact<T>(&self, isolation: Isolation, run: impl FnMut(&mut Transaction) -> Result<T>) -> Result<T> {
        self.transact_with(isolation, run)
    }

    /// The same for an error type of the caller's own.
    ///
    /// # Errors
    /// As [`transact`](Self::transact).
    pub fn transact_with<T, E: From<Error>>(
        &self,
        isolation: Isolation,
        mut run: impl FnMut(&mut Transaction) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut retries = 0;
        loop {
            let mut transaction = self.begin(isolation)?;
            let value = run(&mut transaction)?;
            match transaction.commit() {
                Err(Error::Conflict { .. }) if retries < RETRIES => retries += 1,
                result => return result.map(|_| value).map_err(E::from),
            }
            self.engine().time.sleep(pause(retries));
        }
    }
}

/// Before so many retries; of random length, so that those who got in each other's way do not do so again.
fn pause(retries: u32) -> Duration {
    let longest = FIRST_PAUSE.saturating_mul(1 << retries.min(16)).min(LONGEST_PAUSE);
    let nanos = u64::try_from(longest.as_nanos()).unwrap_or(u64::MAX);
    Duration::from_nanos(RandomState::new().hash_one(retries) % nanos.max(1))
}

/// See [`Keyspace::set_expiry`].
pub(super) fn set_expiry(
    session: &Arc<Session>,
    keyspace: &Keyspace,
    key: &[u8],
    expires_at: Timestamp,
) -> Result<Timestamp> {
    let mut retries = 0;
    loop {
        // Late commits that are visible by then are seen. A live snapshot keeps its start from being too old.
        let seen = session.engine().current.horizon().sequence;
        let snapshot = Snapshot::latest(session);
        let version = snapshot.version(keyspace, key)?.ok_or(Error::KeyNotFound)?;
        let mut batch = WriteBatch::new();
        batch.put_expiring(keyspace, key, version.value.unwrap_or_default(), expires_at);
        let rewrite = Some(Rewrite { expires_at: version.expires_at, seen });
        let options = CommitOptions { rewrite, ..CommitOptions::new().started_at(snapshot.timestamp()) };
        match session.engine().commit(batch, &options) {
            // Another one wrote it, or something late. Each time this one fails another one gets on.
            Err(Error::Conflict { .. } | Error::LateCommit { .. }) => retries += 1,
            result => return result,
        }
        session.engine().time.sleep(pause(retries));
    }
}
