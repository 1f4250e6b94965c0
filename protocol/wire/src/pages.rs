//! How a book gets its next page: the facilitator builds and pays, the book's operator looks at it and signs.

use crate::{Key, Signature, TransactionBytes};
use serde::{Deserialize, Serialize};

/// `POST /books/{book}/pages`: asks for the transaction that adds the next page; or, signed by the operator, hands it in.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct GrowRequest {
    /// The transaction of a former answer, signed by the book's operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transaction: Option<TransactionBytes>,
}

/// The answer of `POST /books/{book}/pages`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GrowResponse {
    /// The page that is added, or was.
    pub page: Key,
    /// Its index in the book.
    pub index: u32,
    /// Its slots.
    pub capacity: u8,
    /// To sign: [compute limit, compute price, add_page], paid by the sponsor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transaction: Option<TransactionBytes>,
    /// Confirmed: the transaction that added it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<Signature>,
}
