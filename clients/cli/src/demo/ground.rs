//! What stands before anybody serves or calls: chain, program, mint, keys, a book with a page.

use crate::connection;
use crate::dev::deploy_with_progress;
use crate::dev_chain::{Artifact, Blocks, DevChain, DevMint, LAMPORTS_PER_SOL, Ports};
use crate::keys;
use crate::progress::Progress;
use anyhow::{Context, Result};
use solana_address::Address;
use solana_keypair::Keypair;
use solana_signer::Signer;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tallybook_agent::{Agent, Cluster, Policy};
use tallybook_chain::address::TOKEN_PROGRAM;
use tallybook_chain::instruction::{Instructions, NewBook};
use tallybook_chain::{BookView, PROGRAM_ID, PageView};
use tallybook_paywall::Paywall;
use tallybook_rules::{Amount, Terms};
use tallybook_wire::{Key, Network};
use tempfile::TempDir;

/// The shortest that the program allows: tests and demo travel over it.
pub const GRACE_SECONDS: u32 = 900;
/// Channels that the page has room for.
const CAPACITY: u8 = 96;
/// Lamports that payee and sponsor start with.
const LAMPORTS: u64 = 10 * LAMPORTS_PER_SOL;

/// How fast things go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pace {
    /// How long a block takes.
    pub slot: Duration,
    /// After how long what was charged is claimed, in seconds.
    pub settle_after_seconds: u64,
}

/// A chain with a book on it. Its keys and files go when it is dropped.
pub struct Ground {
    /// The local chain.
    pub chain: DevChain,
    /// The token.
    pub mint: DevMint,
    /// Who is paid.
    pub payee: Address,
    /// Who pays the network's fees.
    pub sponsor: Address,
    /// The payee's offer.
    pub book: BookView,
    /// The page of the book.
    pub page: Address,
    /// The resource server's key.
    pub operator: Keypair,
    /// What administrators of the facilitator show.
    pub admin_token: String,
    pace: Pace,
    folder: TempDir,
}

/// The keys of everybody who stands on it.
pub struct Keys {
    /// The mint's address.
    pub mint: Keypair,
    /// Who is paid.
    pub payee: Keypair,
    /// The resource server's.
    pub operator: Keypair,
    /// Who pays the network's fees.
    pub sponsor: Keypair,
}

impl Keys {
    /// New ones.
    pub fn fresh() -> Self {
        Self { mint: Keypair::new(), payee: Keypair::new(), operator: Keypair::new(), sponsor: Keypair::new() }
    }
}

impl Ground {
    /// A new chain with the released program, and the rest with fresh keys.
    pub async fn prepare(pace: Pace, progress: Progress) -> Result<Self> {
        let chain = DevChain::start(Ports::Free, Blocks::Every(pace.slot)).await?;
        progress.done(format_args!("local chain at {}, a block every {} ms", chain.rpc_url(), pace.slot.as_millis()));
        deploy_with_progress(&chain, &Artifact::released()?, progress).await?;
        Self::on(chain, Keys::fresh(), pace, progress).await
    }

    /// Mint, funds, book and page on a chain that has the program.
    pub async fn on(chain: DevChain, keys: Keys, pace: Pace, progress: Progress) -> Result<Self> {
        let mint = DevMint::create(&chain, &keys.mint).await?;
        let (payee, sponsor) = (keys.payee.pubkey(), keys.sponsor.pubkey());
        mint.fund(&chain, &[payee, sponsor], LAMPORTS, Amount::ZERO).await?;
        let book = make_book(&chain, &mint, &keys.payee, &keys.operator.pubkey()).await?;
        let (page, _) = tallybook_chain::address::page(&PROGRAM_ID, &book.address, 0);
        progress.done(format_args!("book {} with a page of {CAPACITY} slots", book.address));
        let folder = tempfile::tempdir()?;
        keys::write(&folder.path().join("sponsor.json"), &keys.sponsor)?;
        // As random as an address that nobody has the key of.
        let admin_token = Keypair::new().pubkey().to_string();
        Ok(Self { chain, mint, payee, sponsor, book, page, operator: keys.operator, admin_token, pace, folder })
    }

    /// Where the files are.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The configuration of a facilitator that serves the book at `listen`, and pays for payments by `exact` in the same
    /// token to anybody.
    pub fn facilitator_config(&self, listen: SocketAddr) -> String {
        let folder = self.folder.path();
        format!(
            "listen = \"{listen}\"\n\
             database = {database:?}\n\
             rpc_url = \"{rpc_url}\"\n\
             network = \"{network}\"\n\
             sponsor = {sponsor:?}\n\
             books = [\"{book}\"]\n\
             admin_token = \"{token}\"\n\
             [settlement]\n\
             max_age_seconds = {age}\n\
             min_amount = 1_000_000_000\n\
             min_rows = {CAPACITY}\n\
             tick_milliseconds = 100\n\
             [chain]\n\
             poll_milliseconds = 200\n\
             [exact]\n\
             mints = [\"{mint}\"]\n\
             any_pay_to = true\n\
             [discovery]\n\
             private_addresses = true\n\
             [log]\n\
             filter = \"error\"\n",
            database = folder.join("facilitator.sqlite"),
            rpc_url = self.chain.rpc_url(),
            network = Network::devnet(),
            sponsor = folder.join("sponsor.json"),
            book = self.book.address,
            token = self.admin_token,
            mint = self.mint.address(),
            age = self.pace.settle_after_seconds,
        )
    }

