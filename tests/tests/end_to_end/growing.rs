//! A book that fills up, and gets its next page by itself.

use crate::customer::{PRICE, stage, until};
use anyhow::{Context, Result};
use axum::Router;
use axum::routing::get;
use solana_keypair::Keypair;
use solana_signer::Signer;
use tallybook_agent::{AgentError, Policy};
use tallybook_chain::address::{self, TOKEN_PROGRAM};
use tallybook_chain::instruction::{Instructions, NewBook};
use tallybook_chain::{BookView, PROGRAM_ID};
use tallybook_cli::connection;
use tallybook_cli::demo::{GRACE_SECONDS, Ground};
use tallybook_cli::dev_chain::LAMPORTS_PER_SOL;
use tallybook_facilitator::{Config, Facilitator};
use tallybook_paywall::Paywall;
use tallybook_rules::{Amount, Rejection, Terms};
use tallybook_wire::{Key, PAYMENT_REQUIRED, PaymentRequired, read_header};
use tokio::net::TcpListener;

/// A book of another payee whose idle channels can be closed, with one page of one slot.
async fn small_book(ground: &Ground) -> Result<BookView> {
    let (chain, payee) = (&ground.chain, Keypair::new());
    ground.mint.fund(chain, &[payee.pubkey()], LAMPORTS_PER_SOL, Amount::ZERO).await?;
    let new = NewBook {
        payee: payee.pubkey(),
        rent_payer: payee.pubkey(),
        mint: ground.mint.address(),
        token_program: TOKEN_PROGRAM,
        book_id: 0,
        genesis_hash: chain.genesis_hash(),
        terms: Terms {
            grace_seconds: GRACE_SECONDS,
            max_idle_seconds: 86_400,
            min_deposit: Amount::new(1),
            open_policy: 0,
        },
        operator: ground.operator.pubkey(),
        splits: Vec::new(),
    };
    let program = Instructions::new(PROGRAM_ID);
    let (address, _) = address::book(&PROGRAM_ID, &new.payee, &new.mint, new.book_id);
    connection::send(chain.rpc(), &[program.init_book(&new)], &payee).await?;
    let book = connection::book(chain.rpc(), &address).await?;
    let page = program.add_page(&book, &new.payee, &new.payee, 0, 1);
    connection::send(chain.rpc(), &[page], &payee).await?;
    connection::book(chain.rpc(), &address).await
}

/// A facilitator for this book alone.
async fn facilitator(ground: &Ground, book: &BookView) -> Result<Facilitator> {
    let config = ground.facilitator_config("127.0.0.1:0".parse()?);
    let config = config.replace(&ground.book.address.to_string(), &book.address.to_string());
    let config = config.replace("facilitator.sqlite", "another.sqlite");
    Ok(Facilitator::start(Config::from_toml(&config)?).await?)
}

async fn call(ground: &Ground, host: &str) -> Result<Result<(), AgentError>> {
    let wallet = Keypair::new();
    let owners = [wallet.pubkey()];
    ground.mint.fund(&ground.chain, &owners, LAMPORTS_PER_SOL / 100, Amount::new(100_000)).await?;
    let policy = Policy::new(ground.cluster(), PRICE, Amount::new(10_000), Amount::new(100_000)).allow_host(host);
    let agent = ground.agent(wallet, policy)?;
    let answer = agent.get(format!("http://{host}/").parse()?).await;
    Ok(answer.map(|answer| assert_eq!(answer.status().as_u16(), 200)))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_book_says_so_and_gets_its_next_page_by_the_operators_signature() -> Result<()> {
    // Given a book with one slot, whose server lets it grow to two pages
    let stage = stage().await?;
    let ground = &stage.ground;
    let book = small_book(ground).await?;
    let facilitator = facilitator(ground, &book).await?;
    let paywall = Paywall::builder(format!("http://{}", facilitator.local_addr()), book.address.to_string())
        .operator(ground.operator.insecure_clone())
        .grow_to(2)
        .keep_vouchers_in(ground.folder().join("small.jsonl"))
        .build()?;
    let app = Router::new().route("/", get(async || "served").route_layer(paywall.charge("$0.0005")?));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let host = listener.local_addr()?.to_string();
    tokio::spawn(async move { axum::serve(listener, app).await });

    // When the only slot is taken, then a 402 says that the book is full
    call(ground, &host).await??;
    let answer = reqwest::get(format!("http://{host}/")).await?;
    let value = answer.headers().get(PAYMENT_REQUIRED).context("no offer")?;
    let full: PaymentRequired = read_header(value.as_bytes())?;
    assert_eq!(full.error.and_then(|reason| reason.rejection()), Some(Rejection::BookFull));

    // And when people go on asking, then there is a second page, paid by the sponsor, and a place in it
    let grown = until("the book has a second page", async || {
        reqwest::get(format!("http://{host}/")).await?;
        let book = connection::book(ground.chain.rpc(), &book.address).await?;
        Ok(Some(book).filter(|book| book.state.next_page == 2))
    });
    let pages = connection::pages(ground.chain.rpc(), &grown.await?).await?;
    let second = pages.iter().find(|page| page.header.index == 1).context("no second page")?;
    assert_eq!(Key(second.header.rent_payer), Key(ground.sponsor.to_bytes()));
    call(ground, &host).await??;
    facilitator.shutdown().await?;
    stage.shut_down().await
}
