//! `tallybook pay`: like curl, but it pays.
//!
//! The answer's body is what standard output carries, byte for byte; what was paid is said on standard error.

use crate::output::{HttpFailure, Money, Output};
use crate::wallet::{Limits, Wallet};
use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Method, Request, Response, StatusCode};
use serde::Serialize;
use std::fmt;
use std::fs::File;
use std::io::{IsTerminal, Read, Write};
use std::path::PathBuf;
use tallybook_agent::{Metered, StreamEnd, receipt};
use tallybook_wire::{AnswerExtra, SettleResponse};
use url::Url;

/// The largest body that is sent, in bytes.
const MAX_DATA_BYTES: u64 = 16 << 20;
/// What curl says that `--data` is, unless told otherwise.
const FORM: HeaderValue = HeaderValue::from_static("application/x-www-form-urlencoded");

/// Arguments of `tallybook pay`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    tallybook pay https://api.example.com/weather --max-price 0.001 --budget 5\n  \
    tallybook pay http://127.0.0.1:8403/facts -d 'to pay or not to pay'\n  \
    tallybook pay https://api.example.com/ask -H 'Content-Type: application/json' -d @question.json -o answer.json\n\n\
    Exit status: 0 answered; 3 your limits forbid the payment; 4 it cannot be paid, or the server refuses; 5 it may have\n\
    been charged, but the answer was lost; 6 nobody answered, nothing was paid; 22 the server answered with an error\n\
    status (its body was printed all the same, unless --fail); 1 anything else; 2 the command line is wrong.")]
pub struct Pay {
    /// What to ask for.
    url: String,
    /// The method [default: GET, or POST with --data].
    #[arg(short = 'X', long = "request", value_name = "METHOD")]
    method: Option<Method>,
    /// Send this body; @FILE for a file's, @- for standard input's. Several are joined with `&`, as forms are.
    #[arg(short, long)]
    data: Vec<String>,
    /// Send this header, `Name: value`; may be repeated.
    #[arg(short = 'H', long = "header", value_name = "HEADER")]
    headers: Vec<String>,
    /// Write the body to this file.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Print the answer's status and headers before its body.
    #[arg(short, long)]
    include: bool,
    /// Do not say what was paid.
    #[arg(short, long)]
    silent: bool,
    /// Print no body when the server answers with an error status.
    #[arg(short, long)]
    fail: bool,
    #[command(flatten)]
    limits: Limits,
    #[command(flatten)]
    wallet: Wallet,
}

/// What `tallybook pay` says of the payment.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PayReport {
    /// The answer's HTTP status.
    pub status: u16,
    /// Whether it was paid for.
    pub outcome: PayOutcome,
    /// What the call cost.
    pub charged: Option<Money>,
    /// The channel that paid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
    /// What calls on that channel cost so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channel_charged: Option<Money>,
    /// What the channel can pay in all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channel_deposit: Option<Money>,
    /// Why it was not paid, by name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Why a stream ended early, where it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended: Option<String>,
    #[serde(skip)]
    advice: Option<String>,
}

/// Whether a call was paid for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum PayOutcome {
    /// It was.
    Paid,
    /// The answer carries no receipt: nothing was charged as far as is known.
    NoReceipt,
    /// The server refuses the payment.
    Refused,
}

impl Pay {
    /// Prints the answer's body to standard output and a line about the payment to standard error.
    pub async fn run(self, output: Output) -> Result<()> {
        let url = url(&self.url)?;
        let host = url.host_str().context("the URL names no host: write it like https://api.example.com/weather")?;
        let request = self.request(url.clone())?;
        let wallet = self.wallet.open(Some(&self.limits), Some(host)).await?;
        let response = wallet.agent.execute(request).await.map_err(|error| wallet.told(error))?;
        let status = response.status();
        let mut report = PayReport::of(status, response.headers(), wallet.decimals);
        let metered = Metered::of(&response);
        let passed_on = self.pass_on(response).await;
        if let Some(metered) = metered {
            report.end(&metered.ended().await, wallet.decimals);
        }
        wallet.agent.shutdown().await.map_err(|error| wallet.told(error))?;
        // Said also when the answer broke off: it was paid for all the same.
        if !self.silent {
            match self.output {
                Some(_) if output == Output::Json => output.report(&report)?,
                _ => output.report_aside(&report)?,
            }
        }
        passed_on?;
        if status.is_success() { Ok(()) } else { Err(HttpFailure(status).into()) }
    }

