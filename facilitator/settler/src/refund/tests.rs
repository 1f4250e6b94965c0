use super::*;
use crate::memory::{House, token_account};
use solana_keypair::Keypair;
use solana_message::VersionedMessage;
use solana_signature::Signature;
use solana_signer::Signer;
use solana_transaction::versioned::VersionedTransaction;
use tallybook_chain::transaction::{from_bytes, memo, to_bytes};
use tallybook_ledger::ClaimRow;

fn operator() -> Keypair {
    Keypair::new_from_array([31; 32])
}

/// A channel with 300 of 10,000 charged, and its payer's token account.
fn scene() -> (House, ClaimRow) {
    let mut house = House::new(2);
    house.book.state.operator = operator().pubkey().to_bytes();
    let row = house.channel(1, 10_000, 300);
    let payer = Address::from(house.page_view().slots[1].payer);
    let account = token_account(&house.book.mint(), &payer, false);
    let address = house.book.token_account(&payer);
    house.chain.state().accounts.insert(address, account);
    (house, row)
}

async fn prepare(house: &House, row: &ClaimRow) -> Result<Prepared, Rejection> {
    let refund = Refund { book: &house.book, page: &house.page_view(), slot: row.slot, voucher: &row.voucher };
    house.settler.refund_transaction(&refund).await
}

/// The transaction with the operator's signature.
fn sign(bytes: &[u8], key: &Keypair) -> VersionedTransaction {
    let mut transaction = from_bytes(bytes).unwrap();
    let message = transaction.message.serialize();
    let keys = transaction.message.static_account_keys();
    let at = keys.iter().position(|one| *one == operator().pubkey()).unwrap();
    transaction.signatures[at] = key.sign_message(&message);
    transaction
}

#[tokio::test]
async fn the_voucher_is_claimed_before_what_is_left_goes_back() {
    let (house, row) = scene();
    let prepared = prepare(&house, &row).await.unwrap();
    let transaction = from_bytes(&prepared.bytes).unwrap();
    let first_bytes = |at: usize| transaction.message.instructions()[at].data[0];
    assert_eq!(transaction.message.instructions().len(), 4);
    assert_eq!((first_bytes(2), first_bytes(3)), (5, 10), "claim, then refund");
    assert!(transaction.signatures.iter().all(|one| *one == Signature::default()));
    // What the chain has already is not claimed again.
    house.on_page(|page| page.claim(1, Amount::new(300), 0).unwrap());
    let prepared = prepare(&house, &row).await.unwrap();
    assert_eq!(from_bytes(&prepared.bytes).unwrap().message.instructions().len(), 3);
}

#[tokio::test]
async fn the_operators_signature_sends_it_and_a_repeat_is_found() {
    let (house, row) = scene();
    let prepared = prepare(&house, &row).await.unwrap();
    let signed = to_bytes(&sign(&prepared.bytes, &operator())).unwrap();
    let closed = house.settler.send_prepared(&prepared, &signed, None, &house.notes).await.unwrap();
    let again = house.settler.send_prepared(&prepared, &signed, Some(closed.attempt), &house.notes).await.unwrap();
    assert_eq!(again, closed);
    assert_eq!(house.chain.state().sent.len(), 1);
}

#[tokio::test]
async fn another_transaction_or_signature_is_not_sent() {
    let (house, row) = scene();
    let prepared = prepare(&house, &row).await.unwrap();
    let send =
        async |bytes: &[u8]| house.settler.send_prepared(&prepared, bytes, None, &house.notes).await.unwrap_err();
    assert_eq!(send(&prepared.bytes).await, Rejection::WrongAuthority, "not signed");
    let by_another = to_bytes(&sign(&prepared.bytes, &Keypair::new_from_array([32; 32]))).unwrap();
    assert_eq!(send(&by_another).await, Rejection::WrongAuthority);
    let signed = sign(&prepared.bytes, &operator());
    let mut other = signed.clone();
    other.message.set_recent_blockhash([1; 32].into());
    assert_eq!(send(&to_bytes(&other).unwrap()).await, Rejection::RequirementsMismatch);
    let VersionedMessage::V0(message) = &mut other.message else { panic!("refunds are v0") };
    message.instructions.pop();
    message.instructions[0].data = memo("x").data;
    assert_eq!(send(&to_bytes(&other).unwrap()).await, Rejection::RequirementsMismatch);
    let mut trailing = to_bytes(&signed).unwrap();
    trailing.push(0);
    assert_eq!(send(&trailing).await, Rejection::MalformedPayload);
    assert!(house.chain.state().sent.is_empty());
}

#[tokio::test]
async fn a_refund_that_would_be_skipped_is_not_offered() {
    let (house, row) = scene();
    let payer = Address::from(house.page_view().slots[1].payer);
    let address = house.book.token_account(&payer);
    for account in [None, Some(token_account(&house.book.mint(), &payer, true))] {
        house.chain.state().accounts.remove(&address);
        if let Some(account) = account {
            house.chain.state().accounts.insert(address, account);
        }
        assert_eq!(prepare(&house, &row).await.unwrap_err(), Rejection::WrongRecipientAccount);
    }
    // Where all is charged nothing goes back, and no account is needed.
    let row = house.channel(0, 300, 300);
    assert!(prepare(&house, &row).await.is_ok());
}

#[tokio::test]
async fn a_channel_that_is_over_is_not_refunded() {
    let (house, row) = scene();
    let mut gone = row;
    gone.slot = 0;
    assert_eq!(prepare(&house, &gone).await.unwrap_err(), Rejection::SlotFree);
}
