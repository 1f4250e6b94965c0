//! From a checked payment to a decision, once.

use super::{ExactScheme, Granted, Refusal, Turns, refuse, refuse_sent};
use crate::allowance::Share;
use crate::app::App;
use crate::expenses::Bill;
use crate::holding::{PAYMENTS, To};
use tallybook_exact::{Fault, Payment};
use tallybook_ledger::{Attempt, Expense, PaymentRecord};
use tallybook_rules::signing::Sha2;
use tallybook_rules::{Hasher, Rejection};
use tallybook_sequencer::clock;
use tallybook_settler::{Chain, Fate, Journal};
use tallybook_wire::ExactRequest;

/// Blocks after which nothing of a payment's blockhash can land any more, even by the word of a node that is far behind:
/// twice as many as one is valid for.
const BLOCKS_BEHIND: u64 = 300;
/// Blocks for which a payment that has landed, and of which nobody was told, can still be asked for: about a day's.
const BLOCKS_TO_ASK: u64 = 216_000;

impl ExactScheme {
    /// Pays, and says by which transaction; or what keeps it from being paid.
    pub(super) async fn settle_any<C: Chain>(&self, app: &App<C>, request: &ExactRequest) -> Result<Granted, Refusal> {
        let payment = self.check(request)?;
        let message_hash = *payment.message_hash();
        let asker = asker_of(request);
        // Before anything is waited for, so that two requests at the same time are one payment and one refusal.
        let sole = self.under_way.take(message_hash).ok_or_else(|| refuse(&payment, Fault::Duplicate))?;
        let known = app.sequencer.ask(move |desk| desk.payment(&message_hash)).await?;
        let fate = match known {
            Some(known) if known.is_granted_to_another(&asker) => return Err(refuse(&payment, Fault::Duplicate)),
            Some(PaymentRecord { attempt, granted_to: Some(_), .. }) => {
                return Ok(Granted { payment, sent: attempt.signature, is_new: false });
            }
            Some(known) => self.resume(app, &payment, known.attempt).await?,
            None => self.begin(app, &payment).await?,
        };
        let outcome = conclude(app, &payment, asker, fate).await;
        drop(sole);
        outcome
    }

    /// Sends a payment for the first time.
    async fn begin<C: Chain>(&self, app: &App<C>, payment: &Payment) -> Result<(Attempt, Fate), Refusal> {
        app.takes_on()?;
        let turns = Turns::of(app, payment)?;
        let attempt = app.in_time(app.settler.sponsored_attempt(payment.transaction())).await?;
        let (looked, asked) = tokio::join!(
            app.in_time(app.settler.resolve(std::slice::from_ref(&attempt))),
            self.ask_chain(app, payment)
        );
        match looked?.into_iter().next() {
            // On chain, and not known here: it was settled and forgotten, longer ago than its blockhash lives.
            Some(Fate::Landed { .. }) => return Err(refuse(payment, Fault::Duplicate)),
            Some(Fate::Failed { .. }) => return Err(refuse_sent(payment, Fault::TransactionFailed, attempt.signature)),
            Some(Fate::Unknown | Fate::Expired) | None => {}
        }
        asked?;
        turns.count();
        let share = app.allowance().take(self.highest_fee(), clock());
        let share = share.map_err(|_| refuse(payment, Fault::SponsorSpent))?;
        send(app, payment, attempt, Some(share)).await
    }

    /// Asks what became of a payment that was sent, and sends the very same again while that is open.
    async fn resume<C: Chain>(
        &self,
        app: &App<C>,
        payment: &Payment,
        attempt: Attempt,
    ) -> Result<(Attempt, Fate), Refusal> {
        let pending = || refuse_sent(payment, Fault::Pending, attempt.signature);
        let looked = app.in_time(app.settler.resolve(std::slice::from_ref(&attempt))).await.map_err(|_| pending())?;
        match looked.into_iter().next() {
            Some(fate) if fate != Fate::Unknown => {
                if matches!(fate, Fate::Landed { .. } | Fate::Failed { .. }) {
                    Notes { app, payment, share: None }.billed(attempt.signature);
                }
                Ok((attempt, fate))
            }
            _ => send(app, payment, attempt, None).await,
        }
    }

