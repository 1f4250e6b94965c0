use crate::chain::{
    Account, Blockhash, Chain, ChainError, Commitment, Failure, Height, Landing, Simulation, Snapshot, Spent, Statuses,
};
use crate::line::rpc_client;
use crate::pace::jittered;
use solana_address::Address;
use solana_client::nonblocking::rpc_client::RpcClient;
use solana_rpc_client_api::client_error::{Error, ErrorKind, TransactionError};
use solana_rpc_client_api::config::{
    CommitmentConfig, CommitmentLevel, RpcAccountInfoConfig, RpcSendTransactionConfig, RpcSimulateTransactionConfig,
    RpcTransactionConfig, UiAccountEncoding, UiTransactionEncoding,
};
use solana_rpc_client_api::request::RpcError;
use solana_rpc_client_api::response::{UiAccount, UiAccountData};
use solana_signature::Signature;
use solana_transaction::versioned::VersionedTransaction;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

/// How often a read is tried; a send is tried once, since its caller asks for the outcome and sends again itself.
const READS: u32 = 4;
/// The pause before the second try; doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// A node behind a JSON-RPC endpoint.
#[derive(Clone)]
pub struct RpcChain {
    client: Arc<RpcClient>,
    timeout: Duration,
}

impl RpcChain {
    /// Asks the node at `url`; an answer that takes longer than `timeout` is none.
    pub fn new(url: &str, timeout: Duration) -> Self {
        let client = rpc_client(url, timeout, CommitmentConfig::finalized());
        Self { client: Arc::new(client), timeout }
    }

    /// One try. The limit is around the whole of it, pauses for a node that is asked too often included.
    async fn once<T>(&self, answer: impl Future<Output = Result<T, Error>>) -> Result<T, ChainError> {
        match tokio::time::timeout(self.timeout, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(ChainError(error.to_string())),
            Err(_) => Err(ChainError(format!("no answer within {:?}", self.timeout))),
        }
    }

    /// Asks for something that may be asked again, with growing, jittered pauses.
    async fn read<T, A: Future<Output = Result<T, Error>>>(&self, ask: impl Fn() -> A) -> Result<T, ChainError> {
        let mut pause = FIRST_PAUSE;
        for _ in 1..READS {
            match self.once(ask()).await {
                Ok(answer) => return Ok(answer),
                Err(error) => tracing::debug!(%error, "asking again"),
            }
            tokio::time::sleep(jittered(pause)).await;
            pause = pause.saturating_mul(2);
        }
        self.once(ask()).await
    }
}

impl Chain for RpcChain {
    async fn accounts(&self, addresses: &[Address], commitment: Commitment) -> Result<Snapshot, ChainError> {
        let config = RpcAccountInfoConfig {
            encoding: Some(UiAccountEncoding::Base64),
            commitment: Some(level(commitment)),
            ..RpcAccountInfoConfig::default()
        };
        let answer = self.read(|| self.client.get_multiple_ui_accounts_with_config(addresses, config.clone())).await?;
        if answer.value.len() != addresses.len() {
            return Err(ChainError("another number of accounts than was asked for".into()));
        }
        let accounts = answer.value.into_iter().map(|account| match account {
            None => Ok(None),
            // In the encoding that was asked for: a packed one could unpack to any size.
            Some(UiAccount {
                data: data @ UiAccountData::Binary(_, UiAccountEncoding::Base64),
                owner,
                lamports,
                ..
            }) => match (data.decode(), owner.parse()) {
                (Some(data), Ok(owner)) => Ok(Some(Account { lamports, owner, data })),
                _ => Err(ChainError("an account that does not decode".into())),
            },
            Some(_) => Err(ChainError("an account in another encoding than was asked for".into())),
        });
        Ok(Snapshot { slot: answer.context.slot, accounts: accounts.collect::<Result<_, _>>()? })
    }

    async fn latest_blockhash(&self) -> Result<Blockhash, ChainError> {
        let (hash, last_valid_height) =
            self.read(|| self.client.get_latest_blockhash_with_commitment(CommitmentConfig::confirmed())).await?;
        Ok(Blockhash { hash, last_valid_height })
    }

    async fn height(&self) -> Result<Height, ChainError> {
        // One answer for slot and height, so that the two belong together.
        let info = self.read(|| self.client.get_epoch_info_with_commitment(CommitmentConfig::finalized())).await?;
        Ok(Height { slot: info.absolute_slot, block: info.block_height })
    }

