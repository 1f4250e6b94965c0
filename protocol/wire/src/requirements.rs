use crate::{Key, Network, Reason, SCHEME, Scheme, Signature, Version, decimal};
use core::num::NonZeroU32;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error, ser::Error as _};
use serde_json::{Map, Value};
use tallybook_rules::{Amount, Rejection};

/// What is sold: `resource` of x402 v2.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ResourceInfo {
    /// Where.
    pub url: String,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Media type of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mime_type: Option<String>,
    /// Members that we do not read, kept for the echo.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// The body and `PAYMENT-REQUIRED` header of a 402.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PaymentRequired {
    /// 2.
    pub x402_version: Version,
    /// Why payment is asked for (again).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Reason>,
    /// The same for people, and what to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// What is sold.
    pub resource: ResourceInfo,
    /// The ways to pay.
    pub accepts: Vec<Accept>,
    /// Extensions, not read by us and echoed by clients.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extensions: Option<Map<String, Value>>,
}

impl PaymentRequired {
    /// A 402 that offers `requirements` alone.
    pub fn new(resource: ResourceInfo, requirements: PaymentRequirements, error: Option<Reason>) -> Self {
        Self::any_of(resource, vec![Accept::Channel(Box::new(requirements))], error)
    }

    /// A 402 that offers several ways to pay, the ones that the server likes best first.
    pub fn any_of(resource: ResourceInfo, accepts: Vec<Accept>, error: Option<Reason>) -> Self {
        let message = error.as_ref().map(|reason| reason.advice().to_owned());
        Self { x402_version: Version, error, message, resource, accepts, extensions: None }
    }

    /// The offers of our scheme; those of others are skipped.
    pub fn channel_offers(&self) -> impl Iterator<Item = &PaymentRequirements> {
        self.accepts.iter().filter_map(|accept| match accept {
            Accept::Channel(requirements) => Some(requirements.as_ref()),
            Accept::Foreign(_) => None,
        })
    }
}

/// One entry of `accepts`.
#[derive(Clone, PartialEq, Debug)]
pub enum Accept {
    /// Our scheme.
    Channel(Box<PaymentRequirements>),
    /// Another scheme: carried along, not read.
    Foreign(Value),
}

impl Serialize for Accept {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Channel(requirements) => requirements.serialize(serializer),
            Self::Foreign(value) if is_ours(value) => Err(S::Error::custom(Rejection::MalformedPayload)),
            Self::Foreign(value) => value.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Accept {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        if is_ours(&value) {
            let requirements = PaymentRequirements::deserialize(value).map_err(D::Error::custom)?;
            Ok(Self::Channel(Box::new(requirements)))
        } else {
            Ok(Self::Foreign(value))
        }
    }
}

fn is_ours(accept: &Value) -> bool {
    accept.get("scheme").and_then(Value::as_str) == Some(SCHEME)
}

/// One way to pay: `PaymentRequirements` of x402 v2 with our scheme's `extra`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PaymentRequirements {
    /// `@tallybook/channel`.
    pub scheme: Scheme,
    /// The cluster.
    pub network: Network,
    /// The price of the call, in base units of `asset`.
    #[serde(with = "decimal")]
    pub amount: Amount,
    /// The mint.
    pub asset: Key,
    /// The payee.
    pub pay_to: Key,
    /// How long a call's reservation lasts, in seconds.
    pub max_timeout_seconds: NonZeroU32,
    /// What the scheme needs besides.
    pub extra: Extra,
    /// Members that we do not read, kept for the echo.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl PaymentRequirements {
    /// Refuses an echo (`self`) of other requirements than `offered`: [`Rejection::WrongNetwork`],
    /// [`Rejection::RequirementsMismatch`], or [`Rejection::WrongPrice`]. Slot and blockhash are not compared: they
    /// are hints, which change from offer to offer.
    pub fn answers(&self, offered: &Self) -> Result<(), Rejection> {
        self.is_of(offered)?;
        if self.amount == offered.amount { Ok(()) } else { Err(Rejection::WrongPrice) }
    }

    /// As [`Self::answers`], whatever the amounts.
    pub(crate) fn is_of(&self, offered: &Self) -> Result<(), Rejection> {
        let same_terms = self.asset == offered.asset
            && self.pay_to == offered.pay_to
            && self.extra.book == offered.extra.book
            && self.extra.fee_payer == offered.extra.fee_payer;
        if self.network != offered.network {
            Err(Rejection::WrongNetwork)
        } else if !same_terms {
            Err(Rejection::RequirementsMismatch)
        } else {
            Ok(())
        }
    }
}

/// `extra` of our scheme's requirements.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Extra {
    /// The payee's book.
    pub book: Key,
    /// Tells books of one payee and mint apart; with payee and mint it derives `book`.
    pub book_id: u16,
    /// The page of the slot that is offered.
    pub page: Key,
    /// A slot that is free, as far as is known: a hint, held for nobody.
    pub slot: u8,
    /// The generation that opening the slot gives it.
    pub generation: u32,
    /// Who pays the network's fees: the fee payer of a deposit's transaction.
    pub fee_payer: Key,
    /// The grace period, in seconds.
    pub withdraw_delay: u32,
    /// The smallest deposit, in base units.
    #[serde(with = "decimal")]
    pub min_deposit: Amount,
    /// SPL Token or Token-2022.
    pub token_program: Key,
    /// Decimals of the mint.
    pub decimals: u8,
    /// True when `amount` is a ceiling: the call may cost less.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub metered: bool,
    /// A blockhash to save the client a question; a hint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recent_blockhash: Option<Key>,
    /// Corrective answers only: where the channel stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel_state: Option<ChannelState>,
    /// Corrective answers only: the newest voucher that the server holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub voucher_state: Option<VoucherState>,
    /// Members that we do not read, kept for the echo.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// Where a channel stands in the server's ledger.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChannelState {
    /// Which channel.
    pub channel_id: Key,
    /// Its deposit, in base units.
    #[serde(with = "decimal")]
    pub balance: Amount,
    /// What was settled on chain, in base units.
    #[serde(with = "decimal")]
    pub total_claimed: Amount,
    /// What calls really cost so far, in base units: the next voucher is this plus the price.
    #[serde(with = "decimal")]
    pub charged_cumulative_amount: Amount,
}

/// The newest voucher that the server holds, so that the signer can check it against its own key.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VoucherState {
    /// Its cumulative amount, in base units.
    #[serde(with = "decimal")]
    pub signed_max_claimable: Amount,
    /// Its signature.
    pub signature: Signature,
}
