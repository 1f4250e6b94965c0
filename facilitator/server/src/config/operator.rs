use super::ConfigProblem;
use axum::http::HeaderName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// The operator's page: who may see it, and who may act on it. With an `admin_token` an administrator signs in with that;
/// without anything nobody sees the page at all.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OperatorSettings {
    /// Whoever reaches the port may read the page, without signing in: only where nobody else reaches it. Channels, payers and
    /// amounts stand there.
    pub anybody_reads: bool,
    /// The header in which a proxy that people sign in at (OIDC, SAML) says who asks, such as `X-Auth-Request-Email`. Believed
    /// of `proxies` alone.
    pub proxy_header: Option<String>,
    /// The addresses from which that proxy connects. It has to take the header away from what others send.
    pub proxies: Vec<IpAddr>,
    /// Who may act, by the name that the proxy gives.
    pub administrators: Vec<String>,
    /// Who may only read, by that name.
    pub readers: Vec<String>,
    /// For how long somebody is signed in, in minutes.
    pub session_minutes: u32,
    /// Pages that are shown live at once; beyond them a page stands still until it is loaded again.
    pub viewers: u32,
}

impl Default for OperatorSettings {
    fn default() -> Self {
        Self {
            anybody_reads: false,
            proxy_header: None,
            proxies: Vec::new(),
            administrators: Vec::new(),
            readers: Vec::new(),
            session_minutes: 480,
            viewers: 32,
        }
    }
}

impl OperatorSettings {
    /// The longest name of somebody, in bytes: that of an e-mail address.
    pub(crate) const MAX_NAME_BYTES: usize = 254;

    /// Refuses what would let in nobody, or anybody by mistake.
    pub(super) fn check(&self) -> Result<(), ConfigProblem> {
        let refuse = |key: &str, problem: &str| Err(ConfigProblem::new(key, problem));
        let names = || self.administrators.iter().chain(&self.readers);
        match &self.proxy_header {
            Some(header) if header.parse::<HeaderName>().is_err() => {
                return refuse(
                    "operator.proxy_header",
                    "write the name of an HTTP header, such as X-Auth-Request-Email",
                );
            }
            Some(_) if self.proxies.is_empty() => {
                return refuse("operator.proxies", "name the addresses of the proxy: anybody could send its header");
            }
            Some(_) if names().next().is_none() => {
                return refuse("operator.administrators", "name who may act, or in operator.readers who may read");
            }
            None if names().next().is_some() || !self.proxies.is_empty() => {
                return refuse("operator.proxy_header", "name the header in which the proxy says who asks");
            }
            Some(_) | None => {}
        }
        if names().any(|name| name.is_empty() || name.len() > Self::MAX_NAME_BYTES) {
            return refuse("operator.administrators", "names have 1 to 254 bytes");
        }
        Ok(())
    }

    /// Each key with its value, and the smallest and largest that makes sense.
    pub(super) fn ranges(&self) -> [(&'static str, u64, u64, u64); 2] {
        [
            ("operator.session_minutes", u64::from(self.session_minutes), 1, 10_080),
            ("operator.viewers", u64::from(self.viewers), 0, 1_000),
        ]
    }
}
