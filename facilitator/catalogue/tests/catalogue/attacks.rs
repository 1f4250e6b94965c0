use super::*;
use proptest::prelude::*;
use std::time::{Duration, Instant};

fn with_schema(schema: Value) -> Request {
    Request::of(&plain("w"), &payee(1), &weather()).with("/paymentPayload/extensions/bazaar/schema", schema)
}

fn of_input(schema: Value) -> Value {
    json!({"type": "object", "properties": {"input": schema}, "required": ["input"]})
}

/// Long for a machine under load, short for a bomb.
fn in_time<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let done = work();
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(5), "{what} took {took:?}");
    done
}

#[test]
fn given_a_pattern_that_backtracks_when_it_is_tried_then_it_takes_no_longer_than_any_other() {
    let many = format!("{}!", "a".repeat(4_000));
    for pattern in ["^(a+)+$", "^(a|aa)+$", "(.*)*x", "^(([a-z])+.)+[A-Z]([a-z])+$"] {
        let schema = of_input(json!({"properties": {"queryParams": {"properties": {"city": {"pattern": pattern}}}}}));
        let request =
            with_schema(schema).with("/paymentPayload/extensions/bazaar/info/input/queryParams/city", json!(many));
        let judged = in_time(pattern, || request.judged());
        assert!(judged.is_ok() || judged.as_ref().unwrap_err().reason == UnlistedReason::SchemaMismatch, "{judged:?}");
    }
    // What needs an engine that backtracks, and what compiles to megabytes, is refused.
    for pattern in ["^(?=a)b", "(a)\\1", "(((a{99}){99}){99}){99}", "\\p{L}{1000}"] {
        let schema = of_input(json!({"properties": {"queryParams": {"properties": {"city": {"pattern": pattern}}}}}));
        assert_eq!(in_time(pattern, || with_schema(schema).refused()), UnlistedReason::BadSchema, "{pattern}");
    }
    let long = of_input(json!({"patternProperties": {"a".repeat(300): {}}}));
    assert_eq!(with_schema(long).refused(), UnlistedReason::SchemaTooComplex);
}

