//! The accounts: their layout for Anchor and its IDL, and how to borrow one as the rules see it.
//!
//! The layout that counts is [`tallybook_rules::Book`] and [`tallybook_rules::PageHeader`]. The structs here are the same
//! bytes with Anchor's names for their types; the assertions below hold them together at compile time.

use crate::error::Failure;
use anchor_lang::prelude::*;
use bytemuck::cast_ref;
use core::mem::offset_of;
use tallybook_rules::{self as rules, MAX_LEGS, Rejection};

/// Seed of a book's address: `["book", payee, mint, book_id u16 LE]`.
#[constant]
pub const BOOK_SEED: &[u8] = b"book";
/// Seed of a page's address: `["page", book, index u32 LE]`.
#[constant]
pub const PAGE_SEED: &[u8] = b"page";

/// What a payee offers. See [`tallybook_rules::Book`] for what each field means and who writes it.
#[account(zero_copy)]
#[derive(Debug)]
#[repr(C)]
pub struct Book {
    /// Who is paid.
    pub payee: Pubkey,
    /// The token.
    pub mint: Pubkey,
    /// The owner of the mint.
    pub token_program: Pubkey,
    /// The resource server's key: may refund payers and add pages.
    pub operator: Pubkey,
    /// Who paid this account's rent.
    pub rent_payer: Pubkey,
    /// The cluster, as its genesis hash.
    pub genesis_hash: [u8; 32],
    /// The smallest deposit of a channel, in base units.
    pub min_deposit: u64,
    /// How long a payer who leaves waits, in seconds.
    pub grace_seconds: u32,
    /// After how long without a claim the payee may begin to close, in seconds; 0 is never.
    pub max_idle_seconds: u32,
    /// The index that the next page gets.
    pub next_page: u32,
    /// Tells books of one payee and mint apart.
    pub book_id: u16,
    /// Decimals of the mint.
    pub decimals: u8,
    /// 0 anyone may open, 1 the operator co-signs.
    pub open_policy: u8,
    /// How many of `legs` are in use.
    pub leg_count: u8,
    /// Layout version.
    pub version: u8,
    /// Bump of the address.
    pub bump: u8,
    /// For later versions; zero.
    pub spare: [u8; 21],
    /// The recipients of payouts, the payee's first.
    pub legs: [Leg; 5],
    /// For later versions; zero.
    pub spare_tail: [u8; 6],
}

/// One recipient of payouts. See [`tallybook_rules::Leg`].
#[zero_copy]
#[derive(Debug)]
#[repr(C)]
pub struct Leg {
    /// Who is paid.
    pub recipient: Pubkey,
    /// The recipient's associated token account.
    pub account: Pubkey,
    /// The share of everything claimed.
    pub basis_points: u16,
}

/// The head of a page; its slots, 104 bytes each, follow it. See [`tallybook_rules::PageHeader`] and
/// [`tallybook_rules::Slot`].
#[account(zero_copy)]
#[derive(Debug)]
#[repr(C)]
pub struct Page {
    /// The book whose channels these are.
    pub book: Pubkey,
    /// Binds vouchers to program, cluster and page.
    pub page_domain: [u8; 32],
    /// The associated token account of the page.
    pub vault: Pubkey,
    /// Who paid the rent of page and vault.
    pub rent_payer: Pubkey,
    /// What still belongs to payers, in base units.
    pub outstanding: u64,
    /// All that was ever claimed from this page, in base units.
    pub claimed_total: u64,
    /// All that was ever paid out, for each leg, in base units.
    pub paid: [u64; 5],
    /// The page's number in its book.
    pub index: u32,
    /// Slots.
    pub capacity: u8,
    /// Slots that are not free.
    pub used: u8,
    /// Layout version.
    pub version: u8,
    /// Bump of the address.
    pub bump: u8,
    /// For later versions; zero.
    pub spare: [u8; 24],
}

/// Asserts that two structs have the same size and each named field at the same place, with the same size.
macro_rules! same_layout {
    ($ours:ty, $rules:ty, $($field:ident)+) => {
        #[expect(clippy::arithmetic_side_effects, reason = "at compile time, where it fails the build")]
        const _: () = {
            assert!(size_of::<$ours>() == size_of::<$rules>() && align_of::<$ours>() == align_of::<$rules>());
            let mut end = 0;
            $(
                assert!(offset_of!($ours, $field) == offset_of!($rules, $field), stringify!($field));
                // Fields are listed in order, so that a field left out here is noticed as a gap.
                assert!(offset_of!($ours, $field) == end, stringify!($field));
                end += field_size(|ours: &$ours| &ours.$field);
                assert!(end - offset_of!($rules, $field) == field_size(|rules: &$rules| &rules.$field));
            )+
            assert!(size_of::<$ours>() - end < align_of::<$ours>());
        };
    };
}

/// The size of the field that `_get` gets.
const fn field_size<S, T>(_get: fn(&S) -> &T) -> usize {
    size_of::<T>()
}

same_layout!(Leg, rules::Leg, recipient account basis_points);
same_layout!(Book, rules::Book,
    payee mint token_program operator rent_payer genesis_hash min_deposit grace_seconds max_idle_seconds next_page
    book_id decimals open_policy leg_count version bump spare legs spare_tail);
same_layout!(Page, rules::PageHeader,
    book page_domain vault rent_payer outstanding claimed_total paid index capacity used version bump spare);
const _: () = assert!(MAX_LEGS == 5, "the IDL has no names for lengths");

/// Bytes of an account's discriminator.
pub(crate) const DISCRIMINATOR_BYTES: usize = 8;

impl Book {
    /// The book as the rules see it; [`Rejection::WrongAccount`] if it has another layout version.
    pub(crate) fn rules(&self) -> core::result::Result<&rules::Book, Failure> {
        let book: &rules::Book = cast_ref(self);
        if book.version == rules::Book::VERSION { Ok(book) } else { Err(Rejection::WrongAccount.into()) }
    }
}

impl Page {
    /// The header as the rules see it; [`Rejection::WrongAccount`] if the page has another layout version.
    pub(crate) fn rules(&self) -> core::result::Result<&rules::PageHeader, Failure> {
        let header: &rules::PageHeader = cast_ref(self);
        if header.version == rules::PageHeader::VERSION { Ok(header) } else { Err(Rejection::WrongAccount.into()) }
    }

    /// The seeds that sign for the page, but for the bump: `["page", book, index u32 LE]`.
    pub(crate) fn index_bytes(&self) -> [u8; 4] {
        self.index.to_le_bytes()
    }
}

/// Makes a transition of a page, and checks what must hold of every page after it.
///
/// The one way by which a page is written after it was added.
pub(crate) fn change<T>(
    page: &AccountLoader<'_, Page>,
    transition: impl FnOnce(&mut rules::Page<'_>) -> core::result::Result<T, Failure>,
) -> core::result::Result<T, Failure> {
    let mut data = page.as_ref().try_borrow_mut_data()?;
    let (_, bytes) = data.split_at_mut_checked(DISCRIMINATOR_BYTES).ok_or(Rejection::WrongAccount)?;
    let mut page = rules::Page::from_bytes(bytes)?;
    let outcome = transition(&mut page)?;
    page.check()?;
    Ok(outcome)
}

/// Now, in Unix seconds.
pub(crate) fn now() -> Result<i64> {
    Ok(Clock::get()?.unix_timestamp)
}
