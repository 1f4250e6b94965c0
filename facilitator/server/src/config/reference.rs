//! `docs/configuration.md`: every key, from the documentation and the types of [`Config`], the ranges that it checks, and what
//! `facilitator.example.toml` shows. So it cannot say anything else than the code does.

use super::read::{ENVIRONMENT, NEEDED};
use super::{Config, ConfigProblem};
use schemars::schema_for;
use serde_json::Value;
use std::collections::BTreeMap;
use tallybook_wire::decimal::grouped;

/// What is written by hand; its links are those of a page in `docs`.
const HEAD: &str = include_str!("reference.txt");
/// Shows every key once, as a comment where it is not set by default.
pub(super) const EXAMPLE: &str = include_str!("../../facilitator.example.toml");
/// Between the thousands of a number, as TOML takes it.
const MARK: char = '_';
/// In what a number is counted whose key ends so. All others count what their key names.
const UNITS: [(&str, &str); 11] = [
    ("_milliseconds", "milliseconds"),
    ("_seconds", "seconds"),
    ("_minutes", "minutes"),
    ("_days", "days"),
    ("lamports_per_day", "lamports"),
    ("compute_units", "compute units"),
    ("compute_price", "micro-lamports a compute unit"),
    ("compute_price_cap", "micro-lamports a compute unit"),
    ("_percentile", "percent"),
    ("min_amount", "base units"),
    ("_credit", "base units"),
];

/// The whole page.
///
/// # Errors
/// The example is no configuration.
pub fn reference() -> Result<String, ConfigProblem> {
    let mut page = HEAD.trim_end().to_owned();
    let mut section = String::new();
    for key in keys()? {
        if key.section != section {
            section.clone_from(&key.section);
            page.push_str(&format!("\n\n## `[{section}]`\n\n{}", key.section_says));
        }
        page.push_str(&format!("\n\n### `{}`\n\n{}\n", key.name(), key.says));
        key.values.iter().for_each(|value| page.push_str(&format!("\n- {value}")));
        if !key.values.is_empty() {
            page.push('\n');
        }
        page.push_str(&format!("\n{}", key.facts().join(" · ")));
    }
    page.push('\n');
    Ok(page)
}

/// What is said of one key.
#[derive(Debug)]
struct Key {
    /// Empty for one that stands above all sections.
    section: String,
    section_says: String,
    key: String,
    /// What it is: its documentation.
    says: String,
    kind: String,
    /// The texts that it takes, if only these, each with what it means.
    values: Vec<String>,
    /// Whether there is no configuration, or no such section, without it.
    needed: bool,
    /// What it is when it is left out, as TOML; none where that is nothing.
    default: Option<String>,
    range: Option<(u64, u64)>,
    /// What the example says.
    example: Option<String>,
}

impl Key {
    fn name(&self) -> String {
        if self.section.is_empty() { self.key.clone() } else { format!("{}.{}", self.section, self.key) }
    }

    fn variable(&self) -> String {
        let top = if self.section.is_empty() { String::new() } else { format!("{}__", self.section) };
        format!("{ENVIRONMENT}{top}{}", self.key).to_uppercase()
    }

    /// Type, unit, range, default, an example, and the variable of the environment.
    fn facts(&self) -> Vec<String> {
        let number = |number| grouped(number, MARK);
        let unit = UNITS.iter().find(|(end, _)| self.kind == "number" && self.key.ends_with(end));
        let mut facts = vec![match unit {
            Some((_, unit)) => format!("{} of {unit}", self.kind),
            None => self.kind.clone(),
        }];
        facts.extend(self.range.map(|(least, most)| format!("{} to {}", number(least), number(most))));
        facts.push(match (&self.default, self.needed) {
            (Some(default), _) => format!("default `{default}`"),
            (None, true) if !self.section.is_empty() => "needed in this section".to_owned(),
            (None, true) => "needed".to_owned(),
            (None, false) => "not set by default".to_owned(),
        });
        let example = self.example.as_ref().filter(|example| self.default.as_ref() != Some(*example));
        facts.extend(example.map(|example| format!("as in `{} = {example}`", self.key)));
        facts.push(format!("`{}`", self.variable()));
        facts
    }
}

/// All keys, in the order of the example.
fn keys() -> Result<Vec<Key>, ConfigProblem> {
    let (text, order) = example();
    let config = super::read::parse(&text, std::iter::empty())?;
    let ranges: BTreeMap<_, _> = config.ranges().map(|(key, _, least, most)| (key, (least, most))).collect();
    let shown: BTreeMap<&str, (usize, &str)> =
        order.iter().enumerate().map(|(at, (key, value))| (key.as_str(), (at, value.as_str()))).collect();
    let root = schema_for!(Config).to_value();
    let mut keys = Vec::new();
    for (name, schema) in properties(&root) {
        let section = resolved(&root, schema);
        if properties(section).next().is_none() {
            keys.push(key(&root, ("", ""), (name, schema), NEEDED.contains(&name)));
            continue;
        }
        let says = says(schema).or_else(|| says(section)).unwrap_or_default();
        let needed: Vec<_> = section.get("required").and_then(Value::as_array).into_iter().flatten().collect();
        for (inner, schema) in properties(section) {
            let needed = needed.iter().any(|needed| needed.as_str() == Some(inner));
            keys.push(key(&root, (name, &says), (inner, schema), needed));
        }
    }
    for key in &mut keys {
        let name = key.name();
        key.range = ranges.get(name.as_str()).copied();
        key.example = shown.get(name.as_str()).map(|(_, value)| (*value).to_owned());
    }
    keys.sort_by_key(|key| {
        (!key.section.is_empty(), shown.get(key.name().as_str()).map_or(usize::MAX, |(at, _)| *at), key.name())
    });
    Ok(keys)
}

