//! Opening a channel, and finding out what became of an opening.

use crate::approval::Asked;
use crate::channel::{OwnChannel, Phase};
use crate::error::AgentError;
use crate::pool::{Shared, lock};
use crate::route::Route;
use crate::state::AgentState;
use crate::terms::{self, Confirmed};
use crate::transact;
use reqwest::Request;
use solana_signer::Signer;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use tallybook_chain::PROGRAM_ID;
use tallybook_chain::instruction::Instructions;
use tallybook_rpc::Chain;
use tallybook_rules::{Amount, Status};
use tallybook_wire::{Deposit, Key, PaymentRequirements};

/// What the chain says about an opening.
pub(crate) enum Landing {
    /// It landed: the channel is open now, in memory and in the journal.
    Landed,
    /// It never will: the slot went on without it. The channel is ended.
    Never,
    /// Neither yet: the slot still waits for the generation that was asked for.
    Undecided(Box<Confirmed>),
}

impl<C: Chain> AgentState<C> {
    /// Prepares a channel for `offer`: checks it against the chain and the policy, chooses a slot and signs the deposit.
    /// Nothing is sent yet, and nothing may be before [`Self::commit`].
    pub(crate) async fn open(
        &self,
        route: &Route,
        request: &Request,
        offer: &PaymentRequirements,
    ) -> Result<(Shared, Deposit), AgentError> {
        self.check_cluster().await?;
        let wallet = self.wallet.pubkey();
        let confirmed = terms::confirm(&self.chain, &self.policy, offer, offer.extra.page, &wallet).await?;
        let amount = self.deposit_amount(&confirmed, offer)?;
        let confirmed = if self.approve(Asked::Deposit, amount, route, offer.pay_to).await? {
            // People take their time: the page may look different by now.
            terms::confirm(&self.chain, &self.policy, offer, offer.extra.page, &wallet).await?
        } else {
            confirmed
        };
        let blockhash = self.chain.latest_blockhash().await?;
        // Two calls of ours must not open the same slot: chosen and registered under one lock.
        let mut channels = lock(&self.channels);
        let ours = being_opened(&channels, offer.extra.page);
        let place = choose_slot(&confirmed, offer, &wallet.to_bytes(), &ours).ok_or(AgentError::NoFreeSlot)?;
        let (signer, fee_payer) = (self.signer_key(), offer.extra.fee_payer);
        let opening = transact::open(&self.wallet, signer, &confirmed, place, amount, fee_payer, blockhash.hash)?;
        let channel = Arc::new(Mutex::new(OwnChannel {
            id: opening.id,
            parts: opening.parts,
            authority: route.authority().to_owned(),
            url: request.url().to_string(),
            method: request.method().to_string(),
            terms: offer.clone(),
            deposit: amount,
            charged: Amount::ZERO,
            reserved: Amount::ZERO,
            ceiling: Amount::ZERO,
            forgotten: Amount::ZERO,
            settled: Amount::ZERO,
            unsure: false,
            used_at: (self.budget.clock)(),
            top_up: None,
            no_top_up: false,
            rests_until: 0,
            recorded: Amount::ZERO,
            phase: Phase::Opening { last_valid_height: blockhash.last_valid_height },
        }));
        channels.insert(opening.id, Arc::clone(&channel));
        // Saved together with its first voucher's ceiling, before either leaves.
        let transaction = opening.transaction;
        Ok((channel, Deposit { amount, transaction }))
    }

    /// Commits the budget to a channel that was prepared, or forgets the channel.
    pub(crate) async fn commit(&self, channel: &Shared) -> Result<(), AgentError> {
        let (id, host, deposit) = {
            let channel = lock(channel);
            (channel.id, channel.authority.clone(), channel.deposit)
        };
        self.budget.commit(id, host, deposit).await.inspect_err(|_| {
            lock(&self.channels).remove(&id);
        })
    }

