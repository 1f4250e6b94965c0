//! What agents are not supposed to do, done by hand: the library would not.

use anyhow::{Context, Result, bail};
use reqwest::{Client, Response, StatusCode};
use solana_keypair::Keypair;
use tallybook_rules::Amount;
use tallybook_rules::signing::{SignedVoucher, SigningKey};
use tallybook_wire::{
    ChannelPayload, Key, PAYMENT_REQUIRED, PAYMENT_SIGNATURE, PaymentPayload, PaymentRequired, PaymentRequirements,
    Reason, header, read_header,
};

/// Signs for `cumulative` in all on a channel whose signer is `wallet`, presents that at `url`, and says how it was
/// refused. Fails when it was not.
pub async fn present(client: &Client, url: &str, wallet: &Keypair, channel: Key, cumulative: Amount) -> Result<Reason> {
    let key = SigningKey::from_bytes(wallet.secret_bytes());
    let voucher = SignedVoucher::sign(&key, channel.0, cumulative);
    let offer = offer(client, url).await?;
    let payload = ChannelPayload::Voucher { voucher: voucher.into() };
    let response = client
        .post(url)
        .header(PAYMENT_SIGNATURE, header(&PaymentPayload::new(offer, payload))?)
        .body("for nothing")
        .send()
        .await?;
    match (response.status(), required(&response)?.error) {
        (StatusCode::PAYMENT_REQUIRED, Some(reason)) => Ok(reason),
        (status, _) => bail!("a payment that must be refused was answered with {status}"),
    }
}

/// What the route asks for.
pub async fn offer(client: &Client, url: &str) -> Result<PaymentRequirements> {
    let response = client.post(url).body("what does it cost?").send().await?;
    let required = required(&response)?;
    let offer = required.channel_offers().next().cloned();
    offer.context("the route does not offer to be paid by channel")
}

fn required(response: &Response) -> Result<PaymentRequired> {
    let value = response.headers().get(PAYMENT_REQUIRED);
    let value = value.with_context(|| format!("{} without {PAYMENT_REQUIRED}", response.status()))?;
    Ok(read_header(value.as_bytes())?)
}
