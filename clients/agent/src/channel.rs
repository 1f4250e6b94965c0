//! A channel as its payer knows it. Pure: decides, and leaves signing order, disk and network to the caller.

use crate::budget::Counted;
use crate::paid::{Bought, Paid};
use serde::{Deserialize, Serialize};
use tallybook_rules::signing::{SignedVoucher, SigningKey};
use tallybook_rules::{Amount, Rejection};
use tallybook_wire::{Channel, ChannelState, Key, PaymentRequirements, TransactionBytes, VoucherState, decimal};

/// How many calls ahead the ceiling on disk is raised at a time: one sync pays for so many vouchers.
const CALLS_AHEAD: u64 = 64;

/// What a channel is up to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "snake_case")]
pub enum Phase {
    /// A deposit was signed and may have been sent; the chain says whether it landed.
    Opening {
        /// The last block height at which it can land.
        last_valid_height: u64,
    },
    /// Pays calls.
    Open,
    /// Pays no more calls; its rest is to be had back by a close.
    GivenUp,
    /// Closing on chain.
    Closing {
        /// When it may be withdrawn, in Unix seconds.
        closing_at: i64,
    },
    /// Over; kept for the budget.
    Ended,
}

/// What a payer knows of a channel by itself, and holds against what a server says of it. Amounts in base units.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Known {
    /// The channel's id, as the payer computed it.
    pub id: Key,
    /// The key that signs its vouchers.
    pub signer: [u8; 32],
    /// What calls cost so far, as far as their outcome was seen.
    pub charged: Amount,
    /// The most that the server can have charged: the ceiling of the one call whose outcome was not seen, else `charged`.
    pub possible: Amount,
}

impl Known {
    /// What of a corrective answer may be taken over, as the new `charged`; or the most that can be due, where the answer
    /// cannot be true.
    ///
    /// More than our own record is believed only as far as a call's outcome is unknown, and only with our own signature
    /// over at least that much. Less is believed: the server gave something up.
    pub fn believe(&self, state: &ChannelState, voucher: Option<&VoucherState>) -> Result<Amount, Amount> {
        let charged = state.charged_cumulative_amount;
        let signed = voucher.is_some_and(|voucher| {
            let shown = SignedVoucher {
                channel_id: self.id.0,
                cumulative: voucher.signed_max_claimable,
                signature: voucher.signature.0,
            };
            charged <= shown.cumulative && shown.verify(&self.signer).is_ok()
        });
        let possible = if signed { self.possible } else { self.charged };
        if state.channel_id != self.id || charged > possible { Err(possible) } else { Ok(charged) }
    }
}

/// A channel of ours: the contents of its file.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct OwnChannel {
    /// Its id, computed by ourselves.
    pub(crate) id: Key,
    /// Its parts.
    pub(crate) parts: Channel,
    /// The host that it was opened for, as the budget counts it.
    pub(crate) authority: String,
    /// A resource there: where a cooperative close is asked for.
    pub(crate) url: String,
    /// The method that the resource is asked with.
    pub(crate) method: String,
    /// The terms that it was opened under.
    pub(crate) terms: PaymentRequirements,
    /// What was put in.
    #[serde(with = "decimal")]
    pub(crate) deposit: Amount,
    /// What calls cost so far, as far as their outcome was seen.
    #[serde(with = "decimal")]
    pub(crate) charged: Amount,
    /// No voucher above this was ever signed: raised, durably, before one leaves.
    #[serde(with = "decimal")]
    pub(crate) reserved: Amount,
    /// The highest cumulative whose outcome is unknown; `charged` when all are known. After a restart: `reserved`.
    #[serde(skip)]
    pub(crate) ceiling: Amount,
    /// After a restart: how much of the reserve was used is not known, so the server is asked before it is paid.
    #[serde(skip)]
    pub(crate) unsure: bool,
    /// When it was used last, in Unix seconds, as far as it was saved.
    #[serde(default)]
    pub(crate) used_at: i64,
    /// An addition to the deposit that may have been sent, and whose outcome is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) top_up: Option<TopUp>,
    /// The server refused an addition: a new channel is opened instead.
    #[serde(skip)]
    pub(crate) no_top_up: bool,
    /// No further attempt to close it is made before, in Unix seconds.
    #[serde(skip)]
    pub(crate) rests_until: i64,
    /// How much of `charged` is on the list of payments.
    #[serde(skip)]
    pub(crate) recorded: Amount,
    /// What it is up to.
    #[serde(flatten)]
    pub(crate) phase: Phase,
}

