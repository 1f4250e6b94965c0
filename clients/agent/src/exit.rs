//! The ways out without a server: through the chain, at the wallet's expense or at anybody's.
//!
//! A wallet without lamports has three ways. Ask the server ([`Agent::close`]): its sponsor pays. Let any other key pay the
//! fee, here ([`Agent::force_close_paid_by`], [`Agent::withdraw_paid_by`]) or elsewhere ([`Agent::exit_transaction`]). Or wait:
//! where the book has an idle limit its payee closes idle channels, and a withdrawal, which needs no signature of the
//! wallet, can be sent by anybody; the money can only go to the payer.

use crate::agent::Agent;
use crate::channel::Phase;
use crate::closing::Closed;
use crate::error::AgentError;
use crate::pool::{Shared, lock};
use crate::state::AgentState;
use crate::transact;
use solana_instruction::Instruction;
use solana_keypair::Keypair;
use solana_signer::Signer;
use tallybook_chain::instruction::Instructions;
use tallybook_chain::{Address, BookView, PROGRAM_ID, PageView, address};
use tallybook_rpc::{Account, Chain, View};
use tallybook_rules::{Slot, Status};
use tallybook_wire::{Key, TransactionBytes};

/// Where the chain keeps its own time.
const CLOCK: Address = address::CLOCK;
/// Where the time stands in it: a signed integer of 8 bytes.
const CLOCK_TIME_OFFSET: usize = 32;

/// A step out of a channel that another key can pay for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Exit {
    /// Which step.
    pub step: ExitStep,
    /// The transaction: complete but for the signature of its fee payer. As text it is base64.
    pub transaction: TransactionBytes,
    /// The last block height at which it can land.
    pub last_valid_height: u64,
}

/// What an [`Exit`] does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ExitStep {
    /// Begins to close the channel; the grace period starts.
    RequestClose,
    /// Takes what is unspent out, after the grace period.
    Withdraw,
}

impl<C: Chain> Agent<C> {
    /// Asks the program to close a channel, without the server, at the wallet's expense (it needs some lamports). Says
    /// when [`Agent::withdraw`] can be called, in Unix seconds; until then the payee may claim what it is owed.
    pub async fn force_close(&self, id: Key) -> Result<i64, AgentError> {
        self.force_close_paid_by(id, &self.shared.wallet).await
    }

    /// [`Agent::force_close`], its fee paid by another key.
    pub async fn force_close_paid_by(&self, id: Key, fee_payer: &Keypair) -> Result<i64, AgentError> {
        let (_lease, channel) = self.exclusive(id).await?;
        self.shared.force_close(&channel, fee_payer).await
    }

    /// Takes what is unspent out of a channel whose grace period is over ([`AgentError::GraceNotOver`] before), at the
    /// wallet's expense.
    pub async fn withdraw(&self, id: Key) -> Result<Closed, AgentError> {
        self.withdraw_paid_by(id, &self.shared.wallet).await
    }

    /// [`Agent::withdraw`], its fee paid by another key.
    pub async fn withdraw_paid_by(&self, id: Key, fee_payer: &Keypair) -> Result<Closed, AgentError> {
        let (_lease, channel) = self.exclusive(id).await?;
        self.shared.withdraw(&channel, fee_payer).await
    }

    /// The next step out of a channel as a transaction for `fee_payer` to sign and send, from wherever that key is: the
    /// request to close, signed by the wallet as the channel's payer, or once the grace period is over the withdrawal,
    /// which needs nobody else's signature. It must be sent within about a minute, before its blockhash expires. The
    /// channel pays no more calls.
    pub async fn exit_transaction(&self, id: Key, fee_payer: Key) -> Result<Exit, AgentError> {
        let (_lease, channel) = self.exclusive(id).await?;
        self.shared.exit_transaction(&channel, fee_payer).await
    }
}

impl<C: Chain> AgentState<C> {
    async fn force_close(&self, channel: &Shared, fee_payer: &Keypair) -> Result<i64, AgentError> {
        let (_, slot) = self.slot_of(channel).await?;
        self.must_be_ours(channel, &slot)?;
        let closing_at = if slot.status() == Ok(Status::Open) {
            transact::check_lamports(&self.chain, &fee_payer.pubkey()).await?;
            let instruction = self.request_close(channel);
            let keys = [fee_payer, &self.wallet];
            transact::prepare_for(&self.chain, instruction, &fee_payer.pubkey(), &keys).await?.run(&self.chain).await?;
            self.slot_of(channel).await?.1.closing_at
        } else {
            slot.closing_at
        };
        lock(channel).phase = Phase::Closing { closing_at };
        self.save(channel).await?;
        Ok(closing_at)
    }

