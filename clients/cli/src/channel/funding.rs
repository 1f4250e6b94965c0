//! The ways in that take no sponsor, and finding channels again.

use super::{Remembered, channel_id, find};
use crate::connection;
use crate::output::{Money, Output};
use crate::sending;
use crate::wallet::{OpenWallet, Wallet};
use anyhow::{Context, Result, bail, ensure};
use clap::{ArgGroup, Args};
use reqwest::{Method, StatusCode};
use serde::Serialize;
use solana_address::Address;
use solana_client::nonblocking::rpc_client::RpcClient;
use solana_keypair::Keypair;
use solana_signer::Signer;
use std::fmt;
use tallybook_agent::ChannelReport;
use tallybook_chain::instruction::{Addition, Instructions, NewChannel};
use tallybook_chain::{BookView, PROGRAM_ID, TokenAccountView};
use tallybook_rules::{Amount, Status};
use tallybook_wire::{Key, PAYMENT_REQUIRED, PaymentRequired, read_header};
use url::Url;

/// Arguments of `tallybook channel open`.
#[derive(Args, Debug)]
#[command(
    group(ArgGroup::new("whom").required(true).args(["url", "book"])),
    after_help = "Examples: at the payee that a URL asks money for; and by its book, which needs no server\n  \
        tallybook channel open https://api.example.com/weather --deposit 5\n  \
        tallybook channel open --book $BOOK --deposit 5"
)]
pub struct Open {
    /// A URL that costs something: calls to its host pay with the channel.
    url: Option<Url>,
    /// The method that the URL asks money for.
    #[arg(short = 'X', long = "request", value_name = "METHOD", default_value_t = Method::GET)]
    method: Method,
    /// The payee's book. The channel pays no calls until its server is known: `tallybook channel recover URL`.
    #[arg(long, value_name = "ADDRESS")]
    book: Option<Address>,
    /// What to put in, in whole tokens.
    #[arg(long, default_value = "1", value_name = "AMOUNT")]
    deposit: String,
    /// The longest grace period to agree to: how long the rest may take to come back without the server's help.
    #[arg(long, default_value_t = 86_400, value_name = "SECONDS")]
    max_grace_seconds: u32,
    #[command(flatten)]
    wallet: Wallet,
}

/// Arguments of `tallybook channel top-up`.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  tallybook channel top-up $CHANNEL 2.5")]
pub struct TopUp {
    /// The channel's id.
    #[arg(value_parser = channel_id)]
    id: Key,
    /// How much to add, in whole tokens.
    amount: String,
    #[command(flatten)]
    wallet: Wallet,
}

/// Arguments of `tallybook channel recover`.
#[derive(Args, Debug)]
#[command(
    group(ArgGroup::new("where").required(true).args(["url", "book"])),
    after_help = "Examples: channels that pay again; and channels at a server that is gone, to leave them through the chain\n  \
        tallybook channel recover https://api.example.com/weather\n  \
        tallybook channel recover --book $BOOK"
)]
pub struct Recover {
    /// A URL that costs something, at the payee.
    url: Option<Url>,
    /// The method that the URL asks money for.
    #[arg(short = 'X', long = "request", value_name = "METHOD", default_value_t = Method::GET)]
    method: Method,
    /// The payee's book.
    #[arg(long, value_name = "ADDRESS")]
    book: Option<Address>,
    #[command(flatten)]
    wallet: Wallet,
}

impl Open {
    pub(super) async fn run(self, output: Output) -> Result<()> {
        let key = self.wallet.key().read()?;
        let host = self.url.as_ref().and_then(Url::host_str);
        let wallet = self.wallet.open(None, host).await?;
        let rpc = self.wallet.rpc().client();
        let address = match (&self.url, self.book) {
            (Some(url), _) => book_of(&self.method, url).await?,
            (None, Some(book)) => book,
            (None, None) => bail!("name a URL or a --book"),
        };
        let book = connection::book(&rpc, &address).await?;
        let deposit = Amount::parse_decimal(&self.deposit, wallet.decimals).context("--deposit")?;
        self.agree(&book, &wallet, deposit)?;
        let spinner = output.progress().spinner("opening a channel");
        let opened = open(&rpc, &book, &key, deposit).await;
        spinner.finish_and_clear();
        opened?;
        let found = recover(&wallet, self.method, self.url, address).await.context(
            "the channel is open, but was not taken into the state directory: run `tallybook channel recover`",
        )?;
        output.report(&FoundReport::of(&found, wallet.decimals))
    }

