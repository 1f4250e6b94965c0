//! Discovery: a route that declares itself, whoever serves it, is in our catalogue once a third party has paid for it, and the
//! reference's own client reads it there.

use crate::matrix::Matrix;
use crate::process::{Program, Serving};
use crate::town::{PRICE, Town, until};
use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// Who pays, in all of them.
const PAYER: Program = Program::Node("client-fetch.mjs");
const READER: Program = Program::Node("reader-bazaar.mjs");

/// A route, and how it is listed.
struct Declared<'a> {
    /// Who serves it.
    name: &'static str,
    url: &'a str,
    /// What is called.
    path: &'static str,
    /// What is listed.
    listed: &'static str,
    service: &'static str,
}

/// Runs every cell, and writes down how it went.
pub(crate) async fn fill(town: &Town, matrix: &mut Matrix) -> Result<()> {
    let express: Serving = Program::Node("server-bazaar.mjs").serve(&town.server_settings()).await?;
    let ours = town.paywall("");
    let (of_express, of_ours) = ("@x402/express + @x402/extensions", "tallybook-paywall");
    for declared in [
        Declared {
            name: of_express,
            url: &express.url,
            path: "/bazaar/weather?city=Lisbon",
            listed: "/bazaar/weather",
            service: "Express Weather",
        },
        Declared {
            name: of_express,
            url: &express.url,
            path: "/bazaar/stations/7",
            listed: "/bazaar/stations/:station",
            service: "Express Weather",
        },
        Declared {
            name: of_ours,
            url: &ours,
            path: "/bazaar/weather?city=Lisbon",
            listed: "/bazaar/weather",
            service: "Paywall Weather",
        },
        Declared {
            name: of_ours,
            url: &ours,
            path: "/bazaar/stations/7",
            listed: "/bazaar/stations/:station",
            service: "Paywall Weather",
        },
    ] {
        matrix.listed(declared.name, declared.listed, cell(town, &declared).await);
    }
    Ok(())
}

/// Not listed before it is paid for; listed, found and well formed after it.
async fn cell(town: &Town, declared: &Declared<'_>) -> Result<()> {
    let (url, listed) = (format!("{}{}", declared.url, declared.path), format!("{}{}", declared.url, declared.listed));
    ensure!(read(town, &listed).await?["item"].is_null(), "it is listed before anybody has paid for it");
    ensure!(town.unpaid(&url).await? == 402, "it is served unpaid");
    ensure!(read(town, &listed).await?["item"].is_null(), "it is listed by a 402 alone");

    let wallet = town.wallet().await?;
    let mut settings = town.client_settings(&wallet, &url);
    settings.push(("X402_SCHEME", "exact".to_owned()));
    let said = PAYER.run(&settings).await?;
    ensure!(said.iter().all(|one| one.status == Some(200)), "not served: {said:?}");

    let read =
        until("it is listed", async || Ok(Some(read(town, &listed).await?).filter(|read| !read["item"].is_null())));
    let read = read.await?;
    ensure!(read["listedOnce"] == true && read["foundOnce"] == true, "listed or found not once: {read}");
    ensure!(read["spec"]["valid"] == true && read["schema"]["valid"] == true, "not as @x402/extensions has it: {read}");
    let item = &read["item"];
    ensure!(item["serviceName"] == declared.service && item["tags"][0] == "weather", "{item}");
    ensure!(item["accepts"][0]["amount"] == PRICE.to_string() && item["x402Version"] == 2, "{item}");
    ensure!(item["extensions"]["bazaar"]["info"]["input"]["method"] == "GET", "{item}");
    Ok(())
}

/// What the reference's client reads of one resource.
async fn read(town: &Town, resource: &str) -> Result<Value> {
    let mut settings = town.server_settings();
    settings.push(("X402_URL", resource.to_owned()));
    let said = READER.run(&settings).await?;
    let body = said.first().and_then(|one| one.body.as_ref()).with_context(|| format!("nothing was read: {said:?}"))?;
    Ok(serde_json::from_str(body)?)
}
