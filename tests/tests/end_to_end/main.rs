//! The whole, over real HTTP and a real JSON-RPC chain: agent, paywall, facilitator, program.
#![expect(clippy::indexing_slicing, reason = "a test says what it expects")]

mod chain;
mod command_line;
mod customer;
mod demo;
mod embedded;
mod examples;
mod finding;
mod growing;
mod leaving;
mod life;
mod operator;
mod own_channels;
mod races;
mod refusals;
mod streams;
mod traces;
mod treasury;
