use core::fmt;
use serde::{Deserialize, Serialize};
use tallybook_rules::Rejection;

/// Why not, as it stands on the wire: one of our rejections, or a name that we do not know.
///
/// Foreign servers and newer versions have names of their own; those are shown, never acted upon.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum Reason {
    /// One of ours.
    Known(Rejection),
    /// Another one, at most [`Reason::MAX_CHARS`] characters of it.
    Other(String),
}

impl Reason {
    /// The longest foreign name that is kept.
    pub const MAX_CHARS: usize = 200;

    /// The rejection, if it is one of ours.
    pub fn rejection(&self) -> Option<Rejection> {
        match self {
            Self::Known(rejection) => Some(*rejection),
            Self::Other(_) => None,
        }
    }

    /// The name.
    pub fn name(&self) -> &str {
        match self {
            Self::Known(rejection) => rejection.name(),
            Self::Other(name) => name,
        }
    }

    /// What to do about it, where we know it.
    pub fn advice(&self) -> &str {
        self.rejection().map_or("See the documentation of the server that said so.", Rejection::advice)
    }
}

impl From<Rejection> for Reason {
    fn from(rejection: Rejection) -> Self {
        Self::Known(rejection)
    }
}

impl From<String> for Reason {
    fn from(name: String) -> Self {
        Rejection::from_name(&name)
            .map_or_else(|| Self::Other(name.chars().take(Self::MAX_CHARS).collect()), Self::Known)
    }
}

impl From<Reason> for String {
    fn from(reason: Reason) -> Self {
        reason.name().to_owned()
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(rejection) => rejection.fmt(f),
            Self::Other(name) => write!(f, "{name}"),
        }
    }
}

/// The body of an answer that is neither success nor a 402: what happened and what to do.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Refusal {
    /// The name.
    pub error: Reason,
    /// For people.
    #[serde(default)]
    pub message: String,
}

impl From<Rejection> for Refusal {
    fn from(rejection: Rejection) -> Self {
        Self { error: rejection.into(), message: rejection.advice().to_owned() }
    }
}
