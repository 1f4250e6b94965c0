use super::*;
use crate::claim::{Part, instructions};
use crate::memory::{House, V1};
use tallybook_chain::shape::bytes_too_many;
use tallybook_ledger::Batch;

/// Serialized bytes, and accounts, of a claim transaction with `rows` rows in each of the pages.
fn measured(house: &House, pages: &[usize]) -> (usize, usize) {
    let parts: Vec<Part<'_>> = (0u32..)
        .zip(pages)
        .enumerate()
        .map(|(at, (index, rows))| {
            let page = house.add_page(index);
            let rows = (0u8..).take(*rows).map(|slot| house.channel_in(&page, slot, 10_000, 100)).collect();
            Part { at, book: &house.book, page, rows, legs: 1 }
        })
        .collect();
    let budget = Budget { compute_units: 1_400_000, compute_price: 1_000 };
    let (instructions, _) = instructions(&parts).unwrap();
    let blockhash = Default::default();
    let message = message(Shape::V1, &house.settler.sponsor(), &instructions, None, &budget, blockhash).unwrap();
    let transaction = VersionedTransaction { signatures: vec![Default::default()], message };
    let bytes = wincode::serialize(&transaction).unwrap().len();
    assert_eq!(bytes_too_many(&transaction), bytes.saturating_sub(4_096));
    (bytes, transaction.message.static_account_keys().len())
}

#[test]
fn given_rows_and_pages_when_a_transaction_is_built_then_it_takes_what_the_capacity_says_to_the_byte() {
    let capacity = capacity(Shape::V1, 1, true);
    for pages in [&[1][..], &[94], &[40, 40], &[5, 5, 5, 5], &[2; 20]] {
        let (bytes, addresses) = measured(&House::new(96), pages);
        let rows: u32 = pages.iter().map(|rows| u32::try_from(*rows).unwrap()).sum();
        let count = u32::try_from(pages.len()).unwrap();
        let of = |part: fn(&Load) -> u32| {
            part(&capacity.transaction)
                + part(&capacity.book)
                + count * part(&capacity.page)
                + rows * part(&capacity.row)
        };
        assert_eq!(
            (of(|load| load.bytes), of(|load| load.addresses)),
            (bytes.try_into().unwrap(), addresses.try_into().unwrap()),
            "{pages:?}"
        );
    }
    assert!(measured(&House::new(96), &[94]).0 <= 4_096, "94 rows of one page fit");
    assert!(measured(&House::new(96), &[95]).0 > 4_096, "95 do not");
}

#[tokio::test]
async fn given_each_kind_of_chain_when_asked_then_the_largest_shape_that_it_takes_is_used_and_the_answer_is_kept() {
    // A gate that is closed, or opens later; a node that takes such transactions; one that cannot read them; one that will not.
    for (gate, v1, shape) in [
        (None, V1::Taken, Shape::Legacy),
        (Some(1_001), V1::Taken, Shape::Legacy),
        (Some(1_000), V1::Taken, Shape::V1),
        (Some(0), V1::Unreadable, Shape::Legacy),
        (Some(0), V1::Unsupported, Shape::Legacy),
    ] {
        let house = House::new(1);
        gate.into_iter().for_each(|slot| house.open_v1(slot));
        house.chain.state().v1 = v1;
        assert_eq!(house.settler.shape().await, shape, "gate {gate:?}, {v1:?}");
        let simulated = house.chain.state().simulated;
        assert_eq!(house.settler.shape().await, shape);
        assert_eq!(house.chain.state().simulated, simulated, "not asked twice");
    }
}

#[tokio::test]
async fn given_an_answer_when_it_is_old_or_doubted_then_the_chain_is_asked_again_and_silence_changes_nothing() {
    let house = House::new(1);
    assert_eq!(house.settler.shape().await, Shape::Legacy);
    house.open_v1(0);
    assert_eq!(house.settler.shape().await, Shape::Legacy, "kept");
    house.settler.shapes().grow_old();
    assert_eq!(house.settler.shape().await, Shape::V1, "asked again");
    // A node that does not answer says nothing about what it takes.
    house.chain.state().v1 = V1::Unreadable;
    house.settler.shapes().doubt();
    house.chain.state().unanswered = 1;
    assert_eq!(house.settler.shape().await, Shape::V1);
    assert_eq!(house.settler.shape().await, Shape::Legacy, "and is asked again");
    // What was refused is not tried for a while.
    house.chain.state().v1 = V1::Taken;
    house.settler.shapes().refuse();
    assert_eq!(house.settler.shape().await, Shape::Legacy);
    house.settler.shapes().grow_old();
    assert_eq!(house.settler.shape().await, Shape::V1);
}

#[tokio::test]
async fn given_what_fits_when_pages_are_planned_then_whole_transactions_are_filled() {
    let house = House::new(96);
    house.open_v1(0);
    let policy = Policy { rows_per_batch: 96, rows_per_batch_below: 96, ..Policy::default() };
    let fitted = house.settler.fitted(policy, 1, true).await;
    assert_eq!((fitted.rows_per_batch, fitted.rows_per_batch_below), (94, 81));
    let pages = [40, 40, 96, 3].into_iter().zip(0..).map(|(rows, index)| {
        let page = house.add_page(index);
        let rows = (0..rows).map(|slot| house.channel_in(&page, slot, 10_000, 100)).collect();
        (house.book.address.to_bytes(), page.to_bytes(), rows)
    });
    let bundles = tallybook_ledger::pack(pages.collect(), &fitted);
    let sizes: Vec<Vec<usize>> =
        bundles.iter().map(|bundle| bundle.batches().iter().map(|batch| batch.rows().len()).collect()).collect();
    assert_eq!(sizes, [vec![40, 40, 8], vec![88, 3]], "179 rows in two transactions");
    let whole: Vec<(&tallybook_chain::BookView, &Batch)> =
        bundles[0].batches().iter().map(|batch| (&house.book, batch)).collect();
    let outcomes = house.settler.settle_together(&whole, &house.notes).await.unwrap();
    assert!(outcomes.iter().all(|outcome| outcome.landed.len() == 1), "what is planned as one is sent as one");
}
