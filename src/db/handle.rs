//! What all handles of an open database hold together: when the last of them goes, the database is closed.

use super::engine::Engine;
use crate::sync::Arc;

/// One opening of a database.
pub(crate) struct Session {
    engine: Arc<Engine>,
}

impl Session {
    pub(crate) fn new(engine: Arc<Engine>) -> Arc<Self> {
        Arc::new(Self { engine })
    }

    pub(crate) fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Err(error) = self.engine.close() {
            tracing::error!(path = %self.engine.dir.display(), %error, "closing the database failed");
        }
    }
}
