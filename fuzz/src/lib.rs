//! What must hold of everything that reads bytes from outside.
//!
//! Each function takes bytes that an adversary has chosen, and panics where its property does not hold. The fuzz targets
//! search for such bytes; the test `properties` of the workspace above replays the corpus through the same functions, so
//! that a machine without a fuzzer guards what was found. The code under test is the real one: crates, or, where a crate
//! would bring a whole Solana client or HTTP stack with it, the very source file (`#[path]`).

mod accounts;
mod amounts;
mod claims;
mod deposits;
mod input;
mod json;
mod ledger;
mod payments;
mod rpc_answers;
mod store_rows;
pub(crate) mod voucher_file;

/// A property, by the name of its fuzz target and its corpus.
pub type Property = (&'static str, fn(&[u8]));

/// All of them.
pub const PROPERTIES: [Property; 11] = [
    ("headers", json::headers),
    ("bodies", json::bodies),
    ("amounts", amounts::amounts),
    ("accounts", accounts::accounts),
    ("claims", claims::claims),
    ("deposits", deposits::deposits),
    ("ledger", ledger::ledger),
    ("payments", payments::payments),
    ("rpc_answers", rpc_answers::rpc_answers),
    ("store_rows", store_rows::store_rows),
    ("voucher_file", voucher_file::voucher_file),
];

/// Runs the property of this name.
pub fn check(name: &str, data: &[u8]) {
    let (_, property) = PROPERTIES.iter().find(|(known, _)| *known == name).expect("a property has this name");
    property(data);
}
