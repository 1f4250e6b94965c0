use super::*;
use serde_json::to_value;

#[test]
fn given_a_declared_route_when_it_was_paid_for_then_it_is_listed_as_x402_has_it() {
    let mut catalogue = catalogue();
    let request = Request::of("https://API.example.com/weather?city=Lisbon", &payee(1), &weather());
    let request = request.with("/paymentPayload/resource/description", json!("The weather\nanywhere"));
    assert_eq!(request.paid(&mut catalogue, 7, NOW), Taken::Listed);
    let listed = to_value(&all(&catalogue)[0]).unwrap();
    assert_eq!(listed["resource"], "https://api.example.com/weather");
    assert_eq!((&listed["type"], &listed["x402Version"]), (&json!("http"), &json!(2)));
    assert_eq!(listed["description"], "The weather anywhere");
    assert_eq!(listed["serviceName"], "Example Weather");
    assert_eq!(listed["tags"], json!(["weather", "forecast"]));
    assert_eq!(listed["lastUpdated"], "2026-11-26T00:00:00Z");
    assert_eq!(listed["accepts"][0]["amount"], "500");
    assert_eq!(listed["accepts"][0]["payTo"], payee(1));
    assert_eq!(listed["extensions"]["bazaar"]["info"]["input"]["method"], "GET");
    assert_eq!(listed["standing"]["payers"], 1);
}

#[test]
fn given_all_calls_of_a_route_with_parts_that_vary_then_they_are_one_entry() {
    let mut catalogue = catalogue();
    let declared = Discoverable::by_query(json!({})).path("/users/:userId");
    for (call, user) in ["7", "8", "9"].into_iter().enumerate() {
        let request = Request::of(&plain(&format!("users/{user}?q=1")), &payee(1), &declared);
        assert_eq!(request.paid(&mut catalogue, 7, NOW + i64::try_from(call).unwrap()), Taken::Listed);
    }
    let listed = all(&catalogue);
    assert_eq!(urls(&listed), ["https://api.example.com/users/:userId"]);
    assert_eq!(listed[0].standing.as_ref().unwrap().paid_calls, 3);
}

#[test]
fn given_several_tools_of_one_server_and_methods_of_one_route_then_each_is_an_entry() {
    let mut catalogue = catalogue();
    let tool = |name: &str| Discoverable::tool(name, json!({"type": "object"}));
    for declared in [tool("analyse"), tool("quote"), weather()] {
        Request::of(&plain("mcp"), &payee(1), &declared).paid(&mut catalogue, 7, NOW);
    }
    let tools = Filter { kind: Some("mcp".to_owned()), ..Filter::default() };
    let (listed, total) = catalogue.page(&tools, 0, 10, NOW);
    assert_eq!((listed.len(), total, catalogue.len()), (2, 2, 3));
    assert_eq!([listed[0].call(), listed[1].call()], [Some("analyse"), Some("quote")]);
}

#[test]
fn given_what_x402_leaves_out_when_it_is_listed_then_the_rest_of_it_stays() {
    let request = Request::of(&plain("w"), &payee(1), &weather())
        .with("/paymentPayload/resource/serviceName", json!("Wetter-Büro"))
        .with("/paymentPayload/resource/tags", json!(["a", "A", "", 5, "b\n", "x".repeat(33), "c", "d", "e", "f"]))
        .with("/paymentPayload/resource/iconUrl", json!("https://127.0.0.1/icon.png"))
        .with("/paymentPayload/resource/mimeType", json!("x".repeat(200)))
        .with("/paymentPayload/resource/description", json!("ä".repeat(3_000)))
        .with("/paymentPayload/extensions/bazaar/routeTemplate", json!("/../admin"));
    let mut catalogue = catalogue();
    request.paid(&mut catalogue, 7, NOW);
    let listed = &all(&catalogue)[0];
    assert_eq!((&listed.service_name, &listed.icon_url, &listed.mime_type), (&None, &None, &None));
    assert_eq!(listed.tags, ["a", "c", "d", "e", "f"]);
    assert_eq!(listed.description.as_ref().unwrap().chars().count(), 500);
    assert_eq!(listed.resource, plain("w"));
    assert!(listed.extensions["bazaar"].get("routeTemplate").is_none());
}