    /// What the agent would look at before it opens: the token, the terms.
    fn agree(&self, book: &BookView, wallet: &OpenWallet, deposit: Amount) -> Result<()> {
        let (state, mint) = (&book.state, book.mint());
        ensure!(mint == wallet.mint, "the book is paid in {mint}, the wallet pays in {}: see --mint", wallet.mint);
        ensure!(
            state.genesis_hash == wallet.genesis_hash,
            "the book says that it is for another cluster: do not open a channel there"
        );
        let least = Money::new(state.min_deposit, wallet.decimals);
        ensure!(deposit >= state.min_deposit, "a channel there takes a deposit of {least} at least: raise --deposit");
        ensure!(
            state.grace_seconds <= self.max_grace_seconds,
            "its grace period is {} seconds: raise --max-grace-seconds if you can wait so long",
            state.grace_seconds
        );
        ensure!(
            state.open_policy == 0,
            "the book's operator co-signs each opening: let `tallybook pay` open the channel through the server"
        );
        Ok(())
    }
}

/// Opens a channel in a free slot of the book, and waits until it is confirmed.
async fn open(rpc: &RpcClient, book: &BookView, wallet: &Keypair, deposit: Amount) -> Result<()> {
    let payer = wallet.pubkey();
    can_pay(rpc, book, &payer, deposit).await?;
    for page in connection::pages(rpc, book).await? {
        let Some((slot, generation)) = page.free_slots().last() else { continue };
        let new = NewChannel {
            payer,
            source: book.token_account(&payer),
            operator: None,
            page: page.address,
            slot,
            generation,
            signer: payer.to_bytes(),
            deposit: deposit.get(),
        };
        let instruction = Instructions::new(PROGRAM_ID).open(book, &new);
        sending::send(rpc, &[instruction], wallet, &[]).await.context("the channel was not opened")?;
        return Ok(());
    }
    bail!("no slot of the book {} is free: try later, or ask the payee to add a page", book.address)
}

async fn can_pay(rpc: &RpcClient, book: &BookView, payer: &Address, amount: Amount) -> Result<()> {
    let source = book.token_account(payer);
    let account = connection::account(rpc, &source).await?;
    let held = account.and_then(|account| TokenAccountView::parse(&account.data)).map_or(Amount::ZERO, |it| it.amount);
    let decimals = book.state.decimals;
    let (held_text, text) = (Money::new(held, decimals), Money::new(amount, decimals));
    ensure!(held >= amount, "the wallet holds {held_text}, this takes {text}: fund its token account {source}");
    Ok(())
}

/// The book that a URL asks money for. What it says is checked against the chain afterwards.
async fn book_of(method: &Method, url: &Url) -> Result<Address> {
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build()?;
    let response = client.request(method.clone(), url.clone()).send().await.context("the server does not answer")?;
    let status = response.status();
    ensure!(
        status == StatusCode::PAYMENT_REQUIRED,
        "the URL does not ask to be paid ({status}): name one that costs something, with its method (-X)"
    );
    let header = response.headers().get(PAYMENT_REQUIRED).context("the server's 402 says nothing of how to pay")?;
    let required: PaymentRequired = read_header(header.as_bytes())?;
    let offer =
        required.channel_offers().next().context("the server is not paid by channels: name another --book or URL")?;
    Ok(Address::from(offer.extra.book.0))
}

