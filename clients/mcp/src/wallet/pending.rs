//! Approvals that clients of newer revisions of MCP bring back: from 2026-07-28 on a server sends no requests, but answers a call
//! with what it needs to know, and the call comes again with that.

use super::approval::{form, is_yes, message};
use super::money::Money;
use super::refusal::Refusal;
use rmcp::model::{
    CallToolRequestParams, ElicitRequest, ElicitResult, InputRequest, InputRequests, InputRequiredResult,
};
use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tallybook_agent::Ask;

/// What the answer is called.
const APPROVAL: &str = "approval";
/// So many questions wait for their answers; the oldest are forgotten.
const MAX_WAITING: usize = 64;
/// How long one waits.
const PATIENCE: Duration = Duration::from_secs(600);

/// Questions that were asked and not answered yet. What was asked is kept here, not sent along: a client answers it, and cannot
/// change it.
#[derive(Default, Debug)]
pub(super) struct Pending(Mutex<VecDeque<Waiting>>);

#[derive(Debug)]
struct Waiting {
    name: String,
    since: Instant,
    approved: Vec<Ask>,
    wanted: Ask,
}

impl Pending {
    /// The result that asks for an approval, in a call for which others were given already.
    pub(super) fn ask(&self, approved: Vec<Ask>, wanted: Ask, decimals: u8) -> Option<InputRequiredResult> {
        let question = InputRequest::Elicitation(ElicitRequest::new(form(message(&wanted, decimals))?));
        // Each state has keys of its own, so that its hash of nothing is as good as a die.
        let name = format!("{:016x}{:016x}", RandomState::new().hash_one(()), RandomState::new().hash_one(()));
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|one| one.since.elapsed() < PATIENCE);
        if waiting.len() >= MAX_WAITING {
            waiting.pop_front();
        }
        waiting.push_back(Waiting { name: name.clone(), since: Instant::now(), approved, wanted });
        let questions = InputRequests::from_iter([(APPROVAL.to_owned(), question)]);
        Some(InputRequiredResult::new(Some(questions), Some(name)))
    }

    /// What is approved for a call, as far as it brings answers. Each counts once.
    pub(super) fn answered(&self, params: &CallToolRequestParams, decimals: u8) -> Result<Vec<Ask>, Refusal> {
        let Some(name) = &params.request_state else { return Ok(Vec::new()) };
        let answer = params.input_responses.as_ref().and_then(|answers| answers.get(APPROVAL));
        let answer = answer.and_then(|answer| serde_json::from_value::<ElicitResult>(answer.clone()).ok());
        let found = {
            let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let at = waiting.iter().position(|one| one.name == *name && one.since.elapsed() < PATIENCE);
            at.and_then(|at| waiting.remove(at))
        };
        let Some(Waiting { mut approved, wanted, .. }) = found else {
            return Err(Refusal::new("that approval is not waited for (any more): call again without it".to_owned()));
        };
        if !answer.is_some_and(|answer| is_yes(&answer)) {
            let amount = Money::new(wanted.amount, decimals);
            return Err(Refusal::new(format!(
                "not paid: {} were not approved by the person who was asked",
                amount.tokens()
            )));
        }
        approved.push(wanted);
        Ok(approved)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rmcp::model::{ElicitationAction, InputResponses};
    use serde_json::json;
    use tallybook_agent::Asked;
    use tallybook_rules::Amount;

    fn wanted(amount: u64) -> Ask {
        let (host, path) = ("a.example".to_owned(), "/x".to_owned());
        Ask { what: Asked::Call, amount: Amount::new(amount), host, path, payee: [1; 32].into() }
    }

    fn answer(state: Option<String>, action: ElicitationAction) -> CallToolRequestParams {
        let result = ElicitResult::new(action).with_content(json!({ "approve": true }));
        let answers = InputResponses::from_iter([(APPROVAL.to_owned(), serde_json::to_value(result).unwrap())]);
        CallToolRequestParams::new("fetch").with_input_responses(answers).with_request_state(state.unwrap())
    }

    #[test]
    fn given_a_question_when_it_is_answered_with_yes_then_that_is_approved_once_and_nothing_else() {
        let pending = Pending::default();
        let asked = pending.ask(vec![wanted(1)], wanted(2), 6).unwrap();
        let yes = answer(asked.request_state, ElicitationAction::Accept);
        assert_eq!(pending.answered(&yes, 6), Ok(vec![wanted(1), wanted(2)]));
        assert!(pending.answered(&yes, 6).is_err(), "an approval counts once");
        assert_eq!(pending.answered(&CallToolRequestParams::new("fetch"), 6), Ok(Vec::new()));
        let invented = answer(Some("0".repeat(32)), ElicitationAction::Accept);
        assert!(pending.answered(&invented, 6).is_err());
        let asked = pending.ask(Vec::new(), wanted(2), 6).unwrap();
        let no = answer(asked.request_state, ElicitationAction::Decline);
        assert!(pending.answered(&no, 6).unwrap_err().why().contains("0.000002 were not approved"));
    }

    #[test]
    fn given_questions_without_answers_then_so_many_are_kept_and_no_more() {
        let pending = Pending::default();
        let first = pending.ask(Vec::new(), wanted(1), 6).unwrap();
        for amount in 0..MAX_WAITING {
            pending.ask(Vec::new(), wanted(u64::try_from(amount).unwrap()), 6).unwrap();
        }
        assert!(pending.answered(&answer(first.request_state, ElicitationAction::Accept), 6).is_err());
        assert_eq!(pending.0.lock().unwrap().len(), MAX_WAITING);
    }
}
