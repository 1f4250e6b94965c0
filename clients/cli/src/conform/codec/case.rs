//! A check of an implementation: questions with their answers.

use super::answer::answer;
use super::question::Question;
use serde_json::Value;
use tallybook_wire::{MAX_HEADER_BYTES, read_header};

/// A question and what must come.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Asked {
    pub(super) question: Question,
    pub(super) answer: Value,
}

/// Questions about one rule.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) section: &'static str,
    pub(super) expected: &'static str,
    pub(super) asked: Vec<Asked>,
}

impl Case {
    pub(super) const fn new(name: &'static str, section: &'static str, expected: &'static str) -> Self {
        Self { name, section, expected, asked: Vec::new() }
    }

    /// With a question whose answer is known from elsewhere.
    pub(super) fn ask(mut self, question: Question, answer: impl Into<Value>) -> Self {
        self.asked.push(Asked { question, answer: answer.into() });
        self
    }

    /// With questions whose answers our own crates know.
    pub(super) fn ask_all(mut self, questions: impl IntoIterator<Item = Question>) -> Self {
        self.asked.extend(questions.into_iter().map(|question| Asked { answer: answer(&question), question }));
        self
    }
}

impl Asked {
    /// Whether this is the answer. A payment may say more than was asked for, and in any order.
    pub(super) fn is_answered_by(&self, came: &Value) -> bool {
        match (&self.question, &self.answer, came) {
            (Question::Payment { .. }, Value::String(expected), Value::String(came)) => same_payment(expected, came),
            _ => self.answer == *came,
        }
    }
}

fn same_payment(expected: &str, came: &str) -> bool {
    let read = |text: &str| read_header::<Value>(text.as_bytes()).ok();
    let (Some(expected), Some(read)) = (read(expected), read(came)) else { return false };
    came.len() <= MAX_HEADER_BYTES
        && ["x402Version", "accepted", "payload"].iter().all(|member| expected.get(member) == read.get(member))
}
