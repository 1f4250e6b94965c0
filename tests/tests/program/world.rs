//! A world for one test: a chain with the released program deployed to it, a mint, a book, a page, and keys that are
//! the same in every run.
//!
//! After every transaction that went through, the world checks what must always hold: the page's own invariants, a vault
//! that covers what is owed, and that no token was made or lost. After every one that was refused, that nothing changed.

use crate::machine::{account, machine, mint_data};
use crate::memory::Watch;
use crate::vouchers::Batch;
use curve25519_dalek::edwards::CompressedEdwardsY;
use ed25519_dalek::SigningKey;
use litesvm::LiteSVM;
use litesvm::types::{FailedTransactionMetadata, TransactionMetadata};
use sha2::{Digest, Sha256};
use solana_address::{Address, address};
use solana_clock::Clock;
use solana_instruction::error::InstructionError;
use solana_instruction::{AccountMeta, Instruction};
use solana_keypair::Keypair;
use solana_message::{AddressLookupTableAccount, Message, VersionedMessage, v0, v1};
use solana_signer::Signer;
use solana_transaction::TransactionError;
use solana_transaction::versioned::VersionedTransaction;
use tallybook_chain::address::{TOKEN_PROGRAM, associated_token_account, book as book_address, page as page_address};
use tallybook_chain::instruction::{Instructions, NewBook, NewChannel, Split};
use tallybook_chain::transaction::{create_token_account, to_bytes};
use tallybook_chain::{BookView, PROGRAM_ID, PageView, TokenAccountView};
use tallybook_rules::signing::channel_id;
use tallybook_rules::{Amount, Page, Rejection, Terms};

/// Builders for the deployed program.
pub(crate) const TALLYBOOK: Instructions = Instructions::new(PROGRAM_ID);
/// The cluster's genesis hash, as the book says it.
pub(crate) const GENESIS: [u8; 32] = [0x6e; 32];
/// The book's grace period.
pub(crate) const GRACE_SECONDS: u32 = 3_600;
/// The book's smallest deposit.
pub(crate) const MIN_DEPOSIT: u64 = 1_000;
/// When every test begins, in Unix seconds.
pub(crate) const BEGIN: i64 = 1_800_000_000;

const LOOKUP_TABLES: Address = address!("AddressLookupTab1e1111111111111111111111111");

/// A key that is the same in every run.
pub(crate) fn key(name: &str) -> Keypair {
    Keypair::new_from_array(Sha256::digest(name).into())
}

/// 32 bytes that are the encoding of no point.
pub(crate) fn no_point() -> [u8; 32] {
    (0..=255)
        .map(|y| std::array::from_fn(|at| if at == 0 { y } else { 0 }))
        .find(|bytes| CompressedEdwardsY(*bytes).decompress().is_none())
        .unwrap()
}

/// What the default world is like, and what a test changes about it.
pub(crate) struct Setup {
    pub(crate) capacity: u8,
    pub(crate) open_policy: u8,
    pub(crate) splits: Vec<Split>,
    pub(crate) token_program: Address,
    /// Bytes of the mint after the common 82, as Token-2022 has them.
    pub(crate) mint_extensions: Vec<u8>,
    /// Who sees how much memory the program uses.
    pub(crate) watch: Option<Watch>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            capacity: 8,
            open_policy: 0,
            splits: Vec::new(),
            token_program: TOKEN_PROGRAM,
            mint_extensions: Vec::new(),
            watch: None,
        }
    }
}

/// A channel and its keys.
pub(crate) struct Channel {
    pub(crate) slot: u8,
    pub(crate) generation: u32,
    pub(crate) payer: Keypair,
    pub(crate) signer: SigningKey,
    pub(crate) id: [u8; 32],
}

/// What a transaction did.
pub(crate) type Sent = Result<TransactionMetadata, Box<FailedTransactionMetadata>>;

pub(crate) struct World {
    pub(crate) svm: LiteSVM,
    pub(crate) payee: Keypair,
    pub(crate) operator: Keypair,
    /// Pays fees and rent; mints and freezes.
    pub(crate) sponsor: Keypair,
    pub(crate) mint: Address,
    pub(crate) token_program: Address,
    /// The address of the payee's book number 0, made or not.
    pub(crate) book: Address,
    /// The address of its page number 0, added or not.
    pub(crate) page: Address,
    /// Every token account there is.
    held: Vec<Address>,
    minted: u64,
}

