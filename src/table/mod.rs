//! One sorted file.
