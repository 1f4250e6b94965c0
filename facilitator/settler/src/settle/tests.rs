use super::*;
use crate::memory::{Fault, House, V1, token_account};
use crate::table::Known;
use solana_keypair::Keypair;
use tallybook_ledger::{ClaimRow, Landed};
use tallybook_rules::Amount;

async fn settle(house: &House, rows: Vec<ClaimRow>) -> Outcome {
    let batch = Batch::new(house.page.to_bytes(), rows).unwrap();
    house.settler.settle(&house.book, &batch, &house.notes).await.unwrap()
}

/// Channels in slots 0 … n−1, each with 10,000 deposited and 100 signed.
fn channels(house: &House, n: u8) -> Vec<ClaimRow> {
    (0..n).map(|slot| house.channel(slot, 10_000, 100)).collect()
}

fn settled(house: &House) -> Vec<u64> {
    house.page_view().slots.iter().map(|slot| slot.settled.get()).collect()
}

#[tokio::test]
async fn a_batch_becomes_one_transaction_that_pays_out() {
    let house = House::new(8);
    let rows = channels(&house, 8);
    let outcome = settle(&house, rows.clone()).await;
    assert_eq!(outcome.landed.len(), 1);
    assert_eq!((outcome.landed[0].rows, outcome.landed[0].fee_lamports), (8, 5_000));
    assert_eq!((outcome.refused.len(), outcome.unknown), (0, false));
    assert_eq!(settled(&house), [100; 8]);
    assert_eq!(house.chain.state().paid_out, 1);
    // The same batch again has nothing to add, so nothing is sent for it.
    house.on_page(|page| page.header.paid[0] = Amount::new(800));
    assert_eq!(settle(&house, rows).await, Outcome::default());
    assert_eq!(house.chain.state().sent.len(), 1);
}

#[tokio::test]
async fn what_does_not_fit_is_split() {
    let house = House::new(96);
    let rows = channels(&house, 96);
    let outcome = settle(&house, rows).await;
    let sizes: Vec<u32> = outcome.landed.iter().map(|landed| landed.rows).collect();
    assert_eq!(sizes, [19, 19, 19, 19, 19, 1], "without a table");
    assert_eq!(settled(&house), [100; 96]);
}

#[tokio::test]
async fn of_each_voucher_exactly_what_its_calls_cost_is_settled() {
    let house = House::new(40);
    let below = |row: ClaimRow| ClaimRow { amount: Amount::new(60 + u64::from(row.slot)), ..row };
    let rows: Vec<_> =
        channels(&house, 40).into_iter().map(|row| if row.slot < 39 { below(row) } else { row }).collect();
    let outcome = settle(&house, rows.clone()).await;
    let sizes: Vec<u32> = outcome.landed.iter().map(|landed| landed.rows).collect();
    assert_eq!(sizes, [17, 17, 6], "without a table");
    let expected: Vec<u64> = (0..39).map(|slot| 60 + slot).chain([100]).collect();
    assert_eq!(settled(&house), expected);
    house.on_page(|page| page.header.paid[0] = page.header.claimed_total);
    assert_eq!(settle(&house, rows).await, Outcome::default(), "nothing is left of what was charged");
}

#[tokio::test]
async fn a_row_that_fails_in_simulation_is_found_by_halving_and_the_others_are_claimed() {
    for bad in [vec![0], vec![7], vec![3, 4], vec![0, 15], (0..16).collect()] {
        let house = House::new(16);
        let rows = channels(&house, 16);
        house.chain.state().poisoned.clone_from(&bad);
        let outcome = settle(&house, rows).await;
        let mut refused = outcome.refused.clone();
        refused.sort_by_key(|(slot, _)| *slot);
        let expected: Vec<_> = bad.iter().map(|slot| (*slot, Rejection::SignatureMismatch)).collect();
        assert_eq!(refused, expected);
        for (slot, settled) in (0u8..).zip(settled(&house)) {
            assert_eq!(settled, if bad.contains(&slot) { 0 } else { 100 }, "slot {slot}, bad {bad:?}");
        }
        assert!(!outcome.unknown);
    }
}