impl World {
    /// A chain with the program and a mint: no book yet.
    pub(crate) fn bare(setup: &Setup) -> Self {
        let (payee, sponsor, mint) = (key("payee"), key("sponsor"), key("mint").pubkey());
        let mut svm = machine(&sponsor, setup.watch.clone());
        let mut data = mint_data(&sponsor.pubkey());
        data.extend_from_slice(&setup.mint_extensions);
        svm.set_account(mint, account(data, setup.token_program)).unwrap();
        let book = book_address(&PROGRAM_ID, &payee.pubkey(), &mint, 0).0;
        let mut world = Self {
            svm,
            payee,
            operator: key("operator"),
            sponsor,
            mint,
            token_program: setup.token_program,
            book,
            page: page_address(&PROGRAM_ID, &book, 0).0,
            held: Vec::new(),
            minted: 0,
        };
        world.set_time(BEGIN);
        world
    }

    /// A chain with a book and its first page.
    pub(crate) fn with(setup: Setup) -> Self {
        let mut world = Self::bare(&setup);
        let new = NewBook {
            terms: Terms { open_policy: setup.open_policy, ..world.new_book().terms },
            splits: setup.splits,
            ..world.new_book()
        };
        world.send_new_book(&new).unwrap();
        world.send_add_page(0, setup.capacity).unwrap();
        world.held.push(world.vault());
        world
    }

    /// The world of most tests.
    pub(crate) fn new() -> Self {
        Self::with(Setup::default())
    }

    /// A world with `count` open channels of `deposit` each, in slots 0 and up.
    pub(crate) fn with_channels(count: u8, deposit: u64) -> (Self, Vec<Channel>) {
        let capacity = count.max(8);
        let mut world = Self::with(Setup { capacity, ..Setup::default() });
        let channels = (0..count).map(|slot| world.open(slot, deposit)).collect();
        (world, channels)
    }

    /// The arguments of a good `init_book`.
    pub(crate) fn new_book(&self) -> NewBook {
        NewBook {
            payee: self.payee.pubkey(),
            rent_payer: self.sponsor.pubkey(),
            mint: self.mint,
            token_program: self.token_program,
            book_id: 0,
            genesis_hash: GENESIS,
            terms: Terms {
                grace_seconds: GRACE_SECONDS,
                max_idle_seconds: 86_400,
                min_deposit: Amount::new(MIN_DEPOSIT),
                open_policy: 0,
            },
            operator: self.operator.pubkey(),
            splits: Vec::new(),
        }
    }

    pub(crate) fn send_new_book(&mut self, new: &NewBook) -> Sent {
        self.send(&[TALLYBOOK.init_book(new)], &[&key("payee")])
    }

    pub(crate) fn send_add_page(&mut self, index: u32, capacity: u8) -> Sent {
        let instruction = self.add_page_instruction(index, capacity);
        self.send(&[instruction], &[&key("operator")])
    }

    pub(crate) fn add_page_instruction(&self, index: u32, capacity: u8) -> Instruction {
        let sponsor = self.sponsor.pubkey();
        TALLYBOOK.add_page(&self.book_view(), &self.operator.pubkey(), &sponsor, index, capacity)
    }

    // --- what stands on the chain

    pub(crate) fn data(&self, address: &Address) -> Vec<u8> {
        self.svm.get_account(address).map(|account| account.data).unwrap_or_default()
    }

    pub(crate) fn book_view(&self) -> BookView {
        BookView::parse(self.book, &self.data(&self.book)).unwrap()
    }

    pub(crate) fn page_view(&self) -> PageView {
        PageView::parse(self.page, &self.data(&self.page)).unwrap()
    }

    pub(crate) fn vault(&self) -> Address {
        self.token_account(&self.page)
    }

    /// The associated token account of `owner`.
    pub(crate) fn token_account(&self, owner: &Address) -> Address {
        associated_token_account(owner, &self.mint, &self.token_program)
    }

    /// What a token account holds; nothing if it is not there.
    pub(crate) fn balance(&self, account: &Address) -> u64 {
        TokenAccountView::parse(&self.data(account)).map_or(0, |view| view.amount.get())
    }

    /// The balance of `owner`'s associated account.
    pub(crate) fn held_by(&self, owner: &Address) -> u64 {
        self.balance(&self.token_account(owner))
    }

    pub(crate) fn now(&self) -> i64 {
        self.svm.get_sysvar::<Clock>().unix_timestamp
    }

    pub(crate) fn set_time(&mut self, unix_seconds: i64) {
        let mut clock = self.svm.get_sysvar::<Clock>();
        clock.unix_timestamp = unix_seconds;
        self.svm.set_sysvar(&clock);
    }

    pub(crate) fn pass(&mut self, seconds: u32) {
        self.set_time(self.now() + i64::from(seconds));
    }

    // --- tokens

