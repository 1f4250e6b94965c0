//! The wallet's tools, over standard input and output.

use crate::desk::{Client, Desk, PRICE, TEXT, base_units, said, stage};
use anyhow::Result;
use rmcp::model::{
    ClientCapabilities, ClientConfig, ElicitRequestParams, ElicitResult, ElicitationAction, ElicitationCapability,
    ErrorData, Implementation, ProtocolVersion,
};
use rmcp::service::RequestContext;
use rmcp::{ClientHandler, ClientLifecycleMode, RoleClient};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex, PoisonError};
use tallybook_cli::demo::Stage;
use tallybook_wire::Key;

#[tokio::test(flavor = "multi_thread")]
async fn given_a_model_with_a_wallet_when_it_quotes_and_fetches_then_it_pays_within_the_limits_and_sees_what_is_left()
-> Result<()> {
    let stage = stage().await?;
    let desk = Desk::at(&stage.ground).await?;
    let (host, url) = (stage.shop.host(), stage.shop.paid());
    let amounts = "--max-price 0.001 --deposit 0.01 --budget 0.015 --budget-per-hour 0.002";
    let limits: Vec<&str> = ["--host", &host].into_iter().chain(amounts.split(' ')).collect();
    let facilitator = stage.facilitator();
    let with_catalogue = [limits.as_slice(), &["--facilitator", &facilitator]].concat();
    let client = desk.client((), &with_catalogue).await?;
    let tools = client.running.peer().list_all_tools().await?;
    let names: Vec<&str> = tools.iter().map(|tool| tool.name.as_ref()).collect();
    assert_eq!(names, ["find", "quote", "fetch", "budget", "channels", "paid"]);

    // Given a quote: nothing is paid by that
    let ask = json!({ "url": url, "method": "POST", "body": TEXT });
    let quote = client.report("quote", ask.clone()).await?;
    assert_eq!(
        (&quote["status"], &quote["free"], &quote["allowed"]),
        (&402.into(), &false.into(), &true.into()),
        "{quote}"
    );
    assert_eq!((base_units(&quote["price"]), base_units(&quote["deposit"])), ("500", "10000"));
    let schemes: Vec<&str> =
        quote["ways"].as_array().unwrap().iter().filter_map(|way| way["scheme"].as_str()).collect();
    assert_eq!(schemes, ["@tallybook/channel", "exact"]);
    assert_eq!(client.report("channels", json!({})).await?["channels"], json!([]));
    let before = client.report("budget", json!({})).await?;
    assert_eq!(
        (base_units(&before["inAll"]["left"]), base_units(&before["lastHour"]["left"])),
        ("15000", "2000"),
        "{before}"
    );

    // When it fetches, then the answer comes with what it cost
    let fetched = client.report("fetch", ask.clone()).await?;
    let facts: Value = serde_json::from_str(fetched["body"].as_str().unwrap_or_default())?;
    assert_eq!(
        (&fetched["status"], &facts["words"], &fetched["truncated"]),
        (&200.into(), &6.into(), &false.into()),
        "{fetched}"
    );
    let payment = &fetched["payment"];
    assert_eq!((&payment["paid"], base_units(&payment["charged"])), (&true.into(), "500"), "{payment}");
    // And the facilitator has charged just that
    let channel: Key = payment["channel"].as_str().unwrap_or_default().parse()?;
    assert_eq!(stage.channel(&channel).await?.charged, PRICE);
    // And what is left is less
    let after = client.report("budget", json!({})).await?;
    assert_eq!(
        (base_units(&after["inAll"]["left"]), base_units(&after["lastHour"]["used"])),
        ("5000", "500"),
        "{after}"
    );
    assert_eq!(base_units(&after["atHosts"][&host]["used"]), "10000");
    it_shows_what_it_has(&client, &host).await?;
    // A quote now needs no deposit
    assert_eq!(client.report("quote", ask.clone()).await?.get("deposit"), None);

    found_again(&stage, &client).await?;
    within_limits(&stage, &client, &ask, &channel).await?;
    nowhere_else(&stage, &client).await?;
    client.leave().await?;

    // When it is started again, then its channel is still there, and no budget has grown
    let client = desk.client((), &limits).await?;
    assert_eq!(client.report("channels", json!({})).await?["channels"][0]["id"], json!(channel));
    let refused = client.refusal("fetch", ask).await?;
    assert!(refused.contains("one hour"), "{refused}");
    client.leave().await?;
    stage.shut_down().await
}

