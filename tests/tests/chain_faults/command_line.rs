//! The command line behind a bad line: it says what happened and what to do, and loses nothing.

use crate::fault::{Fault, on};
use crate::house::{Customer, House, PRICE};
use anyhow::{Context, Result, ensure};
use solana_signer::Signer;
use std::process::Command;
use tallybook_cli::dev_chain::LAMPORTS_PER_SOL;
use tallybook_cli::keys;
use tallybook_rules::Amount;

/// Runs `tallybook` for somebody with SOL, over the agents' line.
struct Shell<'a> {
    house: &'a House,
    folder: tempfile::TempDir,
}

impl<'a> Shell<'a> {
    async fn with_sol(house: &'a House) -> Result<Self> {
        let (folder, wallet) = (tempfile::tempdir()?, solana_keypair::Keypair::new());
        keys::write(&folder.path().join("wallet.json"), &wallet)?;
        let ground = &house.ground;
        ground.mint.fund(&ground.chain, &[wallet.pubkey()], LAMPORTS_PER_SOL, Amount::new(1_000_000)).await?;
        Ok(Self { house, folder })
    }

    /// What it answers: its status, and all that it says.
    async fn run(&self, arguments: &[&str]) -> Result<(i32, String)> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tallybook-to-run"));
        command.args(arguments).current_dir(self.folder.path()).env("HOME", self.folder.path());
        command.env("TALLYBOOK_KEYPAIR", self.folder.path().join("wallet.json"));
        command.env("TALLYBOOK_STATE_DIR", self.folder.path().join("channels"));
        command.env("TALLYBOOK_RPC", self.house.agents_line.url());
        command.env("TALLYBOOK_MINT", self.house.ground.mint.address().to_string());
        let output = tokio::task::spawn_blocking(move || command.output()).await??;
        let said = [output.stdout, output.stderr].concat();
        Ok((output.status.code().context("killed")?, String::from_utf8(said)?))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn given_faults_when_a_stranger_settles_and_a_payer_pays_then_each_says_what_happened_and_pays_once() -> Result<()>
{
    // Given a facilitator that settles nothing by itself, a voucher, and a stranger with SOL
    let house = House::open_with(|config| config.settlement.max_age_seconds = 86_400).await?;
    let mut customer = Customer::arrive(&house, 1).await?;
    customer.buy(&house).await?;
    let shell = Shell::with_sol(&house).await?;
    let (file, book) = (house.ground.vouchers().display().to_string(), house.ground.book.address.to_string());
    let settle = ["settle", file.as_str(), "--book", book.as_str()];
    // When the answer to the send is lost, then the chain is asked, and it is settled
    house.agents_line.suffer(on("sendTransaction", Fault::LostAnswer, u32::MAX));
    let (status, said) = shell.run(&settle).await?;
    ensure!(status == 0, "{said}");
    ensure!(house.paid().await? == PRICE, "{said}");
    house.heal();
    // And what it does again, it does not do twice
    let (status, said) = shell.run(&settle).await?;
    ensure!(status == 0 && house.paid().await? == PRICE, "{said}");

    // When a payee's transaction is sent and the answer is lost, then the chain is asked about it too
    house.agents_line.suffer(on("sendTransaction", Fault::LostAnswer, u32::MAX));
    let mint = house.ground.mint.address().to_string();
    let (status, said) = shell.run(&["book", "init", "--mint", &mint, "--grace-seconds", "3600"]).await?;
    ensure!(status == 0, "{said}");
    house.heal();

    // When nothing of the chain can be had, then a payer is told so, and has lost nothing
    for fault in [Fault::LostRequest, Fault::Broken, Fault::Garbage, Fault::Oversized, Fault::Endless, Fault::Empty] {
        house.agents_line.suffer(Box::new(move |_| Some(fault)));
        let (status, said) = shell.run(&["pay", &house.shop.paid(), "-d", "to pay", "--deposit", "0.01"]).await?;
        ensure!(status != 0 && !said.contains("panicked"), "{fault:?}: {said}");
        ensure!(said.contains("RPC endpoint") || said.contains("--rpc"), "{fault:?}: {said}");
        let (status, said) = shell.run(&["book", "show", &book]).await?;
        ensure!(status != 0 && !said.contains("panicked"), "{fault:?}: {said}");
    }
    house.heal();
    // And when it can be had again, it pays
    let (status, said) = shell.run(&["pay", &house.shop.paid(), "-d", "to pay", "--deposit", "0.01"]).await?;
    ensure!(status == 0, "{said}");
    house.check_page().await?;
    house.close().await
}