    /// Forgets payments that can neither land nor be asked for any more, and says what it cannot say of the others.
    pub(super) async fn forget_what_is_over<C: Chain>(&self, app: &App<C>) -> Result<(), Rejection> {
        let Some(_visit) = app.holding.enter(&PAYMENTS, To::Begin) else { return Ok(()) };
        let oldest = app.sequencer.insist(|desk| desk.payments().map(last_valid).min()).await?;
        let Some(oldest) = oldest else { return Ok(()) };
        let height = app.settler.finalized_height().await?;
        let is_over = move |record: &PaymentRecord| last_valid(record).saturating_add(BLOCKS_BEHIND) < height;
        if oldest.saturating_add(BLOCKS_BEHIND) >= height {
            return Ok(());
        }
        let over =
            app.sequencer.insist(move |desk| desk.payments().filter(|record| is_over(record)).copied().collect());
        let over: Vec<PaymentRecord> = over.await?;
        for record in over {
            // Being asked for this very moment: next time.
            let Some(_sole) = self.under_way.take(record.message_hash) else { continue };
            let untold = record.granted_to.is_none() && last_valid(&record).saturating_add(BLOCKS_TO_ASK) >= height;
            let landed = untold
                && app.settler.resolve(&[record.attempt]).await?.iter().any(|fate| matches!(fate, Fate::Landed { .. }));
            if !landed {
                app.sequencer.insist(move |desk| desk.end_payment(record.message_hash)).await?;
            }
        }
        Ok(())
    }
}

/// Who asks, by the name of its settlement.
fn asker_of(request: &ExactRequest) -> [u8; 32] {
    let name = request.settlement_id.as_ref();
    name.map_or(PaymentRecord::UNNAMED, |name| Sha2::sha256(&[b"tallybook:settlement:v1", name.as_bytes()]))
}

const fn last_valid(record: &PaymentRecord) -> u64 {
    record.attempt.last_valid_block_height
}

/// Co-signs, records and sends, in the time that a request has.
async fn send<C: Chain>(
    app: &App<C>,
    payment: &Payment,
    attempt: Attempt,
    share: Option<Share>,
) -> Result<(Attempt, Fate), Refusal> {
    let notes = Notes { app, payment, share };
    match app.in_time(app.settler.send_sponsored(payment.transaction(), &attempt, &notes)).await {
        Ok(fate) => Ok((attempt, fate)),
        Err(rejection) => {
            // It may have been sent, if it was written down.
            let message_hash = *payment.message_hash();
            match app.sequencer.insist(move |desk| desk.payment(&message_hash)).await {
                Ok(None) => Err(rejection.into()),
                Ok(Some(_)) | Err(_) => Err(refuse_sent(payment, Fault::Pending, attempt.signature)),
            }
        }
    }
}

/// Makes durable what was decided before anybody is told: a payment that was granted is granted to nobody else.
async fn conclude<C: Chain>(
    app: &App<C>,
    payment: &Payment,
    asker: [u8; 32],
    (attempt, fate): (Attempt, Fate),
) -> Result<Granted, Refusal> {
    let (message_hash, signature) = (*payment.message_hash(), attempt.signature);
    let pending = |_| refuse_sent(payment, Fault::Pending, signature);
    match fate {
        Fate::Unknown => Err(refuse_sent(payment, Fault::Pending, signature)),
        Fate::Landed { .. } => {
            let granted = PaymentRecord { message_hash, attempt, granted_to: Some(asker) };
            app.sequencer.insist(move |desk| desk.keep_payment(granted)).await.map_err(pending)?;
            Ok(Granted { payment: payment.clone(), sent: signature, is_new: true })
        }
        Fate::Failed { failure, .. } => {
            tracing::info!(%failure, "a payment failed on chain");
            app.sequencer.insist(move |desk| desk.end_payment(message_hash)).await.map_err(pending)?;
            Err(refuse_sent(payment, Fault::TransactionFailed, signature))
        }
        Fate::Expired => {
            app.sequencer.insist(move |desk| desk.end_payment(message_hash)).await.map_err(pending)?;
            Err(refuse(payment, Fault::TransactionFailed))
        }
    }
}

/// The settler's notes on one payment.
struct Notes<'a, C> {
    app: &'a App<C>,
    payment: &'a Payment,
    share: Option<Share>,
}

impl<C: Chain> Journal for Notes<'_, C> {
    async fn record(&self, attempt: Attempt) -> Result<(), Rejection> {
        let record = PaymentRecord { message_hash: *self.payment.message_hash(), attempt, granted_to: None };
        self.app.sequencer.insist(move |desk| desk.keep_payment(record)).await
    }

    async fn table(&self, _: &[u8; 32]) -> Result<Option<[u8; 32]>, Rejection> {
        Ok(None)
    }

    async fn keep_table(&self, _: &[u8; 32], _: &[u8; 32]) -> Result<(), Rejection> {
        Ok(())
    }

    fn billed(&self, signature: [u8; 64]) {
        let payee = self.payment.pay_to().to_bytes();
        self.app.bills.put(Bill { share: self.share, ..Bill::whole(signature, payee, Expense::Payments) });
    }
}
