//! What a command says when it failed, and the status that it ends with.

use crate::connection::NoAnswer;
use crate::output::Told;
use reqwest::StatusCode;
use serde::Serialize;
use std::fmt;
use std::io;
use std::process::ExitCode;
use tallybook_agent::{AgentError, ChainError, FindError};
use tallybook_rules::Rejection;
use url::Url;

/// How a command ended, for scripts. The numbers are stable.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Exit {
    /// It failed; the message says why.
    Failed,
    /// The command line is wrong: nothing was done.
    Usage,
    /// Not paid: the owner's limits forbid it.
    Forbidden,
    /// Not paid: the offer cannot be paid, or the server refuses the payment.
    NotPaid,
    /// What became of a payment or a transaction is not known.
    Unknown,
    /// Server, facilitator or chain did not answer: nothing was done.
    Unreachable,
    /// The server answered with an error status.
    HttpStatus,
}

/// The server's answer is an error, as its status says. Its body was printed all the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HttpFailure(pub StatusCode);

impl fmt::Display for HttpFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the server answered {}", self.0)?;
        match self.0.is_redirection() {
            true => {
                f.write_str(": a payment is for the host that was asked, so ask where it points to (see --include)")
            }
            false => Ok(()),
        }
    }
}

impl std::error::Error for HttpFailure {}

/// Something was sent, and what became of it is not known. Says what to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UnknownOutcome(pub &'static str);

impl fmt::Display for UnknownOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for UnknownOutcome {}

/// An error with its place among the exit statuses.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// Which kind.
    pub kind: Exit,
    /// The exit status.
    pub exit_status: u8,
    /// The protocol's name of the reason, where it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rejection: Option<String>,
    /// What happened, and what to do.
    pub message: String,
}

/// `{"error":{…}}`.
#[derive(Serialize)]
struct Document<'a> {
    error: &'a Failure,
}

impl Exit {
    /// The status as the shell sees it.
    pub const fn status(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Forbidden => 3,
            Self::NotPaid => 4,
            Self::Unknown => 5,
            Self::Unreachable => 6,
            Self::HttpStatus => 22,
        }
    }

    /// The status of a failed payment.
    fn of_agent(error: &AgentError) -> Self {
        use AgentError as E;
        let kinds = [
            (
                Self::Unknown,
                matches!(
                    error,
                    E::AnswerLost { .. }
                        | E::Pending { .. }
                        | E::ChargedWithoutAnswer { .. }
                        | E::Chain(ChainError::Pending(_))
                ),
            ),
            (Self::Forbidden, matches!(error, E::Policy(_))),
            (
                Self::NotPaid,
                matches!(
                    error,
                    E::NoOffer { .. }
                        | E::Unreadable(_)
                        | E::Terms(_)
                        | E::WalletShort { .. }
                        | E::NoFreeSlot
                        | E::Refused(_)
                        | E::Dishonest { .. }
                ),
            ),
            (
                Self::Unreachable,
                matches!(
                    error,
                    E::Http(_)
                        | E::Unavailable { .. }
                        | E::Chain(
                            ChainError::Unreachable { .. } | ChainError::Busy { .. } | ChainError::Behind { .. }
                        )
                ),
            ),
        ];
        kinds.iter().find(|(_, applies)| *applies).map_or(Self::Failed, |(kind, _)| *kind)
    }

    fn of(error: &anyhow::Error) -> Self {
        if let Some(error) = agent_error(error) {
            return Self::of_agent(error);
        }
        if error.is::<UnknownOutcome>() {
            return Self::Unknown;
        }
        if error.is::<HttpFailure>() {
            return Self::HttpStatus;
        }
        let rejection = error.downcast_ref::<Rejection>();
        let unfound = matches!(error.downcast_ref(), Some(FindError::Unreachable { .. }));
        if unfound || error.is::<NoAnswer>() || rejection == Some(&Rejection::ChainUnavailable) {
            return Self::Unreachable;
        }
        Self::Failed
    }
}

impl Failure {
    /// Reads an error.
    pub fn of(error: &anyhow::Error) -> Self {
        let kind = Exit::of(error);
        let rejection = match agent_error(error) {
            Some(AgentError::Refused(reason)) => Some(reason.name().to_owned()),
            _ => error.downcast_ref::<Rejection>().map(|rejection| rejection.name().to_owned()),
        };
        Self { kind, exit_status: kind.status(), rejection, message: without_urls(&in_full(error)) }
    }

