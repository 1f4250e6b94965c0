//! What is paid is paid once, whole, and at the sponsor's expense.

use crate::house::House;
use anyhow::Result;
use serde_json::json;
use solana_signature::Signature;
use solana_signer::Signer;
use std::time::Duration;
use tallybook_tests::exact::Buyer;

#[tokio::test(flavor = "multi_thread")]
async fn given_a_client_without_sol_when_it_pays_in_either_version_then_the_payee_has_exactly_the_price() -> Result<()>
{
    let house = House::open().await?;
    let supported = house.get("supported").await?;
    let kinds: Vec<_> =
        supported["kinds"].as_array().unwrap().iter().filter(|kind| kind["scheme"] == "exact").collect();
    let fee_payer = json!({ "feePayer": house.ground.sponsor.to_string() });
    let networks = [(2, "solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1"), (1, "solana-devnet")];
    for (kind, (version, network)) in kinds.iter().zip(networks) {
        assert_eq!(kind["x402Version"], version);
        assert_eq!((&kind["network"], &kind["extra"]), (&json!(network), &fee_payer));
    }
    assert_eq!((kinds.len(), &supported["signers"]["solana:*"][0]), (2, &fee_payer["feePayer"]));

    let buyer = Buyer::arrive(&house.ground, 10_000).await?;
    let before = house.sponsor_lamports().await?;
    for (paid, v1) in [(1_000, false), (2_000, true)] {
        let purchase = house.purchase(1_000);
        let transaction = buyer.sign(&house.ground, &purchase).await?;
        let request = if v1 { purchase.request_v1(&transaction)? } else { purchase.request(&transaction)? };
        for _ in 0..2 {
            let (status, verified) = house.post("verify", &request).await?;
            let payer = json!(buyer.wallet.pubkey().to_string());
            assert_eq!((status, verified), (200, json!({ "isValid": true, "payer": payer })), "and nothing is changed");
        }
        let (status, settled) = house.post("settle", &request).await?;
        assert_eq!((status, &settled["success"], &settled["amount"]), (200, &json!(true), &json!("1000")), "{settled}");
        assert_eq!(settled["network"], request["paymentRequirements"]["network"]);
        assert_eq!(settled["payer"], json!(buyer.wallet.pubkey().to_string()));
        assert!(settled["transaction"].as_str().unwrap().parse::<Signature>().is_ok());
        assert_eq!((house.paid().await?, buyer.holds(&house.ground).await?), (paid, 10_000 - paid));
        // The same again is neither paid nor granted a second time.
        assert_eq!(house.refused(&request).await?, "duplicate_settlement");
        assert_eq!(house.paid().await?, paid);
    }
    assert_eq!(
        before - house.sponsor_lamports().await?,
        2 * (2 * 5_000 + 1),
        "two signatures each, and the price of compute"
    );
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn given_one_payment_when_it_is_settled_many_times_at_once_then_it_is_granted_once() -> Result<()> {
    let house = House::open().await?;
    let buyer = Buyer::arrive(&house.ground, 10_000).await?;
    let purchase = house.purchase(1_000);
    let transaction = buyer.sign(&house.ground, &purchase).await?;
    // The place of the sponsor's signature is filled differently in each: the message is the same.
    let requests = (0u8..8).map(|number| {
        let mut mutated = transaction.clone();
        mutated.signatures[0] = Signature::from([number; 64]);
        purchase.request(&mutated)
    });
    let requests: Vec<_> = requests.collect::<Result<_>>()?;
    let answers =
        futures_util::future::try_join_all(requests.iter().map(|request| house.post("settle", request))).await?;
    let granted = answers.iter().filter(|(_, answer)| answer["success"] == true).count();
    let duplicates = answers.iter().filter(|(_, answer)| answer["errorReason"] == "duplicate_settlement").count();
    assert_eq!((granted, duplicates), (1, 7), "{answers:?}");
    assert_eq!((house.paid().await?, buyer.holds(&house.ground).await?), (1_000, 9_000));
    // Two that differ in their memo alone are two.
    let (first, second) = (house.purchase(500), house.purchase(500));
    let (first, second) = (
        first.request(&buyer.sign(&house.ground, &first).await?)?,
        second.request(&buyer.sign(&house.ground, &second).await?)?,
    );
    futures_util::future::try_join(house.settle(&first), house.settle(&second)).await?;
    assert_eq!(house.paid().await?, 2_000);
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn given_a_payment_that_was_granted_when_the_facilitator_starts_again_then_it_is_not_granted_anew() -> Result<()>
{
    let house = House::open().await?;
    let buyer = Buyer::arrive(&house.ground, 10_000).await?;
    let purchase = house.purchase(1_000);
    let request = purchase.request(&buyer.sign(&house.ground, &purchase).await?)?;
    house.settle(&request).await?;
    let house = house.restart().await?;
    assert_eq!(house.refused(&request).await?, "duplicate_settlement");
    assert_eq!(house.paid().await?, 1_000);
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn given_an_old_payment_when_its_blockhash_is_long_gone_then_it_is_forgotten_and_still_not_granted() -> Result<()>
{
    let house = House::open_at(Duration::from_millis(10), |config| config.chain.poll_milliseconds = 50).await?;
    let buyer = Buyer::arrive(&house.ground, 10_000).await?;
    let purchase = house.purchase(1_000);
    let request = purchase.request(&buyer.sign(&house.ground, &purchase).await?)?;
    house.settle(&request).await?;
    let verified = async || -> Result<String> {
        let (_, verified) = house.post("verify", &request).await?;
        Ok(verified["invalidReason"].as_str().unwrap_or_default().to_owned())
    };
    // 450 blocks, and a look every second and a half.
    let until = tokio::time::Instant::now() + Duration::from_secs(60);
    let mut reason = verified().await?;
    while reason == "duplicate_settlement" && tokio::time::Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(500)).await;
        reason = verified().await?;
    }
    assert_eq!(reason, "invalid_exact_svm_transaction_simulation_failed", "its blockhash has expired");
    // The chain remembers it, and nothing is sent that it would have to refuse.
    assert_eq!(house.unsettled(&request).await?, "duplicate_settlement");
    assert_eq!(house.paid().await?, 1_000);
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn given_a_settlement_with_a_name_when_it_is_asked_for_again_then_only_the_same_name_is_told_the_same()
-> Result<()> {
    let house = House::open().await?;
    let buyer = Buyer::arrive(&house.ground, 10_000).await?;
    let purchase = house.purchase(1_000);
    let mut request = purchase.request(&buyer.sign(&house.ground, &purchase).await?)?;
    request["settlementId"] = json!("the first server's");
    let transaction = house.settle(&request).await?;
    assert_eq!(house.settle(&request).await?, transaction, "its answer was lost");
    let house = house.restart().await?;
    assert_eq!(house.settle(&request).await?, transaction);
    for other in [json!("another server's"), json!(null)] {
        request["settlementId"] = other;
        assert_eq!(house.unsettled(&request).await?, "duplicate_settlement");
    }
    assert_eq!(house.paid().await?, 1_000);
    // Who gave no name cannot be told again, whatever it says later.
    let purchase = house.purchase(1_000);
    let mut unnamed = purchase.request(&buyer.sign(&house.ground, &purchase).await?)?;
    house.settle(&unnamed).await?;
    assert_eq!(house.unsettled(&unnamed).await?, "duplicate_settlement");
    unnamed["settlementId"] = json!("a name");
    assert_eq!(house.unsettled(&unnamed).await?, "duplicate_settlement");
    assert_eq!(house.paid().await?, 2_000);
    house.close().await
}
