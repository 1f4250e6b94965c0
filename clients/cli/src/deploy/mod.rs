//! `tallybook deploy`: the program on a chain, and a payee's book and first page. Safe to run twice.
//!
//! Reading path: [`Deploy`] (the command) → [`Loader`] (deploy, upgrade, or nothing) → `upload` (the bytes) and
//! `standing` (what is on the chain already).

mod artifact;
mod loader;
mod standing;
mod upload;

pub use artifact::Artifact;
pub use loader::{Brought, Loader};

use crate::book::Offer;
use crate::connection::{KeyFile, Rpc};
use crate::progress::Progress;
use crate::{keys, page, print};
use anyhow::{Result, ensure};
use clap::Args;
use solana_address::Address;
use solana_client::nonblocking::rpc_client::RpcClient;
use solana_keypair::Keypair;
use solana_signer::Signer;
use std::path::PathBuf;
use std::sync::Arc;
use tallybook_chain::PROGRAM_ID;

/// Arguments of `tallybook deploy`.
#[derive(Args, Debug)]
pub struct Deploy {
    #[command(flatten)]
    rpc: Rpc,
    /// Pays, and is the program's upgrade authority.
    #[command(flatten)]
    authority: KeyFile,
    /// The built program [default: the released one, for local chains].
    #[arg(long, requires = "program_keypair")]
    artifact: Option<PathBuf>,
    /// Key file of the program's address [default: the public one, for local chains].
    #[arg(long)]
    program_keypair: Option<PathBuf>,
    /// What to bid for compute, in micro-lamports a unit.
    #[arg(long, default_value_t = 0)]
    compute_price: u64,
    /// Also make the payee's book for this token, and its first page.
    #[arg(long)]
    mint: Option<Address>,
    /// Key file of the payee [default: the same as --keypair].
    #[arg(long, requires = "mint")]
    payee: Option<PathBuf>,
    #[command(flatten)]
    offer: Offer,
    #[command(flatten)]
    capacity: page::Capacity,
}

impl Deploy {
    /// Does it, and says what was done and what to do next.
    pub async fn run(self) -> Result<()> {
        let rpc = Arc::new(self.rpc.client());
        let authority = self.authority.read()?;
        let artifact = self.artifact()?;
        let payee = self.payee.as_deref().map(keys::read).transpose()?;

        self.bring_program(&rpc, &authority, &artifact).await?;
        let Some(mint) = &self.mint else {
            return print(format_args!(
                "next        tallybook deploy … --mint <TOKEN> --payee <KEY FILE>, for a payee's book"
            ));
        };
        self.bring_book(&rpc, payee.as_ref().unwrap_or(&authority), mint).await
    }

    /// What to deploy, and the key of where.
    fn artifact(&self) -> Result<Artifact> {
        let mut artifact = Artifact::released()?;
        if let Some(elf) = &self.artifact {
            artifact = Artifact::built(elf)?;
        }
        if let Some(key) = &self.program_keypair {
            artifact.program = keys::read(key)?;
        }
        let program = artifact.program.pubkey();
        ensure!(
            program == PROGRAM_ID,
            "the key is {program}'s, but this command was built for the program {PROGRAM_ID}: put your address into \
             declare_id! and Anchor.toml (`anchor keys sync`) and into PROGRAM_ID in protocol/chain/src/address.rs, \
             and build both again"
        );
        ensure!(
            self.rpc.is_local() || !artifact.is_for_local_chains()?,
            "everybody knows the key of {program}: it is for local chains. Delete target/deploy, run `anchor keys sync`, \
             put the new address into PROGRAM_ID in protocol/chain/src/address.rs, build, and name your files with \
             --artifact and --program-keypair"
        );
        Ok(artifact)
    }

    async fn bring_program(&self, rpc: &Arc<RpcClient>, authority: &Keypair, artifact: &Artifact) -> Result<()> {
        let loader = Loader { rpc: Arc::clone(rpc), authority, compute_price: self.compute_price };
        let bar = Progress::Shown.bytes("writing the program");
        let brought = loader
            .bring(artifact, |written, of| {
                bar.set_length(u64::try_from(of).unwrap_or(u64::MAX));
                bar.set_position(u64::try_from(written).unwrap_or(u64::MAX));
            })
            .await;
        bar.finish_and_clear();
        let brought = brought?;
        print(format_args!("program     {PROGRAM_ID}  {brought}, {} bytes", artifact.elf.len()))?;
        match loader.upgrade_authority(&PROGRAM_ID).await? {
            Some(authority) => print(format_args!("upgrades    {authority}  may change all rules: say so, or drop it")),
            None => print(format_args!("upgrades    none: the program is final")),
        }
    }

    async fn bring_book(&self, rpc: &RpcClient, payee: &Keypair, mint: &Address) -> Result<()> {
        let (book, made) = self.offer.bring(rpc, payee, mint).await?;
        print(format_args!("book        {}  {}", book.address, done(made)))?;
        let first = book.state.next_page == 0;
        let page = if first {
            page::add(rpc, payee, &book, self.capacity).await?.address
        } else {
            tallybook_chain::address::page(&PROGRAM_ID, &book.address, 0).0
        };
        print(format_args!("page        {page}  {}", done(first)))?;
        print(format_args!("next        put books = [\"{}\"] into facilitator.toml, and run:", book.address))?;
        print(format_args!("            tallybook-facilitator --config facilitator.toml --check"))
    }
}

const fn done(made: bool) -> &'static str {
    if made { "made" } else { "there already, the same" }
}
