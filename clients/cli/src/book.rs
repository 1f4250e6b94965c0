//! `tallybook book`: a payee's offer.

use crate::connection::{self, KeyFile, NoAnswer, Rpc};
use crate::output::{Money, Output, line};
use anyhow::{Context, Result, bail, ensure};
use clap::{Args, Subcommand};
use serde::Serialize;
use solana_address::Address;
use solana_client::nonblocking::rpc_client::RpcClient;
use solana_keypair::Keypair;
use solana_signer::Signer;
use std::fmt;
use tallybook_chain::instruction::{Instructions, NewBook, Split};
use tallybook_chain::transaction::create_token_account;
use tallybook_chain::{BookView, PROGRAM_ID, PageView};
use tallybook_rules::{Amount, Terms};

/// What to do with a book.
#[derive(Subcommand, Debug)]
pub enum BookCommand {
    /// Make a book: fix the terms that payers open channels under. They cannot be changed later.
    Init(Init),
    /// Show a book's terms.
    Show(Show),
    /// Name another operator: the key of before signs nothing for the book from then on. The payee signs.
    SetOperator(SetOperator),
}

/// Arguments of `tallybook book init`.
#[derive(Args, Debug)]
#[command(after_help = "Example: a book in USDC whose server has a key of its own\n  \
    tallybook book init --mint $MINT --operator $OPERATOR --keypair payee.json")]
pub struct Init {
    #[command(flatten)]
    rpc: Rpc,
    #[command(flatten)]
    payee: KeyFile,
    /// The token to be paid in.
    #[arg(long)]
    mint: Address,
    #[command(flatten)]
    offer: Offer,
}

/// What a book says, but for who is paid and in which token.
#[derive(Args, Debug)]
pub struct Offer {
    /// The resource server's key: may refund payers and add pages, cannot take money [default: the payee].
    #[arg(long, requires = "mint")]
    operator: Option<Address>,
    /// Tells books of one payee and mint apart.
    #[arg(long, requires = "mint", default_value_t = 0)]
    book_id: u16,
    /// How long a payer who leaves waits, and the payee may still claim: 900 to 2,592,000.
    #[arg(long, requires = "mint", default_value_t = 86_400)]
    grace_seconds: u32,
    /// After how long without a claim the payee may close a channel: 0 (never), or at least 86,400.
    #[arg(long, requires = "mint", default_value_t = 0)]
    max_idle_seconds: u32,
    /// The smallest deposit of a channel, in whole tokens.
    #[arg(long, requires = "mint", default_value = "0.01")]
    min_deposit: String,
    /// Channels open only with the operator's signature.
    #[arg(long, requires = "mint")]
    operator_co_signs: bool,
    /// RECIPIENT=BASIS_POINTS: a share for somebody else; up to 4.
    #[arg(long, requires = "mint", value_parser = split)]
    split: Vec<Split>,
}

/// Arguments of `tallybook book show`.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  tallybook book show $BOOK")]
pub struct Show {
    #[command(flatten)]
    rpc: Rpc,
    /// The book's address.
    book: Address,
}

/// Arguments of `tallybook book set-operator`.
#[derive(Args, Debug)]
#[command(after_help = "Example: the server has a new key\n  \
    tallybook book set-operator $BOOK $NEW_OPERATOR --keypair payee.json")]
pub struct SetOperator {
    #[command(flatten)]
    rpc: Rpc,
    #[command(flatten)]
    payee: KeyFile,
    /// The book's address.
    book: Address,
    /// The resource server's new key.
    operator: Address,
}

impl BookCommand {
    /// Does it.
    pub async fn run(self, output: Output) -> Result<()> {
        match self {
            Self::Init(init) => init.run(output).await,
            Self::Show(show) => {
                let rpc = show.rpc.client();
                let book = connection::book(&rpc, &show.book).await?;
                output.report(&BookReport::read(&rpc, &book).await?)
            }
            Self::SetOperator(set) => set.run(output).await,
        }
    }
}

