//! A small database is damaged all over: every byte, every length, every block, every file, every earlier moment. Each
//! time it opens and gives the right answers, or says `Corruption` of the file that was damaged; never a wrong answer, a
//! panic, a hang, or more memory than the files are worth.
//!
//! - `anatomy`: what each byte is, by the book of formats; that everything is there.
//! - `specimen`: the database, and how it looked at earlier moments.
//! - `damage`: all that is done to it.
//! - `verdict`: what may come of it.
//! - `state`: all questions, and the answers.
//! - `trial`: one damage.
//!
//! What cannot be found out: that *all* files are those of one earlier moment. That is a database, and it answers as it
//! did then. Any part of them among newer ones is found out, or harmless.

mod anatomy;
mod damage;
mod specimen;
mod state;
mod trial;
mod verdict;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::campaign::{Counts, Program};
use damage::Damage;
use specimen::Specimen;
use trial::Trial;

/// The bytes of every file, by name.
pub type Files = BTreeMap<String, Arc<Vec<u8>>>;

/// So many rounds damage one database all over, each a slice.
const SLICES: u64 = 512;
/// Of so many databases in turn: one was closed in order, one killed.
const IN_TURN: u64 = 2;
/// So many rounds damage all databases of a turn all over.
pub const TURN: u64 = SLICES * IN_TURN;

/// What is made once for a database, and used by all its rounds.
struct Prepared {
    number: u64,
    trial: Trial,
    damages: Vec<Damage>,
}

#[derive(Default)]
pub struct Corruption {
    /// The last ones that were made.
    prepared: Mutex<Vec<Arc<Prepared>>>,
}

impl Program for Corruption {
    fn name(&self) -> &'static str {
        "corruption"
    }

    fn about(&self) -> &'static str {
        "each byte, length, block, file of a database damaged; the right answer or Corruption (all of two: 1,024 rounds)"
    }

    // S27 S28
    fn round(&self, seed: u64, counts: &mut Counts) {
        let prepared = self.prepared(seed / TURN * IN_TURN + seed % IN_TURN);
        let slice = usize::try_from(seed % TURN / IN_TURN).unwrap_or_default();
        let step = usize::try_from(SLICES).unwrap_or(usize::MAX);
        for (nth, damage) in prepared.damages.iter().enumerate().skip(slice).step_by(step) {
            prepared.trial.of(nth / step, *damage, counts);
        }
    }
}

impl Corruption {
    fn prepared(&self, number: u64) -> Arc<Prepared> {
        let mut prepared = self.prepared.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = prepared.iter().find(|one| one.number == number) {
            return Arc::clone(found);
        }
        let specimen = Specimen::of_seed(number);
        let damages = damage::all(&specimen, number);
        let made = Arc::new(Prepared { number, damages, trial: Trial::new(specimen) });
        prepared.truncate(1);
        prepared.insert(0, Arc::clone(&made));
        made
    }

    /// How many bytes and how many damages a database has.
    pub fn size(&self, number: u64) -> (usize, usize) {
        let prepared = self.prepared(number);
        (prepared.trial.specimen.bytes(), prepared.damages.len())
    }
}
