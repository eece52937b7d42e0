//! Going on after a failure without closing: `resume`.

use super::crash::Crash;
use super::fault::Undecided;
use super::runner::Runner;
use super::settings::chance;

impl Runner {
    /// The device fails, is mended, and the database goes on. Sometimes the power goes soon after.
    pub fn fail_and_resume(&mut self) {
        let mut undecided = self.fail_inside();
        self.mend();
        self.resume(&mut undecided);
        self.check_everything();
        if chance(&mut self.random, 1, 3) {
            self.crash_with(undecided, Crash::PowerCut);
        }
    }

    /// Resumes on a device that works.
    pub fn resume(&mut self, undecided: &mut Undecided) {
        self.log.add("resume".into());
        let had_failed = self.db().background_error().is_some();
        self.db().resume().unwrap();
        if had_failed {
            self.resumed(undecided);
        }
    }

    /// `resume` has succeeded after a failure: what is visible is durable, and what was undecided never was. L2
    pub fn resumed(&mut self, undecided: &mut Undecided) {
        assert!(self.db().background_error().is_none(), "resumed, and failed still");
        self.check_in_force();
        *undecided = Undecided::default();
        self.model.all_durable();
        self.check_names();
        self.check_times();
        assert_eq!(self.manual_floor(), self.model.manual_floor);
    }
}
