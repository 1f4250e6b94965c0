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
use crate::output::{Output, line};
use crate::{keys, page};
use anyhow::{Result, ensure};
use clap::Args;
use serde::Serialize;
use solana_address::Address;
use solana_client::nonblocking::rpc_client::RpcClient;
use solana_keypair::Keypair;
use solana_signer::Signer;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use tallybook_chain::PROGRAM_ID;
use tallybook_keys::Source;

/// Arguments of `tallybook deploy`.
#[derive(Args, Debug)]
#[command(after_help = "Examples: a local chain; and a cluster, with a build of your own and a payee's book\n  \
    tallybook deploy --keypair authority.json\n  \
    tallybook deploy --rpc $RPC --keypair authority.json --artifact target/deploy/tallybook.so \\\n      \
    --program-keypair target/deploy/tallybook-keypair.json --mint $MINT --payee payee.json")]
pub struct Deploy {
    #[command(flatten)]
    rpc: Rpc,
    /// Pays, and is the program's upgrade authority.
    #[command(flatten)]
    authority: KeyFile,
    /// The built program [default: the released one, for local chains].
    #[arg(long, requires = "program_keypair")]
    artifact: Option<PathBuf>,
    /// Key file of the program's address, which is worth nothing once the program is deployed [default: the public one,
    /// for local chains].
    #[arg(long)]
    program_keypair: Option<PathBuf>,
    /// What to bid for compute, in micro-lamports a unit.
    #[arg(long, default_value_t = 0)]
    compute_price: u64,
    /// Also make the payee's book for this token, and its first page.
    #[arg(long)]
    mint: Option<Address>,
    /// Key of the payee, as for --keypair [default: the same one].
    #[arg(long, value_name = "KEY", requires = "mint")]
    payee: Option<Source>,
    #[command(flatten)]
    offer: Offer,
    #[command(flatten)]
    capacity: page::Capacity,
}

/// What `tallybook deploy` prints.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeployReport {
    /// The program's address.
    pub program: String,
    /// What was done to it.
    pub outcome: Brought,
    /// The size of its code.
    pub bytes: usize,
    /// Who may upgrade it; nobody once it is final.
    pub upgrade_authority: Option<String>,
    /// The payee's book, where one was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub book: Option<Made>,
    /// The book's first page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub page: Option<Made>,
}

/// Something on chain, and whether it was made just now.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Made {
    /// Its address.
    pub address: String,
    /// False: it was there already, the same.
    pub made: bool,
}

impl Deploy {
    /// Does it, and says what was done and what to do next.
    pub async fn run(self, output: Output) -> Result<()> {
        let rpc = Arc::new(self.rpc.client());
        let authority = self.authority.read()?;
        let artifact = self.artifact()?;
        let payee = self.payee.as_ref().map(Source::keypair).transpose()?;

        let mut report = self.bring_program(&rpc, &authority, &artifact, output).await?;
        if let Some(mint) = &self.mint {
            let (book, page) = self.bring_book(&rpc, payee.as_ref().unwrap_or(&authority), mint).await?;
            (report.book, report.page) = (Some(book), Some(page));
        }
        output.report(&report)
    }

    /// What to deploy, and the key of where.
    fn artifact(&self) -> Result<Artifact> {
        let mut artifact = Artifact::released()?;
        if let Some(elf) = &self.artifact {
            artifact = Artifact::built(elf)?;
        }
        if let Some(key) = &self.program_keypair {
            artifact.program = keys::read_published(key)?;
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

    async fn bring_program(
        &self,
        rpc: &Arc<RpcClient>,
        authority: &Keypair,
        artifact: &Artifact,
        output: Output,
    ) -> Result<DeployReport> {
        let loader = Loader { rpc: Arc::clone(rpc), authority, compute_price: self.compute_price };
        let bar = output.progress().bytes("writing the program");
        let brought = loader
            .bring(artifact, |written, of| {
                bar.set_length(u64::try_from(of).unwrap_or(u64::MAX));
                bar.set_position(u64::try_from(written).unwrap_or(u64::MAX));
            })
            .await;
        bar.finish_and_clear();
        Ok(DeployReport {
            program: PROGRAM_ID.to_string(),
            outcome: brought?,
            bytes: artifact.elf.len(),
            upgrade_authority: loader.upgrade_authority(&PROGRAM_ID).await?.map(|authority| authority.to_string()),
            book: None,
            page: None,
        })
    }

    async fn bring_book(&self, rpc: &RpcClient, payee: &Keypair, mint: &Address) -> Result<(Made, Made)> {
        let (book, made) = self.offer.bring(rpc, payee, mint).await?;
        let first = book.state.next_page == 0;
        let page = if first {
            page::add(rpc, payee, &book, self.capacity).await?.address
        } else {
            tallybook_chain::address::page(&PROGRAM_ID, &book.address, 0).0
        };
        Ok((Made { address: book.address.to_string(), made }, Made { address: page.to_string(), made: first }))
    }
}

impl fmt::Display for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}  {}", self.address, if self.made { "made" } else { "there already, the same" })
    }
}

impl fmt::Display for DeployReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        line(f, "program", format_args!("{}  {}, {} bytes", self.program, self.outcome, self.bytes))?;
        match &self.upgrade_authority {
            Some(authority) => {
                line(f, "upgrades", format_args!("{authority}  may change all rules: say so, or drop it"))?
            }
            None => line(f, "upgrades", "none: the program is final")?,
        }
        let (Some(book), Some(page)) = (&self.book, &self.page) else {
            return line(f, "next", "tallybook deploy … --mint <TOKEN> --payee <KEY FILE>, for a payee's book");
        };
        line(f, "book", book)?;
        line(f, "page", page)?;
        line(f, "next", format_args!("put books = [\"{}\"] into facilitator.toml, and run:", book.address))?;
        line(f, "", "tallybook-facilitator --config facilitator.toml --check")
    }
}
