use std::path::PathBuf;

/// Why a paywall could not be made. Each says which setting, and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PaywallError {
    /// The facilitator's address is none.
    #[error("the facilitator's address {0:?} is no URL: write it like http://127.0.0.1:4020")]
    Facilitator(String),
    /// The book's address is none.
    #[error("{0:?} is no book address: `tallybook book show` prints it in base58")]
    Book(String),
    /// The price is no decimal number of the mint.
    #[error("{text:?} is no price in a token of {decimals} decimals: write it like $0.0005")]
    Price {
        /// What was written.
        text: String,
        /// Of the mint.
        decimals: u8,
    },
    /// The price is zero: then leave the layer out.
    #[error("a price of nothing needs no paywall: leave the layer out")]
    Free,
    /// A route's declaration has a name, tag, path or tool that is none, or is too large.
    #[error(
        "the route's declaration cannot be listed ({0}): name and tags are up to 32 printable ASCII characters, at most five \
         tags, a path begins with `/`, and all of it fits into {max} bytes of JSON",
        max = tallybook_wire::MAX_DECLARED_BYTES
    )]
    Declaration(tallybook_rules::Rejection),
    /// The requirements of another scheme name no scheme or no network.
    #[error("the requirements of another scheme must name `scheme` and `network`, as they stand in `accepts`")]
    Requirements,
    /// The file of vouchers cannot be read or written.
    #[error(
        "cannot keep vouchers in {path}: {source}. Name a file in a folder that exists and is writable, by \
         keep_vouchers_in, or do without a copy of your own, by keep_no_vouchers"
    )]
    Vouchers {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The address under which clients know the server is none.
    #[error("{0:?} is no address of a server: write it like https://api.example.com")]
    BaseUrl(String),
    /// The access token is not made of visible characters.
    #[error("the facilitator's access token may hold visible ASCII characters only")]
    Token,
    /// The embedded ledger does not start.
    #[cfg(feature = "embedded")]
    #[error("the embedded ledger does not start: {0}")]
    Embedded(#[from] crate::embedded::EmbedError),
    /// The HTTP client could not be made.
    #[error("no HTTP client: {0}")]
    Http(#[from] reqwest::Error),
}
