//! `tallybook pay`: like curl, but it pays.

use crate::say;
use crate::wallet::{Limits, OpenWallet, Wallet};
use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Method, Request};
use std::io::{IsTerminal, Read, Write};
use tallybook_agent::receipt;
use tallybook_wire::SettleResponse;
use url::Url;

/// The largest body that is sent, in bytes.
const MAX_DATA_BYTES: u64 = 16 << 20;

/// Arguments of `tallybook pay`.
#[derive(Args, Debug)]
pub struct Pay {
    #[command(flatten)]
    wallet: Wallet,
    #[command(flatten)]
    limits: Limits,
    /// What to ask for.
    url: Url,
    /// The method [default: GET, or POST with --data].
    #[arg(short = 'X', long = "request")]
    method: Option<Method>,
    /// Send this body; @FILE for a file's, @- for standard input's.
    #[arg(short, long)]
    data: Option<String>,
    /// Send this header, `Name: value`; may be repeated.
    #[arg(short = 'H', long = "header", value_parser = header)]
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Pay {
    /// Prints the answer's body to standard output and a line about the payment to standard error.
    pub async fn run(self) -> Result<()> {
        let host = self.url.host_str().context("the URL names no host")?;
        let wallet = self.wallet.open(Some(&self.limits), Some(host)).await?;
        let mut response = wallet.agent.execute(self.request()?).await?;
        let (status, receipt) = (response.status(), receipt(response.headers()));
        let mut out = std::io::stdout().lock();
        while let Some(chunk) = response.chunk().await? {
            out.write_all(&chunk)?;
        }
        if out.is_terminal() {
            writeln!(out)?;
        }
        out.flush()?;
        match &receipt {
            Some(receipt) => say(format_args!("{}", wallet.describe(receipt))),
            None => say(format_args!("paid nothing: the answer carries no receipt")),
        }
        ensure!(status.is_success(), "the server answered {status}");
        Ok(())
    }

    fn request(&self) -> Result<Request> {
        let method = match (&self.method, &self.data) {
            (Some(method), _) => method.clone(),
            (None, Some(_)) => Method::POST,
            (None, None) => Method::GET,
        };
        let mut request = Client::new().request(method, self.url.clone());
        if let Some(data) = &self.data {
            request = request.body(body(data)?);
        }
        let headers: HeaderMap = self.headers.iter().cloned().collect();
        Ok(request.headers(headers).build()?)
    }
}

impl OpenWallet {
    /// A receipt as a line.
    fn describe(&self, receipt: &SettleResponse) -> String {
        let show = |amount: tallybook_rules::Amount| amount.decimal(self.decimals).to_string();
        match receipt {
            SettleResponse::Failed { reason, .. } => format!("not paid: {reason}"),
            SettleResponse::Settled { extra, .. } => {
                let paid = extra.charged_amount.map_or_else(|| "an unknown amount".to_owned(), show);
                let channel = extra.channel_state.map(|state| {
                    let (used, of) = (show(state.charged_cumulative_amount), show(state.balance));
                    format!("; channel {} has used {used} of {of}", state.channel_id)
                });
                format!("paid {paid}{}", channel.unwrap_or_default())
            }
        }
    }
}

fn body(data: &str) -> Result<Vec<u8>> {
    let read = |from: &mut dyn Read| -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        from.take(MAX_DATA_BYTES.saturating_add(1)).read_to_end(&mut bytes)?;
        let length = u64::try_from(bytes.len())?;
        ensure!(length <= MAX_DATA_BYTES, "a body is at most {MAX_DATA_BYTES} bytes");
        Ok(bytes)
    };
    match data.strip_prefix('@') {
        None => Ok(data.as_bytes().to_vec()),
        Some("-") => read(&mut std::io::stdin().lock()),
        Some(path) => {
            let mut file = std::fs::File::open(path).with_context(|| format!("cannot read {path}"))?;
            read(&mut file)
        }
    }
}

fn header(text: &str) -> Result<(HeaderName, HeaderValue)> {
    let Some((name, value)) = text.split_once(':') else {
        bail!("write a header as `Name: value`");
    };
    Ok((name.trim().parse()?, value.trim().parse()?))
}
