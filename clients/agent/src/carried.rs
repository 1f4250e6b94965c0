//! Payments that something else carries: another HTTP client, which knows x402 already and sends its requests itself.

use crate::agent::Agent;
use crate::call::{Call, Next};
use crate::error::AgentError;
use crate::route::Route;
use crate::stream::Metered;
use http::{HeaderMap, HeaderValue, Method};
use reqwest::Request;
use std::fmt;
use tallybook_rpc::{Chain, RpcEndpoint};
use tallybook_wire::{PaymentPayload, PaymentRequired, header};
use url::Url;

/// The payment of one call that something else sends. It holds its channel until [`Self::answered`] is done with it or it is
/// dropped.
///
/// Everything that [`Agent::execute`] does besides sending is done here too: the limits, the approval, the channel and its
/// journal, the corrections. Send the call again with what [`Answered::Again`] holds until it is [`Answered::Final`]:
///
/// ```no_run
/// use tallybook_agent::{Agent, AgentError, Answered};
/// use tallybook_wire::{PAYMENT_SIGNATURE, PaymentRequired};
/// # async fn send(_: http::HeaderName, _: &http::HeaderValue) -> Result<http::Response<Vec<u8>>, std::io::Error> { Ok(http::Response::new(Vec::new())) }
/// # async fn example(agent: Agent, required: PaymentRequired) -> Result<(), Box<dyn std::error::Error>> {
/// let url = "https://api.example.com/weather".parse()?;
/// let mut payment = agent.pay(http::Method::GET, url, http::HeaderMap::new(), &required).await?;
/// let answer = loop {
///     let Ok(answer) = send(PAYMENT_SIGNATURE, payment.header()).await else {
///         payment = payment.lost().await?;
///         continue;
///     };
///     match payment.answered(answer.clone()).await? {
///         Answered::Final(_) => break answer.into_body(),
///         Answered::Again(next) => payment = *next,
///     }
/// };
/// # drop(answer); Ok(()) }
/// ```
///
/// Dropped without an answer, the call counts as one that may have been charged, and the next one on its channel finds out.
pub struct Payment<C = RpcEndpoint> {
    call: Call<C>,
    payload: PaymentPayload,
    header: HeaderValue,
}

/// What an answer means for a [`Payment`].
#[derive(Debug)]
pub enum Answered<C = RpcEndpoint> {
    /// The call is over. Where the answer is a stream that is paid for as it comes, this is its meter, which pays on by itself
    /// (with an HTTP client of its own) until the body ends.
    Final(Option<Metered>),
    /// The server wants another payment, or the same once more: send the call again with this one.
    Again(Box<Payment<C>>),
}

impl<C> fmt::Debug for Payment<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Payment").field("route", &self.call.route).finish_non_exhaustive()
    }
}

impl<C: Chain> Agent<C> {
    /// Pays for a call that was answered with the 402 `required`, and that something else sends again. The `headers` of the
    /// call are what a stream's meter is asked with too. Nothing is sent here.
    pub async fn pay(
        &self,
        method: Method,
        url: Url,
        headers: HeaderMap,
        required: &PaymentRequired,
    ) -> Result<Payment<C>, AgentError> {
        let mut request = Request::new(method, url);
        *request.headers_mut() = headers;
        let route = Route::of(&request)?;
        let offer = self.shared.learn(&route, required)?;
        let mut call = Call::new(&self.shared, request, route, offer, None).await?;
        // Its offer is as fresh as it gets, and only the carrier could ask for another one.
        call.asked_afresh = true;
        Payment::next(call).await
    }
}

impl<C: Chain> Payment<C> {
    /// What goes into the header `PAYMENT-SIGNATURE`.
    pub const fn header(&self) -> &HeaderValue {
        &self.header
    }

    /// The same, for transports other than HTTP.
    pub const fn payload(&self) -> &PaymentPayload {
        &self.payload
    }

    /// Looks at the answer to the call. Of a 402 the body is read where its header is missing; of any other answer it may be
    /// left out. An error means that the call is over, and says whether it may have been charged.
    pub async fn answered(mut self, answer: http::Response<Vec<u8>>) -> Result<Answered<C>, AgentError> {
        match self.call.look_at(answer.into()).await {
            Ok(Next::Again(wait)) => {
                tokio::time::sleep(wait).await;
                Self::next(self.call).await.map(|next| Answered::Again(Box::new(next)))
            }
            Ok(Next::Return(response)) => {
                self.call.close_books();
                Ok(Answered::Final(Metered::of(&response)))
            }
            Err(error) => {
                self.call.close_books();
                Err(error)
            }
        }
    }

    /// No answer came, though the call may have arrived: the same payment once more, which is charged once.
    pub async fn lost(mut self) -> Result<Self, AgentError> {
        self.call.mark_unseen();
        tokio::time::sleep(self.call.backoff()).await;
        Self::next(self.call).await
    }

    /// The call was certainly not sent: nothing can have been charged.
    pub fn not_sent(mut self) {
        self.call.close_books();
    }

    async fn next(mut call: Call<C>) -> Result<Self, AgentError> {
        let payment = call.next_payment().await.and_then(|payload| {
            let header = header(&payload).map_err(AgentError::Unreadable)?;
            Ok((payload, header))
        });
        match payment {
            Ok((payload, header)) => Ok(Self { call, payload, header }),
            Err(error) => {
                call.close_books();
                Err(error)
            }
        }
    }
}
