//! A paywall's file of vouchers, as a crash, a full disk or an editor may have left it: what can be read of it is kept, and
//! the next voucher is not lost behind what cannot.

#[path = "../../clients/paywall/src/vouchers.rs"]
#[allow(dead_code, unused_imports)]
mod vouchers;

use serde_json::from_slice;
use std::collections::BTreeMap;
use tallybook_rules::Amount;
use tallybook_wire::{ForwardedVoucher, Key, Signature, Voucher};
use vouchers::Vouchers;

/// The bytes are the file.
pub(crate) fn voucher_file(data: &[u8]) {
    let folder = tempfile::tempdir().expect("a folder for the file");
    let path = folder.path().join("vouchers.jsonl");
    std::fs::write(&path, data).expect("the file is written");
    let expected = by_hand(data);
    let kept = Vouchers::open(&path).expect("whatever is in it, the file opens");
    assert_eq!(numbers(&kept), expected, "the largest of each");

    let next = ForwardedVoucher {
        voucher: Voucher {
            channel_id: Key([9; 32]),
            max_claimable_amount: Amount::new(u64::MAX),
            signature: Signature([7; 64]),
        },
        charged: Amount::new(u64::MAX),
    };
    kept.keep(next).expect("the disk is there");
    drop(kept);
    let again = Vouchers::open(&path).expect("it opens again");
    assert_eq!(again.of(&next.voucher.channel_id).map(|held| held.charged), Some(next.charged));
    let mut expected = expected;
    expected.insert([9; 32], (u64::MAX, u64::MAX));
    assert_eq!(numbers(&again), expected, "nothing is lost, nothing falls");
}

/// What was signed and what was charged, of each channel.
fn numbers(vouchers: &Vouchers) -> BTreeMap<[u8; 32], (u64, u64)> {
    let newest = vouchers.newest().into_iter();
    newest
        .map(|held| (held.voucher.channel_id.0, (held.voucher.max_claimable_amount.get(), held.charged.get())))
        .collect()
}

/// The same, line by line.
pub(crate) fn by_hand(data: &[u8]) -> BTreeMap<[u8; 32], (u64, u64)> {
    let mut newest = BTreeMap::new();
    for line in data.split(|byte| *byte == b'\n').filter(|line| line.len() < 4_096) {
        let bare = |voucher: Voucher| (voucher, voucher.max_claimable_amount);
        let metered = from_slice(line).map(|held: ForwardedVoucher| (held.voucher, held.charged));
        let Ok((voucher, charged)) = metered.or_else(|_| from_slice(line).map(bare)) else { continue };
        let (most, cost) = newest.entry(voucher.channel_id.0).or_insert((0, 0));
        *most = voucher.max_claimable_amount.get().max(*most);
        *cost = charged.get().max(*cost);
    }
    newest
}
