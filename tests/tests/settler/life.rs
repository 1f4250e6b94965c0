//! Channels from deposit to close, and what each step costs.

use crate::world::{DEPOSIT, TOKENS, World, settler};
use solana_signer::Signer;
use tallybook_chain::PROGRAM_ID;
use tallybook_chain::instruction::Instructions;
use tallybook_chain::shape::Shape;
use tallybook_chain::transaction::{from_bytes, to_bytes};
use tallybook_ledger::{Batch, ClaimRow};
use tallybook_rules::{Amount, Rejection, Status};
use tallybook_settler::{Commitment, Fate, Refund};

#[tokio::test(flavor = "multi_thread")]
async fn many_channels_are_claimed_in_few_transactions_at_the_price_that_the_readme_says() {
    // Given 24 channels in one page.
    let world = World::before_v1(32).await;
    let settler = world.settler();
    let payers = world.open(&settler, 24).await;
    let page = world.page_view(&settler).await;
    assert_eq!(page.header.outstanding, Amount::new(24 * DEPOSIT));

    // When one batch of all is settled.
    let before = world.lamports(&settler.sponsor()).await;
    let batch = world.batch(&page, &payers, 1_000);
    let outcome = settler.settle(&world.book, &batch, &world.journal).await.unwrap();

    // Then it took two transactions, since 23 rows fit into one, and the payee has it all.
    let rows: Vec<u32> = outcome.landed.iter().map(|landed| landed.rows).collect();
    assert_eq!(rows, [23, 1], "{outcome:?}");
    assert!(!outcome.unknown && outcome.refused.is_empty());
    assert_eq!(world.tokens(&world.payee.pubkey()).await, 24_000);
    let full = outcome.landed[0];
    assert!(full.compute_units <= 240_000, "{full:?}");
    assert!(full.fee_lamports < 6_000, "one signature and a small price: {full:?}");

    // And what the settler says it spent is what the sponsor has less, but for the rent of one lookup table.
    let spent: u64 = outcome.landed.iter().map(|landed| landed.fee_lamports).sum();
    let table = world.journal.tables.lock().unwrap()[0];
    let rent = world.lamports(&table.into()).await;
    let after = world.lamports(&settler.sponsor()).await;
    let for_the_table = before - after - spent;
    assert!((rent..rent + 6_000).contains(&for_the_table), "{for_the_table} for a table of {rent}");

    // The next batch, after a restart, finds that table and makes no other.
    let settler = world.settler();
    let before = world.lamports(&settler.sponsor()).await;
    let batch = world.batch(&page, &payers[..23], 2_000);
    let outcome = settler.settle(&world.book, &batch, &world.journal).await.unwrap();
    assert_eq!(outcome.landed.len(), 1);
    assert_eq!(world.journal.tables.lock().unwrap().len(), 1);
    assert_eq!(before - world.lamports(&settler.sponsor()).await, outcome.landed[0].fee_lamports);
    println!(
        "23 claims: {} lamports, {} compute units",
        outcome.landed[0].fee_lamports, outcome.landed[0].compute_units
    );

    // And everything recorded is found on chain.
    let attempts = world.journal.attempts.lock().unwrap().clone();
    let fates = settler.resolve(&attempts).await.unwrap();
    assert!(fates.iter().all(|fate| matches!(fate, Fate::Landed { .. })), "{fates:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn metered_calls_settle_to_the_base_unit_in_as_few_transactions_as_fit() {
    // Given 24 channels with a voucher over 1,000 each, of which calls have cost 700 and something; the last cost all of it.
    let world = World::before_v1(32).await;
    let settler = world.settler();
    let payers = world.open(&settler, 24).await;
    let page = world.page_view(&settler).await;
    let cost = |slot: u8| if slot == 23 { 1_000 } else { 700 + u64::from(slot) };
    let rows =
        payers.iter().map(|payer| ClaimRow { amount: Amount::new(cost(payer.slot)), ..world.row(&page, payer, 1_000) });
    let batch = Batch::new(world.page.to_bytes(), rows.collect()).unwrap();

    // When they are settled.
    let outcome = settler.settle(&world.book, &batch, &world.journal).await.unwrap();

    // Then 20 rows fit into one transaction, and each slot says exactly what its calls cost.
    let sizes: Vec<u32> = outcome.landed.iter().map(|landed| landed.rows).collect();
    assert_eq!(sizes, [u32::try_from(tallybook_settler::rows(Shape::V0, true)).unwrap(), 4], "{outcome:?}");
    assert!(!outcome.unknown && outcome.refused.is_empty());
    let page = world.page_view(&settler).await;
    for payer in &payers {
        assert_eq!(page.slot(payer.slot).unwrap().settled, Amount::new(cost(payer.slot)), "slot {}", payer.slot);
    }
    assert_eq!(world.tokens(&world.payee.pubkey()).await, (0..24).map(cost).sum::<u64>());
    assert!(outcome.landed[0].compute_units <= 240_000, "{outcome:?}");

    // And the same batch again adds nothing.
    assert_eq!(settler.settle(&world.book, &batch, &world.journal).await.unwrap().landed, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deposit_is_paid_once_however_often_it_is_sent() {
    let world = World::start(4, true).await;
    let settler = world.settler();
    let payers = world.wallets(2).await;
    let checked = world.deposit(&settler, &payers[0]).await;
    settler.simulate_deposit(&checked).await.unwrap();
    let (first, second) = tokio::join!(
        settler.send_deposit(&checked, None, &world.journal),
        settler.send_deposit(&checked, None, &world.journal),
    );
    assert_eq!(first.unwrap().attempt.signature, second.unwrap().attempt.signature);
    let restarted = settler_again(&world).send_deposit(&checked, None, &world.journal).await.unwrap();
    assert_eq!(restarted.state.deposit, Amount::new(DEPOSIT));
    assert_eq!(world.tokens(&payers[0].key.pubkey()).await, TOKENS - DEPOSIT);

    // Somebody else's deposit for the slot that is taken now is refused by name, and costs nobody anything.
    let mut late = world.deposit(&settler, &payers[1]).await;
    assert_eq!(late.new_channel().slot, 1);
    let page = world.page_view(&settler).await;
    assert_eq!(page.slot(1).unwrap().status(), Ok(Status::Free));
    settler.simulate_deposit(&late).await.unwrap();
    late = {
        let other = world.wallets(2).await;
        let same_slot = world.deposit(&settler, &other[1]).await;
        settler.send_deposit(&same_slot, None, &world.journal).await.unwrap();
        late
    };
    let sponsor = world.lamports(&settler.sponsor()).await;
    let refused = settler.send_deposit(&late, None, &world.journal).await;
    assert_eq!(refused.unwrap_err(), Rejection::SlotTaken);
    assert_eq!(world.lamports(&settler.sponsor()).await, sponsor);
    assert_eq!(world.tokens(&payers[1].key.pubkey()).await, TOKENS);
}

fn settler_again(world: &World) -> tallybook_settler::Settler {
    settler(world.rpc(), &world.sponsor)
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_channels_are_claimed_alone_and_freed_ones_are_named() {
    // Given four channels: one closing, one refunded away, and one reopened by somebody else.
    let world = World::start(4, true).await;
    let settler = world.settler();
    let payers = world.open(&settler, 4).await;
    let page = world.page_view(&settler).await;
    let batch = world.batch(&page, &payers, 5_000);
    let program = Instructions::new(PROGRAM_ID);
    let close = program.request_close(&world.book.address, &world.page, &payers[0].key.pubkey(), 0, 1);
    world.send(close, &payers[0].key).await;
    for slot in [1, 2] {
        refund_all(&world, &payers[slot]).await;
    }
    let newcomer = world.wallets(3).await.remove(2);
    let checked = world.deposit(&settler, &newcomer).await;
    settler.send_deposit(&checked, None, &world.journal).await.unwrap();

    // When the batch that was planned before is settled.
    let outcome = settler.settle(&world.book, &batch, &world.journal).await.unwrap();

    // Then the closing channel and the open one are claimed apart, and the others are refused by name.
    let rows: Vec<u32> = outcome.landed.iter().map(|landed| landed.rows).collect();
    assert_eq!(rows, [1, 1]);
    assert_eq!(outcome.refused, [(1, Rejection::SlotFree), (2, Rejection::WrongGeneration)]);
    assert_eq!(world.tokens(&world.payee.pubkey()).await, 10_000);
}

async fn refund_all(world: &World, payer: &crate::world::Payer) {
    let row = tallybook_chain::instruction::RefundRow { slot: payer.slot, generation: 1, keep: 0 };
    let refund = Instructions::new(PROGRAM_ID).refund(
        &world.book,
        &world.page,
        &world.operator.pubkey(),
        &[(row, payer.key.pubkey())],
    );
    world.send(refund, &world.operator).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cooperative_close_claims_what_was_charged_and_returns_the_rest_at_once() {
    let world = World::start(2, true).await;
    let settler = world.settler();
    let payers = world.open(&settler, 1).await;
    let page = world.page_view(&settler).await;
    let row = world.row(&page, &payers[0], 7_000);
    let refund = Refund { book: &world.book, page: &page, slot: 0, voucher: &row.voucher };
    let prepared = settler.refund_transaction(&refund).await.unwrap();

    let mut transaction = from_bytes(&prepared.bytes).unwrap();
    let keys = transaction.message.static_account_keys();
    let at = keys.iter().position(|key| *key == world.operator.pubkey()).unwrap();
    transaction.signatures[at] = world.operator.sign_message(&transaction.message.serialize());
    let signed = to_bytes(&transaction).unwrap();
    let closed = settler.send_prepared(&prepared, &signed, None, &world.journal).await.unwrap();
    let again = settler.send_prepared(&prepared, &signed, Some(closed.attempt), &world.journal).await.unwrap();
    assert_eq!(again, closed);

    let (_, page) = settler.read_page(&world.page, closed.slot, Commitment::Confirmed).await.unwrap();
    assert_eq!(page.slot(0).unwrap().status(), Ok(Status::Free));
    assert_eq!(world.tokens(&payers[0].key.pubkey()).await, TOKENS - 7_000);
    // What was claimed is owed to the payee until it is paid out.
    assert_eq!(world.tokens(&world.payee.pubkey()).await, 0);
    let paid = settler.pay_out(&world.book, &world.page, &world.journal).await.unwrap();
    assert_eq!(paid.landed.len(), 1);
    assert_eq!(world.tokens(&world.payee.pubkey()).await, 7_000);
    assert_eq!(world.tokens(&world.page).await, 0, "the vault is empty");
    let nothing = settler.pay_out(&world.book, &world.page, &world.journal).await.unwrap();
    assert!(nothing.landed.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payee_without_a_token_account_gets_one_and_its_money() {
    let world = World::start(2, false).await;
    let settler = world.settler();
    let payers = world.open(&settler, 2).await;
    let page = world.page_view(&settler).await;
    let batch = world.batch(&page, &payers, 300);
    let outcome = settler.settle(&world.book, &batch, &world.journal).await.unwrap();
    assert_eq!(outcome.landed.len(), 1);
    assert_eq!(world.tokens(&world.payee.pubkey()).await, 600);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_watcher_reads_all_pages_of_its_books_at_once() {
    let world = World::start(2, true).await;
    let settler = world.settler();
    let add = |index: u32, book: &tallybook_chain::BookView| {
        let faucet = world.chain.faucet().pubkey();
        Instructions::new(PROGRAM_ID).add_page(book, &world.operator.pubkey(), &faucet, index, 96)
    };
    for index in 1..4 {
        world.send(add(index, &world.book), &world.operator).await;
    }
    let books = settler.read_books(&[world.book.address], Commitment::Confirmed).await.unwrap();
    let read = settler.read_pages(&[&books.books[0]], Commitment::Confirmed).await.unwrap();
    let capacities: Vec<usize> = read.pages.iter().map(|page| page.slots.len()).collect();
    assert_eq!(capacities, [2, 96, 96, 96]);
    assert!(read.slot >= books.slot);
    assert_eq!(read.pages[0].address, world.page);
    let unknown = settler.read_books(&[world.page], Commitment::Confirmed).await;
    assert_eq!(unknown.unwrap_err(), Rejection::WrongAccount);
    let unknown = settler.read_books(&[[9; 32].into()], Commitment::Confirmed).await;
    assert_eq!(unknown.unwrap_err(), Rejection::UnknownBook);
    assert_eq!(settler.genesis_hash().await.unwrap(), world.chain.genesis_hash());
}
