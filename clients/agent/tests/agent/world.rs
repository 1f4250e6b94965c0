//! A chain in memory: one book with one page, the real transitions, and the transactions that an agent sends itself.

use bytemuck::bytes_of;
use ed25519_dalek::VerifyingKey;
use solana_hash::Hash;
use solana_keypair::Keypair;
use solana_signer::Signer;
use solana_transaction::versioned::VersionedTransaction;
use std::sync::{Arc, Mutex, MutexGuard};
use tallybook_agent::{Account, Accounts, Blockhash, Chain, ChainError, Cluster, View};
use tallybook_chain::account::{BOOK_DISCRIMINATOR, PAGE_DISCRIMINATOR};
use tallybook_chain::address::{self, SYSTEM_PROGRAM, TOKEN_PROGRAM, associated_token_account};
use tallybook_chain::instruction::discriminator::{OPEN, REQUEST_CLOSE, WITHDRAW};
use tallybook_chain::transaction::from_bytes;
use tallybook_chain::{Address, BookView, PROGRAM_ID, PageView};
use tallybook_rules::signing::page_domain;
use tallybook_rules::{Amount, Book, Opening, Page, PageHeader, Slot};
use tallybook_wire::{Key, Network, Signature};

pub const GENESIS: [u8; 32] = [42; 32];
pub const MINT: [u8; 32] = [10; 32];
pub const PAYEE: [u8; 32] = [11; 32];
pub const SPONSOR: [u8; 32] = [12; 32];
pub const GRACE_SECONDS: u32 = 900;

/// What is on chain.
pub struct World {
    pub book: Book,
    pub header: PageHeader,
    pub slots: Vec<Slot>,
    pub wallet: Address,
    pub held: u64,
    pub lamports: u64,
    /// Fees that were paid by other keys than the wallet.
    pub others_paid: u32,
    pub wallets_with_lamports: Vec<Address>,
    pub height: u64,
    pub now: i64,
    pub genesis: [u8; 32],
    /// Who owns book and page.
    pub program: Address,
    pub deposits: u32,
    /// The endpoint is asked too often.
    pub is_down: bool,
    /// The endpoint shows these slots, so often.
    pub old: Option<(u32, Vec<Slot>)>,
}

impl World {
    pub fn book_address(&self) -> Address {
        address::book(&PROGRAM_ID, &PAYEE.into(), &MINT.into(), 0).0
    }

    pub fn page_address(&self) -> Address {
        address::page(&PROGRAM_ID, &self.book_address(), 0).0
    }

    pub fn page(&mut self) -> Page<'_> {
        Page { header: &mut self.header, slots: &mut self.slots }
    }

    pub fn book_view(&self) -> BookView {
        BookView { address: self.book_address(), state: self.book }
    }

    pub fn page_view(&self) -> PageView {
        PageView { address: self.page_address(), header: self.header, slots: self.slots.clone() }
    }

    /// Somebody else takes a slot.
    pub fn occupy(&mut self, slot: u8) {
        let generation = self.slots[usize::from(slot)].generation + 1;
        let opening = Opening { payer: [99; 32], signer: [99; 32], generation, deposit: Amount::new(1_000) };
        let now = self.now;
        self.page().open(slot, &opening, Amount::new(1), now).unwrap();
    }

    /// The endpoint falls behind: it shows what is now, that many times more.
    pub fn shows_old(&mut self, times: u32) {
        self.old = Some((times - 1, self.slots.clone()));
    }

    fn account(&self, at: &Address) -> Option<Account> {
        let (data, owner) = if *at == self.book_address() {
            ([&BOOK_DISCRIMINATOR, bytes_of(&self.book)].concat(), self.program)
        } else if *at == self.page_address() {
            let shown = self.old.as_ref().map_or(&self.slots, |(_, old)| old);
            let slots: &[u8] = bytemuck::cast_slice(shown);
            ([&PAGE_DISCRIMINATOR, bytes_of(&self.header), slots].concat(), self.program)
        } else if *at == associated_token_account(&self.wallet, &MINT.into(), &TOKEN_PROGRAM) {
            let mut data = vec![0; 165];
            data[..32].copy_from_slice(&MINT);
            data[32..64].copy_from_slice(&self.wallet.to_bytes());
            data[64..72].copy_from_slice(&self.held.to_le_bytes());
            data[108] = 1;
            (data, TOKEN_PROGRAM)
        } else if *at == self.wallet {
            return Some(Account { owner: SYSTEM_PROGRAM, lamports: self.lamports, data: Vec::new() });
        } else if self.wallets_with_lamports.contains(at) {
            return Some(Account { owner: SYSTEM_PROGRAM, lamports: 1_000_000, data: Vec::new() });
        } else if *at == address::CLOCK {
            let mut data = vec![0; 40];
            data[32..].copy_from_slice(&self.now.to_le_bytes());
            (data, SYSTEM_PROGRAM)
        } else {
            return None;
        };
        Some(Account { owner, lamports: 1, data })
    }

    /// The instructions that a wallet may send by itself. `payer` is the first account of the instruction.
    fn execute(&mut self, data: &[u8], payer: &Address) {
        let (payer, now) = (payer.to_bytes(), self.now);
        match data[0] {
            OPEN => {
                let opening = Opening {
                    payer,
                    signer: data[6..38].try_into().unwrap(),
                    generation: u32::from_le_bytes(data[2..6].try_into().unwrap()),
                    deposit: Amount::new(u64::from_le_bytes(data[38..46].try_into().unwrap())),
                };
                let min_deposit = self.book.min_deposit;
                self.page().open(data[1], &opening, min_deposit, now).unwrap();
                self.held -= opening.deposit.get();
                self.deposits += 1;
            }
            REQUEST_CLOSE => {
                let generation = u32::from_le_bytes(data[2..6].try_into().unwrap());
                let grace = self.book.grace_seconds;
                self.page().request_close(data[1], generation, &payer, grace, now).unwrap();
            }
            WITHDRAW => {
                let returned = self.page().withdraw(data[5], now).unwrap();
                assert_eq!(returned.payer, self.wallet.to_bytes());
                self.held += returned.amount.get();
            }
            other => panic!("an agent sends no instruction {other}"),
        }
    }
}

