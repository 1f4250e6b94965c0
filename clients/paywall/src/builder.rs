use crate::answers::Answers;
use crate::error::PaywallError;
use crate::facilitator::Facilitator;
use crate::grow::Growth;
use crate::keeper::{Books, Keeper};
use crate::layer::ChargeLayer;
use crate::price::{Price, Pricing};
use crate::stream::Tabs;
use crate::vouchers::Vouchers;
use core::num::NonZeroU32;
use http::HeaderValue;
use http::request::Parts;
use solana_keypair::Keypair;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tallybook_rules::{Amount, Rejection};
use tallybook_wire::{ForwardedVoucher, Key, ReceiptKey};
use tokio::sync::Semaphore;
use url::Url;

/// What all routes behind one paywall share. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Paywall {
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) book: Key,
    pub(crate) keeper: Keeper,
    /// Streams under way.
    pub(crate) tabs: Tabs,
    /// How long a stream waits for the next part's voucher.
    pub(crate) stream_patience: Duration,
    pub(crate) growth: Growth,
    pub(crate) answers: Answers,
    pub(crate) vouchers: Option<Vouchers>,
    /// The resource server's key on chain; signs cooperative closes and nothing else.
    pub(crate) operator: Option<Keypair>,
    pub(crate) timeout_seconds: NonZeroU32,
    pub(crate) in_flight: Arc<Semaphore>,
    /// Where clients find the server, without a slash at its end; what they say of it where that is not told.
    pub(crate) base_url: Option<String>,
    /// Signs offers and receipts.
    pub(crate) receipts: Option<ReceiptKey>,
    /// How long a client may take to send a small body.
    pub(crate) body_patience: Duration,
    decimals: u8,
}

impl Shared {
    /// A decimal number of whole tokens in base units.
    pub(crate) fn amount(&self, text: &str) -> Option<Amount> {
        Amount::parse_decimal(text, self.decimals).ok()
    }
}

/// Without the operator's key.
impl core::fmt::Debug for Shared {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Shared").field("keeper", &self.keeper).finish_non_exhaustive()
    }
}

/// Settings of a [`Paywall`].
#[must_use]
pub struct PaywallBuilder {
    facilitator: String,
    book: String,
    access_token: Option<String>,
    operator: Option<Keypair>,
    vouchers: Keep,
    decimals: u8,
    timeout_seconds: NonZeroU32,
    patience: Duration,
    max_in_flight: usize,
    body_patience: Duration,
    answers: (usize, usize),
    base_url: Option<String>,
    receipts: Option<ReceiptKey>,
    stream_patience: Duration,
    max_pages: u32,
    #[cfg(feature = "embedded")]
    embedding: Option<crate::embedded::Embedding>,
}

/// Where the server's own copy of its newest vouchers is kept.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Keep {
    /// In the working directory, by the book's name; an embedded ledger is its own copy.
    ByDefault,
    In(PathBuf),
    Nowhere,
}

impl Paywall {
    /// A paywall whose vouchers the facilitator at this address keeps and settles, for the payee's `book` (base58).
    pub fn builder(facilitator: impl Into<String>, book: impl Into<String>) -> PaywallBuilder {
        PaywallBuilder {
            facilitator: facilitator.into(),
            book: book.into(),
            access_token: None,
            operator: None,
            vouchers: Keep::ByDefault,
            decimals: 6,
            timeout_seconds: const { NonZeroU32::new(60).unwrap() },
            patience: Duration::from_secs(5),
            max_in_flight: 1_024,
            body_patience: Duration::from_secs(10),
            answers: (1_024, 64 * 1_024),
            base_url: None,
            receipts: None,
            stream_patience: Duration::from_secs(20),
            max_pages: 0,
            #[cfg(feature = "embedded")]
            embedding: None,
        }
    }

    /// The layer that charges `price` for each call of a route, a decimal number of whole tokens: `"$0.0005"`.
    pub fn charge(&self, price: &str) -> Result<ChargeLayer, PaywallError> {
        self.charge_price(Price::Exactly(self.amount(price)?))
    }

    /// The layer that charges at most `ceiling` for each call of a route: the handler says by its
    /// [`Charge`](crate::Charge) what it really cost, by tokens, bytes, seconds or any measure.
    pub fn charge_up_to(&self, ceiling: &str) -> Result<ChargeLayer, PaywallError> {
        self.charge_price(Price::UpTo(self.amount(ceiling)?))
    }

    /// The layer of a route whose answers are streams, paid for as they come in parts of at most `part`: see
    /// [`Price::Streamed`].
    pub fn charge_stream(&self, part: &str) -> Result<ChargeLayer, PaywallError> {
        self.charge_price(Price::Streamed { part: self.amount(part)? })
    }