#[tokio::test]
async fn rows_of_freed_and_reopened_slots_are_named_without_a_transaction() {
    let house = House::new(4);
    let rows = channels(&house, 4);
    for slot in [1, 2] {
        house.on_page(|page| page.refund(slot, 1, Amount::ZERO).unwrap());
    }
    house.channel(2, 10_000, 1);
    let outcome = settle(&house, rows).await;
    assert_eq!(outcome.refused, [(1, Rejection::SlotFree), (2, Rejection::WrongGeneration)]);
    assert_eq!(house.chain.state().claimed, [[0, 3]]);
}

#[tokio::test]
async fn a_closing_channel_is_claimed_alone_and_first() {
    let house = House::new(4);
    let rows = channels(&house, 4);
    let payer = house.page_view().slots[2].payer;
    house.on_page(|page| page.request_close(2, 1, &payer, 900, 0).unwrap());
    settle(&house, rows).await;
    assert_eq!(house.chain.state().claimed, [vec![2], vec![0, 1, 3]]);
}

#[tokio::test]
async fn given_closing_channels_alone_when_settled_then_all_is_known_as_soon_as_they_have_landed() {
    let house = House::new(2);
    let rows = channels(&house, 2);
    for slot in [0, 1] {
        let payer = house.page_view().slots[usize::from(slot)].payer;
        house.on_page(|page| page.request_close(slot, 1, &payer, 900, 0).unwrap());
    }
    let outcome = settle(&house, rows).await;
    assert_eq!(house.chain.state().claimed, [[0], [1]]);
    assert_eq!((outcome.landed.len(), outcome.refused.len(), outcome.unknown), (2, 0, false));
}

#[tokio::test]
async fn what_expires_is_built_again_with_a_fresh_blockhash() {
    let house = House::new(2);
    let rows = channels(&house, 2);
    house.chain.state().blocks_a_question = 200;
    house.chain.state().faults.push_back(Fault::Dropped);
    let outcome = settle(&house, rows).await;
    assert_eq!(outcome.landed.len(), 1);
    assert_eq!(settled(&house), [100, 100]);
    let attempts = house.notes.attempts.lock().unwrap().clone();
    assert_eq!(attempts.len(), 2, "both recorded");
    assert_ne!(attempts[0].signature, attempts[1].signature);
    assert_eq!(outcome.landed[0].signature, attempts[1].signature);
}

#[tokio::test]
async fn what_is_not_decided_in_time_is_unknown_and_recorded() {
    let house = House::new(2);
    let rows = channels(&house, 2);
    house.chain.state().faults.extend([Fault::Dropped; 1_000]);
    let outcome = settle(&house, rows).await;
    assert!(outcome.unknown && outcome.landed.is_empty() && outcome.refused.is_empty());
    assert_eq!(house.notes.attempts.lock().unwrap().len(), 1, "one transaction, however often it was sent");
}

#[tokio::test]
async fn what_cannot_be_recorded_is_not_sent() {
    let house = House::new(1);
    let batch = Batch::new(house.page.to_bytes(), channels(&house, 1)).unwrap();
    *house.notes.fails.lock().unwrap() = true;
    let outcome = house.settler.settle(&house.book, &batch, &house.notes).await;
    assert_eq!(outcome, Err(Rejection::StoreUnavailable));
    assert!(house.chain.state().sent.is_empty());
}

#[tokio::test]
async fn a_transaction_that_fails_on_chain_is_halved_and_its_fee_is_counted() {
    let house = House::new(2);
    let rows = channels(&house, 2);
    house.chain.state().faults.push_back(Fault::Fails);
    let outcome = settle(&house, rows).await;
    let rows: Vec<u32> = outcome.landed.iter().map(|landed| landed.rows).collect();
    assert_eq!(rows, [0, 1, 1]);
    assert_eq!(settled(&house), [100, 100]);
}

