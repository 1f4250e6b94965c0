//! MCP and money, over the real thing: `tallybook mcp` as a process that an MCP client starts, and a server whose tools cost
//! something, on the local chain with a facilitator.
#![expect(clippy::indexing_slicing, reason = "a test says what it expects")]

mod desk;
mod http;
mod priced;
mod selling;
mod wallet;