    /// Opens a channel that no sponsor opens, at the wallet's expense. It is for the same slot and generation as before,
    /// so at most one of the two can land.
    pub(crate) async fn open_ourselves(&self, channel: &Shared) -> Result<(), AgentError> {
        let Landing::Undecided(confirmed) = self.look_for(channel).await? else {
            return Ok(());
        };
        transact::check_lamports(&self.chain, &self.wallet.pubkey()).await?;
        let (parts, amount) = {
            let channel = lock(channel);
            (channel.parts, channel.deposit)
        };
        let new = transact::new_channel(&self.wallet, parts.signer, &confirmed, (parts.slot, parts.generation), amount);
        let instruction = Instructions::new(PROGRAM_ID).open(&confirmed.book, &new);
        let prepared = transact::prepare(&self.chain, &self.wallet, instruction).await?;
        lock(channel).phase = Phase::Opening { last_valid_height: prepared.last_valid_height() };
        self.save(channel).await?;
        prepared.run(&self.chain).await?;
        self.look_for(channel).await.map(|_| ())
    }

    /// Signs the deposit of a channel that is not open yet once more, with a fresh blockhash. It is for the same slot
    /// and generation as before, so at most one of the two can land.
    pub(crate) async fn sign_again(&self, channel: &Shared, confirmed: &Confirmed) -> Result<Deposit, AgentError> {
        let blockhash = self.chain.latest_blockhash().await?;
        let (parts, amount, fee_payer) = {
            let channel = lock(channel);
            (channel.parts, channel.deposit, channel.terms.extra.fee_payer)
        };
        let place = (parts.slot, parts.generation);
        let opening = transact::open(&self.wallet, parts.signer, confirmed, place, amount, fee_payer, blockhash.hash)?;
        lock(channel).phase = Phase::Opening { last_valid_height: blockhash.last_valid_height };
        self.save(channel).await?;
        let transaction = opening.transaction;
        Ok(Deposit { amount, transaction })
    }

    /// Asks the chain what became of an opening.
    pub(crate) async fn look_for(&self, channel: &Shared) -> Result<Landing, AgentError> {
        let (parts, offer) = {
            let channel = lock(channel);
            (channel.parts, channel.terms.clone())
        };
        let wallet = self.wallet.pubkey();
        let confirmed = terms::confirm(&self.chain, &self.policy, &offer, parts.page, &wallet).await?;
        let slot = *confirmed.page.slot(parts.slot).map_err(AgentError::Unreadable)?;
        let ours = slot.payer == parts.payer.0 && slot.signer == parts.signer.0;
        if slot.generation == parts.generation && slot.status() != Ok(Status::Free) && ours {
            {
                let mut channel = lock(channel);
                channel.phase = Phase::Open;
                channel.deposit = slot.deposit;
            }
            self.save(channel).await?;
            return Ok(Landing::Landed);
        }
        if slot.generation >= parts.generation {
            // Whatever it was, it is not charged to us: the slot is somebody else's, or free again.
            self.end(channel, Amount::ZERO).await?;
            return Ok(Landing::Never);
        }
        Ok(Landing::Undecided(Box::new(confirmed)))
    }

    fn deposit_amount(&self, confirmed: &Confirmed, offer: &PaymentRequirements) -> Result<Amount, AgentError> {
        let deposit = self.policy.deposit_for(&confirmed.book.state.terms(), offer.amount)?;
        if confirmed.held < deposit {
            return Err(AgentError::WalletShort {
                held: confirmed.held,
                deposit,
                account: Key(confirmed.source.to_bytes()),
            });
        }
        Ok(deposit)
    }
}

/// Slots and generations of a page that channels of ours stand in, or may.
fn being_opened(channels: &HashMap<Key, Shared>, page: Key) -> HashSet<(u8, u32)> {
    let place = |channel: &Shared| {
        let channel = lock(channel);
        let counts = channel.parts.page == page && channel.phase != Phase::Ended;
        counts.then_some((channel.parts.slot, channel.parts.generation))
    };
    channels.values().filter_map(place).collect()
}

/// The slot that was offered if it is still free, else another free one of the page: a different one for each payer, so
/// that those who were offered the same do not meet again.
fn choose_slot(
    confirmed: &Confirmed,
    offer: &PaymentRequirements,
    payer: &[u8; 32],
    ours: &HashSet<(u8, u32)>,
) -> Option<(u8, u32)> {
    let free = confirmed.page.free_slots().filter(|place| !ours.contains(place));
    let free: Vec<(u8, u32)> = free.collect();
    let offered = free.iter().find(|(slot, _)| *slot == offer.extra.slot);
    let spread = |sum: usize, byte: &u8| sum.wrapping_mul(31).wrapping_add(usize::from(*byte));
    let other = payer.iter().fold(0, spread).checked_rem(free.len());
    offered.or(other.and_then(|at| free.get(at))).copied()
}