    async fn simulate(&self, transaction: &VersionedTransaction) -> Result<Simulation, ChainError> {
        let config = RpcSimulateTransactionConfig {
            encoding: Some(UiTransactionEncoding::Base64),
            commitment: Some(CommitmentConfig::confirmed()),
            ..RpcSimulateTransactionConfig::default()
        };
        let answer = self.read(|| self.client.simulate_transaction_with_config(transaction, config.clone())).await?;
        Ok(Simulation {
            failure: answer.value.err.map(|error| Failure(error.into())),
            compute_units: answer.value.units_consumed.unwrap_or_default(),
        })
    }

    async fn send(&self, transaction: &VersionedTransaction) -> Result<(), ChainError> {
        // It was simulated before; and a preflight would refuse the resend of what has landed.
        let config = RpcSendTransactionConfig {
            skip_preflight: true,
            encoding: Some(UiTransactionEncoding::Base64),
            max_retries: Some(0),
            ..RpcSendTransactionConfig::default()
        };
        let sent = self.client.send_transaction_with_config(transaction, config);
        match tokio::time::timeout(self.timeout, sent).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) if says_landed(&error) => Ok(()),
            Ok(Err(error)) => Err(ChainError(error.to_string())),
            Err(_) => Err(ChainError(format!("no answer within {:?}", self.timeout))),
        }
    }

    async fn statuses(&self, signatures: &[Signature], history: bool) -> Result<Statuses, ChainError> {
        let answer = self
            .read(async || {
                if history {
                    self.client.get_signature_statuses_with_history(signatures).await
                } else {
                    self.client.get_signature_statuses(signatures).await
                }
            })
            .await?;
        if answer.value.len() != signatures.len() {
            return Err(ChainError("another number of statuses than was asked for".into()));
        }
        let landings = answer.value.into_iter().map(|status| {
            status.map(|status| Landing {
                slot: status.slot,
                commitment: if status.satisfies_commitment(CommitmentConfig::finalized()) {
                    Commitment::Finalized
                } else if status.satisfies_commitment(CommitmentConfig::confirmed()) {
                    Commitment::Confirmed
                } else {
                    Commitment::Processed
                },
                failure: status.err.map(Failure),
            })
        });
        Ok(Statuses { slot: answer.context.slot, landings: landings.collect() })
    }

    async fn spent(&self, signature: &Signature) -> Result<Option<Spent>, ChainError> {
        let config = RpcTransactionConfig {
            encoding: Some(UiTransactionEncoding::Base64),
            commitment: Some(CommitmentConfig::confirmed()),
            max_supported_transaction_version: Some(1),
        };
        // A node answers null for what it does not have, which the client below reports as an error: one try.
        let found = self.once(self.client.get_transaction_with_config(signature, config)).await;
        let Some(meta) = found.ok().and_then(|found| found.transaction.meta) else {
            return Ok(None);
        };
        let balance = |balances: &[u64]| balances.first().copied();
        let lamports = balance(&meta.pre_balances).zip(balance(&meta.post_balances));
        Ok(lamports.map(|(before, after)| Spent {
            lamports: before.saturating_sub(after),
            compute_units: Option::from(meta.compute_units_consumed).unwrap_or_default(),
        }))
    }

    async fn recent_prices(&self, written: &[Address]) -> Result<Vec<u64>, ChainError> {
        // One try: a price that is not known is no reason to wait.
        let answer = self.once(self.client.get_recent_prioritization_fees(written)).await?;
        Ok(answer.into_iter().map(|block| block.prioritization_fee).collect())
    }

    async fn genesis_hash(&self) -> Result<[u8; 32], ChainError> {
        Ok(self.read(|| self.client.get_genesis_hash()).await?.to_bytes())
    }
}

/// A node that answers a resend with "already been processed" says that the transaction has landed.
fn says_landed(error: &Error) -> bool {
    error.get_transaction_error() == Some(TransactionError::AlreadyProcessed)
        || matches!(
            error.kind(),
            ErrorKind::RpcError(RpcError::RpcResponseError { message, .. }) if message.contains("already been processed")
        )
}

const fn level(commitment: Commitment) -> CommitmentConfig {
    CommitmentConfig {
        commitment: match commitment {
            Commitment::Processed => CommitmentLevel::Processed,
            Commitment::Confirmed => CommitmentLevel::Confirmed,
            Commitment::Finalized => CommitmentLevel::Finalized,
        },
    }
}
