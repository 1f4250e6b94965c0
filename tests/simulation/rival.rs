//! Somebody else with vouchers in hand: the payee's own settler, beside the facilitator's.

use crate::endpoint::Endpoint;
use crate::ground::{Ground, key};
use crate::truth::Truth;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::time::Duration;
use tallybook_ledger::{Attempt, Batch, ClaimRow};
use tallybook_rules::signing::VerifiedVoucher;
use tallybook_rules::{Amount, Rejection, Status};
use tallybook_settler::{Commitment, Journal, Pace, Settings, Settler};

/// Notes that nobody reads: a claim may be made twice.
struct NoNotes;

impl Journal for NoNotes {
    async fn record(&self, _: Attempt) -> Result<(), Rejection> {
        Ok(())
    }

    async fn table(&self, _: &[u8; 32]) -> Result<Option<[u8; 32]>, Rejection> {
        Ok(None)
    }

    async fn keep_table(&self, _: &[u8; 32], _: &[u8; 32]) -> Result<(), Rejection> {
        Ok(())
    }
}

/// Settles now and then what the resource server has kept.
pub(crate) async fn compete(ground: &'static Ground, endpoint: Endpoint, truth: Truth, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let pace = Pace { patience: Duration::from_secs(10), ..Pace::default() };
    let settings = Settings { make_tables: false, pace, ..Settings::default() };
    let settler = Settler::new(endpoint, key("rival"), settings);
    loop {
        tokio::time::sleep(Duration::from_millis(random.random_range(3_000..40_000))).await;
        let Ok((_, page)) = settler.read_page(&ground.page, 0, Commitment::Confirmed).await else { continue };
        let rows = (0u8..).zip(&page.slots).filter(|(_, slot)| slot.status() != Ok(Status::Free));
        let rows = rows.filter_map(|(at, slot)| {
            let (voucher, charged) = truth.known(&page.channel_id(at)?)?.newest?;
            let voucher: VerifiedVoucher = voucher.verify(&slot.signer).ok()?;
            let amount = Amount::new(charged);
            Some(ClaimRow { slot: at, voucher, amount, settled: slot.settled, deposit: slot.deposit })
        });
        if let Ok(batch) = Batch::new(ground.page.to_bytes(), rows.collect()) {
            drop(settler.settle(&ground.book, &batch, &NoNotes).await);
        }
    }
}
