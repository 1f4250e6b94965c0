//! `tallybook page`: the places that a book has for channels.

use crate::connection::{self, KeyFile, Rpc};
use crate::print;
use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use solana_address::Address;
use solana_client::nonblocking::rpc_client::RpcClient;
use solana_keypair::Keypair;
use solana_signer::Signer;
use tallybook_chain::instruction::Instructions;
use tallybook_chain::{BookView, PROGRAM_ID, PageView};
use tallybook_rules::Status;

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
pub struct Show {
    #[command(flatten)]
    rpc: Rpc,
    /// The book's address.
    book: Address,
}

impl PageCommand {
    /// Does it.
    pub async fn run(self) -> Result<()> {
        match self {
            Self::Add(add) => add.run().await,
            Self::Show(show) => {
                let rpc = show.rpc.client();
                let book = connection::book(&rpc, &show.book).await?;
                for page in connection::pages(&rpc, &book).await? {
                    print_page(&book, &page)?;
                }
                Ok(())
            }
        }
    }
}

impl Add {
    async fn run(self) -> Result<()> {
        let rpc = self.rpc.client();
        let authority = self.authority.read()?;
        let book = connection::book(&rpc, &self.book).await?;
        print_page(&book, &add(&rpc, &authority, &book, self.capacity).await?)
    }
}

/// Adds the book's next page, signed and paid by `authority`.
pub async fn add(rpc: &RpcClient, authority: &Keypair, book: &BookView, size: Capacity) -> Result<PageView> {
    let (signer, index) = (authority.pubkey(), book.state.next_page);
    let add = Instructions::new(PROGRAM_ID).add_page(book, &signer, &signer, index, size.capacity);
    connection::send(rpc, &[add], authority).await.context("the page was not added")?;
    connection::page(rpc, book, index).await
}

fn print_page(book: &BookView, page: &PageView) -> Result<()> {
    let (header, decimals) = (&page.header, book.state.decimals);
    print(format_args!("page        {}", page.address))?;
    print(format_args!("vault       {}", book.vault(&page.address)))?;
    print(format_args!("channels    {} of {}", header.used, header.capacity))?;
    print(format_args!("outstanding {}", header.outstanding.decimal(decimals)))?;
    print(format_args!("claimed     {}", header.claimed_total.decimal(decimals)))?;
    for (at, slot) in page.slots.iter().enumerate() {
        let status = match slot.status()? {
            Status::Free => continue,
            Status::Open => "open".to_owned(),
            Status::Closing => format!("closing at {}", slot.closing_at),
        };
        print(format_args!(
            "  slot {at:<3} {status}, settled {} of {}, payer {}",
            slot.settled.decimal(decimals),
            slot.deposit.decimal(decimals),
            Address::from(slot.payer)
        ))?;
    }
    Ok(())
}
