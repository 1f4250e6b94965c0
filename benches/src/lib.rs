//! The benches themselves stand in `benches/`; run them with `cargo measure`.
