//! Opening a channel at the sponsor's expense, or adding to its deposit. It charges nothing: the voucher that comes along
//! then pays as any other.

use super::{Accepted, Denied, tells_nothing, untold};
use crate::allowance::Share;
use crate::app::App;
use crate::notebook::Notebook;
use std::sync::Arc;
use tallybook_chain::instruction::NewChannel;
use tallybook_chain::{Address, BookView};
use tallybook_ledger::{Attempt, Channel, Expense, Held, Place, Purpose, Refused};
use tallybook_rules::signing::{SignedVoucher, VerifiedVoucher};
use tallybook_rules::{Amount, OpenPolicy, Rejection};
use tallybook_sequencer::clock;
use tallybook_settler::{Chain, CheckedDeposit, DepositKind, ExpectedDeposit};
use tallybook_wire::{Deposit, PaymentRequirements, Voucher};

/// For how long a slot is kept for a deposit that is on its way, in seconds: longer than its blockhash lives.
const HOLD_SECONDS: i64 = 180;

/// A deposit whose payload and transaction hold; the chain was not asked yet.
pub(super) struct Asked {
    checked: CheckedDeposit,
    place: Place,
    channel_id: [u8; 32],
    book: [u8; 32],
    voucher: VerifiedVoucher,
    /// The price of the call that the voucher pays for.
    price: Amount,
}

impl Asked {
    /// Checks everything that needs no chain.
    pub(super) fn new<C: Chain>(
        app: &App<C>,
        book: Arc<BookView>,
        requirements: &PaymentRequirements,
        channel: &tallybook_wire::Channel,
        voucher: &Voucher,
        deposit: &Deposit,
    ) -> Result<Self, Rejection> {
        app.takes_on()?;
        if channel.book.0 != book.address.to_bytes() {
            return Err(Rejection::RequirementsMismatch);
        }
        let page = app.page(channel.page.as_bytes())?;
        let channel_id = channel.id(&page.header.page_domain).0;
        if voucher.channel_id.0 != channel_id {
            return Err(Rejection::DepositMismatch);
        }
        let co_signed = OpenPolicy::from_byte(book.state.open_policy)? == OpenPolicy::OperatorCoSigns;
        let payer = Address::from(channel.payer.0);
        let new = NewChannel {
            payer,
            source: book.token_account(&payer),
            operator: co_signed.then(|| book.operator()),
            page: page.address,
            slot: channel.slot,
            generation: channel.generation,
            signer: channel.signer.0,
            deposit: deposit.amount.get(),
        };
        let expected = ExpectedDeposit { book: &book, page: &page, new: &new, channel_id };
        let checked = app.settler.check_deposit(deposit.transaction.as_bytes(), &expected)?;
        let verified = SignedVoucher::from(*voucher).verify(channel.signer.as_bytes())?;
        if checked.kind() == DepositKind::Opening {
            if requirements.amount.is_zero() || voucher.max_claimable_amount != requirements.amount {
                return Err(Rejection::WrongCumulative);
            }
            if voucher.max_claimable_amount > deposit.amount {
                return Err(Rejection::DepositExceeded);
            }
        }
        Ok(Self {
            checked,
            place: Place { page: channel.page.0, slot: channel.slot, generation: channel.generation },
            channel_id,
            book: channel.book.0,
            voucher: verified,
            price: requirements.amount,
        })
    }

    /// Would it be settled now? Sends nothing, holds nothing.
    pub(super) async fn verify<C: Chain>(&self, app: &App<C>) -> Result<Accepted, Refused> {
        if self.checked.kind() == DepositKind::TopUp {
            return self.verify_top_up(app).await;
        }
        if let Some(channel) = self.opened(app).await? {
            return Ok(Accepted::of(&channel));
        }
        let payer = self.payer();
        self.check_room(app).await?;
        self.check_sponsoring(app)?;
        app.settler.simulate_deposit(&self.checked).await?;
        Ok(Accepted {
            payer,
            extra: Default::default(),
            transaction: None,
            amount: Some(self.amount()),
            charges: false,
        })
    }

    /// Co-signs, sends, waits for it to be confirmed and seen. The same deposit again is the same answer.
    pub(super) async fn settle<C: Chain>(&self, app: &App<C>) -> Result<Accepted, Denied> {
        if self.checked.kind() == DepositKind::TopUp {
            return self.settle_top_up(app).await;
        }
        let (place, channel_id) = (self.place, self.channel_id);
        let held = app.sequencer.ask(move |desk| {
            let until = desk.now.saturating_add(HOLD_SECONDS);
            desk.ledger.hold(&place, channel_id, until, desk.now)
        });
        let purpose = Purpose::Deposit(channel_id);
        let previous = match held.await? {
            Ok(Held::Open) => return Ok(self.accepted(app, app.last_attempt(purpose).await?).await?),
            Ok(Held::Free) => app.last_attempt(purpose).await?,
            Err(rejection) => return Err(rejection.into()),
        };
        let mut notebook = self.notebook(app, purpose);
        if previous.is_none() {
            match self.check_room(app).await.and_then(|()| self.sponsor(app)) {
                Ok(share) => notebook = notebook.paid_from(Some(share)),
                Err(rejection) => {
                    self.give_up(app).await;
                    return Err(rejection.into());
                }
            }
        }
        match self.send(app, previous, &notebook).await {
            Ok(attempt) => Ok(self.accepted(app, Some(attempt)).await?),
            // It may still land: the slot stays held, and the same deposit again asks what became of it.
            Err(rejection) if tells_nothing(rejection) => Err(self.untold(app, purpose, rejection).await),
            Err(rejection) => {
                self.give_up(app).await;
                Err(rejection.into())
            }
        }
    }

