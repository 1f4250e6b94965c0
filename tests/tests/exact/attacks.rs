//! What is tried at the sponsor's and the payee's expense, with the chain's own word: nothing is paid, and no fee.

use crate::house::House;
use anyhow::Result;
use serde_json::json;
use solana_hash::Hash;
use solana_instruction::{AccountMeta, Instruction};
use solana_keypair::Keypair;
use solana_signature::Signature;
use solana_signer::Signer;
use spl::{freeze, thaw};
use tallybook_chain::address::{TOKEN_PROGRAM, associated_token_account};
use tallybook_rules::Amount;
use tallybook_tests::exact::Buyer;

/// Instructions of the token program that nobody here needs otherwise.
mod spl {
    use super::{AccountMeta, Instruction, TOKEN_PROGRAM};
    use solana_address::Address;

    fn of_account(number: u8, accounts: &[(Address, bool, bool)]) -> Instruction {
        let meta = |(pubkey, is_signer, is_writable): &(Address, bool, bool)| AccountMeta {
            pubkey: *pubkey,
            is_signer: *is_signer,
            is_writable: *is_writable,
        };
        Instruction { program_id: TOKEN_PROGRAM, accounts: accounts.iter().map(meta).collect(), data: vec![number] }
    }

    pub(crate) fn close(account: Address, to: Address, owner: Address) -> Instruction {
        of_account(9, &[(account, false, true), (to, false, true), (owner, true, false)])
    }

    pub(crate) fn freeze(account: Address, mint: Address, authority: Address) -> Instruction {
        of_account(10, &[(account, false, true), (mint, false, false), (authority, true, false)])
    }

    pub(crate) fn thaw(account: Address, mint: Address, authority: Address) -> Instruction {
        of_account(11, &[(account, false, true), (mint, false, false), (authority, true, false)])
    }
}

const SIMULATION_FAILED: &str = "invalid_exact_svm_transaction_simulation_failed";