fn key(root: &Value, (section, section_says): (&str, &str), (name, schema): (&str, &Value), needed: bool) -> Key {
    let kind = resolved(root, schema);
    let variants = kind.get("oneOf").and_then(Value::as_array).into_iter().flatten();
    let variants = variants.filter_map(|one| Some((one.get("const")?.as_str()?, says(one).unwrap_or_default())));
    Key {
        section: section.to_owned(),
        section_says: section_says.to_owned(),
        key: name.to_owned(),
        says: says(schema).or_else(|| says(kind)).unwrap_or_default(),
        kind: type_of(root, kind),
        values: variants.map(|(value, says)| format!("`{value:?}`: {says}")).collect(),
        needed,
        default: schema.get("default").and_then(toml),
        range: None,
        example: None,
    }
}

/// The example with everything set that it shows in comments, and each of its keys, in order, with its value.
fn example() -> (String, Vec<(String, String)>) {
    let (mut text, mut keys, mut section) = (String::new(), Vec::new(), String::new());
    for line in EXAMPLE.lines() {
        let line = line.strip_prefix("# ").unwrap_or(line).trim_end();
        let value = line.split_once(" = ").filter(|(key, _)| is_name(key));
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).filter(|name| is_name(name))
        {
            name.clone_into(&mut section);
        } else if let Some((key, value)) = value {
            let value = value.split(" #").next().unwrap_or(value).trim_end();
            let name = if section.is_empty() { key.to_owned() } else { format!("{section}.{key}") };
            keys.push((name, value.to_owned()));
        } else {
            continue;
        }
        text.push_str(line);
        text.push('\n');
    }
    (text, keys)
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

fn properties(schema: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let properties = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
    properties.map(|(name, schema)| (name.as_str(), schema))
}

/// The schema itself, behind references and behind that it may be left out.
fn resolved<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    let either = schema.get("anyOf").and_then(Value::as_array).into_iter().flatten();
    let something = either.into_iter().find(|one| one.get("type").and_then(Value::as_str) != Some("null"));
    let schema = something.unwrap_or(schema);
    let reference = schema.get("$ref").and_then(Value::as_str).and_then(|reference| reference.strip_prefix('#'));
    reference.and_then(|pointer| root.pointer(pointer)).unwrap_or(schema)
}

/// What its documentation says, each paragraph in one line.
fn says(schema: &Value) -> Option<String> {
    let text = schema.get("description")?.as_str()?;
    let paragraphs = text.split("\n\n").map(|paragraph| paragraph.split_whitespace().collect::<Vec<_>>().join(" "));
    Some(paragraphs.collect::<Vec<_>>().join("\n\n"))
}

fn type_of(root: &Value, schema: &Value) -> String {
    let kinds = schema.get("type");
    let kind = kinds.and_then(Value::as_str).or_else(|| kinds?.as_array()?.first()?.as_str());
    match kind {
        Some("integer") => "number".to_owned(),
        Some("boolean") => "`true` or `false`".to_owned(),
        Some("array") => {
            let item = schema.get("items").map(|item| type_of(root, resolved(root, item)));
            format!("list of {}", item.as_deref().unwrap_or("text"))
        }
        Some(_) | None => "text".to_owned(),
    }
}

/// As it stands in a file; none of nothing.
fn toml(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::Number(number) => Some(grouped(number, MARK)),
        Value::Bool(_) | Value::String(_) | Value::Array(_) | Value::Object(_) => Some(value.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::read::TOP_KEYS;
    use super::*;
    use std::collections::BTreeSet;
    use std::path::Path;

    #[test]
    fn given_the_page_when_the_code_is_asked_then_it_says_the_same() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
        let written = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            reference().unwrap() == written,
            "docs/configuration.md is not what the code says: \
             cargo run --bin tallybook-facilitator -- reference > docs/configuration.md"
        );
    }

    #[test]
    fn given_every_key_when_it_is_looked_up_then_it_has_a_text_and_an_example_and_numbers_have_a_range() {
        let keys = keys().unwrap();
        let mut faults = Vec::new();
        for key in &keys {
            let name = key.name();
            if !key.says.ends_with(['.', '!', '?']) {
                faults.push(format!("{name} does not say in whole sentences what it is: {:?}", key.says));
            }
            if key.example.is_none() {
                faults.push(format!("facilitator.example.toml does not show {name}"));
            }
            if key.kind == "number" && key.range.is_none() {
                faults.push(format!("{name} is a number without bounds: see Config::ranges"));
            }
            if !key.section.is_empty() && key.section_says.is_empty() {
                faults.push(format!("[{}] does not say what it is", key.section));
            }
        }
        assert!(faults.is_empty(), "{}", faults.join("\n"));
        let (_, shown) = example();
        let known: BTreeSet<_> = keys.iter().map(Key::name).collect();
        assert_eq!(shown.iter().map(|(key, _)| key.clone()).collect::<BTreeSet<_>>(), known, "and shows no other");
        assert_eq!(shown.len(), known.len(), "each once");
    }

    #[test]
    fn given_the_types_when_their_keys_are_listed_then_the_environment_may_set_each_and_those_without_default_are_known()
     {
        let root = schema_for!(Config).to_value();
        let names: BTreeSet<_> = properties(&root).map(|(name, _)| name).collect();
        assert_eq!(names, TOP_KEYS.into_iter().collect());
        let required: BTreeSet<_> =
            root["required"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
        assert_eq!(required, NEEDED.into_iter().collect());
    }
}
