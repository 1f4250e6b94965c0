//! The JSON and headers of x402 v2 and of the scheme `@tallybook/channel`, as types. No I/O.
//!
//! Parse, don't validate: a value of these types is well formed (keys are 32 bytes, amounts are decimal strings of
//! base units, a transaction fits its cap), so nothing downstream checks again. Every input has a cap
//! ([`MAX_HEADER_BYTES`], [`MAX_BODY_BYTES`]) and every failure is a [`Rejection`](tallybook_rules::Rejection). Members
//! that are not known are tolerated, as x402 asks, and kept where the other side compares an echo.
//!
//! Reading path: [`PaymentRequired`] (402) → [`PaymentPayload`] (the answer to it) → [`FacilitatorRequest`] and
//! [`VerifyResponse`], [`SettleResponse`] (resource server ⇄ facilitator) → [`Offer`] and the other views. What every scheme
//! has in common stands beside: [`Head`], [`Kind`], [`Verification`], [`Settlement`]; `exact` is [`ExactRequest`]. What a route
//! says of itself is a [`Discoverable`], what catalogues say of it a [`Listing`].
#![forbid(unsafe_code)]

mod administration;
mod audit;
mod bytes;
pub mod decimal;
mod discovery;
mod envelope;
mod exact;
mod facilitator;
mod forward;
mod identifier;
mod income;
mod kind;
mod network;
mod pages;
mod payment;
mod reason;
mod receipt;
mod requirements;
mod text;
mod views;

pub use administration::{AdministrationView, BackupView, PaidOut};
pub use audit::{Asked, AuditChain, AuditLine, BrokenRecord, MAX_AUDIT_LINE_BYTES, voucher_hash};
pub use bytes::{Key, MAX_TRANSACTION_BYTES, Signature, TransactionBytes};
pub use discovery::{
    BAZAAR, BodyType, Cursor, Discoverable, EXTENSION_RESPONSES, ExtensionResponses, Listing, ListingOutcome,
    ListingPage, ListingState, ListingStatus, MAX_DECLARED_BYTES, MAX_LISTINGS, MAX_TAGS, Offset, SearchPage, Standing,
    Unlisted, UnlistedReason, is_label, is_route_template, iso_8601,
};
pub use envelope::{
    MAX_BODY_BYTES, MAX_HEADER_BYTES, PAYMENT_METER, PAYMENT_REQUIRED, PAYMENT_RESPONSE, PAYMENT_SIGNATURE, body,
    header, read_body, read_header,
};
pub use exact::{
    EXACT, ExactExtra, ExactRequest, ExactTerms, MAX_SETTLEMENT_ID_BYTES, X_PAYMENT, X_PAYMENT_RESPONSE, v1_network,
    v1_requirements,
};
pub use facilitator::{
    AnswerExtra, FacilitatorRequest, KindExtra, ReleaseRequest, ReleaseResponse, SettleRequest, SettleResponse,
    VerifyRequest, VerifyResponse,
};
pub use forward::{
    ForwardRequest, ForwardResponse, ForwardedVoucher, MAX_FORWARDED, MAX_SOLD, Sold, Taken, VoucherLine,
};
pub use identifier::{PAYMENT_IDENTIFIER, PaymentIdentifier};
pub use income::{IncomeList, IncomeView, Spent};
pub use kind::{Head, Kind, Settlement, SupportedResponse, Verification};
pub use network::{Network, SCHEME, Scheme, Version};
pub use pages::{GrowRequest, GrowResponse};
pub use payment::{Channel, ChannelPayload, Deposit, PaymentPayload, Voucher};
pub use reason::{Reason, Refusal};
pub use receipt::{Format, MAX_STATEMENT_CHARS, OFFER_RECEIPT, OfferTerms, Receipt, ReceiptKey, Stated, Statement};
pub use requirements::{Accept, ChannelState, Extra, PaymentRequired, PaymentRequirements, ResourceInfo, VoucherState};
pub use views::{BatchList, BatchStatus, BatchView, ChannelStatus, ChannelView, Health, HealthStatus, Offer};
