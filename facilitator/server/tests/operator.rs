//! The operator's page: who sees it and who acts, what it shows, and that it takes nothing else for its own.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test says what it expects"
)]

mod house;

use house::{House, answer};
use reqwest::header::HeaderMap;
use reqwest::{Client, RequestBuilder, Response, redirect};
use serde_json::json;
use std::time::Duration;
use tallybook_facilitator::{Config, Token};
use tallybook_rules::Amount;
use tallybook_store::{SqliteStore, VoucherStore};
use tallybook_wire::{Asked, AuditChain, AuditLine, Key, VoucherLine};

const ADMIN: &str = "an-admin-token-of-many-chars";
const ACCESS: &str = "an-access-token-of-many-chars";
const PROXY: &str = "X-Auth-Request-Email";

fn administered(config: &mut Config) {
    config.admin_token = Some(Token::new(ADMIN));
    config.access_token = Some(Token::new(ACCESS));
    config.audit_log = Some(config.database.path().unwrap().with_file_name("audit.jsonl"));
}

fn behind_a_proxy(config: &mut Config) {
    config.operator.proxy_header = Some(PROXY.to_owned());
    config.operator.proxies = vec!["127.0.0.1".parse().unwrap()];
    config.operator.administrators = vec!["ada@example.com".to_owned()];
    config.operator.readers = vec!["<script>bob</script>".to_owned()];
    config.audit_log = Some(config.database.path().unwrap().with_file_name("audit.jsonl"));
    config.check().unwrap();
}

/// A browser without a will of its own: it follows no redirect, and keeps what it is told to.
struct Browser<'a> {
    house: &'a House,
    client: Client,
    headers: HeaderMap,
}

struct Seen {
    status: u16,
    headers: HeaderMap,
    text: String,
}

impl<'a> Browser<'a> {
    fn new(house: &'a House) -> Self {
        let client = Client::builder().redirect(redirect::Policy::none()).build().unwrap();
        Self { house, client, headers: HeaderMap::new() }
    }

