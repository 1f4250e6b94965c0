//! Writing a program to the chain: a buffer account, and one transaction for each piece.

use super::loader::Loader;
use super::standing::LOADER;
use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};
use solana_address::Address;
use solana_client::rpc_config::RpcSendTransactionConfig;
use solana_commitment_config::CommitmentConfig;
use solana_hash::Hash;
use solana_loader_v3_interface::instruction::{create_buffer, write};
use solana_loader_v3_interface::state::UpgradeableLoaderState;
use solana_message::Message;
use solana_signer::Signer;
use solana_system_interface::instruction::{allocate_with_seed, transfer};
use solana_transaction::Transaction;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// Program bytes of one write: what is left of 1,232 bytes, with a compute limit and a price in it.
const CHUNK_BYTES: usize = 950;
/// Writes under way at once.
const PARALLEL: usize = 16;
/// A round lasts until its blockhash has expired: about a minute on a public cluster.
const ROUNDS: usize = 10;
const FIRST_POLL: Duration = Duration::from_millis(20);
const LAST_POLL: Duration = Duration::from_secs(2);
const WRITE_UNITS: u32 = 10_000;

/// A buffer that holds, or is to hold, one program.
///
/// Its address follows from the authority and the program, so that an upload that was broken off goes on where it was,
/// and no buffer with rent in it is ever forgotten. Only the authority can make an account there.
pub(super) struct Upload<'a> {
    loader: &'a Loader<'a>,
    elf: &'a [u8],
    seed: String,
    buffer: Address,
}

impl<'a> Upload<'a> {
    pub(super) fn new(loader: &'a Loader<'a>, elf: &'a [u8]) -> Result<Self> {
        let hash = Sha256::digest(elf);
        // 32 characters are the most that a seed can have.
        let seed: String = hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        let buffer = Address::create_with_seed(&loader.authority.pubkey(), &seed, &LOADER)?;
        Ok(Self { loader, elf, seed, buffer })
    }

    /// How many transactions the whole upload takes.
    pub(super) fn writes(&self) -> Result<u64> {
        Ok(u64::try_from(self.elf.len().div_ceil(CHUNK_BYTES))?)
    }

    /// Lamports that an upload that was broken off has put into the buffer.
    pub(super) async fn paid(&self) -> Result<u64> {
        Ok(self.loader.rpc.get_balance(&self.buffer).await?)
    }

    /// Writes until the buffer on chain is the program, whatever became of single transactions. Calls `progress` with
    /// (bytes on chain, bytes in all). Returns the buffer's address.
    pub(super) async fn run(&self, progress: impl Fn(usize, usize)) -> Result<Address> {
        self.create().await.context("the program's buffer")?;
        let mut last_failure = None;
        for _ in 0..ROUNDS {
            let missing = self.missing().await?;
            progress(self.written(&missing), self.elf.len());
            if missing.is_empty() {
                return Ok(self.buffer);
            }
            let blockhash = self.loader.rpc.get_latest_blockhash().await?;
            last_failure = self.write(&missing, blockhash).await?.or(last_failure);
            self.watch(blockhash, &progress).await?;
        }
        let failure = last_failure.map(|failure| format!(" (the last failure: {failure:#})")).unwrap_or_default();
        bail!(
            "the program could not be written to the chain in {ROUNDS} rounds{failure}: run this again, which goes on \
             where it was, perhaps with a higher --compute-price or another --rpc"
        )
    }

    /// Makes the buffer unless it is there.
    async fn create(&self) -> Result<()> {
        let (rpc, authority) = (&self.loader.rpc, self.loader.authority.pubkey());
        let bytes = UpgradeableLoaderState::size_of_buffer(self.elf.len());
        let there = rpc.get_account_with_commitment(&self.buffer, rpc.commitment()).await?.value;
        if there.as_ref().is_some_and(|account| account.owner == LOADER) {
            return Ok(());
        }
        // Not `create_account`: a stranger may have sent lamports to the address.
        let rent = rpc.get_minimum_balance_for_rent_exemption(bytes).await?;
        let missing = rent.saturating_sub(there.map_or(0, |account| account.lamports));
        let allocate = allocate_with_seed(&self.buffer, &authority, &self.seed, u64::try_from(bytes)?, &LOADER);
        let initialize = create_buffer(&authority, &self.buffer, &authority, rent, self.elf.len())?.pop();
        let initialize = initialize.context("the loader initializes no buffer")?;
        self.loader.send(vec![transfer(&authority, &self.buffer, missing), allocate, initialize], &[]).await
    }

    /// The pieces, by their offset, that the buffer on chain does not hold yet.
    async fn missing(&self) -> Result<Vec<(usize, &'a [u8])>> {
        let account = self.loader.rpc.get_account_data(&self.buffer).await?;
        let written = account.get(UpgradeableLoaderState::size_of_buffer_metadata()..).unwrap_or_default();
        ensure!(written.len() == self.elf.len(), "the buffer {} is not for this program", self.buffer);
        let pieces = self.elf.chunks(CHUNK_BYTES).zip(written.chunks(CHUNK_BYTES)).enumerate();
        Ok(pieces
            .filter(|(_, (wanted, written))| wanted != written)
            .map(|(at, (wanted, _))| (at.saturating_mul(CHUNK_BYTES), wanted))
            .collect())
    }

    /// Bytes on chain, when `missing` are not.
    fn written(&self, missing: &[(usize, &[u8])]) -> usize {
        let missing = missing.iter().map(|(_, piece)| piece.len()).sum();
        self.elf.len().saturating_sub(missing)
    }

    /// Sends the writes, a few at a time, and waits for the node to have taken them, not for their outcome. Returns the
    /// last failure to send, if any: what did not arrive is sent again.
    async fn write(&self, pieces: &[(usize, &[u8])], blockhash: Hash) -> Result<Option<anyhow::Error>> {
        let authority = self.loader.authority;
        let config = RpcSendTransactionConfig { skip_preflight: true, ..RpcSendTransactionConfig::default() };
        let mut under_way = JoinSet::new();
        let mut failure = None;
        for (offset, piece) in pieces {
            if under_way.len() >= PARALLEL {
                failure = under_way.join_next().await.transpose()?.and_then(Result::err).or(failure);
            }
            let write = write(&self.buffer, &authority.pubkey(), u32::try_from(*offset)?, piece.to_vec());
            let priced = self.loader.priced(WRITE_UNITS, vec![write]);
            let message = Message::new_with_blockhash(&priced, Some(&authority.pubkey()), &blockhash);
            let transaction = Transaction::new(&[authority], message, blockhash);
            let rpc = Arc::clone(&self.loader.rpc);
            under_way.spawn(async move { rpc.send_transaction_with_config(&transaction, config).await });
        }
        while let Some(sent) = under_way.join_next().await {
            failure = sent?.err().or(failure);
        }
        Ok(failure.map(anyhow::Error::from))
    }

    /// Waits until all is written, or no write can land any more.
    async fn watch(&self, blockhash: Hash, progress: impl Fn(usize, usize)) -> Result<()> {
        let mut poll = FIRST_POLL;
        loop {
            // Asked first: what is missing after the blockhash has expired stays missing.
            let expired = !self.loader.rpc.is_blockhash_valid(&blockhash, CommitmentConfig::confirmed()).await?;
            let missing = self.missing().await?;
            progress(self.written(&missing), self.elf.len());
            if missing.is_empty() || expired {
                return Ok(());
            }
            tokio::time::sleep(poll).await;
            poll = poll.saturating_mul(2).min(LAST_POLL);
        }
    }
}
