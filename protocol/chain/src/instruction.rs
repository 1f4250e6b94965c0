//! The instructions: a one-byte discriminator, then borsh arguments (the claim's rows: plain bytes).
//!
//! [`Instructions`] knows the program's id once; every method is one instruction of the program, its accounts in the
//! order of the IDL.

use crate::account::BookView;
use crate::address::{ASSOCIATED_TOKEN_PROGRAM, SYSTEM_PROGRAM, associated_token_account, page};
use borsh::BorshSerialize;
use solana_address::Address;
use solana_instruction::{AccountMeta, Instruction};
use tallybook_rules::half_aggregation::{BelowRow, MAX_ROWS, Row, SCALAR_BYTES};
use tallybook_rules::{Rejection, Terms};

/// Discriminators, the first byte of an instruction's data. 32 and up are kept free for later versions.
pub mod discriminator {
    #![allow(missing_docs, reason = "named after the instructions")]
    pub const INIT_BOOK: u8 = 1;
    pub const ADD_PAGE: u8 = 2;
    pub const OPEN: u8 = 3;
    pub const TOP_UP: u8 = 4;
    pub const CLAIM: u8 = 5;
    pub const CLAIM_BELOW: u8 = 6;
    pub const PAYOUT: u8 = 7;
    pub const REQUEST_CLOSE: u8 = 8;
    pub const WITHDRAW: u8 = 9;
    pub const REFUND: u8 = 10;
    pub const IDLE_CLOSE: u8 = 11;
    pub const SET_OPERATOR: u8 = 12;
    pub const CLOSE_PAGE: u8 = 13;
}

/// A recipient of a share of everything claimed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize)]
pub struct Split {
    /// Who is paid.
    pub recipient: [u8; 32],
    /// The share, 1 ..= 10,000.
    pub basis_points: u16,
}

/// One row of a refund.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize)]
pub struct RefundRow {
    /// The channel's slot.
    pub slot: u8,
    /// The channel's generation.
    pub generation: u32,
    /// What stays claimable, as a total since the opening, in base units.
    pub keep: u64,
}

/// What [`Instructions::init_book`] needs to know.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewBook {
    /// Who is paid; signs.
    pub payee: Address,
    /// Who pays the rent; signs.
    pub rent_payer: Address,
    /// The token.
    pub mint: Address,
    /// The owner of the mint.
    pub token_program: Address,
    /// Tells books of one payee and mint apart.
    pub book_id: u16,
    /// The cluster.
    pub genesis_hash: [u8; 32],
    /// Grace period, idle limit, smallest deposit, open policy.
    pub terms: Terms,
    /// The resource server's key.
    pub operator: Address,
    /// At most 4 other recipients.
    pub splits: Vec<Split>,
}

/// What [`Instructions::open`] needs to know.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NewChannel {
    /// Who funds the channel; signs.
    pub payer: Address,
    /// The payer's token account that the deposit is taken from.
    pub source: Address,
    /// The book's operator where its open policy asks for it; signs.
    pub operator: Option<Address>,
    /// The page.
    pub page: Address,
    /// The slot in it.
    pub slot: u8,
    /// The slot's next generation.
    pub generation: u32,
    /// Whose vouchers bind the channel.
    pub signer: [u8; 32],
    /// Base units.
    pub deposit: u64,
}

/// What [`Instructions::top_up`] needs to know.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Addition {
    /// Who gives the money; signs.
    pub funder: Address,
    /// The token account that it is taken from.
    pub source: Address,
    /// The page.
    pub page: Address,
    /// The channel's slot.
    pub slot: u8,
    /// The channel's generation.
    pub generation: u32,
    /// Base units.
    pub amount: u64,
}

/// The builders, for the program at one address.
#[derive(Clone, Copy, Debug)]
pub struct Instructions {
    program_id: Address,
}

impl Instructions {
    /// Builders for the program at `program_id`.
    pub const fn new(program_id: Address) -> Self {
        Self { program_id }
    }

    /// Creates a book.
    pub fn init_book(&self, new: &NewBook) -> Instruction {
        let (book, _) = crate::address::book(&self.program_id, &new.payee, &new.mint, new.book_id);
        let terms = &new.terms;
        let arguments = (
            new.book_id,
            new.genesis_hash,
            terms.grace_seconds,
            terms.max_idle_seconds,
            terms.min_deposit.get(),
            terms.open_policy,
            new.operator.to_bytes(),
            &new.splits,
        );
        let accounts = vec![
            AccountMeta::new_readonly(new.payee, true),
            AccountMeta::new(new.rent_payer, true),
            AccountMeta::new(book, false),
            AccountMeta::new_readonly(new.mint, false),
            AccountMeta::new_readonly(new.token_program, false),
            AccountMeta::new_readonly(SYSTEM_PROGRAM, false),
        ];
        self.instruction(discriminator::INIT_BOOK, &arguments, accounts)
    }

