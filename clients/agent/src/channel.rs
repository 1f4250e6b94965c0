//! A channel as its payer knows it. Pure: decides, and leaves signing order, disk and network to the caller.

use crate::budget::Counted;
use crate::paid::{Bought, Paid};
use serde::{Deserialize, Serialize};
use tallybook_rules::signing::{SignedVoucher, SigningKey};
use tallybook_rules::{Amount, Rejection, Slot, Status};
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
    /// The most that the server can have charged: the ceiling of the one call whose outcome was not seen, else `charged`; and
    /// what it had charged before it forgot.
    pub possible: Amount,
    /// What the chain has settled, as far as it was asked; zero where it was not.
    pub settled: Amount,
}

impl Known {
    /// What of a corrective answer may be taken over, as the new `charged`; or the most that can be due, where the answer
    /// cannot be true.
    ///
    /// What the chain has settled is due, whatever the server says and shows: the chain settles only what we have signed. More
    /// than that and than our own record is believed only as far as a call's outcome is unknown, and only with our own
    /// signature over at least that much. Less than our own record is believed: the server gave something up.
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
        let possible = if signed { self.possible } else { self.charged }.max(self.settled);
        if state.channel_id != self.id || charged > possible { Err(possible) } else { Ok(charged.max(self.settled)) }
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
    /// What the server had charged before it forgot: due again once it remembers. Zero where it never forgot.
    #[serde(skip)]
    pub(crate) forgotten: Amount,
    /// What the chain has settled of it, as far as it was asked.
    #[serde(skip)]
    pub(crate) settled: Amount,
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
        self.charged.max(self.ceiling).max(self.forgotten)
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

    /// The chain was asked. What it has settled we have signed, so it is due, whatever a server knows of it; and a voucher
    /// that is not above it is worth nothing.
    pub(crate) fn see(&mut self, slot: &Slot) {
        self.settled = self.settled.max(self.settled_in(slot));
        self.charged = self.charged.max(self.settled);
    }

    /// What a slot as the chain has it says of this channel: zero where it is another's, or free.
    pub(crate) fn settled_in(&self, slot: &Slot) -> Amount {
        let Channel { payer, signer, generation, .. } = self.parts;
        let is_it = slot.generation == generation && slot.payer == payer.0 && slot.signer == signer.0;
        if is_it && slot.status() != Ok(Status::Free) { slot.settled } else { Amount::ZERO }
    }

    /// Whether a claim of so much may be settled yet: no voucher above the reserve was ever signed.
    pub(crate) fn may_settle(&self, state: &ChannelState) -> bool {
        state.channel_id == self.id && state.charged_cumulative_amount <= self.reserved
    }