#[tokio::test]
async fn legs_that_cannot_be_paid_are_left_out_and_claims_go_on() {
    let frozen = |house: &House| token_account(&house.book.mint(), &house.book.payee(), true);
    let stolen = |house: &House| token_account(&house.book.mint(), &house.book.operator(), false);
    let foreign = |house: &House| token_account(&house.book.payee(), &house.book.payee(), false);
    let accounts: [Option<fn(&House) -> _>; 4] = [None, Some(frozen), Some(stolen), Some(foreign)];
    for account in accounts {
        let house = House::new(2);
        let rows = channels(&house, 2);
        let address = Address::from(house.book.state.legs[0].account);
        match account {
            None => drop(house.chain.state().accounts.remove(&address)),
            Some(account) => drop(house.chain.state().accounts.insert(address, account(&house))),
        }
        assert_eq!(settle(&house, rows).await.landed.len(), 1);
        assert_eq!((settled(&house), house.chain.state().paid_out), (vec![100, 100], 0));
    }
}

#[tokio::test]
async fn a_payout_that_fails_does_not_hold_up_the_claim() {
    let house = House::new(2);
    let rows = channels(&house, 2);
    house.chain.state().payout_fails.push(house.page);
    let outcome = settle(&house, rows).await;
    assert_eq!((outcome.landed.len(), outcome.refused.len()), (1, 0));
    assert_eq!((settled(&house), house.chain.state().paid_out), (vec![100, 100], 0));
    // Asked for alone, it is simply not done.
    let outcome = house.settler.pay_out(&house.book, &house.page, &house.notes).await;
    assert_eq!(outcome, Ok(Outcome::default()));
}

#[tokio::test]
async fn what_is_owed_is_paid_without_a_claim_and_nothing_when_nothing_is() {
    let house = House::new(1);
    let nothing = house.settler.pay_out(&house.book, &house.page, &house.notes).await.unwrap();
    assert_eq!(nothing, Outcome::default());
    house.on_page(|page| page.header.claimed_total = Amount::new(7));
    let paid = house.settler.pay_out(&house.book, &house.page, &house.notes).await.unwrap();
    assert_eq!((paid.landed.len(), paid.landed[0].rows), (1, 0));
    assert_eq!(house.chain.state().paid_out, 1);
}

#[tokio::test]
async fn a_page_of_another_book_or_none_is_not_touched() {
    let house = House::new(1);
    let batch = Batch::new(house.page.to_bytes(), channels(&house, 1)).unwrap();
    house.on_page(|page| page.header.book = [0; 32]);
    let refused = |outcome: Outcome| (outcome.refused, outcome.landed, outcome.unknown);
    let outcome = house.settler.settle(&house.book, &batch, &house.notes).await.unwrap();
    assert_eq!(refused(outcome), (vec![(0, Rejection::WrongBook)], vec![], false));
    house.chain.state().pages.clear();
    let outcome = house.settler.settle(&house.book, &batch, &house.notes).await.unwrap();
    assert_eq!(refused(outcome), (vec![(0, Rejection::UnknownPage)], vec![], false));
    assert!(house.chain.state().sent.is_empty());
}

#[tokio::test]
async fn a_table_that_the_node_does_not_see_is_gone_without() {
    for (seen, sizes) in [(true, vec![23]), (false, vec![19, 4])] {
        let mut house = House::new(23);
        house.set(|settings| settings.make_tables = true);
        let rows = channels(&house, 23);
        let contents = [house.page, house.book.vault(&house.page), house.book.address, house.book.mint()];
        let mut addresses = contents.to_vec();
        addresses.extend([house.book.token_program(), house.book.state.legs[0].account.into()]);
        let table = AddressLookupTableAccount { key: Address::new_from_array([70; 32]), addresses };
        house.settler.tables().set(&house.page, Known::Ready(table));
        house.chain.state().no_tables = !seen;
        let outcome = settle(&house, rows).await;
        let landed: Vec<u32> = outcome.landed.iter().map(|landed| landed.rows).collect();
        assert_eq!(landed, sizes, "table seen: {seen}");
        assert_eq!(settled(&house), [100; 23]);
    }
}

