use super::*;

fn found(catalogue: &Catalogue, question: &str) -> Vec<String> {
    let (listings, _) = catalogue.search(question, &Filter::default(), (0, 100), NOW);
    listings.into_iter().map(|listing| listing.resource.rsplit('/').next().unwrap().to_owned()).collect()
}

fn route(path: &str, description: &str, tags: &[&str]) -> Request {
    let declared = Discoverable::by_query(json!({})).tags(tags.iter().copied());
    Request::of(&plain(path), &payee(1), &declared).with("/paymentPayload/resource/description", json!(description))
}

#[test]
fn given_a_question_when_it_is_asked_then_more_of_its_words_come_first_and_empty_words_find_nothing() {
    let mut catalogue = catalogue();
    route("news", "Headlines of the day", &["news"]).paid(&mut catalogue, 7, NOW);
    route("forecast", "Weather of tomorrow in any city", &[]).paid(&mut catalogue, 7, NOW);
    route("radar", "Pictures of rain", &["weather"]).paid(&mut catalogue, 7, NOW);
    assert_eq!(found(&catalogue, "weather"), ["radar", "forecast"], "a tag says more than a description");
    assert_eq!(found(&catalogue, "I need the weather forecasts of a city!"), ["forecast", "radar"]);
    assert_eq!(found(&catalogue, "headline"), ["news"], "in the singular");
    assert_eq!(found(&catalogue, "head"), ["news"], "by its beginning");
    assert_eq!(found(&catalogue, "WEATHER"), ["radar", "forecast"]);
    assert_eq!(found(&catalogue, "of the"), ["news", "forecast", "radar"], "nothing else was asked for");
    assert_eq!(found(&catalogue, "bitcoin"), [""; 0]);
    assert_eq!(found(&catalogue, "!?"), [""; 0]);
}

#[test]
fn given_two_that_answer_alike_when_one_has_more_payers_then_it_comes_first_whatever_the_other_claims() {
    let mut catalogue = catalogue();
    let stuffed = route("stuffed", "weather weather weather best weather", &["weather", "forecast"]);
    // A seller that pays itself, and one friend.
    for call in 0..500 {
        stuffed.paid(&mut catalogue, 1, NOW - 1_000 + call);
    }
    stuffed.paid(&mut catalogue, 2, NOW);
    let used = route("used", "Weather", &[]);
    for payer in 10..20 {
        used.paid(&mut catalogue, payer, NOW - DAY);
    }
    assert_eq!(found(&catalogue, "weather"), ["used", "stuffed"]);
    let listing = &catalogue.search("stuffed", &Filter::default(), (0, 1), NOW).0[0];
    let standing = listing.standing.as_ref().unwrap();
    assert_eq!((standing.payers, standing.paid_calls), (1, 501), "who pays itself is no payer");
}

#[test]
fn given_filters_when_a_page_is_asked_for_then_one_way_to_pay_has_all_of_them() {
    let mut catalogue = catalogue();
    let cheap = route("cheap", "x", &[]);
    cheap.paid(&mut catalogue, 7, NOW);
    let dear = route("dear", "x", &[]).with("/paymentPayload/accepted/amount", json!("20000"));
    dear.paid(&mut catalogue, 7, NOW);
    // The same route is sold for less on another network.
    dear.with("/paymentPayload/accepted/amount", json!("1"))
        .with("/paymentRequirements/network", json!("solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp"))
        .paid(&mut catalogue, 7, NOW);
    let names = |filter: Filter| {
        let (listings, total) = catalogue.page(&filter, 0, 10, NOW);
        assert_eq!(listings.len(), total);
        listings.iter().map(|listing| listing.resource.rsplit('/').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let some = |text: &str| Some(text.to_owned());
    let network = some("solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1");
    assert_eq!(names(Filter { max_amount: Some(500), ..Filter::default() }), ["cheap", "dear"]);
    assert_eq!(names(Filter { max_amount: Some(500), network, ..Filter::default() }), ["cheap"]);
    assert_eq!(names(Filter { scheme: some("@tallybook/channel"), ..Filter::default() }), [""; 0]);
    assert_eq!(names(Filter { pay_to: some(&payee(2)), ..Filter::default() }), [""; 0]);
    assert_eq!(names(Filter { asset: some("USDC"), pay_to: some(&payee(1)), ..Filter::default() }), ["cheap", "dear"]);
    assert_eq!(names(Filter { extension: some("bazaar"), kind: some("http"), ..Filter::default() }), ["cheap", "dear"]);
    assert_eq!(names(Filter { extension: some("other"), ..Filter::default() }), [""; 0]);
}

#[test]
fn given_pages_when_entries_are_paid_for_meanwhile_then_each_is_seen_once_in_its_place() {
    let mut catalogue = catalogue();
    let routes: Vec<Request> = (0..9).map(|number| route(&format!("r{number}"), "x", &[])).collect();
    for route in &routes {
        route.paid(&mut catalogue, 7, NOW);
    }
    let mut seen = Vec::new();
    for (at, paid) in [(0, 8), (4, 0), (8, 3)] {
        routes[paid].paid(&mut catalogue, 9, NOW);
        let (page, total) = catalogue.page(&Filter::default(), at, 4, NOW);
        assert_eq!(total, 9);
        seen.extend(page.into_iter().map(|listing| listing.resource));
    }
    let expected: Vec<String> = (0..9).map(|number| plain(&format!("r{number}"))).collect();
    assert_eq!(seen, expected);
    assert_eq!(catalogue.page(&Filter::default(), usize::MAX, 4, NOW).0.len(), 0);
    let (first, total) = catalogue.search("example", &Filter::default(), (0, 4), NOW);
    let (rest, _) = catalogue.search("example", &Filter::default(), (4, 100), NOW);
    assert_eq!((first.len(), rest.len(), total), (4, 5, 9));
}
