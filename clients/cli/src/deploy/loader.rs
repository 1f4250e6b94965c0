//! Deploying and upgrading as everybody does: a buffer, many writes, and the loader's instruction, which verifies the
//! program before it can run.

use super::Artifact;
use super::standing::{Deployed, Standing};
use super::upload::Upload;
use crate::sending;
use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;
use solana_address::Address;
use solana_client::nonblocking::rpc_client::RpcClient;
use solana_instruction::Instruction;
use solana_keypair::Keypair;
use solana_loader_v3_interface::instruction::{
    MINIMUM_EXTEND_PROGRAM_BYTES, deploy_with_max_program_len, extend_program, upgrade,
};
use solana_loader_v3_interface::state::UpgradeableLoaderState;
use solana_signer::Signer;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tallybook_chain::transaction::{compute_unit_limit, compute_unit_price};
use tallybook_rules::Amount;
use tokio::time::Instant;

/// Compute units of everything but a write.
const UNITS: u32 = 50_000;
/// Lamports of a signature.
const FEE_LAMPORTS: u64 = 5_000;
/// Transactions beside the writes, generously.
const OTHER_TRANSACTIONS: u64 = 20;
const SOL_DECIMALS: u8 = 9;
const NEXT_BLOCK: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);

/// Brings programs to a chain.
pub struct Loader<'a> {
    /// The chain.
    pub rpc: Arc<RpcClient>,
    /// Who pays, and is the upgrade authority.
    pub authority: &'a Keypair,
    /// The price of compute, in micro-lamports a unit; 0 says nothing of compute.
    pub compute_price: u64,
}

/// What was done to the program.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Brought {
    /// It was not there, and was deployed.
    Deployed,
    /// Another build was there, and was replaced.
    Upgraded,
    /// It was there already, byte for byte.
    Same,
}

impl fmt::Display for Brought {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Deployed => "deployed",
            Self::Upgraded => "upgraded",
            Self::Same => "there already, the same",
        })
    }
}

