//! What an answer to a paid request means. Pure but for reading a 402's body.

use crate::error::AgentError;
use http::{HeaderMap, StatusCode, header::RETRY_AFTER};
use reqwest::Response;
use std::time::Duration;
use tallybook_rules::{Amount, Rejection};
use tallybook_wire::{
    AnswerExtra, Key, MAX_BODY_BYTES, PAYMENT_METER, PAYMENT_REQUIRED, PAYMENT_RESPONSE, PaymentRequired, Reason,
    SettleResponse, Signature, Statement, read_body, read_header,
};

/// The receipt of a paid call: its `PAYMENT-RESPONSE` header, if there is one that can be read.
pub fn receipt(headers: &HeaderMap) -> Option<SettleResponse> {
    let value = headers.get(PAYMENT_RESPONSE)?;
    read_header(value.as_bytes()).ok()
}

/// The server's signed receipt of a paid call, if it gives one (x402, `offer-receipt`). Not checked yet.
pub fn signed_receipt(headers: &HeaderMap) -> Option<Statement> {
    Statement::in_response(headers.get(PAYMENT_RESPONSE)?.as_bytes())
}

/// What is known of a paid call once its answer's head is there.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// Served and charged, as the receipt says.
    Charged(Box<Receipt>),
    /// Served as a stream, which is paid for as it comes: the name of its meter.
    Streams(String),
    /// The handler failed, nothing was charged.
    NotCharged,
    /// An answer, but nothing that says whether it was charged.
    Unclear,
    /// The paywall refuses for now, before anything was charged. Names the transaction of a deposit or refund that was sent and
    /// whose outcome is not known.
    Refused(Reason, Option<Duration>, Option<Signature>),
    /// Somebody between did not get an answer.
    Lost(Option<Duration>),
    /// Another payment is asked for.
    PayAgain,
}

/// What a receipt says that we look at.
#[derive(Clone, Debug)]
pub(crate) struct Receipt {
    pub(crate) extra: AnswerExtra,
    pub(crate) transaction: Option<Signature>,
    /// The server's signed receipt, as it came.
    pub(crate) statement: Option<Statement>,
}

impl Receipt {
    /// What the channel was charged in all, as the server says, `before` being known: the state of this channel, else
    /// what the call cost.
    pub(crate) fn total(&self, channel: &Key, before: Amount) -> Option<Amount> {
        let state = self.extra.channel_state.filter(|state| state.channel_id == *channel);
        let cost = self.extra.charged_amount.and_then(|cost| before.plus(cost).ok());
        state.map(|state| state.charged_cumulative_amount).or(cost)
    }
}

/// How long the server asks to wait, if it does so in seconds.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// What the head of an answer says.
pub(crate) fn outcome(status: StatusCode, headers: &HeaderMap) -> Outcome {
    let retry_after = retry_after(headers);
    let asks_for_nothing = !headers.contains_key(PAYMENT_REQUIRED);
    match receipt(headers) {
        // As x402's own middlewares say that a settlement failed after the handler has run.
        Some(SettleResponse::Failed { reason, transaction, .. }) if asks_for_nothing => {
            Outcome::Refused(reason, retry_after, transaction)
        }
        _ if status == StatusCode::PAYMENT_REQUIRED => Outcome::PayAgain,
        Some(SettleResponse::Settled { extra, transaction, .. }) => {
            Outcome::Charged(Box::new(Receipt { extra, transaction, statement: signed_receipt(headers) }))
        }
        Some(SettleResponse::Failed { reason, transaction, .. }) => Outcome::Refused(reason, retry_after, transaction),
        None if status.is_success() && meter(headers).is_some() => {
            meter(headers).map_or(Outcome::Unclear, Outcome::Streams)
        }
        None if status == StatusCode::BAD_GATEWAY || status == StatusCode::GATEWAY_TIMEOUT => {
            Outcome::Lost(retry_after)
        }
        None if status.is_client_error() => Outcome::NotCharged,
        None => Outcome::Unclear,
    }
}

/// The name of a stream's meter, if there is one: 32 hexadecimal digits.
pub(crate) fn meter(headers: &HeaderMap) -> Option<String> {
    let name = headers.get(PAYMENT_METER)?.to_str().ok()?;
    let is_name = name.len() == 32 && name.bytes().all(|digit| digit.is_ascii_hexdigit());
    is_name.then(|| name.to_owned())
}

