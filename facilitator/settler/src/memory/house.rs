//! A book with a page, the settler that serves it, and its journal.

use super::*;

pub(crate) const GENESIS_HASH: [u8; 32] = [9; 32];

/// A book of one leg with a page of `capacity` slots, all free, and the settler that serves it.
pub(crate) struct House {
    pub(crate) chain: MemoryChain,
    pub(crate) settler: Settler<MemoryChain>,
    pub(crate) book: BookView,
    pub(crate) page: Address,
    pub(crate) notes: Notes,
}

impl House {
    pub(crate) fn new(capacity: u8) -> Self {
        let payee = Address::new_from_array([1; 32]);
        let mint = Address::new_from_array([2; 32]);
        let book_address = addresses::book(&PROGRAM_ID, &payee, &mint, 0).0;
        let page_address = addresses::page(&PROGRAM_ID, &book_address, 0).0;
        let account = addresses::associated_token_account(&payee, &mint, &TOKEN_PROGRAM);
        let mut state = Book {
            payee: payee.to_bytes(),
            mint: mint.to_bytes(),
            token_program: TOKEN_PROGRAM.to_bytes(),
            operator: [3; 32],
            genesis_hash: GENESIS_HASH,
            min_deposit: Amount::new(1_000),
            grace_seconds: 900,
            next_page: 1,
            decimals: 6,
            leg_count: 1,
            version: Book::VERSION,
            ..Book::default()
        };
        state.legs[0] = Leg { recipient: payee.to_bytes(), account: account.to_bytes(), basis_points: 10_000 };
        let book = BookView { address: book_address, state };
        let header = PageHeader {
            book: book_address.to_bytes(),
            page_domain: page_domain(&PROGRAM_ID.to_bytes(), &GENESIS_HASH, &page_address.to_bytes()),
            vault: book.vault(&page_address).to_bytes(),
            capacity,
            version: PageHeader::VERSION,
            ..PageHeader::default()
        };
        let chain = MemoryChain::default();
        {
            let mut state = chain.state();
            (state.slot, state.height) = (1_000, 900);
            let slots = vec![Slot::default(); usize::from(capacity)];
            state.pages.insert(page_address, PageView { address: page_address, header, slots });
            state.accounts.insert(account, token_account(&mint, &payee, false));
            state.accounts.insert(book_address, book_account(&book));
        }
        let settings = Settings {
            make_tables: false,
            pace: Pace {
                first: Duration::from_millis(1),
                slowest: Duration::from_millis(2),
                resend: Duration::from_millis(4),
                patience: Duration::from_millis(400),
            },
            ..Settings::default()
        };
        Self {
            settler: Settler::new(chain.clone(), Keypair::new_from_array([5; 32]), settings),
            chain,
            book,
            page: page_address,
            notes: Notes::default(),
        }
    }

    /// Another page of the book, as large as the first.
    pub(crate) fn add_page(&self, index: u32) -> Address {
        let address = addresses::page(&PROGRAM_ID, &self.book.address, index).0;
        let first = self.page_view();
        let page_domain = page_domain(&PROGRAM_ID.to_bytes(), &GENESIS_HASH, &address.to_bytes());
        let vault = self.book.vault(&address).to_bytes();
        let PageHeader { book, capacity, version, .. } = first.header;
        let header = PageHeader { book, capacity, version, page_domain, vault, index, ..PageHeader::default() };
        let slots = vec![Slot::default(); first.slots.len()];
        self.chain.state().pages.insert(address, PageView { address, header, slots });
        address
    }

    /// Another settler, with other settings.
    pub(crate) fn set(&mut self, change: impl FnOnce(&mut Settings)) {
        let mut settings = *self.settler.settings();
        change(&mut settings);
        self.settler = Settler::new(self.chain.clone(), Keypair::new_from_array([5; 32]), settings);
    }

    /// The gate of transactions of version 1 is open from `slot` on.
    pub(crate) fn open_v1(&self, slot: u64) {
        let data = [&[1], slot.to_le_bytes().as_slice()].concat();
        let gate = Account { lamports: 1, owner: address!("Feature111111111111111111111111111111111111"), data };
        let key = address!("txv1aq4pp281K9um3tnPgkfX8UqtFT6wcVW3hNezGLL");
        self.chain.state().accounts.insert(key, gate);
    }

