//! What an administrator does by the buttons of the operator's page, and what becomes of it on chain.

use crate::customer::{Customer, PRICE, until};
use anyhow::{Context, Result, ensure};
use reqwest::header::COOKIE;
use reqwest::{Client, redirect};
use std::time::Duration;
use tallybook_cli::demo::{Pace, Stage};
use tallybook_cli::progress::Progress;
use tallybook_rules::Amount;
use tallybook_wire::VoucherLine;

/// Somebody who has signed in.
struct Administrator {
    client: Client,
    page: String,
    cookie: String,
}

impl Administrator {
    async fn sign_in(stage: &Stage) -> Result<Self> {
        let client = Client::builder().redirect(redirect::Policy::none()).build()?;
        let page = format!("{}/operator", stage.facilitator());
        let token = [("token", stage.ground.admin_token.as_str())];
        let answer = client.post(format!("{page}/sign-in")).form(&token).send().await?;
        let cookie = answer.headers().get("set-cookie").context("not signed in")?.to_str()?;
        let cookie = cookie.split(';').next().unwrap_or_default().to_owned();
        Ok(Self { client, page, cookie })
    }

    async fn get(&self, path: &str) -> Result<String> {
        let answer = self.client.get(format!("{}{path}", self.page)).header(COOKIE, &self.cookie).send().await?;
        Ok(answer.error_for_status()?.text().await?)
    }

    /// Presses a button; gives what is told of it.
    async fn act(&self, path: &str, fields: &[(&str, &str)]) -> Result<String> {
        let shown = self.get("").await?;
        let (_, rest) = shown.split_once("name=\"form\" value=\"").context("no form")?;
        let form = rest.split('"').next().unwrap_or_default();
        let fields = [&[("form", form)], fields].concat();
        let asked = self.client.post(format!("{}{path}", self.page)).form(&fields).header(COOKIE, &self.cookie);
        Ok(asked.send().await?.error_for_status()?.text().await?)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_administrator_has_settled_and_paid_out_is_on_chain() -> Result<()> {
    // Given calls that would be claimed in an hour
    let pace = Pace { slot: Duration::from_millis(50), settle_after_seconds: 3_600 };
    let stage = Stage::set(pace, "$0.0005", Progress::Silent).await?;
    let (ground, customer) = (&stage.ground, Customer::arrive(&stage, Amount::new(10_000)).await?);
    for _ in 0..3 {
        customer.buy(&stage).await?;
    }
    let (channel, due) = (customer.channel()?, PRICE.times(3)?);
    let administrator = Administrator::sign_in(&stage).await?;
    let paid = async |what: Amount| {
        until("the payee is paid", async || {
            let held = ground.mint.held_by(&ground.chain, &ground.payee).await?;
            Ok(Some(()).filter(|()| held == what))
        })
        .await
    };
    assert_eq!(ground.mint.held_by(&ground.chain, &ground.payee).await?, Amount::ZERO);

    // When an administrator has them settled
    let told = administrator.act("/settle", &[]).await?;
    // Then they are, and their payee is paid
    assert!(told.contains("<h1>Settling</h1>"), "{told}");
    paid(due).await?;
    assert_eq!(ground.page().await?.slot(channel.parts.slot)?.settled, due);

    // When what they export is held against the chain
    let exported = administrator.get("/vouchers").await?;
    // Then it is the newest voucher of the one channel, where it is
    let line: VoucherLine = serde_json::from_str(exported.trim_end())?;
    assert_eq!((line.voucher.channel_id, line.due()), (channel.id, due));
    assert_eq!(line.page.map(|page| page.0), Some(ground.page.to_bytes()));

    // When the payer leaves, which claims without paying out
    customer.buy(&stage).await?;
    customer.agent.close(channel.id).await?;
    let owed = ground.page().await?.header.owed(0, &ground.book.state.legs()[0])?;
    assert_eq!(owed, PRICE);
    // And an administrator has the page pay out
    let page = ground.page.to_string();
    let told = administrator.act("/pay-out", &[("page", &page)]).await?;
    // Then it is paid out by the time that they are told so, and said to the base unit
    assert_eq!(ground.mint.held_by(&ground.chain, &ground.payee).await?, due.plus(PRICE)?);
    ensure!(told.contains("500 base units") && told.contains("It owes nothing now."), "{told}");
    // And once more there is nothing to do
    let told = administrator.act("/pay-out", &[("page", &page)]).await?;
    ensure!(told.contains("owes nothing"), "{told}");

    // When they have paused it
    administrator.act("/pause", &[]).await?;
    // Then nobody opens a channel until they resume
    let other = Customer::arrive(&stage, Amount::new(10_000)).await?;
    assert!(other.buy(&stage).await.is_err());
    administrator.act("/resume", &[]).await?;
    other.buy(&stage).await?;
    stage.shut_down().await
}
