//! A life on a disk that gets full, and is given room again.
//!
//! Whatever needs room fails, and says why; reads go on. Room that was given is used by `resume`, or by an opening. What
//! fails again and again takes no more and more room.

use std::path::Path;

use rand::RngExt;
use strandline::fs::Purpose;
use strandline::{Error, Fs};

use super::crash::Crash;
use super::fault::{Undecided, is_failure};
use super::runner::{DIR, Runner};
use super::settings::{chance, pick};
use super::two_phase::InDoubt;
use crate::campaign::Counts;
use crate::random::Random;

/// A disk that is large enough for all that is done on it.
const LARGE: u64 = 1 << 24;

/// Whether the error says that there is no room.
fn is_full(error: &Error) -> bool {
    match error {
        Error::Io { source, .. } => source.kind() == std::io::ErrorKind::StorageFull,
        Error::Background(first) => is_full(first),
        _ => false,
    }
}

/// At least what a `CURRENT.tmp` takes, which the next opening replaces.
const CURRENT_BYTES: u64 = 64;
/// What an opening may leave behind until the next flush: a log segment with nothing but marks in it, and a cut in the
/// manifest.
const OPENING_BYTES: u64 = 200;
/// What that segment says of a keyspace that no table speaks of.
const KEYSPACE_BYTES: u64 = 100;

impl Runner {
    /// The disk gets full somewhere; then there is room again, and the life goes on.
    pub fn fill_disk(&mut self, counts: &mut Counts) {
        let mut undecided = Undecided::default();
        if chance(&mut self.random, 1, 3) {
            // What has to be copied at an opening does not fit into one segment.
            (0..self.random.random_range(1..6)).for_each(|_| self.write_long(2000));
        }
        let scale = self.random.random_range(1..17);
        let spare = self.random.random_range(0..1_u64 << scale);
        self.leave_room(spare);
        for _ in 0..60 {
            match self.step_undecided(&mut undecided) {
                Ok(()) => {}
                Err(error) => {
                    assert!(is_full(&error), "{error:?} is no word for a full disk");
                    break;
                }
            }
            if chance(&mut self.random, 1, 4) {
                self.read();
            }
        }
        let Some(failure) = self.db().background_error() else { return self.leave_room(LARGE) };
        counts.add("full disks", 1);
        assert!(is_full(&failure), "{failure:?} is no word for a full disk");
        self.look_around();
        self.crash_on_the_full_disk(&undecided, counts);
        if !self.resume_without_room(&mut undecided, counts) && chance(&mut self.random, 1, 2) {
            self.open_on_the_full_disk(&mut undecided, counts);
        }
        self.leave_room(LARGE);
        self.resume(&mut undecided);
        self.check_everything();
        for _ in 0..6 {
            self.work_step();
        }
    }

    /// There are so many bytes left on the disk.
    fn leave_room(&mut self, bytes: u64) {
        self.log.add(format!("{} bytes are used, and {bytes} bytes of room", self.used()));
        self.fs.inner().files().set_capacity(Some(self.used() + bytes));
    }

    fn used(&self) -> u64 {
        let files = self.fs.inner().list(Purpose::Directory, DIR.as_ref()).unwrap();
        files.iter().map(|file| file.len).sum()
    }

    /// What says which manifest counts.
    fn current(&self) -> Vec<u8> {
        self.fs.inner().files().read_file(Path::new(DIR).join("CURRENT")).unwrap()
    }

    /// Reading needs no room.
    fn look_around(&mut self) {
        for _ in 0..4 {
            self.read();
            self.hold();
            self.use_held();
        }
        self.db().verify().unwrap();
        self.check_times();
        self.check_names();
    }

    /// Whether it resumes all the same. If not, trying takes no more and more room.
    fn resume_without_room(&mut self, undecided: &mut Undecided, counts: &mut Counts) -> bool {
        let mut used = u64::MAX;
        for _ in 0..self.random.random_range(0..6) {
            self.log.add("resume on the full disk".into());
            counts.add("resumes without room", 1);
            match self.db().resume() {
                Ok(()) => {
                    self.resumed(undecided);
                    return true;
                }
                Err(error) => assert!(is_full(&error), "resume: {error:?} is no word for a full disk"),
            }
            assert!(self.db().background_error().is_some_and(|failure| is_full(&failure)));
            assert!(self.used() <= used, "{} bytes are used after resume has failed again, not {used}", self.used());
            used = self.used();
            self.read();
            self.use_held();
        }
        false
    }

    /// Closed and opened, several times, without room.
    fn open_on_the_full_disk(&mut self, undecided: &mut Undecided, counts: &mut Counts) {
        let (mut used, mut leaps) = (u64::MAX, 0);
        for nth in 0..self.random.random_range(1..8) {
            self.log.add("close, and open on the full disk".into());
            counts.add("openings without room", 1);
            self.let_go();
            if let Some(db) = self.db.take() {
                let had_failed = db.background_error().is_some();
                match db.close() {
                    Ok(()) => assert!(!had_failed, "closed after a failure"),
                    Err(error) => assert!(is_failure(&error), "close: {error:?}"),
                }
            }
            // With a little more room each opening gets somewhere, and fails later.
            if nth > 0 && chance(&mut self.random, 1, 2) {
                let scale = self.random.random_range(1..14);
                let spare = self.random.random_range(0..1_u64 << scale);
                self.leave_room(spare);
            }
            let before = self.used();
            let options = self.settings.options(&self.fs, &self.time);
            let reader = options.clone().read_only(true).open(DIR).unwrap();
            reader.verify().unwrap();
            reader.close().unwrap();
            assert_eq!(self.used(), before, "a read-only opening takes room");
            let manifest = self.current();
            self.try_open().unwrap();
            // Then nothing names what it has written.
            let came_to_nothing = self.current() == manifest;
            assert!(
                !came_to_nothing || self.used() <= before + CURRENT_BYTES,
                "{} bytes are used after an opening that came to nothing, not {before}",
                self.used()
            );
            self.find_again(undecided, Crash::Kill).unwrap();
            self.look_around();
            // The first opening begins with what the failure has left, which the next ones no longer find, and one may
            // get further than those before it.
            let grown = self.used().saturating_sub(used);
            let keyspaces = self.db().keyspace_names().len() as u64;
            // What is in doubt goes into each manifest.
            let in_doubt = self.in_doubt.as_ref().map_or(0, InDoubt::bytes);
            let bound = OPENING_BYTES + KEYSPACE_BYTES * keyspaces + in_doubt;
            leaps += u32::from(grown > bound);
            assert!(leaps < 2, "{grown} bytes more are used after another opening");
            used = self.used();
            if self.resume_without_room(undecided, counts) {
                return;
            }
        }
    }

    /// What a crash leaves opens on the same full disk, and goes on once there is room.
    fn crash_on_the_full_disk(&mut self, undecided: &Undecided, counts: &mut Counts) {
        let crash = pick(&mut self.random, &[Crash::Kill, Crash::PowerCut]);
        let files = self.crashed_files(crash);
        let seed = self.random.random();
        counts.add("crashes", 1);
        self.beside(&files, Random::of_seed(seed), |twin| {
            twin.log.add(format!("beside: {crash:?}"));
            let mut undecided = undecided.clone();
            twin.db = Some(twin.settings.options(&twin.fs, &twin.time).open(DIR).unwrap());
            twin.find_again(&mut undecided, crash).unwrap();
            twin.look_around();
            twin.leave_room(LARGE);
            twin.resume(&mut undecided);
            twin.work_step();
            twin.check_everything();
            twin.reopen();
        });
    }
}