#[test]
fn given_what_cannot_be_listed_when_it_was_paid_for_then_the_reason_is_named() {
    let request = || Request::of(&plain("w"), &payee(1), &weather());
    let extension = |value: Value| request().with("/paymentPayload/extensions/bazaar", value).refused();
    let input = |value: Value| request().with("/paymentPayload/extensions/bazaar/info/input", value).refused();
    use UnlistedReason::*;
    assert_eq!(extension(json!(5)), Malformed);
    assert_eq!(extension(json!({"info": {"input": {}}})), Malformed);
    assert_eq!(extension(json!({"info": [], "schema": {}})), Malformed);
    for bad in [
        json!({"type": "ftp"}),
        json!({"type": "http"}),
        json!({"type": "http", "method": "get"}),
        json!({"type": "http", "method": "OPTIONS"}),
        json!({"type": "http", "method": "GET", "bodyType": "json"}),
        json!({"type": "http", "method": "POST"}),
        json!({"type": "http", "method": "POST", "bodyType": "xml"}),
        json!({"type": "mcp", "toolName": "", "inputSchema": {}}),
        json!({"type": "mcp", "toolName": "a\nb", "inputSchema": {}}),
        json!({"type": "mcp", "toolName": "x".repeat(129), "inputSchema": {}}),
        json!({"type": "mcp", "toolName": "t"}),
        json!({"type": "mcp", "toolName": "t", "inputSchema": {}, "transport": "carrier-pigeon"}),
    ] {
        assert_eq!(input(bad.clone()), BadInput, "{bad}");
    }
    assert_eq!(input(json!({"type": "http", "method": "GET", "queryParams": {"city": 5}})), SchemaMismatch);
    assert_eq!(request().with("/paymentPayload/resource/url", json!("w")).refused(), BadUrl);
    assert_eq!(request().with("/paymentPayload/resource/url", json!("http://10.0.0.1/w")).refused(), PrivateAddress);
    assert_eq!(request().with("/paymentRequirements/asset", json!("x".repeat(200))).refused(), BadTerms);
    assert_eq!(request().with("/paymentRequirements/extra", json!({"x": "x".repeat(2_100)})).refused(), BadTerms);
    let told =
        request().with("/paymentPayload/extensions/bazaar/info/input/queryParams", json!({})).judged().unwrap_err();
    assert!(told.message.contains("/input/queryParams") && told.message.contains("city"), "{told}");
}

#[test]
fn given_a_url_when_its_owner_asks_then_it_is_said_whether_it_is_listed_and_why_not() {
    let mut catalogue = catalogue();
    let reason = |catalogue: &Catalogue, url: &str| {
        let status = catalogue.status(url).unwrap();
        (status.states[0].listed, status.states[0].refused.as_ref().map(|why| why.reason))
    };
    let url = plain("w?secret=1");
    assert_eq!(reason(&catalogue, &url), (false, Some(UnlistedReason::NotPaid)));
    assert_eq!(catalogue.status("nowhere").unwrap_err().reason, UnlistedReason::BadUrl);

    let bad =
        Request::of(&url, &payee(1), &weather()).with("/paymentPayload/extensions/bazaar/schema", json!({"type": 5}));
    catalogue.refused(&bad.sale(), bad.judged().unwrap_err(), NOW);
    assert_eq!(reason(&catalogue, &url), (false, Some(UnlistedReason::BadSchema)));
    assert_eq!(catalogue.status(&url).unwrap().resource, plain("w"));

    Request::of(&url, &payee(1), &weather()).paid(&mut catalogue, 7, NOW);
    assert_eq!(reason(&catalogue, &url), (true, None));

    // What is refused now stands beside what is listed.
    catalogue.refused(&bad.sale(), bad.judged().unwrap_err(), NOW);
    assert_eq!(reason(&catalogue, &url), (true, Some(UnlistedReason::BadSchema)));

    catalogue.expire(NOW + 91 * DAY);
    assert_eq!(reason(&catalogue, &url), (false, Some(UnlistedReason::Stale)));
}

#[test]
fn given_a_private_address_when_those_are_listed_too_then_it_is() {
    let request = Request::of("http://127.0.0.1:8403/facts", &payee(1), &weather());
    assert_eq!(request.refused(), UnlistedReason::PrivateAddress);
    let settings = Settings { private_addresses: true, ..settings() };
    assert!(judge(&request.sale(), &settings).is_ok());
}
