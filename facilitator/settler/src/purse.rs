//! The keys that pay for transactions.
//!
//! One of them is the sponsor, whom clients and operators are told of. Whoever claims for many pages may give more keys that
//! pay for claims and nothing else: each transaction locks its fee payer for writing, so all that one key pays for share what a
//! block has for one account.

use solana_address::Address;
use solana_keypair::Keypair;
use solana_message::VersionedMessage;
use solana_signature::Signature;
use solana_signer::Signer;
use std::sync::atomic::{AtomicBool, Ordering};

/// With so many lamports a key pays again that could not pay before: what an account without data has to hold (890,880), and
/// the fees of some claims.
const LEAST_LAMPORTS: u64 = 1_000_000;

/// A key, and whether the chain has last said that it cannot pay.
struct Payer {
    key: Keypair,
    is_broke: AtomicBool,
}

/// Holds keys, so it has no `Debug`.
pub(crate) struct Purse {
    sponsor: Payer,
    /// Those that pay for claims in the sponsor's place, if any.
    claiming: Vec<Payer>,
}

impl Payer {
    const fn of(key: Keypair) -> Self {
        Self { key, is_broke: AtomicBool::new(false) }
    }

    fn can_pay(&self) -> bool {
        !self.is_broke.load(Ordering::Relaxed)
    }
}

impl Purse {
    pub(crate) fn new(sponsor: Keypair, claiming: Vec<Keypair>) -> Self {
        Self { sponsor: Payer::of(sponsor), claiming: claiming.into_iter().map(Payer::of).collect() }
    }

    pub(crate) fn sponsor(&self) -> Address {
        self.sponsor.key.pubkey()
    }

    /// All of them, the sponsor first.
    pub(crate) fn addresses(&self) -> Vec<Address> {
        self.all().map(|payer| payer.key.pubkey()).collect()
    }

    /// Who pays for claims in a page: always the same while that one can, so that pages are spread over the keys. The next one
    /// that can, else, and the sponsor at last.
    pub(crate) fn of_page(&self, page: &Address) -> Address {
        let (start, _) = page.as_array().split_first_chunk::<8>().unwrap_or((&[0; 8], &[]));
        let number = usize::try_from(u64::from_le_bytes(*start) >> 32).unwrap_or(0);
        let first = number.checked_rem(self.claiming.len()).unwrap_or(0);
        let (before, after) = self.claiming.split_at_checked(first).unwrap_or((&[], &self.claiming));
        let mut in_turn = after.iter().chain(before);
        in_turn.find(|payer| payer.can_pay()).unwrap_or(&self.sponsor).key.pubkey()
    }

    /// Whether one of them has last been able to pay.
    pub(crate) fn can_pay(&self, payer: &Address) -> bool {
        self.all().any(|one| one.can_pay() && one.key.pubkey() == *payer)
    }

    /// Signs a message in the name of whoever pays for it; of the sponsor when that is none of ours. Ed25519 is deterministic:
    /// the same message is the same transaction.
    pub(crate) fn sign(&self, message: &VersionedMessage) -> Signature {
        let payer = self.payer_of(message).unwrap_or(&self.sponsor);
        payer.key.sign_message(&message.serialize())
    }

    /// Notes whether the chain takes it that whoever pays for a message does so. The payer, where that has changed or is bad.
    pub(crate) fn note(&self, message: &VersionedMessage, is_broke: bool) -> Option<Address> {
        let payer = self.payer_of(message)?;
        let before = payer.is_broke.swap(is_broke, Ordering::Relaxed);
        (is_broke || before).then(|| payer.key.pubkey())
    }

    /// Takes in what each of [`Self::addresses`] holds: who has got something pays again.
    pub(crate) fn holds(&self, lamports: &[u64]) {
        self.all().zip(lamports).filter(|(_, held)| **held >= LEAST_LAMPORTS).for_each(|(payer, _)| {
            payer.is_broke.store(false, Ordering::Relaxed);
        });
    }

    pub(crate) fn is_one_broke(&self) -> bool {
        self.all().any(|payer| !payer.can_pay())
    }

    fn all(&self) -> impl Iterator<Item = &Payer> {
        std::iter::once(&self.sponsor).chain(&self.claiming)
    }

    fn payer_of(&self, message: &VersionedMessage) -> Option<&Payer> {
        let first = message.static_account_keys().first()?;
        self.all().find(|payer| payer.key.pubkey() == *first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use solana_message::{Message, v0};
    use std::collections::BTreeMap;

    fn paid_by(payer: &Address) -> VersionedMessage {
        VersionedMessage::V0(v0::Message::try_compile(payer, &[], &[], Default::default()).unwrap())
    }

    fn purse(claiming: u8) -> Purse {
        let key = |seed: u8| Keypair::new_from_array([seed; 32]);
        Purse::new(key(0), (1..=claiming).map(key).collect())
    }

    fn page(number: u16) -> Address {
        let mut page = [0; 32];
        page[4..6].copy_from_slice(&number.to_le_bytes());
        Address::from(page)
    }

    #[test]
    fn given_no_more_keys_when_a_page_is_claimed_then_the_sponsor_pays() {
        let purse = purse(0);
        assert_eq!(purse.of_page(&page(7)), purse.sponsor());
        assert_eq!(purse.addresses(), [purse.sponsor()]);
    }

    #[test]
    fn given_more_keys_when_many_pages_are_claimed_then_they_are_spread_evenly_and_each_keeps_its_key() {
        let purse = purse(3);
        let mut pages: BTreeMap<Address, u32> = BTreeMap::new();
        (0..300).for_each(|number| {
            let payer = purse.of_page(&page(number));
            assert_eq!(payer, purse.of_page(&page(number)));
            *pages.entry(payer).or_default() += 1;
        });
        assert_eq!(pages.into_values().collect::<Vec<_>>(), [100; 3]);
        assert!(!(0..300).any(|number| purse.of_page(&page(number)) == purse.sponsor()), "which has other work");
    }

    #[test]
    fn given_a_key_without_sol_when_its_pages_are_claimed_then_another_pays_until_it_holds_some_again() {
        // Given
        let purse = purse(2);
        let [first, second] = [purse.of_page(&page(0)), purse.of_page(&page(1))];
        assert_ne!(first, second);
        // When
        assert_eq!(purse.note(&paid_by(&first), true), Some(first));
        // Then
        assert_eq!([purse.of_page(&page(0)), purse.of_page(&page(1))], [second; 2]);
        purse.note(&paid_by(&second), true);
        assert_eq!(purse.of_page(&page(0)), purse.sponsor(), "nobody else is left");
        assert!(purse.is_one_broke());
        // And when they hold too little, and enough
        purse.holds(&[0, LEAST_LAMPORTS - 1, LEAST_LAMPORTS]);
        assert_eq!(purse.of_page(&page(0)), second);
        purse.holds(&[0, LEAST_LAMPORTS, LEAST_LAMPORTS]);
        assert_eq!(purse.of_page(&page(0)), first);
        assert!(!purse.is_one_broke());
    }

    #[test]
    fn given_a_message_when_it_is_signed_then_by_whoever_pays_for_it() {
        let purse = purse(2);
        for payer in purse.addresses() {
            for message in [paid_by(&payer), VersionedMessage::Legacy(Message::new(&[], Some(&payer)))] {
                assert!(purse.sign(&message).verify(payer.as_ref(), &message.serialize()));
                assert_eq!(purse.note(&message, false), None, "nothing new");
            }
        }
        let stranger = paid_by(&page(1));
        assert!(purse.sign(&stranger).verify(purse.sponsor().as_ref(), &stranger.serialize()));
    }
}
