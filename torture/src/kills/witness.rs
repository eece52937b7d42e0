//! What must be in the database, by what its victims told, and whether it is.
//!
//! The witness keeps the model of all lives so far. Of one more life it hears what was begun, done and refused, looks at
//! the database for what of it is there, and asks: is everything there that must be; is nothing there that cannot be; is
//! what is there whole, in the order of commits, and all that there is.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use rand::RngExt;
use strandline::{Clock, Db, Durability, Error, Result, Retention, Timestamp};

use super::journal::Event;
use super::plan::{At, FIXED, MARKS, NAMES, Plan, Step, mark_of};
use crate::campaign::Counts;
use crate::life::model::{Commit, Model, Space, Write};
use crate::life::read::differs;
use crate::life::settings::shown;
use crate::random::Random;

#[derive(Clone)]
pub struct Witness {
    plan: Rc<Plan>,
    model: Model,
    /// Which keyspace of the model a slot has.
    slots: [Option<usize>; NAMES.len()],
    /// Whether the fixed keyspaces are known to have been made.
    complete: bool,
    /// No timestamp above this one can have been given.
    highest: Timestamp,
}

/// A commit that was begun.
#[derive(Debug, Clone)]
struct Tried {
    writer: u8,
    nth: u32,
    /// The timestamp that it names, if it does.
    named: Option<Timestamp>,
    durability: Durability,
    /// The keyspaces of the model, and what is done there.
    writes: Vec<(usize, Write)>,
    /// The number of the event, and the timestamp.
    done: Option<(usize, Timestamp)>,
    refused: bool,
    /// Whether something that was acknowledged later has made it durable.
    durable: bool,
}

impl Tried {
    fn is_logged(&self) -> bool {
        self.durability != Durability::Unlogged
    }
}

/// What was heard of one life.
struct Heard {
    life: u32,
    /// So many events had been told when the database was opened.
    known: usize,
    commits: Vec<Tried>,
    opened: Option<Timestamp>,
    /// What may have become of the shared floor and of the closed timestamp, and not less than the first.
    floors: Vec<Timestamp>,
    closings: Vec<Timestamp>,
    /// The slot whose keyspace was being made or dropped.
    changing: Option<(usize, bool)>,
    /// Commits that may have taken a timestamp of the clock and told nobody.
    untold: u64,
}

impl Witness {
    pub fn new(plan: Rc<Plan>) -> Self {
        let mut model = Model::default();
        let mut slots = [None; NAMES.len()];
        for slot in 0..FIXED {
            slots[slot] = Some(model.spaces.len());
            model.spaces.push(Space::new(NAMES[slot], plan.retention(slot)));
        }
        Self { plan, model, slots, complete: false, highest: 0 }
    }

    /// How many commits there are.
    pub fn commits(&self) -> usize {
        self.model.commits.len()
    }

    /// Takes in what a life has left, after its end.
    ///
    /// # Panics
    /// It is not what the life must have left.
    pub fn after(&mut self, life: u32, events: &[Event], db: &Db, random: &mut Random, counts: &mut Counts) {
        let heard = self.hear(life, events, events.len());
        self.check_names(&heard, db);
        self.settle(&heard, db, counts).and_then(|()| self.compare(db, random)).unwrap();
    }

    /// Compares what somebody sees who looks on while the victim lives. When the database was opened `known` of the
    /// events had been told.
    ///
    /// # Errors
    /// What is read was replaced meanwhile.
    ///
    /// # Panics
    /// It is not what a crash might leave.
    pub fn look_on(&self, life: u32, events: &[Event], known: usize, db: &Db, random: &mut Random) -> Result<()> {
        let mut then = self.clone();
        let heard = then.hear(life, events, known);
        // Which of those come and go are there just then is not asked.
        then.model.spaces.iter_mut().enumerate().for_each(|(slot, space)| space.dropped = slot >= FIXED);
        then.settle(&heard, db, &mut Counts::default())?;
        then.compare(db, random)
    }

