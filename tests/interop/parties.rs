//! Who takes part, and in which version: read from the files that pin them.

use crate::process::{Program, folder};
use anyhow::{Context, Result};
use serde_json::Value;

/// A client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Client {
    pub(crate) name: &'static str,
    pub(crate) program: Program,
    pub(crate) version: Protocol,
    /// It prefers the second version where a server speaks both.
    pub(crate) knows_both: bool,
}

/// Where a server's routes are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Server {
    pub(crate) name: &'static str,
    /// The URL of a route that is paid for.
    pub(crate) url: String,
    pub(crate) version: Protocol,
    /// The same route answers in both versions.
    pub(crate) speaks_both: bool,
}

/// A version of x402.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Protocol {
    /// `X-PAYMENT`, a 402's body.
    V1,
    /// `PAYMENT-SIGNATURE`, a 402's header.
    V2,
}

impl Protocol {
    pub(crate) const fn number(self) -> u8 {
        match self {
            Self::V1 => 1,
            Self::V2 => 2,
        }
    }

    /// What a payment is sent in.
    pub(crate) const fn header(self) -> &'static str {
        match self {
            Self::V1 => "x-payment",
            Self::V2 => "payment-signature",
        }
    }
}

/// Clients that pay by `exact`.
pub(crate) const EXACT_CLIENTS: [Client; 9] = [
    both("@x402/fetch", Program::Node("client-fetch.mjs"), Protocol::V2),
    both("x402 (Python, httpx)", Program::Python("client_httpx.py"), Protocol::V2),
    both("x402 (Python, requests)", Program::Python("client_requests.py"), Protocol::V2),
    both("x402-reqwest", Program::Rust("pay"), Protocol::V2),
    Client {
        name: "x402-fetch",
        program: Program::Node("client-fetch-v1.mjs"),
        version: Protocol::V1,
        knows_both: false,
    },
    both("@x402/fetch", Program::Node("client-fetch.mjs"), Protocol::V1),
    both("x402 (Python, httpx)", Program::Python("client_httpx.py"), Protocol::V1),
    both("x402 (Python, requests)", Program::Python("client_requests.py"), Protocol::V1),
    both("x402-reqwest", Program::Rust("pay"), Protocol::V1),
];

const fn both(name: &'static str, program: Program, version: Protocol) -> Client {
    Client { name, program, version, knows_both: true }
}

/// The third parties by name, with what pins their version.
pub(crate) fn versions() -> Result<Vec<(String, String)>> {
    let at = folder();
    let read = |path: &str| std::fs::read_to_string(at.join(path)).with_context(|| path.to_owned());
    let npm: Value = serde_json::from_str(&read("typescript/package.json")?)?;
    let mut versions = Vec::new();
    for name in [
        "@x402/fetch",
        "@x402/svm",
        "@x402/express",
        "@x402/extensions",
        "x402-fetch",
        "x402-express",
        "@modelcontextprotocol/sdk",
    ] {
        let version = npm["dependencies"][name].as_str().with_context(|| format!("{name} is not pinned"))?;
        versions.push((format!("{name} (npm)"), version.to_owned()));
    }
    let pip = read("python/requirements.txt")?;
    for name in ["x402", "x402-conformance", "fastapi", "mcp"] {
        let line = pip.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix("=="));
        let version = line.and_then(|rest| rest.split_whitespace().next());
        versions.push((format!("{name} (PyPI)"), version.with_context(|| format!("{name} is not pinned"))?.to_owned()));
    }
    let lock = read("../../clients/x402/Cargo.lock")?;
    for name in ["x402-reqwest", "x402-axum", "x402-chain-solana"] {
        let line = lock.split(&format!("name = \"{name}\"\nversion = \"")).nth(1);
        let version = line.and_then(|rest| rest.split('"').next());
        versions
            .push((format!("{name} (crates)"), version.with_context(|| format!("{name} is not locked"))?.to_owned()));
    }
    Ok(versions)
}
