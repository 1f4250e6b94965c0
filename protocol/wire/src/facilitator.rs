use crate::{
    ChannelState, Key, Network, PaymentPayload, PaymentRequirements, Reason, Signature, TransactionBytes, Version,
    VoucherState, decimal,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tallybook_rules::{Amount, Rejection};

/// The body of `POST /verify`, `/settle` and `/release`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FacilitatorRequest {
    /// 2.
    pub x402_version: Version,
    /// What the client sent.
    pub payment_payload: PaymentPayload,
    /// What the resource server asked for.
    pub payment_requirements: PaymentRequirements,
}

/// `POST /verify`: reserve a voucher, check a deposit, or build the transaction of a refund.
pub type VerifyRequest = FacilitatorRequest;
/// `POST /settle`: commit a voucher, send a deposit or a refund.
pub type SettleRequest = FacilitatorRequest;
/// `POST /release`: give a reserved voucher back after a failed handler.
pub type ReleaseRequest = FacilitatorRequest;

impl FacilitatorRequest {
    /// Asks about `payment` under `requirements`.
    pub const fn new(payment: PaymentPayload, requirements: PaymentRequirements) -> Self {
        Self { x402_version: Version, payment_payload: payment, payment_requirements: requirements }
    }

    /// Refuses a payment that was made for other requirements; see [`PaymentRequirements::answers`].
    pub fn check(&self) -> Result<(), Rejection> {
        self.payment_payload.accepted.answers(&self.payment_requirements)
    }

    /// As [`Self::check`] for `POST /settle`, where `amount` of the requirements is what the call really cost:
    /// [`Rejection::ChargeAboveCeiling`] when that is more than what was accepted.
    pub fn check_charge(&self) -> Result<(), Rejection> {
        let (accepted, required) = (&self.payment_payload.accepted, &self.payment_requirements);
        accepted.is_of(required)?;
        if required.amount > accepted.amount { Err(Rejection::ChargeAboveCeiling) } else { Ok(()) }
    }
}

/// What an answer carries besides: only what applies is set.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AnswerExtra {
    /// Where the channel stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel_state: Option<ChannelState>,
    /// The newest voucher that is held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub voucher_state: Option<VoucherState>,
    /// What this call cost, in base units.
    #[serde(default, with = "decimal::option", skip_serializing_if = "Option::is_none")]
    pub charged_amount: Option<Amount>,
    /// Verified refund: the transaction that the book's operator is to check and sign.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transaction: Option<TransactionBytes>,
}

impl AnswerExtra {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The answer of `POST /verify`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "RawVerify", into = "RawVerify")]
pub enum VerifyResponse {
    /// The payment holds: a voucher is reserved, a deposit may be settled, a refund has its transaction.
    Valid {
        /// Who pays.
        payer: Key,
        /// Where the channel stands; the transaction of a refund.
        extra: AnswerExtra,
    },
    /// It does not.
    Invalid {
        /// Why.
        reason: Reason,
        /// Who would pay, if that is known.
        payer: Option<Key>,
        /// Where the channel stands, if it was the amount.
        extra: AnswerExtra,
    },
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawVerify {
    is_valid: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    payer: Option<Key>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    invalid_reason: Option<Reason>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    invalid_message: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    extra: Option<AnswerExtra>,
}

impl TryFrom<RawVerify> for VerifyResponse {
    type Error = Rejection;

