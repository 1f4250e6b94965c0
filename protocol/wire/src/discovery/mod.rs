//! The extension `bazaar` of x402: how a resource says what it is ([`Discoverable`]), how a facilitator lists what was paid
//! for ([`Listing`]), and why it lists something not ([`Unlisted`]).

mod declaration;
mod listing;
mod moment;
mod outcome;

pub use declaration::{BodyType, Discoverable, MAX_DECLARED_BYTES, MAX_TAGS, is_label, is_route_template};
pub use listing::{
    Cursor, Listing, ListingPage, ListingState, ListingStatus, MAX_LISTINGS, Offset, SearchPage, Standing,
};
pub use moment::iso_8601;
pub use outcome::{EXTENSION_RESPONSES, ExtensionResponses, ListingOutcome, Unlisted, UnlistedReason};

/// The name of the extension.
pub const BAZAAR: &str = "bazaar";