#[test]
fn given_a_schema_that_grows_when_it_is_written_out_then_it_is_refused_before_it_is_tried() {
    // Each doubles the one before.
    let mut definitions = json!({"d0": {"type": "object"}});
    for level in 1..24 {
        let before = json!({"$ref": format!("#/$defs/d{}", level - 1)});
        definitions[format!("d{level}")] = json!({"allOf": [before, before]});
    }
    let doubling = json!({"$defs": definitions, "properties": {"input": {"$ref": "#/$defs/d23"}}});
    assert_eq!(in_time("doubling", || with_schema(doubling).refused()), UnlistedReason::SchemaTooComplex);

    for recursive in [
        json!({"$ref": "#"}),
        json!({"properties": {"input": {"$ref": "#"}}}),
        json!({"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "properties": {"input": {"$ref": "#/$defs/a"}}}),
        json!({"$dynamicRef": "#x", "$dynamicAnchor": "x"}),
        json!({"$recursiveRef": "#"}),
        json!({"unevaluatedProperties": {"unevaluatedProperties": {"unevaluatedItems": false}}}),
    ] {
        assert_eq!(
            in_time("recursive", || with_schema(recursive.clone()).refused()),
            UnlistedReason::SchemaTooComplex,
            "{recursive}"
        );
    }
    let mut chain = json!({"c0": {}});
    for level in 1..99 {
        chain[format!("c{level}")] = json!({"$ref": format!("#/$defs/c{}", level - 1)});
    }
    let chain = json!({"$defs": chain, "properties": {"input": {"$ref": "#/$defs/c98"}}});
    assert_eq!(in_time("chain", || with_schema(chain).refused()), UnlistedReason::SchemaTooComplex);
}

#[test]
fn given_a_schema_within_all_bounds_when_it_is_as_dear_as_it_can_be_then_it_is_still_cheap() {
    // A wide tree of references over a wide value, each node of the one tried on each of the other.
    let leaf = json!({"anyOf": (0..40).map(|n| json!({"const": n})).collect::<Vec<_>>()});
    let each = json!({"allOf": (0..20).map(|_| json!({"$ref": "#/$defs/leaf"})).collect::<Vec<_>>()});
    let schema = json!({
        "$defs": {"leaf": leaf, "each": each},
        "properties": {"input": {"properties": {"queryParams": {"additionalProperties": {"$ref": "#/$defs/each"}}}}},
    });
    let values: Map<String, Value> = (0..400).map(|n| (format!("k{n}"), json!(39))).collect();
    let request =
        with_schema(schema).with("/paymentPayload/extensions/bazaar/info/input/queryParams", Value::Object(values));
    assert!(in_time("dear", || request.judged()).is_ok());
    let unique: Vec<Value> = (0..900).map(|n| json!(n)).collect();
    let schema =
        json!({"properties": {"input": {"properties": {"queryParams": {"properties": {"a": {"uniqueItems": true}}}}}}});
    let request =
        with_schema(schema).with("/paymentPayload/extensions/bazaar/info/input/queryParams", json!({"a": unique}));
    assert!(in_time("unique", || request.judged()).is_ok());
}

#[test]
fn given_references_elsewhere_and_other_drafts_when_they_are_declared_then_nothing_is_asked_for() {
    for external in [
        json!({"$ref": "https://evil.example.com/schema"}),
        json!({"$ref": "file:///etc/passwd"}),
        json!({"properties": {"input": {"$ref": "other.json"}}}),
        json!({"$id": "https://evil.example.com/"}),
        json!({"properties": {"input": {"$ref": 5}}}),
    ] {
        assert_eq!(with_schema(external.clone()).refused(), UnlistedReason::ExternalReference, "{external}");
    }
    for other in [
        json!({"$schema": "http://json-schema.org/draft-07/schema#"}),
        json!({"$schema": 5}),
        json!({"type": "no such type"}),
        json!({"properties": {"input": {"$ref": "#/nowhere"}}}),
    ] {
        assert_eq!(with_schema(other.clone()).refused(), UnlistedReason::BadSchema, "{other}");
    }
}

#[test]
fn given_what_is_deep_or_large_when_it_is_declared_then_it_is_refused() {
    let mut deep = json!(1);
    (0..60).for_each(|_| deep = json!([deep]));
    let request = || Request::of(&plain("w"), &payee(1), &weather());
    let info = |value: Value| request().with("/paymentPayload/extensions/bazaar/info/output", value).refused();
    assert_eq!(info(deep.clone()), UnlistedReason::TooLarge);
    assert_eq!(info(json!(vec![0; 1_100])), UnlistedReason::TooLarge);
    assert_eq!(info(json!("x".repeat(9_000))), UnlistedReason::TooLarge);
    assert_eq!(request().with("/paymentRequirements/extra", json!({"x": deep})).refused(), UnlistedReason::BadTerms);
}

#[test]
fn given_another_payee_when_it_pays_for_the_same_address_then_what_is_listed_stays_as_it_is() {
    let mut catalogue = catalogue();
    let own = Request::of(&plain("w"), &payee(1), &weather());
    own.paid(&mut catalogue, 7, NOW);
    let before = all(&catalogue);
    let poison = Discoverable::by_query(json!({})).service("Poison").tags(["poison"]);
    let foreign = Request::of(&plain("w"), &payee(2), &poison).with("/paymentPayload/accepted/amount", json!("1"));
    for call in 0..200 {
        foreign.paid(&mut catalogue, 8, NOW + call);
    }
    let after = all(&catalogue);
    assert_eq!(
        (after.len(), after[0].accepts.clone(), after[0].tags.clone()),
        (2, before[0].accepts.clone(), before[0].tags.clone())
    );
    assert_eq!(after[0].standing.as_ref().unwrap().paid_calls, 1);
    assert!(after.iter().all(|listing| listing.standing.as_ref().unwrap().contested), "both are marked");
}

#[test]
fn given_one_payment_that_echoes_another_declaration_when_others_go_on_then_it_changes_nothing() {
    let mut catalogue = catalogue();
    let own = Request::of(&plain("w"), &payee(1), &weather());
    own.paid(&mut catalogue, 7, NOW);
    let poison =
        Request::of(&plain("w"), &payee(1), &weather()).with("/paymentPayload/resource/description", json!("Pay X"));
    let poison = poison.with("/paymentPayload/accepted/amount", json!("1"));
    for second in 0..300 {
        let taken = if second % 50 == 0 {
            own.paid(&mut catalogue, 7, NOW + second)
        } else {
            poison.paid(&mut catalogue, 8, NOW + second)
        };
        assert_eq!(taken == Taken::Listed, second % 50 == 0);
    }
    assert_eq!(
        (all(&catalogue)[0].description.clone(), all(&catalogue)[0].accepts[0]["amount"].clone()),
        (None, json!("500"))
    );

    // A seller that says something new is heard after a minute.
    let new =
        Request::of(&plain("w"), &payee(1), &weather()).with("/paymentPayload/resource/description", json!("New"));
    assert_eq!(new.paid(&mut catalogue, 7, NOW + 1_000), Taken::Waits);
    assert_eq!(new.paid(&mut catalogue, 8, NOW + 1_059), Taken::Waits);
    assert_eq!(new.paid(&mut catalogue, 7, NOW + 1_060), Taken::Listed);
    assert_eq!(all(&catalogue)[0].description.as_deref(), Some("New"));
    assert_eq!(new.paid(&mut catalogue, 7, NOW + 1_061), Taken::Listed);
}

#[test]
fn given_a_payee_that_lists_more_than_it_may_when_it_goes_on_then_it_displaces_its_own_alone() {
    let mut catalogue = catalogue();
    Request::of(&plain("mine"), &payee(2), &weather()).paid(&mut catalogue, 7, NOW - 100);
    for number in 0..50 {
        Request::of(&plain(&format!("r{number}")), &payee(1), &weather()).paid(&mut catalogue, 1, NOW + number);
    }
    assert_eq!(catalogue.len(), 11);
    let listed = all(&catalogue);
    assert_eq!((urls(&listed)[0], urls(&listed)[1]), (plain("mine").as_str(), plain("r40").as_str()));
    let why = catalogue.status(&plain("r3")).unwrap().states[0].refused.clone().unwrap();
    assert_eq!(why.reason, UnlistedReason::Displaced);
}

#[test]
fn given_a_flood_of_payees_that_pay_themselves_when_all_places_are_taken_then_what_others_pay_for_stays() {
    let settings = Settings { entries: 30, ..settings() };
    let mut catalogue = Catalogue::open(settings, &[]);
    for number in 0..20 {
        let used = Request::of(&plain(&format!("used{number}")), &payee(number), &weather());
        used.paid(&mut catalogue, 100, NOW - DAY);
        used.paid(&mut catalogue, 101, NOW - DAY);
    }
    for number in 0..200u8 {
        let number = number.saturating_add(40);
        Request::of(&plain(&format!("self{number}")), &payee(number), &weather()).paid(&mut catalogue, number, NOW);
    }
    assert_eq!(catalogue.len(), 30);
    let used = all(&catalogue).iter().filter(|listing| listing.resource.contains("/used")).count();
    assert_eq!(used, 20);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_is_sent_it_is_listed_or_refused_and_what_is_listed_is_kept(bytes in proptest::collection::vec(any::<u8>(), 0..400), at in 0usize..1_500) {
        let mut body = serde_json::to_vec(&Request::of(&plain("w"), &payee(1), &weather()).0).unwrap();
        let at = at.min(body.len());
        let end = (at + bytes.len()).min(body.len());
        body.splice(at..end, bytes);
        if let Some(sale) = Sale::read(&body) {
            let mut catalogue = catalogue();
            match judge(&sale, &settings()) {
                Ok(candidate) => assert_eq!(catalogue.paid(candidate, &wallet(7), NOW), Taken::Listed),
                Err(why) => catalogue.refused(&sale, why, NOW),
            }
            let rows: Vec<_> = catalogue.changes(9).into_iter().filter_map(record).collect();
            let again = Catalogue::open(settings(), &rows);
            prop_assert_eq!(all(&again), all(&catalogue));
        }
    }
}