    /// The layer that charges a price, the same for each call. [`PaywallError::Free`] for a price of nothing.
    pub fn charge_price(&self, price: Price) -> Result<ChargeLayer, PaywallError> {
        if price.is_free() {
            return Err(PaywallError::Free);
        }
        Ok(ChargeLayer::new(self.clone(), Pricing::Fixed(price)))
    }

    /// The layer that asks `price` of each request what it costs, by everything but its body. The same request should
    /// cost the same again: a client that pays for it sends it a second time.
    pub fn charge_by(&self, price: impl Fn(&Parts) -> Price + Send + Sync + 'static) -> ChargeLayer {
        ChargeLayer::new(self.clone(), Pricing::PerRequest(Arc::new(price)))
    }

    /// A decimal number of whole tokens, `"$0.0005"`, in base units of the mint.
    pub fn amount(&self, text: &str) -> Result<Amount, PaywallError> {
        let decimals = self.shared.decimals;
        self.shared.amount(text).ok_or_else(|| PaywallError::Price { text: text.to_owned(), decimals })
    }

    /// The newest voucher of each channel that paid here with what is charged of it, as kept in the local file; nothing
    /// without one.
    pub fn newest_vouchers(&self) -> Vec<ForwardedVoucher> {
        self.shared.vouchers.as_ref().map(Vouchers::newest).unwrap_or_default()
    }
}

/// Without secrets.
impl core::fmt::Debug for PaywallBuilder {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("PaywallBuilder").field("book", &self.book).finish_non_exhaustive()
    }
}

impl PaywallBuilder {
    /// What the facilitator asks of resource servers: sent to it as a bearer token.
    pub fn access_token(mut self, token: impl Into<String>) -> Self {
        self.access_token = Some(token.into());
        self
    }

    /// The book's operator key: with it, clients can close their channels at once. Without it they wait for the grace
    /// period. It is used to sign refunds that were asked for by the payer, and nothing else.
    pub fn operator(mut self, operator: Keypair) -> Self {
        self.operator = Some(operator);
        self
    }

    /// Keeps the newest voucher of each channel in this file (JSON lines, 0600), made if it is not there: whoever holds
    /// it can claim, so that a facilitator that withholds vouchers withholds nothing. Written before each answer; synced
    /// to disk at most once a second, since the facilitator has the durable copy.
    ///
    /// Unless told otherwise it is `vouchers-BOOK.jsonl` in the working directory; an embedded ledger needs none.
    pub fn keep_vouchers_in(mut self, path: impl Into<PathBuf>) -> Self {
        self.vouchers = Keep::In(path.into());
        self
    }

    /// Keeps no copy of the vouchers: a facilitator that withholds them beyond the grace period of a channel that closes
    /// keeps the payee from what they are worth.
    pub fn keep_no_vouchers(mut self) -> Self {
        self.vouchers = Keep::Nowhere;
        self
    }

    /// Keeps a ledger of its own: no call asks anybody, and the facilitator is handed the vouchers in the background, to
    /// settle them. [`PaywallBuilder::build`] then has to be called within a Tokio runtime.
    #[cfg(feature = "embedded")]
    pub fn embed(mut self, embedding: crate::embedded::Embedding) -> Self {
        self.embedding = Some(embedding);
        self
    }

    /// Decimals of the mint, 6 unless told otherwise; an offer of another mint is refused.
    pub const fn decimals(mut self, decimals: u8) -> Self {
        self.decimals = decimals;
        self
    }

    /// How long a handler may take before its reservation ends, in seconds: 60 unless told otherwise.
    pub const fn timeout_seconds(mut self, seconds: NonZeroU32) -> Self {
        self.timeout_seconds = seconds;
        self
    }

    /// How long to wait for the facilitator's answer, 5 seconds unless told otherwise. (A deposit, which waits for the
    /// chain, is given ten times as long.)
    pub const fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// How many requests are in work at once, 1,024 unless told otherwise; more are refused with 503 at once.
    pub const fn max_in_flight(mut self, requests: usize) -> Self {
        self.max_in_flight = requests;
        self
    }

    /// How long a client may take to send a body that is kept for the call (see [`PaywallBuilder::keep_answers`]), 10 seconds
    /// unless told otherwise; then it is refused with 408, so that slow clients do not keep others out.
    pub const fn body_patience(mut self, patience: Duration) -> Self {
        self.body_patience = patience;
        self
    }

    /// How long a stream waits for the voucher of its next part, 20 seconds unless told otherwise; then it ends.
    pub const fn stream_patience(mut self, patience: Duration) -> Self {
        self.stream_patience = patience;
        self
    }

