//! The seller's streams: each unit of a body costs a base unit, paid in parts at the seller's price.

use crate::seller::Seller;
use axum::body::{Body, Bytes};
use axum::response::Response;
use http_body::Frame;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tallybook_rules::signing::SignedVoucher;
use tallybook_rules::{Amount, Rejection};
use tallybook_wire::*;
use tokio::sync::mpsc;

/// A stream under way. Amounts are cumulative of its channel.
#[derive(Clone, Debug)]
pub struct Meter {
    pub channel: Key,
    /// Where it began, what was delivered, and what is paid for.
    pub start: u64,
    pub used: u64,
    pub signed: u64,
    /// The next part is asked for, from here on.
    pub asks_from: Option<u64>,
    pub ended: bool,
    pub overdue: bool,
}

/// How the seller streams.
#[derive(Clone, Debug)]
pub struct Plan {
    pub units: u64,
    pub pause: Duration,
    /// How long a voucher may take.
    pub patience: Duration,
    /// A part ends after so many units, though it is paid for more.
    pub part_ends_after: Option<u64>,
    /// What is added to the base that is asked from.
    pub lie: u64,
    /// Statuses that the next meter answers are lost to.
    pub lost: Vec<u16>,
    /// So many answers of the meter are that the facilitator is down.
    pub down: u32,
    /// A stream that is not paid any further ends with the reason alone.
    pub ends_without_receipt: bool,
    /// The end of the stream is forgotten.
    pub forgets: bool,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            units: 20,
            pause: Duration::from_millis(1),
            patience: Duration::from_millis(400),
            part_ends_after: None,
            lie: 0,
            lost: Vec::new(),
            down: 0,
            ends_without_receipt: false,
            forgets: false,
        }
    }
}

struct Chunks(mpsc::Receiver<Bytes>);

impl http_body::Body for Chunks {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|chunk| chunk.map(|bytes| Ok(Frame::data(bytes))))
    }
}

const NAME: &str = "0123456789abcdef0123456789abcdef";

impl Seller {
    /// The response to a paid request, and the task that delivers.
    pub fn stream(&self, voucher: &Voucher) -> Response {
        let start = self.books().channels[&voucher.channel_id].charged.get();
        let meter = Meter {
            channel: voucher.channel_id,
            start,
            used: 0,
            signed: voucher.max_claimable_amount.get(),
            asks_from: None,
            ended: false,
            overdue: false,
        };
        self.books().meter = Some(meter);
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(self.clone().deliver(sender));
        Response::builder().header(PAYMENT_METER, NAME).body(Body::new(Chunks(receiver))).unwrap()
    }

    async fn deliver(self, sender: mpsc::Sender<Bytes>) {
        let (plan, price) = {
            let books = self.books();
            (books.plan.clone(), books.price)
        };
        let mut in_part = 0;
        for _ in 0..plan.units {
            tokio::time::sleep(plan.pause).await;
            let length = plan.part_ends_after.unwrap_or(price);
            if in_part == length && !self.next_part(plan.part_ends_after.is_some(), plan.patience).await {
                break;
            }
            in_part = if in_part == length { 1 } else { in_part + 1 };
            if sender.send(Bytes::from_static(b"x")).await.is_err() {
                break;
            }
            let mut books = self.books();
            let meter = books.meter.as_mut().unwrap();
            meter.used += 1;
            if plan.part_ends_after.is_none() && in_part * 2 >= price && in_part < price {
                meter.asks_from = Some(meter.signed).filter(|_| meter.start + meter.used + price > meter.signed);
            }
        }
        let mut books = self.books();
        let meter = books.meter.as_mut().unwrap();
        meter.ended = true;
        let (id, charged) = (meter.channel, meter.start + meter.used);
        books.channels.get_mut(&id).unwrap().charged = Amount::new(charged);
        if books.plan.forgets {
            books.meter = None;
        }
    }