    fn request(&self, url: Url) -> Result<Request> {
        let method = match &self.method {
            Some(method) => method.clone(),
            None if self.data.is_empty() => Method::GET,
            None => Method::POST,
        };
        let mut headers = HeaderMap::new();
        for text in &self.headers {
            let (name, value) = header(text)?;
            headers.append(name, value);
        }
        let mut request = Client::new().request(method, url);
        if !self.data.is_empty() {
            headers.entry(CONTENT_TYPE).or_insert(FORM);
            request = request.body(body(&self.data)?);
        }
        Ok(request.headers(headers).build()?)
    }

    /// Writes the answer where it is wanted, as it comes.
    async fn pass_on(&self, mut response: Response) -> Result<()> {
        let mut out: Box<dyn Write> = match &self.output {
            Some(path) => Box::new(File::create(path).with_context(|| format!("cannot write {}", path.display()))?),
            None => Box::new(std::io::stdout()),
        };
        if self.include {
            write_head(&mut out, &response)?;
        }
        let status = response.status();
        if self.fail && (status.is_client_error() || status.is_server_error()) {
            return Ok(out.flush()?);
        }
        let mut last = b'\n';
        while let Some(chunk) = response.chunk().await.context("the answer broke off; it was paid for as said above")? {
            out.write_all(&chunk)?;
            // A stream is to be seen as it comes.
            out.flush()?;
            last = chunk.last().copied().unwrap_or(last);
        }
        if last != b'\n' && self.output.is_none() && std::io::stdout().is_terminal() {
            writeln!(out)?;
        }
        Ok(out.flush()?)
    }
}

impl PayReport {
    fn of(status: StatusCode, headers: &HeaderMap, decimals: u8) -> Self {
        let mut report = Self {
            status: status.as_u16(),
            outcome: PayOutcome::NoReceipt,
            charged: None,
            channel: None,
            channel_charged: None,
            channel_deposit: None,
            reason: None,
            ended: None,
            advice: None,
        };
        match receipt(headers) {
            None => {}
            Some(SettleResponse::Failed { reason, .. }) => {
                report.outcome = PayOutcome::Refused;
                report.reason = Some(reason.name().to_owned());
                report.advice = Some(reason.advice().to_owned());
            }
            Some(SettleResponse::Settled { extra, .. }) => report.add(&extra, decimals),
        }
        report
    }

    /// What became of a stream that was paid for as it came.
    fn end(&mut self, end: &StreamEnd, decimals: u8) {
        self.outcome = PayOutcome::Paid;
        self.charged = end.charged.map(|amount| Money::new(amount, decimals));
        self.reason = end.reason.as_ref().map(|reason| reason.name().to_owned());
        self.ended = end.declined.clone().or_else(|| end.reason.as_ref().map(|reason| reason.advice().to_owned()));
    }

    fn add(&mut self, extra: &AnswerExtra, decimals: u8) {
        self.outcome = PayOutcome::Paid;
        self.charged = extra.charged_amount.map(|amount| Money::new(amount, decimals));
        if let Some(state) = extra.channel_state {
            self.channel = Some(state.channel_id.to_string());
            self.channel_charged = Some(Money::new(state.charged_cumulative_amount, decimals));
            self.channel_deposit = Some(Money::new(state.balance, decimals));
        }
    }
}

impl fmt::Display for PayReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.outcome {
            PayOutcome::NoReceipt => return f.write_str("paid nothing: the answer carries no receipt"),
            PayOutcome::Refused => {
                let reason = self.reason.as_deref().unwrap_or("no reason given");
                return write!(f, "not paid: {reason}. {}", self.advice.as_deref().unwrap_or_default());
            }
            PayOutcome::Paid => {}
        }
        match self.charged {
            Some(charged) => write!(f, "paid {charged}")?,
            None => f.write_str("paid an unknown amount")?,
        }
        if let Some(ended) = &self.ended {
            write!(f, "; the stream ended early: {ended}")?;
        }
        match (&self.channel, self.channel_charged, self.channel_deposit) {
            (Some(channel), Some(used), Some(of)) => write!(f, "; channel {channel} has used {used} of {of}"),
            _ => Ok(()),
        }
    }
}

/// The URL; what is wrong with it is said without it, since it may carry a secret.
fn url(text: &str) -> Result<Url> {
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
    url.context("that is no URL to ask: write it with its scheme, like https://api.example.com/weather")
}