    /// Reads what is wrong with a command line.
    pub fn of_usage(error: &clap::Error) -> Self {
        let text = error.render().to_string();
        let text = text.split("\n\n").next().unwrap_or_default().trim_start_matches("error: ");
        let message = text.split_whitespace().collect::<Vec<_>>().join(" ");
        Self { kind: Exit::Usage, exit_status: Exit::Usage.status(), rejection: None, message: without_urls(&message) }
    }

    /// A line of JSON.
    pub fn to_json(&self) -> String {
        // A struct of strings and numbers has no way to fail.
        serde_json::to_string(&Document { error: self }).unwrap_or_default()
    }

    /// What `main` returns.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.exit_status)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tallybook: {}", self.message)
    }
}

/// The agent's error in it.
fn agent_error(error: &anyhow::Error) -> Option<&AgentError> {
    error.downcast_ref::<Told>().map(|told| &told.error).or_else(|| error.downcast_ref())
}

/// True when whoever reads the output has gone, as `head` does: no error that anybody wants to hear of.
pub(crate) fn reader_is_gone(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// An error with its causes, each said once.
pub fn in_full(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.contains(&cause) {
            continue;
        }
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&cause);
    }
    text
}

/// The text with nothing of a URL but its host: endpoints carry access keys in their paths and queries.
fn without_urls(text: &str) -> String {
    let is_end = |c: char| c.is_whitespace() || matches!(c, ')' | '"' | '\'' | '<' | '>' | ',' | ';');
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(at) = ["https://", "http://", "wss://", "ws://"].iter().filter_map(|scheme| rest.find(scheme)).min()
    {
        let (before, from) = rest.split_at(at);
        let (url, after) = from.split_at(from.find(is_end).unwrap_or(from.len()));
        out.push_str(before);
        out.push_str(&bare(url));
        rest = after;
    }
    out.push_str(rest);
    out
}

/// Scheme, host and port, and dots for the rest if there is any.
fn bare(url: &str) -> String {
    let written = url.trim_end_matches([':', '.']);
    let trailing = url.get(written.len()..).unwrap_or_default();
    let Ok(parsed) = Url::parse(written) else {
        return format!("…{trailing}");
    };
    let Some(host) = parsed.host_str() else {
        return format!("{}://…{trailing}", parsed.scheme());
    };
    let port = parsed.port().map(|port| format!(":{port}")).unwrap_or_default();
    let more = if parsed.path().len() > 1 || parsed.query().is_some() { "/…" } else { "" };
    format!("{}://{host}{port}{more}{trailing}", parsed.scheme())
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::anyhow;
    use tallybook_wire::Reason;

    #[test]
    fn causes_are_said_once() {
        let error = anyhow!("refused").context("it was refused").context("no page");
        assert_eq!(in_full(&error), "no page: it was refused");
    }

    #[test]
    fn access_keys_in_urls_are_not_said() {
        for (text, said) in [
            ("asking https://rpc.example.com/v2/s3cret failed", "asking https://rpc.example.com/… failed"),
            ("(http://u:s3cret@127.0.0.1:8899/?k=s3cret): no", "(http://127.0.0.1:8899/…): no"),
            ("https://a.example/: down, and http://b.example.", "https://a.example: down, and http://b.example."),
            ("wss://x.example/s3cret", "wss://x.example/…"),
            ("no address at all", "no address at all"),
        ] {
            assert_eq!(without_urls(text), said);
            assert_eq!(Failure::of(&anyhow!(text.to_owned())).message, said);
        }
    }

    #[test]
    fn each_kind_of_failure_has_its_status() {
        let refused = AgentError::Refused(Reason::from(Rejection::VoucherUsed));
        let failure = Failure::of(&anyhow::Error::new(refused));
        assert_eq!((failure.exit_status, failure.rejection.as_deref()), (4, Some("voucher_used")));
        let chain = Failure::of(&anyhow::Error::new(Rejection::ChainUnavailable).context("while settling"));
        assert_eq!((chain.exit_status, chain.rejection.as_deref()), (6, Some("chain_unavailable")));
        assert_eq!(Failure::of(&anyhow::Error::new(HttpFailure(StatusCode::NOT_FOUND))).exit_status, 22);
        let chain = Failure::of(&anyhow!("connection refused").context(NoAnswer).context("the book"));
        assert_eq!((chain.exit_status, chain.rejection), (6, None));
        let other = Failure::of(&anyhow!("no"));
        assert_eq!(other.to_json(), r#"{"error":{"kind":"failed","exitStatus":1,"message":"no"}}"#);
    }
}
