use super::*;
use std::pin::Pin;
use std::task::{Context, Waker};
use tallybook_rules::Amount;
use tallybook_rules::signing::SigningKey;

/// A voucher of the payer of this number, and its key.
fn signed(number: u8) -> (SignedVoucher, [u8; 32]) {
    let key = SigningKey::from_bytes(&[number; 32]);
    (SignedVoucher::sign(&key, [1; 32], Amount::new(number.into())), key.verifying_key().to_bytes())
}

/// The same, over another amount than was signed.
fn forged(number: u8) -> (SignedVoucher, [u8; 32]) {
    let (voucher, key) = signed(number);
    (SignedVoucher { cumulative: Amount::new(9_999), ..voucher }, key)
}

type Answer = Result<VerifiedVoucher, Rejection>;
type Caller<'a> = Pin<Box<dyn Future<Output = Answer> + 'a>>;

fn call<'a>(signatures: &'a Signatures, (voucher, signer): (SignedVoucher, [u8; 32])) -> Caller<'a> {
    Box::pin(async move { signatures.check(voucher, &signer).await })
}

/// Polls a caller once: what it is told, if that is known.
fn poll(caller: &mut Caller<'_>) -> Option<Answer> {
    match caller.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        std::task::Poll::Ready(answer) => Some(answer),
        std::task::Poll::Pending => None,
    }
}

fn most(signatures: &Signatures) -> usize {
    signatures.lock().most
}

#[test]
fn given_callers_that_are_ready_when_the_first_goes_on_then_all_are_checked_at_once_and_each_is_told_its_own() {
    let signatures = Signatures::default();
    let sent = [signed(1), forged(2), signed(3)];
    let mut callers = sent.map(|sent| call(&signatures, sent));
    assert!(callers.iter_mut().all(|caller| poll(caller).is_none()), "the first lets the others come");
    let told = callers.each_mut().map(|caller| poll(caller).expect("the first has checked for all"));
    assert_eq!(told, sent.map(|(voucher, signer)| voucher.verify(&signer)));
    assert_eq!(told.map(|told| told.is_ok()), [true, false, true]);
}

#[test]
fn given_a_caller_alone_when_nobody_else_is_ready_then_it_goes_on_at_once() {
    let signatures = Signatures::default();
    let mut caller = call(&signatures, signed(1));
    assert_eq!(poll(&mut caller), None);
    assert!(matches!(poll(&mut caller), Some(Ok(_))));
}

#[test]
fn given_a_leader_that_is_dropped_when_others_wait_for_it_then_they_are_told() {
    let signatures = Signatures::default();
    let (mut first, mut second) = (call(&signatures, signed(1)), call(&signatures, signed(2)));
    assert!(poll(&mut first).is_none() && poll(&mut second).is_none());
    drop(first);
    assert!(matches!(poll(&mut second), Some(Ok(_))));
    // Whoever only waits may go without a trace.
    let (mut third, mut fourth) = (call(&signatures, signed(3)), call(&signatures, signed(4)));
    assert!(poll(&mut third).is_none() && poll(&mut fourth).is_none());
    drop(fourth);
    assert!(matches!(poll(&mut third), Some(Ok(_))));
}

#[test]
fn given_a_full_group_when_its_last_one_has_come_then_it_is_checked_at_once_and_the_next_one_begins_another() {
    let signatures = Signatures::default();
    let count = u8::try_from(MOST).unwrap();
    let mut callers: Vec<_> = (1..=count).map(|number| call(&signatures, signed(number))).collect();
    let (last, others) = callers.split_last_mut().unwrap();
    assert!(others.iter_mut().all(|caller| poll(caller).is_none()));
    assert!(matches!(poll(last), Some(Ok(_))), "it waits for nobody");
    let mut next = call(&signatures, signed(100));
    assert!(poll(&mut next).is_none());
    assert!(others.iter_mut().all(|caller| matches!(poll(caller), Some(Ok(_)))));
    assert!(matches!(poll(&mut next), Some(Ok(_))));
}

#[test]
fn given_forgeries_when_they_go_on_then_groups_shrink_until_each_is_checked_alone_and_grow_again_afterwards() {
    let signatures = Signatures::default();
    for expected in [MOST / 2, MOST / 4, MOST / 8, MOST / 16, 1] {
        let mut callers = [call(&signatures, signed(1)), call(&signatures, forged(2))];
        let told: Vec<_> = callers.iter_mut().map(poll).collect();
        assert!(told[1].is_none() || told[1] == Some(Err(Rejection::BadSignature)));
        assert!(told[0].or_else(|| poll(&mut callers[0])).is_some_and(|told| told.is_ok()));
        assert_eq!(most(&signatures), expected.max(1));
    }
    // Now nobody waits for anybody: a forgery costs its sender's check, and no other.
    assert_eq!(poll(&mut call(&signatures, forged(2))), Some(Err(Rejection::BadSignature)));
    assert_eq!(most(&signatures), 1);
    for expected in 2..=MOST {
        let mut caller = call(&signatures, signed(1));
        assert!(poll(&mut caller).or_else(|| poll(&mut caller)).is_some_and(|told| told.is_ok()));
        assert_eq!(most(&signatures), expected);
    }
}

#[test]
fn given_a_key_that_anybody_can_sign_for_when_it_is_asked_for_then_it_is_refused_and_not_kept() {
    let signatures = Signatures::default();
    let mut weak = [0; 32];
    weak[0] = 1;
    let (voucher, honest) = signed(1);
    for _ in 0..2 {
        assert_eq!(poll(&mut call(&signatures, (voucher, weak))), Some(Err(Rejection::BadSignature)));
    }
    assert!(signatures.lock().signed.is_empty(), "it has no place in a group");
    let all =
        [(voucher, Ok(honest)), (voucher, Ok(weak)), (voucher, Err(Rejection::UnknownChannel)), (voucher, Ok(honest))];
    let told = signatures.check_all(all.into_iter()).into_iter().map(|told| told.map(|told| *told.voucher()));
    let refused = [Err(Rejection::BadSignature), Err(Rejection::UnknownChannel)];
    assert_eq!(told.collect::<Vec<_>>(), [Ok(voucher), refused[0], refused[1], Ok(voucher)]);
}

#[test]
fn given_a_key_that_was_met_before_when_it_is_asked_for_then_it_is_itself_whoever_was_in_its_place() {
    let keys = Keys::default();
    for number in (0..=255).chain(0..=255) {
        let (_, signer) = signed(number);
        assert_eq!(keys.of(&signer), SignerKey::decode(&signer));
    }
}
