//! The work that the demo's API does for its money: counting what it is sent.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::HashMap;

/// Most frequent words in an answer.
const TOP: usize = 5;

/// The answer: facts about a text.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Facts {
    /// How many words it has: runs of letters and digits.
    pub(super) words: usize,
    /// How many different ones, in lower case.
    pub(super) distinct: usize,
    /// The most frequent ones with their counts, most frequent first, ties in alphabetical order.
    pub(super) top: Vec<(String, usize)>,
    /// SHA-256 of the text's bytes, in hexadecimal.
    pub(super) sha256: String,
}

impl Facts {
    /// Looks at `text`.
    pub(super) fn about(text: &str) -> Self {
        let mut counts: HashMap<String, usize> = HashMap::new();
        let mut words = 0usize;
        for word in text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
            words = words.saturating_add(1);
            let count = counts.entry(word.to_lowercase()).or_default();
            *count = count.saturating_add(1);
        }
        let distinct = counts.len();
        let mut top: Vec<(String, usize)> = counts.into_iter().collect();
        top.sort_by(|(a, count_a), (b, count_b)| count_b.cmp(count_a).then_with(|| a.cmp(b)));
        top.truncate(TOP);
        let sha256 = Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect();
        Self { words, distinct, top, sha256 }
    }
}

/// A text of some 120 words, different for every `seed`: what the demo's agents want to know about.
pub(super) fn text(seed: u64) -> String {
    const VOCABULARY: [&str; 16] = [
        "voucher", "page", "slot", "claim", "agent", "ledger", "payee", "deposit", "grace", "batch", "row", "scalar",
        "nonce", "vault", "leg", "the",
    ];
    let mut state = seed;
    let mut text = String::with_capacity(900);
    for _ in 0..120 {
        // A linear congruential generator: the high bits choose.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let at = usize::try_from(state >> 60).unwrap_or_default();
        text.push_str(VOCABULARY.get(at).copied().unwrap_or_default());
        text.push(' ');
    }
    text.push_str(&seed.to_string());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_right() {
        let facts = Facts::about("Page, slot; page. A slot? PAGE!");
        assert_eq!((facts.words, facts.distinct), (6, 3));
        assert_eq!(facts.top, [("page".to_owned(), 3), ("slot".to_owned(), 2), ("a".to_owned(), 1)]);
        assert_eq!(Facts::about("").sha256, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }

    #[test]
    fn texts_differ() {
        assert_ne!(text(1), text(2));
        assert_eq!(Facts::about(&text(7)).words, 121);
    }
}
