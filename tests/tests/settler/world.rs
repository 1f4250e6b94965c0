//! A local chain with the program, a mint, a book with one page, and channels whose vouchers can be signed.

use solana_address::Address;
use solana_hash::Hash;
use solana_instruction::Instruction;
use solana_keypair::Keypair;
use solana_signature::Signature;
use solana_signer::Signer;
use solana_transaction::versioned::VersionedTransaction;
use std::sync::Mutex;
use std::time::Duration;
use tallybook_chain::address::{TOKEN_PROGRAM, book, page};
use tallybook_chain::instruction::{Instructions, NewBook, NewChannel};
use tallybook_chain::transaction::to_bytes;
use tallybook_chain::{BookView, PROGRAM_ID, PageView, deposit};
use tallybook_cli::dev_chain::{Artifact, Blocks, DevChain, DevMint, LAMPORTS_PER_SOL, Ports, deploy};
use tallybook_ledger::{Attempt, Batch, ClaimRow};
use tallybook_rules::signing::{SignedVoucher, SigningKey};
use tallybook_rules::{Amount, Rejection, Terms};
use tallybook_settler::{
    Chain, CheckedDeposit, Commitment, ExpectedDeposit, Journal, Pace, RpcChain, Settings, Settler,
};

/// What each channel is opened with: 10 USDC.
pub(crate) const DEPOSIT: u64 = 10_000_000;
/// What each payer has at first: 100 USDC.
pub(crate) const TOKENS: u64 = 100_000_000;

pub(crate) struct World {
    pub(crate) chain: DevChain,
    pub(crate) mint: DevMint,
    pub(crate) payee: Keypair,
    pub(crate) operator: Keypair,
    pub(crate) sponsor: Keypair,
    pub(crate) book: BookView,
    pub(crate) page: Address,
    pub(crate) journal: Notes,
}

/// Another payee beside the one of the world.
pub(crate) struct Neighbour {
    pub(crate) payee: Address,
    pub(crate) book: BookView,
    pub(crate) page: Address,
    pub(crate) payers: Vec<Payer>,
}

/// A book of `payee` with one page.
async fn new_book(
    chain: &DevChain,
    mint: &DevMint,
    payee: &Keypair,
    operator: &Address,
    sponsor: &Keypair,
    capacity: u8,
) -> BookView {
    let program = Instructions::new(PROGRAM_ID);
    let new = NewBook {
        payee: payee.pubkey(),
        rent_payer: chain.faucet().pubkey(),
        mint: mint.address(),
        token_program: TOKEN_PROGRAM,
        book_id: 0,
        genesis_hash: chain.genesis_hash(),
        terms: Terms { grace_seconds: 900, max_idle_seconds: 86_400, min_deposit: Amount::new(1_000), open_policy: 0 },
        operator: *operator,
        splits: Vec::new(),
    };
    chain.send(&[program.init_book(&new)], &[payee]).await.unwrap();
    let address = book(&PROGRAM_ID, &payee.pubkey(), &mint.address(), 0).0;
    let settler = settler(RpcChain::new(&chain.rpc_url(), Duration::from_secs(5)), sponsor);
    let read = settler.read_books(&[address], Commitment::Confirmed).await.unwrap();
    let add = program.add_page(&read.books[0], &payee.pubkey(), &chain.faucet().pubkey(), 0, capacity);
    chain.send(&[add], &[payee]).await.unwrap();
    settler.read_books(&[address], Commitment::Confirmed).await.unwrap().books[0]
}

/// Somebody with a channel.
pub(crate) struct Payer {
    pub(crate) key: Keypair,
    pub(crate) slot: u8,
}

impl World {
    /// Starts it all, with a page of `capacity` slots. The payee has a token account unless told otherwise.
    pub(crate) async fn start(capacity: u8, payee_account: bool) -> Self {
        let chain = DevChain::start(Ports::Free, Blocks::Every(Duration::from_millis(20))).await.unwrap();
        Self::on(chain, capacity, payee_account).await
    }

