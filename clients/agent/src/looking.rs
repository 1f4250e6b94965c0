//! Asking the chain where a channel stands.

use crate::agent::{Agent, ChannelReport};
use crate::channel::Phase;
use crate::error::AgentError;
use crate::pool::lock;
use tallybook_rpc::Chain;
use tallybook_rules::Status;
use tallybook_wire::Key;

impl<C: Chain> Agent<C> {
    /// Asks the chain where a channel stands and takes over what it says: a deposit that was added without this agent, as
    /// anybody may, or a closing that was begun without it. Waits for calls under way. It counts against the budgets from
    /// then on, within them or not.
    ///
    /// A channel that is over on chain, or of whose deposit something is not decided, is left as it is: that is for
    /// [`Agent::tend`] and the next call.
    pub async fn look(&self, id: Key) -> Result<ChannelReport, AgentError> {
        let (_lease, channel) = self.exclusive(id).await?;
        let (_, slot) = self.shared.slot_of(&channel).await?;
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
                Ok(Status::Open | Status::Free) | Err(_) => return Ok(ChannelReport::of(&channel)),
            }
        }
        self.shared.save(&channel).await?;
        self.shared.count(&channel).await?;
        let report = ChannelReport::of(&lock(&channel));
        Ok(report)
    }
}