    /// Creates the associated account of `owner`, with `amount` new tokens in it.
    pub(crate) fn fund(&mut self, owner: &Address, amount: u64) -> Address {
        let sponsor = self.sponsor.pubkey();
        let account = self.token_account(owner);
        let create = create_token_account(&sponsor, owner, &self.mint, &self.token_program);
        let mint_to = self.token_instruction(
            [&[7][..], &amount.to_le_bytes()].concat(),
            vec![AccountMeta::new(self.mint, false), AccountMeta::new(account, false)],
        );
        if !self.held.contains(&account) {
            self.held.push(account);
        }
        self.minted += amount;
        self.send(&[create, mint_to], &[]).unwrap();
        account
    }

    /// A token account of `owner` at an address of its own, as anybody can make one.
    pub(crate) fn other_account(&mut self, name: &str, owner: &Address) -> Address {
        let address = key(name).pubkey();
        let mut data = vec![0; 165];
        data[..32].copy_from_slice(self.mint.as_ref());
        data[32..64].copy_from_slice(owner.as_ref());
        data[108] = 1;
        self.svm.set_account(address, account(data, self.token_program)).unwrap();
        self.held.push(address);
        address
    }

    pub(crate) fn freeze(&mut self, account: &Address) {
        self.send_freezing(10, account);
    }

    pub(crate) fn thaw(&mut self, account: &Address) {
        self.send_freezing(11, account);
    }

    fn send_freezing(&mut self, number: u8, account: &Address) {
        let accounts = vec![AccountMeta::new(*account, false), AccountMeta::new_readonly(self.mint, false)];
        let instruction = self.token_instruction(vec![number], accounts);
        self.send(&[instruction], &[]).unwrap();
    }

    /// An instruction of the token program, by the sponsor's authority.
    pub(crate) fn token_instruction(&self, data: Vec<u8>, mut accounts: Vec<AccountMeta>) -> Instruction {
        accounts.push(AccountMeta::new_readonly(self.sponsor.pubkey(), true));
        Instruction { program_id: self.token_program, accounts, data }
    }

    // --- channels

    /// The next opening of a slot, by a payer who has just enough: arguments and keys.
    pub(crate) fn opening(&mut self, slot: u8, deposit: u64) -> (NewChannel, Keypair, SigningKey) {
        let generation = self.page_view().slots[usize::from(slot)].generation + 1;
        let payer = key(&format!("payer {slot} {generation}"));
        let signer = SigningKey::from_bytes(&Sha256::digest(format!("signer {slot} {generation}")).into());
        let new = NewChannel {
            payer: payer.pubkey(),
            source: self.fund(&payer.pubkey(), deposit),
            operator: None,
            page: self.page,
            slot,
            generation,
            signer: signer.verifying_key().to_bytes(),
            deposit,
        };
        (new, payer, signer)
    }

    /// Opens a channel.
    pub(crate) fn open(&mut self, slot: u8, deposit: u64) -> Channel {
        let (new, payer, signer) = self.opening(slot, deposit);
        let instruction = TALLYBOOK.open(&self.book_view(), &new);
        self.send(&[instruction], &[&payer]).unwrap();
        let domain = self.page_view().header.page_domain;
        Channel {
            slot,
            generation: new.generation,
            id: channel_id(&domain, slot, new.generation, payer.pubkey().as_array(), &new.signer),
            payer,
            signer,
        }
    }

    pub(crate) fn request_close(&mut self, channel: &Channel) -> Sent {
        let (slot, generation) = (channel.slot, channel.generation);
        let payer = channel.payer.pubkey();
        let instruction = TALLYBOOK.request_close(&self.book, &self.page, &payer, slot, generation);
        self.send(&[instruction], &[&channel.payer])
    }

    pub(crate) fn claim(&mut self, batch: &Batch) -> Sent {
        let instruction = batch.instruction(&self.page);
        self.send(&[instruction], &[])
    }

    pub(crate) fn payout(&mut self, legs: u8) -> Sent {
        let instruction = TALLYBOOK.payout(&self.book_view(), &self.page, legs);
        self.send(&[instruction], &[])
    }

    // --- transactions

    /// Sends a transaction that the sponsor pays for, and checks what must hold after it.
    pub(crate) fn send(&mut self, instructions: &[Instruction], signers: &[&Keypair]) -> Sent {
        let transaction = self.legacy_transaction(instructions, signers);
        self.send_transaction(transaction)
    }

    /// A transaction that the sponsor pays for, of a compute limit and these.
    pub(crate) fn legacy_transaction(
        &mut self,
        instructions: &[Instruction],
        signers: &[&Keypair],
    ) -> VersionedTransaction {
        let sponsor = self.sponsor.insecure_clone();
        self.svm.expire_blockhash();
        let instructions: Vec<_> = [tallybook_chain::transaction::compute_unit_limit(1_400_000)]
            .into_iter()
            .chain(instructions.iter().cloned())
            .collect();
        let message = Message::new_with_blockhash(&instructions, Some(&sponsor.pubkey()), &self.svm.latest_blockhash());
        let others = signers.iter().copied().filter(|signer| signer.pubkey() != sponsor.pubkey());
        let signers: Vec<_> = [&sponsor].into_iter().chain(others).collect();
        VersionedTransaction::try_new(VersionedMessage::Legacy(message), &signers).unwrap()
    }