#[tokio::test(flavor = "multi_thread")]
async fn given_a_payment_that_the_chain_would_refuse_when_asked_then_it_is_refused_and_costs_no_fee() -> Result<()> {
    let house = House::open().await?;
    let ground = &house.ground;
    let before = house.sponsor_lamports().await?;
    // More than there is.
    let buyer = Buyer::arrive(ground, 999).await?;
    let purchase = house.purchase(1_000);
    let request = purchase.request(&buyer.sign(ground, &purchase).await?)?;
    assert_eq!(house.refused(&request).await?, SIMULATION_FAILED);
    // Another cluster's blockhash, and one that never was.
    let purchase = house.purchase(500);
    for hash in [Hash::new_from_array([7; 32]), Hash::default()] {
        let request = purchase.request(&buyer.sign_on(&purchase, hash)?)?;
        assert_eq!(house.refused(&request).await?, SIMULATION_FAILED);
    }
    // A payee without a token account: nobody makes one at the sponsor's expense.
    let mut purchase = house.purchase(500);
    purchase.pay_to = Keypair::new().pubkey();
    let request = purchase.request(&buyer.sign(ground, &purchase).await?)?;
    assert_eq!(house.refused(&request).await?, SIMULATION_FAILED);
    // A buyer whose account was closed.
    let gone = Buyer::arrive(ground, 0).await?;
    let account = ground.mint.account_of(&gone.wallet.pubkey());
    let close = spl::close(account, ground.chain.faucet().pubkey(), gone.wallet.pubkey());
    ground.chain.send(&[close], &[&gone.wallet]).await?;
    let purchase = house.purchase(1);
    let request = purchase.request(&gone.sign(ground, &purchase).await?)?;
    assert_eq!(house.refused(&request).await?, SIMULATION_FAILED);
    assert_eq!((house.paid().await?, house.sponsor_lamports().await?), (0, before));
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn given_a_frozen_account_when_it_pays_or_is_paid_then_nothing_moves_until_it_is_thawed() -> Result<()> {
    let house = House::open().await?;
    let ground = &house.ground;
    let token = crate::tokens::Token::make(ground, TOKEN_PROGRAM, &[], &[]).await?;
    let buyer = Buyer { wallet: Keypair::new() };
    token.give(ground, &buyer.wallet.pubkey(), 10_000).await?;
    token.give(ground, &ground.payee, 0).await?;
    let mut house = house.with_mint(&token.mint).await?;
    for owner in [buyer.wallet.pubkey(), house.ground.payee] {
        let ground = &house.ground;
        let (account, faucet) =
            (associated_token_account(&owner, &token.mint, &TOKEN_PROGRAM), ground.chain.faucet().pubkey());
        ground.chain.send(&[freeze(account, token.mint, faucet)], &[]).await?;
        let mut purchase = house.purchase(100);
        purchase.mint = token.mint;
        let request = purchase.request(&buyer.sign(&house.ground, &purchase).await?)?;
        assert_eq!(house.refused(&request).await?, SIMULATION_FAILED);
        house.ground.chain.send(&[thaw(account, token.mint, faucet)], &[]).await?;
    }
    let mut purchase = house.purchase(100);
    purchase.mint = token.mint;
    house.settle(&purchase.request(&buyer.sign(&house.ground, &purchase).await?)?).await?;
    house = house.restart().await?;
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn given_tricks_with_signatures_when_asked_then_the_sponsor_never_signs() -> Result<()> {
    let house = House::open().await?;
    let ground = &house.ground;
    let (buyer, before) = (Buyer::arrive(ground, 10_000).await?, house.sponsor_lamports().await?);
    let purchase = house.purchase(1_000);
    let good = buyer.sign(ground, &purchase).await?;
    let mut unsigned = good.clone();
    unsigned.signatures[1] = Signature::default();
    assert_eq!(house.refused(&purchase.request(&unsigned)?).await?, "invalid_exact_svm_payload_signature_invalid");
    let mut flipped = good.clone();
    let mut bytes: [u8; 64] = flipped.signatures[1].into();
    bytes[0] ^= 1;
    flipped.signatures[1] = Signature::from(bytes);
    assert_eq!(house.refused(&purchase.request(&flipped)?).await?, "invalid_exact_svm_payload_signature_invalid");
    // A buyer that pays its own fee needs no sponsor.
    let mut own = purchase.clone();
    own.fee_payer = buyer.wallet.pubkey();
    let request = own.request(&buyer.sign_on(&purchase, ground.chain.rpc().get_latest_blockhash().await?)?)?;
    assert_eq!(house.refused(&request).await?, "invalid_exact_svm_fee_payer_not_managed_by_facilitator");
    assert_eq!((house.paid().await?, house.sponsor_lamports().await?), (0, before));
    // None of this keeps the good one from being paid.
    house.settle(&purchase.request(&good)?).await?;
    assert_eq!(house.paid().await?, 1_000);
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn given_a_payee_or_a_mint_that_is_not_served_when_asked_then_nobody_is_sponsored() -> Result<()> {
    let house = House::open_with(|config| {
        let exact = config.exact.as_mut().unwrap();
        (exact.any_pay_to, exact.v1) = (false, false);
        exact.pay_to = vec![tallybook_wire::Key([9; 32])];
    })
    .await?;
    let supported = house.get("supported").await?;
    assert!(!supported["kinds"].as_array().unwrap().iter().any(|kind| kind["x402Version"] == 1));
    let buyer = Buyer::arrive(&house.ground, 10_000).await?;
    let purchase = house.purchase(1_000);
    let transaction = buyer.sign(&house.ground, &purchase).await?;
    assert_eq!(house.refused(&purchase.request(&transaction)?).await?, "invalid_exact_svm_not_sponsored");
    assert_eq!(house.refused(&purchase.request_v1(&transaction)?).await?, "invalid_x402_version");
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn given_an_allowance_that_is_used_up_or_a_pause_when_asked_then_nothing_is_sponsored_until_it_is_over()
-> Result<()> {
    let house = House::open_with(|config| {
        config.limits.sponsored_lamports_per_day = 60_000;
        config.admin_token = Some(tallybook_facilitator::Token::new("a token of administrators"));
    })
    .await?;
    let ground = &house.ground;
    let buyer = Buyer::arrive(ground, 10_000).await?;
    let administer = async |what: &str| {
        let request = house.http.post(format!("{}/admin/{what}", house.url()));
        request.bearer_auth("a token of administrators").send().await?.error_for_status()
    };
    let purchase = house.purchase(1_000);
    let request = purchase.request(&buyer.sign(ground, &purchase).await?)?;
    administer("pause").await?;
    for path in ["verify", "settle"] {
        let (status, answer) = house.post(path, &request).await?;
        assert_eq!((status, &answer["error"]), (503, &json!("draining")));
    }
    administer("resume").await?;
    house.settle(&request).await?;
    // Each may cost 25,000 at most, and what it really cost is known a moment later: one more, or two, and then none.
    let mut last = String::new();
    for _ in 0..8 {
        let purchase = house.purchase(1_000);
        let request = purchase.request(&buyer.sign(ground, &purchase).await?)?;
        let (_, settled) = house.post("settle", &request).await?;
        if settled["success"] == false {
            last = house.refused(&request).await?;
            break;
        }
    }
    assert_eq!(last, "invalid_exact_svm_sponsor_allowance_exceeded");
    let used = ground.mint.held_by(&ground.chain, &ground.payee).await?;
    assert!(used < Amount::new(8_000) && used >= Amount::new(2_000), "{used}");
    house.close().await
}