/// A house whose chain takes version 1, with `count` pages of `rows` channels each, and a batch of each page.
fn pages(count: u32, rows: u8) -> (House, Vec<Batch>) {
    let house = House::new(96);
    house.open_v1(0);
    let batches = (0..count).map(|index| {
        let page = house.add_page(index);
        let rows = (0..rows).map(|slot| house.channel_in(&page, slot, 10_000, 100)).collect();
        Batch::new(page.to_bytes(), rows).unwrap()
    });
    let batches = batches.collect();
    (house, batches)
}

async fn together(house: &House, batches: &[Batch]) -> Vec<Outcome> {
    let batches: Vec<_> = batches.iter().map(|batch| (&house.book, batch)).collect();
    house.settler.settle_together(&batches, &house.notes).await.unwrap()
}

/// How many channels of each page are settled.
fn settled_in(house: &House, batches: &[Batch]) -> Vec<usize> {
    let state = house.chain.state();
    let of = |batch: &Batch| {
        let page = state.pages.get(&Address::from(*batch.page()));
        page.map_or(0, |page| page.slots.iter().filter(|slot| slot.settled.get() == 100).count())
    };
    batches.iter().map(of).collect()
}

/// The rows of each transaction in an outcome.
fn sizes(outcome: &Outcome) -> Vec<u32> {
    outcome.landed.iter().map(|landed| landed.rows).collect()
}

#[tokio::test]
async fn given_several_pages_when_settled_together_then_one_transaction_claims_and_pays_out_in_all_and_is_in_each_outcome()
 {
    let (house, batches) = pages(3, 20);
    let outcomes = together(&house, &batches).await;
    assert_eq!(settled_in(&house, &batches), [20; 3]);
    let of_chain = |house: &House| {
        let state = house.chain.state();
        (state.sent.len(), state.paid_out)
    };
    assert_eq!(of_chain(&house), (1, 3));
    let landed: Vec<&Landed> = outcomes.iter().flat_map(|outcome| &outcome.landed).collect();
    assert!(landed.iter().all(|one| one.signature == landed[0].signature && one.rows == 20));
    assert_eq!(landed.iter().map(|one| one.fee_lamports).sum::<u64>(), 5_000, "its cost is there once");
    let recorded: Vec<[u8; 32]> = batches.iter().map(|batch| *batch.page()).collect();
    assert_eq!(*house.notes.pages.lock().unwrap(), [recorded]);
    assert_eq!(together(&house, &batches).await, vec![Outcome::default(); 3], "nothing is left");
}

#[tokio::test]
async fn given_pages_when_one_was_closed_meanwhile_or_its_claim_fails_then_the_others_are_settled_at_once() {
    let (house, batches) = pages(4, 5);
    house.chain.state().pages.remove(&Address::from(*batches[2].page()));
    house.chain.state().poisoned_pages.push(Address::from(*batches[1].page()));
    let outcomes = together(&house, &batches).await;
    assert_eq!(settled_in(&house, &batches), [5, 0, 0, 5]);
    assert_eq!(outcomes[2].refused, [0, 1, 2, 3, 4].map(|slot| (slot, Rejection::UnknownPage)));
    assert_eq!(outcomes[1].refused, [0, 1, 2, 3, 4].map(|slot| (slot, Rejection::SignatureMismatch)));
    assert_eq!((sizes(&outcomes[0]), sizes(&outcomes[3])), (vec![5], vec![5]));
    assert_eq!(house.chain.state().sent.len(), 1, "the two good pages share one");
}