/// An addition to a deposit.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct TopUp {
    /// How much.
    #[serde(with = "decimal")]
    pub(crate) amount: Amount,
    /// The deposit without it.
    #[serde(with = "decimal")]
    pub(crate) before: Amount,
    /// The last block height at which it can land.
    pub(crate) last_valid_height: u64,
    /// The signed transaction: sent again as it is until its outcome is known, so that it lands once at most.
    pub(crate) transaction: TransactionBytes,
}

impl OwnChannel {
    /// As the budget counts it: what is in it or may be, and once it is over what it cost.
    pub(crate) fn counted(&self) -> Counted {
        let ended = self.phase == Phase::Ended;
        let added = self.top_up.as_ref().map_or(Amount::ZERO, |top_up| top_up.amount);
        let deposit = self.deposit.plus(added).unwrap_or(self.deposit);
        Counted { host: self.authority.clone(), amount: if ended { self.charged } else { deposit }, ended }
    }

    /// A line of the list of payments about this channel, to be completed.
    pub(crate) fn paid(&self, at: i64) -> Paid {
        let url = self.url.parse::<url::Url>().ok();
        Paid {
            at,
            what: Bought::Call,
            host: self.authority.clone(),
            method: self.method.clone(),
            path: url.map(|url| url.path().to_owned()).unwrap_or_default(),
            status: 0,
            price: Amount::ZERO,
            charged: None,
            payee: self.terms.pay_to,
            mint: self.terms.asset,
            channel: self.id,
            channel_charged: self.charged,
            signed: self.possible(),
            transaction: None,
            receipt: None,
        }
    }

    /// What is unspent, whatever may still be due.
    pub(crate) fn rest(&self) -> Amount {
        self.deposit.less(self.charged)
    }

    /// The cumulative of the next voucher if the channel can pay `price`, or nothing.
    pub(crate) fn next_cumulative(&self, price: Amount) -> Option<Amount> {
        let next = self.charged.plus(price).ok()?;
        (self.phase == Phase::Open && next <= self.deposit).then_some(next)
    }

    /// The cumulative to sign next for a call at `price`. A channel that is not sure where it stands signs for nothing:
    /// that pays no call, not even one that was answered before, and the correction tells.
    pub(crate) fn to_sign(&self, price: Amount) -> Result<Amount, Rejection> {
        if self.unsure { Ok(Amount::ZERO) } else { self.charged.plus(price) }
    }

    /// Takes note that a voucher over `cumulative` is about to leave. True when the file must be written first.
    pub(crate) fn reserve(&mut self, cumulative: Amount, price: Amount) -> Result<bool, Rejection> {
        self.ceiling = self.ceiling.max(cumulative);
        if cumulative <= self.reserved {
            return Ok(false);
        }
        let ahead = cumulative.less(price).plus(price.times(CALLS_AHEAD)?)?;
        self.reserved = ahead.min(self.deposit).max(cumulative);
        Ok(true)
    }

    /// Signs for `cumulative` in all, which was reserved.
    pub(crate) fn sign(&self, key: &SigningKey, cumulative: Amount) -> SignedVoucher {
        debug_assert!(cumulative <= self.reserved, "a voucher leaves only after its ceiling is durable");
        SignedVoucher::sign(key, self.id.0, cumulative)
    }

    /// The most that the server can have charged, as far as we know.
    pub(crate) fn possible(&self) -> Amount {
        self.charged.max(self.ceiling)
    }

