//! The golden vectors, claimed on chain: the program hashes and weighs exactly the bytes that the reference does.

use crate::vouchers::Batch;
use crate::world::{Setup, World, assert_rejected};
use serde_json::Value;
use tallybook_rules::half_aggregation::Row;
use tallybook_rules::{Amount, PageHeader, Rejection, Slot};

fn bytes<const N: usize>(value: &Value) -> [u8; N] {
    let text = value.as_str().unwrap();
    std::array::from_fn(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap())
}

/// Writes the vector's channels into the page, as if they had been opened there.
fn write_page(world: &mut World, batch: &Value) {
    let mut account = world.svm.get_account(&world.page).unwrap();
    let (header, slots) = account.data[8..].split_at_mut(PageHeader::SIZE);
    header[32..64].copy_from_slice(&bytes::<32>(&batch["page_domain"]));
    let claims = batch["claims"].as_array().unwrap();
    let deposit = Amount::new(1 << 40);
    for claim in claims {
        let slot = Slot {
            payer: bytes(&claim["payer"]),
            signer: bytes(&claim["signer"]),
            deposit,
            generation: claim["generation"].as_u64().unwrap().try_into().unwrap(),
            status_byte: 1,
            ..Slot::default()
        };
        let at = usize::try_from(claim["slot"].as_u64().unwrap()).unwrap() * Slot::SIZE;
        slots[at..at + Slot::SIZE].copy_from_slice(bytemuck::bytes_of(&slot));
    }
    let count = u64::try_from(claims.len()).unwrap();
    header[128..136].copy_from_slice(&(deposit.get() * count).to_le_bytes());
    header[189] = u8::try_from(count).unwrap();
    world.svm.set_account(world.page, account).unwrap();
    let page = world.page;
    world.fund(&page, deposit.get() * count);
}

#[test]
fn given_the_golden_vectors_when_claimed_on_chain_then_each_batch_is_taken_and_any_other_scalar_is_not() {
    let text = include_str!("../../vectors/vectors.json");
    let vectors: Value = serde_json::from_str(text).unwrap();
    let batches = vectors["batches"].as_array().unwrap();
    assert_eq!(batches.len(), 4);
    for vector in batches {
        let mut world = World::with(Setup { capacity: 96, ..Setup::default() });
        write_page(&mut world, vector);
        let rows = vector["claims"].as_array().unwrap().iter().map(|claim| Row {
            slot: claim["slot"].as_u64().unwrap().try_into().unwrap(),
            cumulative: Amount::new(claim["cumulative"].as_u64().unwrap()),
            nonce: bytes(&claim["signature"]),
        });
        let rows: Vec<Row> = rows.collect();
        let scalar = bytes(&vector["s_agg"]);
        let mut other = scalar;
        other[0] ^= 1;
        assert_rejected(world.claim(&Batch { scalar: other, rows: rows.clone() }), Rejection::SignatureMismatch);

        world.claim(&Batch { scalar, rows: rows.clone() }).expect("the golden batch is taken");

        let expected: u64 = rows.iter().map(|row| row.cumulative.get()).sum();
        assert_eq!(world.page_view().header.claimed_total.get(), expected);
    }
}