    /// Follows the events.
    fn hear(&mut self, life: u32, events: &[Event], known: usize) -> Heard {
        let plan = Rc::clone(&self.plan);
        let mut heard = Heard {
            life,
            known,
            commits: Vec::new(),
            opened: None,
            floors: vec![self.model.manual_floor],
            closings: vec![self.model.closed],
            changing: None,
            untold: 0,
        };
        // What each writer is at: the event by which it began, the step, and the commit if it is one.
        let mut at: BTreeMap<u8, (usize, Step, u64)> = BTreeMap::new();
        for (number, event) in events.iter().enumerate() {
            match *event {
                Event::Opening | Event::Closing | Event::Made(_) => {}
                Event::Opened(last) => {
                    assert_eq!(last, self.model.last, "the last timestamp as the victim found it");
                    heard.opened = Some(last);
                }
                Event::Ready => self.complete = true,
                Event::Begun { writer, nth, value } => {
                    let step = plan.step(life, writer, nth);
                    if let Step::Commit { at, durability, writes } = &step {
                        let writes =
                            writes.iter().filter_map(|(slot, write)| Some((self.slots[*slot]?, write.clone())));
                        heard.commits.push(Tried {
                            writer,
                            nth,
                            named: (*at != At::Clock).then_some(value),
                            durability: *durability,
                            writes: writes.collect(),
                            done: None,
                            refused: false,
                            durable: false,
                        });
                    }
                    at.insert(writer, (number, step, value));
                }
                Event::Done { writer, nth, value } => {
                    let (begun, step, asked) = at.remove(&writer).expect("a step that was begun");
                    match step {
                        Step::Commit { .. } => heard.find(writer, nth).done = Some((number, value)),
                        Step::Flush | Step::Sync => heard.made_durable(begun, number, |_| true),
                        Step::Retain(_) => {
                            assert!(value >= asked, "the floor in force is {value}, not {asked}");
                            heard.floors.push(value);
                            let manual = |space: &usize| {
                                let space = &self.model.spaces[*space];
                                space.retention == Retention::Manual && !space.dropped
                            };
                            heard.made_durable(begun, number, |commit| {
                                commit.done.is_some_and(|(_, timestamp)| timestamp <= value)
                                    && commit.writes.iter().any(|(space, _)| manual(space))
                            });
                        }
                        Step::CloseUntil(_) => {
                            heard.closings.push(value);
                            heard.made_durable(begun, number, |commit| {
                                commit.done.is_some_and(|(_, timestamp)| timestamp <= value)
                            });
                        }
                        Step::Change(slot) => self.change(slot, value == 1),
                        Step::Compact(..) | Step::CompactAll | Step::Rest { .. } => {}
                    }
                    if number < known {
                        // What is lower is out of the question from now on.
                        keep_highest(&mut heard.floors);
                        keep_highest(&mut heard.closings);
                    }
                }
                Event::Refused { writer, nth } => {
                    if let Some((_, Step::Commit { .. }, _)) = at.remove(&writer) {
                        heard.find(writer, nth).refused = true;
                    }
                }
                Event::Closed => heard.made_durable(number, number, |_| true),
            }
        }
        for (_, step, value) in at.into_values() {
            match step {
                Step::Retain(_) => heard.floors.push(value),
                Step::CloseUntil(_) => heard.closings.push(value),
                Step::Change(slot) => heard.changing = Some((slot, value == 1)),
                Step::Commit { at: At::Clock, .. } => heard.untold += 1,
                _ => {}
            }
        }
        heard
    }

    /// A keyspace was made, or dropped.
    fn change(&mut self, slot: usize, make: bool) {
        if make {
            self.slots[slot] = Some(self.model.spaces.len());
            self.model.spaces.push(Space::new(NAMES[slot], self.plan.retention(slot)));
        } else if let Some(space) = self.slots[slot].take() {
            self.model.spaces[space].dropped = true;
        }
    }

    /// The keyspaces are those that were made and not dropped; of one that was under way, what became of it.
    fn check_names(&mut self, heard: &Heard, db: &Db) {
        let names = db.keyspace_names();
        let is_there = |slot: usize| names.iter().any(|name| name == NAMES[slot]);
        if let Some((slot, make)) = heard.changing
            && is_there(slot) == make
        {
            self.change(slot, make);
        }
        if !self.complete {
            for slot in 0..FIXED {
                self.model.spaces[slot].dropped = !is_there(slot);
            }
        } else {
            self.model.spaces[..FIXED].iter_mut().for_each(|space| space.dropped = false);
        }
        let expected: Vec<&str> = self.model.live().into_iter().map(|i| self.model.spaces[i].name.as_str()).collect();
        assert_eq!(names, expected, "the keyspaces");
    }

