//! `tallybook page`: the places that a book has for channels.

use crate::connection::{self, KeyFile, Rpc};
use crate::output::{Moment, Money, Output, line};
use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use serde::Serialize;
use solana_address::Address;
use solana_client::nonblocking::rpc_client::RpcClient;
use solana_keypair::Keypair;
use solana_signer::Signer;
use std::fmt;
use tallybook_chain::instruction::Instructions;
use tallybook_chain::{BookView, PROGRAM_ID, PageView};
use tallybook_rules::{Amount, Status};
use tallybook_wire::Key;

/// What to do with pages.
#[derive(Subcommand, Debug)]
pub enum PageCommand {
    /// Add a page to a book. The payee or the operator signs; the rent is the key's.
    Add(Add),
    /// Show the pages of a book and the channels in them.
    Show(Show),
}

/// Arguments of `tallybook page add`.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  tallybook page add $BOOK --keypair operator.json")]
pub struct Add {
    #[command(flatten)]
    rpc: Rpc,
    #[command(flatten)]
    authority: KeyFile,
    /// The book's address.
    book: Address,
    #[command(flatten)]
    capacity: Capacity,
}

/// The option that says how large a page is.
#[derive(Args, Clone, Copy, Debug)]
pub struct Capacity {
    /// How many channels the page has room for.
    #[arg(long, default_value_t = 96, value_parser = clap::value_parser!(u8).range(1..=96))]
    capacity: u8,
}

/// Arguments of `tallybook page show`.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  tallybook page show $BOOK")]
pub struct Show {
    #[command(flatten)]
    rpc: Rpc,
    /// The book's address.
    book: Address,
}

impl PageCommand {
    /// Does it.
    pub async fn run(self, output: Output) -> Result<()> {
        match self {
            Self::Add(add) => add.run(output).await,
            Self::Show(show) => {
                let rpc = show.rpc.client();
                let book = connection::book(&rpc, &show.book).await?;
                let pages = connection::pages(&rpc, &book).await?;
                let pages = pages.iter().map(|page| PageReport::of(&book, page)).collect::<Result<_>>()?;
                output.report(&PagesReport { book: book.address.to_string(), pages })
            }
        }
    }
}

impl Add {
    async fn run(self, output: Output) -> Result<()> {
        let rpc = self.rpc.client();
        let authority = self.authority.read()?;
        let book = connection::book(&rpc, &self.book).await?;
        output.report(&PageReport::of(&book, &add(&rpc, &authority, &book, self.capacity).await?)?)
    }
}

/// Adds the book's next page, signed and paid by `authority`.
pub async fn add(rpc: &RpcClient, authority: &Keypair, book: &BookView, size: Capacity) -> Result<PageView> {
    let (signer, index) = (authority.pubkey(), book.state.next_page);
    let add = Instructions::new(PROGRAM_ID).add_page(book, &signer, &signer, index, size.capacity);
    connection::send(rpc, &[add], authority).await.with_context(|| {
        format!(
            "the page was not added (the book's payee {} or operator {} must sign, and {signer} pays the rent of about \
             0.08 SOL)",
            book.payee(),
            book.operator()
        )
    })?;
    connection::page(rpc, book, index).await
}

/// What `tallybook page show` prints.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PagesReport {
    /// The book.
    pub book: String,
    /// Its pages, by their index.
    pub pages: Vec<PageReport>,
}

/// A page, as `tallybook page add` prints it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PageReport {
    /// The page's address.
    pub page: String,
    /// Its number in the book.
    pub index: u32,
    /// The token account that holds its deposits.
    pub vault: String,
    /// Who paid its rent.
    pub rent_payer: String,
    /// Places for channels.
    pub capacity: u8,
    /// Places taken.
    pub used: u8,
    /// Deposited and not claimed.
    pub outstanding: Money,
    /// Ever claimed.
    pub claimed: Money,
    /// Claimed and not paid out.
    pub owed: Money,
    /// Who is in it.
    pub channels: Vec<SlotReport>,
}

/// A channel in its slot.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SlotReport {
    /// The channel's id.
    pub channel: String,
    /// The slot.
    pub slot: u8,
    /// The slot's generation.
    pub generation: u32,
    /// `open` or `closing`.
    pub status: &'static str,
    /// Who funds it.
    pub payer: String,
    /// Whose vouchers bind it.
    pub signer: String,
    /// All that was put in and not refunded.
    pub deposit: Money,
    /// Claimed so far.
    pub settled: Money,
    /// When it may be withdrawn, in Unix seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub closing_at: Option<Moment>,
    /// When it was opened or last claimed from, in Unix seconds.
    pub last_activity: Moment,
}

impl PageReport {
    /// Reads a page of `book`.
    pub fn of(book: &BookView, page: &PageView) -> Result<Self> {
        let (header, money) = (&page.header, |amount| Money::new(amount, book.state.decimals));
        let mut owed = Amount::ZERO;
        for (at, leg) in book.state.legs().iter().enumerate() {
            owed = owed.plus(header.owed(at, leg)?)?;
        }
        let mut channels = Vec::new();
        for at in 0..header.capacity {
            channels.extend(SlotReport::of(book, page, at)?);
        }
        Ok(Self {
            page: page.address.to_string(),
            index: header.index,
            vault: book.vault(&page.address).to_string(),
            rent_payer: Address::from(header.rent_payer).to_string(),
            capacity: header.capacity,
            used: header.used,
            outstanding: money(header.outstanding),
            claimed: money(header.claimed_total),
            owed: money(owed),
            channels,
        })
    }
}

impl SlotReport {
    /// The channel in the slot numbered `at` of `page`, if there is one.
    pub fn of(book: &BookView, page: &PageView, at: u8) -> Result<Option<Self>> {
        let slot = page.slot(at)?;
        let Some(id) = page.channel_id(at) else { return Ok(None) };
        Ok(Some(Self {
            channel: Key(id).to_string(),
            slot: at,
            generation: slot.generation,
            status: if slot.status()? == Status::Closing { "closing" } else { "open" },
            payer: Address::from(slot.payer).to_string(),
            signer: Address::from(slot.signer).to_string(),
            deposit: Money::new(slot.deposit, book.state.decimals),
            settled: Money::new(slot.settled, book.state.decimals),
            closing_at: Some(Moment(slot.closing_at)).filter(|at| at.0 != 0),
            last_activity: Moment(slot.last_activity),
        }))
    }
}

impl fmt::Display for PagesReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.pages.is_empty() {
            writeln!(
                f,
                "no pages: nobody can open a channel until there is one. Run `tallybook page add {}`",
                self.book
            )?;
        }
        self.pages.iter().try_for_each(|page| write!(f, "{page}"))
    }
}

impl fmt::Display for PageReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        line(f, "page", format_args!("{}  (number {})", self.page, self.index))?;
        line(f, "vault", &self.vault)?;
        line(f, "channels", format_args!("{} of {}", self.used, self.capacity))?;
        line(f, "outstanding", self.outstanding)?;
        line(f, "claimed", self.claimed)?;
        line(f, "owed", format_args!("{}  (claimed and not paid out)", self.owed))?;
        for channel in &self.channels {
            let (slot, status) = (channel.slot, channel.status);
            write!(f, "  slot {slot:<3} {status}, {} of {} settled", channel.settled, channel.deposit)?;
            if let Some(at) = channel.closing_at {
                write!(f, ", withdrawable {at}")?;
            }
            writeln!(f, "\n           channel {}\n           payer   {}", channel.channel, channel.payer)?;
        }
        Ok(())
    }
}
