//! A database that leads a random life through the public API, beside a model that keeps everything.
//!
//! A life depends on its choices alone: files are in memory, time stands still until it is moved, background work is
//! done when the life says so. Whatever the database answers is compared with the model; what a crash leaves must be
//! something that the durabilities of the commits allow, and decides what the model goes on with.

mod crash;
mod fault;
mod held;
pub mod model;
mod names;
mod places;
pub mod read;
mod runner;
pub mod settings;
pub mod write;

pub use places::{Kinds, Places};
pub use runner::Runner;
pub use settings::Settings;