    /// Finds out what of this life is there, and takes it into the model.
    fn settle(&mut self, heard: &Heard, db: &Db, counts: &mut Counts) -> Result<()> {
        let seen = self.marks(heard, db)?;
        let begun: BTreeSet<(u8, u32)> = heard.commits.iter().map(|commit| (commit.writer, commit.nth)).collect();
        if let Some(stranger) = seen.keys().find(|commit| !begun.contains(commit)) {
            panic!("{stranger:?} is there and was never begun");
        }
        let mut there: Vec<(Timestamp, &Tried)> = Vec::new();
        for commit in &heard.commits {
            let found = seen.get(&(commit.writer, commit.nth)).copied();
            let acknowledged = commit.done.is_some_and(|(number, _)| number < heard.known);
            if (acknowledged && commit.is_logged()) || commit.durable {
                assert!(found.is_some(), "lost: {commit:?}");
                counts.add("acknowledged commits found", 1);
            }
            assert!(!(commit.refused && found.is_some()), "refused, and there: {commit:?}");
            if commit.done.is_none() && !commit.refused {
                counts.add(if found.is_some() { "undecided commits found" } else { "undecided commits not found" }, 1);
            }
            let Some(timestamp) = found else { continue };
            let told = commit.done.map(|(_, timestamp)| timestamp).or(commit.named);
            assert!(told.is_none_or(|told| told == timestamp), "{commit:?} is there at {timestamp}");
            there.push((timestamp, commit));
        }
        self.check_clock(heard, &there);
        self.check_prefix(heard, &there);
        // At one timestamp, what the clock gave came first, then those that named it, which are all of one writer.
        there.sort_by_key(|(timestamp, commit)| (*timestamp, commit.named.is_some(), commit.nth));
        for (timestamp, commit) in there {
            self.model.commit(Commit {
                timestamp,
                writes: commit.writes.clone(),
                durability: commit.durability,
                marked: None,
                durable: true,
                undecided: false,
            });
        }
        self.check_last(heard, db);
        self.check_floors(heard, db)
    }

    /// The commits of this life that are there, and when they were.
    fn marks(&self, heard: &Heard, db: &Db) -> Result<BTreeMap<(u8, u32), Timestamp>> {
        if self.model.spaces[MARKS].dropped {
            return Ok(BTreeMap::new());
        }
        let marks = db.keyspace(NAMES[MARKS])?;
        let mut seen = BTreeMap::new();
        for pair in marks.prefix(heard.life.to_be_bytes()) {
            let (key, _) = pair?;
            let mark = mark_of(&key).expect("a mark");
            let timestamp = marks.latest_timestamp(&key)?.expect("a timestamp of what is there");
            seen.insert(mark, timestamp);
        }
        Ok(seen)
    }

    /// S11: the clock gives nothing twice, and nothing that was there before.
    fn check_clock(&self, heard: &Heard, there: &[(Timestamp, &Tried)]) {
        let mut given: BTreeMap<Timestamp, &Tried> = BTreeMap::new();
        let told = heard.commits.iter().filter_map(|commit| Some((commit.done?.1, commit)));
        for (timestamp, commit) in told.chain(there.iter().copied()).filter(|(_, commit)| commit.named.is_none()) {
            assert!(Some(timestamp) > heard.opened, "{timestamp} was there before {commit:?}");
            if let Some(other) = given.insert(timestamp, commit) {
                assert!(std::ptr::eq(other, commit), "given twice: {other:?}, {commit:?}");
            }
        }
    }