/// The offer of a 402: its header, or where a proxy has dropped that, its body.
pub(crate) async fn payment_required(mut response: Response) -> Result<PaymentRequired, AgentError> {
    if let Some(value) = response.headers().get(PAYMENT_REQUIRED) {
        return read_header(value.as_bytes()).map_err(AgentError::Unreadable);
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_BODY_BYTES {
            return Err(AgentError::Unreadable(Rejection::RequestTooLarge));
        }
    }
    read_body(&body).map_err(AgentError::Unreadable)
}

/// What to do about a payment that was refused for this reason.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Remedy {
    /// Look at the offer again: it changed.
    NewOffer,
    /// Take over where the channel stands.
    Adopt,
    /// The channel is of no more use: take another.
    AnotherChannel,
    /// The deposit did not open the channel: ask the chain, and choose again.
    OpenAgain,
    /// Wait and send the same again.
    Wait,
    /// Nothing helps.
    GiveUp,
}

pub(crate) fn remedy(reason: &Reason) -> Remedy {
    use Rejection as R;
    const TABLE: &[(Remedy, &[R])] = &[
        (Remedy::NewOffer, &[R::WrongPrice, R::RequirementsMismatch]),
        (Remedy::Adopt, &[R::WrongCumulative, R::VoucherUsed]),
        (
            Remedy::AnotherChannel,
            &[R::UnknownChannel, R::UnknownPage, R::ChannelClosing, R::DepositExceeded, R::SlotFree, R::SlotNotOpen],
        ),
        (Remedy::OpenAgain, &[R::SlotTaken, R::WrongGeneration, R::NoSuchSlot, R::SimulationFailed, R::DepositExpired]),
        (
            Remedy::Wait,
            &[
                R::ChannelBusy,
                R::SettlementPending,
                R::NoReservation,
                R::Overloaded,
                R::Draining,
                R::ChainUnavailable,
                R::StoreUnavailable,
                R::FacilitatorUnavailable,
                R::BookFull,
            ],
        ),
    ];
    let Some(rejection) = reason.rejection() else {
        return Remedy::GiveUp;
    };
    let row = TABLE.iter().find(|(_, rejections)| rejections.contains(&rejection));
    row.map_or(Remedy::GiveUp, |(remedy, _)| *remedy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tallybook_rules::Class;

    #[test]
    fn what_can_be_retried_is_retried_and_what_is_final_is_not_waited_for() {
        for rejection in Rejection::ALL.iter().filter(|rejection| rejection.code() >= 100) {
            let remedy = remedy(&Reason::from(*rejection));
            if remedy == Remedy::Wait {
                assert_eq!(rejection.class(), Class::Transient, "{rejection:?}");
            }
        }
        assert_eq!(remedy(&Reason::from("insufficient_funds".to_owned())), Remedy::GiveUp);
    }

    #[test]
    fn an_answer_without_a_receipt_is_charged_only_if_it_may_have_been() {
        let empty = HeaderMap::new();
        let of = |code: u16| outcome(StatusCode::from_u16(code).unwrap(), &empty);
        assert!(matches!(of(404), Outcome::NotCharged));
        assert!(matches!(of(200), Outcome::Unclear));
        assert!(matches!(of(500), Outcome::Unclear));
        assert!(matches!(of(504), Outcome::Lost(None)));
        assert!(matches!(of(402), Outcome::PayAgain));
    }

    #[test]
    fn a_402_that_asks_for_nothing_is_a_settlement_that_failed() {
        let failed = SettleResponse::Failed {
            reason: Rejection::SettlementPending.into(),
            transaction: None,
            network: tallybook_wire::Network::devnet(),
            payer: None,
            extra: AnswerExtra::default(),
        };
        let mut headers = HeaderMap::new();
        headers.insert(PAYMENT_RESPONSE, tallybook_wire::header(&failed).unwrap());
        assert!(matches!(outcome(StatusCode::PAYMENT_REQUIRED, &headers), Outcome::Refused(..)));
        headers.insert(PAYMENT_REQUIRED, http::HeaderValue::from_static("e30="));
        assert!(matches!(outcome(StatusCode::PAYMENT_REQUIRED, &headers), Outcome::PayAgain));
    }
}
