//! Reading the program's accounts, as any RPC endpoint returns them.

use crate::address::associated_token_account;
use solana_address::Address;
use tallybook_rules::signing::channel_id;
use tallybook_rules::{Amount, Book, PageHeader, Rejection, Slot, Status};

/// `SHA-256("account:Book")[..8]`, Anchor's account discriminator.
pub const BOOK_DISCRIMINATOR: [u8; 8] = [121, 34, 121, 35, 91, 62, 85, 222];
/// `SHA-256("account:Page")[..8]`.
pub const PAGE_DISCRIMINATOR: [u8; 8] = [133, 127, 192, 87, 206, 149, 195, 14];

/// A book and where it stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BookView {
    /// The account's address.
    pub address: Address,
    /// What it says.
    pub state: Book,
}

impl BookView {
    /// Reads an account's data. The caller has checked that the program owns the account.
    /// [`Rejection::WrongAccount`] when it is no book of this version.
    pub fn parse(address: Address, data: &[u8]) -> Result<Self, Rejection> {
        let (discriminator, rest) = data.split_first_chunk().ok_or(Rejection::WrongAccount)?;
        let state: Book = bytemuck::try_pod_read_unaligned(rest).map_err(|_| Rejection::WrongAccount)?;
        if *discriminator != BOOK_DISCRIMINATOR || state.version != Book::VERSION {
            return Err(Rejection::WrongAccount);
        }
        Ok(Self { address, state })
    }

    /// Who is paid.
    pub fn payee(&self) -> Address {
        self.state.payee.into()
    }

    /// The resource server's key.
    pub fn operator(&self) -> Address {
        self.state.operator.into()
    }

    /// The token.
    pub fn mint(&self) -> Address {
        self.state.mint.into()
    }

    /// The owner of the mint.
    pub fn token_program(&self) -> Address {
        self.state.token_program.into()
    }

    /// The associated token account of `owner` for this book's mint.
    pub fn token_account(&self, owner: &Address) -> Address {
        associated_token_account(owner, &self.mint(), &self.token_program())
    }

    /// The vault of a page.
    pub fn vault(&self, page: &Address) -> Address {
        self.token_account(page)
    }
}

/// A page and where it stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PageView {
    /// The account's address.
    pub address: Address,
    /// Totals and identity.
    pub header: PageHeader,
    /// The channels.
    pub slots: Vec<Slot>,
}

impl PageView {
    /// Reads an account's data. The caller has checked that the program owns the account.
    /// [`Rejection::WrongAccount`] when it is no page of this version.
    pub fn parse(address: Address, data: &[u8]) -> Result<Self, Rejection> {
        let (discriminator, rest) = data.split_first_chunk().ok_or(Rejection::WrongAccount)?;
        let (header, slots) = rest.split_at_checked(PageHeader::SIZE).ok_or(Rejection::WrongAccount)?;
        let header: PageHeader = bytemuck::try_pod_read_unaligned(header).map_err(|_| Rejection::WrongAccount)?;
        let (slots, rest) = slots.as_chunks::<{ Slot::SIZE }>();
        let sound = *discriminator == PAGE_DISCRIMINATOR
            && header.version == PageHeader::VERSION
            && slots.len() == usize::from(header.capacity)
            && rest.is_empty();
        if !sound {
            return Err(Rejection::WrongAccount);
        }
        Ok(Self { address, header, slots: slots.iter().map(|slot| bytemuck::pod_read_unaligned(slot)).collect() })
    }

    /// The book that the page belongs to.
    pub fn book(&self) -> Address {
        self.header.book.into()
    }

    /// The slot numbered `at`, or [`Rejection::NoSuchSlot`].
    pub fn slot(&self, at: u8) -> Result<&Slot, Rejection> {
        self.slots.get(usize::from(at)).ok_or(Rejection::NoSuchSlot)
    }

    /// The id of the channel that stands in the slot numbered `at`, if one does.
    pub fn channel_id(&self, at: u8) -> Option<[u8; 32]> {
        let slot = self.slot(at).ok().filter(|slot| slot.status() != Ok(Status::Free))?;
        Some(channel_id(&self.header.page_domain, at, slot.generation, &slot.payer, &slot.signer))
    }

    /// Free slots, each with the generation that opens it.
    pub fn free_slots(&self) -> impl Iterator<Item = (u8, u32)> {
        self.slots.iter().enumerate().filter_map(|(at, slot)| {
            let free = slot.status() == Ok(Status::Free);
            Some((u8::try_from(at).ok()?, slot.generation.checked_add(1)?)).filter(|_| free)
        })
    }
}

