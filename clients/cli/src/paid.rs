//! `tallybook paid`: the wallet's record of what it paid for.

use crate::connection;
use crate::output::{Moment, Money, Output};
use crate::wallet::Wallet;
use anyhow::{Context, Result};
use clap::Args;
use solana_address::Address;
use solana_client::nonblocking::rpc_client::RpcClient;
use solana_signer::Signer;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;
use tallybook_agent::{Paid, paid, write_csv, write_json_lines};
use tallybook_rules::Amount;
use tallybook_wire::{Format, Key, Statement};

/// Arguments of `tallybook paid`.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples: for people; for a spreadsheet, in whole tokens of --mint; one line of JSON for each payment\n  \
    tallybook paid --host api.example.com\n  \
    tallybook paid --csv --mint $MINT > paid.csv\n  \
    tallybook paid --json"
)]
pub struct ListPaid {
    /// As comma-separated values.
    #[arg(long)]
    csv: bool,
    /// With the signed receipts of servers that give some: who signed, and for what.
    #[arg(long, conflicts_with = "csv")]
    receipts: bool,
    /// Only what was paid at this host.
    #[arg(long)]
    host: Option<String>,
    #[command(flatten)]
    wallet: Wallet,
}

impl ListPaid {
    /// Prints the payments, the oldest first.
    pub async fn run(self, output: Output) -> Result<()> {
        let wallet = Key(self.wallet.key().read()?.pubkey().to_bytes());
        let folder = self.wallet.state_folder(&wallet)?;
        let mut out = io::stdout().lock();
        if output == Output::Json {
            return Ok(write_json_lines(self.payments(&folder), &mut out)?);
        }
        let rpc = self.wallet.rpc().client();
        if self.csv {
            let (mint, decimals) = self.wallet.token(&rpc).await?;
            let of_mint = self.payments(&folder).filter(|paid| paid.as_ref().map_or(true, |paid| paid.mint == mint));
            return Ok(write_csv(of_mint, decimals, &mut out)?);
        }
        let mut totals: BTreeMap<Key, (u8, u64, Amount)> = BTreeMap::new();
        for paid in self.payments(&folder) {
            let paid = paid?;
            let decimals = match totals.get(&paid.mint) {
                Some((decimals, ..)) => *decimals,
                None => decimals_of(&rpc, &paid.mint).await?,
            };
            let (_, count, sum) = totals.entry(paid.mint).or_insert((decimals, 0, Amount::ZERO));
            *count = count.saturating_add(1);
            *sum = sum.plus(paid.charged.unwrap_or_default())?;
            write_line(&mut out, &paid, decimals)?;
            if self.receipts {
                write_receipt(&mut out, &paid)?;
            }
        }
        if totals.is_empty() {
            writeln!(out, "the wallet {wallet} has paid nothing yet that is on record")?;
        }
        for (mint, (decimals, count, sum)) in totals {
            let payments = if count == 1 { "payment" } else { "payments" };
            writeln!(out, "{count} {payments}, {} in all, in {mint}", Money::new(sum, decimals))?;
        }
        Ok(())
    }

    fn payments(&self, folder: &Path) -> impl Iterator<Item = io::Result<Paid>> {
        let is_wanted = |paid: &Paid| self.host.as_ref().is_none_or(|host| *host == paid.host);
        paid(folder).filter(move |paid| paid.as_ref().map_or(true, is_wanted))
    }
}

async fn decimals_of(rpc: &RpcClient, mint: &Key) -> Result<u8> {
    let decimals = connection::mint(rpc, &Address::from(mint.0)).await;
    Ok(decimals.context("what the amounts are worth is not known without the chain: see also --json")?.1)
}

/// Checks the receipt again, since the file may have been changed.
fn write_receipt(out: &mut impl Write, paid: &Paid) -> io::Result<()> {
    let Some(signature) = paid.receipt.clone() else { return writeln!(out, "    no signed receipt") };
    match (Statement { format: Format::Jws, signature }).receipt() {
        Ok(stated) => {
            let whose =
                if stated.by == paid.payee { "the payee's key" } else { "a key whose standing is for you to know" };
            let (by, url, at) = (stated.by, &stated.what.resource_url, Moment(stated.what.issued_at.cast_signed()));
            writeln!(out, "    receipt for {url} of {at}, signed by {by}, {whose} ({})", stated.id)
        }
        Err(rejection) => writeln!(out, "    its receipt does not hold: {rejection}"),
    }
}

fn write_line(out: &mut impl Write, paid: &Paid, decimals: u8) -> io::Result<()> {
    let charged = match paid.charged {
        Some(charged) => Money::new(charged, decimals).to_string(),
        None => format!("at most {}", Money::new(paid.price, decimals)),
    };
    let (at, host, path) = (Moment(paid.at), &paid.host, &paid.path);
    writeln!(out, "{at}  {charged}  {} {host}{path}  {}", paid.method, paid.status)
}
