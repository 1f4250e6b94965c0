//! How much acceptance costs beside the signature check that it cannot do without.
fn main() {}