    fn try_from(raw: RawVerify) -> Result<Self, Rejection> {
        let extra = raw.extra.unwrap_or_default();
        match (raw.is_valid, raw.payer, raw.invalid_reason) {
            (true, Some(payer), _) => Ok(Self::Valid { payer, extra }),
            (false, payer, Some(reason)) => Ok(Self::Invalid { reason, payer, extra }),
            (true, None, _) | (false, _, None) => Err(Rejection::MalformedPayload),
        }
    }
}

impl From<VerifyResponse> for RawVerify {
    fn from(response: VerifyResponse) -> Self {
        let (is_valid, payer, reason, extra) = match response {
            VerifyResponse::Valid { payer, extra } => (true, Some(payer), None, extra),
            VerifyResponse::Invalid { reason, payer, extra } => (false, payer, Some(reason), extra),
        };
        Self {
            is_valid,
            payer,
            invalid_message: reason.as_ref().map(|reason| reason.advice().to_owned()),
            invalid_reason: reason,
            extra: Some(extra).filter(|extra| !extra.is_empty()),
        }
    }
}

/// The answer of `POST /settle`, and the `PAYMENT-RESPONSE` header.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "RawSettle", into = "RawSettle")]
pub enum SettleResponse {
    /// Durable: the voucher is stored, or the transaction is confirmed.
    Settled {
        /// The transaction, where there was one.
        transaction: Option<Signature>,
        /// The cluster.
        network: Network,
        /// Who paid.
        payer: Key,
        /// Deposit: what was deposited; refund: what went back. In base units.
        amount: Option<Amount>,
        /// Where the channel stands, and what the call cost.
        extra: AnswerExtra,
    },
    /// Not settled, or ([`Rejection::SettlementPending`]) not known yet.
    Failed {
        /// Why.
        reason: Reason,
        /// The transaction that was sent, where there was one.
        transaction: Option<Signature>,
        /// The cluster.
        network: Network,
        /// Who would have paid, if that is known.
        payer: Option<Key>,
        /// Where the channel stands.
        extra: AnswerExtra,
    },
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawSettle {
    success: bool,
    /// `""` for none.
    transaction: String,
    network: Network,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    payer: Option<Key>,
    #[serde(default, with = "decimal::option", skip_serializing_if = "Option::is_none")]
    amount: Option<Amount>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error_reason: Option<Reason>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error_message: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    extra: Option<AnswerExtra>,
}

impl TryFrom<RawSettle> for SettleResponse {
    type Error = Rejection;

    fn try_from(raw: RawSettle) -> Result<Self, Rejection> {
        let transaction = match raw.transaction.as_str() {
            "" => None,
            signature => Some(signature.parse()?),
        };
        let (network, extra) = (raw.network, raw.extra.unwrap_or_default());
        match (raw.success, raw.payer, raw.error_reason) {
            (true, Some(payer), _) => Ok(Self::Settled { transaction, network, payer, amount: raw.amount, extra }),
            (false, payer, Some(reason)) => Ok(Self::Failed { reason, transaction, network, payer, extra }),
            (true, None, _) | (false, _, None) => Err(Rejection::MalformedPayload),
        }
    }
}

impl From<SettleResponse> for RawSettle {
    fn from(response: SettleResponse) -> Self {
        let text = |signature: Option<Signature>| signature.map(String::from).unwrap_or_default();
        let some = |extra: AnswerExtra| Some(extra).filter(|extra| !extra.is_empty());
        match response {
            SettleResponse::Settled { transaction, network, payer, amount, extra } => Self {
                success: true,
                transaction: text(transaction),
                network,
                payer: Some(payer),
                amount,
                error_reason: None,
                error_message: None,
                extra: some(extra),
            },
            SettleResponse::Failed { reason, transaction, network, payer, extra } => Self {
                success: false,
                transaction: text(transaction),
                network,
                payer,
                amount: None,
                error_message: Some(reason.advice().to_owned()),
                error_reason: Some(reason),
                extra: some(extra),
            },
        }
    }
}

/// The answer of `POST /release`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ReleaseResponse {
    /// False when there was no such reservation (any more), which is as good.
    pub released: bool,
}

/// `extra` of our scheme's kind.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KindExtra {
    /// The sponsor: who pays the network's fees.
    pub fee_payer: Key,
    /// The program; to compare with one's own, never to take over.
    pub program_id: Key,
    /// The cluster; to compare with one's own, never to take over.
    pub genesis_hash: Key,
    /// Members that we do not read.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}
