//! What ran, as a page: every cell is a run of this test.

use crate::parties::versions;
use crate::process::folder;
use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeMap;
use std::fmt::Write;

/// What a third party needs that a reader would not expect: who, in which version, and what is done about it.
const NOTES: &[(&str, &str)] = &[
    (
        "@x402/fetch 2.27.0, x402 (Python) 2.25.0",
        "they pay in the stablecoins that they know, unless told otherwise: the token of a local chain is allowed by \
         `setSpendControls` and `set_spend_controls`.",
    ),
    (
        "x402-axum 2.0.2",
        "a 402 of version 1 says `\"mimeType\": null` unless the route names one, and x402-fetch 1.2.0 refuses that: \
         `with_mime_type`. Its receipts of version 1 are in `PAYMENT-RESPONSE` instead of `X-PAYMENT-RESPONSE`: read either.",
    ),
    (
        "x402-reqwest 2.0.2",
        "it reads a 402's header before its body, so that a client with schemes of version 1 alone finds no way to pay a server \
         that speaks both: register those of version 2 as well.",
    ),
    (
        "x402-reqwest, x402-axum 2.0.2",
        "their traits do not show a scheme the answers and failures that a channel needs to know of: `tallybook-x402` adds a \
         middleware below the one and a layer around the other, and its documentation says what is missing.",
    ),
    (
        "x402 (Python) 2.25.0, mcp 2.3.0",
        "x402's MCP client calls a session with one dictionary and reads results by the names of the wire; the SDK's session takes \
         arguments and returns models: a class of twenty lines stands between. There is no `@x402/mcp` on npm (2026-11).",
    ),
    (
        "x402-fetch, x402-express 1.2.0",
        "what they depend on installs with `viem` 2.55.0, which is pinned by an override.",
    ),
];

/// Who paid whom, by which scheme.
#[derive(Default, Debug)]
pub(crate) struct Matrix {
    /// By scheme; clients and servers in the order in which they came.
    schemes: Vec<(String, Grid)>,
    /// Who declares what, as it is listed.
    listings: Vec<(String, String)>,
    checks: Vec<(String, String, String)>,
    /// Clients of MCP, what they were used with, and what they did.
    hosts: Vec<(String, String, String)>,
    failures: Vec<String>,
}

#[derive(Default, Debug)]
struct Grid {
    clients: Vec<String>,
    servers: Vec<String>,
    works: BTreeMap<(String, String), &'static str>,
}

impl Matrix {
    /// Writes down how a cell went.
    pub(crate) fn note(&mut self, scheme: &str, client: &str, server: &str, outcome: Result<()>) {
        let cell = format!("{scheme}: {client} pays {server}");
        match &outcome {
            Ok(()) => eprintln!("ok      {cell}"),
            Err(error) => {
                eprintln!("FAILED  {cell}: {error:#}");
                self.failures.push(format!("{cell}: {error:#}"));
            }
        }
        self.mark(scheme, client, server, if outcome.is_ok() { "✓" } else { "✗" });
    }

    /// A pair that speaks the second version of x402 wherever it meets, which is a cell of its own.
    pub(crate) fn elsewhere(&mut self, scheme: &str, client: &str, server: &str) {
        self.mark(scheme, client, server, "v2");
    }

    fn mark(&mut self, scheme: &str, client: &str, server: &str, mark: &'static str) {
        let at = self.schemes.iter().position(|(name, _)| name == scheme).unwrap_or_else(|| {
            self.schemes.push((scheme.to_owned(), Grid::default()));
            self.schemes.len().saturating_sub(1)
        });
        let grid = &mut self.schemes[at].1;
        for (list, name) in [(&mut grid.clients, client), (&mut grid.servers, server)] {
            if !list.iter().any(|known| known == name) {
                list.push(name.to_owned());
            }
        }
        grid.works.insert((client.to_owned(), server.to_owned()), mark);
    }

    /// Writes down how a route that declares itself was listed.
    pub(crate) fn listed(&mut self, server: &str, path: &str, outcome: Result<()>) {
        match outcome {
            Ok(()) => eprintln!("ok      bazaar: {server} declares {path}"),
            Err(error) => {
                eprintln!("FAILED  bazaar: {server} declares {path}: {error:#}");
                self.failures.push(format!("bazaar: {server} declares {path}: {error:#}"));
            }
        }
        self.listings.push((server.to_owned(), path.to_owned()));
    }