/// Its one channel, and what it bought.
async fn it_shows_what_it_has(client: &Client<()>, host: &str) -> Result<()> {
    let channels = client.report("channels", json!({})).await?;
    let one = &channels["channels"][0];
    assert_eq!(
        (&one["host"], &one["state"], base_units(&one["left"])),
        (&json!(host), &"open".into(), "9500"),
        "{channels}"
    );
    let paid = client.report("paid", json!({ "host": host, "limit": 5 })).await?;
    assert_eq!(
        (base_units(&paid["payments"][0]["charged"]), &paid["payments"][0]["path"]),
        ("500", &"/facts".into()),
        "{paid}"
    );
    Ok(())
}

/// What was paid for is in the catalogue, with an example that can be quoted as it stands.
async fn found_again(stage: &Stage, client: &Client<()>) -> Result<()> {
    let mut found = client.report("find", json!({ "words": "facts" })).await?;
    for _ in 0..100 {
        if found["offers"] != json!([]) {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        found = client.report("find", json!({ "words": "facts" })).await?;
    }
    let offer = &found["offers"][0];
    assert_eq!((&offer["url"], &offer["call"]), (&json!(stage.shop.paid()), &"POST".into()), "{found}");
    assert_eq!((&offer["allowed"], &found["unanswered"]), (&true.into(), &json!([])));
    let quote = client.report("quote", offer["example"].clone()).await?;
    assert_eq!((&quote["allowed"], base_units(&quote["price"])), (&true.into(), "500"), "{quote}");
    let dear = client.report("find", json!({ "words": "facts", "maxPrice": "0.0001" })).await?;
    assert_eq!(dear["offers"], json!([]));
    Ok(())
}

/// What the limits refuse is not charged, and it is said which of them.
async fn within_limits(stage: &Stage, client: &Client<()>, ask: &Value, channel: &Key) -> Result<()> {
    let url = &ask["url"];
    // When a limit forbids it, whose ever it is, then nothing is charged, and it says which
    let refused =
        client.refusal("fetch", json!({ "url": url, "method": "POST", "body": TEXT, "maxPrice": "0.0004" })).await?;
    assert!(refused.contains("0.000500") && refused.contains("maxPrice of 0.000400"), "{refused}");
    for _ in 0..3 {
        client.report("fetch", ask.clone()).await?;
    }
    let refused = client.refusal("fetch", ask.clone()).await?;
    assert!(refused.contains("one hour") && refused.contains("owner's"), "{refused}");
    let quote = client.report("quote", ask.clone()).await?;
    assert_eq!(quote["allowed"], false);
    assert!(quote["whyNot"].as_str().unwrap_or_default().contains("hour"), "{quote}");
    assert_eq!(stage.channel(channel).await?.charged, PRICE.times(4)?);
    Ok(())
}

/// What is asked of a wallet besides is refused, and what is free is free.
async fn nowhere_else(stage: &Stage, client: &Client<()>) -> Result<()> {
    let url = stage.shop.paid();
    // When it is talked into asking elsewhere, then nobody is asked
    for url in ["http://127.0.0.1:1/facts", "http://169.254.169.254/latest/meta-data", "http://localhost:8899"] {
        let refused = client.refusal("fetch", json!({ "url": url })).await?;
        assert!(refused.contains("not an allowed host"), "{refused}");
        client.refusal("quote", json!({ "url": url })).await?;
    }
    let refused = client.refusal("fetch", json!({ "url": url, "headers": { "Authorization": "Bearer x" } })).await?;
    assert!(refused.contains("content-type"), "{refused}");
    let refused = client.refusal("budget", json!({ "limit": "1000000" })).await?;
    assert!(refused.contains("unknown field"), "{refused}");
    assert!(client.call("raise_budget", json!({})).await.is_err(), "there is no such tool");

    // A free route is free, and a little of an answer is a little
    let free = json!({ "url": stage.shop.unpaid(), "method": "POST", "body": TEXT, "maxBytes": 10 });
    let fetched = client.report("fetch", free).await?;
    assert_eq!(
        (&fetched["bytes"], &fetched["truncated"], &fetched["payment"]["paid"]),
        (&10.into(), &true.into(), &false.into())
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn given_a_wallet_for_any_public_host_when_it_is_sent_inside_then_it_does_not_go_there() -> Result<()> {
    let stage = stage().await?;
    let desk = Desk::at(&stage.ground).await?;
    let client = desk.client((), &["--any-host", "--deny-host", "never.example"]).await?;
    let inside = client.refusal("fetch", json!({ "url": stage.shop.paid(), "method": "POST", "body": TEXT })).await?;
    assert!(inside.contains("inside the owner's network"), "{inside}");
    // By a name that leads there, which is found out when it is looked up
    let by_name = stage.shop.paid().replace("127.0.0.1", "localhost");
    for tool in ["fetch", "quote"] {
        let inside = client.refusal(tool, json!({ "url": by_name, "method": "POST", "body": TEXT })).await?;
        assert!(inside.contains("not on the public internet"), "{tool}: {inside}");
    }
    let never = client.refusal("fetch", json!({ "url": "https://never.example/x" })).await?;
    assert!(never.contains("never paid"), "{never}");
    assert_eq!(client.report("budget", json!({})).await?.get("hosts"), None);
    client.leave().await?;
    stage.shut_down().await
}

/// A client in front of which somebody sits.
#[derive(Clone)]
struct Person {
    answer: ElicitResult,
    asked: Arc<Mutex<Vec<String>>>,
}

impl ClientHandler for Person {
    fn get_info(&self) -> ClientConfig {
        let mut can = ClientCapabilities::default();
        can.elicitation = Some(ElicitationCapability::new());
        ClientConfig::new(can, Implementation::new("person", "1"))
    }

    async fn create_elicitation(
        &self,
        request: ElicitRequestParams,
        _: RequestContext<RoleClient>,
    ) -> Result<ElicitResult, ErrorData> {
        let ElicitRequestParams::FormElicitationParams { message, .. } = request else {
            return Err(ErrorData::invalid_params("a form was expected", None));
        };
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).push(message);
        Ok(self.answer.clone())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn given_a_limit_above_which_a_person_is_asked_when_it_is_reached_then_only_their_yes_pays() -> Result<()> {
    let stage = stage().await?;
    let desk = Desk::at(&stage.ground).await?;
    let (host, url) = (stage.shop.host(), stage.shop.paid());
    let limits = ["--host", &host, "--ask-above", "0.0001", "--deposit", "0.01"];
    let ask = json!({ "url": url, "method": "POST", "body": TEXT });

    // Given a client that can ask nobody, then it is refused, and told why
    let client = desk.client((), &limits).await?;
    assert_eq!(client.report("quote", ask.clone()).await?["asksFirst"], true);
    let refused = client.refusal("fetch", ask.clone()).await?;
    assert!(refused.contains("cannot ask") && refused.contains("0.000500"), "{refused}");
    client.leave().await?;

    let yes = ElicitResult::new(ElicitationAction::Accept).with_content(json!({ "approve": true }));
    let no = ElicitResult::new(ElicitationAction::Accept).with_content(json!({ "approve": false }));
    let away = ElicitResult::new(ElicitationAction::Decline);
    for answer in [no, away] {
        // Given somebody who does not say yes
        let person = Person { answer, asked: Arc::default() };
        let client = desk.client(person.clone(), &limits).await?;
        let refused = client.refusal("fetch", ask.clone()).await?;
        assert!(refused.contains("not approved"), "{refused}");
        let asked = person.asked.lock().unwrap().clone();
        assert!(asked.len() == 1 && asked[0].contains(&host) && asked[0].contains("0.000500"), "{asked:?}");
        assert_eq!(client.report("channels", json!({})).await?["channels"], json!([]));
        client.leave().await?;
    }
    // Given somebody who does, then it is paid
    let person = Person { answer: yes, asked: Arc::default() };
    let client = desk.client(person.clone(), &limits).await?;
    assert_eq!(base_units(&client.report("fetch", ask).await?["payment"]["charged"]), "500");
    assert_eq!(person.asked.lock().unwrap().len(), 1);
    client.leave().await?;
    stage.shut_down().await
}

#[tokio::test(flavor = "multi_thread")]
async fn given_a_client_of_the_newest_mcp_when_a_person_is_to_be_asked_then_the_result_asks_and_only_a_yes_pays()
-> Result<()> {
    let stage = stage().await?;
    let desk = Desk::at(&stage.ground).await?;
    let (host, url) = (stage.shop.host(), stage.shop.paid());
    let limits = ["--host", &host, "--ask-above", "0.0001", "--deposit", "0.01"];
    let ask = json!({ "url": url, "method": "POST", "body": TEXT });
    let newest = ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] };
    for (action, paid) in [(ElicitationAction::Decline, false), (ElicitationAction::Accept, true)] {
        let answer = ElicitResult::new(action).with_content(json!({ "approve": true }));
        let person = Person { answer, asked: Arc::default() };
        let client = desk.client_in(person.clone(), newest.clone(), &limits).await?;
        let result = client.call("fetch", ask.clone()).await?;
        assert_eq!(result.is_error == Some(true), !paid, "{}", said(&result));
        assert_eq!(said(&result).contains("0.000500 were not approved"), !paid, "{}", said(&result));
        assert_eq!(person.asked.lock().unwrap().len(), 1);
        let channels = client.report("channels", json!({})).await?;
        assert_eq!(base_units(&channels["spent"]), if paid { "500" } else { "0" });
        client.leave().await?;
    }
    stage.shut_down().await
}