    /// Adds the page numbered `index` (the book's `next_page`) with `capacity` slots.
    pub fn add_page(
        &self,
        book: &BookView,
        authority: &Address,
        rent_payer: &Address,
        index: u32,
        capacity: u8,
    ) -> Instruction {
        let (page, _) = page(&self.program_id, &book.address, index);
        let vault = associated_token_account(&page, &book.mint(), &book.token_program());
        let accounts = vec![
            AccountMeta::new_readonly(*authority, true),
            AccountMeta::new(*rent_payer, true),
            AccountMeta::new(book.address, false),
            AccountMeta::new(page, false),
            AccountMeta::new(vault, false),
            AccountMeta::new_readonly(book.mint(), false),
            AccountMeta::new_readonly(book.token_program(), false),
            AccountMeta::new_readonly(ASSOCIATED_TOKEN_PROGRAM, false),
            AccountMeta::new_readonly(SYSTEM_PROGRAM, false),
        ];
        self.instruction(discriminator::ADD_PAGE, &(index, capacity), accounts)
    }

    /// Opens a channel.
    pub fn open(&self, book: &BookView, new: &NewChannel) -> Instruction {
        let operator = match new.operator {
            Some(operator) => AccountMeta::new_readonly(operator, true),
            None => AccountMeta::new_readonly(self.program_id, false),
        };
        let accounts = vec![
            AccountMeta::new_readonly(new.payer, true),
            operator,
            AccountMeta::new_readonly(book.address, false),
            AccountMeta::new(new.page, false),
            AccountMeta::new(new.source, false),
            AccountMeta::new(book.vault(&new.page), false),
            AccountMeta::new_readonly(book.mint(), false),
            AccountMeta::new_readonly(book.token_program(), false),
        ];
        self.instruction(discriminator::OPEN, &(new.slot, new.generation, new.signer, new.deposit), accounts)
    }

    /// Adds to the deposit of an open channel.
    pub fn top_up(&self, book: &BookView, addition: &Addition) -> Instruction {
        let accounts = vec![
            AccountMeta::new_readonly(addition.funder, true),
            AccountMeta::new_readonly(book.address, false),
            AccountMeta::new(addition.page, false),
            AccountMeta::new(addition.source, false),
            AccountMeta::new(book.vault(&addition.page), false),
            AccountMeta::new_readonly(book.mint(), false),
            AccountMeta::new_readonly(book.token_program(), false),
        ];
        self.instruction(discriminator::TOP_UP, &(addition.slot, addition.generation, addition.amount), accounts)
    }

    /// Claims a half-aggregated batch; needs no signature. [`Rejection::MalformedRows`] for no row or more than 96.
    pub fn claim(&self, page: &Address, scalar: &[u8; SCALAR_BYTES], rows: &[Row]) -> Result<Instruction, Rejection> {
        self.batch(discriminator::CLAIM, page, scalar, rows, Row::to_bytes)
    }

    /// Claims a half-aggregated batch like [`Self::claim`], but of each voucher only as much as its row says.
    pub fn claim_below(
        &self,
        page: &Address,
        scalar: &[u8; SCALAR_BYTES],
        rows: &[BelowRow],
    ) -> Result<Instruction, Rejection> {
        self.batch(discriminator::CLAIM_BELOW, page, scalar, rows, BelowRow::to_bytes)
    }

    /// Either kind of claim.
    fn batch<T, const ROW: usize>(
        &self,
        discriminator: u8,
        page: &Address,
        scalar: &[u8; SCALAR_BYTES],
        rows: &[T],
        to_bytes: impl Fn(&T) -> Result<[u8; ROW], Rejection>,
    ) -> Result<Instruction, Rejection> {
        if rows.is_empty() || rows.len() > MAX_ROWS {
            return Err(Rejection::MalformedRows);
        }
        let head = 1usize.saturating_add(SCALAR_BYTES);
        let mut data = Vec::with_capacity(head.saturating_add(ROW.saturating_mul(rows.len())));
        data.push(discriminator);
        data.extend_from_slice(scalar);
        for row in rows {
            data.extend_from_slice(&to_bytes(row)?);
        }
        Ok(Instruction { program_id: self.program_id, accounts: vec![AccountMeta::new(*page, false)], data })
    }

    /// Pays the legs whose bits are set in `legs` (bit 0 is the payee's) to their associated token accounts; needs no
    /// signature.
    pub fn payout(&self, book: &BookView, page: &Address, legs: u8) -> Instruction {
        let mut accounts = paying(book, page);
        let named = book
            .state
            .legs()
            .iter()
            .enumerate()
            .filter(|(at, _)| legs.checked_shr(u32::try_from(*at).unwrap_or(8)).unwrap_or(0) & 1 == 1);
        accounts.extend(named.map(|(_, leg)| AccountMeta::new(Address::from(leg.account), false)));
        self.instruction(discriminator::PAYOUT, &legs, accounts)
    }

