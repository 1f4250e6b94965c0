//! The tools: their names, what they take, what they return, and what they do to the world.

use super::{fetch, find, quote, standing};
use rmcp::model::{JsonObject, Tool, ToolAnnotations};
use rmcp::schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use std::sync::Arc;

pub(super) const FIND: &str = "find";
pub(super) const QUOTE: &str = "quote";
pub(super) const FETCH: &str = "fetch";
pub(super) const BUDGET: &str = "budget";
pub(super) const CHANNELS: &str = "channels";
pub(super) const PAID: &str = "paid";

/// No arguments.
#[derive(Deserialize, JsonSchema, Debug)]
#[serde(deny_unknown_fields)]
#[schemars(crate = "rmcp::schemars")]
pub(super) struct Nothing {}

/// The tool that is there where there is a catalogue to look in.
pub(super) fn find() -> Tool {
    tool::<find::Arguments, find::Report>(
        FIND,
        "What can be bought?",
        "Looks for HTTP resources and tools that can be bought, in the catalogues that the owner has named. A catalogue is a hint: \
         ask `quote` what a call costs now.",
        ToolAnnotations::new().read_only(true).open_world(true),
    )
}

pub(super) fn all() -> Vec<Tool> {
    vec![
        tool::<quote::Arguments, quote::Report>(
            QUOTE,
            "What does it cost?",
            "Asks what a URL costs, without paying: the price, the ways to pay it, whether the owner's limits allow it, and \
             whether a deposit or a person's approval comes first. It does so by sending the request unpaid: a request that costs \
             nothing is carried out by that.",
            // A free request that is not a GET may well change something over there; it never costs anything.
            ToolAnnotations::new().read_only(false).destructive(false).open_world(true),
        ),
        tool::<fetch::Arguments, fetch::Report>(
            FETCH,
            "Fetch and pay",
            "Asks for a URL over HTTP and pays for the answer if that is asked for and the owner's limits allow it; what cannot be \
             had back is at most the price. Returns the answer and what was paid. A redirect is returned, not followed. Spends the \
             owner's money: set maxPrice to what you were quoted.",
            // A payment is not undone, and a second call pays a second time.
            ToolAnnotations::new().read_only(false).destructive(true).idempotent(false).open_world(true),
        ),
        tool::<Nothing, standing::Budget>(
            BUDGET,
            "What may still be spent?",
            "The owner's limits, what counts against them now, and what is left: in all, at each host, within the hour and the day.",
            ToolAnnotations::new().read_only(true).open_world(false),
        ),
        tool::<Nothing, standing::Channels>(
            CHANNELS,
            "Where is the money?",
            "The wallet's payment channels: the host that each pays, its deposit, what was spent of it, what is left, and its state. \
             What is left comes back to the owner when a channel is closed.",
            ToolAnnotations::new().read_only(true).open_world(false),
        ),
        tool::<standing::PaidArguments, standing::Payments>(
            PAID,
            "What was bought?",
            "The newest payments of this wallet: when, where, for what, and how much.",
            ToolAnnotations::new().read_only(true).open_world(false),
        ),
    ]
}

fn tool<I: JsonSchema + 'static, O: JsonSchema + 'static>(
    name: &'static str,
    title: &str,
    description: &'static str,
    annotations: ToolAnnotations,
) -> Tool {
    let mut tool = Tool::new(name, description, Arc::<JsonObject>::default())
        .with_title(title)
        .with_input_schema::<I>()
        .with_output_schema::<O>()
        .with_annotations(annotations);
    for schema in [Some(&mut tool.input_schema), tool.output_schema.as_mut()].into_iter().flatten() {
        Arc::make_mut(schema).values_mut().for_each(without_widths);
    }
    tool
}

/// Takes the widths of integers out, which are no formats of JSON Schema: validators of clients warn of them.
fn without_widths(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            let is_width = |format: &str| format.starts_with("uint") || format.starts_with("int");
            if members.get("format").and_then(Value::as_str).is_some_and(is_width) {
                members.remove("format");
            }
            members.values_mut().for_each(without_widths);
        }
        Value::Array(items) => items.iter_mut().for_each(without_widths),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_the_tools_when_listed_then_each_says_what_it_takes_returns_and_does() {
        for tool in all().into_iter().chain([find()]) {
            let (input, output) = (&tool.input_schema, tool.output_schema.as_ref().unwrap());
            assert_eq!((&input["type"], &output["type"]), (&"object".into(), &"object".into()), "{}", tool.name);
            assert_eq!(input["additionalProperties"], false, "{} takes anything", tool.name);
            let empty = JsonObject::new();
            let properties = input.get("properties").map_or(&empty, |properties| properties.as_object().unwrap());
            for (name, property) in properties {
                assert!(property.get("description").is_some(), "{}: {name} says nothing", tool.name);
            }
            let json = serde_json::to_string(&tool).unwrap();
            assert!(!json.contains("\"format\":\"uint"), "{json}");
            let annotations = tool.annotations.as_ref().unwrap();
            let sends = [QUOTE, FETCH].contains(&tool.name.as_ref());
            let goes_out = sends || tool.name == FIND;
            assert_eq!((annotations.read_only_hint, annotations.open_world_hint), (Some(!sends), Some(goes_out)));
            assert!(annotations.is_destructive() == (tool.name == FETCH) || !sends, "{}", tool.name);
        }
    }
}
