//! What pays for the checks: a wallet, and one channel of its own.

use crate::connection;
use anyhow::{Context, Result, ensure};
use core::num::NonZeroU32;
use solana_address::Address;
use solana_client::nonblocking::rpc_client::RpcClient;
use solana_keypair::Keypair;
use solana_message::VersionedMessage;
use solana_signer::Signer;
use solana_transaction::versioned::VersionedTransaction;
use tallybook_chain::instruction::{Addition, NewChannel};
use tallybook_chain::transaction::to_bytes;
use tallybook_chain::{BookView, PageView, deposit};
use tallybook_rules::signing::{SignedVoucher, SigningKey};
use tallybook_rules::{Amount, Slot};
use tallybook_wire::{Channel, ChannelPayload, Deposit, Key, Offer, PaymentRequirements, TransactionBytes, Voucher};

/// A call's price is this part of the deposit.
const CALLS: u64 = 100;
/// For how long a call is reserved, in seconds.
const RESERVED_SECONDS: u32 = 60;

/// A wallet, the book that it pays, and the channel in it.
pub(super) struct Purse {
    rpc: RpcClient,
    wallet: Keypair,
    pub(super) book: BookView,
    page: PageView,
    offer: Offer,
    pub(super) deposit: Amount,
    pub(super) price: Amount,
    pub(super) channel: Channel,
    pub(super) id: Key,
}

impl Purse {
    /// Reads book and page, and chooses the slot that is offered.
    pub(super) async fn new(rpc: RpcClient, wallet: Keypair, book: &Address, offer: &Offer) -> Result<Self> {
        let book = connection::book(&rpc, book).await?;
        let genesis_hash = rpc.get_genesis_hash().await.context(connection::NoAnswer)?.to_bytes();
        ensure!(book.state.genesis_hash == genesis_hash, "the book says that it is for another cluster than --rpc");
        let page = Address::from(offer.extra.page.0);
        let page = connection::page_at(&rpc, &page).await?.context("the page that is offered is not there")?;
        ensure!(page.book() == book.address, "the page that is offered is one of another book");
        let signer = Key(wallet.pubkey().to_bytes());
        let channel = Channel {
            payer: signer,
            signer,
            book: book.address.to_bytes().into(),
            page: offer.extra.page,
            slot: offer.extra.slot,
            generation: offer.extra.generation,
        };
        let id = channel.id(&page.header.page_domain);
        let (deposit, price) = (Amount::ZERO, Amount::ZERO);
        Ok(Self { rpc, wallet, book, page, offer: offer.clone(), deposit, price, channel, id })
    }

    pub(super) const fn decimals(&self) -> u8 {
        self.book.state.decimals
    }

    /// With this much to put in.
    pub(super) fn with_deposit(self, deposit: Amount) -> Result<Self> {
        let least = self.book.state.min_deposit;
        ensure!(
            deposit >= least,
            "a channel of this book takes a deposit of {least} base units at least: raise --deposit"
        );
        let price = Amount::new(deposit.get() / CALLS);
        ensure!(price.get() >= 2, "too small a deposit to pay calls from: raise --deposit");
        Ok(Self { deposit, price, ..self })
    }

    /// What a call at this price asks for.
    pub(super) fn asked(&self, amount: Amount) -> PaymentRequirements {
        self.offer.priced(amount, NonZeroU32::new(RESERVED_SECONDS).unwrap_or(NonZeroU32::MIN))
    }

    /// A voucher over this much in all.
    pub(super) fn signed(&self, cumulative: Amount) -> Voucher {
        self.signed_by(&SigningKey::from_bytes(self.wallet.secret_bytes()), cumulative)
    }

    /// The same by another key.
    pub(super) fn signed_by(&self, key: &SigningKey, cumulative: Amount) -> Voucher {
        SignedVoucher::sign(key, self.id.0, cumulative).into()
    }

    /// A payment by a voucher over this much in all.
    pub(super) fn voucher(&self, cumulative: Amount) -> ChannelPayload {
        ChannelPayload::Voucher { voucher: self.signed(cumulative) }
    }

    fn new_channel(&self) -> NewChannel {
        let payer = self.wallet.pubkey();
        NewChannel {
            payer,
            source: self.book.token_account(&payer),
            operator: None,
            page: self.page.address,
            slot: self.channel.slot,
            generation: self.channel.generation,
            signer: self.channel.signer.0,
            deposit: self.deposit.get(),
        }
    }

    /// The payment that opens the channel.
    pub(super) async fn opening(&self) -> Result<ChannelPayload> {
        let new = self.new_channel();
        let id = deposit::expected_channel_id(&self.page, &new)?;
        let blockhash = self.rpc.get_latest_blockhash().await.context(connection::NoAnswer)?;
        let sponsor = self.offer.extra.fee_payer.0.into();
        let transaction = self.sign(deposit::message(&self.book, &new, &id, &sponsor, blockhash))?;
        Ok(self.deposited(transaction, self.price))
    }

    /// The payment that adds as much again, for a call beyond `charged`.
    pub(super) async fn addition(&self, charged: Amount) -> Result<ChannelPayload> {
        let funder = self.wallet.pubkey();
        let addition = Addition {
            funder,
            source: self.book.token_account(&funder),
            page: self.page.address,
            slot: self.channel.slot,
            generation: self.channel.generation,
            amount: self.deposit.get(),
        };
        let blockhash = self.rpc.get_latest_blockhash().await.context(connection::NoAnswer)?;
        let sponsor = self.offer.extra.fee_payer.0.into();
        let message = deposit::top_up_message(&self.book, &addition, &self.id.0, &sponsor, blockhash);
        Ok(self.deposited(self.sign(message)?, charged.plus(self.price)?))
    }

    fn deposited(&self, transaction: TransactionBytes, cumulative: Amount) -> ChannelPayload {
        let deposit = Deposit { amount: self.deposit, transaction };
        ChannelPayload::Deposit { channel: self.channel, voucher: self.signed(cumulative), deposit }
    }

    /// The wallet's signature at its place; the sponsor's stays empty.
    fn sign(&self, message: VersionedMessage) -> Result<TransactionBytes> {
        let bytes = message.serialize();
        let signers = usize::from(message.header().num_required_signatures);
        let keys = message.static_account_keys().iter().take(signers);
        let ours = |key: &Address| *key == self.wallet.pubkey();
        let signatures =
            keys.map(|key| if ours(key) { self.wallet.sign_message(&bytes) } else { Default::default() }).collect();
        Ok(TransactionBytes::new(to_bytes(&VersionedTransaction { signatures, message })?)?)
    }

    /// The slot as it is on chain now.
    pub(super) async fn slot(&self) -> Result<Slot> {
        let page = connection::page_at(&self.rpc, &self.page.address).await?.context("the page is gone")?;
        Ok(*page.slot(self.channel.slot)?)
    }
}
