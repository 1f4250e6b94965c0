//! The one shape of transaction that puts money into a channel at a sponsor's expense: compute limit, compute price, `open`
//! or `top_up`, and a memo with the channel's id, in a legacy or v0 message with static accounts only.

use crate::account::{BookView, PageView};
use crate::address::PROGRAM_ID;
use crate::instruction::{Addition, Instructions, NewChannel};
use crate::transaction::{compute_unit_limit, compute_unit_price, memo};
use solana_address::Address;
use solana_hash::Hash;
use solana_instruction::Instruction;
use solana_message::{VersionedMessage, legacy};
use tallybook_rules::signing::channel_id;
use tallybook_rules::{Rejection, Status};

/// What an `open` or a `top_up` needs, with room: about 25,000 units were measured.
pub const COMPUTE_UNITS: u32 = 60_000;
/// The compute price that clients offer unless told otherwise, in micro-lamports a unit.
pub const COMPUTE_PRICE: u64 = 1_000;

/// The id of the channel that `new` would open; [`Rejection::SlotTaken`] or [`Rejection::WrongGeneration`] when the
/// page says that it would not.
pub fn expected_channel_id(page: &PageView, new: &NewChannel) -> Result<[u8; 32], Rejection> {
    let slot = page.slot(new.slot)?;
    if slot.status()? != Status::Free {
        return Err(Rejection::SlotTaken);
    }
    if slot.generation.checked_add(1) != Some(new.generation) {
        return Err(Rejection::WrongGeneration);
    }
    Ok(channel_id(&page.header.page_domain, new.slot, new.generation, &new.payer.to_bytes(), &new.signer))
}

/// The memo of a deposit: the channel's id in hexadecimal, which also makes each opening's transaction unique.
pub fn memo_text(channel_id: &[u8; 32]) -> String {
    channel_id.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The four instructions of an opening, in their order.
pub fn instructions(book: &BookView, new: &NewChannel, channel_id: &[u8; 32]) -> [Instruction; 4] {
    around(Instructions::new(PROGRAM_ID).open(book, new), channel_id)
}

/// The four instructions of a top-up of the channel with this id, in their order.
pub fn top_up_instructions(book: &BookView, addition: &Addition, channel_id: &[u8; 32]) -> [Instruction; 4] {
    around(Instructions::new(PROGRAM_ID).top_up(book, addition), channel_id)
}

fn around(deposit: Instruction, channel_id: &[u8; 32]) -> [Instruction; 4] {
    [compute_unit_limit(COMPUTE_UNITS), compute_unit_price(COMPUTE_PRICE), deposit, memo(&memo_text(channel_id))]
}

/// The message of an opening for payer and sponsor to sign; the sponsor pays the fee and is in no instruction.
pub fn message(
    book: &BookView,
    new: &NewChannel,
    channel_id: &[u8; 32],
    fee_payer: &Address,
    blockhash: Hash,
) -> VersionedMessage {
    sponsored(&instructions(book, new, channel_id), fee_payer, blockhash)
}

/// The message of a top-up for funder and sponsor to sign, as for an opening. The same addition with the same blockhash is
/// the same transaction, which lands once: whoever adds the same amount twice takes a newer blockhash.
pub fn top_up_message(
    book: &BookView,
    addition: &Addition,
    channel_id: &[u8; 32],
    fee_payer: &Address,
    blockhash: Hash,
) -> VersionedMessage {
    sponsored(&top_up_instructions(book, addition, channel_id), fee_payer, blockhash)
}

fn sponsored(instructions: &[Instruction], fee_payer: &Address, blockhash: Hash) -> VersionedMessage {
    VersionedMessage::Legacy(legacy::Message::new_with_blockhash(instructions, Some(fee_payer), &blockhash))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transaction::{MAX_TRANSACTION_BYTES, from_bytes, to_bytes};
    use solana_keypair::Keypair;
    use solana_signer::Signer;
    use solana_transaction::versioned::VersionedTransaction;
    use tallybook_rules::{Book, PageHeader, Slot};

    fn opening(payer: &Keypair) -> (BookView, PageView, NewChannel) {
        let book = BookView { address: Address::from([3; 32]), state: Book { mint: [4; 32], ..Book::default() } };
        let address = Address::from([5; 32]);
        let slots = vec![Slot::default(); 2];
        let page = PageView { address, header: PageHeader { capacity: 2, ..PageHeader::default() }, slots };
        let payer = payer.pubkey();
        let new = NewChannel {
            payer,
            source: book.token_account(&payer),
            operator: None,
            page: address,
            slot: 1,
            generation: 1,
            signer: payer.to_bytes(),
            deposit: 1_000,
        };
        (book, page, new)
    }

    #[test]
    fn given_a_free_slot_when_opened_then_the_transaction_survives_the_wire_and_only_exactly() {
        let (payer, sponsor) = (Keypair::new(), Keypair::new());
        let (book, page, new) = opening(&payer);
        let id = expected_channel_id(&page, &new).unwrap();
        let message = message(&book, &new, &id, &sponsor.pubkey(), Hash::default());
        let transaction = VersionedTransaction::try_new(message, &[&sponsor, &payer]).unwrap();
        let bytes = to_bytes(&transaction).unwrap();
        assert_eq!(from_bytes(&bytes).as_ref(), Ok(&transaction));
        for length in 0..bytes.len() {
            assert!(from_bytes(&bytes[..length]).is_err(), "cut to {length} bytes");
        }
        let mut trailing = bytes.clone();
        trailing.push(0);
        assert_eq!(from_bytes(&trailing), Err(Rejection::MalformedPayload));
        assert_eq!(from_bytes(&vec![0; MAX_TRANSACTION_BYTES + 1]), Err(Rejection::RequestTooLarge));
    }

    #[test]
    fn given_an_open_channel_when_topped_up_then_the_transaction_survives_the_wire_and_fits() {
        let (payer, sponsor) = (Keypair::new(), Keypair::new());
        let (book, page, new) = opening(&payer);
        let addition = Addition {
            funder: new.payer,
            source: new.source,
            page: page.address,
            slot: new.slot,
            generation: 1,
            amount: 500,
        };
        let message = top_up_message(&book, &addition, &[7; 32], &sponsor.pubkey(), Hash::default());
        let transaction = VersionedTransaction::try_new(message, &[&sponsor, &payer]).unwrap();
        assert_eq!(from_bytes(&to_bytes(&transaction).unwrap()), Ok(transaction));
    }

    #[test]
    fn given_a_taken_slot_or_another_generation_when_opened_then_it_is_refused() {
        let (_, mut page, mut new) = opening(&Keypair::new());
        new.generation = 2;
        assert_eq!(expected_channel_id(&page, &new), Err(Rejection::WrongGeneration));
        page.slots[1].status_byte = 1;
        assert_eq!(expected_channel_id(&page, &new), Err(Rejection::SlotTaken));
        new.slot = 2;
        assert_eq!(expected_channel_id(&page, &new), Err(Rejection::NoSuchSlot));
    }
}