impl SetOperator {
    async fn run(self, output: Output) -> Result<()> {
        let rpc = self.rpc.client();
        let payee = self.payee.read()?;
        let book = connection::book(&rpc, &self.book).await?;
        ensure!(payee.pubkey() == book.payee(), "only the payee of the book may do this: {}", book.payee());
        let changed = Instructions::new(PROGRAM_ID).set_operator(&book, &self.operator);
        connection::send(&rpc, &[changed], &payee).await.context("the operator was not changed")?;
        let book = connection::book(&rpc, &self.book).await?;
        output.report(&BookReport::read(&rpc, &book).await?)?;
        output
            .hint(format_args!("next: start the paywall again with the new key; a facilitator sees it within seconds"));
        Ok(())
    }
}

impl Init {
    async fn run(self, output: Output) -> Result<()> {
        let rpc = self.rpc.client();
        let (book, made) = self.offer.bring(&rpc, &self.payee.read()?, &self.mint).await?;
        let report = BookReport { made: Some(made), ..BookReport::read(&rpc, &book).await? };
        output.report(&report)?;
        match made {
            true => output.hint(format_args!("next: tallybook page add {}", book.address)),
            false => output.hint(format_args!("nothing to do: it was there already, on these terms")),
        }
        Ok(())
    }
}

impl Offer {
    /// The payee's book with this offer, and whether it was made just now. Terms never change: fails when the book is
    /// there with others.
    pub async fn bring(&self, rpc: &RpcClient, payee: &Keypair, mint: &Address) -> Result<(BookView, bool)> {
        let new = self.book(rpc, payee.pubkey(), *mint).await?;
        let (address, _) = tallybook_chain::address::book(&PROGRAM_ID, &new.payee, mint, new.book_id);
        if connection::account(rpc, &address).await?.is_some() {
            let book = connection::book(rpc, &address).await?;
            self.compare(&new, &book)?;
            return Ok((book, false));
        }
        let instructions = [
            // So that payouts have somewhere to go.
            create_token_account(&new.payee, &new.payee, mint, &new.token_program),
            Instructions::new(PROGRAM_ID).init_book(&new),
        ];
        connection::send(rpc, &instructions, payee).await.with_context(|| {
            format!(
                "the book {address} was not made ({} pays its rent, so it needs some SOL, and the program {PROGRAM_ID} \
                 must be there)",
                new.payee
            )
        })?;
        Ok((connection::book(rpc, &address).await?, true))
    }

    async fn book(&self, rpc: &RpcClient, payee: Address, mint: Address) -> Result<NewBook> {
        let (token_program, decimals) = connection::mint(rpc, &mint).await?;
        let terms = Terms {
            grace_seconds: self.grace_seconds,
            max_idle_seconds: self.max_idle_seconds,
            min_deposit: Amount::parse_decimal(&self.min_deposit, decimals).context("--min-deposit")?,
            open_policy: u8::from(self.operator_co_signs),
        };
        terms.check()?;
        Ok(NewBook {
            payee,
            rent_payer: payee,
            mint,
            token_program,
            book_id: self.book_id,
            genesis_hash: rpc.get_genesis_hash().await.context(NoAnswer)?.to_bytes(),
            terms,
            operator: self.operator.unwrap_or(payee),
            splits: self.split.clone(),
        })
    }

    /// Fails unless the book on chain is what the offer asks for. Its operator may have been changed since, so it counts
    /// only where one is named.
    fn compare(&self, wanted: &NewBook, book: &BookView) -> Result<()> {
        let splits = book.state.legs().get(1..).unwrap_or_default();
        let splits = splits.iter().map(|leg| Split { recipient: leg.recipient, basis_points: leg.basis_points });
        let same = [
            (book.state.terms() == wanted.terms, "terms"),
            (splits.eq(wanted.splits.iter().copied()), "splits"),
            (self.operator.is_none_or(|operator| operator == book.operator()), "operator"),
        ];
        let others: Vec<&str> = same.iter().filter(|(same, _)| !same).map(|(_, what)| *what).collect();
        ensure!(
            others.is_empty(),
            "the book {address} is there already, with other {}: see `tallybook book show {address}`. Ask for the same, \
             or make another with --book-id",
            others.join(" and "),
            address = book.address
        );
        Ok(())
    }
}

