//! The whole, over real HTTP and a real JSON-RPC chain: agent, paywall, facilitator, program.
#![expect(missing_docs, reason = "a test crate has no readers of its pages")]

mod customer;
mod demo;
mod leaving;
mod life;
mod refusals;