/// The chain that agent and seller share.
#[derive(Clone)]
pub struct Shared(Arc<Mutex<World>>);

impl Shared {
    pub fn new(wallet: &Keypair) -> Self {
        let (payee, mint): (Address, Address) = (PAYEE.into(), MINT.into());
        let book_address = address::book(&PROGRAM_ID, &payee, &mint, 0).0;
        let page = address::page(&PROGRAM_ID, &book_address, 0).0;
        let book = Book {
            payee: PAYEE,
            mint: MINT,
            token_program: TOKEN_PROGRAM.to_bytes(),
            genesis_hash: GENESIS,
            min_deposit: Amount::new(1_000),
            grace_seconds: GRACE_SECONDS,
            decimals: 6,
            leg_count: 1,
            next_page: 1,
            version: Book::VERSION,
            ..Book::default()
        };
        let header = PageHeader {
            book: book_address.to_bytes(),
            page_domain: page_domain(&PROGRAM_ID.to_bytes(), &GENESIS, &page.to_bytes()),
            capacity: 8,
            version: PageHeader::VERSION,
            ..PageHeader::default()
        };
        Self(Arc::new(Mutex::new(World {
            book,
            header,
            slots: vec![Slot::default(); 8],
            wallet: wallet.pubkey(),
            held: 1_000_000,
            lamports: 1_000_000,
            others_paid: 0,
            wallets_with_lamports: Vec::new(),
            height: 1_000,
            now: 1_700_000_000,
            genesis: GENESIS,
            program: PROGRAM_ID,
            deposits: 0,
            is_down: false,
            old: None,
        })))
    }

    pub fn lock(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap()
    }
}

impl Chain for Shared {
    async fn genesis_hash(&self) -> Result<[u8; 32], ChainError> {
        Ok(self.lock().genesis)
    }

    async fn accounts(&self, addresses: &[Address], _: View) -> Result<Accounts, ChainError> {
        let mut world = self.lock();
        if world.is_down {
            return Err(ChainError::Busy { method: "getMultipleAccounts", status: 429 });
        }
        let list = addresses.iter().map(|at| world.account(at)).collect();
        world.old = world.old.take().and_then(|(times, old)| Some((times.checked_sub(1)?, old)));
        Ok(Accounts { context_slot: world.height, list })
    }

    async fn latest_blockhash(&self) -> Result<Blockhash, ChainError> {
        let mut world = self.lock();
        world.height += 1;
        let mut hash = [0; 32];
        hash[..8].copy_from_slice(&world.height.to_le_bytes());
        Ok(Blockhash { hash: Hash::new_from_array(hash), last_valid_height: world.height + Blockhash::LIFETIME_BLOCKS })
    }

    async fn send(&self, transaction: &[u8]) -> Result<(), ChainError> {
        let transaction = from_bytes(transaction).unwrap();
        assert!(signed(&transaction).iter().all(|valid| *valid));
        let keys = transaction.message.static_account_keys().to_vec();
        let mut world = self.lock();
        for instruction in transaction.message.instructions() {
            if keys[usize::from(instruction.program_id_index)] == PROGRAM_ID {
                world.execute(&instruction.data, &keys[usize::from(instruction.accounts[0])]);
            }
        }
        if keys[0] == world.wallet {
            world.lamports -= 5_000;
        } else {
            world.others_paid += 1;
        }
        Ok(())
    }

    async fn status(&self, _: &Signature) -> Result<Option<Result<(), String>>, ChainError> {
        Ok(Some(Ok(())))
    }
}

/// Which of a transaction's signatures hold.
pub fn signed(transaction: &VersionedTransaction) -> Vec<bool> {
    let message = transaction.message.serialize();
    let keys = transaction.message.static_account_keys();
    let holds = |(key, signature): (&Address, &solana_signature::Signature)| {
        let signature = ed25519_dalek::Signature::from_bytes(signature.as_array());
        VerifyingKey::from_bytes(&key.to_bytes()).is_ok_and(|key| key.verify_strict(&message, &signature).is_ok())
    };
    keys.iter().zip(&transaction.signatures).map(holds).collect()
}

pub fn cluster() -> Cluster {
    Cluster { network: Network::devnet(), genesis_hash: Key(GENESIS), mint: Key(MINT) }
}