    /// What is logged is there in the order of commits: none of the clock's is missing below another one.
    fn check_prefix(&self, heard: &Heard, there: &[(Timestamp, &Tried)]) {
        let of_clock = |commit: &Tried| commit.named.is_none() && commit.is_logged();
        let end = there.iter().filter(|(_, commit)| of_clock(commit)).map(|(timestamp, _)| *timestamp).max();
        for commit in heard.commits.iter().filter(|commit| of_clock(commit)) {
            if let Some((_, timestamp)) = commit.done.filter(|(_, timestamp)| Some(*timestamp) < end) {
                let found = there.iter().any(|(_, other)| std::ptr::eq(*other, commit));
                assert!(found, "{timestamp} is missing, and {end:?} is there: {commit:?}");
            }
        }
    }

    /// S11: the last timestamp covers what is there, and never goes back by what had survived before.
    fn check_last(&mut self, heard: &Heard, db: &Db) {
        let told =
            heard.commits.iter().filter_map(|commit| commit.done.map(|(_, timestamp)| timestamp).max(commit.named));
        let highest = told.chain(heard.closings.iter().copied()).max().unwrap_or(0);
        self.highest = match self.plan.clock() {
            // What nobody told of came one after the other above the highest.
            Clock::Counter => self.highest.max(highest) + heard.untold,
            _ => u64::MAX,
        };
        let last = db.last_timestamp();
        assert!(
            (self.model.last..=self.highest).contains(&last),
            "the last timestamp is {last}, not from {} to {}",
            self.model.last,
            self.highest
        );
        self.model.last = last;
    }

    fn check_floors(&mut self, heard: &Heard, db: &Db) -> Result<()> {
        let last = self.model.last;
        for space in self.model.live() {
            let space = &self.model.spaces[space];
            let floor = db.keyspace(&space.name)?.retained_from();
            let allowed = match space.retention {
                Retention::Manual => heard.floors.contains(&floor),
                Retention::Window(length) => floor <= self.highest.saturating_sub(length),
                _ => true,
            };
            assert!(allowed && floor <= last, "the floor of {} is {floor}; {:?}, {last}", space.name, heard.floors);
            if space.retention == Retention::Manual {
                self.model.manual_floor = floor;
            }
        }
        let (closed, least) = (db.closed_timestamp(), if self.plan.late_commits() { 0 } else { last });
        let found = heard.closings.iter().find(|until| closed == least.max(**until));
        let found = found.unwrap_or_else(|| panic!("closed until {closed}; {:?}, {last}", heard.closings));
        self.model.closed = self.model.closed.max(*found);
        Ok(())
    }

    /// Everything that can be read is as the model says, now and as of some time.
    fn compare(&self, db: &Db, random: &mut Random) -> Result<()> {
        let last = self.model.last;
        let difference = differs(db, &self.model, last)?;
        assert_eq!(difference, None);
        for space in self.model.live() {
            let space = &self.model.spaces[space];
            let handle = db.keyspace(&space.name)?;
            let (floor, then) = (handle.retained_from(), random.random_range(0..=last));
            for key in space.keys().filter(|key| !key.is_empty() || space.name != NAMES[MARKS]) {
                match handle.get_at(key, then) {
                    Err(Error::BelowRetained { .. }) if then < floor => break,
                    found => {
                        let found = found?.map(Vec::from);
                        assert!(then >= floor, "{then} is below the floor {floor} of {}", space.name);
                        assert_eq!(found, space.get(key, then, then), "{} {} at {then}", space.name, shown(key));
                    }
                }
            }
        }
        Ok(())
    }
}

impl Heard {
    fn find(&mut self, writer: u8, nth: u32) -> &mut Tried {
        let found = self.commits.iter_mut().rev().find(|commit| (commit.writer, commit.nth) == (writer, nth));
        found.expect("a commit that was begun")
    }

    /// Something that began with one event and was acknowledged by another has made commits durable: of those that were
    /// acknowledged before, the chosen.
    fn made_durable(&mut self, begun: usize, done: usize, chosen: impl Fn(&Tried) -> bool) {
        if done >= self.known {
            return;
        }
        for commit in &mut self.commits {
            commit.durable |= commit.done.is_some_and(|(number, _)| number < begun) && chosen(commit);
        }
    }
}

fn keep_highest(of: &mut Vec<Timestamp>) {
    let highest = of.iter().copied().max();
    of.clear();
    of.extend(highest);
}
