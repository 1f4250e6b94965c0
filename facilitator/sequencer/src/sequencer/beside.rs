//! Questions to the store that take a while: asked beside the desk, on a thread that may wait, so that calls go on meanwhile.

use super::Sequencer;
use tallybook_rules::Rejection;
use tallybook_store::{StoreFailure, VoucherStore};

impl Sequencer {
    /// Asks the store, after a commit that is under way and before the next. Nobody is kept from the desk by it, but whoever waits
    /// for a commit is. [`Rejection::StoreUnavailable`] when the store fails: then the writer ends, as after a failed commit.
    pub async fn ask_beside<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&mut dyn VoucherStore) -> Result<T, StoreFailure> + Send + 'static,
    ) -> Result<T, Rejection> {
        let store = self.insist_now(|desk| desk.store()).await?;
        let asked = tokio::task::spawn_blocking(move || store.lock().and_then(|mut store| ask(store.as_mut())));
        match asked.await.unwrap_or(Err(StoreFailure::Poisoned)) {
            Ok(answer) => Ok(answer),
            Err(failure) => {
                self.insist(|desk| desk.has_lost(failure)).await?;
                Err(Rejection::StoreUnavailable)
            }
        }
    }

    /// Those of these pages that were not taken up, see [`crate::Desk::take_up`], without waiting for a commit.
    pub async fn not_taken_up(&self, pages: impl IntoIterator<Item = [u8; 32]>) -> Result<Vec<[u8; 32]>, Rejection> {
        self.insist_now(|desk| desk.not_taken_up(pages)).await
    }
}