    /// What a call cost that was signed for above `charged_before`, up to `cumulative`, and whose outcome was not seen, by what
    /// was adopted since; nothing where that is not known. `is_used`: the server says that this very voucher has paid for a
    /// call.
    pub(crate) fn cost_of(&self, charged_before: Amount, cumulative: Amount, is_used: bool) -> Option<Amount> {
        let rise = self.charged.less(charged_before);
        // Older vouchers explain that much, which a server remembers or the chain has settled: of this one it says nothing.
        let by_others = self.charged <= self.forgotten || self.charged > cumulative;
        let is_known = rise.is_zero() || is_used || !by_others;
        is_known.then(|| rise.min(cumulative.less(charged_before)))
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
        let (charged, possible, settled) = (self.charged, self.possible(), self.settled);
        let known = Known { id: self.id, signer: *signer, charged, possible, settled };
        let charged = known.believe(state, voucher)?;
        self.ceiling = charged;
        if charged < self.charged {
            // A server that forgot may remember again: what was due before stays possible, whatever is served meanwhile.
            (self.ceiling, self.forgotten) = (possible, self.forgotten.max(self.charged));
        }
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
            forgotten: Amount::ZERO,
            settled: Amount::ZERO,
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

    /// A slot of the channel as the chain has it.
    fn slot(channel: &OwnChannel, settled: u64) -> Slot {
        Slot {
            payer: channel.parts.payer.0,
            signer: channel.parts.signer.0,
            deposit: channel.deposit,
            settled: Amount::new(settled),
            generation: channel.parts.generation,
            status_byte: 1,
            ..Slot::default()
        }
    }

    /// A channel of which the server has forgotten all but one of four calls.
    fn forgotten() -> OwnChannel {
        let mut channel = channel();
        for cumulative in [500, 1_000, 1_500, 2_000].map(Amount::new) {
            channel.reserve(cumulative, PRICE).unwrap();
            channel.served(cumulative, cumulative);
        }
        let (state, voucher) = claim(&channel, 500, 500);
        channel.adopt(&state, Some(&voucher), &signer()).unwrap();
        channel
    }

    #[test]
    fn given_a_server_that_forgot_when_it_serves_on_then_what_was_due_before_stays_possible_under_our_voucher() {
        let mut channel = forgotten();
        channel.reserve(Amount::new(1_000), PRICE).unwrap();
        channel.served(Amount::new(1_000), Amount::new(1_000));
        assert_eq!((channel.charged, channel.possible()), (Amount::new(1_000), Amount::new(2_000)));
        let (state, _) = claim(&channel, 2_000, 2_000);
        assert_eq!(channel.adopt(&state, None, &signer()), Err(Amount::new(1_000)), "without a voucher");
        let (state, voucher) = claim(&channel, 2_001, 2_001);
        assert_eq!(channel.adopt(&state, Some(&voucher), &signer()), Err(Amount::new(2_000)), "more than ever");
        let (state, voucher) = claim(&channel, 2_000, 2_000);
        assert_eq!(channel.adopt(&state, Some(&voucher), &signer()), Ok(()));
        assert_eq!(channel.next_cumulative(PRICE), Some(Amount::new(2_500)));
    }

    #[test]
    fn given_what_the_chain_has_settled_when_it_is_claimed_then_it_is_due_without_a_voucher_and_no_more_is() {
        let mut channel = channel();
        channel.reserve(PRICE, PRICE).unwrap();
        channel.served(PRICE, PRICE);
        channel.see(&slot(&channel, 1_700));
        let before = channel.clone();
        let (state, voucher) = claim(&channel, 1_701, 1_701);
        assert_eq!(channel.adopt(&state, None, &signer()), Err(Amount::new(1_700)));
        assert_eq!(channel.adopt(&state, Some(&voucher), &signer()), Err(Amount::new(1_700)));
        assert_eq!(channel, before);
        for claimed in [1_700, 1_000] {
            // A voucher that is not above what is settled is worth nothing.
            assert_eq!(channel.adopt(&claim(&channel, claimed, 0).0, None, &signer()), Ok(()));
            assert_eq!(channel.next_cumulative(PRICE), Some(Amount::new(2_200)), "{claimed}");
        }
        // And beyond it as before: one call whose outcome was not seen
        channel.reserve(Amount::new(2_200), PRICE).unwrap();
        let (state, voucher) = claim(&channel, 2_200, 2_200);
        assert_eq!(channel.adopt(&state, Some(&voucher), &signer()), Ok(()));
        assert_eq!(channel.charged, Amount::new(2_200));
    }

    #[test]
    fn given_a_record_that_is_behind_the_chain_when_a_claim_is_judged_then_what_is_settled_is_due() {
        let channel = channel();
        let known =
            Known { id: channel.id, signer: signer(), charged: PRICE, possible: PRICE, settled: Amount::new(1_700) };
        let judged = |charged| known.believe(&claim(&channel, charged, 0).0, None);
        assert_eq!(judged(1_700), Ok(known.settled));
        assert_eq!(judged(400), Ok(known.settled));
        assert_eq!(judged(1_701), Err(known.settled));
    }

    #[test]
    fn given_a_slot_of_another_channel_when_seen_then_nothing_is_due() {
        let mut channel = channel();
        let before = channel.clone();
        let it = slot(&channel, 700);
        for other in [
            Slot { generation: 2, ..it },
            Slot { generation: 0, ..it },
            Slot { payer: [8; 32], ..it },
            Slot { signer: [8; 32], ..it },
            Slot { status_byte: 0, ..it },
        ] {
            channel.see(&other);
            assert_eq!(channel, before, "{other:?}");
        }
        channel.see(&it);
        channel.see(&slot(&channel, 600));
        assert_eq!((channel.charged, channel.settled), (Amount::new(700), Amount::new(700)));
    }

    #[test]
    fn given_a_call_whose_outcome_was_not_seen_when_more_is_charged_then_it_is_said_charged_only_where_that_is_known() {
        let amount = Amount::new;
        // charged before it, signed for it, charged now, the voucher was used
        let cost = |before, signed, now, is_used| {
            let mut channel = forgotten();
            channel.charged = amount(now);
            channel.cost_of(amount(before), amount(signed), is_used)
        };
        assert_eq!(cost(1_000, 1_500, 1_000, false), Some(Amount::ZERO));
        assert_eq!(cost(1_000, 1_500, 1_500, true), Some(PRICE));
        assert_eq!(cost(1_000, 1_500, 2_000, true), Some(PRICE), "no more than was signed for it");
        assert_eq!(cost(1_000, 1_500, 1_500, false), None, "2,000 were due before");
        assert_eq!(cost(1_000, 1_500, 2_000, false), None);
        assert_eq!(cost(2_000, 2_500, 2_100, false), Some(amount(100)));
        assert_eq!(cost(2_000, 2_500, 2_501, false), None, "settled by a voucher over more");
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