#[tokio::test]
async fn given_pages_when_the_payout_of_one_fails_then_all_are_claimed_and_the_others_paid_out() {
    let (house, batches) = pages(3, 5);
    house.chain.state().payout_fails.push(Address::from(*batches[1].page()));
    let outcomes = together(&house, &batches).await;
    assert_eq!(settled_in(&house, &batches), [5; 3]);
    assert!(outcomes.iter().all(|outcome| sizes(outcome) == [5] && outcome.refused.is_empty()));
    let state = house.chain.state();
    assert_eq!((state.sent.len(), state.paid_out), (1, 2));
}

#[tokio::test]
async fn given_pages_when_their_transaction_fails_on_chain_then_the_page_at_fault_goes_alone_and_each_fee_is_counted() {
    let (house, batches) = pages(3, 4);
    house.chain.state().faults.push_back(Fault::Fails);
    let outcomes = together(&house, &batches).await;
    assert_eq!(settled_in(&house, &batches), [4; 3]);
    let all: Vec<_> = outcomes.iter().map(sizes).collect();
    assert_eq!(all, [vec![0, 4], vec![0, 4], vec![0, 4]]);
    assert_eq!(house.chain.state().sent.len(), 3, "the failed one, the others, and the page that was named");
    let fees: u64 = outcomes.iter().flat_map(|outcome| &outcome.landed).map(|landed| landed.fee_lamports).sum();
    assert_eq!(fees, 15_000);
}

#[tokio::test]
async fn given_more_pages_than_fit_when_settled_together_then_they_are_split_between_pages_and_all_are_settled() {
    // 94 rows of one page fit; of 4 pages of 30 rows the first three go together, and 33 pages have 66 accounts and more.
    for (count, rows, transactions) in [(4, 30, 2), (33, 1, 2)] {
        let (house, batches) = pages(count, rows);
        let outcomes = together(&house, &batches).await;
        assert!(outcomes.iter().all(|outcome| sizes(outcome) == [u32::from(rows)]), "no page is cut");
        assert_eq!(house.chain.state().sent.len(), transactions);
        assert_eq!(settled_in(&house, &batches), vec![usize::from(rows); batches.len()]);
    }
}

#[tokio::test]
async fn given_a_closing_channel_among_pages_when_settled_together_then_it_goes_alone_and_first() {
    let (house, batches) = pages(2, 3);
    let payer = house.page_view().slots[1].payer;
    house.on_page(|page| page.request_close(1, 1, &payer, 900, 0).unwrap());
    together(&house, &batches).await;
    assert_eq!(house.chain.state().claimed, [vec![1], vec![0, 2], vec![0, 1, 2]]);
    assert_eq!(house.chain.state().sent.len(), 2);
}

#[tokio::test]
async fn given_a_chain_that_takes_version_1_after_all_not_when_settled_then_smaller_transactions_settle_the_same_once()
{
    for v1 in [V1::Unreadable, V1::Unsupported] {
        // Given a chain that took them when it was asked.
        let (house, batches) = pages(2, 30);
        assert_eq!(house.settler.shape().await, Shape::V1);
        house.chain.state().v1 = v1;
        // When it takes them no more.
        let outcomes = together(&house, &batches).await;
        // Then nothing is lost, and nothing was sent that could not be read.
        assert_eq!(outcomes.iter().map(sizes).collect::<Vec<_>>(), [[19, 11], [19, 11]], "{v1:?}");
        assert_eq!(settled_in(&house, &batches), [30, 30]);
        assert_eq!(house.notes.attempts.lock().unwrap().len(), 4);
        assert_eq!(house.settler.shape().await, Shape::Legacy, "and the next batch is built so from the start");
    }
}

