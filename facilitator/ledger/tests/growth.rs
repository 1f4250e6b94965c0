//! How planning grows with the number of channels: counted in looks and comparisons, never in time.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test says what it expects"
)]

mod town;

use std::collections::BTreeSet;
use tallybook_ledger::{Bundle, Policy};
use tallybook_rules::Amount;
use town::Town;

/// Channels of a page.
const CHANNELS: u8 = 32;
/// What waits in a page.
const AMOUNT: u64 = 32 * 33 / 2;

fn town(pages: u32) -> Town {
    let mut town = Town::new();
    for page in 0..pages {
        let mut address = [0; 32];
        // Spread, as addresses are.
        address[..4].copy_from_slice(&page.wrapping_mul(0x9e37_79b1).to_be_bytes());
        town.page(address, [1; 32], CHANNELS);
    }
    town
}

/// Nothing is due by what waits in one of these pages.
fn policy() -> Policy {
    Policy { due_amount: Amount::new(AMOUNT + 1), due_rows: 33, due_age_seconds: 100, ..Policy::default() }
}

/// Looks and comparisons of one plan, and how many rows it has.
fn plan(town: &mut Town, now: i64, policy: &Policy) -> (u64, usize) {
    let before = town.ledger.looks();
    let bundles = town.ledger.plan(now, policy);
    (town.ledger.looks() - before, bundles.iter().map(Bundle::rows).sum())
}

#[test]
fn given_more_and_more_channels_when_nothing_is_due_then_none_is_looked_at_and_what_is_due_takes_the_same_work() {
    let mut work = Vec::new();
    for pages in [8, 32, 128] {
        let mut town = town(pages);
        assert_eq!(plan(&mut town, 1_099, &policy()), (0, 0), "{pages} pages");
        // Given four pages with a little more in them.
        let all: BTreeSet<[u8; 32]> = town.ledger.channels().map(|channel| channel.place().page).collect();
        for page in all.iter().take(4) {
            town.pay(page, 0, 2);
        }
        let (looks, rows) = plan(&mut town, 1_099, &policy());
        assert_eq!(rows, 4 * usize::from(CHANNELS));
        work.push(looks);
        town.ledger.check().unwrap();
    }
    assert_eq!(work, [work[0]; 3], "the same for 256, 1,024 and 4,096 channels");
}

#[test]
fn given_more_and_more_channels_when_all_are_due_then_the_work_grows_no_faster_than_n_log_n() {
    let mut last: Option<f64> = None;
    for pages in [4, 16, 64, 256] {
        let mut town = town(pages);
        let channels = pages * u32::from(CHANNELS);
        let (looks, rows) = plan(&mut town, 1_100, &policy());
        assert_eq!(rows, usize::try_from(channels).unwrap());
        let ratio = f64::from(u32::try_from(looks).unwrap()) / (f64::from(channels) * f64::from(channels).log2());
        assert!(last.is_none_or(|last| ratio <= last * 1.01), "{channels} channels: {ratio} after {last:?}");
        last = Some(ratio);
    }
}

#[test]
fn given_a_page_whose_oldest_claim_is_on_its_way_when_planned_again_and_again_then_it_is_looked_at_once_until_it_is_due()
 {
    // Given a page in which channel 0 waits since 1,000 and channel 1 since 1,050.
    let mut town = Town::new();
    town.open([4; 32], [1; 32], 2);
    let first = town.pay(&[4; 32], 0, 1);
    town.now += 50;
    town.pay(&[4; 32], 1, 1);
    // When the first is on its way.
    town.ledger.sent([first]);
    // Then the page is looked at once for its sake, and again only when the second is due.
    assert_eq!(plan(&mut town, 1_099, &policy()), (0, 0));
    assert_eq!(plan(&mut town, 1_100, &policy()), (3, 0), "a page and its two seats");
    assert_eq!(plan(&mut town, 1_149, &policy()), (0, 0));
    assert_eq!(plan(&mut town, 1_150, &policy()).1, 1);
    town.ledger.check().unwrap();
}