    /// Writes down how a check of x402conf went.
    pub(crate) fn check(&mut self, mode: &str, what: &str, outcome: Result<String>) {
        match outcome {
            Ok(said) => {
                eprintln!("ok      x402conf {mode}: {what}: {said}");
                self.checks.push((mode.to_owned(), what.to_owned(), said));
            }
            Err(error) => {
                eprintln!("FAILED  x402conf {mode}: {what}: {error:#}");
                self.failures.push(format!("x402conf {mode} of the {what}: {error:#}"));
            }
        }
    }

    /// Writes down how a client of MCP got on.
    pub(crate) fn host(&mut self, client: &str, server: &str, outcome: Result<&str>) {
        match outcome {
            Ok(did) => {
                eprintln!("ok      {client} with {server}");
                self.hosts.push((client.to_owned(), server.to_owned(), did.to_owned()));
            }
            Err(error) => {
                eprintln!("FAILED  {client} with {server}: {error:#}");
                self.failures.push(format!("{client} with {server}: {error:#}"));
            }
        }
    }

    /// Fails with all that failed; else when the page that is committed says something else. `INTEROP_WRITE=1` writes it.
    pub(crate) fn finish(&self) -> Result<()> {
        ensure!(self.failures.is_empty(), "{} failed:\n{}", self.failures.len(), self.failures.join("\n"));
        let (page, at) = (self.page()?, folder().join("matrix.md"));
        if std::env::var_os("INTEROP_WRITE").is_some() {
            std::fs::write(&at, &page)?;
        }
        let committed = std::fs::read_to_string(&at).with_context(|| at.display().to_string())?;
        if committed != page {
            bail!("tests/interop/matrix.md is not what ran: look at the difference with INTEROP_WRITE=1.\n{page}");
        }
        Ok(())
    }

    fn page(&self) -> Result<String> {
        let mut page = String::from(
            "# Who pays whom\n\nWritten by `tests/interop/run.sh`. Every ✓ is a run over loopback on the real local chain: unpaid, \
             paid, sent again and underpaid, with the balances of payer, payee and sponsor compared to the base unit. `v2` is a \
             pair that speaks the newer version wherever it meets, which is a cell above.\n",
        );
        for (scheme, grid) in &self.schemes {
            write!(page, "\n## `{scheme}`\n\n| client \\ server |")?;
            for server in &grid.servers {
                write!(page, " {server} |")?;
            }
            write!(page, "\n|---|{}\n", ":-:|".repeat(grid.servers.len()))?;
            for client in &grid.clients {
                write!(page, "| {client} |")?;
                for server in &grid.servers {
                    let mark = grid.works.get(&(client.clone(), server.clone())).copied().unwrap_or("—");
                    write!(page, " {mark} |")?;
                }
                page.push('\n');
            }
        }
        page.push_str(
            "\n## `bazaar`\n\nNot listed by our facilitator before `@x402/fetch` has paid for it; then listed and found as \
             `withBazaar` of `@x402/extensions` reads it, and well formed by that package's own checks.\n\n\
             | declared by | listed as |\n|---|---|\n",
        );
        for (server, path) in &self.listings {
            writeln!(page, "| {server} | `{path}` |")?;
        }
        page.push_str("\n## MCP\n\n| client | server | does |\n|---|---|---|\n");
        for (client, server, did) in &self.hosts {
            writeln!(page, "| {client} | {server} | {did} |")?;
        }
        page.push_str("\n## `x402conf`\n\n| command | of | passed |\n|---|---|---|\n");
        for (mode, what, passed) in &self.checks {
            writeln!(page, "| `x402conf {mode}` | {what} | {passed} |")?;
        }
        page.push_str("\n## Notes\n\n");
        for (who, note) in NOTES {
            writeln!(page, "- **{who}**: {note}")?;
        }
        page.push_str("\n## Versions\n\n| package | version |\n|---|---|\n");
        for (name, version) in versions()? {
            writeln!(page, "| {name} | {version} |")?;
        }
        Ok(page)
    }
}