fn write_head(out: &mut impl Write, response: &Response) -> Result<()> {
    write!(out, "{:?} {}\r\n", response.version(), response.status())?;
    for (name, value) in response.headers() {
        write!(out, "{name}: ")?;
        out.write_all(value.as_bytes())?;
        out.write_all(b"\r\n")?;
    }
    Ok(out.write_all(b"\r\n")?)
}

fn body(data: &[String]) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    for (at, part) in data.iter().enumerate() {
        if at > 0 {
            body.push(b'&');
        }
        match part.strip_prefix('@') {
            None => body.extend_from_slice(part.as_bytes()),
            Some("-") => read(&mut std::io::stdin().lock(), &mut body)?,
            Some(path) => {
                let mut file = File::open(path).with_context(|| format!("cannot read {path}, named by --data"))?;
                read(&mut file, &mut body)?;
            }
        }
    }
    let length = u64::try_from(body.len())?;
    ensure!(length <= MAX_DATA_BYTES, "a body is at most {MAX_DATA_BYTES} bytes: send less");
    Ok(body)
}

fn read(from: &mut dyn Read, into: &mut Vec<u8>) -> Result<()> {
    from.take(MAX_DATA_BYTES.saturating_add(1)).read_to_end(into)?;
    Ok(())
}

/// A header; what is wrong with it is said without its value, which may be a secret.
fn header(text: &str) -> Result<(HeaderName, HeaderValue)> {
    let Some((name, value)) = text.split_once(':') else {
        bail!("a --header has no colon: write it as 'Name: value'");
    };
    let name: HeaderName = name.trim().parse().ok().context("a --header has a name that no header can have")?;
    let mut value: HeaderValue = value
        .trim()
        .parse()
        .ok()
        .with_context(|| format!("the --header {name} has characters that no header can have"))?;
    value.set_sensitive(true);
    Ok((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Cli;
    use clap::Parser;

    fn pay(arguments: &[&str]) -> Pay {
        let command = ["tallybook", "pay", "http://127.0.0.1:1/x"].iter().chain(arguments);
        let crate::Command::Pay(pay) = Cli::try_parse_from(command).unwrap().command else {
            panic!("another command");
        };
        *pay
    }

    fn request(arguments: &[&str]) -> Result<Request> {
        let pay = pay(arguments);
        pay.request(url(&pay.url)?)
    }

    #[test]
    fn given_the_options_of_curl_then_the_request_is_curls() {
        let get = request(&[]).unwrap();
        assert_eq!((get.method(), get.headers().len()), (&Method::GET, 0));

        let form = request(&["-d", "a=1", "-d", "b=2"]).unwrap();
        assert_eq!((form.method(), &form.headers()[CONTENT_TYPE]), (&Method::POST, &FORM));
        assert_eq!(form.body().unwrap().as_bytes(), Some(b"a=1&b=2".as_slice()));

        let put = request(&["-X", "PUT", "-H", "content-type: text/plain", "-H", "X-A: 1", "-d", "x"]).unwrap();
        assert_eq!(
            (put.method(), &put.headers()[CONTENT_TYPE]),
            (&Method::PUT, &HeaderValue::from_static("text/plain"))
        );
        assert_eq!(put.headers()["x-a"], "1");
    }

    #[test]
    fn given_a_file_then_it_is_sent_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("body");
        std::fs::write(&path, b"line\n\0\xff").unwrap();
        let sent = request(&["-d", &format!("@{}", path.display())]).unwrap();
        assert_eq!(sent.body().unwrap().as_bytes(), Some(b"line\n\0\xff".as_slice()));
        std::fs::write(&path, vec![b'x'; usize::try_from(MAX_DATA_BYTES).unwrap() + 1]).unwrap();
        let error = request(&["-d", &format!("@{}", path.display())]).unwrap_err();
        assert!(error.to_string().contains("at most"), "{error}");
    }

    #[test]
    fn what_is_wrong_is_said_without_the_secret_in_it() {
        for secret in ["Authorization hunter2", "Bad Name: hunter2", "X: hunter2\u{1}"] {
            let error = format!("{:#}", request(&["-H", secret]).unwrap_err());
            assert!(error.contains("--header") && !error.contains("hunter2"), "{error}");
        }
        let error = format!("{:#}", url("ftp://u:hunter2@host/").unwrap_err());
        assert!(!error.contains("hunter2"), "{error}");
    }
}
