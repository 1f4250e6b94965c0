//! The three steps one by one, for what carries x402 otherwise.

use crate::world::{PAYER, Script, invalid, offer, shop, until, voucher};
use tallybook_paywall::{Accepted, Declined, Paywall, Taken};
use tallybook_rules::{Amount, Rejection};
use tallybook_wire::{AnswerExtra, ChannelPayload, ChannelState, PaymentPayload, SettleResponse};

const PRICE: Amount = Amount::new(500);

fn payment(paid: u64) -> PaymentPayload {
    let accepted = offer().priced(Amount::new(paid), 60.try_into().unwrap());
    PaymentPayload::new(accepted, ChannelPayload::Voucher { voucher: voucher(paid) })
}

async fn take(paywall: &Paywall, payment: PaymentPayload) -> Result<Box<Accepted>, Declined> {
    match paywall.take(payment, PRICE).await? {
        Taken::Call(accepted) => Ok(accepted),
        Taken::Closed(receipt) => panic!("{receipt:?}"),
    }
}

#[tokio::test]
async fn given_a_payment_when_it_is_taken_and_charged_then_it_is_reserved_committed_and_kept() {
    let script = Script::default();
    let shop = shop(&script.clone().serve().await, |builder| builder).await;
    let accepted = take(&shop.paywall, payment(500)).await.unwrap();
    assert_eq!(accepted.payer(), PAYER);
    assert!(shop.paywall.newest_vouchers().is_empty());
    assert!(matches!(accepted.charge().await, Ok(SettleResponse::Settled { .. })));
    assert_eq!(script.asked(), ["verify voucher", "settle voucher"]);
    assert_eq!(shop.paywall.newest_vouchers().len(), 1);
}

#[tokio::test]
async fn given_an_accepted_payment_when_it_is_dropped_then_it_is_given_back() {
    let script = Script::default();
    let shop = shop(&script.clone().serve().await, |builder| builder).await;
    drop(take(&shop.paywall, payment(500)).await.unwrap());
    until(|| script.asked() == ["verify voucher", "release voucher"]).await;
    assert!(shop.paywall.newest_vouchers().is_empty());
}

#[tokio::test]
async fn given_a_wrong_payment_when_it_is_declined_then_the_next_402_says_how_to_do_better() {
    let script = Script::default();
    let shop = shop(&script.clone().serve().await, |builder| builder).await;
    // Given one for less than the price: nobody is asked
    let declined = take(&shop.paywall, payment(499)).await.unwrap_err();
    assert_eq!((declined.reason.rejection(), script.asked().len()), (Some(Rejection::WrongPrice), 0));
    // And one that the facilitator refuses, with the state of its channel
    let state = ChannelState {
        channel_id: voucher(500).channel_id,
        balance: Amount::new(9_000),
        total_claimed: Amount::ZERO,
        charged_cumulative_amount: Amount::new(1_000),
    };
    let extra = AnswerExtra { channel_state: Some(state), ..AnswerExtra::default() };
    script.verify.lock().unwrap().push_back(Ok(invalid(Rejection::WrongCumulative, extra)));
    let declined = take(&shop.paywall, payment(500)).await.unwrap_err();
    assert_eq!(declined.reason.rejection(), Some(Rejection::WrongCumulative));
    // Then the requirements carry it, and the price
    let requirements = shop.paywall.requirements(PRICE, Some(&declined)).await.unwrap();
    assert_eq!((requirements.amount, requirements.extra.channel_state), (PRICE, Some(state)));
    assert_eq!(shop.paywall.requirements(PRICE, None).await.unwrap().extra.channel_state, None);
}

#[tokio::test]
async fn given_more_calls_than_may_be_at_work_when_one_more_is_taken_then_it_is_refused_until_one_ends() {
    let script = Script::default();
    let shop = shop(&script.clone().serve().await, |builder| builder.max_in_flight(1)).await;
    let accepted = take(&shop.paywall, payment(500)).await.unwrap();
    let declined = take(&shop.paywall, payment(500)).await.unwrap_err();
    assert_eq!(declined.reason.rejection(), Some(Rejection::Overloaded));
    accepted.charge().await.unwrap();
    take(&shop.paywall, payment(500)).await.unwrap();
}