    /// Opens a channel in `slot` and signs a voucher of `cumulative` for it.
    pub(crate) fn channel(&self, slot: u8, deposit: u64, cumulative: u64) -> ClaimRow {
        self.channel_in(&self.page, slot, deposit, cumulative)
    }

    pub(crate) fn channel_in(&self, page: &Address, slot: u8, deposit: u64, cumulative: u64) -> ClaimRow {
        let key = SigningKey::from_bytes(&[100 + slot; 32]);
        let mut state = self.chain.state();
        let page = state.pages.get_mut(page).unwrap();
        let opening = Opening {
            payer: [50 + slot; 32],
            signer: key.verifying_key().to_bytes(),
            generation: page.slots[usize::from(slot)].generation + 1,
            deposit: Amount::new(deposit),
        };
        let mut writing = Page { header: &mut page.header, slots: &mut page.slots };
        writing.open(slot, &opening, Amount::new(1), 0).unwrap();
        let id = page.channel_id(slot).unwrap();
        let voucher = SignedVoucher::sign(&key, id, Amount::new(cumulative));
        ClaimRow {
            slot,
            voucher: voucher.verify(&opening.signer).unwrap(),
            amount: Amount::new(cumulative),
            settled: Amount::ZERO,
            deposit: Amount::new(deposit),
        }
    }

    /// Lets the page be changed by its own transitions.
    pub(crate) fn on_page<T>(&self, change: impl FnOnce(&mut Page<'_>) -> T) -> T {
        let mut state = self.chain.state();
        let page = state.pages.get_mut(&self.page).unwrap();
        change(&mut Page { header: &mut page.header, slots: &mut page.slots })
    }

    pub(crate) fn page_view(&self) -> PageView {
        self.chain.state().pages[&self.page].clone()
    }
}

pub(super) fn book_account(book: &BookView) -> Account {
    Account {
        lamports: 1,
        owner: PROGRAM_ID,
        data: [&BOOK_DISCRIMINATOR[..], bytemuck::bytes_of(&book.state)].concat(),
    }
}

pub(super) fn page_account(page: &PageView) -> Account {
    let header = bytemuck::bytes_of(&page.header);
    Account {
        lamports: 1,
        owner: PROGRAM_ID,
        data: [&PAGE_DISCRIMINATOR[..], header, bytemuck::cast_slice(&page.slots)].concat(),
    }
}

pub(crate) fn token_account(mint: &Address, owner: &Address, frozen: bool) -> Account {
    let mut data = vec![0; 165];
    data[..32].copy_from_slice(mint.as_ref());
    data[32..64].copy_from_slice(owner.as_ref());
    data[108] = if frozen { 2 } else { 1 };
    Account { lamports: 1, owner: TOKEN_PROGRAM, data }
}

/// A journal in memory.
#[derive(Default)]
pub(crate) struct Notes {
    pub(crate) attempts: Mutex<Vec<Attempt>>,
    /// The pages of each claim transaction.
    pub(crate) pages: Mutex<Vec<Vec<[u8; 32]>>>,
    pub(crate) bills: Mutex<Vec<[u8; 64]>>,
    /// The disk is full.
    pub(crate) fails: Mutex<bool>,
}

impl Journal for Notes {
    async fn record(&self, attempt: Attempt) -> Result<(), Rejection> {
        if *self.fails.lock().unwrap() {
            return Err(Rejection::StoreUnavailable);
        }
        self.attempts.lock().unwrap().push(attempt);
        Ok(())
    }

    async fn record_for(&self, attempt: Attempt, pages: &[[u8; 32]]) -> Result<(), Rejection> {
        self.pages.lock().unwrap().push(pages.to_vec());
        self.record(attempt).await
    }

    async fn table(&self, _: &[u8; 32]) -> Result<Option<[u8; 32]>, Rejection> {
        Ok(None)
    }

    async fn keep_table(&self, _: &[u8; 32], _: &[u8; 32]) -> Result<(), Rejection> {
        Ok(())
    }

    fn billed(&self, signature: [u8; 64]) {
        self.bills.lock().unwrap().push(signature);
    }

    fn billed_for_accounts(&self, signature: [u8; 64]) {
        self.bills.lock().unwrap().push(signature);
    }
}
