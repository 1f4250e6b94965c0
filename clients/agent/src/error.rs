use crate::breach::Breach;
use std::path::PathBuf;
use tallybook_rpc::ChainError;
use tallybook_rules::Amount;
use tallybook_wire::{Key, Reason, Signature};

/// Why a call was not paid, or not answered. Every message says what happened, why, and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AgentError {
    /// The request cannot be sent a second time.
    #[error("the request's body is a stream, which cannot be sent again with a payment: pass the body as bytes")]
    NotRepeatable,
    /// The request names no host.
    #[error("{0} has no host to pay: pass an absolute http or https URL")]
    NoHost(url::Url),
    /// No answer arrived, and nothing was signed for this call.
    #[error("the server did not answer, and nothing was paid: {0}; try again")]
    Http(#[from] reqwest::Error),
    /// No answer arrived after a voucher had been sent.
    #[error(
        "no answer arrived after {attempts} attempts; the server may charge at most {at_risk} base units for it, \
         which the next call on this channel finds out: try again"
    )]
    AnswerLost {
        /// How often the request was sent.
        attempts: u32,
        /// The price of the call.
        at_risk: Amount,
    },
    /// A deposit or refund was sent, and whether it has landed is not known.
    #[error(
        "the transaction {transaction} was sent for this, and after {attempts} attempts its outcome is not known: try again, \
         which asks for it and pays nothing twice"
    )]
    Pending {
        /// How often the server was asked.
        attempts: u32,
        /// The transaction.
        transaction: Signature,
    },
    /// The call was charged, and its answer cannot be had any more.
    #[error(
        "the call was charged {charged} base units but its answer was lost on the way and is no longer kept: the same \
         call again is paid again"
    )]
    ChargedWithoutAnswer {
        /// The price of the call.
        charged: Amount,
    },
    /// The 402 offers nothing that this agent can pay.
    #[error("the server asks for payment, but not by {scheme} on {network} in {mint}: pay it by other means", scheme = tallybook_wire::SCHEME)]
    NoOffer {
        /// The policy's cluster.
        network: String,
        /// The policy's mint.
        mint: Key,
    },
    /// A 402 that cannot be read.
    #[error("the server's 402 cannot be read ({0}): report it to whoever runs the server")]
    Unreadable(tallybook_rules::Rejection),
    /// The policy forbids it.
    #[error("not paid, because the policy forbids it: {0}")]
    Policy(#[from] Breach),
    /// The offer and the chain do not say the same.
    #[error("not paid, because the offer is not what the chain says: {0}; do not trust this server")]
    Terms(&'static str),
    /// The endpoint is of another cluster than the policy's.
    #[error("the RPC endpoint is of the cluster {found}, the policy of {pinned}: use an endpoint of that cluster")]
    WrongCluster {
        /// The policy's genesis hash.
        pinned: Key,
        /// The endpoint's.
        found: Key,
    },
    /// The wallet holds less than the deposit.
    #[error("the wallet holds {held} base units, a deposit takes {deposit}: fund the token account {account}")]
    WalletShort {
        /// What it holds.
        held: Amount,
        /// What would be deposited.
        deposit: Amount,
        /// The wallet's token account.
        account: Key,
    },
    /// The wallet has too few lamports to pay the network's fee.
    #[error(
        "the wallet {wallet} holds {held} lamports, too few for the network's fee: send it some, or let another key pay \
         (Agent::exit_transaction)"
    )]
    NoLamports {
        /// What it holds.
        held: u64,
        /// The wallet.
        wallet: Key,
    },
    /// The grace period of a closing channel has not ended.
    #[error("channel {channel} can be withdrawn from {closing_at} on (Unix seconds): until then the payee may claim")]
    GraceNotOver {
        /// The channel.
        channel: Key,
        /// From when on.
        closing_at: i64,
    },
    /// All slots of the page are taken.
    #[error("no slot is free for a new channel at this payee: try later")]
    NoFreeSlot,
    /// The server refuses the payment.
    #[error("the server refused the payment: {0}")]
    Refused(Reason),
    /// The server is busy or down, and says so.
    #[error(
        "the server did not take the payment after {attempts} attempts ({status}{}): try later",
        reason.as_ref().map(|reason| format!(", {reason}")).unwrap_or_default()
    )]
    Unavailable {
        /// How often it was asked.
        attempts: u32,
        /// Its last answer.
        status: http::StatusCode,
        /// Why, if it said so.
        reason: Option<Reason>,
    },
    /// The server claims what was never signed.
    #[error(
        "the server claims {claimed} base units on channel {channel}, but at most {possible} can be due: the channel \
         was given up; force its close to get the rest back"
    )]
    Dishonest {
        /// The channel.
        channel: Key,
        /// What it claims.
        claimed: Amount,
        /// The most that can be due.
        possible: Amount,
    },
    /// A URL that asks no money names no book.
    #[error("{0} does not ask to be paid, so it names no book to look through: pass a URL that costs something")]
    NothingToRecover(url::Url),
    /// No such channel in the journal.
    #[error("there is no channel {0} in this agent's journal: see channels()")]
    NoSuchChannel(Key),
    /// The channel is not in the state that this asks for.
    #[error("channel {channel}: {why}")]
    NotNow {
        /// The channel.
        channel: Key,
        /// What is missing.
        why: &'static str,
    },
    /// The chain could not be asked, or refused a transaction.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// Another process uses the directory.
    #[error("another process pays from {0}: give each agent a state directory of its own")]
    Locked(PathBuf),
    /// The journal cannot be read or written.
    #[error("the agent's journal at {path} cannot be used, so nothing is signed: {source}")]
    Journal {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The budget's file cannot be read or written.
    #[error("the budget at {path} cannot be used, so nothing is signed: {source}")]
    Budget {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// An amount left its range.
    #[error("an amount left its range, nothing was signed: {0}")]
    Amount(tallybook_rules::Rejection),
}
