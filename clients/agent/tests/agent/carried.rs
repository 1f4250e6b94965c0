//! Payments that another client carries: here one that knows nothing of vouchers.

use crate::Scene;
use crate::seller::Fault;
use reqwest::{Client, Method, Response, header::HeaderMap};
use tallybook_agent::{AgentError, Answered, Payment};
use tallybook_rules::Amount;
use tallybook_wire::{PAYMENT_REQUIRED, PAYMENT_SIGNATURE, PaymentRequired, read_header};

/// A client of the seller's `/x`, and how many requests it has sent.
struct Carrier<'a> {
    scene: &'a Scene,
    http: Client,
}

/// How a call went: the status, and how many payments were carried.
type Outcome = Result<(u16, u32), AgentError>;

impl<'a> Carrier<'a> {
    fn new(scene: &'a Scene) -> Self {
        Self { scene, http: Client::new() }
    }

    fn url(&self) -> reqwest::Url {
        format!("{}/x", self.scene.seller.url).parse().unwrap()
    }

    async fn offer(&self) -> PaymentRequired {
        let unpaid = self.http.get(self.url()).send().await.unwrap();
        assert_eq!(unpaid.status(), 402);
        read_header(unpaid.headers()[PAYMENT_REQUIRED].as_bytes()).unwrap()
    }

    async fn pay(&self) -> Result<Payment<crate::world::Shared>, AgentError> {
        let required = self.offer().await;
        self.scene.agent.pay(Method::GET, self.url(), HeaderMap::new(), &required).await
    }

    async fn carry(&self) -> Outcome {
        let (mut payment, mut carried) = (self.pay().await?, 0);
        loop {
            carried += 1;
            let sent = self.http.get(self.url()).header(PAYMENT_SIGNATURE, payment.header()).send().await;
            let Ok(answer) = sent else {
                payment = payment.lost().await?;
                continue;
            };
            let status = answer.status().as_u16();
            match payment.answered(plain(answer).await).await? {
                Answered::Final(_) => return Ok((status, carried)),
                Answered::Again(next) => payment = *next,
            }
        }
    }
}

async fn plain(answer: Response) -> http::Response<Vec<u8>> {
    let mut plain = http::Response::builder().status(answer.status());
    *plain.headers_mut().unwrap() = answer.headers().clone();
    plain.body(answer.bytes().await.unwrap().into()).unwrap()
}

#[tokio::test]
async fn given_another_client_when_it_carries_payments_then_one_channel_pays_them_all() {
    let scene = Scene::usual().await;
    let carrier = Carrier::new(&scene);
    for _ in 0..3 {
        assert_eq!(carrier.carry().await.unwrap(), (200, 1));
    }
    assert_eq!((scene.seller.charged(), scene.seller.world.lock().deposits), (1_500, 1));
    assert_eq!(scene.agent.spent(), Amount::new(1_500));
    // And the agent's own calls go on from there
    scene.served().await;
    assert_eq!(scene.agent.spent(), Amount::new(2_000));
}

#[tokio::test]
async fn given_faults_when_payments_are_carried_then_they_are_corrected_as_the_agents_own() {
    for (fault, carried, spent) in [
        (Fault::Drop, 2, 1_000),
        (Fault::Gateway, 2, 1_000),
        (Fault::Busy, 2, 1_000),
        (Fault::Discount(100), 1, 900),
        (Fault::Broken, 1, 500),
    ] {
        let scene = Scene::usual().await;
        let carrier = Carrier::new(&scene);
        carrier.carry().await.unwrap();
        scene.seller.faults([fault]);
        let (_, payments) = carrier.carry().await.unwrap();
        assert_eq!(payments, carried, "{fault:?}");
        assert_eq!((scene.seller.charged(), scene.agent.spent().get()), (spent, spent), "{fault:?}");
    }
}

#[tokio::test]
async fn given_a_server_that_claims_too_much_when_carried_then_the_channel_is_given_up() {
    let scene = Scene::usual().await;
    let carrier = Carrier::new(&scene);
    carrier.carry().await.unwrap();
    scene.seller.faults([Fault::Claim(10_000)]);
    assert!(matches!(carrier.carry().await, Err(AgentError::Dishonest { .. })));
    assert_eq!(scene.signed(), 1_000);
}

#[tokio::test]
async fn given_a_payment_that_is_dropped_unanswered_when_the_next_call_is_made_then_the_channel_is_free_and_right() {
    // Given one that was never sent, and one that was served without the agent seeing it
    let scene = Scene::usual().await;
    let carrier = Carrier::new(&scene);
    carrier.carry().await.unwrap();
    drop(carrier.pay().await.unwrap());
    let payment = carrier.pay().await.unwrap();
    let sent = carrier.http.get(carrier.url()).header(PAYMENT_SIGNATURE, payment.header()).send().await.unwrap();
    assert_eq!(sent.status(), 200);
    drop(payment);
    // When the same call is carried, then it gets the answer that was paid for, and nothing is signed above that
    assert_eq!(carrier.carry().await.unwrap().0, 200);
    assert_eq!((scene.seller.charged(), scene.signed()), (1_000, 1_000));
    // And the next one pays from there, on the same channel
    assert_eq!(carrier.carry().await.unwrap().0, 200);
    assert_eq!((scene.seller.charged(), scene.agent.spent()), (1_500, Amount::new(1_500)));
    assert_eq!(scene.seller.world.lock().deposits, 1);
}

#[tokio::test]
async fn given_a_payment_that_was_not_sent_when_that_is_said_then_it_counts_against_no_budget() {
    let scene = Scene::with(crate::policy().budget_per_hour(Amount::new(1_000))).await;
    let carrier = Carrier::new(&scene);
    carrier.carry().await.unwrap();
    // Given a budget with room for one more call
    for _ in 0..3 {
        carrier.pay().await.unwrap().not_sent();
    }
    assert_eq!(carrier.carry().await.unwrap().0, 200);
    assert!(carrier.pay().await.is_err());
}

#[tokio::test]
async fn given_limits_when_a_payment_is_carried_then_they_hold() {
    let scene = Scene::usual().await;
    let carrier = Carrier::new(&scene);
    scene.seller.books().price = 1_001;
    assert!(matches!(carrier.pay().await, Err(AgentError::Policy(_))));
    assert_eq!(scene.signed(), 0);
}
