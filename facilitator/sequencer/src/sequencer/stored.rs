//! Stored vouchers are verified again with the desk unlocked: that of a channel by the call that needs it, all others beside
//! the calls, those of one page at a time, so that damage is found soon whoever calls.

use super::{Says, Sequencer, Shared};
use crate::Desk;
use std::convert::Infallible;
use tallybook_ledger::{Proofs, Refused, Unproven, verify_stored};
use tallybook_rules::Rejection;

impl Sequencer {
    /// Sees to it that what is stored of these channels was verified again, before something is decided on them: else the
    /// ledger refuses with [`Rejection::Overloaded`], see [`tallybook_ledger::Channel::unproven`]. Those that no observed page
    /// shows are left out. [`Rejection::StoreUnavailable`] when the store is damaged: then the writer has ended.
    pub async fn prove(&self, channel_ids: impl IntoIterator<Item = [u8; 32]>) -> Result<(), Rejection> {
        let stored = self.insist_now(|desk| {
            let channels = channel_ids.into_iter().filter_map(|id| desk.ledger.channel(&id));
            channels.filter_map(|channel| channel.unproven()).collect::<Vec<_>>()
        });
        let stored = stored.await?;
        if stored.is_empty() {
            return Ok(());
        }
        let proofs = verify_stored(&stored);
        self.insist_now(|desk| desk.take_proofs(&proofs)).await
    }

    /// Decides; and decides once more if the channel's stored voucher was not verified again yet, which it is then.
    pub(crate) async fn once_proven<T, F>(&self, decide: impl Fn() -> F) -> Result<T, Refused>
    where
        F: Future<Output = Result<Result<T, Refused>, Rejection>>,
    {
        let decided = decide().await?;
        let channel = decided.as_ref().err().and_then(|refused| refused.channel.as_deref());
        let Some(unproven) = channel.and_then(|channel| channel.unproven()) else { return decided };
        self.prove_one(&unproven).await?;
        decide().await?
    }

    /// Together with the signatures that others bring at the same moment.
    async fn prove_one(&self, stored: &Unproven) -> Result<(), Rejection> {
        let proofs = match self.signatures.check(*stored.voucher(), stored.signer()).await {
            Ok(proven) => Proofs { proven: vec![proven], damaged: Vec::new() },
            Err(_) => Proofs { proven: Vec::new(), damaged: vec![stored.voucher().channel_id] },
        };
        self.insist_now(|desk| desk.take_proofs(&proofs)).await
    }
}

impl Shared {
    /// Verifies what is stored, again and again, until nobody will ask for anything more.
    pub(super) fn prove_all(&self) {
        while let Some(stored) = self.wait_for_stored() {
            if self.prove_some(&stored).is_err() {
                return;
            }
        }
    }

    /// The same, as a future: it is never ready, whoever polls it has something else to end with.
    pub(super) async fn prove_all_again(&self) -> Infallible {
        loop {
            let stored = self.stored();
            match stored.as_deref() {
                Some([]) => self.stored_again.notified().await,
                Some(stored) if self.prove_some(stored).is_ok() => tokio::task::yield_now().await,
                Some(_) | None => std::future::pending().await,
            }
        }
    }

    /// `Err` when there is no use in going on.
    fn prove_some(&self, stored: &[Unproven]) -> Result<(), Rejection> {
        let proofs = verify_stored(stored);
        self.decide(|desk| desk.take_proofs(&proofs), Says::Nothing, usize::MAX)?;
        if proofs.damaged.is_empty() { Ok(()) } else { Err(Rejection::StoreUnavailable) }
    }

    /// What there is to verify, as soon as there is something; none when nobody will ask for anything more.
    fn wait_for_stored(&self) -> Option<Vec<Unproven>> {
        let mut room = self.room.lock().ok()?;
        while !room.closed && !room.ended {
            let stored = room.desk.ledger.unproven();
            if !stored.is_empty() {
                return Some(stored);
            }
            room = self.stored.wait(room).ok()?;
        }
        None
    }

    /// The same, at once.
    fn stored(&self) -> Option<Vec<Unproven>> {
        let room = self.room.lock().ok()?;
        (!room.closed && !room.ended).then(|| room.desk.ledger.unproven())
    }

    /// Wakes whoever verifies what is stored.
    pub(super) fn wake_for_stored(&self) {
        self.stored.notify_all();
        self.stored_again.notify_one();
    }
}

impl Desk {
    /// Takes in which stored vouchers hold. One that does not ends the writer, as a failed commit does: the log names its
    /// channel.
    fn take_proofs(&mut self, proofs: &Proofs) {
        proofs.proven.iter().for_each(|voucher| self.ledger.prove(voucher));
        proofs.damaged.iter().for_each(|channel| self.is_damaged(*channel));
    }
}
