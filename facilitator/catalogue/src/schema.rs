//! Whether a declaration is what its own schema asks for, at a cost that is known before.
//!
//! A schema comes from a stranger. Before it is compiled: it points nowhere but into itself, it is not deep, and written out,
//! with every reference replaced by what it points at, it has few nodes. Its patterns run on an engine without backtracking,
//! and their compiled size has a cap. What remains costs at most that many nodes times those of the declaration.

use jsonschema::{Draft, PatternOptions};
use serde_json::Value;
use std::collections::HashMap;
use tallybook_wire::{Unlisted, UnlistedReason};

/// The deepest value, and the deepest chain of references.
pub(crate) const MAX_DEPTH: usize = 32;
/// The most nodes of a declaration.
pub(crate) const MAX_NODES: usize = 1_024;
/// The most nodes of a schema that is written out.
const MAX_WRITTEN_OUT: usize = 4_096;
/// The longest pattern, in bytes, and the largest compiled one.
const MAX_PATTERN_BYTES: usize = 256;
const MAX_PATTERN_SIZE: usize = 64 * 1_024;
/// How often what was not looked at yet may be asked for: each asks everything beside it again.
const MAX_UNEVALUATED: usize = 2;
/// The longest account of what does not match, in characters.
const MAX_DETAIL_CHARS: usize = 200;
/// The one draft.
const DRAFT: &str = "https://json-schema.org/draft/2020-12/schema";

/// Refuses a declaration that does not match its schema, or a schema that may not be tried.
pub(crate) fn check(schema: &Value, info: &Value) -> Result<(), Unlisted> {
    let named = schema.get("$schema").map(|named| named.as_str().unwrap_or_default());
    if !schema.is_object() || named.is_some_and(|named| named.trim_end_matches('#') != DRAFT) {
        return Err(UnlistedReason::BadSchema.into());
    }
    let mut unevaluated = 0;
    walk(schema, 0, &mut unevaluated)?;
    WrittenOut { root: schema, sizes: HashMap::new(), open: Vec::new() }.of(schema, 0)?;
    let patterns = PatternOptions::regex().size_limit(MAX_PATTERN_SIZE).dfa_size_limit(MAX_PATTERN_SIZE);
    let options = jsonschema::options().with_draft(Draft::Draft202012).with_pattern_options(patterns).offline();
    let validator = options.build(schema).map_err(|error| told(UnlistedReason::BadSchema, &error.to_string()))?;
    validator.validate(info).map_err(|error| {
        let place = error.instance_path().to_string();
        told(UnlistedReason::SchemaMismatch, &format!("at {}: {error}", if place.is_empty() { "/" } else { &place }))
    })
}

fn told(reason: UnlistedReason, detail: &str) -> Unlisted {
    let plain = detail.chars().map(|char| if char.is_control() { ' ' } else { char });
    Unlisted::at(reason, plain.take(MAX_DETAIL_CHARS).collect::<String>())
}

/// Refuses references out of the schema, those that are resolved while it runs, and patterns that are long.
fn walk(node: &Value, depth: usize, unevaluated: &mut usize) -> Result<(), Unlisted> {
    let deeper = depth.saturating_add(1);
    if depth > MAX_DEPTH {
        return Err(UnlistedReason::SchemaTooComplex.into());
    }
    match node {
        Value::Array(items) => items.iter().try_for_each(|item| walk(item, deeper, unevaluated)),
        Value::Object(members) => members.iter().try_for_each(|(name, value)| {
            look_at(name, value, unevaluated)?;
            walk(value, deeper, unevaluated)
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(()),
    }
}

fn look_at(name: &str, value: &Value, unevaluated: &mut usize) -> Result<(), Unlisted> {
    match name {
        "$ref" | "$id" if !value.as_str().is_some_and(|target| target.starts_with('#')) => {
            Err(UnlistedReason::ExternalReference.into())
        }
        "$dynamicRef" | "$dynamicAnchor" | "$recursiveRef" | "$recursiveAnchor" | "$anchor" | "$vocabulary" => {
            Err(UnlistedReason::SchemaTooComplex.into())
        }
        "unevaluatedProperties" | "unevaluatedItems" => {
            *unevaluated = unevaluated.saturating_add(1);
            if *unevaluated > MAX_UNEVALUATED { Err(UnlistedReason::SchemaTooComplex.into()) } else { Ok(()) }
        }
        "pattern" if value.as_str().is_some_and(|pattern| pattern.len() > MAX_PATTERN_BYTES) => {
            Err(UnlistedReason::SchemaTooComplex.into())
        }
        "patternProperties" => {
            let mut patterns = value.as_object().into_iter().flat_map(|patterns| patterns.keys());
            if patterns.any(|pattern| pattern.len() > MAX_PATTERN_BYTES) {
                return Err(UnlistedReason::SchemaTooComplex.into());
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Counts nodes as if every reference were replaced by what it points at.
struct WrittenOut<'a> {
    root: &'a Value,
    /// What was counted, by pointer: nodes and depth.
    sizes: HashMap<&'a str, (usize, usize)>,
    /// The references that are being followed now.
    open: Vec<&'a str>,
}

impl<'a> WrittenOut<'a> {
    /// The nodes of a value at this depth, and how deep it goes below itself; [`UnlistedReason::SchemaTooComplex`] beyond the
    /// caps, and for what refers to itself.
    fn of(&mut self, node: &'a Value, depth: usize) -> Result<(usize, usize), Unlisted> {
        let (mut nodes, mut height) = (1usize, 0usize);
        let deeper = depth.saturating_add(1);
        let mut add = |(more, below): (usize, usize)| {
            nodes = nodes.saturating_add(more);
            height = height.max(below.saturating_add(1));
            let is_within = nodes <= MAX_WRITTEN_OUT && depth.saturating_add(height) <= MAX_DEPTH.saturating_mul(2);
            if is_within { Ok(()) } else { Err(Unlisted::from(UnlistedReason::SchemaTooComplex)) }
        };
        match node {
            Value::Array(items) => items.iter().try_for_each(|item| add(self.of(item, deeper)?))?,
            Value::Object(members) => {
                for (name, value) in members {
                    add(self.of(value, deeper)?)?;
                    if let ("$ref", Some(pointer)) = (name.as_str(), value.as_str()) {
                        add(self.target(pointer, deeper)?)?;
                    }
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
        Ok((nodes, height))
    }

    fn target(&mut self, pointer: &'a str, depth: usize) -> Result<(usize, usize), Unlisted> {
        if let Some(known) = self.sizes.get(pointer) {
            return Ok(*known);
        }
        if self.open.contains(&pointer) || self.open.len() >= MAX_DEPTH {
            return Err(UnlistedReason::SchemaTooComplex.into());
        }
        let decoded = pointer.strip_prefix('#').unwrap_or_default();
        let target = self.root.pointer(decoded).ok_or(UnlistedReason::BadSchema)?;
        self.open.push(pointer);
        let size = self.of(target, depth)?;
        self.open.pop();
        self.sizes.insert(pointer, size);
        Ok(size)
    }
}

/// Refuses a value that is deep or has many nodes.
pub(crate) fn is_small(node: &Value, depth: usize, nodes: &mut usize) -> bool {
    *nodes = nodes.saturating_add(1);
    if depth > MAX_DEPTH || *nodes > MAX_NODES {
        return false;
    }
    let deeper = depth.saturating_add(1);
    match node {
        Value::Array(items) => items.iter().all(|item| is_small(item, deeper, nodes)),
        Value::Object(members) => members.values().all(|value| is_small(value, deeper, nodes)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => true,
    }
}
