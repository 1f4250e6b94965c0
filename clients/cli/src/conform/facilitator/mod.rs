//! `tallybook conform facilitator`: a facilitator's HTTP surface, without money and with.

mod asking;
mod calls;
mod closing;
mod deposits;
mod looks;
mod purse;

use super::checks::Checks;
use super::report::Report;
use crate::connection::{KeyFile, Rpc};
use crate::output::Output;
use anyhow::{Context, Result};
use asking::Desk;
use clap::Args;
use purse::Purse;
use solana_address::Address;
use tallybook_keys::Source;
use tallybook_rules::Amount;
use url::Url;

/// Arguments of `tallybook conform facilitator`.
#[derive(Args, Debug)]
#[command(after_help = "Examples: what needs no money; and, on a local chain, all of it\n  \
    tallybook conform facilitator http://127.0.0.1:8402\n  \
    tallybook conform facilitator http://127.0.0.1:8402 --book $BOOK --pay --keypair wallet.json --operator operator.json\n\n\
    With --pay a channel is opened with the wallet's money, at the facilitator's expense. With --operator the rest comes back at\n\
    once; without, take it back through the chain (`tallybook channel recover --book $BOOK`, `tallybook channel close --force`).\n\
    Nobody else may use the book's last free slots meanwhile. Exit status 1 when anything is not as specified.")]
pub struct Facilitator {
    /// Where it answers.
    url: Url,
    /// A book that it serves: more is checked.
    #[arg(long, value_name = "ADDRESS")]
    book: Option<Address>,
    /// Its access token: a file (chmod 600), env:NAME, or command:PROGRAM.
    #[arg(long, value_name = "TOKEN")]
    access_token: Option<Source>,
    /// Open a channel with the wallet's money, and check calls, top-up and refund.
    #[arg(long, requires = "book")]
    pay: bool,
    /// What to put into the channel, in whole tokens; as much is added to it.
    #[arg(long, default_value = "0.001", value_name = "AMOUNT")]
    deposit: String,
    /// The book's operator, who signs the refund: a key file (chmod 600), env:NAME, or command:PROGRAM.
    #[arg(long, value_name = "KEY")]
    operator: Option<Source>,
    #[command(flatten)]
    rpc: Rpc,
    #[command(flatten)]
    key: KeyFile,
}

impl Facilitator {
    /// Makes the checks that its options ask for.
    pub async fn run(self, output: Output) -> Result<Report> {
        let token = self.access_token.as_ref().map(Source::text).transpose()?;
        let mut desk = Desk::new(self.url.clone(), token.as_ref().map(|token| token.as_str()))?;
        let mut checks = Checks::new(output.progress(), "asking the facilitator");
        looks::look(&mut desk, self.book, &mut checks).await?;
        if self.pay {
            let mut purse = self.purse(&desk).await?;
            let opened = deposits::open(&desk, &mut purse, &mut checks).await?;
            if opened {
                calls::call(&desk, &mut purse, &mut checks).await;
                deposits::top_up(&desk, &mut purse, &mut checks).await?;
                let operator = self.operator.as_ref().map(Source::keypair).transpose()?;
                closing::close(&desk, &purse, operator.as_ref(), &mut checks).await?;
            }
        } else {
            let why = "it takes money: see --pay";
            checks.leave_out("deposit, calls, top-up, refund", "§7", "reserve, commit, release, close", why);
        }
        Ok(checks.end())
    }

    /// What pays: the wallet, the book as it is on chain, and an offer to open a channel by.
    async fn purse(&self, desk: &Desk) -> Result<Purse> {
        let wallet = self.key.read()?;
        let book = self.book.context("--pay needs a --book")?;
        let offer = desk.offer().context("the facilitator makes no offer that a channel could be opened by")?;
        let purse = Purse::new(self.rpc.client(), wallet, &book, offer).await?;
        let deposit = Amount::parse_decimal(&self.deposit, purse.decimals()).context("--deposit")?;
        purse.with_deposit(deposit)
    }
}
