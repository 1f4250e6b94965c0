//! A resource server: it has each call reserved, runs it, and has it committed, as a paywall does.

use crate::ground::{Ground, key};
use crate::line::{Line, NoAnswer};
use crate::trace::Trace;
use crate::truth::Truth;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use solana_signer::Signer;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tallybook_chain::transaction::{from_bytes, to_bytes};
use tallybook_rules::signing::SignedVoucher;
use tallybook_rules::{Amount, Rejection};
use tallybook_wire::{
    AnswerExtra, ChannelPayload, ChannelState, FacilitatorRequest, Offer, PaymentPayload, ReleaseResponse,
    SettleResponse, TransactionBytes, VerifyResponse,
};

/// How often a commit is tried before its outcome stays unknown.
const COMMITS: u32 = 6;

/// A call that somebody pays for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    pub(crate) voucher: SignedVoucher,
    /// The most that it may cost.
    pub(crate) price: u64,
    /// What it will have cost.
    pub(crate) charge: u64,
    /// Its work never takes longer than it is reserved for.
    pub(crate) is_quick: bool,
}

/// How a call ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Served {
    /// Answered, and charged; where the channel stands now.
    Answered(u64),
    /// The payment was refused before the work began.
    Refused(Option<Rejection>, Option<ChannelState>),
    /// The work has failed, or nobody could be asked: nothing is charged.
    Not,
    /// The work was done; whether it is charged is not known.
    Unknown,
}

#[derive(Clone)]
pub(crate) struct Shop {
    pub(crate) ground: &'static Ground,
    pub(crate) line: Line,
    pub(crate) truth: Truth,
    pub(crate) trace: Trace,
    /// For how long a call is reserved, in seconds.
    pub(crate) timeout_seconds: NonZeroU32,
    random: Arc<Mutex<StdRng>>,
}

impl Shop {
    pub(crate) fn new(ground: &'static Ground, line: Line, truth: Truth, trace: Trace, seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let timeout_seconds = NonZeroU32::new(random.random_range(2..30)).expect("not zero");
        Self { ground, line, truth, trace, timeout_seconds, random: Arc::new(Mutex::new(random)) }
    }

    fn draw(&self, range: std::ops::Range<u64>) -> u64 {
        self.random.lock().unwrap().random_range(range)
    }

    /// What a 402 says.
    pub(crate) async fn offer(&self) -> Result<Offer, NoAnswer> {
        self.line.get(&format!("/books/{}/offer", self.ground.book.address)).await
    }

    /// A payment of `price` by `payload`, for which `charge` is asked.
    pub(crate) fn request(
        &self,
        offer: &Offer,
        payload: ChannelPayload,
        price: u64,
        charge: u64,
    ) -> FacilitatorRequest {
        let accepted = offer.priced(Amount::new(price), self.timeout_seconds);
        let required = offer.priced(Amount::new(charge), self.timeout_seconds);
        FacilitatorRequest::new(PaymentPayload::new(accepted, payload), required)
    }

    /// Takes a call from its payment to its answer.
    pub(crate) async fn serve(&self, offer: &Offer, call: Call) -> Served {
        let id = call.voucher.channel_id;
        let payload = ChannelPayload::Voucher { voucher: call.voucher.into() };
        let reserve = self.request(offer, payload.clone(), call.price, call.price);
        match self.line.post("/verify", &reserve).await {
            Ok(VerifyResponse::Valid { .. }) => {}
            Ok(VerifyResponse::Invalid { reason, extra, .. }) => {
                self.truth.count(|counts| counts.refused += 1);
                return Served::Refused(reason.rejection(), extra.channel_state);
            }
            Err(_) => return Served::Not,
        }
        // The handler. Sometimes it takes longer than it may, sometimes it fails.
        let most =
            if self.draw(0..20) == 0 && !call.is_quick { u64::from(self.timeout_seconds.get()) * 1_500 } else { 600 };
        let takes = self.draw(0..most);
        tokio::time::sleep(Duration::from_millis(takes)).await;
        if self.draw(0..10) == 0 {
            let released: Result<ReleaseResponse, _> = self.line.post("/release", &reserve).await;
            self.trace.note(format_args!("shop: released {}: {released:?}", name(&id)));
            return Served::Not;
        }
        let commit = self.request(offer, payload, call.price, call.charge);
        self.commit(&commit, call).await
    }

    async fn commit(&self, commit: &FacilitatorRequest, call: Call) -> Served {
        let id = call.voucher.channel_id;
        self.truth.of(&id, |known| known.high += call.charge);
        let mut lost = false;
        for _ in 0..COMMITS {
            let answer = self.line.post("/settle", commit).await;
            self.trace.note(format_args!("shop: commit {} {} {}", name(&id), call.charge, outcome(&answer)));
            match answer {
                Ok(SettleResponse::Settled { extra, .. }) => return self.answered(call, &extra),
                Ok(SettleResponse::Failed { .. }) if lost => return self.unknown(),
                Ok(SettleResponse::Failed { reason, .. }) => {
                    // It says for certain that nothing is charged: the work was for nothing.
                    self.truth.of(&id, |known| known.high -= call.charge);
                    return Served::Refused(reason.rejection(), None);
                }
                Err(NoAnswer::NotReached) => {}
                Err(NoAnswer::Lost | NoAnswer::Refused(_)) => lost = true,
            }
            let pause = self.draw(100..1_500);
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
        if lost {
            return self.unknown();
        }
        self.truth.of(&id, |known| known.high -= call.charge);
        Served::Not
    }

    fn unknown(&self) -> Served {
        self.truth.count(|counts| counts.unknown += 1);
        Served::Unknown
    }

    fn answered(&self, call: Call, extra: &AnswerExtra) -> Served {
        let id = call.voucher.channel_id;
        let charged = extra.channel_state.map_or(0, |state| state.charged_cumulative_amount.get());
        if extra.charged_amount.map(Amount::get) != Some(call.charge) {
            self.truth.breach(format!(
                "{}: {} was to be charged, and {:?} was",
                name(&id),
                call.charge,
                extra.charged_amount
            ));
        }
        self.truth.of(&id, |known| {
            known.low += call.charge;
            let larger = |kept: &(SignedVoucher, u64)| kept.0.cumulative >= call.voucher.cumulative;
            let voucher = known.newest.filter(larger).map_or(call.voucher, |kept| kept.0);
            known.newest = Some((voucher, charged));
        });
        self.truth.count(|counts| counts.answered += 1);
        Served::Answered(charged)
    }

    /// Signs as operator what the facilitator has prepared.
    pub(crate) fn sign(&self, unsigned: &TransactionBytes) -> TransactionBytes {
        let operator = key("operator");
        let mut transaction = from_bytes(unsigned.as_bytes()).expect("the facilitator's transaction");
        let keys = transaction.message.static_account_keys();
        let at = keys.iter().position(|key| *key == operator.pubkey()).expect("the operator's place");
        transaction.signatures[at] = operator.sign_message(&transaction.message.serialize());
        TransactionBytes::new(to_bytes(&transaction).expect("small enough")).expect("small enough")
    }
}

fn outcome(answer: &Result<SettleResponse, NoAnswer>) -> String {
    match answer {
        Ok(SettleResponse::Settled { .. }) => "settled".to_owned(),
        Ok(SettleResponse::Failed { reason, .. }) => format!("failed {reason:?}"),
        Err(error) => format!("{error:?}"),
    }
}

/// A channel's short name.
pub(crate) fn name(id: &[u8; 32]) -> String {
    id[..3].iter().map(|byte| format!("{byte:02x}")).collect()
}