#[tokio::test]
async fn given_a_node_that_simulates_version_1_and_cannot_read_what_is_sent_when_settled_then_the_first_expires_and_smaller_ones_land()
 {
    let (house, batches) = pages(2, 10);
    house.chain.state().v1 = V1::UnreadableWhenSent;
    house.chain.state().blocks_a_question = 200;
    let outcomes = together(&house, &batches).await;
    assert_eq!(settled_in(&house, &batches), [10, 10]);
    assert!(outcomes.iter().all(|outcome| !outcome.unknown && outcome.refused.is_empty()));
    let attempts = house.notes.attempts.lock().unwrap().clone();
    let landed: Vec<_> = outcomes.iter().flat_map(|outcome| &outcome.landed).map(|landed| landed.signature).collect();
    assert!(!landed.contains(&attempts[0].signature), "the first never landed");
    assert_eq!(attempts.len(), 3, "its blockhash had expired before another was signed");
}

#[tokio::test]
async fn given_a_shape_that_is_prescribed_when_the_chain_does_not_take_it_then_nothing_is_sent_and_rows_stay_due() {
    let (mut house, batches) = pages(1, 3);
    house.set(|settings| settings.shape = ShapeChoice::Only(Shape::V1));
    house.chain.state().v1 = V1::Unsupported;
    let outcome = house.settler.settle(&house.book, &batches[0], &house.notes).await;
    assert_eq!(outcome, Err(Rejection::ChainUnavailable));
    house.set(|settings| settings.shape = ShapeChoice::Only(Shape::Legacy));
    assert_eq!(sizes(&house.settler.settle(&house.book, &batches[0], &house.notes).await.unwrap()), [3]);
    assert!(house.chain.state().sent.len() == 1);
}

#[tokio::test]
async fn given_keys_that_pay_for_claims_when_pages_are_claimed_then_they_are_spread_and_who_is_broke_is_stood_in_for() {
    // Given a settler with two such keys, and pages that fall to either
    let mut house = House::new(4);
    let key = |seed: u8| Keypair::new_from_array([seed; 32]);
    let (settings, chain) = (*house.settler.settings(), house.chain.clone());
    house.settler = Settler::with_claim_sponsors(chain, key(5), vec![key(6), key(7)], settings);
    let pages: Vec<Address> = std::iter::once(house.page).chain((1..6).map(|index| house.add_page(index))).collect();
    let payers: Vec<Address> = pages.iter().map(|page| house.settler.purse().of_page(page)).collect();
    assert_eq!(payers.iter().collect::<BTreeSet<_>>().len(), 2, "{payers:?}");
    let claim = |at: usize| {
        let row = house.channel_in(&pages[at], 0, 10_000, 100);
        Batch::new(pages[at].to_bytes(), vec![row]).unwrap()
    };
    // When each page is claimed
    for at in 0..pages.len() {
        house.settler.settle(&house.book, &claim(at), &house.notes).await.unwrap();
    }
    // Then its key has paid, and the sponsor for none
    assert_eq!(house.chain.state().payers, payers);
    // And when one of the keys has no SOL any more, the other pays for its pages, and it is said that one is out
    house.chain.state().broke.insert(payers[0]);
    let other = *payers.iter().find(|payer| **payer != payers[0]).unwrap();
    let again = house.channel_in(&pages[0], 1, 10_000, 100);
    let again = Batch::new(pages[0].to_bytes(), vec![again]).unwrap();
    let outcome = house.settler.settle(&house.book, &again, &house.notes).await.unwrap();
    assert_eq!((outcome.landed.len(), house.chain.state().payers.last()), (1, Some(&other)));
    assert!(house.settler.is_out_of_funds());
    // And when nobody has any, nothing is sent, and that is an error
    let all: Vec<Address> = house.settler.balances().await.unwrap().into_iter().map(|(payer, _)| payer).collect();
    assert_eq!(all.len(), 3);
    house.chain.state().broke.extend(all);
    let last = Batch::new(pages[0].to_bytes(), vec![house.channel_in(&pages[0], 2, 10_000, 100)]).unwrap();
    assert_eq!(house.settler.settle(&house.book, &last, &house.notes).await, Err(Rejection::ChainUnavailable));
}