    pub(crate) async fn withdraw(&self, channel: &Shared, fee_payer: &Keypair) -> Result<Closed, AgentError> {
        let (id, parts) = {
            let channel = lock(channel);
            (channel.id, channel.parts)
        };
        let (book, slot) = self.slot_of(channel).await?;
        if slot.generation > parts.generation || slot.status() == Ok(Status::Free) {
            // Somebody else sent the withdrawal: it can only go to the payer.
            return self.refunded(channel).await?.ok_or(AgentError::NotNow { channel: id, why: "it is over" });
        }
        let instruction = self.withdrawal(channel, &book, &slot).await?;
        transact::check_lamports(&self.chain, &fee_payer.pubkey()).await?;
        let prepared = transact::prepare_for(&self.chain, instruction, &fee_payer.pubkey(), &[fee_payer]).await?;
        prepared.run(&self.chain).await?;
        let (_, after) = self.slot_of(channel).await?;
        if after.generation == parts.generation && after.status() == Ok(Status::Closing) {
            let why = "its withdrawal was skipped: the wallet's token account is missing or frozen";
            return Err(AgentError::NotNow { channel: id, why });
        }
        self.end(channel, slot.settled).await?;
        Ok(Closed { id, charged: slot.settled, returned: slot.deposit.less(slot.settled) })
    }

    async fn exit_transaction(&self, channel: &Shared, fee_payer: Key) -> Result<Exit, AgentError> {
        let (book, slot) = self.slot_of(channel).await?;
        self.must_be_ours(channel, &slot)?;
        let (step, instruction) = if slot.status() == Ok(Status::Open) {
            (ExitStep::RequestClose, self.request_close(channel))
        } else {
            (ExitStep::Withdraw, self.withdrawal(channel, &book, &slot).await?)
        };
        let fee_payer = Address::from(fee_payer.0);
        let prepared = transact::prepare_for(&self.chain, instruction, &fee_payer, &[&self.wallet]).await?;
        {
            let mut channel = lock(channel);
            channel.phase = match step {
                ExitStep::RequestClose => Phase::GivenUp,
                ExitStep::Withdraw => Phase::Closing { closing_at: slot.closing_at },
            };
        }
        self.save(channel).await?;
        let last_valid_height = prepared.last_valid_height();
        Ok(Exit { step, transaction: prepared.into_transaction(), last_valid_height })
    }

    fn must_be_ours(&self, channel: &Shared, slot: &Slot) -> Result<(), AgentError> {
        let channel = lock(channel);
        if slot.generation != channel.parts.generation || slot.status() == Ok(Status::Free) {
            return Err(AgentError::NotNow { channel: channel.id, why: "no such channel is open on chain" });
        }
        Ok(())
    }

    fn request_close(&self, channel: &Shared) -> Instruction {
        let parts = lock(channel).parts;
        let (book, page) = (parts.book.0.into(), parts.page.0.into());
        let payer = self.wallet.pubkey();
        Instructions::new(PROGRAM_ID).request_close(&book, &page, &payer, parts.slot, parts.generation)
    }

    async fn withdrawal(&self, channel: &Shared, book: &BookView, slot: &Slot) -> Result<Instruction, AgentError> {
        let (id, parts) = {
            let channel = lock(channel);
            (channel.id, channel.parts)
        };
        if slot.status() != Ok(Status::Closing) {
            let why = "it is not closing on chain: force its close first";
            return Err(AgentError::NotNow { channel: id, why });
        }
        if self.chain_time().await?.is_some_and(|now| now < slot.closing_at) {
            return Err(AgentError::GraceNotOver { channel: id, closing_at: slot.closing_at });
        }
        let place = [(parts.slot, Address::from(parts.payer.0))];
        Ok(Instructions::new(PROGRAM_ID).withdraw(book, &parts.page.0.into(), &place))
    }

    /// The chain's own time, in Unix seconds, if the endpoint tells it: what grace periods are measured by.
    pub(crate) async fn chain_time(&self) -> Result<Option<i64>, AgentError> {
        let accounts = self.chain.accounts(&[CLOCK], View::CONFIRMED).await?;
        let data = accounts.list.into_iter().next().flatten().map(|account| account.data);
        let time = data.as_deref().and_then(|data| data.get(CLOCK_TIME_OFFSET..)?.first_chunk());
        Ok(time.map(|time| i64::from_le_bytes(*time)))
    }

    /// Book and slot as the chain has them.
    pub(crate) async fn slot_of(&self, channel: &Shared) -> Result<(BookView, Slot), AgentError> {
        let parts = lock(channel).parts;
        let addresses = [parts.book.0.into(), parts.page.0.into()];
        let mut accounts = self.chain.accounts(&addresses, View::CONFIRMED).await?.list.into_iter();
        let (book, page) = (own(accounts.next())?, own(accounts.next())?);
        let book = BookView::parse(parts.book.0.into(), &book.data).map_err(AgentError::Unreadable)?;
        let page = PageView::parse(parts.page.0.into(), &page.data).map_err(AgentError::Unreadable)?;
        Ok((book, *page.slot(parts.slot).map_err(AgentError::Unreadable)?))
    }

    /// A page as the chain has it.
    pub(crate) async fn page(&self, address: &Key, view: View) -> Result<PageView, AgentError> {
        let address = Address::from(address.0);
        let accounts = self.chain.accounts(&[address], view).await?;
        let account = own(accounts.list.into_iter().next())?;
        PageView::parse(address, &account.data).map_err(AgentError::Unreadable)
    }
}

/// An account of the program.
fn own(account: Option<Option<Account>>) -> Result<Account, AgentError> {
    let account = account.flatten().filter(|account| account.owner == PROGRAM_ID);
    account.ok_or(AgentError::Terms("an account of the channel is gone"))
}
