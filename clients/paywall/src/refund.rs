//! The cooperative close: what the operator's key signs, and what it does not.
//!
//! The facilitator builds the transaction; here it is taken apart and compared with the one that the payer's own voucher
//! allows: claims of that page, which only ever benefit the payee, and a refund of that one channel which keeps all that
//! was charged.

use crate::builder::Shared;
use crate::keeper::Failure;
use crate::operator::Proposed;
use crate::respond::Refused;
use solana_message::compiled_instruction::CompiledInstruction;
use solana_signer::Signer;
use tallybook_chain::address::PROGRAM_ID;
use tallybook_chain::instruction::{Instructions, RefundRow, discriminator};
use tallybook_chain::{Address, BookView};
use tallybook_rules::signing::page_domain;
use tallybook_rules::{Amount, Book, Rejection};
use tallybook_wire::{
    Channel, ChannelPayload, FacilitatorRequest, Offer, SettleResponse, TransactionBytes, VerifyResponse, Voucher,
};

/// Closes the channel of a `refund` payment at once: the receipt.
pub(crate) async fn close(shared: &Shared, mut payment: Box<FacilitatorRequest>) -> Result<SettleResponse, Refused> {
    let operator = shared.operator.as_ref().ok_or(Rejection::OperatorMustSign)?;
    let voucher = *payment.payment_payload.payload.voucher();
    payment.payment_payload.payload = ChannelPayload::Refund { voucher, transaction: None };
    let unsigned = match shared.keeper.prepare_refund(&payment).await? {
        VerifyResponse::Valid { extra, .. } => extra.transaction.ok_or(Rejection::FacilitatorUnavailable)?,
        VerifyResponse::Invalid { reason, extra, .. } => return Err(Refused::new(reason, extra)),
    };
    let keep = shared.vouchers.as_ref().and_then(|kept| kept.of(&voucher.channel_id));
    if keep.is_some_and(|kept| kept.charged > voucher.max_claimable_amount) {
        // More was charged here than the payer, and a facilitator that agrees with it, says now.
        return Err(Rejection::WrongCumulative.into());
    }
    let closing = expected(shared, &voucher).await?;
    let signed = closing.sign(&unsigned, operator)?;
    payment.payment_payload.payload = ChannelPayload::Refund { voucher, transaction: Some(signed) };
    match shared.keeper.refund(&payment).await {
        Ok(receipt @ SettleResponse::Settled { .. }) => Ok(receipt),
        Ok(SettleResponse::Failed { reason, transaction, extra, .. }) => {
            Err(Refused::new(reason, extra).sent(transaction))
        }
        Err(Failure::Unknown) => Err(Rejection::SettlementPending.into()),
        Err(failure) => Err(failure.into()),
    }
}

/// What may be signed for one channel.
#[derive(Clone, Copy, Debug)]
struct Closing {
    book: BookView,
    channel: Channel,
    keep: Amount,
}

/// The channel of a voucher, as the facilitator names it. It cannot name another one: the id, which the payer has signed,
/// is a hash of all its parts.
async fn expected(shared: &Shared, voucher: &Voucher) -> Result<Closing, Refused> {
    let facilitator = &shared.keeper.facilitator;
    let terms = shared.keeper.terms().await?;
    let cluster = facilitator.cluster(&terms).await?;
    let channel = facilitator.channel(&voucher.channel_id).await?.channel;
    let domain = page_domain(PROGRAM_ID.as_array(), &cluster.genesis_hash.0, &channel.page.0);
    if channel.id(&domain) != voucher.channel_id || channel.book != terms.extra.book {
        return Err(Rejection::UnknownChannel.into());
    }
    Ok(Closing { book: book(&terms), channel, keep: voucher.max_claimable_amount })
}

/// As much of the book as instructions are made of.
pub(crate) fn book(terms: &Offer) -> BookView {
    let state = Book { mint: terms.asset.0, token_program: terms.extra.token_program.0, ..Book::default() };
    BookView { address: terms.extra.book.0.into(), state }
}

impl Closing {
    /// The transaction with the operator's signature; [`Rejection::RequirementsMismatch`] when it does anything else than
    /// closing this channel.
    fn sign(&self, unsigned: &TransactionBytes, operator: &impl Signer) -> Result<TransactionBytes, Rejection> {
        let proposed = Proposed::read(unsigned, operator)?;
        let instructions = proposed.instructions();
        let (refund, claims) = instructions.split_last().ok_or(Rejection::RequirementsMismatch)?;
        let allowed = claims.len() <= 1
            && claims.iter().all(|claim| self.is_claim(&proposed, claim))
            && self.is_refund(&proposed, refund, &operator.pubkey());
        if allowed { proposed.sign(operator) } else { Err(Rejection::RequirementsMismatch) }
    }

    /// A claim of the channel's page: whatever is in it, only the payee gains.
    fn is_claim(&self, proposed: &Proposed, instruction: &CompiledInstruction) -> bool {
        let claims = [discriminator::CLAIM, discriminator::CLAIM_BELOW];
        proposed.is_ours(instruction)
            && instruction.data.first().is_some_and(|discriminator| claims.contains(discriminator))
            && proposed.accounts(instruction) == Some(vec![self.channel.page.0.into()])
    }