    /// The same on a chain that takes no transactions of version 1.
    pub(crate) async fn before_v1(capacity: u8) -> Self {
        let blocks = Blocks::Every(Duration::from_millis(20));
        Self::on(DevChain::start_before_v1(Ports::Free, blocks).await.unwrap(), capacity, true).await
    }

    async fn on(chain: DevChain, capacity: u8, payee_account: bool) -> Self {
        deploy(&chain, &Artifact::released().unwrap(), |_, _| {}).await.unwrap();
        let mint = DevMint::create(&chain, &Keypair::new()).await.unwrap();
        let (payee, operator, sponsor) = (Keypair::new(), Keypair::new(), Keypair::new());
        let owners = if payee_account { vec![sponsor.pubkey(), payee.pubkey()] } else { vec![sponsor.pubkey()] };
        mint.fund(&chain, &owners, 10 * LAMPORTS_PER_SOL, Amount::ZERO).await.unwrap();

        let book = new_book(&chain, &mint, &payee, &operator.pubkey(), &sponsor, capacity).await;
        Self {
            page: page(&PROGRAM_ID, &book.address, 0).0,
            journal: Notes::default(),
            chain,
            mint,
            payee,
            operator,
            sponsor,
            book,
        }
    }

    /// Another payee with a book and a page, and `count` channels in it that their payers have opened themselves.
    pub(crate) async fn neighbour(&self, count: u8) -> Neighbour {
        let payee = Keypair::new();
        self.mint.fund(&self.chain, &[payee.pubkey()], LAMPORTS_PER_SOL, Amount::ZERO).await.unwrap();
        let operator = self.operator.pubkey();
        let book = new_book(&self.chain, &self.mint, &payee, &operator, &self.sponsor, 96).await;
        let page = page(&PROGRAM_ID, &book.address, 0).0;
        let payers = self.wallets(count).await;
        for payer in &payers {
            let new = NewChannel {
                payer: payer.key.pubkey(),
                source: book.token_account(&payer.key.pubkey()),
                operator: None,
                page,
                slot: payer.slot,
                generation: 1,
                signer: payer.key.pubkey().to_bytes(),
                deposit: DEPOSIT,
            };
            self.send(Instructions::new(PROGRAM_ID).open(&book, &new), &payer.key).await;
        }
        Neighbour { payee: payee.pubkey(), book, page, payers }
    }

    pub(crate) fn rpc(&self) -> RpcChain {
        RpcChain::new(&self.chain.rpc_url(), Duration::from_secs(5))
    }

    pub(crate) fn settler(&self) -> Settler {
        settler(self.rpc(), &self.sponsor)
    }

    pub(crate) async fn lamports(&self, of: &Address) -> u64 {
        self.chain.rpc().get_balance(of).await.unwrap()
    }

    pub(crate) async fn tokens(&self, of: &Address) -> u64 {
        self.mint.held_by(&self.chain, of).await.unwrap().get()
    }

    pub(crate) async fn send(&self, instruction: Instruction, signer: &Keypair) {
        self.chain.send(&[instruction], &[signer]).await.unwrap();
    }

    pub(crate) async fn page_view<C: Chain>(&self, settler: &Settler<C>) -> PageView {
        settler.read_page(&self.page, 0, Commitment::Confirmed).await.unwrap().1
    }

    /// `count` wallets with tokens, without a channel yet.
    pub(crate) async fn wallets(&self, count: u8) -> Vec<Payer> {
        let payers: Vec<Payer> = (0..count).map(|slot| Payer { key: Keypair::new(), slot }).collect();
        let owners: Vec<Address> = payers.iter().map(|payer| payer.key.pubkey()).collect();
        self.mint.fund(&self.chain, &owners, 0, Amount::new(TOKENS)).await.unwrap();
        payers
    }

    /// Opens a channel for each of `count` new payers, through the sponsor, as their clients would.
    pub(crate) async fn open<C: Chain>(&self, settler: &Settler<C>, count: u8) -> Vec<Payer> {
        let payers = self.wallets(count).await;
        for payer in &payers {
            let checked = self.deposit(settler, payer).await;
            settler.send_deposit(&checked, None, &self.journal).await.unwrap();
        }
        payers
    }

