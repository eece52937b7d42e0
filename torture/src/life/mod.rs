//! A database that leads a random life through the public API, beside a model that keeps everything.
//!
//! A life depends on its choices alone: files are in memory, time stands still until it is moved, background work is
//! done when the life says so. Whatever the database answers is compared with the model; what a crash leaves must be
//! something that the durabilities of the commits allow, and decides what the model goes on with.

mod broken;
mod crash;
mod fault;
mod full;
mod held;
pub(crate) mod model;
mod names;
mod places;
pub(crate) mod read;
mod resume;
mod runner;
pub(crate) mod settings;
mod twin;
mod two_phase;
pub(crate) mod write;

pub use broken::Broken;
pub use crash::Crash;
pub use fault::{OPERATIONS, is_failure};
pub use places::{Kinds, Places};
pub use runner::{DIR, Log, Runner};
pub use settings::Settings;
