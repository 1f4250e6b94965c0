//! Adding to the deposit of a channel that is used up.
//!
//! Unlike an opening, an addition is not bound to a place that only one transaction can take: two of them both land. So the
//! signed transaction is written down before it leaves, is sent again only as it is, and no second one is signed for the
//! channel until the chain says what became of the first.

use crate::approval::Asked;
use crate::channel::TopUp;
use crate::error::AgentError;
use crate::pool::{Shared, lock};
use crate::route::Route;
use crate::state::AgentState;
use crate::terms;
use crate::transact;
use solana_signer::Signer;
use tallybook_rpc::{Chain, View};
use tallybook_rules::{Amount, Status};
use tallybook_wire::{Deposit, Key, PaymentRequirements};

/// How an addition stands.
pub(crate) enum Topping {
    /// This is to be sent: a new one, or one from before whose outcome is not known.
    Signed(Deposit),
    /// What was sent before has landed or never will, or nothing can be added: the channel says what it can pay.
    Decided,
}

impl<C: Chain> AgentState<C> {
    /// Signs an addition with which `room` is unspent in the channel, or takes up the one that is under way.
    pub(crate) async fn add_to(
        &self,
        channel: &Shared,
        route: &Route,
        offer: &PaymentRequirements,
        room: Amount,
    ) -> Result<Topping, AgentError> {
        if lock(channel).top_up.is_some() {
            self.decide_top_up(channel).await?;
            let under_way = lock(channel).top_up.clone();
            let again = |top_up: TopUp| Deposit { amount: top_up.amount, transaction: top_up.transaction };
            return Ok(under_way.map_or(Topping::Decided, |top_up| Topping::Signed(again(top_up))));
        }
        let (id, parts, host, rest) = {
            let channel = lock(channel);
            (channel.id, channel.parts, channel.authority.clone(), channel.rest())
        };
        let Ok(amount) = self.policy.addition_for(rest, room) else {
            lock(channel).no_top_up = true; // it may not hold so much: another channel
            return Ok(Topping::Decided);
        };
        self.approve(Asked::TopUp, amount, route, offer.pay_to).await?;
        let confirmed = terms::confirm(&self.chain, &self.policy, offer, parts.page, &self.wallet.pubkey()).await?;
        let slot = *confirmed.page.slot(parts.slot).map_err(AgentError::Unreadable)?;
        if slot.generation != parts.generation || slot.status() != Ok(Status::Open) {
            lock(channel).no_top_up = true;
            return Ok(Topping::Decided);
        }
        if confirmed.held < amount {
            let account = Key(confirmed.source.to_bytes());
            return Err(AgentError::WalletShort { held: confirmed.held, deposit: amount, account });
        }
        let blockhash = self.chain.latest_blockhash().await?;
        let fee_payer = offer.extra.fee_payer;
        let transaction = transact::top_up(&self.wallet, &confirmed, (id, &parts), amount, fee_payer, blockhash.hash)?;
        self.budget.commit(id, host, amount).await?;
        {
            let mut channel = lock(channel);
            channel.deposit = slot.deposit;
            channel.top_up = Some(TopUp {
                amount,
                before: slot.deposit,
                last_valid_height: blockhash.last_valid_height,
                transaction: transaction.clone(),
            });
        }
        self.save(channel).await?;
        Ok(Topping::Signed(Deposit { amount, transaction }))
    }

    /// Asks the chain what became of an addition; once that is known the channel says it, in memory and in the journal.
    pub(crate) async fn decide_top_up(&self, channel: &Shared) -> Result<(), AgentError> {
        let Some((top_up, parts)) = ({
            let channel = lock(channel);
            channel.top_up.clone().map(|top_up| (top_up, channel.parts))
        }) else {
            return Ok(());
        };
        // Asked before the page is read: what has not landed once it is too late never will.
        let too_late = self.chain.latest_blockhash().await?.is_past(top_up.last_valid_height);
        let page = self.page(&parts.page, View::CONFIRMED).await?;
        let slot = *page.slot(parts.slot).map_err(AgentError::Unreadable)?;
        let is_ours = slot.generation == parts.generation && slot.status() != Ok(Status::Free);
        let with_it = top_up.before.plus(top_up.amount).map_err(AgentError::Amount)?;
        let landed = is_ours && slot.deposit >= with_it;
        if is_ours && !landed && !too_late {
            return Ok(());
        }
        {
            let mut channel = lock(channel);
            channel.top_up = None;
            if is_ours {
                channel.deposit = slot.deposit;
            }
        }
        self.save(channel).await?;
        self.count(channel).await
    }

    /// True when a refusal was about an addition: it is not offered to this server again, and another channel pays.
    pub(crate) fn give_up_top_up(&self, channel: &Shared) -> bool {
        let mut channel = lock(channel);
        let is_about_it = channel.top_up.is_some() && !channel.no_top_up;
        channel.no_top_up |= is_about_it;
        is_about_it
    }
}
