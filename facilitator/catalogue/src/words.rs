//! Words, and how well an entry answers to those of a question.

use crate::entry::Entry;
use serde_json::Value;
use std::collections::BTreeMap;
use std::ops::Bound;

/// The longest word, in characters; the most of an entry, and of a question.
const MAX_WORD_CHARS: usize = 32;
const MAX_WORDS: usize = 256;
const MAX_ASKED: usize = 16;
/// The shortest word that finds longer ones which begin with it.
const SHORTEST_BEGINNING: usize = 3;
/// Words that say nothing of what is looked for.
const EMPTY: [&str; 30] = [
    "a", "an", "and", "any", "api", "are", "at", "by", "can", "find", "for", "from", "get", "i", "in", "is", "it",
    "me", "need", "of", "on", "or", "that", "the", "this", "to", "want", "which", "with", "you",
];

/// The words of a text, in lower case and singular.
fn words(text: &str) -> impl Iterator<Item = String> + '_ {
    let parts = text.split(|char: char| !char.is_alphanumeric()).filter(|part| !part.is_empty());
    parts.map(|part| {
        let word: String = part.chars().flat_map(char::to_lowercase).take(MAX_WORD_CHARS).collect();
        match word.strip_suffix('s') {
            Some(singular) if singular.len() >= 3 && !singular.ends_with('s') => singular.to_owned(),
            _ => word,
        }
    })
}

/// An entry's words, each with the weight of the best place that it stands in.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct Index(BTreeMap<String, u32>);

impl Index {
    pub(crate) fn of(entry: &Entry) -> Self {
        let mut index = Self::default();
        let described = &entry.described;
        described.tags.iter().for_each(|tag| index.add(tag, 8));
        index.add(described.service_name.as_deref().unwrap_or_default(), 6);
        if entry.kind == "mcp" {
            index.add(&entry.call, 6);
        }
        // Without its scheme.
        index.add(entry.resource.split_once("://").map_or("", |(_, rest)| rest), 4);
        index.add(described.description.as_deref().unwrap_or_default(), 3);
        let input = entry.extension.pointer("/info/input");
        index.add(input.and_then(|input| input.get("description")?.as_str()).unwrap_or_default(), 3);
        for place in ["queryParams", "body", "pathParams"] {
            let names = input.and_then(|input| input.get(place)).and_then(Value::as_object);
            names.into_iter().flat_map(|names| names.keys()).for_each(|name| index.add(name, 2));
        }
        let arguments = input.and_then(|input| input.get("inputSchema")?.get("properties")?.as_object());
        arguments.into_iter().flat_map(|names| names.keys()).for_each(|name| index.add(name, 2));
        index
    }

    fn add(&mut self, text: &str, weight: u32) {
        for word in words(text) {
            if self.0.len() >= MAX_WORDS && !self.0.contains_key(&word) {
                return;
            }
            let known = self.0.entry(word).or_default();
            *known = weight.max(*known);
        }
    }

    /// How many of the words are found, and the weight of where: a whole word counts twice what the beginning of one does.
    pub(crate) fn answers(&self, question: &Question) -> (usize, u32) {
        let found = question.0.iter().filter_map(|asked| self.weight(asked));
        found.fold((0, 0), |(count, sum), weight| (count.saturating_add(1), sum.saturating_add(weight)))
    }

    fn weight(&self, asked: &str) -> Option<u32> {
        if let Some(weight) = self.0.get(asked) {
            return Some(weight.saturating_mul(2));
        }
        if asked.chars().count() < SHORTEST_BEGINNING {
            return None;
        }
        let from = self.0.range::<str, _>((Bound::Included(asked), Bound::Unbounded));
        from.take_while(|(word, _)| word.starts_with(asked)).map(|(_, weight)| *weight).max()
    }
}

/// What is looked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Question(Vec<String>);

impl Question {
    pub(crate) fn of(text: &str) -> Self {
        let mut asked: Vec<String> = Vec::new();
        for word in words(text).take(MAX_ASKED.saturating_mul(4)) {
            if asked.len() < MAX_ASKED && !asked.contains(&word) {
                asked.push(word);
            }
        }
        let telling: Vec<String> = asked.iter().filter(|word| !EMPTY.contains(&word.as_str())).cloned().collect();
        Self(if telling.is_empty() { asked } else { telling })
    }
}
