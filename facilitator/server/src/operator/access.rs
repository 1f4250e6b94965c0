//! Who asks for the operator's page, and what they may: by a session that began with the admin token, or by the word of a proxy
//! that people sign in at.

use crate::app::App;
use crate::config::OperatorSettings;
use crate::serve::Peer;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use solana_keypair::Keypair;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tallybook_rules::Hasher;
use tallybook_rules::signing::Sha2;
use tallybook_sequencer::clock;

/// The cookie of a session.
pub(super) const COOKIE: &str = "tallybook_operator";
/// Borne by what another facilitator on the same database has handed on.
const HANDED_ON: &str = "tallybook-handed-on";
/// The most sessions at once; beyond them the one that ends first ends now.
const SESSIONS: usize = 256;

/// What somebody may.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Role {
    /// Nothing.
    Stranger,
    /// See everything but vouchers.
    Reader,
    /// Act, too.
    Administrator,
}

/// Who asks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Visitor {
    pub(super) role: Role,
    /// As a proxy names them.
    pub(super) name: Option<String>,
    /// Signed in here, so that they can sign out here.
    pub(super) has_session: bool,
    /// What their forms bear, so that a form of another site is not taken for theirs; empty for who has none.
    pub(super) form_token: String,
}

impl Visitor {
    fn nameless(role: Role) -> Self {
        Self { role, name: None, has_session: false, form_token: String::new() }
    }

    /// Whether a form was made for this visitor. Hashes are compared, so that the time it takes tells nothing.
    pub(super) fn made(&self, shown: &str) -> bool {
        let hash = |text: &str| Sha2::sha256(&[text.as_bytes()]);
        !self.form_token.is_empty() && hash(&self.form_token) == hash(shown)
    }
}

/// Who asks, by what their request bears. Without a proxy and a session that is a reader where anybody may read, else a stranger.
pub(super) fn visitor<C>(app: &App<C>, request: &Parts) -> Visitor {
    let (settings, sessions) = (&app.config.operator, &app.operator.sessions);
    if let Some(name) = named(settings, request) {
        let is_in = |names: &[String]| names.iter().any(|one| one == name);
        let role = if is_in(&settings.administrators) {
            Role::Administrator
        } else if is_in(&settings.readers) {
            Role::Reader
        } else {
            Role::Stranger
        };
        if role > Role::Stranger {
            let form_token = sessions.form_token(&[b"proxy:", name.as_bytes()]);
            return Visitor { role, name: Some(name.to_owned()), has_session: false, form_token };
        }
    }
    if let Some(id) = cookie(&request.headers).filter(|id| sessions.is_open(id, clock())) {
        let form_token = sessions.form_token(&[b"session:", id.as_bytes()]);
        return Visitor { role: Role::Administrator, name: None, has_session: true, form_token };
    }
    Visitor::nameless(if settings.anybody_reads { Role::Reader } else { Role::Stranger })
}

/// The name that a trusted proxy gives. Two headers of that name are none: one of them may come from who asks. Nor is one that
/// another facilitator has handed on: that one's peer may be anybody, and it may well be on the proxy's machine.
fn named<'a>(settings: &OperatorSettings, request: &'a Parts) -> Option<&'a str> {
    let header = settings.proxy_header.as_ref()?;
    let peer = request.extensions.get::<Peer>()?.0.to_canonical();
    let is_proxy = settings.proxies.iter().any(|proxy| proxy.to_canonical() == peer);
    if !is_proxy || request.headers.contains_key(HANDED_ON) {
        return None;
    }
    let mut values = request.headers.get_all(header).iter();
    let (first, second) = (values.next(), values.next());
    let name = first.filter(|_| second.is_none())?.to_str().ok()?;
    (!name.is_empty() && name.len() <= OperatorSettings::MAX_NAME_BYTES).then_some(name)
}

/// The session that a request bears, open or not.
pub(super) fn cookie(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = cookies.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == COOKIE).map(|(_, id)| id)
}

/// Who is signed in with the admin token. They end with the process.
pub(super) struct Sessions {
    /// Drawn at the start; nobody else has it.
    secret: [u8; 32],
    /// By the hash of its id, when each ends, in Unix seconds.
    open: Mutex<HashMap<[u8; 32], i64>>,
}

impl Sessions {
    pub(super) fn new() -> Self {
        Self { secret: drawn(), open: Mutex::default() }
    }

    /// Begins one that ends at a time; its id.
    pub(super) fn begin(&self, ends: i64, now: i64) -> String {
        let mut open = self.lock();
        open.retain(|_, ends| *ends > now);
        if open.len() >= SESSIONS
            && let Some(first) = open.iter().min_by_key(|(_, ends)| **ends).map(|(hash, _)| *hash)
        {
            open.remove(&first);
        }
        let id = hex(&drawn());
        open.insert(hash_of(&id), ends);
        id
    }

    /// Ends it, if it is open.
    pub(super) fn end(&self, id: &str) {
        self.lock().remove(&hash_of(id));
    }

    fn is_open(&self, id: &str, now: i64) -> bool {
        self.lock().get(&hash_of(id)).is_some_and(|ends| now < *ends)
    }

    /// What a form of somebody bears. Hashed twice, so that nothing can be added to what was hashed.
    fn form_token(&self, whose: &[&[u8]]) -> String {
        let mut parts: Vec<&[u8]> = vec![&self.secret];
        parts.extend(whose);
        hex(&Sha2::sha256(&[&self.secret, &Sha2::sha256(&parts)]))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<[u8; 32], i64>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions").field("open", &self.lock().len()).finish_non_exhaustive()
    }
}

/// Ids are long and random, so their hash is looked up: how long that takes tells nothing of an id.
fn hash_of(id: &str) -> [u8; 32] {
    Sha2::sha256(&[id.as_bytes()])
}

/// Random bytes, as keys are drawn.
fn drawn() -> [u8; 32] {
    *Keypair::new().secret_bytes()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_sessions_when_they_end_or_are_too_many_then_only_those_that_are_left_are_open() {
        let sessions = Sessions::new();
        let first = sessions.begin(100, 0);
        assert!(sessions.is_open(&first, 99) && !sessions.is_open(&first, 100));
        let more: Vec<String> = (0..300).map(|more| sessions.begin(200 + more, 0)).collect();
        assert!(!sessions.is_open(&first, 0), "the one that ends first has made room");
        assert_eq!(more.iter().filter(|id| sessions.is_open(id, 0)).count(), SESSIONS);
        sessions.end(&more[299]);
        assert!(!sessions.is_open(&more[299], 0));
        assert!(!sessions.is_open("", 0));
    }

    #[test]
    fn given_tokens_of_forms_when_compared_then_each_is_of_one_session_of_one_process() {
        let (one, other) = (Sessions::new(), Sessions::new());
        let token = one.form_token(&[b"session:", b"a"]);
        assert_eq!(token, one.form_token(&[b"session:", b"a"]));
        assert_ne!(token, one.form_token(&[b"session:", b"b"]));
        assert_ne!(token, other.form_token(&[b"session:", b"a"]));
        let visitor = Visitor { form_token: token.clone(), ..Visitor::nameless(Role::Administrator) };
        assert!(visitor.made(&token) && !visitor.made("") && !visitor.made(&token[1..]));
        assert!(!Visitor::nameless(Role::Administrator).made(""), "who has no token has made no form");
    }
}
