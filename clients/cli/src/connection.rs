//! Which chain, and whose key: what every command on the chain needs.

use crate::{keys, sending};
use anyhow::{Context, Result, ensure};
use clap::Args;
use solana_account::Account;
use solana_address::Address;
use solana_client::nonblocking::rpc_client::RpcClient;
use solana_commitment_config::CommitmentConfig;
use solana_instruction::Instruction;
use solana_keypair::Keypair;
use solana_signature::Signature;
use std::fmt;
use std::time::Duration;
use tallybook_chain::address::{TOKEN_2022_PROGRAM, TOKEN_PROGRAM};
use tallybook_chain::{BookView, PROGRAM_ID, PageView};
use tallybook_keys::Source;
use tallybook_settler::rpc_client;
use url::{Host, Url};

/// Where a mint account keeps its decimals, with SPL Token and Token-2022 alike.
const DECIMALS_OFFSET: usize = 44;

/// The chain does not answer: nothing was done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NoAnswer;

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "the chain does not answer: name another endpoint with --rpc, or start a local one with `tallybook dev`",
        )
    }
}

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Where a local chain answers.
pub const LOCAL_RPC: &str = "http://127.0.0.1:8899";

/// The options that name a chain.
#[derive(Args, Clone, Debug)]
pub struct Rpc {
    /// JSON-RPC endpoint of the cluster.
    #[arg(long, env = "TALLYBOOK_RPC", hide_env_values = true, default_value = LOCAL_RPC, value_name = "URL")]
    pub rpc: String,
}

/// The option that names a key.
#[derive(Args, Clone, Debug)]
pub struct KeyFile {
    /// Key that signs and pays fees: a key file (chmod 600), env:NAME, or command:PROGRAM
    /// [default: ~/.config/solana/id.json].
    #[arg(long, env = "TALLYBOOK_KEYPAIR", hide_env_values = true, value_name = "KEY")]
    pub keypair: Option<Source>,
}

impl KeyFile {
    /// The key.
    pub fn read(&self) -> Result<Keypair> {
        Ok(self.keypair.clone().unwrap_or_else(|| keys::usual_path().into()).keypair()?)
    }
}

impl Rpc {
    /// A client at commitment `confirmed`.
    pub fn client(&self) -> RpcClient {
        rpc_client(&self.rpc, TIMEOUT, CommitmentConfig::confirmed())
    }

    /// Whether it is on this machine.
    pub fn is_local(&self) -> bool {
        let url = self.rpc.parse::<Url>().ok();
        match url.as_ref().and_then(Url::host) {
            Some(Host::Domain(name)) => name == "localhost",
            Some(Host::Ipv4(ip)) => ip.is_loopback(),
            Some(Host::Ipv6(ip)) => ip.is_loopback(),
            None => false,
        }
    }
}

/// Sends instructions of ours, signed and paid by `key`.
pub async fn send(rpc: &RpcClient, instructions: &[Instruction], key: &Keypair) -> Result<Signature> {
    sending::send(rpc, instructions, key, &[]).await
}

/// The book at `address`.
pub async fn book(rpc: &RpcClient, address: &Address) -> Result<BookView> {
    let data = owned_by_program(rpc, address).await?.with_context(|| {
        format!("there is no book at {address}: is --rpc the right cluster? `tallybook book init` prints its address")
    })?;
    BookView::parse(*address, &data)
        .ok()
        .with_context(|| format!("{address} is an account of the program, but no book: name a book's address"))
}

/// The pages of a book, by their index. An index whose page was closed is left out: it is never used again.
pub async fn pages(rpc: &RpcClient, book: &BookView) -> Result<Vec<PageView>> {
    let mut pages = Vec::new();
    for index in 0..book.state.next_page {
        let (address, _) = tallybook_chain::address::page(&PROGRAM_ID, &book.address, index);
        if let Some(account) = account(rpc, &address).await?.filter(|account| account.owner == PROGRAM_ID) {
            pages.push(PageView::parse(address, &account.data).with_context(|| format!("{address} is no page"))?);
        }
    }
    Ok(pages)
}

/// The page at `address`; none where there is no account (any more).
pub async fn page_at(rpc: &RpcClient, address: &Address) -> Result<Option<PageView>> {
    let data = owned_by_program(rpc, address).await?;
    data.map(|data| PageView::parse(*address, &data).with_context(|| format!("{address} is no page"))).transpose()
}

/// One page of a book.
pub async fn page(rpc: &RpcClient, book: &BookView, index: u32) -> Result<PageView> {
    let (address, _) = tallybook_chain::address::page(&PROGRAM_ID, &book.address, index);
    let data = owned_by_program(rpc, &address).await?;
    let data = data.with_context(|| format!("the book {} has no page {index} (any more)", book.address))?;
    PageView::parse(address, &data).with_context(|| format!("{address} is no page"))
}

/// Any account; none where there is none.
pub async fn account(rpc: &RpcClient, address: &Address) -> Result<Option<Account>> {
    // Asking for a single one would turn every failure into "account not found".
    let accounts = rpc.get_multiple_accounts_with_commitment(&[*address], rpc.commitment()).await.context(NoAnswer)?;
    Ok(accounts.value.into_iter().next().flatten())
}

/// The data of an account of the program; none where there is no account.
async fn owned_by_program(rpc: &RpcClient, address: &Address) -> Result<Option<Vec<u8>>> {
    let Some(account) = account(rpc, address).await? else { return Ok(None) };
    ensure!(account.owner == PROGRAM_ID, "{address} belongs to another program than {PROGRAM_ID}");
    Ok(Some(account.data))
}

/// The token program and the decimals of a mint.
pub async fn mint(rpc: &RpcClient, address: &Address) -> Result<(Address, u8)> {
    let account = account(rpc, address).await?;
    let account = account.with_context(|| {
        format!("there is no mint at {address}: is --rpc the right cluster, --mint the right token?")
    })?;
    ensure!(
        account.owner == TOKEN_PROGRAM || account.owner == TOKEN_2022_PROGRAM,
        "{address} is no mint of SPL Token or Token-2022"
    );
    let decimals = account.data.get(DECIMALS_OFFSET).with_context(|| format!("{address} is no mint"))?;
    Ok((account.owner, *decimals))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loopback_chain_is_local_and_no_other() {
        let is_local = |url: &str| Rpc { rpc: url.to_owned() }.is_local();
        for url in ["http://127.0.0.1:8899", "http://localhost:1", "http://[::1]:8899"] {
            assert!(is_local(url), "{url}");
        }
        for url in ["https://api.devnet.solana.com", "http://127.0.0.1.example.com", "nonsense"] {
            assert!(!is_local(url), "{url}");
        }
    }
}
