//! Everything that the demo needs before the first call: chain, program, mint, keys, book, page, facilitator, API.

use super::shop::Shop;
use crate::dev::deploy_with_progress;
use crate::dev_chain::{Artifact, Blocks, DevChain, DevMint, LAMPORTS_PER_SOL, Ports};
use crate::progress::Progress;
use crate::{connection, keys};
use anyhow::{Context, Result};
use serde::Deserialize;
use solana_address::Address;
use solana_keypair::Keypair;
use solana_signer::Signer;
use std::path::PathBuf;
use std::time::Duration;
use tallybook_agent::{Agent, Cluster, Policy};
use tallybook_chain::address::TOKEN_PROGRAM;
use tallybook_chain::instruction::{Instructions, NewBook};
use tallybook_chain::{BookView, PROGRAM_ID};
use tallybook_facilitator::{Config, Facilitator};
use tallybook_paywall::Paywall;
use tallybook_rules::{Amount, Terms};
use tallybook_wire::{ChannelView, Key, Network};
use tempfile::TempDir;

/// The shortest that the program allows: the demo travels over it.
pub const GRACE_SECONDS: u32 = 900;
/// Channels that a page has room for.
const CAPACITY: u8 = 96;

/// A stage, set.
pub struct Stage {
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
    /// The pages of the book.
    pub pages: Vec<Address>,
    /// The paid API.
    pub shop: Shop,
    facilitator: Facilitator,
    http: reqwest::Client,
    folder: TempDir,
}

/// How the stage is set.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// How long a block takes.
    pub slot: Duration,
    /// After how long what was charged is claimed.
    pub settle_after_seconds: u64,
}

impl Stage {
    /// Sets it.
    pub async fn set(setting: Setting, price: &str, progress: Progress) -> Result<Self> {
        let chain = DevChain::start(Ports::Free, Blocks::Every(setting.slot)).await?;
        deploy_with_progress(&chain, &Artifact::released()?, progress).await?;
        let mint = DevMint::create(&chain, &Keypair::new()).await?;
        let (payee, operator, sponsor) = (Keypair::new(), Keypair::new(), Keypair::new());
        mint.fund(
            &chain,
            &[payee.pubkey(), sponsor.pubkey()],
            LAMPORTS_PER_SOL,
            Amount::ZERO,
        )
        .await?;
        let book = open_book(&chain, &mint, &payee, &operator.pubkey()).await?;
        let pages = connection::pages(chain.rpc(), &book).await?;
        let folder = tempfile::tempdir()?;
        let config = facilitator_config(&chain, &book, &sponsor, setting, &folder)?;
        let facilitator = Facilitator::start(Config::from_toml(&config)?).await?;
        let paywall = Paywall::builder(facilitator_url(&facilitator).parse()?, Key(book.address.to_bytes()))
            .operator(operator)
            .build()
            .await?;
        Ok(Self {
            shop: Shop::open(&paywall, price).await?,
            payee: payee.pubkey(),
            sponsor: sponsor.pubkey(),
            pages: pages.iter().map(|page| page.address).collect(),
            http: reqwest::Client::new(),
            chain,
            mint,
            book,
            facilitator,
            folder,
        })
    }

    /// An agent that pays from `wallet`, with a deposit of `deposit` in its one channel.
    pub fn agent(&self, wallet: Keypair, max_price: Amount, deposit: Amount) -> Result<Agent> {
        let cluster = Cluster {
            network: Network::devnet(),
            genesis_hash: Key(self.chain.genesis_hash()),
            mint: Key(self.mint.address().to_bytes()),
        };
        let state = self.folder.path().join(format!("agent-{}", wallet.pubkey()));
        let policy = Policy::new(cluster, max_price, deposit, deposit).allow_host(self.shop.host());
        Ok(Agent::builder(wallet, policy, self.chain.rpc_url().parse()?, state).build()?)
    }

    /// What the facilitator knows of a channel.
    pub async fn channel(&self, id: &Key) -> Result<ChannelView> {
        let url = format!("{}/channels/{id}", facilitator_url(&self.facilitator));
        let response = self.http.get(url).send().await?.error_for_status()?;
        Ok(response.json().await?)
    }

    /// Ends the facilitator as its operator would.
    pub async fn shut_down(self) -> Result<()> {
        self.facilitator
            .shutdown()
            .await
            .context("the facilitator did not shut down")
    }
}

/// Makes the payee's book and its first page.
async fn open_book(chain: &DevChain, mint: &DevMint, payee: &Keypair, operator: &Address) -> Result<BookView> {
    let terms = Terms {
        grace_seconds: GRACE_SECONDS,
        max_idle_seconds: 0,
        min_deposit: Amount::new(1),
        open_policy: 0,
    };
    let new = NewBook {
        payee: payee.pubkey(),
        rent_payer: payee.pubkey(),
        mint: mint.address(),
        token_program: TOKEN_PROGRAM,
        book_id: 0,
        genesis_hash: chain.genesis_hash(),
        terms,
        operator: *operator,
        splits: Vec::new(),
    };
    let program = Instructions::new(PROGRAM_ID);
    let (address, _) = tallybook_chain::address::book(&PROGRAM_ID, &new.payee, &new.mint, new.book_id);
    connection::send(chain.rpc(), &[program.init_book(&new)], payee)
        .await
        .context("the book")?;
    let book = connection::book(chain.rpc(), &address).await?;
    let page = program.add_page(&book, &new.payee, &new.payee, book.state.next_page, CAPACITY);
    connection::send(chain.rpc(), &[page], payee)
        .await
        .context("the page")?;
    connection::book(chain.rpc(), &address).await
}
