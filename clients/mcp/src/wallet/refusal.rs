use rmcp::model::{CallToolResult, ContentBlock};

/// Why a tool does not do what it was asked for, and what to do: read by a model, and by its user.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Refusal(String);

impl Refusal {
    pub(super) const fn new(why: String) -> Self {
        Self(why)
    }

    /// A result that is an error: unlike an error of the protocol, models get to see it.
    pub(super) fn into_result(self) -> CallToolResult {
        CallToolResult::error(vec![ContentBlock::text(self.0)])
    }
}

#[cfg(test)]
impl Refusal {
    pub(super) fn why(&self) -> &str {
        &self.0
    }
}
