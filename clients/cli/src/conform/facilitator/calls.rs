//! Calls on an open channel: reserve, commit, release, and all that must be refused.

use super::asking::{Desk, charged, is_failed, is_invalid, is_settled, is_valid};
use super::purse::Purse;
use crate::conform::checks::Checks;
use crate::conform::codec::malleated;
use crate::conform::http::{Seen, judged};
use tallybook_agent::Known;
use tallybook_rules::Amount;
use tallybook_rules::signing::SigningKey;
use tallybook_wire::{ChannelPayload, ChannelState, Signature, Voucher, VoucherState};

/// Makes all of these checks, on a channel of which nothing is charged.
pub(super) async fn call(desk: &Desk, purse: &mut Purse, checks: &mut Checks) {
    let calls = Calls { desk, purse };
    calls.first(checks).await;
    calls.wrong(checks).await;
    calls.metered(checks).await;
    calls.released(checks).await;
}

struct Calls<'a> {
    desk: &'a Desk,
    purse: &'a Purse,
}

impl Calls<'_> {
    /// The price, so many times. Prices are a hundredth of a deposit, so that this stays far below 2^64.
    fn prices(&self, times: u64) -> Amount {
        self.purse.price.times(times).unwrap_or(Amount::MAX_DEPOSIT)
    }

    async fn verify(&self, payload: &ChannelPayload) -> Result<Seen, String> {
        self.desk.ask("verify", &self.purse.asked(self.purse.price), payload).await
    }

    async fn settle(&self, payload: &ChannelPayload) -> Result<Seen, String> {
        self.desk.ask("settle", &self.purse.asked(self.purse.price), payload).await
    }

    /// The first call: reserved, committed, and both again.
    async fn first(&self, checks: &mut Checks) {
        let (first, second) = (self.purse.voucher(self.prices(1)), self.purse.voucher(self.prices(2)));
        let seen = self.settle(&first).await;
        let failed = judged(&seen, |seen| is_failed(seen, "no_reservation"));
        checks.add("POST /settle without a reservation", "§8", "success false, no_reservation", failed);
        checks.add(
            "POST /verify: a voucher",
            "§8",
            "isValid true: reserved",
            judged(&self.verify(&first).await, is_valid),
        );
        let seen = self.verify(&first).await;
        let busy = judged(&seen, |seen| is_invalid(seen, "channel_busy"));
        let expected = "isValid false, channel_busy: one payment runs no two handlers";
        checks.add("POST /verify: the same voucher meanwhile", "§8", expected, busy);
        let seen = self.verify(&second).await;
        let busy = judged(&seen, |seen| is_invalid(seen, "channel_busy"));
        checks.add("POST /verify: a second call meanwhile", "§8", "isValid false, channel_busy", busy);
        let price = self.prices(1);
        let expected = format!("success true, charged {price} in all");
        let committed = |seen: &Seen| is_settled(seen) && charged(seen) == Some(price);
        checks.add("POST /settle: a voucher", "§8", &expected, judged(&self.settle(&first).await, committed));
        let seen = self.settle(&first).await;
        checks.add("POST /settle: the same again", "§8", format_args!("{expected}: once"), judged(&seen, committed));
        let seen = self.verify(&first).await;
        let used = judged(&seen, |seen| is_invalid(seen, "voucher_used"));
        checks.add("POST /verify: a voucher that has paid", "§8", "isValid false, voucher_used", used);
    }

    /// Vouchers that pay for nothing, once the first call is charged.
    async fn wrong(&self, checks: &mut Checks) {
        let next = self.purse.signed(self.prices(2));
        let stranger = self.purse.signed_by(&SigningKey::from_bytes(&[0x5a; 32]), self.prices(2));
        let spoilt = Voucher { signature: Signature(malleated(next.signature.0)), ..next };
        let moved = Voucher { max_claimable_amount: self.prices(2), ..self.purse.signed(self.prices(3)) };
        for (name, voucher) in [
            ("signed by another key", stranger),
            ("a signature with s + L", spoilt),
            ("a signature over another amount", moved),
        ] {
            let seen = self.verify(&ChannelPayload::Voucher { voucher }).await;
            let refused = judged(&seen, |seen| is_invalid(seen, "bad_signature"));
            checks.add(&format!("POST /verify: {name}"), "§8", "isValid false, bad_signature", refused);
        }
        for (name, cumulative) in
            [("more than charged + amount", self.prices(5)), ("less than charged + amount", Amount::new(1))]
        {
            let seen = self.verify(&self.purse.voucher(cumulative)).await;
            let refused = judged(&seen, |seen| is_invalid(seen, "wrong_cumulative"));
            checks.add(&format!("POST /verify: {name}"), "§8", "isValid false, wrong_cumulative", refused);
            let believed = judged(&seen, |seen| self.is_corrected(seen));
            let expected =
                format!("channelState with {} charged, voucherState that the client has signed", self.prices(1));
            checks.add(&format!("the correction of {name}"), "§8", expected, believed);
        }
        let all = self.purse.deposit;
        let beyond = all.plus(self.prices(1)).unwrap_or(all);
        let seen = self.desk.ask("verify", &self.purse.asked(all), &self.purse.voucher(beyond)).await;
        let refused = judged(&seen, |seen| is_invalid(seen, "deposit_exceeded"));
        checks.add("POST /verify: more than the deposit", "§8", "isValid false, deposit_exceeded", refused);
    }

    /// Whether a client may believe a correction after one call at the price.
    fn is_corrected(&self, seen: &Seen) -> bool {
        let json = seen.json();
        let read = |member: &str| json.get("extra")?.get(member).cloned();
        let state = read("channelState").and_then(|state| serde_json::from_value::<ChannelState>(state).ok());
        let voucher = read("voucherState").and_then(|voucher| serde_json::from_value::<VoucherState>(voucher).ok());
        let Some((state, voucher)) = state.zip(voucher) else { return false };
        // As a client that has lost its own record: only its signature speaks for what was charged.
        let known = Known {
            id: self.purse.id,
            signer: self.purse.channel.signer.0,
            charged: Amount::ZERO,
            possible: self.purse.deposit,
            settled: Amount::ZERO,
        };
        known.believe(&state, Some(&voucher)) == Ok(self.prices(1)) && state.balance == self.purse.deposit
    }

    /// A call that costs less than its ceiling; one that costs more.
    async fn metered(&self, checks: &mut Checks) {
        let (asked, second) = (self.purse.asked(self.purse.price), self.purse.voucher(self.prices(2)));
        let cost = Amount::new(self.purse.price.get() / 2);
        let total = self.prices(1).plus(cost).unwrap_or_default();
        let reserved = self.verify(&second).await;
        checks.add("POST /verify: the next voucher", "§8", "isValid true", judged(&reserved, is_valid));
        let seen = self.desk.commit(&asked, self.prices(2), &second).await;
        let above = judged(&seen, |seen| is_failed(seen, "charge_above_ceiling"));
        checks.add("POST /settle above the ceiling", "§7", "success false, charge_above_ceiling", above);
        let seen = self.desk.commit(&asked, cost, &second).await;
        let below = |seen: &Seen| {
            is_settled(seen) && charged(seen) == Some(total) && seen.says("/extra/chargedAmount", cost.to_string())
        };
        let expected = format!("success true, this call {cost}, charged {total} in all");
        checks.add("POST /settle below the ceiling", "§8", expected, judged(&seen, below));
        let again = self.desk.commit(&asked, cost, &second).await;
        checks.add("POST /settle below the ceiling, again", "§8", "the same answer: once", judged(&again, below));
    }

    /// A call whose handler fails is not charged.
    async fn released(&self, checks: &mut Checks) {
        let cost = Amount::new(self.purse.price.get() / 2);
        let before = self.prices(1).plus(cost).unwrap_or_default();
        let third = self.purse.voucher(self.prices(2).plus(cost).unwrap_or_default());
        let reserved = self.verify(&third).await;
        let name = "POST /verify: charged + amount after a cheaper call";
        checks.add(name, "§8", "isValid true", judged(&reserved, is_valid));
        for (name, was_there) in [("POST /release", true), ("POST /release again", false)] {
            let seen = self.desk.ask("release", &self.purse.asked(self.purse.price), &third).await;
            let released = judged(&seen, |seen| seen.status.is_success() && seen.says("/released", was_there));
            checks.add(name, "§7", format_args!("released {was_there}"), released);
        }
        let seen = self.settle(&third).await;
        let failed = judged(&seen, |seen| is_failed(seen, "no_reservation"));
        checks.add("POST /settle after the release", "§8", "success false, no_reservation", failed);
        let seen = self.desk.get(&format!("channels/{}", self.purse.id)).await;
        let shown = judged(&seen, |seen| seen.says("/charged", before.to_string()));
        checks.add("a released call is not charged", "§7", format_args!("charged {before} in all"), shown);
    }
}
