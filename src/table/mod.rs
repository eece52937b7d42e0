//! One sorted file.

mod cache;
mod filter;
