use super::ConfigProblem;
use schemars::JsonSchema;
use serde::Deserialize;
use url::Url;

/// Where traces go.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Traces {
    /// The collector's endpoint for traces, by OTLP over HTTP.
    #[schemars(with = "String")]
    pub endpoint: Url,
    /// One in so many traces is kept, of those that nobody before has decided on.
    #[serde(default = "one")]
    pub sample_one_in: u32,
}

const fn one() -> u32 {
    1
}

impl Traces {
    pub(super) fn check(&self) -> Result<(), ConfigProblem> {
        if ["http", "https"].contains(&self.endpoint.scheme()) {
            return Ok(());
        }
        Err(ConfigProblem::new("traces.endpoint", "write the http:// or https:// URL of a collector's /v1/traces"))
    }

    pub(super) fn range(&self) -> (&'static str, u64, u64, u64) {
        ("traces.sample_one_in", self.sample_one_in.into(), 1, 1_000_000)
    }
}