    /// A call's outcome was seen: it was charged, up to `charged` in all. Says what the call cost. A server that names
    /// more than was signed for the call is charged what was signed.
    pub(crate) fn served(&mut self, charged: Amount, cumulative: Amount) -> Amount {
        let charged = charged.min(cumulative).max(self.charged);
        let cost = charged.less(self.charged);
        self.charged = charged;
        self.ceiling = charged;
        self.unsure = false;
        cost
    }

    /// A call's outcome was seen: it was not charged.
    pub(crate) fn not_served(&mut self) {
        self.ceiling = self.charged;
    }

    /// The last voucher was refused, so it pays for nothing: what was possible `before` it is possible still.
    pub(crate) fn refused(&mut self, before: Amount) {
        self.ceiling = before;
    }

    /// Adopts what a corrective answer says, or refuses it with the most that can be due.
    ///
    /// What is believed, [`Known::believe`] says.
    pub(crate) fn adopt(
        &mut self,
        state: &ChannelState,
        voucher: Option<&VoucherState>,
        signer: &[u8; 32],
    ) -> Result<(), Amount> {
        let known = Known { id: self.id, signer: *signer, charged: self.charged, possible: self.possible() };
        let charged = known.believe(state, voucher)?;
        // A server that forgot may remember again: what was due before stays possible.
        self.ceiling = if charged < self.charged { self.possible() } else { charged };
        self.charged = charged;
        self.unsure = false;
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn key() -> SigningKey {
        SigningKey::from_bytes(&[3; 32])
    }

    pub(crate) fn channel() -> OwnChannel {
        let terms = serde_json::json!({
            "scheme": "@tallybook/channel", "network": "solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1", "amount": "500",
            "asset": Key([1; 32]), "payTo": Key([2; 32]), "maxTimeoutSeconds": 60,
            "extra": { "book": Key([3; 32]), "bookId": 0, "page": Key([4; 32]), "slot": 1, "generation": 1,
                "feePayer": Key([5; 32]), "withdrawDelay": 900, "minDeposit": "1", "tokenProgram": Key([6; 32]), "decimals": 6 }
        });
        OwnChannel {
            id: Key([9; 32]),
            parts: Channel {
                payer: Key([7; 32]),
                signer: Key(key().verifying_key().to_bytes()),
                book: Key([3; 32]),
                page: Key([4; 32]),
                slot: 1,
                generation: 1,
            },
            authority: "a.example".into(),
            url: "https://a.example/x".into(),
            method: "GET".into(),
            terms: serde_json::from_value(terms).unwrap(),
            deposit: Amount::new(100_000),
            charged: Amount::ZERO,
            reserved: Amount::ZERO,
            ceiling: Amount::ZERO,
            unsure: false,
            used_at: 0,
            top_up: None,
            no_top_up: false,
            rests_until: 0,
            recorded: Amount::ZERO,
            phase: Phase::Open,
        }
    }

    fn claim(channel: &OwnChannel, charged: u64, signed: u64) -> (ChannelState, VoucherState) {
        let voucher = SignedVoucher::sign(&key(), channel.id.0, Amount::new(signed));
        let state = ChannelState {
            channel_id: channel.id,
            balance: channel.deposit,
            total_claimed: Amount::ZERO,
            charged_cumulative_amount: Amount::new(charged),
        };
        let voucher = VoucherState { signed_max_claimable: voucher.cumulative, signature: voucher.signature.into() };
        (state, voucher)
    }

    const PRICE: Amount = Amount::new(500);

    fn signer() -> [u8; 32] {
        key().verifying_key().to_bytes()
    }

    #[test]
    fn the_file_is_written_once_for_many_vouchers_and_before_the_first() {
        let mut channel = channel();
        let mut writes = 0;
        for _ in 0..200 {
            let next = channel.next_cumulative(PRICE).unwrap();
            writes += u32::from(channel.reserve(next, PRICE).unwrap());
            assert!(next <= channel.reserved);
            channel.served(next, next);
        }
        assert_eq!(channel.next_cumulative(PRICE), None, "the deposit is used up");
        assert_eq!(writes, 4);
        assert_eq!(channel.reserved, channel.deposit);
    }

    #[test]
    fn an_unseen_call_is_adopted_once_and_no_more() {
        // Given a call whose outcome was not seen
        let mut channel = channel();
        channel.reserve(PRICE, PRICE).unwrap();
        // When the server shows our voucher for it
        let (state, voucher) = claim(&channel, 500, 500);
        assert_eq!(channel.adopt(&state, Some(&voucher), &signer()), Ok(()));
        // Then it is charged, and nothing more can be
        assert_eq!(channel.charged, PRICE);
        let (state, voucher) = claim(&channel, 1_000, 1_000);
        assert_eq!(channel.adopt(&state, Some(&voucher), &signer()), Err(PRICE));
    }

    #[test]
    fn a_lie_is_not_adopted() {
        let mut channel = channel();
        channel.reserve(PRICE, PRICE).unwrap();
        let before = channel.clone();
        // charged above what is shown as signed
        let (state, voucher) = claim(&channel, 500, 499);
        assert_eq!(channel.adopt(&state, Some(&voucher), &signer()), Err(Amount::ZERO));
        // charged without a voucher
        assert_eq!(channel.adopt(&state, None, &signer()), Err(Amount::ZERO));
        // a signature that is not ours
        let (state, mut voucher) = claim(&channel, 500, 500);
        voucher.signature.0[0] ^= 1;
        assert_eq!(channel.adopt(&state, Some(&voucher), &signer()), Err(Amount::ZERO));
        // another channel's
        let (mut state, voucher) = claim(&channel, 500, 500);
        state.channel_id = Key([8; 32]);
        assert!(channel.adopt(&state, Some(&voucher), &signer()).is_err());
        assert_eq!(channel, before);
    }

    #[test]
    fn a_failed_call_cannot_be_charged_later() {
        let mut channel = channel();
        channel.reserve(PRICE, PRICE).unwrap();
        channel.not_served();
        let (state, voucher) = claim(&channel, 500, 500);
        assert_eq!(channel.adopt(&state, Some(&voucher), &signer()), Err(Amount::ZERO));
    }

    #[test]
    fn after_a_restart_what_was_reserved_is_possible_if_it_was_signed() {
        let mut channel = channel();
        channel.reserve(PRICE, PRICE).unwrap();
        channel.ceiling = channel.reserved;
        let (state, voucher) = claim(&channel, 3_000, 3_000);
        assert_eq!(channel.adopt(&state, Some(&voucher), &signer()), Ok(()));
        assert_eq!(channel.charged, Amount::new(3_000));
    }

    #[test]
    fn a_server_that_forgot_may_remember_but_not_invent() {
        let mut channel = channel();
        channel.reserve(PRICE, PRICE).unwrap();
        channel.served(PRICE, PRICE);
        let (forgot, _) = claim(&channel, 0, 0);
        assert_eq!(channel.adopt(&forgot, None, &signer()), Ok(()));
        assert_eq!((channel.charged, channel.possible()), (Amount::ZERO, PRICE));
        let (state, voucher) = claim(&channel, 500, 500);
        assert_eq!(channel.adopt(&state, Some(&voucher), &signer()), Ok(()));
        assert_eq!(channel.charged, PRICE);
    }

    #[test]
    fn a_call_that_cost_less_than_its_ceiling_is_counted_as_it_cost() {
        let mut channel = channel();
        channel.reserve(PRICE, PRICE).unwrap();
        assert_eq!(channel.served(Amount::new(120), PRICE), Amount::new(120));
        assert_eq!(channel.next_cumulative(PRICE), Some(Amount::new(620)));
        channel.reserve(Amount::new(620), PRICE).unwrap();
        assert_eq!(channel.served(Amount::new(9_999), Amount::new(620)), PRICE, "never more than signed");
    }
}