    /// Begins to close a channel; the payer signs.
    pub fn request_close(
        &self,
        book: &Address,
        page: &Address,
        payer: &Address,
        slot: u8,
        generation: u32,
    ) -> Instruction {
        self.instruction(discriminator::REQUEST_CLOSE, &(slot, generation), closing(payer, book, page))
    }

    /// Ends closing channels, each a (slot, payer), after their grace period; needs no signature. The unspent money
    /// goes to each payer's associated token account.
    pub fn withdraw(&self, book: &BookView, page: &Address, channels: &[(u8, Address)]) -> Instruction {
        let slots: Vec<u8> = channels.iter().map(|(slot, _)| *slot).collect();
        let nobody = AccountMeta::new_readonly(self.program_id, false);
        let mut accounts = vec![nobody];
        accounts.extend(paying(book, page));
        accounts.extend(channels.iter().map(|(_, payer)| own_account(book, payer)));
        self.instruction(discriminator::WITHDRAW, &slots, accounts)
    }

    /// Ends one closing channel like [`Self::withdraw`], paid to any account of the mint that its payer, who signs,
    /// names.
    pub fn withdraw_to(&self, book: &BookView, page: &Address, slot: u8, payer: &Address, to: &Address) -> Instruction {
        let mut accounts = vec![AccountMeta::new_readonly(*payer, true)];
        accounts.extend(paying(book, page));
        accounts.push(AccountMeta::new(*to, false));
        self.instruction(discriminator::WITHDRAW, &vec![slot], accounts)
    }

    /// Gives unclaimed money back at once; the operator or the payee signs. Each row comes with its channel's payer.
    pub fn refund(
        &self,
        book: &BookView,
        page: &Address,
        authority: &Address,
        rows: &[(RefundRow, Address)],
    ) -> Instruction {
        let mut accounts = vec![AccountMeta::new_readonly(*authority, true)];
        accounts.extend(paying(book, page));
        accounts.extend(rows.iter().map(|(_, payer)| own_account(book, payer)));
        let rows: Vec<RefundRow> = rows.iter().map(|(row, _)| *row).collect();
        self.instruction(discriminator::REFUND, &rows, accounts)
    }

    /// Begins to close a channel that nobody has claimed from for long; the payee, the operator or the page's rent payer
    /// signs.
    pub fn idle_close(
        &self,
        book: &Address,
        page: &Address,
        authority: &Address,
        slot: u8,
        generation: u32,
    ) -> Instruction {
        self.instruction(discriminator::IDLE_CLOSE, &(slot, generation), closing(authority, book, page))
    }

    /// Names another operator; the payee signs.
    pub fn set_operator(&self, book: &BookView, operator: &Address) -> Instruction {
        let accounts = vec![AccountMeta::new_readonly(book.payee(), true), AccountMeta::new(book.address, false)];
        self.instruction(discriminator::SET_OPERATOR, &operator.to_bytes(), accounts)
    }

    /// Closes a page without channels, and its vault; the payee or the page's `rent_payer` signs. What is left in the vault
    /// goes to the payee's associated token account.
    pub fn close_page(
        &self,
        book: &BookView,
        page: &Address,
        authority: &Address,
        rent_payer: &Address,
    ) -> Instruction {
        let accounts = vec![
            AccountMeta::new_readonly(*authority, true),
            AccountMeta::new_readonly(book.address, false),
            AccountMeta::new(*page, false),
            AccountMeta::new(book.vault(page), false),
            AccountMeta::new(*rent_payer, false),
            AccountMeta::new(book.token_account(&book.payee()), false),
            AccountMeta::new_readonly(book.mint(), false),
            AccountMeta::new_readonly(book.token_program(), false),
        ];
        self.instruction(discriminator::CLOSE_PAGE, &(), accounts)
    }

    fn instruction(
        &self,
        discriminator: u8,
        arguments: &impl BorshSerialize,
        accounts: Vec<AccountMeta>,
    ) -> Instruction {
        let mut data = vec![discriminator];
        // Writing to a vector does not fail, and no collection here is longer than 2^32.
        if arguments.serialize(&mut data).is_err() {
            data.truncate(1);
        }
        Instruction { program_id: self.program_id, accounts, data }
    }
}

/// What every payment out of a page's vault takes, before the accounts that are paid.
fn paying(book: &BookView, page: &Address) -> Vec<AccountMeta> {
    vec![
        AccountMeta::new_readonly(book.address, false),
        AccountMeta::new(*page, false),
        AccountMeta::new(book.vault(page), false),
        AccountMeta::new_readonly(book.mint(), false),
        AccountMeta::new_readonly(book.token_program(), false),
    ]
}

/// The token account that a payer's money goes back to.
fn own_account(book: &BookView, payer: &Address) -> AccountMeta {
    AccountMeta::new(book.token_account(payer), false)
}

/// What it takes to begin to close a channel, whoever asks.
fn closing(authority: &Address, book: &Address, page: &Address) -> Vec<AccountMeta> {
    vec![
        AccountMeta::new_readonly(*authority, true),
        AccountMeta::new_readonly(*book, false),
        AccountMeta::new(*page, false),
    ]
}