    async fn signed_in(house: &'a House) -> Self {
        let mut browser = Self::new(house);
        let seen = browser.post("/operator/sign-in", &[("token", ADMIN)]).await;
        assert_eq!((seen.status, &seen.headers["location"]), (303, &"/operator".parse().unwrap()), "{}", seen.text);
        let cookie = seen.headers["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
        browser.headers.insert("cookie", cookie.parse().unwrap());
        browser
    }

    fn named(house: &'a House, name: &str) -> Self {
        let mut browser = Self::new(house);
        browser.headers.insert(PROXY, name.parse().unwrap());
        browser
    }

    async fn send(&self, request: RequestBuilder) -> Seen {
        let response: Response = request.headers(self.headers.clone()).send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Seen { status, headers, text: response.text().await.unwrap() }
    }

    async fn get(&self, path: &str) -> Seen {
        self.send(self.client.get(self.house.url(path))).await
    }

    async fn post(&self, path: &str, fields: &[(&str, &str)]) -> Seen {
        self.send(self.client.post(self.house.url(path)).form(fields)).await
    }

    /// What the forms that are shown to this visitor bear.
    async fn form(&self) -> String {
        let seen = self.get("/operator").await;
        let (_, rest) = seen.text.split_once("name=\"form\" value=\"").expect("a form");
        rest.split('"').next().unwrap().to_owned()
    }

    async fn act(&self, path: &str) -> Seen {
        self.post(path, &[("form", &self.form().await)]).await
    }

    /// The overview, once it shows a text.
    async fn overview_with(&self, text: &str) -> String {
        let shown = async {
            loop {
                let seen = self.get("/operator").await;
                if seen.text.contains(text) {
                    return seen.text;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), shown).await.unwrap_or_else(|_| panic!("{text} is never shown"))
    }
}

/// The base units of a figure of the overview.
fn figure(page: &str, name: &str) -> u64 {
    let (_, rest) = page.split_once(&format!("<dt>{name}</dt>")).unwrap_or_else(|| panic!("{name} in {page}"));
    let (_, rest) = rest.split_once("value=\"").unwrap();
    rest.split('"').next().unwrap().parse().unwrap()
}

async fn is_paused(house: &House) -> bool {
    let (_, view) = answer(house.http.get(house.url("/admin")).bearer_auth(ADMIN)).await;
    view["paused"].as_bool().unwrap()
}

/// The acts of a record, once there are so many.
async fn record(house: &House, lines: usize) -> Vec<AuditLine> {
    let path = house.config.audit_log.clone().unwrap();
    let text = async {
        loop {
            let text = std::fs::read_to_string(&path).unwrap();
            if text.lines().count() >= lines && text.ends_with('\n') {
                return text;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let text = tokio::time::timeout(Duration::from_secs(10), text).await.unwrap();
    let mut chain = AuditChain::default();
    text.lines().map(|line| chain.check(line).unwrap()).collect()
}

#[tokio::test]
async fn given_nobody_who_could_sign_in_when_the_page_is_asked_for_then_it_is_said_what_to_set_and_nothing_shown() {
    let house = House::new().await;
    let browser = Browser::new(&house);
    for path in ["/operator", "/operator/channels", "/operator/vouchers", "/operator/sign-in", "/operator/events"] {
        let seen = browser.get(path).await;
        assert_eq!(seen.status, 403, "{path}");
        assert!(seen.text.contains("no_administration") && seen.text.contains("admin_token"), "{}", seen.text);
    }
    assert_eq!(house.get("/").await.1["error"], json!("no_route"));
}

#[tokio::test]
async fn given_strangers_when_they_ask_for_anything_then_they_are_led_to_sign_in_and_see_no_figure() {
    let house = House::with(administered).await;
    house.http.get(house.url("/health")).send().await.unwrap();
    let browser = Browser::new(&house);
    assert_eq!(browser.get("/").await.headers["location"], "/operator");
    for path in ["/operator", "/operator/channels?q=a", "/operator/batches", "/operator/pages"] {
        let seen = browser.get(path).await;
        assert_eq!((seen.status, &seen.headers["location"]), (303, &"/operator/sign-in".parse().unwrap()), "{path}");
        assert!(seen.text.is_empty());
    }
    for path in ["/operator/events", "/operator/vouchers"] {
        assert_eq!(browser.get(path).await.status, 403, "{path}");
    }
    for token in ["", ACCESS, "an-admin-token-of-many-char", "an-admin-token-of-many-chars "] {
        let seen = browser.post("/operator/sign-in", &[("token", token)]).await;
        assert_eq!((seen.status, seen.headers.get("set-cookie")), (403, None), "{token}");
        assert!(seen.text.contains("That is not the admin token."), "{}", seen.text);
    }
    house.http.get(house.url("/admin")).bearer_auth(ACCESS).send().await.unwrap();
    house.http.get(house.url("/admin")).send().await.unwrap();
    let metrics = browser.get("/metrics").await.text;
    let wrong = metrics.lines().find_map(|line| line.strip_prefix("tallybook_wrong_admin_tokens_total "));
    // Other tests of this process guess, too.
    assert!(wrong.unwrap().parse::<u64>().unwrap() >= 5, "{wrong:?}");
    let mut guesser = Browser::new(&house);
    guesser.headers.insert("cookie", format!("tallybook_operator={}", "0".repeat(64)).parse().unwrap());
    assert_eq!(guesser.get("/operator").await.status, 303, "a session that nobody has begun");
}

#[tokio::test]
async fn given_the_admin_token_when_somebody_signs_in_then_a_guarded_cookie_opens_the_page_until_they_sign_out() {
    let house = House::with(administered).await;
    let secure = Browser::new(&house);
    let request = secure.client.post(house.url("/operator/sign-in")).form(&[("token", ADMIN)]);
    let seen = secure.send(request.header("x-forwarded-proto", "https")).await;
    let cookie = seen.headers["set-cookie"].to_str().unwrap();
    for part in ["; Path=/operator", "; HttpOnly", "; SameSite=Strict", "; Max-Age=28800", "; Secure"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    let browser = Browser::signed_in(&house).await;
    let seen = browser.get("/operator").await;
    assert_eq!((seen.status, seen.text.contains("Pause accepting")), (200, true));
    assert_eq!(seen.headers["cache-control"], "no-store");
    assert_eq!(browser.act("/operator/sign-out").await.status, 303);
    assert_eq!(browser.get("/operator").await.status, 303, "the very same cookie opens nothing any more");
    let told: Vec<Asked> = record(&house, 2).await.into_iter().map(|line| line.asked).collect();
    assert_eq!(told, [Asked::SignIn, Asked::SignIn]);
}

#[tokio::test]
async fn given_forms_that_were_not_made_for_who_sends_them_when_they_come_then_nothing_is_done() {
    let house = House::with(administered).await;
    let (browser, other) = (Browser::signed_in(&house).await, Browser::signed_in(&house).await);
    let own = browser.form().await;
    let others = other.form().await;
    assert_ne!(own, others);
    let acts = ["/operator/pause", "/operator/settle", "/operator/pay-out", "/operator/sign-out"];
    for act in acts {
        for form in ["", "00", others.as_str(), &own[1..]] {
            let seen = browser.post(act, &[("form", form)]).await;
            assert_eq!(seen.status, 403, "{act} with {form}");
            assert!(seen.text.contains("foreign_form"), "{}", seen.text);
        }
        let request = browser.client.post(house.url(act)).form(&[("form", &own)]);
        let seen = browser.send(request.header("sec-fetch-site", "cross-site")).await;
        assert_eq!((seen.status, seen.text.contains("foreign_form")), (403, true), "{act}");
    }
    let elsewhere = browser.client.get(house.url("/operator/vouchers")).header("sec-fetch-site", "cross-site");
    assert_eq!(browser.send(elsewhere).await.status, 403);
    let large = "x".repeat(5_000);
    let seen = browser.post("/operator/pause", &[("form", &large)]).await;
    assert_eq!((seen.status, seen.text.contains("request_too_large")), (413, true), "{}", seen.text);
    assert!(!is_paused(&house).await);
    assert_eq!(browser.get("/operator").await.status, 200, "and is signed in still");
}

#[tokio::test]
async fn given_an_administrator_when_they_act_then_it_is_done_told_and_recorded() {
    let house = House::with(administered).await;
    let browser = Browser::signed_in(&house).await;
    browser.overview_with("Taking payments").await;
    let seen = browser.act("/operator/pause").await;
    assert!(seen.status == 200 && seen.text.contains("<h1>Paused</h1>"), "{}", seen.text);
    assert!(is_paused(&house).await);
    let page = browser.get("/operator").await.text;
    assert!(page.contains("Paused by an administrator") && page.contains("Resume"), "shown at once: {page}");
    let seen = browser.act("/operator/resume").await;
    assert!(seen.text.contains("<h1>Resumed</h1>") && !is_paused(&house).await, "{}", seen.text);
    let seen = browser.act("/operator/settle").await;
    assert!(seen.text.contains("<h1>Settling</h1>"), "{}", seen.text);

    let form = browser.form().await;
    let seen = browser.post("/operator/pay-out", &[("form", &form), ("page", "nowhere")]).await;
    assert_eq!((seen.status, seen.text.contains("bad_question")), (400, true), "{}", seen.text);
    let unknown = Key([7; 32]).to_string();
    let seen = browser.post("/operator/pay-out", &[("form", &form), ("page", &unknown)]).await;
    assert_eq!((seen.status, seen.text.contains("unknown_page")), (404, true), "{}", seen.text);
    let page = house.chain.page_address.to_string();
    let seen = browser.post("/operator/pay-out", &[("form", &form), ("page", &page)]).await;
    assert!(seen.status == 200 && seen.text.contains("owes nothing"), "{}", seen.text);
    let told: Vec<_> = record(&house, 5).await.into_iter().map(|line| (line.asked, line.page, line.amount)).collect();
    let of = |asked| (asked, None, None);
    let paid = (Asked::PayOut, Some(Key(house.chain.page_address.to_bytes())), Some(Amount::ZERO));
    assert_eq!(told, [of(Asked::SignIn), of(Asked::Pause), of(Asked::Resume), of(Asked::SettleNow), paid]);
}

#[tokio::test]
async fn given_a_page_that_owes_when_it_cannot_pay_out_then_what_is_left_or_why_is_told_and_recorded() {
    let house = House::with(administered).await;
    house.chain.state.lock().unwrap().header.claimed_total = Amount::new(700);
    let page = house.chain.page_address;
    let url = house.url(&format!("/admin/pages/{page}/pay-out"));
    let (status, refusal) = answer(house.http.post(&url).bearer_auth(ACCESS)).await;
    assert_eq!((status, &refusal["error"]), (401, &json!("unauthorized")));
    let (status, told) = answer(house.http.post(&url).bearer_auth(ADMIN)).await;
    let expected = json!({"page": page.to_string(), "owed": "700", "left": "700", "transactions": []});
    assert_eq!((status, told), (200, expected), "its recipient has no account");
    house.chain.state.lock().unwrap().hides_several = true;
    let (status, refusal) = answer(house.http.post(&url).bearer_auth(ADMIN)).await;
    assert_eq!((status, &refusal["error"]), (503, &json!("chain_unavailable")), "{refusal}");
    let refused = |line: &AuditLine| line.refused.as_ref().map(|reason| reason.name().to_owned());
    let told: Vec<_> = record(&house, 2).await.iter().map(|line| (line.asked, line.amount, refused(line))).collect();
    let of = |refused: Option<&str>| (Asked::PayOut, Some(Amount::new(700)), refused.map(str::to_owned));
    assert_eq!(told, [of(None), of(Some("chain_unavailable"))]);
}

#[tokio::test]
async fn given_a_proxy_when_it_says_who_asks_then_each_may_what_the_configuration_says_and_others_nothing() {
    let house = House::with(behind_a_proxy).await;
    let administrator = Browser::named(&house, "ada@example.com");
    assert!(administrator.get("/operator").await.text.contains("ada@example.com"));
    assert_eq!(administrator.act("/operator/pause").await.status, 200);
    assert_eq!(record(&house, 1).await[0].by.as_deref(), Some("ada@example.com"));

    let reader = Browser::named(&house, "<script>bob</script>");
    let seen = reader.get("/operator").await;
    assert!(
        seen.text.contains("&lt;script&gt;bob&lt;/script&gt;") && !seen.text.contains("<script>bob"),
        "{}",
        seen.text
    );
    assert!(!seen.text.contains("Pause accepting") && !seen.text.contains("Export vouchers"));
    assert_eq!(reader.get("/operator/vouchers").await.status, 403);
    let form = administrator.post("/operator/resume", &[("form", &administrator.form().await)]).await;
    assert_eq!(form.status, 200);
    let seen = reader.post("/operator/pause", &[("form", "")]).await;
    assert!(seen.status == 403 && seen.text.contains("not_administrator"), "{}", seen.text);

    for stranger in ["", "eve@example.com", "ADA@example.com", "ada@example.com, eve@example.com"] {
        assert_eq!(Browser::named(&house, stranger).get("/operator").await.status, 303, "{stranger}");
    }
    let mut twice = Browser::named(&house, "ada@example.com");
    twice.headers.append(PROXY, "ada@example.com".parse().unwrap());
    assert_eq!(twice.get("/operator").await.status, 303, "one of the two may come from who asks");
    let mut handed_on = Browser::named(&house, "ada@example.com");
    handed_on.headers.insert("tallybook-handed-on", "1".parse().unwrap());
    assert_eq!(handed_on.get("/operator").await.status, 303, "whom another facilitator was asked by is not known");
}

#[tokio::test]
async fn given_a_header_from_somebody_who_is_not_the_proxy_when_it_names_an_administrator_then_it_is_not_believed() {
    let house = House::with(|config| {
        behind_a_proxy(config);
        config.operator.proxies = vec!["10.0.0.1".parse().unwrap()];
    })
    .await;
    assert_eq!(Browser::named(&house, "ada@example.com").get("/operator").await.status, 303);
}

#[tokio::test]
async fn given_that_anybody_reads_when_somebody_comes_then_they_see_and_do_not_act() {
    let house = House::with(|config| {
        administered(config);
        config.operator.anybody_reads = true;
    })
    .await;
    let browser = Browser::new(&house);
    let seen = browser.get("/operator").await;
    assert!(
        seen.status == 200 && seen.text.contains("/operator/sign-in") && !seen.text.contains("<form"),
        "{}",
        seen.text
    );
    assert_eq!(browser.get("/operator/vouchers").await.status, 403);
    assert_eq!(browser.post("/operator/pause", &[("form", "")]).await.status, 403);
    assert!(!is_paused(&house).await);
}

#[tokio::test]
async fn given_payments_when_the_overview_is_loaded_then_its_figures_are_the_ledgers_to_the_base_unit() {
    let house = House::with(|config| config.admin_token = Some(Token::new(ADMIN))).await;
    let browser = Browser::signed_in(&house).await;
    house.pay(0, 500, 500).await;
    house.pay(1, 1_234, 1_234).await;
    house.chain.request_close(1);
    let page = browser.overview_with("value=\"1734\"").await;
    let shown = ["Deposited", "Charged", "Settled", "Unclaimed", "In flight", "Owed"].map(|name| figure(&page, name));
    let mut sums = [0u64; 3];
    for slot in 0..2 {
        let id = Key(house.id(slot));
        let (_, view) = house.get(&format!("/channels/{id}")).await;
        for (sum, name) in sums.iter_mut().zip(["deposit", "charged", "settled"]) {
            *sum += view[name].as_str().unwrap().parse::<u64>().unwrap();
        }
    }
    assert_eq!(shown[..3], sums);
    assert_eq!((shown[3], shown[5]), (sums[1] - sums[2], 0));
    assert!(page.contains(">0.001734<") && page.contains("1,734 base units"), "{page}");
    let closing = browser.overview_with("Channels that close").await;
    assert!(closing.contains(&Key(house.id(1)).to_string()) && closing.contains("data-left=\"1900\""), "{closing}");
}

#[tokio::test]
async fn given_channels_when_they_are_searched_then_those_that_are_meant_are_found_and_bad_questions_refused() {
    let house = House::with(|config| config.admin_token = Some(Token::new(ADMIN))).await;
    let browser = Browser::signed_in(&house).await;
    house.pay(0, 500, 500).await;
    let [first, second] = [0, 1].map(|slot| Key(house.id(slot)).to_string());
    let payer = Key([51; 32]).to_string();
    let found = async |question: &str| {
        let seen = browser.get(&format!("/operator/channels?{question}")).await;
        assert_eq!(seen.status, 200, "{question}: {}", seen.text);
        [&first, &second].map(|id| seen.text.contains(&format!("title=\"{id}\"")))
    };
    assert_eq!(found("").await, [true, true]);
    assert_eq!(found(&format!("q={first}")).await, [true, false]);
    assert_eq!(found(&format!("q={}&state=open", &second[..8])).await, [false, true]);
    assert_eq!(found(&format!("q={}", &payer[..10])).await, [false, true]);
    assert_eq!(found(&format!("q={payer}")).await, [false, true]);
    assert_eq!(found("state=unclaimed").await, [true, false]);
    assert_eq!(found("state=closing").await, [false, false]);
    assert_eq!(found("q=zzzzzz").await, [false, false]);
    let page = house.chain.page_address;
    assert_eq!(found(&format!("after={page}.1")).await, [false, true], "looked on from the second slot");
    for bad in ["q=%3Cscript%3E", "state=gone", "after=1", "q=1&q=2", &format!("q={}", "1".repeat(65))] {
        let seen = browser.get(&format!("/operator/channels?{bad}")).await;
        assert_eq!((seen.status, seen.text.contains("bad_question")), (400, true), "{bad}: {}", seen.text);
        assert!(!seen.text.contains("<script>"), "{}", seen.text);
    }
    assert_eq!(browser.get("/operator/batches?before=x").await.status, 400);
}

#[tokio::test]
async fn given_vouchers_when_an_administrator_exports_them_then_they_are_those_of_the_store_line_by_line() {
    let house = House::with(administered_alone).await;
    house.pay(0, 500, 500).await;
    house.pay(0, 900, 400).await;
    house.pay(1, 100, 100).await;
    let url = house.url("/admin/vouchers");
    assert_eq!(house.http.get(&url).send().await.unwrap().status().as_u16(), 401);
    let response = house.http.get(&url).bearer_auth(ADMIN).send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "application/jsonl");
    let text = response.text().await.unwrap();
    let browser = Browser::signed_in(&house).await;
    assert_eq!(browser.get("/operator/vouchers").await.text, text);
    let mut lines: Vec<VoucherLine> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    lines.sort_by_key(|line| line.voucher.channel_id);
    assert!(
        text.ends_with('\n') && lines.iter().all(|line| line.book == Some(Key(house.chain.book_address.to_bytes())))
    );
    let (path, audit) = (house.config.database.path().unwrap().to_owned(), record(&house, 9).await);
    assert_eq!(audit.iter().filter(|line| line.asked == Asked::Export).count(), 2);
    house.facilitator.shutdown().await.unwrap();
    let stored = SqliteStore::open(&path).unwrap().load().unwrap().channels;
    let stored = stored.iter().map(|record| (record.voucher.into(), record.charged, Some(Key(record.place.page))));
    let exported = lines.iter().map(|line| (line.voucher, line.charged, line.page));
    assert_eq!(exported.collect::<Vec<_>>(), stored.collect::<Vec<_>>());
    assert_eq!(lines.iter().map(|line| line.due().get()).sum::<u64>(), 1_000);
}

fn administered_alone(config: &mut Config) {
    administered(config);
    config.access_token = None;
}

#[tokio::test]
async fn given_somebody_who_looks_when_something_is_paid_then_they_are_told_and_no_more_look_than_may() {
    let house = House::with(|config| {
        config.admin_token = Some(Token::new(ADMIN));
        config.operator.viewers = 1;
    })
    .await;
    let browser = Browser::signed_in(&house).await;
    let events =
        |browser: &Browser<'_>| browser.client.get(house.url("/operator/events")).headers(browser.headers.clone());
    let mut live = events(&browser).send().await.unwrap();
    assert_eq!((live.status().as_u16(), &live.headers()["content-type"]), (200, &"text/event-stream".parse().unwrap()));
    // Somebody who is let in is answered without end.
    let seen = tokio::time::timeout(Duration::from_secs(10), browser.send(events(&browser))).await.expect("an answer");
    let refused = "As many pages are live";
    assert_eq!((seen.status, seen.text.contains(refused)), (429, true), "{}", seen.text);
    house.pay(0, 777, 777).await;
    let told = async {
        let mut text = String::new();
        while !text.contains("value=\"777\"") {
            text.push_str(std::str::from_utf8(&live.chunk().await.unwrap().expect("it goes on")).unwrap());
        }
        text
    };
    let text = tokio::time::timeout(Duration::from_secs(20), told).await.unwrap();
    assert!(text.starts_with("event: pieces\ndata: <section"), "{}", &text[..200]);
    drop(live);
    let again = async {
        while events(&browser).send().await.unwrap().status() != 200 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), again).await.expect("the place is free again");
    // Somebody who looks does not keep the facilitator from ending.
    let live = events(&browser).send().await.unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(5), house.facilitator.shutdown()).await;
    ended.expect("it ends although somebody looks").unwrap();
    drop(live);
}

#[tokio::test]
async fn given_whatever_is_answered_when_a_browser_reads_it_then_it_may_load_nothing_from_elsewhere() {
    let house = House::with(administered).await;
    let browser = Browser::signed_in(&house).await;
    for path in
        ["/operator", "/operator/channels?q=%3C", "/operator/page.css", "/operator/page.js", "/operator/mark.svg"]
    {
        let seen = browser.get(path).await;
        let policy = seen.headers["content-security-policy"].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'; ") && !policy.contains("unsafe"), "{path}: {policy}");
        assert!(policy.contains("frame-ancestors 'none'") && seen.headers["x-content-type-options"] == "nosniff");
        assert!(!seen.text.contains(" style=") && !seen.text.contains("http://") || path.ends_with("svg"), "{path}");
    }
    let style = browser.get("/operator/page.css").await;
    let known = browser.client.get(house.url("/operator/page.css")).header("if-none-match", &style.headers["etag"]);
    let seen = browser.send(known).await;
    assert_eq!((seen.status, seen.text.is_empty()), (304, true));
}