impl TopUp {
    pub(super) async fn run(self, output: Output) -> Result<()> {
        let key = self.wallet.key().read()?;
        let wallet = self.wallet.open(None, None).await?;
        let channel = find(&wallet, &self.id)?;
        let amount = Amount::parse_decimal(&self.amount, wallet.decimals).context("the amount")?;
        ensure!(!amount.is_zero(), "nothing to add: name an amount above 0");
        let rpc = self.wallet.rpc().client();
        let book = connection::book(&rpc, &Address::from(channel.parts.book.0)).await?;
        can_pay(&rpc, &book, &key.pubkey(), amount).await?;
        must_be_open(&rpc, &channel).await?;
        let addition = Addition {
            funder: key.pubkey(),
            source: book.token_account(&key.pubkey()),
            page: Address::from(channel.parts.page.0),
            slot: channel.parts.slot,
            generation: channel.parts.generation,
            amount: amount.get(),
        };
        let instruction = Instructions::new(PROGRAM_ID).top_up(&book, &addition);
        let spinner = output.progress().spinner("adding to the deposit");
        let sent = sending::send(&rpc, &[instruction], &key, &[]).await.context("nothing was added");
        spinner.finish_and_clear();
        let transaction = sent?;
        let channel = wallet.agent.look(self.id).await.map_err(|error| wallet.told(error))?;
        output.report(&TopUpReport {
            channel: self.id.to_string(),
            added: Money::new(amount, wallet.decimals),
            deposit: Money::new(channel.deposit, wallet.decimals),
            transaction: transaction.to_string(),
        })
    }
}

/// Said here rather than by the chain, which knows no channel ids.
async fn must_be_open(rpc: &RpcClient, channel: &ChannelReport) -> Result<()> {
    let page = connection::page_at(rpc, &Address::from(channel.parts.page.0)).await?;
    let slot = page.as_ref().filter(|page| page.channel_id(channel.parts.slot) == Some(channel.id.0));
    let slot = slot.and_then(|page| page.slot(channel.parts.slot).ok());
    let slot = slot.with_context(|| format!("the channel {} is over: `tallybook pay` opens a new one", channel.id))?;
    ensure!(slot.status()? == Status::Open, "the channel {} is closing: nothing can be added to it", channel.id);
    Ok(())
}

impl Recover {
    pub(super) async fn run(self, output: Output) -> Result<()> {
        let host = self.url.as_ref().and_then(Url::host_str);
        let wallet = self.wallet.open(None, host).await?;
        let spinner = output.progress().spinner("looking through the book's pages");
        let found = recover(&wallet, self.method, self.url, self.book.unwrap_or_default()).await;
        spinner.finish_and_clear();
        output.report(&FoundReport::of(&found?, wallet.decimals))
    }
}

/// By the URL if there is one, else by the book.
async fn recover(wallet: &OpenWallet, method: Method, url: Option<Url>, book: Address) -> Result<Vec<ChannelReport>> {
    let found = match url {
        Some(url) => wallet.agent.recover_at(method, url).await,
        None => wallet.agent.recover_book(Key(book.to_bytes())).await,
    };
    Ok(found.map_err(|error| wallet.told(error))?)
}

/// What `tallybook channel open` and `recover` print.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct FoundReport {
    /// The channels that are new to the state directory.
    pub channels: Vec<Remembered>,
}

/// What `tallybook channel top-up` prints.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct TopUpReport {
    /// Which one.
    pub channel: String,
    /// What was added.
    pub added: Money,
    /// What the channel can pay in all now.
    pub deposit: Money,
    /// The transaction.
    pub transaction: String,
}

impl FoundReport {
    fn of(found: &[ChannelReport], decimals: u8) -> Self {
        Self { channels: found.iter().map(|channel| Remembered::of(channel, decimals)).collect() }
    }
}

impl fmt::Display for FoundReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.channels.is_empty() {
            return f
                .write_str("nothing new: every channel of this wallet that the book's pages show was known already");
        }
        self.channels.iter().try_for_each(|channel| writeln!(f, "{channel}"))
    }
}

impl fmt::Display for TopUpReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "added {} to {}: its deposit is {} now", self.added, self.channel, self.deposit)
    }
}
