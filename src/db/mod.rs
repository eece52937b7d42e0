//! What users hold.

mod batch;
mod clock;
mod range;

pub use batch::WriteBatch;
pub use range::KeyRange;
