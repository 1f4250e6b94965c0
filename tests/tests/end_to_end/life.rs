//! The life of one channel, step by step, and what happens when two records of it disagree.

use crate::customer::{Customer, PRICE, stage, until};
use anyhow::Result;
use reqwest::StatusCode;
use solana_signer::Signer;
use tallybook_agent::Phase;
use tallybook_cli::demo::{offer, present};
use tallybook_rules::signing::{SignedVoucher, SigningKey};
use tallybook_rules::{Amount, Rejection, Status};
use tallybook_wire::{ChannelPayload, PAYMENT_SIGNATURE, PaymentPayload, header};

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_opens_pays_and_closes() -> Result<()> {
    let stage = stage().await?;
    let ground = &stage.ground;
    let deposit = Amount::new(10_000);
    let customer = Customer::arrive(&stage, deposit).await?;

    // When the first call is paid for
    let receipt = customer.buy(&stage).await?;
    // Then a channel is open on chain, funded from the wallet, at nobody's expense but the sponsor's
    let channel = customer.channel()?;
    let slot = *ground.page().await?.slot(channel.parts.slot)?;
    assert_eq!((slot.status()?, slot.deposit, slot.generation), (Status::Open, deposit, 1));
    assert_eq!(slot.payer, customer.wallet.pubkey().to_bytes());
    assert_eq!(customer.held(ground).await?, customer.funds.minus(deposit)?);
    assert_eq!(receipt.charged_amount, Some(PRICE));

    // When two more are
    customer.buy(&stage).await?;
    let receipt = customer.buy(&stage).await?;
    // Then the totals agree everywhere
    let charged = PRICE.times(3)?;
    assert_eq!(receipt.channel_state.map(|state| state.charged_cumulative_amount), Some(charged));
    assert_eq!(customer.channel()?.charged, charged);
    let seen = stage.channel(&channel.id).await?;
    assert_eq!((seen.signed, seen.charged, seen.deposit), (charged, charged, deposit));

    // And the facilitator settles them by itself: the payee is paid
    let paid = async || ground.mint.held_by(&ground.chain, &ground.payee).await;
    until("the payee is paid", async || Ok(Some(paid().await?).filter(|held| *held == charged))).await?;
    assert_eq!(ground.page().await?.slot(channel.parts.slot)?.settled, charged);

    // When the agent closes
    let closed = customer.agent.close(channel.id).await?;
    // Then what is unspent is back at once, and the slot is free for the next generation
    assert_eq!((closed.charged, closed.returned), (charged, deposit.minus(charged)?));
    assert_eq!(customer.held(ground).await?, customer.funds.minus(charged)?);
    let slot = *ground.page().await?.slot(channel.parts.slot)?;
    assert_eq!((slot.status()?, slot.generation), (Status::Free, 1));
    assert_eq!(customer.channel()?.phase, Phase::Ended);
    assert_eq!(ground.mint.held_by(&ground.chain, &ground.page).await?, Amount::ZERO);
    // And the facilitator says that it is over
    let url = format!("{}/channels/{}", stage.facilitator(), channel.id);
    until("the ledger sees the end", async || {
        let status = customer.client.get(&url).send().await?.status();
        Ok(Some(()).filter(|()| status == StatusCode::GONE))
    })
    .await?;
    stage.shut_down().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_lost_its_memory_takes_over_what_it_signed_and_no_more() -> Result<()> {
    // Given an agent whose folder was copied after its first call
    let stage = stage().await?;
    let customer = Customer::arrive(&stage, Amount::new(10_000)).await?;
    customer.buy(&stage).await?;
    let folder = stage.ground.agent_folder(&customer.wallet.pubkey());
    let copy = tempfile::tempdir()?;
    for file in std::fs::read_dir(&folder)? {
        let file = file?;
        if file.file_type()?.is_file() {
            std::fs::copy(file.path(), copy.path().join(file.file_name()))?;
        }
    }
    // When it pays two more calls, and then goes on from the copy
    customer.buy(&stage).await?;
    customer.buy(&stage).await?;
    let Customer { wallet, agent, .. } = customer;
    let policy = stage.ground.policy(&stage.shop.host(), PRICE, Amount::new(10_000));
    drop(agent);
    let rpc = stage.ground.chain.rpc_url().parse()?;
    let stale = tallybook_agent::Agent::builder(wallet.insecure_clone(), policy, rpc, copy.path()).build()?;
    let stale = Customer { agent: stale, wallet, funds: Amount::ZERO, client: reqwest::Client::new() };
    // Then a corrective answer shows it its own voucher, and it pays from there on the same channel
    let receipt = stale.buy(&stage).await?;
    assert_eq!(receipt.channel_state.map(|state| state.charged_cumulative_amount), Some(PRICE.times(4)?));
    assert_eq!(stale.agent.channels().len(), 1);
    stage.shut_down().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_voucher_pays_once_and_never_above_the_deposit() -> Result<()> {
    // Given a channel with room for two calls, both used
    let stage = stage().await?;
    let customer = Customer::arrive(&stage, PRICE.times(2)?).await?;
    customer.buy(&stage).await?;
    customer.buy(&stage).await?;
    let channel = customer.channel()?;
    let url = stage.shop.paid();
    let refused = async |cumulative: Amount| {
        let reason = present(&customer.client, &url, &customer.wallet, channel.id, cumulative).await?;
        anyhow::Ok(reason.rejection())
    };
    // When the newest voucher comes again, an older one, one above the deposit, or one that skips a call
    // Then each is refused by name
    assert_eq!(refused(channel.charged).await?, Some(Rejection::VoucherUsed));
    assert_eq!(refused(PRICE).await?, Some(Rejection::WrongCumulative));
    assert_eq!(refused(PRICE.times(3)?).await?, Some(Rejection::DepositExceeded));
    assert_eq!(refused(PRICE.times(9)?).await?, Some(Rejection::WrongCumulative));
    // And nothing was charged
    let seen = stage.channel(&channel.id).await?;
    assert_eq!((seen.charged, seen.signed, seen.reserved), (channel.charged, channel.charged, None));
    stage.shut_down().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_is_given_again_for_the_same_voucher_and_request() -> Result<()> {
    // Given a paid call whose payment is sent a second time, as by a client that never saw the answer
    let stage = stage().await?;
    let customer = Customer::arrive(&stage, Amount::new(10_000)).await?;
    customer.buy(&stage).await?;
    let channel = customer.channel()?;
    let key = SigningKey::from_bytes(customer.wallet.secret_bytes());
    let voucher = SignedVoucher::sign(&key, channel.id.0, PRICE.times(2)?);
    let offer = offer(&customer.client, &stage.shop.paid()).await?;
    let payload = ChannelPayload::Voucher { voucher: voucher.into() };
    let payment = header(&PaymentPayload::new(offer, payload))?;
    let mut answers = Vec::new();
    for _ in 0..2 {
        let request = customer.client.post(stage.shop.paid()).header(PAYMENT_SIGNATURE, &payment);
        let answer = request.body("once, please").send().await?;
        assert_eq!(answer.status(), StatusCode::OK);
        answers.push(answer.text().await?);
    }
    // Then it gets the same answer again, and is charged once
    assert_eq!(answers[0], answers[1]);
    assert_eq!(stage.channel(&channel.id).await?.charged, PRICE.times(2)?);
    stage.shut_down().await
}
