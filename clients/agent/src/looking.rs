//! Asking the chain where a channel stands, also before a server's word on it is refused.

use crate::agent::{Agent, ChannelReport};
use crate::channel::Phase;
use crate::error::AgentError;
use crate::pool::{Shared, lock};
use crate::state::AgentState;
use std::time::Duration;
use tallybook_rpc::Chain;
use tallybook_rules::{Slot, Status};
use tallybook_wire::{ChannelState, Key, VoucherState};

/// So often the chain is asked for a claim that it may settle any moment: an endpoint is some slots behind another.
const LOOKS: u32 = 6;
/// The wait before the second look; each further one is twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(100);

impl<C: Chain> Agent<C> {
    /// Asks the chain where a channel stands and takes over what it says: what was settled beyond what this agent knows of, a
    /// deposit that was added without it, as anybody may, or a closing that was begun without it. Waits for calls under way. It
    /// counts against the budgets from then on, within them or not.
    ///
    /// A channel that is over on chain, or of whose deposit something is not decided, is left as it is: that is for
    /// [`Agent::tend`] and the next call.
    pub async fn look(&self, id: Key) -> Result<ChannelReport, AgentError> {
        let (_lease, channel) = self.exclusive(id).await?;
        let before = lock(&channel).charged;
        let slot = self.shared.see(&channel).await?;
        {
            let mut channel = lock(&channel);
            let pays = matches!(channel.phase, Phase::Open | Phase::GivenUp);
            let is_it = slot.generation == channel.parts.generation && slot.payer == channel.parts.payer.0;
            if !pays || !is_it || channel.top_up.is_some() {
                return Ok(ChannelReport::of(&channel));
            }
            match slot.status() {
                Ok(Status::Closing) => channel.phase = Phase::Closing { closing_at: slot.closing_at },
                // It never falls but by a refund, which ends the channel here.
                Ok(Status::Open) if slot.deposit > channel.deposit => channel.deposit = slot.deposit,
                Ok(Status::Open) if channel.charged > before => {}
                Ok(Status::Open | Status::Free) | Err(_) => return Ok(ChannelReport::of(&channel)),
            }
        }
        self.shared.save(&channel).await?;
        self.shared.count(&channel).await?;
        let report = ChannelReport::of(&lock(&channel));
        Ok(report)
    }
}

impl<C: Chain> AgentState<C> {
    /// A channel's slot as the chain has it; what is settled there is taken over.
    pub(crate) async fn see(&self, channel: &Shared) -> Result<Slot, AgentError> {
        let (_, slot) = self.slot_of(channel).await?;
        lock(channel).see(&slot);
        self.list_found(channel);
        Ok(slot)
    }

    /// Takes over what a corrective answer says of a channel. One that is not believed by itself is held against the chain
    /// first, since whatever is settled there is due; what nobody has signed for costs the server the channel.
    ///
    /// Where the chain cannot be asked, nothing is believed and nothing given up.
    pub(crate) async fn adopt(
        &self,
        channel: &Shared,
        state: &ChannelState,
        voucher: Option<&VoucherState>,
    ) -> Result<(), AgentError> {
        let signer = self.signer_key().0;
        let judge = || lock(channel).adopt(state, voucher, &signer);
        let (mut adopted, mut looks, mut wait) = (judge(), 0u32, FIRST_WAIT);
        while adopted.is_err() && looks < LOOKS && (looks == 0 || lock(channel).may_settle(state)) {
            if looks > 0 {
                tokio::time::sleep(wait.min(self.policy.max_wait)).await;
                wait = wait.saturating_mul(2);
            }
            self.see(channel).await?;
            adopted = judge();
            looks = looks.saturating_add(1);
        }
        let id = {
            let mut channel = lock(channel);
            if adopted.is_err() && channel.phase == Phase::Open {
                channel.phase = Phase::GivenUp;
            }
            channel.id
        };
        self.list_found(channel);
        self.save(channel).await?;
        let claimed = state.charged_cumulative_amount;
        adopted.map_err(|possible| AgentError::Dishonest { channel: id, claimed, possible })
    }
}
