use crate::{Key, PaymentRequirements, ResourceInfo, Signature, TransactionBytes, Version, decimal};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tallybook_rules::signing::{SignedVoucher, channel_id};
use tallybook_rules::{Amount, Rejection};

/// The `PAYMENT-SIGNATURE` header: how the client pays.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PaymentPayload {
    /// 2.
    pub x402_version: Version,
    /// What is bought, as the 402 said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<ResourceInfo>,
    /// The entry of `accepts` that this answers, echoed.
    pub accepted: PaymentRequirements,
    /// The payment.
    pub payload: ChannelPayload,
    /// Extensions, echoed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extensions: Option<Map<String, Value>>,
}

impl PaymentPayload {
    /// A payment by `payload` for `accepted`.
    pub const fn new(accepted: PaymentRequirements, payload: ChannelPayload) -> Self {
        Self { x402_version: Version, resource: None, accepted, payload, extensions: None }
    }
}

/// The payment of our scheme.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", try_from = "RawPayload")]
pub enum ChannelPayload {
    /// Opens a channel, and pays the call with its first voucher.
    Deposit {
        /// The channel to be.
        channel: Channel,
        /// Its first voucher: the price of this call.
        voucher: Voucher,
        /// The payer-signed transaction.
        deposit: Deposit,
    },
    /// Pays a call from an open channel.
    Voucher {
        /// `charged + amount`.
        voucher: Voucher,
    },
    /// Asks for a cooperative close.
    Refund {
        /// The newest voucher, at exactly the charged amount.
        voucher: Voucher,
        /// From the resource server to the facilitator's `/settle` only: the transaction, signed by the operator.
        #[serde(skip_serializing_if = "Option::is_none")]
        transaction: Option<TransactionBytes>,
    },
}

/// The same, read in one go: a tag that may come last would otherwise have every member copied first.
#[derive(Deserialize)]
struct RawPayload {
    #[serde(rename = "type")]
    kind: PayloadKind,
    channel: Option<Channel>,
    voucher: Voucher,
    deposit: Option<Deposit>,
    transaction: Option<TransactionBytes>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum PayloadKind {
    Deposit,
    Voucher,
    Refund,
}

impl TryFrom<RawPayload> for ChannelPayload {
    type Error = Rejection;

    fn try_from(raw: RawPayload) -> Result<Self, Rejection> {
        let RawPayload { kind, channel, voucher, deposit, transaction } = raw;
        match kind {
            PayloadKind::Voucher => Ok(Self::Voucher { voucher }),
            PayloadKind::Refund => Ok(Self::Refund { voucher, transaction }),
            PayloadKind::Deposit => match channel.zip(deposit) {
                Some((channel, deposit)) => Ok(Self::Deposit { channel, voucher, deposit }),
                None => Err(Rejection::MalformedPayload),
            },
        }
    }
}

impl ChannelPayload {
    /// The voucher, which every payment carries.
    pub const fn voucher(&self) -> &Voucher {
        match self {
            Self::Deposit { voucher, .. } | Self::Voucher { voucher } | Self::Refund { voucher, .. } => voucher,
        }
    }
}

/// Everything that names a channel but the program and the cluster, which are pinned and never sent.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Channel {
    /// Who funds it.
    pub payer: Key,
    /// Whose vouchers bind it.
    pub signer: Key,
    /// The payee's book.
    pub book: Key,
    /// The page.
    pub page: Key,
    /// The slot in the page.
    pub slot: u8,
    /// The slot's generation once open.
    pub generation: u32,
}

impl Channel {
    /// The channel's id under a page domain (which binds program, cluster and page).
    pub fn id(&self, page_domain: &[u8; 32]) -> Key {
        channel_id(page_domain, self.slot, self.generation, &self.payer.0, &self.signer.0).into()
    }
}

/// A voucher: 43 bytes signed, which the receiver rebuilds from these members.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Voucher {
    /// Which channel pays.
    pub channel_id: Key,
    /// The total since the channel was opened, in base units.
    #[serde(with = "decimal")]
    pub max_claimable_amount: Amount,
    /// The signer's.
    pub signature: Signature,
}

impl From<SignedVoucher> for Voucher {
    fn from(voucher: SignedVoucher) -> Self {
        Self {
            channel_id: voucher.channel_id.into(),
            max_claimable_amount: voucher.cumulative,
            signature: voucher.signature.into(),
        }
    }
}

impl From<Voucher> for SignedVoucher {
    fn from(voucher: Voucher) -> Self {
        Self {
            channel_id: voucher.channel_id.into(),
            cumulative: voucher.max_claimable_amount,
            signature: voucher.signature.into(),
        }
    }
}

/// What a deposit moves.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Deposit {
    /// How much, in base units.
    #[serde(with = "decimal")]
    pub amount: Amount,
    /// The transaction that the payer signed and the fee payer has yet to sign.
    pub transaction: TransactionBytes,
}