    /// The part is used up: waits for the voucher of the next.
    async fn next_part(&self, by_time: bool, patience: Duration) -> bool {
        let needed = {
            let mut books = self.books();
            let meter = books.meter.as_mut().unwrap();
            let now = meter.start + meter.used;
            if by_time {
                meter.asks_from = Some(now);
                meter.signed = now;
            }
            now
        };
        let waited = tokio::time::timeout(patience, async {
            while self.books().meter.as_ref().unwrap().signed <= needed {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        });
        let paid = waited.await.is_ok();
        self.books().meter.as_mut().unwrap().overdue = !paid;
        paid
    }

    /// The answer of the meter.
    pub async fn meter(&self, headers: http::HeaderMap) -> Response {
        assert_eq!(headers[PAYMENT_METER], NAME);
        if let Some(value) = headers.get(PAYMENT_SIGNATURE) {
            let payment: PaymentPayload = read_header(value.as_bytes()).unwrap();
            self.take(payment.payload.voucher());
        }
        for _ in 0..50 {
            let lost = self.books().plan.lost.pop();
            if let Some(status) = lost {
                return Response::builder().status(status).body(Body::empty()).unwrap();
            }
            if self.books().plan.down > 0 {
                self.books().plan.down -= 1;
                let (status, failed, _) = self.failed(503, Rejection::FacilitatorUnavailable);
                let value = header(&failed.unwrap()).unwrap();
                return Response::builder().status(status).header(PAYMENT_RESPONSE, value).body(Body::empty()).unwrap();
            }
            let Some(meter) = self.books().meter.clone() else {
                return Response::builder().status(410).body(Body::empty()).unwrap();
            };
            if meter.ended && meter.overdue && self.books().plan.ends_without_receipt {
                let (status, _, required) = self.required(Some(Rejection::PaymentOverdue), None);
                let value = header(&required.unwrap()).unwrap();
                return Response::builder().status(status).header(PAYMENT_REQUIRED, value).body(Body::empty()).unwrap();
            }
            if meter.ended {
                return self.over(&meter);
            }
            if let Some(base) = meter.asks_from {
                let (mut state, _) = self.state(meter.channel);
                state.charged_cumulative_amount = Amount::new(base + self.books().plan.lie);
                let (_, _, required) = self.required(None, Some((state, None)));
                let value = header(&required.unwrap()).unwrap();
                return Response::builder().status(402).header(PAYMENT_REQUIRED, value).body(Body::empty()).unwrap();
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Response::builder().status(204).body(Body::empty()).unwrap()
    }

    fn take(&self, voucher: &Voucher) {
        let mut books = self.books();
        books.vouchers.push(*voucher);
        let price = books.price;
        let Some(meter) = books.meter.as_mut() else { return };
        let cumulative = voucher.max_claimable_amount.get();
        if meter.asks_from.is_some_and(|base| base + price == cumulative) {
            meter.signed = cumulative;
            meter.asks_from = None;
            let id = meter.channel;
            let entry = books.channels.get_mut(&id).unwrap();
            let verified = SignedVoucher::from(*voucher).verify(&entry.signer).expect("the agent signs well");
            entry.newest = Some(*verified.voucher());
        }
    }

    fn over(&self, meter: &Meter) -> Response {
        let charged = Amount::new(meter.start + meter.used);
        let (status, receipt) = if meter.overdue {
            let (mut state, _) = self.state(meter.channel);
            state.charged_cumulative_amount = charged;
            let extra = AnswerExtra { channel_state: Some(state), ..AnswerExtra::default() };
            let failed = SettleResponse::Failed {
                reason: Rejection::PaymentOverdue.into(),
                transaction: None,
                network: Network::devnet(),
                payer: None,
                extra,
            };
            (402, failed)
        } else {
            let (_, settled, _) = self.settled(meter.channel, charged);
            (200, settled.unwrap())
        };
        let value = header(&receipt).unwrap();
        Response::builder().status(status).header(PAYMENT_RESPONSE, value).body(Body::empty()).unwrap()
    }
}