    /// Lets the book grow by itself up to so many pages, 0 (never) unless told otherwise: when it is nearly full, the
    /// facilitator proposes the next page at its own expense and the operator's key, which it needs, signs for it.
    pub const fn grow_to(mut self, pages: u32) -> Self {
        self.max_pages = pages;
        self
    }

    /// How many answers are kept for clients that lost theirs, and how large an answer (in bytes) is kept: 1,024 of at
    /// most 65,536 unless told otherwise. Larger and streamed answers go out uncopied, and are not kept.
    pub const fn keep_answers(mut self, count: usize, max_bytes: usize) -> Self {
        self.answers = (count, max_bytes);
        self
    }

    /// The address under which clients know this server, `https://api.example.com`: it stands before the path in what a 402
    /// and a receipt say is sold. Without it that is made of the request's `Host`, and `http`.
    pub fn base_url(mut self, url: impl Into<String>) -> Self {
        self.base_url = Some(url.into());
        self
    }

    /// Signs what a 402 offers, and a receipt for each call that was paid and served (x402, `offer-receipt`), which a client
    /// can keep and show. Use the key of the book's operator or payee: clients find those on chain. Nothing is signed unless
    /// told so; a signature takes about as long as checking a voucher.
    pub fn sign_receipts(mut self, key: ReceiptKey) -> Self {
        self.receipts = Some(key);
        self
    }

    /// Makes the paywall. Asks nobody yet: the facilitator is met with the first request.
    pub fn build(self) -> Result<Paywall, PaywallError> {
        let url = Url::parse(&self.facilitator)
            .ok()
            .filter(|url| url.has_host() && matches!(url.scheme(), "http" | "https"))
            .ok_or_else(|| PaywallError::Facilitator(self.facilitator.clone()))?;
        let book: Key = self.book.parse().map_err(|_: Rejection| PaywallError::Book(self.book.clone()))?;
        let vouchers = match self.vouchers_path(&book) {
            Some(path) => Some(Vouchers::open(&path).map_err(|source| PaywallError::Vouchers { path, source })?),
            None => None,
        };
        let base_url = self.base_url.map(|url| at_base(&url).ok_or(PaywallError::BaseUrl(url))).transpose()?;
        let authorization = match self.access_token {
            Some(token) => Some(bearer(&token).ok_or(PaywallError::Token)?),
            None => None,
        };
        let (count, max_bytes) = self.answers;
        let facilitator = Arc::new(Facilitator::new(url, book, self.decimals, self.patience, authorization)?);
        #[cfg(feature = "embedded")]
        let books = match self.embedding {
            Some(embedding) => {
                Books::Embedded(crate::embedded::Embedded::start(embedding, Arc::clone(&facilitator), book)?)
            }
            None => Books::Remote,
        };
        #[cfg(not(feature = "embedded"))]
        let books = Books::Remote;
        let shared = Shared {
            book,
            keeper: Keeper { facilitator, books },
            tabs: Tabs::default(),
            stream_patience: self.stream_patience,
            growth: Growth::up_to(self.max_pages),
            answers: Answers::new(count, max_bytes),
            vouchers,
            operator: self.operator,
            timeout_seconds: self.timeout_seconds,
            in_flight: Arc::new(Semaphore::new(self.max_in_flight)),
            body_patience: self.body_patience,
            base_url,
            receipts: self.receipts,
            decimals: self.decimals,
        };
        Ok(Paywall { shared: Arc::new(shared) })
    }
}

impl PaywallBuilder {
    fn vouchers_path(&self, book: &Key) -> Option<PathBuf> {
        #[cfg(feature = "embedded")]
        let is_embedded = self.embedding.is_some();
        #[cfg(not(feature = "embedded"))]
        let is_embedded = false;
        match &self.vouchers {
            Keep::In(path) => Some(path.clone()),
            Keep::ByDefault if !is_embedded => Some(format!("vouchers-{book}.jsonl").into()),
            Keep::ByDefault | Keep::Nowhere => None,
        }
    }
}

/// An address that paths can be put behind; none for anything but `http(s)://host`, with a path or not.
fn at_base(url: &str) -> Option<String> {
    let parsed = Url::parse(url).ok().filter(|url| url.has_host() && matches!(url.scheme(), "http" | "https"))?;
    let is_plain = parsed.query().is_none() && parsed.fragment().is_none() && parsed.username().is_empty();
    is_plain.then(|| url.trim_end_matches('/').to_owned())
}

/// The header of a bearer token, marked as not to be shown.
fn bearer(token: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(&format!("Bearer {token}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}
