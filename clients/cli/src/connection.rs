//! Which chain, and whose key: what every command on the chain needs.

use crate::{keys, sending};
use anyhow::{Context, Result, ensure};
use clap::Args;
use solana_address::Address;
use solana_client::nonblocking::rpc_client::RpcClient;
use solana_commitment_config::CommitmentConfig;
use solana_instruction::Instruction;
use solana_keypair::Keypair;
use solana_signature::Signature;
use std::path::PathBuf;
use tallybook_chain::address::{TOKEN_2022_PROGRAM, TOKEN_PROGRAM};
use tallybook_chain::{BookView, PROGRAM_ID, PageView};

/// Where a mint account keeps its decimals, with SPL Token and Token-2022 alike.
const DECIMALS_OFFSET: usize = 44;

/// Where a local chain answers.
pub const LOCAL_RPC: &str = "http://127.0.0.1:8899";

/// The options that name a chain.
#[derive(Args, Clone, Debug)]
pub struct Rpc {
    /// JSON-RPC endpoint of the cluster.
    #[arg(long, env = "TALLYBOOK_RPC", default_value = LOCAL_RPC)]
    pub rpc: String,
}

/// The option that names a key file.
#[derive(Args, Clone, Debug)]
pub struct KeyFile {
    /// Key file that signs and pays fees, a JSON array of 64 bytes [default: ~/.config/solana/id.json].
    #[arg(long, env = "TALLYBOOK_KEYPAIR")]
    pub keypair: Option<PathBuf>,
}

impl KeyFile {
    /// The key in the file.
    pub fn read(&self) -> Result<Keypair> {
        keys::read(&self.keypair.clone().unwrap_or_else(keys::usual_path))
    }
}

impl Rpc {
    /// A client at commitment `confirmed`.
    pub fn client(&self) -> RpcClient {
        RpcClient::new_with_commitment(self.rpc.clone(), CommitmentConfig::confirmed())
    }
}

/// Sends instructions of ours, signed and paid by `key`.
pub async fn send(rpc: &RpcClient, instructions: &[Instruction], key: &Keypair) -> Result<Signature> {
    sending::send(rpc, instructions, key, &[]).await
}

/// The book at `address`.
pub async fn book(rpc: &RpcClient, address: &Address) -> Result<BookView> {
    let data = owned_by_program(rpc, address).await.with_context(|| format!("no book at {address}"))?;
    BookView::parse(*address, &data).with_context(|| format!("{address} is no book"))
}

/// The pages of a book, by their index.
pub async fn pages(rpc: &RpcClient, book: &BookView) -> Result<Vec<PageView>> {
    let mut pages = Vec::new();
    for index in 0..book.state.next_page {
        let (address, _) = tallybook_chain::address::page(&PROGRAM_ID, &book.address, index);
        let data = owned_by_program(rpc, &address).await.with_context(|| format!("page {index}"))?;
        pages.push(PageView::parse(address, &data).with_context(|| format!("{address} is no page"))?);
    }
    Ok(pages)
}

async fn owned_by_program(rpc: &RpcClient, address: &Address) -> Result<Vec<u8>> {
    let account = rpc.get_account(address).await?;
    ensure!(account.owner == PROGRAM_ID, "{address} belongs to another program than {PROGRAM_ID}");
    Ok(account.data)
}

/// The token program and the decimals of a mint.
pub async fn mint(rpc: &RpcClient, address: &Address) -> Result<(Address, u8)> {
    let account = rpc.get_account(address).await.with_context(|| format!("no mint at {address}"))?;
    ensure!(
        account.owner == TOKEN_PROGRAM || account.owner == TOKEN_2022_PROGRAM,
        "{address} is no mint of SPL Token or Token-2022"
    );
    let decimals = account.data.get(DECIMALS_OFFSET).with_context(|| format!("{address} is no mint"))?;
    Ok((account.owner, *decimals))
}