impl Loader<'_> {
    /// Makes the program on chain be the artifact: deploys, upgrades, or finds that nothing is to be done. May be run
    /// again at any time, also after it was broken off. Calls `progress` with (bytes on chain, bytes in all).
    pub async fn bring(&self, artifact: &Artifact, progress: impl Fn(usize, usize)) -> Result<Brought> {
        let program = artifact.program.pubkey();
        match Standing::of(&self.rpc, &program).await? {
            Standing::Nothing => {
                self.deploy(artifact, progress).await?;
                Ok(Brought::Deployed)
            }
            Standing::Deployed(there) if there.is(&artifact.elf) => Ok(Brought::Same),
            Standing::Deployed(there) => {
                self.may_upgrade(&program, &there)?;
                self.upgrade(&program, &there, &artifact.elf, progress).await?;
                Ok(Brought::Upgraded)
            }
        }
    }

    /// Who may upgrade the program at `program`.
    pub async fn upgrade_authority(&self, program: &Address) -> Result<Option<Address>> {
        match Standing::of(&self.rpc, program).await? {
            Standing::Nothing => bail!("there is no program at {program}"),
            Standing::Deployed(there) => Ok(there.authority),
        }
    }

    async fn deploy(&self, artifact: &Artifact, progress: impl Fn(usize, usize)) -> Result<()> {
        let (authority, program) = (self.authority.pubkey(), artifact.program.pubkey());
        let length = artifact.elf.len();
        let rent = self.rent(UpgradeableLoaderState::size_of_program()).await?;
        // The buffer's rent becomes the code's, which has a few bytes more.
        let code = self.rent(UpgradeableLoaderState::size_of_programdata(length)).await?;
        let upload = Upload::new(self, &artifact.elf)?;
        self.can_pay(rent.saturating_add(code), &upload).await?;
        let buffer = upload.run(progress).await?;
        let deploy = deploy_with_max_program_len(&authority, &program, &buffer, &authority, rent, length, true)?;
        self.send(deploy, &[&artifact.program]).await.context("deploying the program")?;
        self.next_block().await
    }

    async fn upgrade(
        &self,
        program: &Address,
        there: &Deployed,
        elf: &[u8],
        progress: impl Fn(usize, usize),
    ) -> Result<()> {
        let authority = self.authority.pubkey();
        let more = elf.len().saturating_sub(there.code.len());
        let buffer = self.rent(UpgradeableLoaderState::size_of_buffer(elf.len())).await?;
        let code = self.rent(UpgradeableLoaderState::size_of_programdata(more)).await?;
        let upload = Upload::new(self, elf)?;
        self.can_pay(buffer.saturating_add(code), &upload).await?;
        let buffer = upload.run(progress).await?;
        if more > 0 {
            let more = u32::try_from(more)?.max(MINIMUM_EXTEND_PROGRAM_BYTES);
            let extend = extend_program(program, Some(&authority), more);
            self.send(vec![extend], &[]).await.context("making room for a larger program")?;
            // A program can be changed once in a block.
            self.next_block().await?;
        }
        let upgrade = upgrade(program, &buffer, &authority, &authority, true);
        self.send(vec![upgrade], &[]).await.context("upgrading the program")?;
        self.next_block().await
    }

    fn may_upgrade(&self, program: &Address, there: &Deployed) -> Result<()> {
        match there.authority {
            Some(authority) if authority == self.authority.pubkey() => Ok(()),
            Some(authority) => bail!(
                "another build of the program {program} is deployed, and {authority} may upgrade it: run this with its \
                 key as --keypair, or let whoever holds it upgrade"
            ),
            None => bail!(
                "another build of the program {program} is deployed, and it is final: nobody can upgrade it. Use it as \
                 it is, or deploy yours at another address (`anchor keys sync`, and build again)"
            ),
        }
    }

    /// Fails early, while nothing has been spent.
    async fn can_pay(&self, rent: u64, upload: &Upload<'_>) -> Result<()> {
        let payer = self.authority.pubkey();
        let held = self.rpc.get_balance(&payer).await?.saturating_add(upload.paid().await?);
        let transactions = upload.writes()?.saturating_add(OTHER_TRANSACTIONS);
        let needed = rent.saturating_add(transactions.saturating_mul(FEE_LAMPORTS));
        let missing = Amount::new(needed.saturating_sub(held));
        ensure!(
            missing.is_zero(),
            "this takes up to {} SOL, mostly rent, and {payer} is short of {}: send it that and run this again",
            Amount::new(needed).decimal(SOL_DECIMALS),
            missing.decimal(SOL_DECIMALS)
        );
        Ok(())
    }

    async fn rent(&self, bytes: usize) -> Result<u64> {
        Ok(self.rpc.get_minimum_balance_for_rent_exemption(bytes).await?)
    }

    /// Sends a transaction of the authority's and waits until it is confirmed.
    pub(super) async fn send(&self, instructions: Vec<Instruction>, signers: &[&Keypair]) -> Result<()> {
        sending::send(&self.rpc, &self.priced(UNITS, instructions), self.authority, signers).await?;
        Ok(())
    }

    /// The instructions with a bid for compute before them, if there is a price.
    pub(super) fn priced(&self, units: u32, instructions: Vec<Instruction>) -> Vec<Instruction> {
        let bid = [compute_unit_limit(units), compute_unit_price(self.compute_price)];
        bid.into_iter().filter(|_| self.compute_price > 0).chain(instructions).collect()
    }

    /// Waits for the block after this one: what was deployed runs from there on.
    async fn next_block(&self) -> Result<()> {
        let now = self.rpc.get_slot().await?;
        let deadline = Instant::now().checked_add(NEXT_BLOCK).context("a time out of range")?;
        while self.rpc.get_slot().await? <= now {
            ensure!(Instant::now() < deadline, "the chain makes no blocks: run this again when it does");
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }
}
