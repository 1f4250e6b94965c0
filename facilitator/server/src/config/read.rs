//! From text and environment to a configuration, naming the key at fault.

use super::{Config, ConfigProblem};
use toml::{Table, Value};

/// The first part of the name of every environment variable that is read.
pub(super) const ENVIRONMENT: &str = "TALLYBOOK_";
/// The keys without a default.
pub(super) const NEEDED: [&str; 5] = ["listen", "database", "rpc_url", "sponsor", "books"];
/// The keys that an environment variable can set; others with the prefix belong to somebody else.
pub(super) const TOP_KEYS: [&str; 21] = [
    "listen",
    "database",
    "address",
    "rpc_url",
    "network",
    "sponsor",
    "claim_sponsors",
    "books",
    "access_token",
    "admin_token",
    "audit_log",
    "backup_folder",
    "income",
    "settlement",
    "limits",
    "chain",
    "exact",
    "discovery",
    "operator",
    "log",
    "traces",
];

/// Those of them that hold several values: one text, with commas between.
const LISTS: [&str; 2] = ["books", "claim_sponsors"];

/// Reads TOML, and the environment over it. Looks at no file.
pub(super) fn parse(text: &str, environment: impl Iterator<Item = (String, String)>) -> Result<Config, ConfigProblem> {
    let mut table: Table =
        text.parse().map_err(|error: toml::de::Error| ConfigProblem::new("file", error.message()))?;
    for (name, value) in environment {
        if let Some(name) = name.strip_prefix(ENVIRONMENT) {
            set(&mut table, &name.to_lowercase(), value)?;
        }
    }
    read(table)
}

/// Sets what `TALLYBOOK_LIMITS__QUEUE=100`, `TALLYBOOK_BOOKS=one,two` or `TALLYBOOK_ACCESS_TOKEN=["new", "old"]` says.
fn set(table: &mut Table, name: &str, value: String) -> Result<(), ConfigProblem> {
    let (top, rest) = name.split_once("__").unwrap_or((name, ""));
    if !TOP_KEYS.contains(&top) {
        return Ok(());
    }
    if LISTS.contains(&top) {
        let values = value.split(',').map(|one| Value::String(one.trim().to_owned()));
        table.insert(top.to_owned(), Value::Array(values.collect()));
        return Ok(());
    }
    // A list in brackets is one, and within a section a number or a truth value; everything else is text.
    let parsed = format!("value = {value}").parse::<Table>().ok();
    let value = match parsed.and_then(|mut table| table.remove("value")) {
        Some(list @ Value::Array(_)) => list,
        Some(number @ (Value::Integer(_) | Value::Boolean(_))) if !rest.is_empty() => number,
        _ => Value::String(value),
    };
    if rest.is_empty() {
        table.insert(top.to_owned(), value);
        return Ok(());
    }
    let section = table.entry(top).or_insert_with(|| Value::Table(Table::new()));
    let section = section.as_table_mut().ok_or_else(|| ConfigProblem::new(top, "is a section, not a value"))?;
    section.insert(rest.to_owned(), value);
    Ok(())
}

/// Reads the table key by key, so that what is wrong can be named.
fn read(table: Table) -> Result<Config, ConfigProblem> {
    for key in NEEDED {
        if !table.contains_key(key) {
            return Err(ConfigProblem::new(key, "is missing; facilitator.example.toml shows it"));
        }
    }
    // One key at a time over a sound file tells which one is at fault.
    let whole = table.clone().try_into::<Config>();
    whole.map_err(|error| {
        let key = table.iter().find_map(|(key, value)| fault_in(&table, key, value));
        ConfigProblem::new(&key.unwrap_or_else(|| "file".to_owned()), error.message())
    })
}

/// The name of the key at fault, if it is this one or one in this section.
fn fault_in(table: &Table, key: &str, value: &Value) -> Option<String> {
    let fails = |table: Table| table.try_into::<Config>().is_err();
    let mut without = table.clone();
    if !TOP_KEYS.contains(&key) {
        return Some(key.to_owned());
    }
    match value.as_table() {
        Some(section) => section.keys().find_map(|inner| {
            let mut without = table.clone();
            without.get_mut(key)?.as_table_mut()?.remove(inner);
            (!fails(without)).then(|| format!("{key}.{inner}"))
        }),
        None if NEEDED.contains(&key) => {
            without.insert(key.to_owned(), sound(key));
            (!fails(without)).then(|| key.to_owned())
        }
        None => {
            without.remove(key);
            (!fails(without)).then(|| key.to_owned())
        }
    }
}

/// A value of a needed key that can be read.
fn sound(key: &str) -> Value {
    match key {
        "listen" => Value::String("127.0.0.1:0".to_owned()),
        "rpc_url" => Value::String("http://localhost".to_owned()),
        "books" => Value::Array(Vec::new()),
        _ => Value::String("file".to_owned()),
    }
}