    /// Sends it and lets the ledger see what it did, in the time that a request has.
    async fn send<C: Chain>(
        &self,
        app: &App<C>,
        previous: Option<Attempt>,
        notebook: &Notebook<'_, C>,
    ) -> Result<Attempt, Rejection> {
        let sent = async {
            let opened = app.settler.send_deposit(&self.checked, previous, notebook).await?;
            app.read_and_observe(&self.checked.new_channel().page, opened.chain_slot).await?;
            Ok(opened.attempt)
        };
        app.in_time(sent).await
    }

    async fn untold<C: Chain>(&self, app: &App<C>, purpose: Purpose, rejection: Rejection) -> Denied {
        untold(app, purpose, rejection, app.settler.deposit_signature(&self.checked)).await
    }

    /// As [`Self::verify`], for a channel that is open. A top-up that was sent already is for [`Self::settle`] to ask about.
    async fn verify_top_up<C: Chain>(&self, app: &App<C>) -> Result<Accepted, Refused> {
        let previous = app.last_attempt(Purpose::TopUp(self.channel_id)).await?;
        if !self.was_sent(app, previous) {
            self.foresee(app).await?;
            self.check_sponsoring(app)?;
            app.settler.simulate_deposit(&self.checked).await?;
        }
        self.accepted(app, None).await
    }

    /// As [`Self::settle`], for a channel that is open. Nothing is paid for unless the voucher then pays for the call.
    async fn settle_top_up<C: Chain>(&self, app: &App<C>) -> Result<Accepted, Denied> {
        let purpose = Purpose::TopUp(self.channel_id);
        let previous = app.last_attempt(purpose).await?;
        let mut notebook = self.notebook(app, purpose);
        if !self.was_sent(app, previous) {
            self.foresee(app).await?;
            notebook = notebook.paid_from(Some(self.sponsor(app)?));
        }
        match self.send(app, previous, &notebook).await {
            Ok(attempt) => Ok(self.accepted(app, Some(attempt)).await?),
            Err(rejection) if tells_nothing(rejection) => Err(self.untold(app, purpose, rejection).await),
            Err(rejection) => Err(rejection.into()),
        }
    }

    /// Whether this very transaction is the one that was sent last.
    fn was_sent<C: Chain>(&self, app: &App<C>, previous: Option<Attempt>) -> bool {
        previous.is_some_and(|previous| previous.signature == app.settler.deposit_signature(&self.checked))
    }

    /// Refuses what would not pay for its call with the top-up either; shows the channel where that helps its client.
    async fn foresee<C: Chain>(&self, app: &App<C>) -> Result<Channel, Refused> {
        let (voucher, price, addition) = (self.voucher, self.price, self.amount());
        app.sequencer.prove([self.channel_id]).await?;
        app.sequencer.ask(move |desk| desk.ledger.foresee(&voucher, price, addition, desk.now)).await?
    }

    fn notebook<'a, C: Chain>(&self, app: &'a App<C>, purpose: Purpose) -> Notebook<'a, C> {
        app.notebook(purpose, self.book, Expense::Deposits)
    }

    async fn accepted<C: Chain>(&self, app: &App<C>, attempt: Option<Attempt>) -> Result<Accepted, Refused> {
        // Confirmed and read, but another sight of the page may have ended it already.
        let channel = self.opened(app).await?.ok_or(Rejection::SlotFree)?;
        Ok(Accepted {
            transaction: attempt.map(|attempt| attempt.signature),
            amount: Some(self.amount()),
            ..Accepted::of(&channel)
        })
    }

    async fn opened<C: Chain>(&self, app: &App<C>) -> Result<Option<Channel>, Rejection> {
        let channel_id = self.channel_id;
        app.sequencer.ask(move |desk| desk.ledger.channel(&channel_id)).await
    }

    /// Refuses a channel more than are served.
    async fn check_room<C: Chain>(&self, app: &App<C>) -> Result<(), Rejection> {
        let channels = app.sequencer.ask(|desk| desk.ledger.len()).await?;
        if u32::try_from(channels).unwrap_or(u32::MAX) >= app.config.limits.channels {
            return Err(Rejection::QuotaExceeded);
        }
        Ok(())
    }

    /// Refuses what the sponsor does not pay for; puts nothing aside.
    fn check_sponsoring<C: Chain>(&self, app: &App<C>) -> Result<(), Rejection> {
        let now = clock();
        app.allowance().check(app.highest_deposit_fee(), now)?;
        app.quotas().check(&self.payer(), now)
    }

    /// Counts a deposit that is about to be sent, and puts its fee aside.
    fn sponsor<C: Chain>(&self, app: &App<C>) -> Result<Share, Rejection> {
        let now = clock();
        app.allowance().check(app.highest_deposit_fee(), now)?;
        app.quotas().take(self.payer(), now)?;
        app.allowance().take(app.highest_deposit_fee(), now)
    }

    fn payer(&self) -> [u8; 32] {
        self.checked.new_channel().payer.to_bytes()
    }

    async fn give_up<C: Chain>(&self, app: &App<C>) {
        let (place, channel_id) = (self.place, self.channel_id);
        let given = app.sequencer.ask(move |desk| desk.ledger.unhold(&place, &channel_id));
        if let Err(rejection) = given.await {
            tracing::debug!(%rejection, "a slot stays held for a while");
        }
    }

    /// What is put in.
    fn amount(&self) -> Amount {
        Amount::new(self.checked.new_channel().deposit)
    }
}
