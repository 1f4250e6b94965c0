//! `tallybook book`: a payee's offer.

use crate::connection::{self, KeyFile, Rpc};
use crate::print;
use anyhow::{Context, Result, bail, ensure};
use clap::{Args, Subcommand};
use solana_address::Address;
use solana_signer::Signer;
use tallybook_chain::instruction::{Instructions, NewBook, Split};
use tallybook_chain::transaction::create_token_account;
use tallybook_chain::{BookView, PROGRAM_ID};
use tallybook_rules::{Amount, Terms};

/// What to do with a book.
#[derive(Subcommand, Debug)]
pub enum BookCommand {
    /// Make a book: fix the terms that payers open channels under. They cannot be changed later.
    Init(Init),
    /// Show a book's terms.
    Show(Show),
}

/// Arguments of `tallybook book init`.
#[derive(Args, Debug)]
pub struct Init {
    #[command(flatten)]
    rpc: Rpc,
    #[command(flatten)]
    payee: KeyFile,
    /// The token to be paid in.
    #[arg(long)]
    mint: Address,
    /// The resource server's key: may refund payers and add pages, cannot take money [default: the payee].
    #[arg(long)]
    operator: Option<Address>,
    /// Tells books of one payee and mint apart.
    #[arg(long, default_value_t = 0)]
    book_id: u16,
    /// How long a payer who leaves waits, and the payee may still claim: 900 to 2,592,000.
    #[arg(long, default_value_t = 86_400)]
    grace_seconds: u32,
    /// After how long without a claim the payee may close a channel: 0 (never), or at least 86,400.
    #[arg(long, default_value_t = 0)]
    max_idle_seconds: u32,
    /// The smallest deposit of a channel, in whole tokens.
    #[arg(long, default_value = "0.01")]
    min_deposit: String,
    /// Channels open only with the operator's signature.
    #[arg(long)]
    operator_co_signs: bool,
    /// RECIPIENT=BASIS_POINTS: a share for somebody else; up to 4.
    #[arg(long, value_parser = split)]
    split: Vec<Split>,
}

/// Arguments of `tallybook book show`.
#[derive(Args, Debug)]
pub struct Show {
    #[command(flatten)]
    rpc: Rpc,
    /// The book's address.
    book: Address,
}

impl BookCommand {
    /// Does it.
    pub async fn run(self) -> Result<()> {
        match self {
            Self::Init(init) => init.run().await,
            Self::Show(show) => print_book(&connection::book(&show.rpc.client(), &show.book).await?),
        }
    }
}

impl Init {
    async fn run(self) -> Result<()> {
        let rpc = self.rpc.client();
        let payee = self.payee.read()?;
        let (token_program, decimals) = connection::mint(&rpc, &self.mint).await?;
        let terms = Terms {
            grace_seconds: self.grace_seconds,
            max_idle_seconds: self.max_idle_seconds,
            min_deposit: Amount::parse_decimal(&self.min_deposit, decimals).context("--min-deposit")?,
            open_policy: u8::from(self.operator_co_signs),
        };
        terms.check()?;
        let new = NewBook {
            payee: payee.pubkey(),
            rent_payer: payee.pubkey(),
            mint: self.mint,
            token_program,
            book_id: self.book_id,
            genesis_hash: rpc.get_genesis_hash().await.context("the chain does not answer")?.to_bytes(),
            terms,
            operator: self.operator.unwrap_or_else(|| payee.pubkey()),
            splits: self.split,
        };
        let (address, _) = tallybook_chain::address::book(&PROGRAM_ID, &new.payee, &new.mint, new.book_id);
        ensure!(
            rpc.get_account_with_commitment(&address, rpc.commitment()).await?.value.is_none(),
            "the book {address} exists already: show it with `tallybook book show {address}`, or choose another --book-id"
        );
        let instructions = [
            // So that payouts have somewhere to go.
            create_token_account(&new.payee, &new.payee, &new.mint, &new.token_program),
            Instructions::new(PROGRAM_ID).init_book(&new),
        ];
        connection::send(&rpc, &instructions, &payee).await?;
        print_book(&connection::book(&rpc, &address).await?)?;
        print(format_args!("next        tallybook page add {address}"))
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

fn print_book(book: &BookView) -> Result<()> {
    let state = &book.state;
    print(format_args!("book        {}", book.address))?;
    print(format_args!("payee       {}", book.payee()))?;
    print(format_args!("operator    {}", book.operator()))?;
    print(format_args!("mint        {}  ({} decimals)", book.mint(), state.decimals))?;
    print(format_args!("grace       {} seconds", state.grace_seconds))?;
    match state.max_idle_seconds {
        0 => print(format_args!("idle limit  none"))?,
        seconds => print(format_args!("idle limit  {seconds} seconds"))?,
    }
    print(format_args!("min deposit {}", state.min_deposit.decimal(state.decimals)))?;
    print(format_args!("who opens   {}", if state.open_policy == 0 { "anyone" } else { "the operator co-signs" }))?;
    for leg in state.legs() {
        let recipient = Address::from(leg.recipient);
        print(format_args!("pays        {recipient}  {} basis points", leg.basis_points))?;
    }
    print(format_args!("pages       {}", state.next_page))
}