/// The fields of a token account that both token programs keep at the same place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TokenAccountView {
    /// The token.
    pub mint: Address,
    /// Who may spend it.
    pub owner: Address,
    /// Base units.
    pub amount: Amount,
    /// The mint's freeze authority has frozen it.
    pub frozen: bool,
}

impl TokenAccountView {
    /// Bytes of the part that both programs share.
    pub const SIZE: usize = 165;

    /// Reads an account's data; `None` when it is no initialized token account. The caller has checked that a token
    /// program owns the account.
    pub fn parse(data: &[u8]) -> Option<Self> {
        let base: &[u8; Self::SIZE] = data.first_chunk()?;
        // Token-2022 tells its accounts from its mints by the byte after the shared part: 2 is an account.
        if data.len() > Self::SIZE && data.get(Self::SIZE) != Some(&2) {
            return None;
        }
        let key = |at: usize| base.get(at..).and_then(|rest| rest.first_chunk()).copied().map(Address::from);
        let amount = base.get(64..).and_then(|rest| rest.first_chunk()).copied().map(u64::from_le_bytes)?;
        let state = *base.get(108)?;
        (state == 1 || state == 2).then_some(())?;
        Some(Self { mint: key(0)?, owner: key(32)?, amount: Amount::new(amount), frozen: state == 2 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(capacity: u8, version: u8) -> Vec<u8> {
        let mut header = PageHeader { capacity, version, book: [7; 32], ..PageHeader::default() };
        header.page_domain = [9; 32];
        let mut data = PAGE_DISCRIMINATOR.to_vec();
        data.extend_from_slice(bytemuck::bytes_of(&header));
        for at in 0..capacity {
            let slot = Slot { generation: u32::from(at), status_byte: at % 2, payer: [at; 32], ..Slot::default() };
            data.extend_from_slice(bytemuck::bytes_of(&slot));
        }
        data
    }

    #[test]
    fn given_a_page_when_parsed_then_free_and_taken_slots_are_told_apart() {
        let view = PageView::parse(Address::from([1; 32]), &page(4, 1)).unwrap();
        assert_eq!(view.book(), Address::from([7; 32]));
        assert_eq!(view.free_slots().collect::<Vec<_>>(), [(0, 1), (2, 3)]);
        assert_eq!(view.channel_id(0), None);
        assert_eq!(view.channel_id(1), Some(channel_id(&[9; 32], 1, 1, &[1; 32], &[0; 32])));
        assert_eq!(view.slot(4), Err(Rejection::NoSuchSlot));
    }

    #[test]
    fn given_other_bytes_when_parsed_then_they_are_no_page() {
        let good = page(4, 1);
        let parse = |data: &[u8]| PageView::parse(Address::default(), data).map(|_| ());
        assert_eq!(parse(&good), Ok(()));
        for length in 0..good.len() {
            assert_eq!(parse(&good[..length]), Err(Rejection::WrongAccount), "cut to {length} bytes");
        }
        let mut long = good.clone();
        long.extend_from_slice(&[0; Slot::SIZE]);
        let mut kind = good.clone();
        kind[0] ^= 1;
        for bad in [long, kind, page(4, 2)] {
            assert_eq!(parse(&bad), Err(Rejection::WrongAccount));
        }
    }

    #[test]
    fn given_token_accounts_of_both_programs_when_parsed_then_mints_and_the_uninitialized_are_none() {
        let mut data = vec![0; 165];
        data[..32].copy_from_slice(&[1; 32]);
        data[32..64].copy_from_slice(&[2; 32]);
        data[64..72].copy_from_slice(&500u64.to_le_bytes());
        assert_eq!(TokenAccountView::parse(&data), None, "state 0 is uninitialized");
        data[108] = 2;
        let view = TokenAccountView::parse(&data).unwrap();
        assert!(view.frozen && view.amount == Amount::new(500) && view.owner == Address::from([2; 32]));
        data.push(2);
        assert_eq!(TokenAccountView::parse(&data), Some(view), "Token-2022 says that it is an account");
        data[165] = 1;
        assert_eq!(TokenAccountView::parse(&data), None, "Token-2022 says that it is a mint");
        assert_eq!(TokenAccountView::parse(&data[..164]), None);
    }
}