    /// Sends a v0 transaction that takes what it can from a lookup table of `addresses`, without other signers; says how
    /// many bytes it has.
    pub(crate) fn send_v0(&mut self, instructions: &[Instruction], addresses: Vec<Address>) -> (usize, Sent) {
        let sponsor = self.sponsor.insecure_clone();
        let table = self.lookup_table(addresses);
        self.svm.expire_blockhash();
        let blockhash = self.svm.latest_blockhash();
        let message = v0::Message::try_compile(&sponsor.pubkey(), instructions, &[table], blockhash).unwrap();
        let transaction = VersionedTransaction::try_new(VersionedMessage::V0(message), &[&sponsor]).unwrap();
        let bytes = to_bytes(&transaction).expect("at most 1,232 bytes").len();
        (bytes, self.send_transaction(transaction))
    }

    /// Sends a transaction of version 1 without other signers; says how many bytes it has.
    pub(crate) fn send_v1(&mut self, instructions: &[Instruction]) -> (usize, Sent) {
        let sponsor = self.sponsor.insecure_clone();
        self.svm.expire_blockhash();
        let config = v1::TransactionConfig::empty()
            .with_compute_unit_limit(1_400_000)
            .with_loaded_accounts_data_size_limit(4 << 20)
            .with_priority_fee(1);
        let blockhash = self.svm.latest_blockhash();
        let payer = sponsor.pubkey();
        let message = v1::Message::try_compile_with_config(&payer, instructions, blockhash, config).unwrap();
        let bytes = message.size() + 64;
        let transaction = VersionedTransaction::try_new(VersionedMessage::V1(message), &[&sponsor]).unwrap();
        (bytes, self.send_transaction(transaction))
    }

    pub(crate) fn send_transaction(&mut self, transaction: VersionedTransaction) -> Sent {
        let before = self.snapshot();
        let sent = self.svm.send_transaction(transaction).map_err(Box::new);
        match &sent {
            Ok(_) => self.assert_sound(),
            Err(_) => assert!(self.snapshot() == before, "a refused transaction changed something"),
        }
        sent
    }

    fn lookup_table(&mut self, addresses: Vec<Address>) -> AddressLookupTableAccount {
        let address = key("lookup table").pubkey();
        let mut data = vec![0; 56];
        data[0] = 1;
        data[4..12].copy_from_slice(&u64::MAX.to_le_bytes());
        data[21] = 1;
        addresses.iter().for_each(|address| data.extend_from_slice(address.as_ref()));
        self.svm.set_account(address, account(data, LOOKUP_TABLES)).unwrap();
        AddressLookupTableAccount { key: address, addresses }
    }

    /// Sends what must be refused, for this reason, with nothing changed.
    #[track_caller]
    pub(crate) fn refuses(&mut self, instruction: Instruction, signers: &[&Keypair], rejection: Rejection) {
        let sent = self.send(&[instruction], signers);
        assert_rejected(sent, rejection);
    }

    fn snapshot(&self) -> Vec<Vec<u8>> {
        let accounts = [self.book, self.page, self.vault()];
        accounts.iter().chain(&self.held).map(|address| self.data(address)).collect()
    }

    fn assert_sound(&self) {
        if !self.data(&self.page).is_empty() {
            let mut view = self.page_view();
            let page = Page { header: &mut view.header, slots: &mut view.slots };
            page.check().expect("the page's invariants hold");
            let vault = Amount::new(self.balance(&self.vault()));
            page.header.check_vault(vault).expect("the vault covers what is owed");
        }
        let held: u64 = self.held.iter().map(|account| self.balance(account)).sum();
        assert_eq!(held, self.minted, "no token is made or lost");
    }
}

/// The transaction was refused by the program, for this reason.
#[track_caller]
pub(crate) fn assert_rejected(sent: Sent, rejection: Rejection) {
    let number = Rejection::ANCHOR_OFFSET + u32::from(rejection.code());
    assert_eq!(custom_error(sent), number, "{rejection:?} expected");
}

/// The number of the error that an instruction failed with.
#[track_caller]
pub(crate) fn custom_error(sent: Sent) -> u32 {
    let failed = sent.expect_err("to be refused");
    match failed.err {
        TransactionError::InstructionError(_, InstructionError::Custom(number)) => number,
        other => panic!("{other:?}: {:#?}", failed.meta.logs),
    }
}
