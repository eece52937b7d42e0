//! The process that is killed: it opens the database, takes the steps of the plan, tells each before and after, and
//! closes, if it comes to that.

use std::error::Error as AnyError;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use strandline::{CommitOptions, Db, Error, Keyspace, Timestamp, WriteBatch};

use super::journal::{Event, Journal};
use super::mortal::{Death, MortalFs};
use super::plan::{At, FIXED, NAMES, Plan, Step};
use crate::life::model::Keys;
use crate::life::write::add;

/// What the victim has to do.
#[derive(Debug, Clone, clap::Args)]
pub struct Orders {
    /// The database's directory.
    pub dir: PathBuf,
    /// Where to tell; nowhere: only find out whether the database is locked.
    pub journal: Option<PathBuf>,
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    #[arg(long, default_value_t = 0)]
    pub life: u32,
    #[arg(long)]
    pub die_at_call: Option<u64>,
    #[arg(long)]
    pub torn: bool,
}

impl Orders {
    /// When the victim dies by itself.
    pub fn death(&self) -> Option<Death> {
        self.die_at_call.map(|at_call| Death { at_call, torn: self.torn })
    }
}

/// How the process ends that was asked only whether the database is locked.
pub const LOCKED: u8 = 10;
pub const NOT_LOCKED: u8 = 11;

type Result<T, E = Box<dyn AnyError + Send + Sync>> = std::result::Result<T, E>;

/// Does as ordered, and gives what the process ends with.
///
/// # Errors
/// Whatever the plan does not allow.
pub fn live(orders: &Orders) -> Result<u8> {
    let plan = Plan::of_seed(orders.seed);
    let Some(journal) = &orders.journal else {
        let locked = matches!(plan.options().open(&orders.dir), Err(Error::Locked { .. }));
        return Ok(if locked { LOCKED } else { NOT_LOCKED });
    };
    let journal = Arc::new(Journal::create(journal)?);
    let fs = MortalFs::new(orders.death(), Arc::clone(&journal));
    journal.tell(Event::Opening)?;
    let db = plan.options().fs(fs).open(&orders.dir)?;
    journal.tell(Event::Opened(db.last_timestamp()))?;
    let names = db.keyspace_names();
    let mut slots: Slots = [const { None }; NAMES.len()];
    for (slot, name) in NAMES.iter().enumerate() {
        if slot < FIXED || names.iter().any(|there| there == name) {
            slots[slot] = Some(db.keyspace_with(name, plan.keyspace(slot))?);
        }
    }
    journal.tell(Event::Ready)?;
    let writers = (0..plan.writers).map(|writer| Writer {
        writer,
        life: orders.life,
        plan: &plan,
        journal: &journal,
        db: &db,
        slots: slots.clone(),
    });
    let failed = Mutex::new(None);
    thread::scope(|scope| {
        for mut writer in writers {
            let failed = &failed;
            scope.spawn(move || {
                if let Err(error) = writer.write() {
                    failed.lock().unwrap().get_or_insert(error);
                }
            });
        }
    });
    if let Some(error) = failed.into_inner().unwrap() {
        return Err(error);
    }
    journal.tell(Event::Closing)?;
    drop(slots);
    db.close()?;
    journal.tell(Event::Closed)?;
    Ok(0)
}

type Slots = [Option<Keyspace>; NAMES.len()];

struct Writer<'a> {
    writer: u8,
    life: u32,
    plan: &'a Plan,
    journal: &'a Journal,
    db: &'a Db,
    slots: Slots,
}

impl Writer<'_> {
    fn write(&mut self) -> Result<()> {
        for nth in 0..self.plan.steps(self.life) {
            self.take_step(nth).map_err(|error| format!("step {nth} of writer {}: {error}", self.writer))?;
        }
        Ok(())
    }

    fn take_step(&mut self, nth: u32) -> Result<()> {
        let step = self.plan.step(self.life, self.writer, nth);
        let value = match &step {
            Step::Commit { at, .. } => self.named(*at),
            Step::Retain(part) => {
                let last = u128::from(self.db.last_timestamp());
                u64::try_from(last * u128::from(*part) / 1000)?.max(1)
            }
            Step::CloseUntil(ahead) => self.db.last_timestamp() + ahead,
            Step::Change(slot) => u64::from(self.slots[*slot].is_none()),
            _ => 0,
        };
        self.journal.tell(Event::Begun { writer: self.writer, nth, value })?;
        let event = match self.act(step, value) {
            Ok(value) => Event::Done { writer: self.writer, nth, value },
            // What names a time may come too late for it.
            Err(Error::LateCommit { .. } | Error::BelowRetained { .. } | Error::FutureTimestamp { .. })
                if value > 0 =>
            {
                Event::Refused { writer: self.writer, nth }
            }
            Err(error) => return Err(error.into()),
        };
        self.journal.tell(event)?;
        Ok(())
    }

    fn act(&mut self, step: Step, value: u64) -> strandline::Result<u64> {
        match step {
            Step::Commit { durability, writes, .. } => {
                let mut batch = WriteBatch::new();
                for (slot, write) in &writes {
                    if let Some(keyspace) = &self.slots[*slot] {
                        add(&mut batch, keyspace, write);
                    }
                }
                let options = CommitOptions::new().durability(durability);
                return self.db.commit_with(batch, if value > 0 { options.at(value) } else { options });
            }
            Step::Flush => self.db.flush()?,
            Step::Sync => self.db.sync()?,
            Step::CompactAll => self.db.compact()?,
            Step::Compact(slot, keys) => match (&self.slots[slot], keys) {
                (Some(keyspace), Keys::Between(start, end)) => keyspace.compact((start, end))?,
                (Some(keyspace), Keys::Prefix(prefix)) => keyspace.compact(prefix..)?,
                (None, _) => {}
            },
            Step::Retain(_) => return self.db.retain_from(value),
            Step::CloseUntil(_) => self.db.close_until(value)?,
            Step::Change(slot) => {
                self.slots[slot] = if value == 1 {
                    Some(self.db.keyspace_with(NAMES[slot], self.plan.keyspace(slot))?)
                } else {
                    self.db.drop_keyspace(NAMES[slot])?;
                    None
                };
            }
            Step::Rest { micros } => thread::sleep(Duration::from_micros(micros)),
        }
        Ok(value)
    }

    /// The timestamp that a commit names; 0: none.
    fn named(&self, at: At) -> Timestamp {
        let last = self.db.last_timestamp();
        match at {
            At::Clock => 0,
            At::Ahead(span) => self.plan.own_timestamp(self.writer, last.max(self.db.closed_timestamp()) + 1 + span),
            At::Late(span) => self.plan.own_timestamp(self.writer, last.saturating_sub(span).max(1)),
        }
    }
}