fn split(text: &str) -> Result<Split> {
    let Some((recipient, basis_points)) = text.split_once('=') else {
        bail!("write RECIPIENT=BASIS_POINTS");
    };
    let recipient: Address = recipient.parse().context("the recipient is no address")?;
    Ok(Split {
        recipient: recipient.to_bytes(),
        basis_points: basis_points.parse().context("basis points are 1 to 10,000")?,
    })
}

/// What the commands of `tallybook book` print.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BookReport {
    /// The book's address.
    pub book: String,
    /// `book init`: whether it was made just now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub made: Option<bool>,
    /// Who is paid.
    pub payee: String,
    /// The resource server's key.
    pub operator: String,
    /// The token.
    pub mint: String,
    /// The owner of the mint.
    pub token_program: String,
    /// Places of the mint.
    pub decimals: u8,
    /// Tells books of one payee and mint apart.
    pub book_id: u16,
    /// How long a payer who leaves waits.
    pub grace_seconds: u32,
    /// After how long without a claim a channel may be closed; 0 is never.
    pub max_idle_seconds: u32,
    /// The smallest deposit.
    pub min_deposit: Money,
    /// True when the operator co-signs each opening.
    pub operator_co_signs: bool,
    /// Who gets which share of all that is claimed; the payee first.
    pub legs: Vec<LegReport>,
    /// Pages that stand.
    pub pages: usize,
    /// Channels in all pages.
    pub used_slots: u64,
    /// Places in all pages.
    pub capacity: u64,
}

/// A recipient of a share.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LegReport {
    /// Who.
    pub recipient: String,
    /// The token account that is paid.
    pub account: String,
    /// The share, of 10,000.
    pub basis_points: u16,
}

impl BookReport {
    /// Reads what is not in the book itself from its pages.
    pub async fn read(rpc: &RpcClient, book: &BookView) -> Result<Self> {
        let pages = connection::pages(rpc, book).await?;
        let sum = |of: fn(&PageView) -> u8| pages.iter().map(|page| u64::from(of(page))).sum();
        let state = &book.state;
        let legs = state.legs().iter().map(|leg| LegReport {
            recipient: Address::from(leg.recipient).to_string(),
            account: Address::from(leg.account).to_string(),
            basis_points: leg.basis_points,
        });
        Ok(Self {
            book: book.address.to_string(),
            made: None,
            payee: book.payee().to_string(),
            operator: book.operator().to_string(),
            mint: book.mint().to_string(),
            token_program: book.token_program().to_string(),
            decimals: state.decimals,
            book_id: state.book_id,
            grace_seconds: state.grace_seconds,
            max_idle_seconds: state.max_idle_seconds,
            min_deposit: Money::new(state.min_deposit, state.decimals),
            operator_co_signs: state.open_policy != 0,
            legs: legs.collect(),
            pages: pages.len(),
            used_slots: sum(|page| page.header.used),
            capacity: sum(|page| page.header.capacity),
        })
    }
}

impl fmt::Display for BookReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        line(f, "book", &self.book)?;
        line(f, "payee", &self.payee)?;
        line(f, "operator", &self.operator)?;
        line(f, "mint", format_args!("{}  ({} decimals)", self.mint, self.decimals))?;
        line(f, "grace", format_args!("{} seconds", self.grace_seconds))?;
        match self.max_idle_seconds {
            0 => line(f, "idle limit", "none")?,
            seconds => line(f, "idle limit", format_args!("{seconds} seconds"))?,
        }
        line(f, "min deposit", self.min_deposit)?;
        line(f, "who opens", if self.operator_co_signs { "the operator co-signs" } else { "anyone" })?;
        for leg in &self.legs {
            line(f, "pays", format_args!("{}  {} basis points", leg.recipient, leg.basis_points))?;
        }
        let (pages, used, capacity) = (self.pages, self.used_slots, self.capacity);
        line(f, "pages", format_args!("{pages}  ({used} of {capacity} slots used)"))
    }
}
