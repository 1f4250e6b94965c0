//! Unmodified third parties against Tallybook: x402 clients against our paywall, and x402 servers that charge through our
//! facilitator, over loopback on the real local chain.
//!
//! `tests/interop/run.sh` installs what is missing and runs this; plain `cargo test` does not, since it needs node and python.
//! Each third party is a process of its own ([`process`]); between every client and every server stands a [`proxy`] that can
//! cheat; balances are read from the chain ([`town`]). What ran is written down as a [`matrix`], and compared with the one that
//! is committed.
#![expect(clippy::indexing_slicing, clippy::print_stderr, reason = "a test says what it expects, and what it does")]

mod bazaar;
mod channel;
mod conformance;
mod exact;
mod matrix;
mod mcp;
mod parties;
mod process;
mod proxy;
mod town;

use anyhow::{Result, ensure};
use matrix::Matrix;
use town::Town;

/// Everything in one test, one cell after another: the balances of all are read from one chain, and nothing may move meanwhile.
/// `INTEROP_ONLY=exact` (or `channel`, `bazaar`, `mcp` or `conformance`) runs a part, for whoever works on it, and never passes.
#[tokio::test(flavor = "multi_thread")]
async fn given_third_parties_when_they_meet_ours_then_they_pay_and_are_paid_as_the_matrix_says() -> Result<()> {
    let only = std::env::var("INTEROP_ONLY").ok();
    let wanted = |part: &str| only.as_ref().is_none_or(|only| only == part);
    let town = Town::build().await?;
    let mut matrix = Matrix::default();
    if wanted("exact") {
        exact::fill(&town, &mut matrix).await?;
    }
    if wanted("channel") {
        channel::fill(&town, &mut matrix).await?;
    }
    if wanted("bazaar") {
        bazaar::fill(&town, &mut matrix).await?;
    }
    if wanted("mcp") {
        mcp::fill(&town, &mut matrix).await?;
    }
    if wanted("conformance") {
        conformance::fill(&town, &mut matrix).await?;
    }
    town.close().await?;
    ensure!(only.is_none(), "INTEROP_ONLY is set: the rest was not run\n{matrix:?}");
    matrix.finish()
}