    /// The deposit transaction that a payer's client makes, as the sponsor has checked it.
    pub(crate) async fn deposit<C: Chain>(&self, settler: &Settler<C>, payer: &Payer) -> CheckedDeposit {
        let page = self.page_view(settler).await;
        let blockhash = settler.latest_blockhash().await.unwrap().hash;
        let (bytes, new, id) = self.deposit_bytes(settler.sponsor(), payer, &page, blockhash);
        let expected = ExpectedDeposit { book: &self.book, page: &page, new: &new, channel_id: id };
        settler.check_deposit(&bytes, &expected).unwrap()
    }

    fn deposit_bytes(
        &self,
        sponsor: Address,
        payer: &Payer,
        page: &PageView,
        blockhash: Hash,
    ) -> (Vec<u8>, NewChannel, [u8; 32]) {
        let owner = payer.key.pubkey();
        let new = NewChannel {
            payer: owner,
            source: self.book.token_account(&owner),
            operator: None,
            page: self.page,
            slot: payer.slot,
            generation: page.slot(payer.slot).unwrap().generation + 1,
            signer: owner.to_bytes(),
            deposit: DEPOSIT,
        };
        let id = deposit::expected_channel_id(page, &new).unwrap();
        let message = deposit::message(&self.book, &new, &id, &sponsor, blockhash);
        let signature = payer.key.sign_message(&message.serialize());
        let transaction = VersionedTransaction { signatures: vec![Signature::default(), signature], message };
        (to_bytes(&transaction).unwrap(), new, id)
    }

    /// The newest vouchers of all `payers`, each over `cumulative` in all.
    pub(crate) fn batch(&self, page: &PageView, payers: &[Payer], cumulative: u64) -> Batch {
        let rows = payers.iter().map(|payer| self.row(page, payer, cumulative)).collect();
        Batch::new(self.page.to_bytes(), rows).unwrap()
    }

    pub(crate) fn row(&self, page: &PageView, payer: &Payer, cumulative: u64) -> ClaimRow {
        let key = SigningKey::from_bytes(payer.key.secret_bytes());
        let id = page.channel_id(payer.slot).unwrap();
        let voucher = SignedVoucher::sign(&key, id, Amount::new(cumulative));
        let slot = page.slot(payer.slot).unwrap();
        ClaimRow {
            slot: payer.slot,
            voucher: voucher.verify(&slot.signer).unwrap(),
            amount: Amount::new(cumulative),
            settled: slot.settled,
            deposit: slot.deposit,
        }
    }
}

pub(crate) fn settler<C: Chain>(chain: C, sponsor: &Keypair) -> Settler<C> {
    Settler::new(chain, sponsor.insecure_clone(), settings())
}

pub(crate) fn settings() -> Settings {
    Settings {
        pace: Pace {
            first: Duration::from_millis(10),
            slowest: Duration::from_millis(50),
            resend: Duration::from_millis(500),
            patience: Duration::from_secs(30),
        },
        create_payee_accounts: true,
        ..Settings::default()
    }
}

/// What a store would keep, in memory.
#[derive(Default)]
pub(crate) struct Notes {
    pub(crate) attempts: Mutex<Vec<Attempt>>,
    pub(crate) tables: Mutex<Vec<[u8; 32]>>,
    pub(crate) bills: Mutex<Vec<[u8; 64]>>,
}

impl Journal for Notes {
    async fn record(&self, attempt: Attempt) -> Result<(), Rejection> {
        self.attempts.lock().unwrap().push(attempt);
        Ok(())
    }

    async fn table(&self, _: &[u8; 32]) -> Result<Option<[u8; 32]>, Rejection> {
        Ok(self.tables.lock().unwrap().last().copied())
    }

    async fn keep_table(&self, _: &[u8; 32], table: &[u8; 32]) -> Result<(), Rejection> {
        self.tables.lock().unwrap().push(*table);
        Ok(())
    }

    fn billed(&self, signature: [u8; 64]) {
        self.bills.lock().unwrap().push(signature);
    }

    fn billed_for_accounts(&self, signature: [u8; 64]) {
        self.bills.lock().unwrap().push(signature);
    }
}
