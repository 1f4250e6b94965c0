//! Deploying a program as everybody does: a buffer, many writes, and the loader's deploy instruction, which verifies
//! the program before it is executable.

use super::{Artifact, DevChain};
use anyhow::{Context, Result, bail, ensure};
use solana_address::Address;
use solana_client::rpc_config::RpcSendTransactionConfig;
use solana_keypair::Keypair;
use solana_loader_v3_interface::instruction::{create_buffer, deploy_with_max_program_len, write};
use solana_loader_v3_interface::state::UpgradeableLoaderState;
use solana_message::Message;
use solana_signer::Signer;
use solana_transaction::Transaction;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Program bytes of one write: what is left of 1,232 bytes, with room.
const CHUNK_BYTES: usize = 1_000;
/// Writes under way at once.
const PARALLEL: usize = 16;
const ROUND: Duration = Duration::from_secs(3);
const ROUNDS: usize = 5;
const POLL: Duration = Duration::from_millis(20);

/// Deploys `artifact` with the faucet as its upgrade authority. Calls `progress` with (bytes on chain, bytes in all).
pub async fn deploy(chain: &DevChain, artifact: &Artifact, progress: impl Fn(usize, usize)) -> Result<()> {
    let buffer = Keypair::new();
    let authority = chain.faucet().pubkey();
    let length = artifact.elf.len();
    let rent = rent(chain, UpgradeableLoaderState::size_of_buffer(length)).await?;
    let create = create_buffer(&authority, &buffer.pubkey(), &authority, rent, length)?;
    chain.send(&create, &[&buffer]).await.context("the program's buffer")?;
    fill(chain, &buffer, &artifact.elf, progress).await?;

    let rent = self::rent(chain, UpgradeableLoaderState::size_of_program()).await?;
    let program = artifact.program.pubkey();
    // Deploying from the buffer verifies the program; a refusal comes with the loader's reason.
    let deploy = deploy_with_max_program_len(&authority, &program, &buffer.pubkey(), &authority, rent, length, true)?;
    chain.send(&deploy, &[&artifact.program]).await.context("deploying the program")?;
    executable(chain, &program).await
}

async fn rent(chain: &DevChain, bytes: usize) -> Result<u64> {
    Ok(chain.rpc().get_minimum_balance_for_rent_exemption(bytes).await?)
}

/// Writes until the buffer on chain is the program, whatever became of single transactions.
async fn fill(chain: &DevChain, buffer: &Keypair, elf: &[u8], progress: impl Fn(usize, usize)) -> Result<()> {
    for _ in 0..ROUNDS {
        let missing = missing(chain, buffer, elf).await?;
        write_all(chain, buffer, &missing).await?;
        let deadline = Instant::now().checked_add(ROUND).context("a time out of range")?;
        loop {
            let left = self::missing(chain, buffer, elf).await?;
            let written = elf.len().saturating_sub(left.iter().map(|(_, chunk)| chunk.len()).sum());
            progress(written, elf.len());
            if left.is_empty() {
                return Ok(());
            }
            if Instant::now() >= deadline {
                break;
            }
            tokio::time::sleep(POLL).await;
        }
    }
    bail!("the program could not be written to the chain in {ROUNDS} rounds");
}

/// The chunks, by their offset, that the buffer on chain does not hold yet.
async fn missing<'a>(chain: &DevChain, buffer: &Keypair, elf: &'a [u8]) -> Result<Vec<(usize, &'a [u8])>> {
    let account = chain.rpc().get_account_data(&buffer.pubkey()).await?;
    let written = account.get(UpgradeableLoaderState::size_of_buffer_metadata()..).unwrap_or_default();
    ensure!(written.len() == elf.len(), "the buffer is smaller than the program");
    let chunks = elf.chunks(CHUNK_BYTES).zip(written.chunks(CHUNK_BYTES)).enumerate();
    Ok(chunks
        .filter(|(_, (wanted, written))| wanted != written)
        .map(|(at, (wanted, _))| (at.saturating_mul(CHUNK_BYTES), wanted))
        .collect())
}

/// Sends the writes, a few at a time, and waits for the node to have taken them, not for their outcome.
async fn write_all(chain: &DevChain, buffer: &Keypair, chunks: &[(usize, &[u8])]) -> Result<()> {
    let authority = chain.faucet();
    let blockhash = chain.rpc().get_latest_blockhash().await?;
    let config = RpcSendTransactionConfig { skip_preflight: true, ..RpcSendTransactionConfig::default() };
    let mut under_way = JoinSet::new();
    for (offset, chunk) in chunks {
        if under_way.len() >= PARALLEL {
            under_way.join_next().await.transpose()?.transpose()?;
        }
        let write = write(&buffer.pubkey(), &authority.pubkey(), u32::try_from(*offset)?, chunk.to_vec());
        let message = Message::new_with_blockhash(&[write], Some(&authority.pubkey()), &blockhash);
        let transaction = Transaction::new(&[authority], message, blockhash);
        let rpc = Arc::clone(chain.rpc());
        under_way.spawn(async move { rpc.send_transaction_with_config(&transaction, config).await });
    }
    while let Some(sent) = under_way.join_next().await {
        sent??;
    }
    Ok(())
}

/// Waits for the block after the deployment: a program runs from the next one on.
async fn executable(chain: &DevChain, program: &Address) -> Result<()> {
    let deployed = chain.rpc().get_slot().await?;
    let account = chain.rpc().get_account(program).await?;
    ensure!(account.executable, "the program was deployed, yet is not executable");
    let deadline = Instant::now().checked_add(ROUND).context("a time out of range")?;
    while chain.rpc().get_slot().await? <= deployed {
        ensure!(Instant::now() < deadline, "the local chain makes no blocks");
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}