    /// A paywall in front of the facilitator at `facilitator`, which also keeps the newest vouchers in a file.
    pub fn paywall(&self, facilitator: &str) -> Result<Paywall> {
        Ok(Paywall::builder(facilitator, self.book.address.to_string())
            .operator(self.operator.insecure_clone())
            .keep_vouchers_in(self.vouchers())
            .build()?)
    }

    /// Another payee's book on the same ground, with a page, of the same operator.
    pub async fn another_book(&self) -> Result<BookView> {
        self.book_in(&self.mint).await
    }

    /// Another payee's book in this token, with a page, of the same operator.
    pub async fn book_in(&self, mint: &DevMint) -> Result<BookView> {
        let payee = Keypair::new();
        mint.fund(&self.chain, &[payee.pubkey()], LAMPORTS, Amount::ZERO).await?;
        make_book(&self.chain, mint, &payee, &self.operator.pubkey()).await
    }

    /// A paywall that charges for a book in front of the facilitator at `facilitator`, and keeps nothing itself.
    pub fn paywall_of(&self, facilitator: &str, book: &BookView) -> Result<Paywall> {
        let paywall = Paywall::builder(facilitator, book.address.to_string()).decimals(book.state.decimals);
        Ok(paywall.operator(self.operator.insecure_clone()).build()?)
    }

    /// The resource server's own file of newest vouchers.
    pub fn vouchers(&self) -> PathBuf {
        self.folder.path().join("vouchers.jsonl")
    }

    /// A policy that pays `host` at most `max_price` a call, from one channel with a deposit of `deposit`.
    pub fn policy(&self, host: &str, max_price: Amount, deposit: Amount) -> Policy {
        Policy::new(self.cluster(), max_price, deposit, deposit).allow_host(host)
    }

    /// The chain and the token, as agents pin them.
    pub fn cluster(&self) -> Cluster {
        Cluster {
            network: Network::devnet(),
            genesis_hash: Key(self.chain.genesis_hash()),
            mint: Key(self.mint.address().to_bytes()),
        }
    }

    /// An agent that pays from `wallet`, and keeps its channels in a folder of its own.
    pub fn agent(&self, wallet: Keypair, policy: Policy) -> Result<Agent> {
        let state = self.agent_folder(&wallet.pubkey());
        Ok(Agent::builder(wallet, policy, self.chain.rpc_url().parse()?, state).build()?)
    }

    /// Where an agent keeps its channels.
    pub fn agent_folder(&self, wallet: &Address) -> PathBuf {
        self.folder.path().join(format!("agent-{wallet}"))
    }

    /// The page as it is on chain.
    pub async fn page(&self) -> Result<PageView> {
        self.page_of(&self.book).await
    }

    /// The first page of a book as it is on chain.
    pub async fn page_of(&self, book: &BookView) -> Result<PageView> {
        let pages = connection::pages(self.chain.rpc(), book).await?;
        pages.into_iter().next().context("the book has no page")
    }
}

/// Makes the payee's book and its page.
async fn make_book(chain: &DevChain, mint: &DevMint, payee: &Keypair, operator: &Address) -> Result<BookView> {
    let new = NewBook {
        payee: payee.pubkey(),
        rent_payer: payee.pubkey(),
        mint: mint.address(),
        token_program: TOKEN_PROGRAM,
        book_id: 0,
        genesis_hash: chain.genesis_hash(),
        terms: Terms { grace_seconds: GRACE_SECONDS, max_idle_seconds: 0, min_deposit: Amount::new(1), open_policy: 0 },
        operator: *operator,
        splits: Vec::new(),
    };
    let program = Instructions::new(PROGRAM_ID);
    let (address, _) = tallybook_chain::address::book(&PROGRAM_ID, &new.payee, &new.mint, new.book_id);
    connection::send(chain.rpc(), &[program.init_book(&new)], payee).await.context("the book")?;
    let book = connection::book(chain.rpc(), &address).await?;
    let page = program.add_page(&book, &new.payee, &new.payee, book.state.next_page, CAPACITY);
    connection::send(chain.rpc(), &[page], payee).await.context("the page")?;
    connection::book(chain.rpc(), &address).await
}