    /// Exactly the refund that keeps what was charged.
    fn is_refund(&self, proposed: &Proposed, instruction: &CompiledInstruction, operator: &Address) -> bool {
        let (page, payer) = (self.channel.page.0.into(), self.channel.payer.0.into());
        let row = RefundRow { slot: self.channel.slot, generation: self.channel.generation, keep: self.keep.get() };
        let wanted = Instructions::new(PROGRAM_ID).refund(&self.book, &page, operator, &[(row, payer)]);
        proposed.is_ours(instruction)
            && instruction.data == wanted.data
            && proposed.accounts(instruction) == Some(wanted.accounts.iter().map(|account| account.pubkey).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use solana_hash::Hash;
    use solana_keypair::Keypair;
    use solana_message::VersionedMessage;
    use solana_message::legacy::Message;
    use solana_transaction::versioned::VersionedTransaction;
    use tallybook_chain::transaction::{compute_unit_limit, compute_unit_price, from_bytes, memo, to_bytes};
    use tallybook_rules::half_aggregation::Row;
    use tallybook_wire::Key;

    struct Scene {
        closing: Closing,
        operator: Keypair,
        sponsor: Address,
        page: Address,
    }

    fn scene() -> Scene {
        let channel = Channel {
            payer: Key([1; 32]),
            signer: Key([2; 32]),
            book: Key([3; 32]),
            page: Key([4; 32]),
            slot: 5,
            generation: 6,
        };
        let state = Book { mint: [7; 32], token_program: [8; 32], ..Book::default() };
        let book = BookView { address: Address::from([3; 32]), state };
        let closing = Closing { book, channel, keep: Amount::new(500) };
        Scene { closing, operator: Keypair::new(), sponsor: Address::from([9; 32]), page: Address::from([4; 32]) }
    }

    impl Scene {
        fn refund(&self, row: RefundRow, payer: [u8; 32]) -> solana_instruction::Instruction {
            let operator = self.operator.pubkey();
            Instructions::new(PROGRAM_ID).refund(&self.closing.book, &self.page, &operator, &[(row, payer.into())])
        }

        fn sign(&self, sponsor: &Address, instructions: &[solana_instruction::Instruction]) -> Result<(), Rejection> {
            let message = Message::new_with_blockhash(instructions, Some(sponsor), &Hash::default());
            let signatures = vec![Default::default(); usize::from(message.header.num_required_signatures)];
            let transaction = VersionedTransaction { signatures, message: VersionedMessage::Legacy(message) };
            let unsigned = TransactionBytes::new(to_bytes(&transaction).unwrap()).unwrap();
            let signed = self.closing.sign(&unsigned, &self.operator)?;
            let signed = from_bytes(signed.as_bytes()).unwrap();
            let keys = signed.message.static_account_keys();
            let at = keys.iter().position(|key| *key == self.operator.pubkey()).unwrap();
            let message = signed.message.serialize();
            assert!(signed.signatures[at].verify(keys[at].as_ref(), &message), "the operator has signed");
            Ok(())
        }
    }

    const ROW: RefundRow = RefundRow { slot: 5, generation: 6, keep: 500 };

    #[test]
    fn given_the_channels_own_refund_when_asked_then_the_operator_signs() {
        let scene = scene();
        let rows = [Row { slot: 5, cumulative: Amount::new(500), nonce: [1; 32] }];
        let claim = Instructions::new(PROGRAM_ID).claim(&scene.page, &[0; 32], &rows).unwrap();
        let refund = scene.refund(ROW, [1; 32]);
        let budget = [compute_unit_limit(1), compute_unit_price(1)];
        assert_eq!(scene.sign(&scene.sponsor, &[budget.to_vec(), vec![claim, refund.clone()]].concat()), Ok(()));
        assert_eq!(scene.sign(&scene.sponsor, &[refund]), Ok(()));
    }

    #[test]
    fn given_anything_else_when_asked_then_the_operator_does_not_sign() {
        let scene = scene();
        let good = scene.refund(ROW, [1; 32]);
        let rows = [Row { slot: 5, cumulative: Amount::new(500), nonce: [1; 32] }];
        let elsewhere = Instructions::new(PROGRAM_ID).claim(&Address::from([44; 32]), &[0; 32], &rows).unwrap();
        let mut other_program = good.clone();
        other_program.program_id = Address::from([55; 32]);
        let cases = [
            ("keeps less", vec![scene.refund(RefundRow { keep: 499, ..ROW }, [1; 32])]),
            ("another slot", vec![scene.refund(RefundRow { slot: 4, ..ROW }, [1; 32])]),
            ("another generation", vec![scene.refund(RefundRow { generation: 7, ..ROW }, [1; 32])]),
            ("another payer", vec![scene.refund(ROW, [11; 32])]),
            ("another program", vec![other_program]),
            ("a claim of another page", vec![elsewhere, good.clone()]),
            ("two refunds", vec![good.clone(), good.clone()]),
            ("a memo besides", vec![memo("x"), good.clone()]),
            ("nothing at all", vec![compute_unit_limit(1)]),
        ];
        for (case, instructions) in cases {
            assert_eq!(scene.sign(&scene.sponsor, &instructions), Err(Rejection::RequirementsMismatch), "{case}");
        }
        let operator = scene.operator.pubkey();
        assert_eq!(scene.sign(&operator, &[good]), Err(Rejection::RequirementsMismatch), "the operator pays the fee");
    }
}
